"""Shared: data sets in MNIST's format, no MNIST of this machine's own, and modules as users write them."""

import importlib
import socket
import sys
import textwrap
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from sample_sets import Arrays, OwnData, sample_set

from pipeline import data
from pipeline.data import mnist


@pytest.fixture
def small() -> Arrays:
    """Return a few images in MNIST's format."""
    return sample_set(6, 4)


@pytest.fixture(scope="module")
def like_mnist() -> Arrays:
    """Return as many random images as the validation split takes, and a few more. Read only."""
    return sample_set(5_010, 20)


@pytest.fixture(autouse=True)
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hide this machine's MNIST, and let a download fail at once; return the Keras cache, which is not there yet."""
    monkeypatch.delenv(data.DIR_VARIABLE, raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setattr(mnist, "KERAS_URL", f"http://127.0.0.1:{unused.getsockname()[1]}/mnist.npz")
    return tmp_path / "keras" / "datasets" / "mnist.npz"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnData]:
    """Return a function that writes a module and returns the import path of its function `load`."""
    monkeypatch.syspath_prepend(tmp_path)
    names = (f"own_data_{number}" for number in count())
    written: list[str] = []

    def write_module(body: str) -> str:
        written.append(next(names))
        (tmp_path / f"{written[-1]}.py").write_text(f"import numpy as np\n{textwrap.dedent(body)}")
        importlib.invalidate_caches()  # the folder's time need not tell that a file is new
        return f"{written[-1]}:load"

    yield write_module
    for name in written:
        sys.modules.pop(name, None)

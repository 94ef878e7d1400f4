"""A backend for processes of their own, whose "model" is a line that says where it hangs, exits, or that it works."""

import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import made_cells
import numpy as np

from pipeline.backends import Bound, LoadOptions, Variant
from pipeline.errors import BackendUnavailable
from pipeline.measuring.cells import Timed
from pipeline.tensors import Feed, Outputs, TensorSpec

LEAVES_A_FILE = -1

VARIANTS = {"cpu": Variant("onnx", "cpu")}


class Session:
    """Answers what it is asked, or hangs from the call on that its file names."""

    device = "cpu"
    settings: dict[str, object] = {}  # noqa: RUF012
    inputs = outputs = (TensorSpec("x", (None, 2), "float32"),)

    def __init__(self, hangs_at: int) -> None:
        self._hangs_at, self._calls = hangs_at, 0

    def run(self, feed: Feed) -> Outputs:
        self._calls += 1
        if self._calls == self._hangs_at:
            time.sleep(600)
        return dict(feed)

    def bind(self, feed: Feed) -> Bound:
        raise BackendUnavailable("takes host arrays")


def probe(variant: str) -> None:
    pass


@contextlib.contextmanager
def load(model: Path, options: LoadOptions) -> Iterator[Session]:
    at = int(model.read_text(encoding="utf-8"))
    if at == LEAVES_A_FILE:
        tempfile.NamedTemporaryFile(prefix="left", delete=False).close()
    yield Session(at)


def timed(folder: Path, hangs_at: int = 0, name: str = "made cpu") -> Timed:
    """Return a runner of this backend that hangs at a call; the first is in loading, 0 is none."""
    path = folder / f"{hangs_at}.model"
    path.write_text(str(hangs_at), encoding="utf-8")
    return Timed(made_cells.runner(name, path=path, module="made_backend"))


def samples(folder: Path) -> Path:
    """Write samples for it."""
    np.savez(folder / "samples.npz", x=np.ones((4, 2), np.float32))
    return folder / "samples.npz"

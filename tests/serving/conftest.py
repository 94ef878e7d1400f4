"""One server for all tests that leave it as it is, and what its answers must be."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers import Server, serving

from pipeline.deployment import bundle as bundles
from pipeline.tensors import Array


@pytest.fixture(scope="session")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of the main job's bundle. No test may end it, or load or unload its first model."""
    with serving(bundle, tmp_path_factory.mktemp("server") / "log") as found:
        yield found


@pytest.fixture(scope="session")
def images() -> Array:
    """Five images [5, 28, 28, 1]."""
    return np.random.default_rng(0).integers(0, 250, (5, 28, 28, 1), np.uint8)


@pytest.fixture(scope="session")
def expected(bundle: Path, images: Array) -> Array:
    """What the bundle's own session says of the images, without any server."""
    found = bundles.opened(bundle)
    with found.runner(found.record.runners[0]).open() as session:
        return session.run({"image": images})["probabilities"].copy()

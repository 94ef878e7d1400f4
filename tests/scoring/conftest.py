"""Images, and what the bundle's recommended runner says of them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.deployment import bundle as bundles
from pipeline.tensors import Array


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    """Forty images, [40, 28, 28, 1]."""
    return np.random.default_rng(3).integers(0, 256, (40, 28, 28, 1), np.uint8)


@pytest.fixture(scope="session")
def probabilities(bundle: Path, images: NDArray[np.uint8]) -> Array:
    """What the model returns for them, [40, 10]."""
    found = bundles.opened(bundle)
    with found.runner(found.record.runners[0]).open() as session:
        return session.run({"image": images})["probabilities"].copy()

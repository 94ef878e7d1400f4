"""What the tests of the store share."""

from pathlib import Path

import pytest
from made_store import FILES, publish

from pipeline.artifacts.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a store in which `train` is published."""
    store = Store(tmp_path / "artifacts")
    publish(store, "train", FILES)
    return store

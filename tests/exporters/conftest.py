"""What other tests' models have registered with Keras in this process is hidden: the models here need none of it."""

from pathlib import Path

import pytest

HERE = {path.stem for path in Path(__file__).parent.glob("test_*.py")}


@pytest.fixture(autouse=True)
def only_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide it: PyTorch's process imports the module of each, which it does not find."""
    import keras

    registered = keras.saving.get_custom_objects()
    others = {one.__module__ for one in registered.values() if not one.__module__.startswith("keras.")} - HERE
    for name in [name for name, one in registered.items() if one.__module__ in others]:
        monkeypatch.delitem(registered, name)

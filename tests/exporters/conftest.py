"""The models here register no layers; those that other tests' modules have registered in this process are hidden."""

import pytest


@pytest.fixture(autouse=True)
def only_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide them: PyTorch's process imports the module of each, which it does not find."""
    import keras

    registered = keras.saving.get_custom_objects()
    for name in [name for name, one in registered.items() if one.__module__ == "own_models"]:
        monkeypatch.delitem(registered, name)

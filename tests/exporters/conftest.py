"""What other tests' models have registered with Keras in this process is hidden: the models here need none of it."""

import pytest


@pytest.fixture(autouse=True)
def only_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide it: PyTorch's process imports the module of each, which it does not find."""
    import keras

    registered = keras.saving.get_custom_objects()
    own = ("keras.", "test_")
    for name in [name for name, one in registered.items() if not one.__module__.startswith(own)]:
        monkeypatch.delitem(registered, name)

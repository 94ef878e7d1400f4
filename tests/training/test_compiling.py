"""The loss of a model that is not compiled goes with the task that its outputs are judged by."""

import numpy as np
import pytest
from made_outputs import kinds

from pipeline import environment
from pipeline.errors import DataError
from pipeline.tasks import Seen

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline.training import compiling

KINDS = {name: kind for name, kind in kinds().items() if kind.targets is not None and "numbers" not in kind.form}


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_takes_the_outputs_for_what_they_are(name: str) -> None:
    kind = KINDS[name]
    assert kind.targets is not None
    loss, measure = compiling._loss(Seen("out", kind.outputs, kind.targets))
    assert (measure == "mean_absolute_error") == (kind.task == "regression")
    if kind.task != "regression":
        assert isinstance(loss, keras.losses.Loss)
        assert loss.get_config()["from_logits"] == ("logit" in kind.form)
    outputs = kind.outputs.reshape(len(kind.outputs), -1) if "fully" in name else kind.outputs
    assert np.isfinite(np.mean(np.asarray(keras.losses.get(loss)(kind.targets, outputs))))


def test_what_no_loss_goes_with_is_refused() -> None:
    strange = Seen("boxes", np.zeros((6, 10, 4), np.float32), np.zeros((6, 3, 4), np.float32))
    with pytest.raises(DataError, match="boxes") as caught:
        compiling._loss(strange)
    assert "Compile the model" in caught.value.hint

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
def test_the_loss_is_a_number_and_falls_where_the_output_comes_nearer(name: str) -> None:
    kind = KINDS[name]
    assert kind.targets is not None
    loss, measure = compiling._loss(Seen("out", kind.outputs, kind.targets))
    assert (measure == "mean_absolute_error") == (kind.task == "regression")
    compute = keras.losses.get(loss)
    outputs = kind.outputs.reshape(len(kind.outputs), -1) if "fully" in name else kind.outputs
    before = np.mean(np.asarray(compute(kind.targets, outputs)))
    assert np.isfinite(before)
    if kind.form in ("probabilities", "several probabilities", "one probability", "scores"):
        assert "logit" not in str(loss)
        assert not getattr(loss, "from_logits", False) or kind.form == "scores"


def test_what_no_loss_goes_with_is_refused() -> None:
    strange = Seen("boxes", np.zeros((6, 10, 4), np.float32), np.zeros((6, 3, 4), np.float32))
    with pytest.raises(DataError, match="boxes") as caught:
        compiling._loss(strange)
    assert "Compile the model" in caught.value.hint

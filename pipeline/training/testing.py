"""How good the published original is on the test split."""

import math
from pathlib import Path

import numpy as np

from pipeline import backends, hosts
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.history import TestMetric
from pipeline.artifacts.model import ModelRecord
from pipeline.backends import LoadOptions
from pipeline.data import Split
from pipeline.errors import ArtifactError, ConfigError, DataError, InputError
from pipeline.judging.choosing import Choosing
from pipeline.judging.yardstick import Yardstick
from pipeline.models import calling, sources
from pipeline.runners import inference
from pipeline.tensors import Outputs
from pipeline.workflow.context import Context

ORIGINAL = {
    "function": ("tensorflow", "call"),
    "keras": ("tensorflow", "call"),
    "saved_model": ("tensorflow", "saved_model"),
    "onnx": ("onnxruntime", "cpu"),
}
"""The backend and the variant that run each kind of original exactly."""


def test(
    context: Context, path: Path, record: ModelRecord, split: Split, dataset: DatasetRecord
) -> tuple[TestMetric, ...]:
    """Return how good the published file is on the test split, by each output that has labels, and say so.

    Raises:
        ArtifactError: the file cannot be loaded: only this process could have used the model.
        DataError: the model cannot take the samples, or returns NaN.
    """
    found = _outputs(path, record, split, trust=context.config.model.trust)
    sources.refuse_nan(found, "on the test split")
    try:
        yardsticks = Choosing(dataset, context.config.validate_.task).yardsticks(found, split.targets)
    except ConfigError as error:  # what is trained is right all the same; validation stops at it
        context.warn(f"how good the model is cannot be told: {error.message}")
        return ()
    tested = tuple(_metric(one, found) for one in yardsticks if one.labels)
    for one in tested:
        of = f" of {one.output}" if len(found) > 1 and one.output else ""
        value = "no number" if one.value is None else f"{one.value:.4f}"
        context.say(f"test {one.metric}{of} {value} on {len(split):,} samples of {dataset.name}")
    if not tested:
        context.say("there are no labels: how good the model is cannot be told, only whether it stays the same")
    return tested


def _outputs(path: Path, record: ModelRecord, split: Split, *, trust: bool) -> Outputs:
    backend, variant = ORIGINAL[record.kind]
    if hosts.current():
        return _by_keras(path, record, split)
    try:
        with backends.get(backend).load(path, LoadOptions(variant, exact=True, trust=trust)) as session:
            return inference.infer(session, split, 256)
    except ArtifactError as error:
        raise ArtifactError(
            f"the model of model.source {record.origin}, once saved, cannot be loaded again: {error.message}",
            error.hint,
        ) from error
    except InputError as error:
        raise DataError(
            f"the model of model.source {record.origin} cannot run on the test split: {error.message}",
            error.hint or "Give data of the sizes, and with numbers in the range, that the model was made for.",
        ) from error


def _by_keras(path: Path, record: ModelRecord, split: Split) -> Outputs:
    """Run the model by Keras itself, which runs on JAX here, where our backend for it does not."""
    model = sources.read(path)
    how = calling.caller(model)
    parts = [
        calling.named((spec.name for spec in how.outputs), model.predict_on_batch(how.arguments(split.feed(which))))
        for which in split.slices(256)
    ]
    return {spec.name: np.concatenate([part[spec.name] for part in parts]) for spec in record.signature.outputs}


def _metric(yardstick: Yardstick, found: Outputs) -> TestMetric:
    known, value = yardstick.record, yardstick.value(found)
    return TestMetric(
        output=known.output,
        task=known.task,
        metric=known.metric,
        value=value if math.isfinite(value) else None,
    )

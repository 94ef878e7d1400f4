"""Stage 2: export the trained model by every exporter, under its own names of inputs and outputs."""

from pathlib import Path

import numpy as np

from pipeline import backends, data, exporters
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.backends import LoadOptions
from pipeline.errors import BuildError
from pipeline.models import calling, sources
from pipeline.tensors import Feed, Outputs, Tolerance
from pipeline.workflow.context import Context, Outcome

BATCHES = (8, 3)
"""Real samples that all formats must agree on with Keras here; the validate stage compares the whole test split."""

EQUAL = Tolerance(rtol=1e-3, atol=1e-4)

CHECKED_BY = {
    "saved_model": ("tensorflow", LoadOptions("saved_model", exact=True)),
    "onnx": ("onnxruntime", LoadOptions("cpu", exact=True)),
}
"""The backend that runs each kind of artifact here, for the comparison with Keras."""


def run(context: Context) -> Outcome:
    """Publish the file of each exporter: `saved_model/` and `model.onnx`."""
    published, config = context.published, context.config
    record = published.read(ModelRecord)
    sources.register(config.model.imports, config.model.source)
    trained = sources.read(published.path(record.file))
    model = sources.in_fp32(trained)
    if model is not trained:
        context.say(f"trained in {record.policy}: exported in FP32, and validate measures what that changes")
    exported = [exporters.get(name) for name in exporters.NAMES]
    for exporter in exported:
        context.say(exporter.write(model, context.output / exporter.FILE, config.export.opset))

    test = data.reload(published.read(DatasetRecord), record.signature, config.data).test
    how, infer = calling.caller(model), calling.serving(model).function
    for size in BATCHES:
        feed = test.feed(np.resize(np.arange(len(test)), size))
        # Op by op in real FP32: a compiled function may compute in another order.
        expected = {name: one.numpy() for name, one in infer(*(feed[spec.name] for spec in how.inputs)).items()}
        for exporter in exported:
            _compare(context.output / exporter.FILE, *CHECKED_BY[exporter.ARTIFACT], feed, expected)
    context.say(f"all agree with Keras on batches of {' and '.join(map(str, BATCHES))} test samples")
    return Outcome()


def _compare(path: Path, backend: str, options: LoadOptions, feed: Feed, expected: Outputs) -> None:
    with backends.get(backend).load(path, options) as session:
        found = session.run(feed)
    for name, want in expected.items():
        if not EQUAL.holds(found[name], want):
            raise BuildError(
                f"{path.name} in {backend} differs from Keras by up to {np.abs(found[name] - want).max():.3g} in "
                f"{name}",
                "The conversion is wrong for this model; please report it with the model.",
            )

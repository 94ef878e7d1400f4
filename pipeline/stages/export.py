"""Stage 2: export the trained model by every exporter, under the names `image` and `probabilities`."""

from pathlib import Path

import numpy as np

from pipeline import backends, exporters, models
from pipeline.backends import LoadOptions
from pipeline.errors import BuildError
from pipeline.workflow.context import Context, Outcome

SAMPLES = 8
"""Random images that all formats must agree on with Keras here; the validate stage compares the whole test set."""

CHECKED_BY = {
    "saved_model": ("tensorflow", LoadOptions("saved_model", exact=True)),
    "onnx": ("onnxruntime", LoadOptions("cpu", exact=True)),
}
"""The backend that runs each kind of artifact here, for the comparison with Keras."""


def run(context: Context) -> Outcome:
    """Publish the file of each exporter: `saved_model/` and `model.onnx`."""
    model = models.load(context.published.path("train/model.keras"), context.config.model.source)
    exported = [exporters.get(name) for name in exporters.NAMES]
    for exporter in exported:
        context.say(exporter.write(model, context.output / exporter.FILE, context.config.export.opset))

    image_shape = tuple(model.inputs[0].shape[1:])  # [height, width, channels]
    images = np.random.default_rng(0).integers(0, 256, (SAMPLES, *image_shape), dtype=np.uint8)
    keras = context.published.path("train/model.keras")
    # In real FP32: on a GPU TensorFlow's own default is TF32, which is further away than a right export may be.
    with backends.get("tensorflow").load(keras, LoadOptions("call", exact=True)) as original:
        expected = original.run({models.INPUT: images})[models.OUTPUT].copy()
    for exporter in exported:
        _compare(context.output / exporter.FILE, *CHECKED_BY[exporter.ARTIFACT], images, expected)
    context.say(f"all agree with Keras on {SAMPLES} random images")
    return Outcome()


def _compare(path: Path, backend: str, options: LoadOptions, images: np.ndarray, expected: np.ndarray) -> None:
    with backends.get(backend).load(path, options) as session:
        found = session.run({models.INPUT: images})[models.OUTPUT]
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-4):
        raise BuildError(
            f"{path.name} in {backend} differs from Keras by up to {np.abs(found - expected).max():.3g}",
            "The conversion is wrong for this model; please report it with the model.",
        )

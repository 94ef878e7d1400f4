"""`python -m benchmarks.remainder`: what a remainder in 16 bits costs INT8 and FP8 graphs in accuracy.

Random weights, batch-norm statistics from the images: 64 of coarse patches, by which the graphs are calibrated and
judged. The error is the mean squared difference from FP32's outputs over their mean square.
"""

import sys
from typing import Annotated

import numpy as np
import typer
from onnx import ModelProto

from pipeline import environment, precisions
from pipeline.data import Split
from pipeline.graphs import arithmetic
from pipeline.precisions import Remainder
from pipeline.quantization import calibration
from pipeline.runners import inference
from pipeline.tensors import Array

NETWORKS = ("MobileNetV2", "ResNet50", "EfficientNetV2B0")
REMAINDERS: tuple[Remainder, ...] = ("fp32", "fp16", "bf16")
SIDE, IMAGES = 96, 64


def main(networks: Annotated[str, typer.Option(help="Names in keras.applications.")] = ",".join(NETWORKS)) -> None:
    """Print the table."""
    environment.prepare_tensorflow()
    print("| network | precision | rest in | error | over FP32's rest | products in | not quantised |")
    print("|---|---|---|---|---|---|---|")
    for name in networks.split(","):
        model, images = _network(name)
        split = Split({"image": images})
        ranges = calibration.ranges(calibration.observe(model, split), "minmax")
        reference = inference.outputs(model, precisions.get("fp32"), split, IMAGES)
        for kind in ("int8", "fp8"):
            widest = 0.0
            for remainder in REMAINDERS:
                precision = precisions.get(kind).configured(remainder, "tensorrt")
                typed = precision.apply(model, amax=ranges)
                found = inference.outputs(typed, precision, split, IMAGES)
                error = calibration.relative_error(reference, found)
                widest = widest or error
                kinds = arithmetic.summary(typed).compute_nodes
                products = ", ".join(f"{count} {one}" for one, count in kinds.items())
                left = len(precision.left_out(model))
                print(
                    f"| {name} | {kind} | {remainder} | {error:.4g} | {error / widest:.2f} | {products} | {left} |",
                    flush=True,
                )


def _network(name: str) -> tuple[ModelProto, Array]:
    import keras

    from pipeline.exporters import tf2onnx

    keras.utils.set_random_seed(0)
    patches = np.random.default_rng(0).integers(0, 256, (IMAGES, 4, 4, 3), np.uint8)
    images = np.kron(patches, np.ones((1, SIDE // 4, SIDE // 4, 1), np.uint8))
    entry = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="image")
    body = getattr(keras.applications, name)(weights=None, input_shape=(SIDE, SIDE, 3), classes=10)
    model = keras.Model(entry, body(keras.layers.Rescaling(1 / 127.5, offset=-1)(entry)))
    for layer in body.layers:  # as they are initialised, signals fade layer by layer
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)
    print(f"{name}: {model.count_params():,} parameters", file=sys.stderr)
    return tf2onnx.convert(model, 18), images


if __name__ == "__main__":
    typer.run(main)

"""The networks that are timed: random weights from a fixed seed, raw uint8 pixels in, nothing downloaded."""

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx

from pipeline import digests, environment
from pipeline.tensors import Array

if TYPE_CHECKING:
    import keras

SEED = 0


class Network(NamedTuple):
    """One network, by its name in keras.applications or `article_cnn`, and the batch sizes it is timed with."""

    name: str
    image_shape: tuple[int, int, int]
    classes: int
    batch_sizes: tuple[int, ...]


NETWORKS = (
    Network("article_cnn", (28, 28, 1), 10, (1, 8, 64, 1024)),
    Network("MobileNetV2", (224, 224, 3), 1000, (1, 8, 32)),
    Network("ResNet50", (224, 224, 3), 1000, (1, 8, 32)),
)


def images(network: Network, count: int) -> Array:
    """Return images of 7×7 random tiles, uint8 [count, height, width, channels], always the same ones.

    Tiles, since noise of single pixels looks alike to a network that averages over them: all its outputs would be one.
    """
    height, width, channels = network.image_shape
    tiles = np.random.default_rng(SEED).integers(0, 256, (count, 7, 7, channels), dtype=np.uint8)
    return tiles.repeat(height // 7, axis=1).repeat(width // 7, axis=2)


def build(network: Network) -> "keras.Model":
    """Build the Keras model.

    Its batch normalisations get their statistics from eight images: as they are initialised, signals fade layer by
    layer until every image has the same output, and comparing outputs would prove nothing.
    """
    import keras

    from pipeline import models

    keras.utils.set_random_seed(SEED)
    if network.name == "article_cnn":
        return models.article_cnn(network.image_shape, network.classes)
    image = keras.Input(network.image_shape, dtype="uint8", name="image")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(image)
    application = getattr(keras.applications, network.name)
    # Those that scale their inputs themselves would scale them twice.
    takes = inspect.signature(application).parameters
    scales = {"include_preprocessing": False} if "include_preprocessing" in takes else {}
    outputs = application(weights=None, input_tensor=scaled, classes=network.classes, **scales).output
    model = keras.Model(image, outputs, name=network.name.lower())
    normalisations = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalisations]
    for layer in normalisations:
        layer.momentum = 0.0  # takes the statistics of the batch as they are
    model(images(network, 8), training=True)
    for layer, momentum in zip(normalisations, momenta, strict=True):
        layer.momentum = momentum
    return model


class Written(NamedTuple):
    """What there is to know of a network's files."""

    parameters: int
    onnx_bytes: int
    onnx_sha256: str
    keras_sha256: str


def write(network: Network, folder: Path) -> Written:
    """Write `model.keras` and, exported as the pipeline exports, `model.onnx`; return what there is to know of them."""
    environment.prepare_tensorflow()
    with environment.native_log_hidden():
        from pipeline.exporters import tf2onnx

    folder.mkdir(parents=True, exist_ok=True)
    with environment.native_log_hidden():
        model = build(network)
        model.save(folder / "model.keras")
        onnx.save(tf2onnx.convert(model, 18), folder / "model.onnx")
    return Written(
        parameters=model.count_params(),
        onnx_bytes=(folder / "model.onnx").stat().st_size,
        onnx_sha256=digests.of_file(folder / "model.onnx"),
        keras_sha256=digests.of_file(folder / "model.keras"),
    )

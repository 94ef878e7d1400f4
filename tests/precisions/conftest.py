"""Networks to rewrite, and the real TensorRT for RTX builder. Everything here is made once a session."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import Array, Article
from onnx import ModelProto

from pipeline import config, data, graphs, precisions
from pipeline.backends.tensorrt import build
from pipeline.errors import BackendUnavailable
from pipeline.quantization import calibration


@pytest.fixture(scope="session")
def article() -> Article:
    """The article's CNN, trained on MNIST where it is at hand, else on scikit-learn's digits; calibrated by min-max."""
    import keras

    from pipeline import models
    from pipeline.exporters import tf2onnx
    from pipeline.models import calling

    loaded = data.load(config.Data(name="mnist" if os.environ.get(data.DIR_VARIABLE) else "digits"))
    keras.utils.set_random_seed(0)
    network = models.article_cnn((28, 28, 1), 10)
    network.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", steps_per_execution=10)
    batch, epochs = (256, 2) if loaded.name == "mnist" else (64, 12)
    dataset = data.bind(loaded, calling.signature(calling.caller(network)))
    train = dataset.train
    network.fit(train.feed()["image"], train.labels()["probabilities"], batch_size=batch, epochs=epochs, verbose=0)
    model = tf2onnx.convert(network, 18)
    samples = calibration.draw(dataset, 512, seed=0)
    seen = calibration.observe(model, samples.split)
    return Article(model, dataset, calibration.ranges(seen, "minmax"))


@pytest.fixture(scope="session", params=["MobileNetV2", "ResNet50"])
def network(request: pytest.FixtureRequest) -> tuple[ModelProto, Array, dict[str, float]]:
    """A keras.applications network with random weights: its graph, images [8, 96, 96, 3], its activations' ranges."""
    import keras

    from pipeline.exporters import tf2onnx

    keras.utils.set_random_seed(0)
    # Coarse patches: noise by the pixel looks all alike after some layers, and what differs would be rounding.
    patches = np.random.default_rng(0).integers(0, 256, (8, 4, 4, 3), np.uint8)
    images = np.kron(patches, np.ones((1, 24, 24, 1), np.uint8))
    entry = keras.Input((96, 96, 3), dtype="uint8", name="image")
    body = getattr(keras.applications, request.param)(weights=None, input_shape=(96, 96, 3), classes=10)
    model = keras.Model(entry, body(keras.layers.Rescaling(1 / 127.5, offset=-1)(entry)))
    # With untrained statistics the signal dies out on the way (MobileNetV2 answers 0.1 for every class, in every
    # precision, and would prove nothing): take them from the images.
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(images, training=True)
    graph = tf2onnx.convert(model, 18)
    seen = calibration.observe(graph, data.Split({"image": images}))
    return graph, images, calibration.ranges(seen, "minmax")


@pytest.fixture
def build_rtx(tmp_path: Path) -> Callable[[ModelProto, str], bytes]:
    """A function that builds an engine with the real TensorRT for RTX, or raises BuildError with its words.

    It is for batches of 1 to 8, and sizes of 6 to 20 where another axis is dynamic.
    """
    try:
        build.probe_build("tensorrt-rtx")
    except BackendUnavailable as error:
        pytest.skip(error.message)

    def built(model: ModelProto, name: str) -> bytes:
        path, precision = tmp_path / "model.onnx", precisions.get(name)
        onnx.save(model, path)
        ranges = {
            spec.name: {axis: (6, 9, 20) for axis, size in enumerate(spec.shape) if axis and size is None}
            for spec in graphs.inputs(model)
        }
        options = build.BuildOptions("tensorrt-rtx", precision.allow_tf32, ((1, 4, 8),), ranges, precision.targets)
        return build.build(path, options).engine

    return built

"""A conversion that is wrong is told by the first Keras layer that differs."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pipeline import conversion, environment
from pipeline.graphs import keras_layers, simplify

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras
    import tensorflow as tf

    from pipeline import models
    from pipeline.exporters import tf2onnx

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

k = keras.layers


@keras.saving.register_keras_serializable(package="tests")
class Middle(k.Layer):
    """A layer with an operation that is easily converted wrongly, without a word."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return keras.ops.median(inputs, axis=(1, 2), keepdims=True) + inputs


def network(*middle: Callable[[keras.KerasTensor], keras.KerasTensor]) -> keras.Model:
    """Return a small network with a normalisation that is folded, a branch, a nested model, and `middle` in it."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), dtype="uint8", name="image")
    x = k.Rescaling(1 / 255, name="to_one")(image)
    x = k.Conv2D(4, 3, padding="same", name="first")(x)
    normalised = k.BatchNormalization(name="normalised")
    x = k.ReLU(name="positive")(normalised(x))
    normalised.set_weights([value + 0.3 for value in normalised.get_weights()])
    for layer in middle:
        x = layer(x)
    block = keras.Sequential(
        [keras.Input((8, 8, 4)), k.Conv2D(4, 3, padding="same", groups=2, name="inner")], name="block"
    )
    x = k.Add(name="sum")([block(x), k.DepthwiseConv2D(3, padding="same", name="depthwise")(x)])
    x = k.Dropout(0.5, name="dropped")(x)
    x = k.Dense(6, activation="gelu", name="dense")(k.Flatten(name="flat")(x))
    return keras.Model(image, k.Dense(5, activation="softmax", name="last")(x))


def feed() -> dict[str, np.ndarray]:
    return {models.INPUT: np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)}


@pytest.fixture(scope="module")
def sound() -> tuple[keras.Model, onnx.ModelProto]:
    """A network and its graph. Read only."""
    model = network()
    return model, tf2onnx.convert(model, 18)


def test_a_right_conversion_differs_nowhere(sound: tuple[keras.Model, onnx.ModelProto]) -> None:
    assert conversion.first_difference(*sound, feed()) is None


@pytest.mark.parametrize("layer", ["first", "block/inner", "depthwise", "dense", "last"])
def test_a_damaged_weight_is_told_by_its_layer(sound: tuple[keras.Model, onnx.ModelProto], layer: str) -> None:
    model, graph = sound
    damaged = onnx.ModelProto()
    damaged.CopyFrom(graph)
    nodes = keras_layers.resolve(graph, [layer], keras_layers.names(model))
    read = {name for node in graph.graph.node if node.name in nodes for name in node.input}
    (weight,) = (
        one for one in damaged.graph.initializer if one.name in read and len(one.dims) > 1 and np.prod(one.dims) > 9
    )
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.5, weight.name))
    found = conversion.first_difference(model, damaged, feed())
    assert found is not None
    assert found.layer == layer
    assert found.max_abs > 1e-3


def median(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return the median of each channel beside the image: an operation of the model, of no layer."""
    return x + keras.ops.median(x, axis=(1, 2), keepdims=True)


@pytest.mark.parametrize(("middle", "name"), [(Middle(name="middle"), "middle"), (median, "median")])
def test_what_is_converted_wrongly_is_named(
    middle: Callable[..., keras.KerasTensor], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simplify, "_whole_numbers_only", nullcontext)  # without it onnxslim gets a median wrong
    model = network(middle)
    found = conversion.first_difference(model, tf2onnx.convert(model, 18), feed())
    assert found is not None
    assert found.layer.partition("_")[0] == name, "Keras numbers operations of one name"

"""Small Keras networks of the kinds that a convolutional classifier is not, as tf2onnx exports them.

Control flow, several inputs and outputs, integer inputs, products of two activations, dynamic sizes, no products.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tf2onnx
from keras import layers
from numpy.typing import NDArray
from onnx import ModelProto

from pipeline.graphs import simplify

Array = NDArray[Any]
Feed = dict[str, Array]


class Network(NamedTuple):
    """A network's exported graph, and a feed of three samples."""

    graph: ModelProto
    feed: Feed


def masked_lstm() -> keras.Model:
    """Token ids [batch, time]; padding is masked, so that tf2onnx leaves a Loop."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    embedded = layers.Embedding(50, 8, mask_zero=True)(tokens)
    return keras.Model(tokens, layers.Dense(3)(layers.LSTM(6)(embedded)))


def lstm() -> keras.Model:
    """An LSTM operator and no other product."""
    signal = keras.Input((7, 4), name="signal")
    return keras.Model(signal, layers.LSTM(6)(signal))


def gru() -> keras.Model:
    """A GRU; tf2onnx leaves an operator."""
    signal = keras.Input((7, 4), name="signal")
    return keras.Model(signal, layers.Dense(3)(layers.GRU(6, return_sequences=True)(signal)))


def bidirectional() -> keras.Model:
    """Both directions, over a dynamic time."""
    signal = keras.Input((None, 4), name="signal")
    return keras.Model(signal, layers.Dense(3)(layers.Bidirectional(layers.LSTM(5))(signal)))


def attention() -> keras.Model:
    """A transformer's block: products of two activations, EinsumDense, LayerNormalization."""
    words = keras.Input((6, 8), name="words")
    attended = layers.MultiHeadAttention(2, 4)(words, words)
    normalised = layers.LayerNormalization()(layers.Add()([words, attended]))
    mixed = layers.Dense(8)(layers.Dense(16, activation="relu")(normalised))
    return keras.Model(words, layers.GlobalAveragePooling1D()(layers.Add()([normalised, mixed])))


def embedding() -> keras.Model:
    """Token ids [batch, time] of a dynamic time, embedded and averaged."""
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    return keras.Model(tokens, layers.Dense(3)(layers.GlobalAveragePooling1D()(layers.Embedding(50, 8)(tokens))))


def two_inputs_two_outputs() -> keras.Model:
    """An image and a row of numbers; a class and a number."""
    image = keras.Input((8, 8, 1), dtype="uint8", name="image")
    row = keras.Input((5,), name="row")
    seen = layers.Flatten()(layers.Conv2D(4, 3)(layers.Rescaling(1 / 255)(image)))
    both = layers.Concatenate()([seen, layers.Dense(6, activation="relu")(row)])
    return keras.Model([image, row], [layers.Dense(3, activation="softmax")(both), layers.Dense(1)(both)])


def unet() -> keras.Model:
    """Down and up again, with a connection across."""
    image = keras.Input((16, 16, 2), name="image")
    wide = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    deep = layers.Conv2D(6, 3, padding="same", activation="relu")(layers.MaxPooling2D()(wide))
    up = layers.Conv2DTranspose(4, 2, strides=2)(deep)
    return keras.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(layers.Concatenate()([wide, up])))


def series() -> keras.Model:
    """Conv1D over a dynamic length, depthwise too."""
    signal = keras.Input((None, 3), name="signal")
    convolved = layers.SeparableConv1D(6, 3)(layers.Conv1D(4, 3, activation="relu")(signal))
    return keras.Model(signal, layers.Dense(2)(layers.GlobalMaxPooling1D()(convolved)))


def any_size() -> keras.Model:
    """Conv2D over a dynamic height and width."""
    image = keras.Input((None, None, 3), name="image")
    convolved = layers.DepthwiseConv2D(3)(layers.Conv2D(4, 3, strides=2, activation="relu")(image))
    return keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(convolved)))


def time_distributed() -> keras.Model:
    """A convolution for each frame."""
    video = keras.Input((4, 8, 8, 1), name="video")
    frames = layers.TimeDistributed(layers.Conv2D(3, 3, activation="relu"))(video)
    return keras.Model(video, layers.Dense(2)(layers.TimeDistributed(layers.Flatten())(frames)))


class Leaky(layers.Layer):
    """A recurrent cell of our own: tf2onnx knows no operator for it."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.state_size = self.output_size = units
        self.mix = layers.Dense(units)

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights, for inputs of this shape."""
        self.mix.build(shape)

    def call(self, inputs: Any, states: Any) -> Any:
        """Return what the cell says, and its state."""
        state = 0.5 * states[0] + keras.ops.tanh(self.mix(inputs))
        return state, [state]


def custom_cell() -> keras.Model:
    """A Loop with a product in its body, whose weights nothing else reads."""
    signal = keras.Input((5, 4), name="signal")
    return keras.Model(signal, layers.Dense(2)(layers.RNN(Leaky(3))(signal)))


def elementwise() -> keras.Model:
    """No product at all."""
    row = keras.Input((5,), name="row")
    return keras.Model(row, keras.ops.tanh(row) * 0.5 + keras.ops.sigmoid(row))


NETWORKS: dict[str, tuple[Callable[[], keras.Model], dict[str, tuple[int, ...]]]] = {
    "masked_lstm": (masked_lstm, {"tokens": (9,)}),
    "lstm": (lstm, {"signal": (7, 4)}),
    "gru": (gru, {"signal": (7, 4)}),
    "bidirectional": (bidirectional, {"signal": (9, 4)}),
    "attention": (attention, {"words": (6, 8)}),
    "embedding": (embedding, {"tokens": (9,)}),
    "two_inputs_two_outputs": (two_inputs_two_outputs, {"image": (8, 8, 1), "row": (5,)}),
    "unet": (unet, {"image": (16, 16, 2)}),
    "series": (series, {"signal": (11, 3)}),
    "any_size": (any_size, {"image": (12, 14, 3)}),
    "time_distributed": (time_distributed, {"video": (4, 8, 8, 1)}),
    "custom_cell": (custom_cell, {"signal": (5, 4)}),
    "elementwise": (elementwise, {"row": (5,)}),
}
"""By name: what builds it, and the shape of one sample of each input."""


def exported(name: str) -> Network:
    """Return a network of `NETWORKS`, with random weights, exported by tf2onnx and simplified."""
    keras.utils.set_random_seed(0)
    build, shapes = NETWORKS[name]
    model = build()
    signature = [tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name) for tensor in model.inputs]

    def serving(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        results = model(list(inputs) if len(inputs) > 1 else inputs[0], training=False)
        return {f"output_{i}": result for i, result in enumerate(results if isinstance(results, list) else [results])}

    function = tf.function(serving, input_signature=signature)
    graph, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=18)
    random = np.random.default_rng(0)
    feed: Feed = {}
    for tensor in model.inputs:
        shape = (3, *shapes[tensor.name])
        if tensor.dtype == "float32":
            feed[tensor.name] = random.normal(size=shape).astype(np.float32)
        else:
            feed[tensor.name] = random.integers(0, 50, shape).astype(tensor.dtype)
    return Network(simplify.simplify(graph), feed)

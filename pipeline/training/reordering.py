"""While a model trains: a convolution's bias and activation after the max-pooling that follows it, not before.

It is the same function to the bit: what is added is the same all over a channel, and a rising activation keeps the
order of what it is given, so that max f(x + b) = f(max x + b). But there are fewer elements left to work on, forward
and backward: a quarter of them after a pooling of 2 × 2. The published model is untouched: its order is the one that
TensorRT fuses.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras

CONVOLUTIONS = {
    keras.layers.Conv1D: keras.layers.MaxPooling1D,
    keras.layers.Conv2D: keras.layers.MaxPooling2D,
    keras.layers.Conv3D: keras.layers.MaxPooling3D,
}
"""Each convolution with the pooling that may come before its bias. Subclasses may do anything, and are left alone."""

RISING = (
    keras.activations.linear,
    keras.activations.relu,
    keras.activations.leaky_relu,
    keras.activations.sigmoid,
    keras.activations.tanh,
    keras.activations.softplus,
    keras.activations.elu,
)


@contextmanager
def pooled_first(model: keras.Model) -> Iterator[int]:
    """Have the model compute so for the time of a `with` block; what is yielded is how many convolutions do."""
    pairs = list(_pairs(model))
    for convolution, pooling in pairs:
        vars(convolution)["call"] = _without_end(convolution)
        vars(pooling)["call"] = _with_end(pooling, pooling.call, convolution)
    try:
        yield len(pairs)
    finally:
        for pair in pairs:
            for layer in pair:
                del vars(layer)["call"]


def _without_end(convolution: Any) -> Any:
    return lambda inputs: convolution.convolution_op(inputs, convolution.kernel)


def _with_end(pooling: Any, pool: Any, convolution: Any) -> Any:
    def call(inputs: Any) -> Any:
        found = pool(inputs)
        if convolution.use_bias:
            found = keras.ops.add(found, keras.ops.reshape(convolution.bias, (1,) * (len(found.shape) - 1) + (-1,)))
        return convolution.activation(found)

    return call


def _pairs(model: keras.Model) -> Iterator[tuple[Any, Any]]:
    """Yield each convolution whose only reader is a max-pooling, with that pooling."""
    if not getattr(model, "inputs", None):
        return  # a subclassed model: what reads what is not known
    ends = {id(tensor) for tensor in model.outputs}
    for layer in model.layers:
        wanted = CONVOLUTIONS.get(type(layer))
        if wanted is None or layer.activation not in RISING or layer.data_format != "channels_last":
            continue
        if len(layer._inbound_nodes) != 1 or id(layer.output) in ends:
            continue
        readers = [node.operation for node in layer._outbound_nodes]
        if len(readers) == 1 and type(readers[0]) is wanted and len(readers[0]._inbound_nodes) == 1:
            yield layer, readers[0]

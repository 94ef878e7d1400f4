"""Which Keras layer an ONNX graph first differs at: for a conversion that is wrong and says nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from onnx import ModelProto, helper

from pipeline import backends, graphs
from pipeline.backends import LoadOptions
from pipeline.graphs import files, keras_layers
from pipeline.tensors import Array, Feed, Outputs

if TYPE_CHECKING:
    import keras

RTOL, ATOL = 1e-3, 1e-4
"""As in the export stage; `ATOL` of a layer's largest magnitude, where that is more than one."""


@dataclass(frozen=True)
class LayerDifference:
    """A Keras layer, named as in `model.summary()`, and how far the graph's nearest tensor is from its output."""

    layer: str
    max_abs: float


@dataclass(eq=False)
class _Call:
    """One call of a layer, or of an operation between layers, as the model ran: `result` is its first output."""

    layer: str
    result: Array
    own: bool
    """Whether nodes of the graph are named after it; not those of a layer folded into another, nor an operation's."""
    producers: list["_Call"]
    consumers: list["_Call"] = field(default_factory=list)
    nearest: float | None = None
    """How far the nearest tensor of its shape is; None where there is none of it, 0 within the tolerance."""

    def explained(self) -> bool:
        """Tell whether the graph has its result, or that of what is folded into it."""
        return self.nearest == 0 or any(not one.own and one.explained() for one in self.consumers)

    def origin(self) -> "_Call":
        """Return the first of the operations before it, of which the graph has no nodes to name, that is wrong too."""
        wrong = (one for one in self.producers if not one.own and one.nearest)
        return next((one.origin() for one in wrong), self)


def first_difference(model: "keras.Model", graph: ModelProto, feed: Feed) -> LayerDifference | None:
    """Find the first Keras layer, in the order they run in, whose output the graph does not have.

    A layer's output is looked for among the results of the nodes that are named after it, in TensorFlow's order of
    dimensions and in ONNX's. A normalisation folded into the product before it stands for both. Takes the memory of all
    layers' outputs, and of the graph's, for `feed`: give it a few samples.

    Args:
        model: any Keras model that `calling.serving` takes.
        graph: what it was exported to.
        feed: the inputs by name, for which the outputs differ.

    Returns:
        None where every layer that can be compared is equal.
    """
    names = keras_layers.names(model)
    groups = {group.name: group.nodes for group in keras_layers.groups(graph, names)}
    tensors = _tensors(graph, feed)
    results = {
        layer: [
            tensors[name] for node in graph.graph.node if node.name in nodes for name in node.output if name in tensors
        ]
        for layer, nodes in groups.items()
    }
    calls = _calls(model, feed, frozenset(groups))
    for call in calls:
        near = [call] if call.own else [*_with_nodes(call, "producers"), *_with_nodes(call, "consumers")]
        call.nearest = _nearest(call.result, [tensor for one in near for tensor in results[one.layer]])
    wrong = [call for call in calls if call.nearest and not call.explained()]
    found = next((call.origin() for call in wrong if call.own), next(iter(wrong), None))
    return LayerDifference(found.layer, found.nearest) if found and found.nearest else None


def _with_nodes(call: _Call, direction: str) -> Iterator[_Call]:
    """Yield the nearest calls in a direction that nodes are named after."""
    for one in getattr(call, direction):
        if one.own:
            yield one
        else:
            yield from _with_nodes(one, direction)


def _nearest(wanted: Array, tensors: list[Array]) -> float | None:
    """Return how far the nearest tensor of the wanted shape is: 0 within the tolerance, None where there is none."""
    fitting = [one for tensor in tensors for one in _layouts(tensor) if one.shape == wanted.shape]
    if not fitting:
        return None
    scale = max(1.0, float(np.abs(wanted).max(initial=0, where=np.isfinite(wanted))))
    if any(np.allclose(one, wanted, rtol=RTOL, atol=ATOL * scale, equal_nan=True) for one in fitting):
        return 0.0
    return min(float(np.abs(one.astype(float) - wanted.astype(float)).max()) for one in fitting)


def _layouts(tensor: Array) -> Iterator[Array]:
    """Yield a tensor as it is, and with its channels last."""
    yield tensor
    if tensor.ndim > 2:
        yield np.moveaxis(tensor, 1, -1)


def _tensors(graph: ModelProto, feed: Feed) -> Outputs:
    """Return every tensor that the graph computes, by name; the graph is run as it is written."""
    types = graphs.element_types(graph)
    watched = ModelProto()
    watched.CopyFrom(graph)
    del watched.graph.output[:]
    names = [name for node in graph.graph.node for name in node.output if name in types]
    watched.graph.output.extend(helper.make_tensor_value_info(name, types[name], None) for name in names)
    options = LoadOptions("cpu", exact=True)
    with files.loadable(watched) as given, backends.get("onnxruntime").load(given, options) as session:
        return {name: array.copy() for name, array in session.run(feed).items()}


def _calls(model: "keras.Model", feed: Feed, named: frozenset[str]) -> list[_Call]:
    """Run the model layer by layer, and return the calls in order; nested models are their layers' calls."""
    import keras
    import tensorflow as tf

    paths = {id(layer): path for path, layer in keras_layers.walk(model)}
    calls: list[_Call] = []
    makers: dict[int, _Call] = {}
    kept: list[Any] = []  # an object's id is its own only as long as it is there

    def record(layer: Any, arguments: Any, result: Any) -> None:
        path, results = paths.get(id(layer)), keras.tree.flatten(result)
        if path is None or isinstance(layer, keras.Model) or not results:
            return
        producers = [makers[id(one)] for one in keras.tree.flatten(arguments) if id(one) in makers]
        call = _Call(path, np.asarray(results[0]), path in named, list(dict.fromkeys(producers)))
        for producer in call.producers:
            producer.consumers.append(call)
        calls.append(call)
        kept.extend([arguments, result])
        makers.update(dict.fromkeys(map(id, results), call))

    from pipeline.models import calling

    function, signature = calling.serving(model)
    with _watched(keras.Operation, record), _watched(keras.Layer, record):
        function(*(tf.constant(feed[spec.name]) for spec in signature))
    return calls


@contextmanager
def _watched(kind: Any, record: Any) -> Iterator[None]:
    """While this lasts, tell `record` of each call of an object whose class has its `__call__` from this one."""
    real = kind.__call__

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        result = real(self, *arguments, **options)
        if type(self).__call__ is call:
            record(self, (arguments, options), result)
        return result

    with mock.patch.object(kind, "__call__", call):
        yield

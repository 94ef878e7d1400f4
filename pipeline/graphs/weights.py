"""Graphs without the content of their weights: all that shape inference, the checker and converters need of them.

Each of these serialises the model it is given, and parses it again: several copies of the weights, and an error where
they are 2 GB or more.
"""

from collections.abc import Iterable
from math import prod
from typing import Any

from onnx import GraphProto, ModelProto, TensorProto, TypeProto, ValueInfoProto, helper

LARGE = 1024
"""Elements from which on a constant is no shape and no list of axes."""


def is_large(tensor: TensorProto) -> bool:
    """Tell a weight from a constant that shapes may be computed from, and from text."""
    return prod(tensor.dims) >= LARGE and tensor.data_type != TensorProto.STRING


def without_weights(model: ModelProto) -> ModelProto:
    """Return a copy in which every large constant of the graph itself is an input of its type and shape instead.

    Constants in the bodies of Loop, Scan and If are kept, as are those that Constant nodes hold.
    """
    graph = model.graph
    copy = with_constants(model, [tensor for tensor in graph.initializer if not is_large(tensor)])
    listed = {value.name for value in graph.input}  # where ONNX had to list them, before IR version 4
    copy.graph.input.extend(_as_input(one) for one in graph.initializer if is_large(one) and one.name not in listed)
    return copy


def with_weights(light: ModelProto, model: ModelProto) -> ModelProto:
    """Put the constants of `model` back into what was made of it without them; return that, which is changed.

    Small constants that are new or were changed meanwhile are kept.
    """
    del light.graph.input[:]
    light.graph.input.extend(model.graph.input)
    small = list(light.graph.initializer)
    del light.graph.initializer[:]
    light.graph.initializer.extend([*small, *(one for one in model.graph.initializer if is_large(one))])
    return light


def with_constants(model: ModelProto, constants: Iterable[TensorProto]) -> ModelProto:
    """Return a copy of a model with these constants in the place of its own, which are not copied."""
    graph = GraphProto(**_fields(model.graph, "initializer"))
    graph.initializer.extend(constants)
    return ModelProto(graph=graph, **_fields(model, "graph"))


def _fields(message: ModelProto | GraphProto, but: str) -> dict[str, Any]:
    return {field.name: value for field, value in message.ListFields() if field.name != but}


def _as_input(tensor: TensorProto) -> ValueInfoProto:
    kind: TypeProto = helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    return helper.make_value_info(tensor.name, kind)

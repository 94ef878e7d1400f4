"""Which Keras layer each node of the exported graph comes from: so that errors and options speak of layers.

A layer is named as in `model.summary()`; one inside a nested model has that model's name before its own, as Keras has
it in its variables' paths: `resnet50/conv1_conv`.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from onnx import ModelProto, NodeProto

from pipeline.errors import ConfigError

LAYOUT = frozenset({"Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators by which tf2onnx changes between TensorFlow's order of dimensions and ONNX's."""


@dataclass(frozen=True)
class Group:
    """A Keras layer's name, and the names of the exported FP32 graph's nodes that compute it."""

    name: str
    nodes: tuple[str, ...]


def names(model: Any) -> list[str]:
    """Return the names of a Keras model's layers in the order of `model.summary()`, and of what is between them."""
    return [path for path, _ in walk(model)]


def walk(model: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a Keras model's layers, and the operations between them, each with its name."""
    inner = getattr(model, "operations", None) or getattr(model, "layers", None)
    if not isinstance(inner, list | tuple) or not all(hasattr(one, "name") for one in inner):
        return  # a custom layer's own option of that name
    for layer in inner:
        path = f"{above}{layer.name}"
        yield path, layer
        yield from walk(layer, f"{path}/")


def groups(model: ModelProto, layers: Collection[str]) -> list[Group]:
    """Return the exported graph's nodes by the Keras layer they come from, in the graph's order; each node is in one.

    `layers` are the model's, by `names`. What tf2onnx added between layers belongs to the layer whose
    result it reads; before the first layer, to the one that reads it.
    """
    homes: dict[str, str] = {}
    source: dict[str, str] = {}
    for node in model.graph.node:
        homes[node.name] = _home(node, layers) or next(filter(None, map(source.get, node.input)), "")
        source |= dict.fromkeys(node.output, homes[node.name])
    reader: dict[str, str] = {}
    for node in reversed(model.graph.node):
        homes[node.name] = homes[node.name] or next(filter(None, map(reader.get, node.output)), node.name)
        reader |= dict.fromkeys(node.input, homes[node.name])
    members: dict[str, list[str]] = {}
    for node in model.graph.node:
        members.setdefault(homes[node.name], []).append(node.name)
    return [Group(name, tuple(nodes)) for name, nodes in members.items()]


def homes(model: ModelProto, layers: Collection[str]) -> dict[str, str]:
    """Return the layer of each node, by the node's name."""
    return {node: group.name for group in groups(model, layers) for node in group.nodes}


def _home(node: NodeProto, layers: Collection[str]) -> str:
    """Return the layer that a node is named after; "" where it is after none, or was put between two layers."""
    if node.op_type in LAYOUT and re.search(r"__\d+$", node.name):  # tf2onnx numbers what it adds
        return ""
    return layer_of(node.name, layers)


def layer_of(name: str, layers: Collection[str]) -> str:
    """Return the layer in whose scope TensorFlow named a node or a constant; "" where in none.

    Keras opens a layer's scope twice in a trace, to build it and to call it, and TensorFlow tells scopes of one name
    apart by a number: so what `conv2d` computes is in `conv2d_1`, and what `conv2d_1` does, in `conv2d_1_1` or on.
    """
    found = ""
    for scope in name.split("/")[1:-1]:  # the model comes first and the operation last
        path = f"{found}/{scope}" if found else scope
        plain = re.sub(r"_\d+$", "", path)
        if plain not in layers and path not in layers:
            break
        found = plain if plain in layers else path
    return found


def resolve(model: ModelProto, names: Iterable[str], layers: Collection[str]) -> frozenset[str]:
    """Return the names of the exported graph's nodes that compute the layers called `names`.

    A nested model's name stands for all of its layers. A layer inside one may be called without that one's name where
    no other layer is called so. A layer folded into a neighbour stands for the node that holds its constants.

    Raises:
        ConfigError: there is no such layer, or nothing of it is in the graph.
    """
    found = groups(model, layers)
    nodes: set[str] = set()
    for name in names:
        tails = [layer for layer in layers if layer.endswith(f"/{name}")]
        path = tails[0] if len(tails) == 1 and name not in layers else name
        own = {node for group in found if f"{group.name}/".startswith(f"{path}/") for node in group.nodes}
        if path in layers:
            own = own or _folded(model, path, layers)
        if not own:
            there = [group.name for group in found]
            near = difflib.get_close_matches(path, there if path in layers else [*layers, *there], n=1)
            where = "in no node of the graph" if path in layers else "no layer of the model"
            raise ConfigError(
                f"engine.keep_fp32: {name!r} is {where}",
                f"{f'Did you mean {near[0]!r}? ' if near else ''}Layers that can be kept: {', '.join(there)}.",
            )
        nodes |= own
    return frozenset(nodes)


def _folded(model: ModelProto, layer: str, layers: Collection[str]) -> set[str]:
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        node.name
        for node in model.graph.node
        if any(layer_of(name, layers) == layer for name in (node.name, *constants.intersection(node.input)))
    }

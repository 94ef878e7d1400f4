"""What tf2onnx could not convert, told by Keras layer and operator, with its own words below."""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import onnx

from pipeline.errors import BuildError
from pipeline.graphs import keras_layers

SHOWN = 5
"""How many operators, and how many of tf2onnx's lines, an error lists."""


@contextmanager
def words() -> Iterator[list[str]]:
    """Collect what tf2onnx logs as an error, and keep it off the terminal."""
    collected: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            said = f"{type(error).__name__}: {error}" if error else record.getMessage()
            collected.extend(line for line in said.splitlines()[:SHOWN] if line not in collected)

    logger, collector = logging.getLogger("tf2onnx"), Collector(logging.ERROR)
    before = logger.propagate, logger.handlers
    logger.propagate, logger.handlers = False, [collector]
    try:
        yield collected
    finally:
        logger.propagate, logger.handlers = before


def check(graph: Any, layers: Collection[str], said: list[str]) -> None:
    """Raise BuildError where operators of TensorFlow are left in tf2onnx's graph, naming the layers they are in.

    `layers` are the model's, by `keras_layers.names`; `said` is what tf2onnx had to say.
    """
    left: dict[str, None] = {}
    for node in _nodes(graph):
        known = node.domain in ("", "ai.onnx") and onnx.defs.has(node.type, graph.opset, "")
        if not (known or node.is_const() or node.is_graph_input()):
            layer = keras_layers.layer_of(node.name, layers)
            left[f"{node.type} in {f'layer {layer!r}' if layer else f'node {node.name!r}'}"] = None
    if left:
        listed = list(left)[:SHOWN] + ([f"and {len(left) - SHOWN} more"] if len(left) > SHOWN else [])
        raise BuildError(
            "\n".join(["export: tf2onnx cannot convert " + ", ".join(listed), *(f"  {line}" for line in said[:SHOWN])]),
            "Replace the layer by one whose operators ONNX has, or compute it before or after the model.",
        )


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.get_nodes():
        yield node
        for body in (node.get_body_graphs() or {}).values():
            yield from _nodes(body)

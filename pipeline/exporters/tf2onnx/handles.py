"""Keeping large constants out of tf2onnx's protobufs, so that its many copies of the graph are copies of small things.

tf2onnx copies the whole graph before each pass of its optimizer, and its copies are cycles whose weights Python's
collector does not see: ResNet50, 98 MB, took 7.5 GB. Here a large constant is a protobuf with a handle for its content,
and the array itself is kept once, outside.
tf2onnx reads and writes the values of constants by `numpy_helper` alone, whose two functions hand them out and take
them in: so all its folding is done with the real numbers.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import tf2onnx.graph
import tf2onnx.tf_utils
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

from pipeline.tensors import Array

LARGE = 4096
"""Bytes from which on a constant is kept outside: above any shape or list of axes, which shape inference reads."""

_MARK = b"handle:"


class Handles:
    """The large constants of one conversion, by the digest of their content: equal ones are one."""

    def __init__(self) -> None:
        self._arrays: dict[bytes, Array] = {}

    def from_array(self, array: Array, name: str | None = None) -> TensorProto:
        """Return the array as a tensor; a large one's content is a handle."""
        if array.nbytes < LARGE or array.dtype == object:
            return numpy_helper.from_array(array, name)
        # A view, as of a transposed weight, is kept as one: only its digest needs the numbers in order, for a moment.
        digest = hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data, digest_size=16).digest()
        tensor = TensorProto(
            name=name or "",
            data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
            dims=array.shape,
            raw_data=_MARK
            + digest
            + f"{array.dtype}{array.shape}".encode(),  # tf2onnx takes tensors of equal content for one
        )
        self._arrays.setdefault(tensor.raw_data, array)
        return tensor

    def to_array(self, tensor: TensorProto) -> Array:
        """Return a tensor's content, whether it has it or a handle; read only."""
        if tensor.raw_data in self._arrays:
            return self._arrays[tensor.raw_data]
        return numpy_helper.to_array(tensor)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this lasts, tf2onnx's constants are ours."""
        with (
            mock.patch.object(tf2onnx.graph, "numpy_helper", self),
            mock.patch.object(tf2onnx.tf_utils, "numpy_helper", self),
        ):
            yield

    def put_back(self, model: ModelProto) -> None:
        """Give the model's constants their contents, in place, and forget them."""
        for tensor in _tensors(model.graph):
            if tensor.raw_data in self._arrays:
                tensor.raw_data = np.ascontiguousarray(self._arrays[tensor.raw_data]).tobytes()
        self._arrays.clear()


def _tensors(graph: GraphProto) -> Iterator[Any]:
    """Yield all constants of a graph, and of the graphs within it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            for body in (attribute.g, *attribute.graphs):
                yield from _tensors(body)

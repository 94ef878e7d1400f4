"""What takes the place of a TensorFlow operator that tf2onnx has no conversion for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import tf2onnx.utils

from pipeline.tensors import Array


class Replacement:
    """One TensorFlow operator, taken out of the graph, and the ONNX operators made for it.

    They are named after it, so that each still tells which Keras layer it comes from. Tensors are known by their names.
    `inputs` are the operator's, `shape` (None where unknown, -1 for a dynamic dimension) and `elem_type` its result's.
    """

    def __init__(self, graph: Any, node: Any) -> None:
        self.inputs = list(node.input)
        self.shape = graph.get_shape(node.output[0])
        self.elem_type = graph.get_dtype(node.output[0])
        self._graph, self._old = graph, node
        self._output = node.output[0]
        self._removed = False

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of TensorFlow's operator."""
        return self._old.get_attr_value(name, default)

    def input_shape(self, index: int = 0) -> list[int] | None:
        """Return an input's shape, -1 where a dimension is dynamic; None where its rank is not known."""
        shape: list[int] | None = self._graph.get_shape(self.inputs[index])
        return shape

    def input_type(self, index: int = 0) -> int:
        """Return an input's element type (onnx.TensorProto.DataType)."""
        return int(self._graph.get_dtype(self.inputs[index]))

    def input_value(self, index: int) -> Array:
        """Return a constant input's value.

        Raises:
            ValueError: it is none.
        """
        value: Array = self._graph.get_node_by_output(self.inputs[index]).get_tensor_value(as_list=False)
        return value

    def readers(self) -> list[Any]:
        """Return the tf2onnx nodes that read the result."""
        return list(self._graph.find_output_consumers(self._output))

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant; without `dtype` it has the result's type."""
        kind = dtype or tf2onnx.utils.map_onnx_to_numpy_type(self.elem_type)
        name = tf2onnx.utils.make_name(self._old.name)
        return str(self._graph.make_const(name, np.asarray(value, kind)).output[0])

    def axes(self, *values: int) -> str:
        """Add a constant list of axes or sizes."""
        return self.constant(values, np.int64)

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add an ONNX operator of one result."""
        self._remove()
        name = tf2onnx.utils.make_name(self._old.name)
        return str(self._graph.make_node(operator, list(inputs), attr=attributes, name=name).output[0])

    def result(self, operator: str, *inputs: str, **attributes: Any) -> None:
        """Add the ONNX operator whose result is that of the TensorFlow operator replaced."""
        self._remove()
        self._graph.make_node(
            operator,
            list(inputs),
            attr=attributes,
            name=tf2onnx.utils.make_name(self._old.name),
            outputs=[self._output],
            shapes=[self.shape],
            dtypes=[self.elem_type],
        )

    def _remove(self) -> None:
        """Take the old operator out, once: what checks it raises first leaves it for the error to name."""
        if not self._removed:
            self._graph.remove_node(self._old.name)
            self._removed = True


Handler = Callable[[Replacement], None]


def as_tf2onnx_wants_them(handlers: dict[str, Handler]) -> dict[str, tuple[Callable[..., None], list[Any]]]:
    """Return handlers by TensorFlow's operator in the form of tf2onnx's `custom_op_handlers`."""

    def adapted(handler: Handler) -> Callable[..., None]:
        return lambda graph, node, name, arguments: handler(Replacement(graph, node))

    return {operator: (adapted(handler), []) for operator, handler in handlers.items()}

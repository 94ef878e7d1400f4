"""Giving a graph's float arithmetic a 16-bit type, with Casts at the borders; and emulating that in FP32.

ONNX Runtime's converter (transformers/float16.py, 1.26) does this for FP16 where nothing is to stay in FP32. With nodes
to keep it leaves the graph unsorted, names two Casts alike where two kept nodes share an input, and sends what passes
between two of them through FP16, so that an overflow stays one. Hence this one, for both 16-bit formats.
"""

from collections.abc import Collection, Mapping

import ml_dtypes
import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from pipeline import graphs
from pipeline.graphs import control_flow

FLOAT: int = TensorProto.FLOAT
SIXTEEN_BITS: tuple[int, ...] = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def narrow(
    model: ModelProto, to: int, keep_fp32: Collection[str] = (), fp32_operators: Collection[str] = ()
) -> ModelProto:
    """Return the FP32 graph with every node computing in the type `to` that may, but for those named in `keep_fp32`.

    The graph's inputs and outputs keep their types. A node stays in FP32 where its operator is one of `fp32_operators`
    or, by ONNX's own definition, does not take `to`. What passes between two nodes in FP32 never leaves FP32. The model
    is left as it was.

    The bodies of Loop, Scan and If are rewritten as the graph is: their inputs and outputs keep their types, so that
    what a Loop carries from one round to the next, sums and states, is carried in FP32. A node kept in FP32 keeps its
    bodies there too.
    """
    typed = graphs.without_default_inputs(graphs.inferred(model))
    _Rewriter(typed.graph, to, graphs.opset(model), fp32_operators).rewrite(keep_fp32)
    return typed


def emulate(model: ModelProto) -> ModelProto:
    """Return an FP32 graph that rounds to 16 bits what the typed graph `model` holds in them: constants and results.

    Every node computes in FP32 from rounded inputs and rounds its result once, by a Cast and one back: as a GPU does,
    which adds products in FP32. A GPU that fuses nodes rounds less often, so this is the pessimistic case; but for the
    recurrent operators, whose state a GPU may round at every step and this does not.

    A CPU needs it for both formats. ONNX Runtime has no BF16 convolution there. What it lacks in FP16, nearly all, it
    computes in FP32 between Casts of its own, and at every optimization level takes those between two nodes out again
    (insert_cast_transformer.cc): 6e4 · 7 / 6e4 is then 7 and not Inf.
    """
    emulated = graphs.inferred(model)
    _emulate(emulated.graph, {})
    return emulated


def _emulate(graph: GraphProto, around: Mapping[str, int]) -> None:
    types = control_flow.element_types(graph, around)
    border = {value.name for value in graph.output}  # of 16 bits only where the FP32 graph has a Cast to them there
    for tensor in graph.initializer:
        if tensor.data_type in SIXTEEN_BITS:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
    nodes: list[NodeProto] = []
    for node in graph.node:
        for body in control_flow.bodies(node):
            _emulate(body, types)
        nodes.append(node)
        # A product computes on the stored numbers of its operands: what brings them back rounds nothing.
        for i, name in enumerate(node.output if node.op_type != "DequantizeLinear" else ()):
            if types.get(name) in SIXTEEN_BITS and name not in border:
                for attribute in node.attribute:
                    if node.op_type == "Cast" and attribute.name == "to":
                        attribute.i = FLOAT
                exact, rounded = f"{name}/exact", f"{name}/rounded"
                node.output[i] = exact
                nodes.append(helper.make_node("Cast", [exact], [rounded], name=rounded, to=types[name]))
                nodes.append(helper.make_node("Cast", [rounded], [name], name=exact, to=FLOAT))
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


class _Rewriter:
    """Rewrites a graph node by node; `at` is the name under which a float tensor is available in a type.

    One for a body asks that of the graph `around` it for what is not the body's own: so a tensor read in a body is cast
    once, before the Loop, and not in every round.
    """

    def __init__(
        self,
        graph: GraphProto,
        to: int,
        opset: int,
        fp32_operators: Collection[str],
        around: "_Rewriter | None" = None,
    ) -> None:
        self.graph, self.to, self.opset, self.around = graph, to, opset, around
        self.fp32_operators = fp32_operators
        self.types: dict[str, int] = control_flow.element_types(graph, around.types if around else {})
        self.own = control_flow.own_tensors(graph)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = [value.name for value in graph.output]
        present = (*self.constants, *(value.name for value in graph.input))
        self.at: dict[tuple[str, int], str] = {(name, FLOAT): name for name in present}
        self.nodes: list[NodeProto] = []

    def rewrite(self, keep_fp32: Collection[str]) -> None:
        """Give every node its types, cast the graph's outputs back, and drop the constants that nothing reads now."""
        for node in self.graph.node:
            stays = node.name in keep_fp32 or node.op_type in self.fp32_operators
            self._add(node, FLOAT if stays else self.to)
        for name in self.outputs:
            if self.types[name] == FLOAT:
                self._read(name, FLOAT)
        graph = self.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]  # the last holds the types of before
        graph.node.extend(self.nodes)
        read = set(control_flow.reads(graph))
        graph.initializer.extend(tensor for name, tensor in self.constants.items() if name in read)

    def _add(self, node: NodeProto, to: int) -> None:
        """Append a copy of `node` that reads and writes the types it is to have."""
        copy = NodeProto()
        copy.CopyFrom(node)
        reads, writes = _narrowable(node, self.opset, self.to)
        for body in control_flow.bodies(copy):
            _Rewriter(body, to, self.opset, self.fp32_operators, self).rewrite(())
            reads, writes = [False] * len(node.input), [False] * len(node.output)
        for i, name in enumerate(node.input):
            if self.types.get(name) == FLOAT:
                copy.input[i] = self._read(name, to if reads[i] else FLOAT)
        self.nodes.append(copy)
        for i, name in enumerate(node.output):
            if self.types.get(name) == FLOAT:
                kind = to if writes[i] else FLOAT
                # A tensor keeps its name whatever its type becomes, but an output of the graph stays what it was.
                copy.output[i] = self.at[name, kind] = self._typed(name, kind) if name in self.outputs else name

    def _read(self, name: str, kind: int) -> str:
        """Return the name of the tensor `name` in the type `kind`, converting it where it is not there yet."""
        if name not in self.own and self.around:
            return self.around._read(name, kind)
        if (name, kind) not in self.at:
            other = self.at[name, self.to if kind == FLOAT else FLOAT]
            fresh = self.at[name, kind] = self._typed(name, kind)
            if other in self.constants:
                self.constants[fresh] = _rounded(self.constants[other], fresh, kind)
            else:
                self.nodes.append(helper.make_node("Cast", [other], [fresh], name=f"{fresh}/Cast", to=kind))
        return self.at[name, kind]

    def _typed(self, name: str, kind: int) -> str:
        return name if kind == FLOAT and name in self.outputs else f"{name}/{TensorProto.DataType.Name(kind).lower()}"


def _narrowable(node: NodeProto, opset: int, to: int) -> tuple[list[bool], list[bool]]:
    """Say of each input and output whether the operator's definition lets it be `to`.

    An output may be where its type is that of an input which may be (the definition's `T`). A Constant's or a Cast's
    type depends on an attribute alone: those stay as they are, and are cast where they are read.
    """
    if not onnx.defs.has(node.op_type, opset, node.domain):
        return [False] * len(node.input), [False] * len(node.output)
    schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    wanted = f"tensor({TensorProto.DataType.Name(to).lower()})"
    parameters = {formal.type_str for formal in schema.inputs if wanted in formal.types}

    def may(formal: list[onnx.defs.OpSchema.FormalParameter], count: int) -> list[bool]:
        # A variadic parameter is the last, and stands for all the rest.
        return [formal[min(i, len(formal) - 1)].type_str in parameters for i in range(count)]

    return may(list(schema.inputs), len(node.input)), may(list(schema.outputs), len(node.output))


def _rounded(tensor: TensorProto, name: str, to: int) -> TensorProto:
    """Return a constant in the type `to`, rounded to nearest; nothing finite becomes Inf, and nothing else zero.

    A weight past FP16's range becomes its largest number: what that costs, the validate stage finds. An epsilon under
    its smallest becomes that one, so that no division by zero arises.
    """
    kind = helper.tensor_dtype_to_np_dtype(to)
    limits = ml_dtypes.finfo(kind)
    array = numpy_helper.to_array(tensor)
    largest = np.float32(limits.max)
    rounded = np.where(np.isfinite(array), np.clip(array, -largest, largest), array).astype(kind)
    smallest = np.copysign(np.float32(limits.smallest_subnormal), array).astype(kind)
    return numpy_helper.from_array(np.where((rounded == 0) & (array != 0), smallest, rounded), name)

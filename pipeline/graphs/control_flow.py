"""Graphs inside graphs: the bodies of Loop, Scan and If, which read the tensors of the graphs around them by name."""

from collections.abc import Iterator, Mapping

from onnx import AttributeProto, GraphProto, NodeProto


def bodies(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that a node holds: none, but for control flow."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def walk(graph: GraphProto) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield every node, those in bodies too, each with the node of `graph` itself that it is, or is inside of."""
    for home in graph.node:
        yield home, home
        for body in bodies(home):
            yield from ((node, home) for node, _ in walk(body))


def reads(graph: GraphProto) -> Iterator[str]:
    """Yield the names of the tensors that a graph's nodes read, those in bodies too, and its outputs."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from read_by(node)


def read_by(node: NodeProto) -> Iterator[str]:
    """Yield the names of the tensors that a node and its bodies read."""
    yield from node.input
    for body in bodies(node):
        yield from reads(body)


def own_tensors(graph: GraphProto) -> set[str]:
    """Return the names of the tensors that are a graph's own: inputs, constants, results of its nodes, no body's."""
    return {
        *(value.name for value in graph.input),
        *(tensor.name for tensor in graph.initializer),
        *(name for node in graph.node for name in node.output),
    }


def element_types(inferred: GraphProto, around: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the element types (onnx.TensorProto.DataType) of a graph's tensors, bodies left out.

    `inferred` is a graph after shape inference, which writes the types of a body's tensors into the body; `around` are
    the types of the graph that it is a body of.
    """
    types = {**(around or {}), **{tensor.name: tensor.data_type for tensor in inferred.initializer}}
    for value in (*inferred.input, *inferred.output, *inferred.value_info):
        types[value.name] = value.type.tensor_type.elem_type
    return types

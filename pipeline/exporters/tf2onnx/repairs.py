"""Corrections to the graph that tf2onnx wrote."""

from onnx import ModelProto, NodeProto, helper, shape_inference

from pipeline.graphs.weights import without_weights


def repair(model: ModelProto) -> None:
    """Correct a graph in place."""
    _nearest_resizing(model)
    _groups_of_3d_convolutions(model)
    _output_padding(model)
    _names_of_convolutions(model)


def _attributes(node: NodeProto) -> dict[str, object]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _set(node: NodeProto, **values: object) -> None:
    others = [attribute for attribute in node.attribute if attribute.name not in values]
    del node.attribute[:]
    node.attribute.extend([*others, *(helper.make_attribute(name, value) for name, value in values.items())])


def _nearest_resizing(model: ModelProto) -> None:
    """Write TensorFlow's nearest resizing in the way that TensorRT takes: https://github.com/onnx/tensorflow-onnx/issues/2248.

    Both take the pixel floor((x + 0.5) · scale): half_pixel subtracts 0.5, and rounding up at the half adds it again.
    """
    theirs = {"mode": b"nearest", "coordinate_transformation_mode": b"tf_half_pixel_for_nn", "nearest_mode": b"floor"}
    for node in model.graph.node:
        if node.op_type == "Resize" and theirs.items() <= _attributes(node).items():
            _set(node, coordinate_transformation_mode="half_pixel", nearest_mode="round_prefer_ceil")


def _groups_of_3d_convolutions(model: ModelProto) -> None:
    """Set the groups that tf2onnx forgets: https://github.com/onnx/tensorflow-onnx/issues/1868."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    convolutions = [
        node for node in model.graph.node if node.op_type == "Conv" and len(weights.get(node.input[1], ())) == 5
    ]
    if not convolutions:
        return
    inferred = shape_inference.infer_shapes(without_weights(model)).graph
    channels = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in (*inferred.input, *inferred.value_info)
        if len(value.type.tensor_type.shape.dim) == 5
    }
    for node in convolutions:
        of_input, of_weight = channels.get(node.input[0]), weights[node.input[1]][1]
        if of_input and of_input != of_weight * int(_attributes(node).get("group", 1)):  # type: ignore[call-overload]
            _set(node, group=of_input // of_weight)


def _output_padding(model: ModelProto) -> None:
    """Write what a transposed convolution adds at the end as ONNX does: tf2onnx makes it negative padding."""
    for node in model.graph.node:
        pads = list(_attributes(node).get("pads", ())) if node.op_type == "ConvTranspose" else []  # type: ignore[call-overload]
        if any(size < 0 for size in pads):
            both = [start + end for start, end in zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)]
            added = [max(0, -size) for size in both]
            left = [max(0, size) for size in both]
            _set(node, pads=[*(size // 2 for size in left), *(size - size // 2 for size in left)], output_padding=added)


def _names_of_convolutions(model: ModelProto) -> None:
    """Name a convolution into which tf2onnx has put a bias after its weights: it has lost the name of its layer."""
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose") and "/" not in node.name:
            node.name = f"{node.input[1].rpartition('/')[0]}/{node.name}"

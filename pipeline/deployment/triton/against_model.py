"""A configuration against the model's own graph: every name, type and size."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from onnx import ModelProto, ValueInfoProto, helper

from pipeline.deployment.triton import schema
from pipeline.graphs import files

Shape = tuple[int | None, ...] | None
"""None where the graph does not say: a size, or all."""


def problems(config: Any, path: Path) -> Iterator[str]:
    """Yield where a configuration and the ONNX model at `path` differ.

    Raises:
        ArtifactError: the file cannot be read, or is no ONNX model.
    """
    model = files.load(path, weights=False)
    for what, here, there in (("input", config.input, _inputs(model)), ("output", config.output, model.graph.output)):
        in_model = {one.name: one for one in there}
        for name in in_model:
            if name not in {one.name for one in here}:
                yield f"the model has the {what} {name!r}, which is left out"
        for one in here:
            if one.name not in in_model:
                yield f"the model has no {what} {one.name!r}; it has {', '.join(map(repr, in_model))}"
                continue
            for problem in _tensor(one, in_model[one.name], batched=config.max_batch_size > 0):
                yield f"{what} {one.name!r} {problem}"


def _inputs(model: ModelProto) -> list[ValueInfoProto]:
    constants = {one.name for one in model.graph.initializer}
    return [one for one in model.graph.input if one.name not in constants]


def _tensor(config: Any, value: ValueInfoProto, *, batched: bool) -> Iterator[str]:
    types = config.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    dtype, shape = _of_graph(value)
    if types[config.data_type].name != dtype:
        yield f"is {types[config.data_type].name}, and in the model {dtype or 'of a type that Triton lacks'}"
    if shape is None:
        return
    if batched and shape and shape[0] is not None:
        yield f"takes batches of {shape[0]} alone in the model: max_batch_size must be 0, and its dims {list(shape)}"
        return
    wanted = shape[1:] if batched else shape
    dims = tuple(config.reshape.shape if config.HasField("reshape") else config.dims)
    # Triton's rule: a size that the model leaves open may be fixed, and not the other way round.
    if len(dims) != len(wanted) or any(there not in (None, size) for size, there in zip(dims, wanted, strict=True)):
        beside = " beside the batch" if batched else ""
        yield f"has the dims {list(dims)}, and in the model {[-1 if one is None else one for one in wanted]}{beside}"


def _of_graph(value: ValueInfoProto) -> tuple[str | None, Shape]:
    """Return Triton's name of a tensor's type, None where it lacks it, and the tensor's shape."""
    tensor = value.type.tensor_type
    try:
        dtype = schema.type_name(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = None
    if not tensor.HasField("shape"):
        return dtype, None
    return dtype, tuple(one.dim_value if one.HasField("dim_value") else None for one in tensor.shape.dim)

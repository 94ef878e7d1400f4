"""Requests and answers as gRPC's messages have them, and as the model takes and gives them."""

import math
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2 as pb

from pipeline.serving import datatypes, requests
from pipeline.serving.interface import Tensor, size_of
from pipeline.serving.model import Model
from pipeline.serving.refusals import invalid
from pipeline.serving.waiting import Answer
from pipeline.tensors import Array

_TYPED = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""The field that holds a tensor of a type where it is not sent as bytes."""


def parameter(parameters: Any, name: str) -> Any:
    """Return the value of a parameter, None where it is not given."""
    if name not in parameters:
        return None
    one = parameters[name]
    kind = one.WhichOneof("parameter_choice")
    return getattr(one, kind) if kind else None


def feed(model: Model, request: Any) -> tuple[dict[str, Array], int]:
    """Return the inputs of a request and the number of its samples.

    Raises:
        Refused: they are not as the protocol says, or do not fit the model.
    """
    raw, feed, shapes = request.raw_input_contents, {}, {}
    if raw and len(raw) != len(request.inputs):
        raise invalid(f"{len(request.inputs)} inputs, and raw_input_contents of {len(raw)}")
    for place, one in enumerate(request.inputs):
        if one.parameters and requests.SHARED_MEMORY in one.parameters:
            raise invalid("shared memory is not supported: send the tensors' bytes")
        tensor, shape = model.interface.checked(one.name, one.datatype, tuple(one.shape))
        if tensor.name in shapes:
            raise invalid(f"input {tensor.name} is given twice")
        shapes[tensor.name] = shape
        feed[tensor.name] = _raw(tensor, shape, raw[place]) if raw else _typed(tensor, shape, one.contents)
    return feed, model.interface.rows(shapes)


def _raw(tensor: Tensor, shape: tuple[int, ...], data: bytes) -> Array:
    expected = size_of(shape, tensor.dtype)
    if len(data) != expected:
        raise invalid(f"input {tensor.name}: {len(data)} bytes, and its shape takes {expected}")
    array: Array = np.ndarray(shape, tensor.dtype, data)
    return array if array.flags.aligned else array.copy()


def _typed(tensor: Tensor, shape: tuple[int, ...], contents: Any) -> Array:
    field = _TYPED.get(tensor.datatype)
    if field is None:
        raise invalid(f"input {tensor.name}: {tensor.datatype} is sent as raw_input_contents")
    values = getattr(contents, field)
    if len(values) != math.prod(shape):
        raise invalid(f"input {tensor.name}: {len(values)} values in {field}, and its shape takes {math.prod(shape)}")
    return datatypes.from_json(list(values), tensor.dtype, shape, tensor.name)


def wanted(model: Model, request: Any) -> list[requests.Wanted]:
    """Return the outputs that a request asks for; where it names none, all.

    Raises:
        Refused: there is none such.
    """
    found = []
    for one in request.outputs:
        if requests.SHARED_MEMORY in one.parameters:
            raise invalid("shared memory is not supported: leave the outputs to the answer")
        classes = requests.classes(parameter(one.parameters, "classification"))
        found.append(requests.Wanted(model.interface.output(one.name), True, classes))
    return found or [requests.Wanted(one, True, 0) for one in model.interface.outputs.values()]


def response(model: Model, identity: str, wanted: list[requests.Wanted], answer: Answer) -> Any:
    """Return the ModelInferResponse of an answer."""
    made = pb.ModelInferResponse.InferOutputTensor
    found = pb.ModelInferResponse(model_name=model.name, model_version=model.version, id=identity)
    for one in wanted:
        rows, tensor = answer.outputs[one.tensor.name], one.tensor
        if one.classes:
            words = datatypes.classified(rows, one.classes, tensor.classes)
            found.outputs.append(made(name=tensor.name, datatype="BYTES", shape=(len(words), len(words[0]))))
            found.raw_output_contents.append(datatypes.packed([word for row in words for word in row]))
        else:
            found.outputs.append(made(name=tensor.name, datatype=tensor.datatype, shape=rows.shape))
            found.raw_output_contents.append(rows.tobytes())
    return found


def timing(answer: Answer) -> str:
    """Return where the time went, in milliseconds, as the header server-timing of HTTP says it."""
    return f'queue;dur={answer.queue_s * 1e3:.3f}, infer;dur={answer.infer_s * 1e3:.3f}, batch;desc="{answer.batch}"'

"""The answer to a request over REST, as the client asked for it: JSON, bytes, or the largest values by name."""

import json
from typing import Any

from pipeline.serving import datatypes
from pipeline.serving.model import Model
from pipeline.serving.requests import Parsed, Wanted
from pipeline.serving.waiting import Answer
from pipeline.tensors import Array

Headers = list[tuple[bytes, bytes]]

JSON = (b"content-type", b"application/json")
BINARY = (b"content-type", b"application/octet-stream")


def response(model: Model, asked: Parsed, answer: Answer) -> tuple[bytes, Headers]:
    """Return the body and headers of an answer, without those that every answer has."""
    if not all(one.binary and not one.classes for one in asked.outputs):
        return _written(model, asked, answer)
    # Most answers: only bytes, and shapes that were seen before.
    arrays = [answer.outputs[one.tensor.name] for one in asked.outputs]
    shapes = tuple([array.shape for array in arrays])
    known = asked.head.get(shapes)
    if known is None:
        listed = [
            _binary(one.tensor.name, one.tensor.datatype, array.shape, array.nbytes)
            for one, array in zip(asked.outputs, arrays, strict=True)
        ]
        head = _header(model, asked, listed)
        size = len(head) + sum(array.nbytes for array in arrays)
        known = asked.head[shapes] = head, [BINARY, _length(head), (b"content-length", b"%d" % size)]
    head, headers = known
    return b"".join([head, *(array.tobytes() for array in arrays)]), headers


def server_timing(answer: Answer) -> tuple[bytes, bytes]:
    """Return the header that tells where the time went, in milliseconds."""
    said = b'queue;dur=%.3f, infer;dur=%.3f, batch;desc="%d"'
    return b"server-timing", said % (answer.queue_s * 1e3, answer.infer_s * 1e3, answer.batch)


def _written(model: Model, asked: Parsed, answer: Answer) -> tuple[bytes, Headers]:
    listed, behind = [], []
    for one in asked.outputs:
        said, data = _output(one, answer.outputs[one.tensor.name])
        listed.append(said)
        behind.append(data)
    head, data = _header(model, asked, listed), b"".join(behind)
    size = (b"content-length", b"%d" % (len(head) + len(data)))
    headers = [BINARY, _length(head), size] if any(one.binary for one in asked.outputs) else [JSON, size]
    return head + data, headers


def _output(one: Wanted, rows: Array) -> tuple[dict[str, Any], bytes]:
    """Return what the header says of an output, and its bytes behind it."""
    tensor = one.tensor
    if one.classes:
        found = datatypes.classified(rows, one.classes, tensor.classes)
        words = [word for row in found for word in row]
        shape = (len(found), len(found[0]))
        if one.binary:
            data = datatypes.packed(words)
            return _binary(tensor.name, "BYTES", shape, len(data)), data
        return _plain(tensor.name, "BYTES", shape, [word.decode() for word in words]), b""
    if one.binary:
        return _binary(tensor.name, tensor.datatype, rows.shape, rows.nbytes), rows.tobytes()
    return _plain(tensor.name, tensor.datatype, rows.shape, datatypes.to_json(rows, tensor.name)), b""


def _binary(name: str, datatype: str, shape: tuple[int, ...], size: int) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


def _plain(name: str, datatype: str, shape: tuple[int, ...], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def _header(model: Model, asked: Parsed, outputs: list[dict[str, Any]]) -> bytes:
    tree: dict[str, Any] = {"model_name": model.name, "model_version": model.version, "outputs": outputs}
    if asked.id is not None:
        tree["id"] = asked.id
    return json.dumps(tree).encode()


def _length(head: bytes) -> tuple[bytes, bytes]:
    return b"inference-header-content-length", b"%d" % len(head)

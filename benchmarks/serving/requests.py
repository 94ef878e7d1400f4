"""One request of one sample, as bytes that a C client can send over and over: HTTP with binary tensors, and gRPC."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from pipeline.artifacts.bundle import BundleRecord
from pipeline.backends import Session
from pipeline.tensors import Array, Feed

DATATYPES = {"uint8": "UINT8", "float32": "FP32", "int32": "INT32", "int64": "INT64", "float16": "FP16"}


@dataclass(frozen=True)
class Sample:
    """One sample and what the judged runner says of it: `answers` [1, …] by output."""

    model: str
    feed: Feed
    answers: dict[str, Array]


def drawn(record: BundleRecord, session: Session, count: int) -> list[Sample]:
    """Return random samples with the answers that the runner gives in a session of its own."""
    random, found = np.random.default_rng(0), []
    for _ in range(count):
        feed = {
            one.name: random.integers(0, 255, (1, *(size or 8 for size in one.shape[1:]))).astype(one.dtype)
            for one in record.inputs
        }
        answers = {name: rows.copy() for name, rows in session.run(feed).items()}
        found.append(Sample(record.name, feed, answers))
    return found


def inputs(library: Any, sample: Sample) -> list[Any]:
    """Return the inputs of a request as one of tritonclient's libraries wants them."""
    found = []
    for name, rows in sample.feed.items():
        one = library.InferInput(name, list(rows.shape), DATATYPES[rows.dtype.name])
        one.set_data_from_numpy(rows)
        found.append(one)
    return found


def http(sample: Sample) -> tuple[int, bytes]:
    """Return the length of the JSON header, and the body of a request with binary tensors that asks for binary ones."""
    head = {
        "inputs": [
            {
                "name": name,
                "datatype": DATATYPES[rows.dtype.name],
                "shape": list(rows.shape),
                "parameters": {"binary_data_size": rows.nbytes},
            }
            for name, rows in sample.feed.items()
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    return len(text), text + b"".join(rows.tobytes() for rows in sample.feed.values())


def grpc(sample: Sample) -> bytes:
    """Return a ModelInfer request with the five bytes that gRPC puts before a message."""
    message = service_pb2.ModelInferRequest(model_name=sample.model)
    for name, rows in sample.feed.items():
        tensor = message.inputs.add(name=name, datatype=DATATYPES[rows.dtype.name])
        tensor.shape.extend(rows.shape)
        message.raw_input_contents.append(rows.tobytes())
    content: bytes = message.SerializeToString()
    return struct.pack(">BI", 0, len(content)) + content


def wrk_script(sample: Sample, folder: Path) -> Path:
    """Write the Lua script by which wrk sends the request."""
    length, body = http(sample)
    (folder / "body.bin").write_bytes(body)
    script = folder / "post.lua"
    script.write_text(
        f'local file = io.open("{folder / "body.bin"}", "rb")\n'
        'wrk.method = "POST"\n'
        'wrk.body = file:read("*a")\n'
        f'wrk.headers["Inference-Header-Content-Length"] = "{length}"\n'
        'wrk.headers["Content-Type"] = "application/octet-stream"\n',
        encoding="ascii",
    )
    return script

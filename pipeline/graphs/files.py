"""ONNX models as files. The weights of a large one are in a file beside it.

A model whose weights are `DATA_FROM` bytes or more is written as `model.onnx` and `model.onnx.data`. The first has the
SHA-256 of the second in its metadata, so that the digest of `model.onnx` stands for both.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple

from google.protobuf.message import DecodeError, EncodeError, Message
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pipeline import digests
from pipeline.errors import ArtifactError, BuildError
from pipeline.graphs import external
from pipeline.graphs.external import DATA_SHA256
from pipeline.graphs.weights import is_large, with_constants

DATA_FROM = 256 * 2**20
"""Bytes of weights from which on they have a file of their own: a protobuf file can hold 2 GB at most, and ONNX Runtime
takes less memory to read this one."""

PAGE = 4096
"""Bytes to which tensors are aligned in the file, as ONNX recommends, so that they can be mapped into memory."""

AGAIN = "Run `make export engine`."


class Stored(NamedTuple):
    """The bytes of a model's file, and of those that hold its weights, by their names in the model."""

    content: bytes
    data: dict[str, bytes]


def size(model: ModelProto) -> int:
    """Return the bytes of a graph's weights."""
    return sum(
        helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize * prod(tensor.dims)
        for tensor in model.graph.initializer
        if is_large(tensor)
    )


def data_of(path: Path) -> Path:
    """Return where the weights of the model at `path` are, if they are large."""
    return path.with_name(f"{path.name}.data")


def written(path: Path) -> int:
    """Return the bytes of a model's file, and of its weights' file where it has one."""
    return sum(one.stat().st_size for one in (path, data_of(path)) if one.exists())


def save(model: ModelProto, path: Path) -> None:
    """Write a model, with its weights in a file of their own where they are large; the model is left as it was.

    Raises:
        BuildError: even without its weights it is too large for a file.
    """
    if size(model) < DATA_FROM:
        path.write_bytes(_serialized(model))
        return
    data = data_of(path)
    with data.open("wb") as file:
        constants = [_moved(one, file, data.name) if is_large(one) else one for one in model.graph.initializer]
    light = with_constants(model, constants)
    light.metadata_props.add(key=DATA_SHA256, value=digests.of_file(data))
    path.write_bytes(_serialized(light))


@contextmanager
def loadable(model: ModelProto) -> Iterator[bytes | Path]:
    """Yield a model as backends load it: its bytes, or a file for the time of the block where its weights are large."""
    if size(model) < DATA_FROM:
        content = _serialized(model)
        del model  # in the block its caller may need the room
        yield content
        return
    with TemporaryDirectory(prefix="pipeline-") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path)
        del model
        yield path


def load(path: Path, sha256: str | None = None, *, weights: bool = True) -> ModelProto:
    """Read a model with all its weights; or, where only its nodes are wanted, without those in other files.

    Raises:
        ArtifactError: it is not there, is no ONNX model or not that of the digest, or its weights are damaged or not in
            its folder.
    """
    content = read(path, sha256)
    model = parse(content, path)
    del content  # as large as the model may be
    elsewhere = external.by_file(model, path)
    if weights:
        expected = external.sha256_of_data(model)
        for location, tensors in elsewhere.items():
            with external.opened(path, location, expected) as file:
                for tensor in tensors:
                    external.bring(tensor, file, path)
        others = {one.key: one.value for one in model.metadata_props if one.key != DATA_SHA256}
        helper.set_model_props(model, others)
    return model


def read(path: Path, sha256: str | None) -> bytes:
    """Return the bytes of a model's file, which have this digest where one is given.

    Raises:
        ArtifactError: it is not there, or has another.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist", AGAIN) from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}", AGAIN) from error
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ArtifactError(f"{path} has changed since it was published", "Run `make engine`.")
    return content


def stored(path: Path, sha256: str | None = None) -> Stored:
    """Return a model's file and those of its weights: what was checked, so that a library need not open any.

    Raises:
        ArtifactError: as `load`; or a digest was given, and the model has none of its weights' file.
    """
    content = read(path, sha256)
    data = {}
    for location, expected in _files(content, path):
        if sha256 and not expected:
            raise ArtifactError(f"{path} has no digest of its weights in {location!r}", AGAIN)
        with external.opened(path, location, expected) as file:
            data[location] = file.read()
    return Stored(content, data)


def verified(path: Path) -> bytes:
    """Return the bytes of a model's file, after checking those of its weights for a library that reads them itself.

    Raises:
        ArtifactError: as `load`.
    """
    content = read(path, None)
    for location, expected in _files(content, path):
        with external.opened(path, location, expected):
            pass
    return content


def digest(path: Path) -> str:
    """Return the SHA-256 of a model's file; where its weights are in others, of the digests of all.

    Raises:
        ArtifactError: as `load`.
    """
    content = read(path, None)
    found = [hashlib.sha256(content).hexdigest()]
    for location, _ in _files(content, path):
        with external.opened(path, location, None) as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found[0] if len(found) == 1 else hashlib.sha256("\n".join(found).encode()).hexdigest()


def parse(content: bytes, path: Path) -> ModelProto:
    """Return the ONNX model that a file's bytes are; `path` is where they were read.

    Raises:
        ArtifactError: they are none.
    """
    model = ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ArtifactError(f"{path} is not a readable ONNX model: {error}", AGAIN) from error
    if wrong := next(_not_text(model), None):
        raise ArtifactError(f"{path} is not a readable ONNX model: the name {wrong[:40]!r} in it is not UTF-8", AGAIN)
    return model


def _not_text(message: Message) -> Iterator[bytes]:
    """Yield what is to be text in a message and is not UTF-8: protobuf gives bytes for it, which no library expects."""
    for field, value in message.ListFields():
        for one in value if field.is_repeated else [value]:
            if field.message_type is not None:
                yield from _not_text(one)
            elif field.type == field.TYPE_STRING and isinstance(one, bytes):
                yield one
            elif field.type != field.TYPE_STRING:
                break  # of numbers there may be millions


def _files(content: bytes, path: Path) -> list[tuple[str, str | None]]:
    """Return the names of the files that hold a model's weights, each with the digest that the model has of it."""
    if b"location" not in content:  # the key by which every such tensor names its file
        return []
    model = parse(content, path)
    return [(location, external.sha256_of_data(model)) for location in external.by_file(model, path)]


def _serialized(model: ModelProto) -> bytes:
    try:
        content: bytes = model.SerializeToString()
    except EncodeError as error:  # protobuf's limit, of which its words say nothing
        raise BuildError(
            "the graph cannot be written: it has 2 GB or more even without its weights",
            "Make what Constant nodes and the bodies of Loop, Scan and If hold constants of the graph (initializers).",
        ) from error
    return content


def _moved(tensor: TensorProto, file: BinaryIO, name: str) -> TensorProto:
    """Write a tensor's content to the end of a file, and return one that says where it is."""
    content = tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    file.write(b"\0" * (-file.tell() % PAGE))
    moved = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims, doc_string=tensor.doc_string)
    moved.data_location = TensorProto.EXTERNAL
    for key, value in (("location", name), ("offset", file.tell()), ("length", len(content))):
        moved.external_data.add(key=key, value=str(value))
    file.write(content)
    return moved

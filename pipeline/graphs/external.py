"""Weights in files beside an ONNX model: where they are, and that they are ordinary files in the model's own folder.

Others are refused before any library sees the model: by such a path a model could have any file of its reader's read,
and published.
"""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from google.protobuf.message import Message
from onnx import ModelProto, TensorProto

from pipeline.errors import ArtifactError

DATA_SHA256 = "data_sha256"
"""Under which a model that we wrote has the digest of its weights' file in its metadata."""

MOST = 2**31 - 1
"""Bytes that a protobuf file, or a tensor in one, can have."""

INSIDE = "Its weights must be ordinary files in the model's own folder, and no links. Copy them there."


def tensors(message: Message) -> Iterator[TensorProto]:
    """Yield every tensor of a model, wherever it is: in a graph, a body, an attribute, a function."""
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                if isinstance(one, TensorProto):
                    yield one
                else:
                    yield from tensors(one)


def by_file(model: ModelProto, path: Path) -> dict[str, list[TensorProto]]:
    """Return the tensors whose content is in other files, by the names of these files, all below the model's folder.

    Raises:
        ArtifactError: a tensor names no file, several, or one elsewhere.
    """
    found: dict[str, list[TensorProto]] = {}
    for tensor in tensors(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            named = [one.value for one in tensor.external_data if one.key == "location"]
            if len(named) != 1:
                raise ArtifactError(f"{path}: tensor {tensor.name!r} names {len(named)} files for its content", INSIDE)
            found.setdefault(named[0], []).append(tensor)
    for location in found:
        if why := _leads_out(location):
            raise ArtifactError(f"{path}: its weights are in {location!r}, which is {why}", INSIDE)
    return found


def sha256_of_data(model: ModelProto) -> str | None:
    """Return the digest that a model has of its weights' file; None of one that we did not write."""
    return next((one.value for one in model.metadata_props if one.key == DATA_SHA256), None)


@contextmanager
def opened(path: Path, location: str, sha256: str | None) -> Iterator[BufferedReader]:
    """Open the file `location` in the folder of the model at `path`, and check its digest where one is known.

    Raises:
        ArtifactError: it is not there, no ordinary file, or has changed.
    """
    named = f"{path}: its weights are in {location!r}"
    steps = PurePosixPath(location).parts
    for step in (path.parent.joinpath(*steps[: count + 1]) for count in range(len(steps))):
        if step.is_symlink():
            raise ArtifactError(f"{named}, and {step} is a symbolic link", INSIDE)
    try:
        # Neither a link that was put there meanwhile is followed, nor is a pipe waited for.
        number = os.open(path.parent / location, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        why = (
            "which is not there" if isinstance(error, FileNotFoundError) else f"which cannot be read: {error.strerror}"
        )
        raise ArtifactError(f"{named}, {why}", INSIDE) from error
    found = os.fstat(number)
    if not stat.S_ISREG(found.st_mode):
        os.close(number)
        raise ArtifactError(f"{named}, which is no ordinary file", INSIDE)
    with os.fdopen(number, "rb") as file:
        if sha256 is None and found.st_nlink > 1:  # of a file whose digest is known, another name gives nothing away
            raise ArtifactError(f"{named}, which has {found.st_nlink} names: it is a hard link", INSIDE)
        if sha256 is not None and hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise ArtifactError(
                f"{path.with_name(location)} has changed since it was published", "Run `make export engine`."
            )
        file.seek(0)
        yield file


def bring(tensor: TensorProto, file: BinaryIO, path: Path) -> None:
    """Read a tensor's content from its file into it.

    Raises:
        ArtifactError: the file has not what the tensor says.
    """
    given = {one.key: one.value for one in tensor.external_data}
    there = os.fstat(file.fileno()).st_size
    try:
        offset = int(given.get("offset", 0))
        length = int(given.get("length", there - offset))
    except ValueError:
        offset = length = -1
    if min(offset, length) < 0 or length > MOST or offset + length > there:
        raise ArtifactError(
            f"{path}: tensor {tensor.name!r} is said to be {given.get('length', 'all')} bytes from "
            f"{given.get('offset', 0)} on in {given['location']!r}, which has {there}",
            "The file is damaged, or is not the one that belongs to the model.",
        )
    file.seek(offset)
    tensor.raw_data = file.read(length)
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")


def _leads_out(location: str) -> str:
    """Say why a name cannot be that of a file below the model's folder; empty where it can."""
    if not location.strip() or any(ord(character) < 32 for character in location):
        return "no name of a file"
    windows = PureWindowsPath(location)
    if PurePosixPath(location).is_absolute() or windows.drive or windows.root:
        return "an absolute path"
    if ".." in windows.parts:  # which takes both slashes for what divides a path
        return "a path out of the model's folder"
    return ""

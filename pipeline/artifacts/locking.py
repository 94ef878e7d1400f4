"""The lock on a folder of artifacts: one run at a time."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.artifacts import system_calls
from pipeline.errors import ArtifactError, NotWritable

FILE = ".lock"


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep a second run out of a folder, which is made if need be.

    Raises:
        NotWritable: the folder cannot be written.
        ArtifactError: another run is using it, or its file system cannot lock.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        # Through no link, which may lead to a file of the user's.
        descriptor = os.open(root / FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise NotWritable(f"{root} cannot be written: {error}", "Set artifacts=DIR to another.") from error
    try:
        _lock(descriptor, root)
        yield
    finally:
        with suppress(OSError):  # a network's file system says so late what of an empty file does not matter
            os.close(descriptor)  # which unlocks it; the file stays, for others that wait to lock the same one


def _lock(descriptor: int, root: Path) -> None:
    try:
        system_calls.lock(descriptor)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):  # EACCES: what some file systems answer instead
            raise ArtifactError(f"another run is using {root}", "Wait for it, or set artifacts=DIR.") from error
        raise ArtifactError(
            f"the file system of {root} cannot lock a file: {error.strerror}",
            "Set artifacts=DIR to a folder on a local disk, and copy the artifacts from there.",
        ) from error

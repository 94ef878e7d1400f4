"""Faults of a file system, as it answers them or as libraries say them: here they become ArtifactErrors."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import ArtifactError, PipelineError, first_line

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What is wrong with the disk, wherever below it: temporary files may be on it, too."""

NAMELESS = (errno.EIO, getattr(errno, "ESTALE", errno.EIO))
"""What only a file system answers, where reading or writing an open file does not know its name."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn faults of the file system below a folder that is written, and a full disk anywhere, into an ArtifactError.

    What says nothing of the folder passes: a user's function that cannot reach a database raises OSError, too.
    """
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:
        if not _is_of(error, folder):
            raise
        room = "Make room" if _is_full(error) else "Mend that"
        elsewhere = "" if _names(error) or not _is_full(error) else _or_temporary_files(folder)
        raise ArtifactError(
            f"cannot write below {folder}{elsewhere}: {_said(error)}",
            f"{room}, or set artifacts=DIR to another folder. What was published before is unchanged.",
        ) from error


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn every fault of the file system while a folder is read into an ArtifactError."""
    try:
        yield
    except OSError as error:
        raise ArtifactError(
            f"cannot read below {folder}: {_said(error)}", "See who may read it, and whether its disk is well."
        ) from error


def _is_of(error: Exception, folder: Path) -> bool:
    if _is_full(error):
        return True
    if not isinstance(error, OSError) or error.errno is None:
        return False
    names = _names(error)
    if not names:
        return error.errno in NAMELESS
    return any(_concerns(name.absolute(), folder.absolute()) for name in names)


def _concerns(path: Path, folder: Path) -> bool:
    """Tell whether a path is the folder, below it, above it, or what is written beside it."""
    if folder.is_relative_to(path):
        return True
    if not path.is_relative_to(folder.parent):
        return False
    top = path.relative_to(folder.parent).parts[0]
    return top == folder.name or top.startswith(f".{folder.name}.")


def _is_full(error: Exception) -> bool:
    """Tell whether the disk is full or read-only, also where a library says so in an exception of its own."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in FULL
    text = str(error)
    # The last is NumPy's tofile, which knows no more than that less was written than asked.
    return any(os.strerror(number) in text for number in FULL) or ("requested and" in text and "written" in text)


def _or_temporary_files(folder: Path) -> str:
    """Say where the other full disk may be, of an error that does not: on the way out, both have room again."""
    temporary = Path(tempfile.gettempdir())
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return "" if temporary.stat().st_dev == there.stat().st_dev else f", or temporary files in {temporary}"


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        # Of two files, as of a copy, the second is the one that was written.
        return ": ".join([error.strerror, *map(str, _names(error)[-1:])])
    # A library says it in the middle of much else, as TensorFlow with its own names of operations.
    known = (os.strerror(number) for number in FULL if os.strerror(number) in str(error))
    return next(known, first_line(error))


def _names(error: Exception) -> list[Path]:
    """Return the files that an error names."""
    names = (error.filename, error.filename2) if isinstance(error, OSError) else ()
    return [Path(os.fsdecode(name)) for name in names if isinstance(name, str | bytes | os.PathLike)]

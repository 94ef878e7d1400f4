"""Where a process keeps temporary files: what libraries leave when they fail, or are ended, goes with a folder."""

import atexit
import os
import shutil
import tempfile

LONGEST = 75
"""Characters of a folder's name up to which the standard library's sockets have room in it: 107 in all, on Linux."""

_own: list[str] = []


def keep_in(folder: str) -> None:
    """Have this process, and those it starts, make temporary files in a folder; who made it removes it with them.

    A worker process ends without a word to its libraries: TensorFlow would leave a file for each function it converts.
    """
    os.environ["TMPDIR"] = folder
    tempfile.tempdir = folder


def keep_apart() -> None:
    """Keep temporary files in a folder of this process's own, which goes with it, where its name is not too long.

    Raises:
        OSError: it cannot be made.
    """
    if _own:
        return
    _own.append(tempfile.mkdtemp(prefix="pipeline-"))
    atexit.register(remove)
    if len(_own[0]) <= LONGEST:
        keep_in(_own[0])


def remove() -> None:
    """Remove that folder: for a process that ends without what is registered for its end."""
    while _own:
        shutil.rmtree(_own.pop(), ignore_errors=True)

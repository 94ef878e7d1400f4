"""Two calls of Linux as Python does not offer them: exchange two folders at once, and lock without waiting for ever."""

import ctypes
import errno
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any

AT_FDCWD, RENAME_EXCHANGE = -100, 2
LOCK_EX, LOCK_NB = 2, 4
INTERRUPTIONS = 100
"""So often a lock is asked for again where a signal came in between; Python itself would ask for ever."""


def exchange(one: Path, other: Path) -> bool:
    """Let two folders change places, so that neither name is ever without a folder; False where that cannot be done.

    Some file systems (NFS, FAT) and systems do not offer it. Why it failed is not said: whoever takes two renames
    instead hears from these.
    """
    if not hasattr(_libc(), "renameat2"):
        return False
    sys.audit("os.rename", one, other, -1, -1)
    paths = os.fsencode(one), os.fsencode(other)
    return bool(_libc().renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0)


def lock(descriptor: int) -> None:
    """Lock an open file for this process alone, until it is closed.

    Raises:
        OSError: as the system says; BlockingIOError where another process has it.
    """
    for _ in range(INTERRUPTIONS):
        if _libc().flock(descriptor, LOCK_EX | LOCK_NB) == 0:
            return
        number = ctypes.get_errno()
        if number != errno.EINTR:
            break
    raise OSError(number, os.strerror(number))


@cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)

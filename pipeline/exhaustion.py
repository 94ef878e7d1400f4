"""What a process runs out of: memory, open files, threads, room for temporary files.

Each library says so in its own way, or ends the process without a word. The first becomes one error here; what is known
to end without a word is refused before it is begun.
"""

import errno
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import NamedTuple

from pipeline import environment
from pipeline.errors import LimitReached, first_line

GIB = 2**30

FRAMEWORKS_GIB = 4
"""Address space without which TensorFlow ends the process: its libraries alone take half of that, its threads more."""

THREADS, THREADS_PER_CORE = 24, 8
"""What TensorFlow starts in a training; it aborts where it cannot."""

STACK_BYTES = 256 * 1024
"""Of a thread that only waits."""

OPEN_FILES = 1024
"""What Linux allows a process by itself, and what is asked for where less is allowed and more may be."""

FEWEST_FILES = 24
"""With fewer, Python finds none of its modules, without saying so, and removes no folder."""


class _Kind(NamedTuple):
    """A thing that runs out: as the system numbers it, as libraries say it, and by which `ulimit` it is limited."""

    what: str
    numbers: tuple[int, ...]
    words: tuple[str, ...]
    limit: str
    letter: str
    hint: str


KINDS = (
    _Kind(
        "memory",
        (errno.ENOMEM,),
        (
            *("cannot allocate memory", "out of memory", "bad_alloc", "unable to allocate", "failed to map segment"),
            *("oom when allocating", "resource_exhausted", "failed to allocate memory"),
        ),
        "RLIMIT_AS",
        "v",
        "Give it more, or take smaller batches.",
    ),
    _Kind(
        "open files",
        (errno.EMFILE, errno.ENFILE),
        ("too many open files",),
        "RLIMIT_NOFILE",
        "n",
        f"Allow more: `ulimit -n {OPEN_FILES}`.",
    ),
    _Kind(
        "processes or threads",
        (errno.EAGAIN,),
        ("can't start new thread", "pthread_create", "resource temporarily unavailable"),
        "RLIMIT_NPROC",
        "u",
        "Allow more: `ulimit -u`, or pids.max of the container.",
    ),
    _Kind(
        "room on a disk",
        (errno.ENOSPC, errno.EDQUOT),
        ("no space left on device", "disk quota exceeded"),
        "",
        "",
        "Make room, or set TMPDIR to another folder: temporary files are in {temporary}.",
    ),
    _Kind(
        "the size that a file may have",
        (errno.EFBIG,),
        ("file too large",),
        "RLIMIT_FSIZE",
        "f",
        "Allow more: `ulimit -f unlimited`.",
    ),
)


def told(error: BaseException) -> LimitReached | None:
    """Return an error as what ran out, where it or what it came of says so; None where it is anything else."""
    for one in _chain(error):
        if kind := _kind(one):
            return LimitReached(f"{kind.what} ran out: {first_line(one)}{_allowed(kind)}", _hint(kind))
    return None


def memory(what: str) -> LimitReached:
    """Return the error for a process that ended without a word, as most do for want of memory."""
    return LimitReached(f"{what}{_allowed(KINDS[0])}", "Most probably memory ran out: give it more.")


def prepare() -> None:
    """Take as many open files as are allowed without asking, where that is few.

    Raises:
        LimitReached: it is next to none.
    """
    if sys.platform == "win32":  # which has no such limits
        return
    import resource

    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if most == resource.RLIM_INFINITY else min(most, OPEN_FILES)
    if now != resource.RLIM_INFINITY and now < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    if wanted < FEWEST_FILES:
        raise LimitReached(f"`ulimit -n` allows {wanted} open files", f"Allow more: `ulimit -n {OPEN_FILES}`.")


def check(what: str) -> None:
    """Refuse to begin what would end the process for want of address space or threads.

    Raises:
        LimitReached: `ulimit -v` allows too little, or `ulimit -u` or the container's pids.max too few.
    """
    allowed = _limit(KINDS[0])
    if allowed is not None and allowed < FRAMEWORKS_GIB * GIB:
        raise LimitReached(
            f"{what} needs {FRAMEWORKS_GIB} GiB of address space at the very least, "
            f"and `ulimit -v` allows {allowed / GIB:.1f} GiB",
            "Allow more: `ulimit -v unlimited`.",
        )
    wanted = THREADS + THREADS_PER_CORE * environment.cpu_count()
    if (found := _startable(wanted)) < wanted:
        raise LimitReached(f"{what} needs some {wanted} threads, and {found} could be started", KINDS[2].hint)


def _startable(wanted: int) -> int:
    """Return how many threads can be started, up to a number: no limit tells, as there are several."""
    done, size = threading.Event(), threading.stack_size(STACK_BYTES)
    started: list[threading.Thread] = []
    try:
        for _ in range(wanted):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError:  # can't start new thread
        pass
    finally:
        done.set()
        threading.stack_size(size)
    for thread in started:
        thread.join()
    return len(started)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it came of."""
    seen: list[BaseException] = []
    one: BaseException | None = error
    while one is not None and one not in seen:
        yield one
        seen.append(one)
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)


def _kind(error: BaseException) -> _Kind | None:
    if isinstance(error, MemoryError):
        return KINDS[0]
    if isinstance(error, OSError) and error.errno is not None:
        return next((kind for kind in KINDS if error.errno in kind.numbers), None)
    text = str(error).lower()
    return next((kind for kind in KINDS if any(words in text for words in kind.words)), None)


def _limit(kind: _Kind) -> int | None:
    if sys.platform == "win32" or not kind.limit:
        return None
    import resource

    allowed = resource.getrlimit(getattr(resource, kind.limit))[0]
    return None if allowed == resource.RLIM_INFINITY else allowed


def _allowed(kind: _Kind) -> str:
    """Say what `ulimit` allows, in its own unit, where that may be the reason."""
    allowed = _limit(kind)
    if allowed is None:
        return ""
    return f" (`ulimit -{kind.letter}` allows {f'{allowed / GIB:.1f} GiB' if kind.letter in 'vf' else allowed})"


def _hint(kind: _Kind) -> str:
    return kind.hint.format(temporary=tempfile.gettempdir()) + " What was published before is unchanged."

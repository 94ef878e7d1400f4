"""Worker processes: started and ended in bounded time, whatever happens to them or to the server they are forked from.

What hangs is killed when its time is over; who waits for it then hears that it has ended.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing import forkserver
from types import ModuleType
from typing import Any

from pipeline import interruption

START_S = 120.0
"""A server that has forked no process within this, its own start with all imports included, is replaced by another."""

END_S = 10.0
"""For how long a process may take to end in order, and a killed one to be heard of."""

UNKNOWN = 255
"""The exit code that a process seems to have when the server that would have told it is gone."""


@cache
def context() -> Any:
    """Return how processes are started here: forked from a server that has the frameworks imported, or from scratch."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    atexit.register(_kill_server)  # by itself it takes seconds to end, with what it has imported, after this process
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["pipeline.runners.preload"])
    return found


@contextmanager
def watched(limit_s: float, kill: Callable[[], object]) -> Iterator[threading.Event]:
    """Kill what the block waits for where it takes longer than a limit; the event tells."""
    late = threading.Event()

    def end() -> None:
        late.set()
        kill()

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def start(process: Any) -> None:
    """Start a process.

    Raises:
        OSError, EOFError: the server from which it is forked has died, or took too long and was killed; the next start
            has another one.
    """
    with watched(START_S, _kill_server):
        try:
            with interruption.deferred(), _main_module_left_out():
                process.start()
        except (OSError, EOFError):
            _kill_server()  # it is about to end, if it has not
            raise


@contextmanager
def _main_module_left_out() -> Iterator[None]:
    """Have a new process not import again what this one was started as: nothing of it is needed there.

    It would take time, and a script of the user's that has no `if __name__ == "__main__"` would run again.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def kill(process: Any) -> None:
    """Kill a process that was started."""
    if hasattr(signal, "SIGKILL"):
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    else:
        process.kill()


def end(process: Any) -> None:
    """Kill a process, if it runs at all, and wait for its end."""
    if process.pid is None:
        return
    forked = getattr(process, "_start_method", "") == "forkserver"
    if process.exitcode is None or (forked and process.exitcode == UNKNOWN):
        kill(process)
    process.join(END_S)
    if forked and process.exitcode is None:  # the server is stopped, or it would have told
        _kill_server()


def _kill_server() -> None:
    pid = getattr(forkserver, "_forkserver")._forkserver_pid  # noqa: B009  which is private, and mypy does not know
    if pid is not None:
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # WNOWAIT: multiprocessing is to find that it ended

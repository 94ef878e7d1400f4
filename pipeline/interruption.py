"""Ctrl-C, SIGTERM and SIGHUP: each ends a command in the same way, at every moment, with 128 + its number.

While the command line is imported nothing has begun, and the process ends at once. Then each is a KeyboardInterrupt:
what was begun is removed on the way out. When the work is done, its exit code stays what it is. A part of the pipeline
that does something else on a signal, as a training that saves a checkpoint, has its own handler for as long.

What the process was started to ignore, as SIGHUP by `nohup`, stays ignored.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Windows has no SIGHUP."""

AGAIN_S = 1.0
"""A SIGTERM or SIGHUP so soon after another is the same: a closed terminal sends one by the shell and one itself."""

LOST_S = 0.05
"""After so long a signal that was lost comes again: no longer in the midst of what lost it."""

SAID = "interrupted; what was published before is unchanged"

Handler = Callable[[int, FrameType | None], object]


class _Received:
    """The last signal, if any, and when."""

    number: int | None = None
    at = 0.0
    code: int | None = None
    """The exit code, once the work is done."""


_received = _Received()


def received() -> bool:
    """Tell whether a signal has come."""
    return _received.number is not None


def exit_code() -> int:
    """Return the exit code for the last signal; that of Ctrl-C where none is known of."""
    return 128 + (_received.number or signal.SIGINT)


def record(number: int) -> bool:
    """Remember a signal for the exit code; tell whether it is a new one."""
    now = time.monotonic()
    new = not received() or number == signal.SIGINT or now - _received.at > AGAIN_S
    _received.number, _received.at = number, now
    return new


def starting() -> None:
    """End the process at once from now on, in a line: for the time in which the command line is imported."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        with suppress(OSError):
            os.write(2, f"{SAID}\n".encode())
        os._exit(128 + number)

    _handle(end)
    atexit.register(_last)  # the first to come is called last


def begin() -> None:
    """Raise KeyboardInterrupt from now on; where Python passes over it, soon again."""
    _received.number = None
    passed_over = sys.unraisablehook

    def unraisable(what: "sys.UnraisableHookArgs") -> None:
        if received() and isinstance(what.exc_value, KeyboardInterrupt):
            _send_again()
        else:
            passed_over(what)

    sys.unraisablehook = unraisable

    def interrupt(number: int, frame: FrameType | None) -> None:
        if record(number):
            if _being_imported("numpy"):  # whose C code prints whatever cuts its import short
                return _send_again()
            raise KeyboardInterrupt

    _handle(interrupt)


def done(code: int) -> None:
    """Leave the exit code as it is from now on: the work is done. A second signal ends a process that does not end."""
    pressed: list[float] = []
    _received.code = code

    def ignore(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if pressed and now - pressed[0] > AGAIN_S:
            os._exit(code)
        pressed[:] = pressed or [now]

    _handle(ignore)


@contextmanager
def deferred() -> Iterator[None]:
    """Let signals wait until the end of the block: a process whose start they cut short would not be known here."""
    if threading.current_thread() is not threading.main_thread():  # which alone may take signals
        yield
        return
    waiting: list[int] = []
    before = handlers()
    for number in before:
        signal.signal(number, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        restore(before)
    for number in waiting[:1]:
        handler = before[number]
        if callable(handler):
            handler(number, None)
        else:
            signal.raise_signal(number)


@contextmanager
def interrupting() -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does where it would end the process: a program of a user's calls the package."""
    ends = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if threading.current_thread() is not threading.main_thread() or not ends:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def blocked() -> Iterator[None]:
    """As `deferred`, for this thread by the system; a process started in the block never gets them but SIGKILL."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent() -> None:
    """Ignore, in a worker process, what a terminal sends to all processes: the one that asks ends this one."""
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)


def handlers() -> dict[int, Any]:
    """Return who handles each signal that is not ignored."""
    found = {number: signal.getsignal(number) for number in SIGNALS}
    return {number: handler for number, handler in found.items() if handler is not signal.SIG_IGN}


def restore(before: dict[int, Any]) -> None:
    """Give signals back to those who handled them (see `handlers`)."""
    if threading.current_thread() is threading.main_thread():  # which alone may take signals
        for number, handler in before.items():
            signal.signal(number, handler)


def _being_imported(name: str) -> bool:
    spec = getattr(sys.modules.get(name), "__spec__", None)
    return bool(getattr(spec, "_initializing", False))


def _send_again() -> None:
    """Send the last signal to this process once more, for a moment in which it cannot be obeyed.

    What a finaliser or the collector's callback raises is lost.
    """
    _received.at = -AGAIN_S
    again = threading.Timer(LOST_S, os.kill, (os.getpid(), _received.number))
    again.daemon = True
    again.start()


def _handle(handler: Handler) -> None:
    if threading.current_thread() is threading.main_thread():  # which alone may take signals
        for number in handlers():
            signal.signal(number, handler)


def _last() -> None:
    """End what is left of an interrupted process here; let no signal cut the rest of another one short.

    A KeyboardInterrupt that passed through code that a library ran by PyRun_String, as at TensorFlow's import, is noted
    by the interpreter as unhandled, whatever came of it: it would end by SIGINT instead of with the exit code.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if received() and _received.code is not None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(_received.code)

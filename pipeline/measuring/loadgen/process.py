"""A process for work that cannot be interrupted from inside, because foreign code has the stack."""

import multiprocessing
import os
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from pipeline import interruption, temporary
from pipeline.errors import PipelineError
from pipeline.runners import processes

Tell = Callable[[Any], None]
"""Sends something, which is not None, to the process that waits."""

Fail = Callable[[BaseException], NoReturn]
"""Ends the process at once; what is passed is raised in the one that waits."""

Work = Callable[..., None]
"""Called in the new process with a `Tell`, a `Fail` and the arguments."""

Receive = Callable[[float | None], Any]
"""Returns the next thing sent, or None where it takes longer than the seconds given; raises what was raised."""


@contextmanager
def isolated(work: Work, *arguments: object) -> Iterator[Receive]:
    """Run `work` in a new process for the time of a `with` block, at whose end the process is killed.

    Signals are for the process that waits: so it ends the work, wherever that is. The work ends with its parent, too.

    Raises (the function yielded):
        PipelineError: the process died, or raised it.
        RuntimeError: it raised anything else; the message is its traceback.
    """
    folder = tempfile.TemporaryDirectory(prefix="worker-", ignore_cleanup_errors=True)
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, folder.name, work, arguments))
    resource_tracker.ensure_running()  # else the start does it, and unblocks the signals

    def receive(timeout_s: float | None) -> Any:
        if not here.poll(timeout_s):
            return None
        try:
            message = here.recv()
        except EOFError:
            process.join()
            raise PipelineError(
                f"the worker process ended with exit code {process.exitcode}", "-9 usually means that memory ran out."
            ) from None
        if isinstance(message, BaseException):
            raise message
        return message

    try:
        with interruption.blocked():  # inherited, from the first instruction on
            process.start()
        there.close()
        yield receive
    finally:
        processes.end(process)
        here.close()
        folder.cleanup()


def _serve(pipe: Connection, folder: str, work: Work, arguments: tuple[object, ...]) -> None:
    temporary.keep_in(folder)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def fail(error: BaseException) -> NoReturn:
        raised = error if isinstance(error, PipelineError) else RuntimeError("".join(traceback.format_exception(error)))
        pipe.send(raised)
        os._exit(1)

    try:
        work(pipe.send, fail, *arguments)
    except BaseException as error:
        fail(error)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

"""Measuring a case in a process of its own, with a limit of memory and of time."""

import multiprocessing
import os
import resource
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.coverage.case import STEPS

MEMORY = 9 * 2**30
"""Bytes of address space that a case may take."""

SECONDS = 240
"""How much time of a processor a case may take: the clock says little on a machine that others use."""

PATIENCE = 3600
"""How long a case may take by the clock, in seconds: one that waits for something takes no processor's time."""


def in_a_child(key: str, patience: float = PATIENCE) -> dict[str, Any]:
    """Measure a case in a process that has a limit of memory and of time; return what it found or how it ended.

    The process is forked from one that has imported TensorFlow and done nothing else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.coverage.every", "benchmarks.coverage.measure"])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(key, theirs))
    child.start()
    theirs.close()
    found: dict[str, Any] = {}
    try:
        while "seconds" not in found:
            if not ours.poll(patience):
                return found | {_next(found): f"took more than {patience:g} s"}
            found = ours.recv()
        return found
    except EOFError:
        child.join(10)
        code = child.exitcode or 0
        ended = signal.Signals(-code).name if code < 0 else code
        return found | {_next(found): f"the process ended with {ended}"}
    finally:
        child.kill()
        child.join()


def _next(found: dict[str, Any]) -> str:
    return next(step for step in STEPS if step not in found)


def _child(key: str, answer: Connection) -> None:
    from benchmarks.coverage.every import BY_KEY
    from benchmarks.coverage.measure import measure, reason

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        answer.send(measure(BY_KEY[key], tell=answer.send))
    except Exception as error:  # Keras itself refuses the case, or the memory is not enough
        answer.send({"export": f"in Keras: {reason(error)}", "seconds": 0})

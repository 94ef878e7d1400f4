"""Measuring a case in a process of its own, with a limit of memory and of time."""

import multiprocessing
import os
import resource
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MEMORY = 9 * 2**30
"""Bytes of address space that a case may take."""

SECONDS = 240
"""How long a case may take."""


def in_a_child(key: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Measure a case in a process that has a limit of memory and of time; return what it found or how it ended.

    The process is forked from one that has imported TensorFlow and done nothing else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.coverage.every", "benchmarks.coverage.measure"])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(key, theirs))
    child.start()
    theirs.close()
    try:
        if not ours.poll(seconds):
            return {"export": f"took more than {seconds:g} s"}
        found: dict[str, Any] = ours.recv()
        return found
    except EOFError:
        child.join(10)
        return {"export": f"the process ended with {child.exitcode}"}
    finally:
        child.kill()
        child.join()


def _child(key: str, answer: Connection) -> None:
    from benchmarks.coverage.every import BY_KEY
    from benchmarks.coverage.measure import measure

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    try:
        answer.send(measure(BY_KEY[key]))
    except Exception as error:  # Keras itself refuses the case, or the memory is not enough
        answer.send({"export": f"in Keras: {type(error).__name__}: {' '.join(str(error).split())[:200]}"})

"""What ends a process, or does not end: for trials. It imports little, since each process does so anew."""

import json
import os
import signal
import tempfile
from pathlib import Path

import numpy as np

from pipeline.errors import BuildError, DataError, PipelineError


def goes_well() -> None:
    print("not heard outside")
    tempfile.mkdtemp()


def divides_by_nothing() -> None:
    os.write(2, b"\x1b[31mF kernel.cc:7]\x1b[0m Check failed: stride > 0\n")
    os.kill(os.getpid(), signal.SIGFPE)


def is_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def exits() -> None:
    raise SystemExit(0)


def ends_at_once() -> None:
    os._exit(7)


def takes_all_memory() -> None:
    rows = [np.empty(1 << 27) for _ in range(1 << 20)]
    assert rows


def raises_of_a_library() -> None:
    json.loads("{")


def raises_ours() -> None:
    raise BuildError("too many axes", "Take some away.")


def hangs() -> None:
    while True:
        pass


def answers_for_another(kind: str) -> None:
    error = DataError("no", "no hint")
    error.__class__ = type(kind, (PipelineError,), {})
    raise error


def writes_its_number_and_hangs(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    hangs()

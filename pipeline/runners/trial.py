"""What may end a process, tried in one of its own: a model file from elsewhere, in libraries made for good ones.

A small file can describe what no machine holds, loop for ever, or divide by nothing. In a trial its memory is bounded
and its time is; what it does there is told in a line, and the process that asked goes on.
"""

import json
import multiprocessing
import os
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from pipeline import environment, errors, interruption, memory, temporary
from pipeline.errors import PipelineError
from pipeline.runners import processes

SAID = "said"
"""The file that has what libraries write to standard error in the process."""

LONGEST = 300
"""Characters of a library's own words that are shown."""

Work = Callable[..., object]
"""A function of a module."""

_OUT_OF_MEMORY = ("MemoryError", "ResourceExhaustedError")


class Ended(PipelineError):  # noqa: N818  says what became of it
    """The process was ended, took too long, ran out of memory, or raised what is no error of the pipeline's."""


def tried(work: Work, *arguments: object, limit_s: float) -> None:
    """Do `work` in a process of its own; return when it is done.

    It sees no GPU: what is tried is the file. What it returns, prints or leaves in temporary folders is lost.

    Raises:
        Ended: what became of the process, in words that go on after the name of what was tried.
        PipelineError: the work raised it.
    """
    environment.prepare_tensorflow()
    with tempfile.TemporaryDirectory(prefix=f"trial-{os.getpid()}-", ignore_cleanup_errors=True) as folder:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = processes.context().Process(target=_serve, args=(theirs, folder, work, arguments), daemon=True)
        try:
            _start(process)
            theirs.close()
            answer = _answer(process, ours, Path(folder), limit_s)
        finally:
            processes.end(process)
            ours.close()
            theirs.close()
    if answer:
        raise _error(**answer)


def _start(process: Any) -> None:
    try:
        processes.start(process)
    except (OSError, EOFError) as error:
        raise Ended(
            "could not be tried: no process could be started for it", "Run it again, with more memory free."
        ) from error


def _answer(process: Any, pipe: Connection, folder: Path, limit_s: float) -> dict[str, str]:
    """Return what the work raised, by the name of its class; nothing where it is done."""
    with processes.watched(limit_s, lambda: processes.kill(process)) as late:
        try:
            answer: dict[str, str] = json.loads(pipe.recv_bytes())
        except (EOFError, OSError) as error:
            if late.is_set():
                raise Ended(
                    f"was not done after {limit_s:g} s in a process of its own",
                    "It may never end; or give it longer: model.trial_s.",
                ) from error
            process.join(processes.END_S)
            raise Ended(f"ended the process in which it was tried{_how(process.exitcode, folder)}") from error
    return answer


def _how(code: int | None, folder: Path) -> str:
    """Return by what a process ended, and the last line that it wrote to standard error."""
    if code is None or code == processes.UNKNOWN:
        how = ""
    elif code < 0:
        how = f", by {signal.Signals(-code).name}" if -code in [one.value for one in signal.Signals] else ""
        how += ": memory may have run out" * (-code == getattr(signal, "SIGKILL", 9))
    else:
        how = f", with exit code {code}"
    try:
        lines = (folder / SAID).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        lines = []
    said = next((line for line in reversed([_plain(one) for one in lines]) if line), "")
    return f"{how}; its last words: {said}" if said else how


def _plain(words: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", words).split())[:LONGEST]


def _error(kind: str, message: str, hint: str) -> PipelineError:
    found = getattr(errors, kind, None)
    known = isinstance(found, type) and issubclass(found, PipelineError)
    return found(message, hint) if known else Ended(message, hint)  # type: ignore[misc]  # as mypy does not see


def _serve(pipe: Connection, folder: str, work: Work, arguments: tuple[object, ...]) -> NoReturn:
    """Do the work and tell how it went, as JSON: a pickle from a process that ran a stranger's file could run here."""
    interruption.leave_to_parent()
    temporary.keep_in(folder)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    _listen(Path(folder) / SAID)
    memory.expendable()
    memory.bound()
    try:
        work(*arguments)
        answer = {}
    except PipelineError as error:
        answer = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    except BaseException as error:  # whatever a library makes of a file that it does not understand
        answer = {"kind": "Ended", **_raised(error)}
    pipe.send_bytes(json.dumps(answer).encode())
    os._exit(0)  # nothing of the file is asked how it wants to end


def _raised(error: BaseException) -> dict[str, str]:
    words = _plain(str(error)) if str(error) else "no words"
    if type(error).__name__ in _OUT_OF_MEMORY:
        return {
            "message": f"needs more memory than there is: {words}",
            "hint": "Use a machine with more memory, or a smaller model.",
        }
    return {"message": f"raises {type(error).__name__}: {words}", "hint": ""}


def _listen(said: Path) -> None:
    """Have what is written to standard output and error in a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with said.open("wb", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

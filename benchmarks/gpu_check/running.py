"""Running a step: a process of its own with a limit of time, its words kept, and a reason where it did not pass."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.records import Library, Result, Status
from benchmarks.gpu_check.steps import Step
from pipeline.errors import BackendUnavailable

ROOT = Path(__file__).parents[2]

GRACE_S = 20.0
"""What a step whose time is over gets to keep what it has: after Ctrl-C the benchmark publishes what was measured."""

SHORTEST_S = 10.0
"""With less time than this left a step is not begun."""

NOT_THERE = re.compile(r"(?:ModuleNotFoundError|ImportError): (?!cannot import name)(?!.*'(?:pipeline|benchmarks))(.+)")
"""The last line of a process that needed a library which is not there. What our own modules lack is our bug."""


def why_not(step: Step, output: Path, libraries: Sequence[Library], *, gpu: bool, rehearsal: bool) -> str:
    """Return why a step cannot run here; empty where it can."""
    if not gpu and step.where == "gpu":
        return "no NVIDIA GPU here (nvidia-smi does not answer)"
    if not gpu and step.where == "rehearsal" and not rehearsal:
        return "no NVIDIA GPU here; `--rehearse` tries it on the CPU"
    if step.sees_gpu and gpu:
        known = {one.name: one for one in libraries}
        library = known.get(step.sees_gpu, Library(step.sees_gpu, error="it was not looked for"))
        if library.error:
            return f"{library.name} cannot be imported: {library.error}"
        if not library.gpus:
            return f"{library.name} {library.version} sees no GPU"
    for path in step.reads:
        if not (output / path).exists():
            return f"{path} is not there: no step before this one has made it"
    return ""


def run(step: Step, output: Path, left_s: float) -> Result:
    """Run a step for as long as it may take and as the check has left; return what became of it."""
    command = (sys.executable, *step.command)
    if left_s < SHORTEST_S + GRACE_S:
        return Result(step.name, step.what, "out of time", "the check's time was over before it began", command)
    limit = min(step.limit_s, left_s - GRACE_S)
    log = output / "logs" / f"{step.name}.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    code = _execute(command, log, limit, step.variables)
    seconds = round(time.monotonic() - started, 1)
    status, reason = _judged(code, log, cut_short=limit < step.limit_s, limit=limit)
    return Result(
        step=step.name,
        what=step.what,
        status=status,
        reason=reason,
        command=command,
        seconds=seconds,
        limit_s=round(limit, 1),
        exit_code=code,
        log=str(log.relative_to(output)),
        found=_found(output / step.found),
    )


def _execute(command: Sequence[str], log: Path, limit_s: float, variables: dict[str, str]) -> int | None:
    """Return the exit code, or None where the process was ended; nothing that it started is left running."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    own = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | variables
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=own, start_new_session=True
        )
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            _signal(process.pid, signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            return None
        finally:
            _signal(process.pid, signal.SIGKILL)
            process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)


def _judged(code: int | None, log: Path, *, cut_short: bool, limit: float) -> tuple[Status, str]:
    words = last_words(log.read_text(encoding="utf-8", errors="replace"))
    if code == 0:
        return "passed", words.removeprefix("note: ") if words.startswith("note: ") else ""
    if code is None and cut_short:
        return "out of time", f"the check's time was over after {limit:.0f} s of this step; {words}"
    if code is None:
        return "failed", f"not done within {limit:.0f} s; {words}"
    if code == BackendUnavailable.exit_code:
        return "skipped", words
    if missing := NOT_THERE.fullmatch(words):
        return "skipped", f"cannot be imported: {missing[1]}"
    if code < 0:
        return "failed", f"ended by {signal.Signals(-code).name}; {words}"
    return "failed", f"exit code {code}: {words}"


def last_words(said: str) -> str:
    """Return what a process said at its end: an error of the pipeline's with its hint, or else the last line."""
    lines = [line.rstrip() for line in said.splitlines() if line.strip()]
    errors = [index for index, line in enumerate(lines) if line.startswith("error: ")]
    if errors:
        return " ".join(line.strip() for line in lines[errors[-1] :]).removeprefix("error: ")
    return lines[-1].strip() if lines else "it said nothing"


def _found(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

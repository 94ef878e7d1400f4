"""Running the command line as a user does."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PYTHONPATH = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
"""This checkout's, before whatever else the packages are found in."""
Run = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = (
    "--set=data.name=digits",
    "--set=engine.tune=false",
    "--set=benchmark.batch_sizes=1,16",
    "--set=benchmark.seconds=0.05",
    "--set=benchmark.warmup_s=0.01",
    "--set=benchmark.min_samples=6",
    "--set=benchmark.rounds=3",
)
MAIN_JOB = (*QUICK, "--set=engine.tune=true")
"""With what the stages of the fixture `main_job` are run: the one that tunes."""


def run_pipeline(
    *arguments: str, cwd: Path, timeout: float = 300, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m pipeline` as a user does, in `cwd`."""
    return _run("-m", "pipeline", *arguments, cwd=cwd, timeout=timeout, **variables)


def run_python(program: str, cwd: Path, timeout: float = 120, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of a few lines in a process of its own, in `cwd`."""
    return _run("-c", program, cwd=cwd, timeout=timeout, **variables)


def _run(*arguments: str, cwd: Path, timeout: float, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": PYTHONPATH} | variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def run_here(stage: str, *arguments: str) -> str:
    """Run a stage in this process and folder, with the `--set=…` of a command line; return what it says.

    It spares the seconds that a process takes to import TensorFlow; what goes wrong is raised.
    """
    from rich.console import Console

    from pipeline.config.loading import load
    from pipeline.stages import ON_DEMAND, STAGES
    from pipeline.workflow import run

    console = Console(file=io.StringIO(), width=200)
    run.run((STAGES | ON_DEMAND)[stage], load(None, [one.removeprefix("--set=") for one in arguments]), console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def read(folder: Path, name: str) -> Any:
    """Return what a JSON file among the artifacts holds."""
    return json.loads((folder / "artifacts" / name).read_text(encoding="utf-8"))


@contextmanager
def started(*arguments: str, cwd: Path, until: str) -> "Iterator[subprocess.Popen[str]]":
    """Start `python -m pipeline` in a process group of its own, which ends with the block; wait for a line's words."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        if not any(until in line for line in process.stdout):
            raise AssertionError(process.communicate())
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

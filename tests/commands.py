"""Running the command line as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
Run = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = (
    "--set=data.name=digits",
    "--set=benchmark.batch_sizes=1,16",
    "--set=benchmark.seconds=0.05",
    "--set=benchmark.warmup_s=0.01",
    "--set=benchmark.min_samples=6",
    "--set=benchmark.rounds=3",
)


def run_pipeline(
    *arguments: str, cwd: Path, timeout: float = 300, **variables: str
) -> "subprocess.CompletedProcess[str]":
    """Run `python -m pipeline` as a user does, in `cwd`."""
    environment_variables = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        env=environment_variables,
        capture_output=True,
        text=True,
        timeout=timeout,
    )

"""The run that all cases have copies of: the example on the digits through every stage, with a bundle."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.torture.commands import environment

CONFIGURATION = """
[data]
name = "digits"

[train]
epochs = 1

[engine]
precisions = ["fp32", "fp16", "int8"]
tune = false

[benchmark]
batch_sizes = [1, 16]
seconds = 0.05
warmup_s = 0.01
min_samples = 6
rounds = 3

[score]
workers = 2
"""
DONE = "done"


def made(folder: Path) -> Path:
    """Make the run in a folder, where it is not there already, and return the folder."""
    run = folder / "run"
    if (folder / DONE).exists():
        return run
    run.mkdir(parents=True, exist_ok=True)
    (run / "pipeline.toml").write_text(CONFIGURATION, encoding="utf-8")
    random = np.random.default_rng(15)
    (run / "inputs").mkdir(exist_ok=True)
    Image.fromarray(random.integers(0, 255, (28, 28), np.uint8)).save(run / "inputs/image.png")
    np.save(run / "inputs/rows.npy", random.integers(0, 255, (64, 28, 28, 1), np.uint8))
    for command in ("all", "localise", "deploy"):
        arguments = (command, "--config", "pipeline.toml", *(("--precision", "int8") if command == "localise" else ()))
        subprocess.run([sys.executable, "-m", "pipeline", *arguments], cwd=run, env=environment(folder), check=True)
    (folder / DONE).touch()
    return run


def stages(run: Path) -> list[str]:
    """Return the stages that have published in a run."""
    return sorted(path.parent.name for path in (run / "artifacts").glob("*/manifest.json"))

"""`python -m benchmarks.training.backends`: which backend of Keras trains the article's network fastest here.

The article's script, an epoch of it, by each backend in turn, each time in a process of its own. PyTorch may be in
another environment: `--torch .venv-pytorch/bin/python`, which `make pytorch-exporter` makes.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from benchmarks.training.__main__ import as_keras_has_it
from pipeline import environment
from pipeline.config import Data
from pipeline.data import load

SIZE = """
import importlib.metadata, os, re, sys
seen, todo = set(), sys.argv[1:]
while todo:
    name = re.sub("[-_.]+", "-", todo.pop()).lower()
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        continue
    if name in seen: continue
    seen.add(name)
    todo += [re.match("[A-Za-z0-9._-]+", one)[0] for one in found.requires or () if "extra ==" not in one]
paths = {str(one.locate()) for name in seen for one in importlib.metadata.distribution(name).files or ()}
print(importlib.metadata.version(sys.argv[1]), sum(os.path.getsize(one) for one in paths if os.path.isfile(one)))
"""


class Backend(NamedTuple):
    """A backend of Keras, the interpreter that has it, and the distribution that brings it."""

    name: str
    python: str
    distribution: str


def main(
    torch: Annotated[str, typer.Option(help="The interpreter that has PyTorch.")] = sys.executable,
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
) -> None:
    """Time an epoch of the article's script by each backend of Keras, on MNIST."""
    backends = (
        Backend("tensorflow", sys.executable, "tensorflow"),
        Backend("jax", sys.executable, "jax"),
        Backend("torch", torch, "torch"),
    )
    rates: dict[str, list[float]] = {one.name: [] for one in backends}
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "mnist.npz"
        as_keras_has_it(load(Data(name="mnist")), data)
        for seed in range(repeats):
            for one in backends:
                found = _trained(one, data, seed, epochs)
                rates[one.name].append(found["samples"] / found["fit_s"])
                print(f"{one.name}: {found['fit_s']:.1f} s, test accuracy {found['accuracy']:.4f}", file=sys.stderr)
    best = max(statistics.median(mine) for mine in rates.values())
    print(f"On {environment.machine()}; {repeats} times by each in turn; epochs each time: {epochs}.\n")
    print("| Keras on | images/s, median | range | of the fastest | installed with all that it requires, MB |")
    print("|---|---|---|---|---|")
    for one in backends:
        middle, mine = statistics.median(rates[one.name]), rates[one.name]
        version, size = _output(one.python, "-c", SIZE, one.distribution).split()
        print(
            f"| {one.distribution} {version} | {middle:,.0f} | {min(mine):,.0f} to {max(mine):,.0f} | "
            f"{middle / best:.2f} | {int(size) / 1e6:,.0f} |"
        )


def _trained(backend: Backend, data: Path, seed: int, epochs: int) -> dict[str, float]:
    said = _output(
        backend.python, "-m", "benchmarks.training.article", str(data), str(seed), str(epochs), backend=backend.name
    )
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def _output(python: str, *arguments: str, backend: str = "tensorflow") -> str:
    done = subprocess.run(
        [python, *arguments], capture_output=True, text=True, env=os.environ | {"KERAS_BACKEND": backend}
    )
    if done.returncode:
        raise SystemExit(f"{python} {' '.join(arguments)[:80]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    typer.run(main)

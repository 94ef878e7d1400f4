"""`python -m benchmarks.training`: trains by the article's script and by ours in turn, each in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.training import table
from benchmarks.training.table import Run
from pipeline import environment
from pipeline.artifacts.record import dump_json
from pipeline.config import Data
from pipeline.data import Dataset, Split, load
from pipeline.measuring import conditions
from pipeline.measuring.limits import peaks
from pipeline.tensors import Array

ARTICLE, OURS = "the article's script", "ours, recipe fast"
EPOCHS = 5


def main(
    output: Annotated[Path, typer.Option(help="Folder for the table and the raw data.")] = Path("artifacts/training"),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of ours.")] = 10,
    article: Annotated[int, typer.Option(min=1, help="Trainings by the article's script.")] = 5,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of the article's script; 5 are the article's.")] = EPOCHS,
) -> None:
    """Time the article's script and ours, on MNIST."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140, highlight=False)
    dataset = load(Data(name="mnist"))
    before, limit = conditions.read(), peaks.measure("cpu", ["fp32"])
    runs: dict[str, list[Run]] = {ARTICLE: [], OURS: []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        as_keras_has_it(dataset, folder / "mnist.npz")
        for seed in range(max(seeds, article)):
            if seed < article:
                runs[ARTICLE].append(_article(folder / "mnist.npz", seed, epochs))
                console.print(f"seed {seed}: {ARTICLE} {runs[ARTICLE][-1]}", markup=False)
            if seed < seeds:
                runs[OURS].append(_ours(folder / str(seed), seed))
                console.print(f"seed {seed}: {OURS} {runs[OURS][-1]}", markup=False)
    # Measured again: a moment's other load makes a peak lower, and never higher.
    best = peaks.best(limit, peaks.measure("cpu", ["fp32"]))
    page = _page(runs, best.macs_per_s.get("fp32"))
    output.mkdir(parents=True, exist_ok=True)
    (output / "table.md").write_text(page, encoding="utf-8")
    (output / "results.json").write_text(
        dump_json(
            {
                "schema": 1,
                "machine": asdict(environment.machine()),
                "versions": environment.versions(),
                "conditions": [one.model_dump(mode="json") for one in (before, conditions.read())],
                "macs_per_image": table.MACS,
                "limit_macs_per_s": best.macs_per_s.get("fp32"),
                "article_epochs": epochs,
                "runs": {name: [run._asdict() for run in mine] for name, mine in runs.items()},
            }
        ),
        encoding="utf-8",
    )
    console.print(page, markup=False)


def _page(runs: dict[str, list[Run]], limit: float | None) -> str:
    told = "n/a" if limit is None else f"{limit / 1e9:.0f} GMAC/s"
    lines = [
        f"On {environment.machine()}. Each training in a process of its own, in turn. The article's script trains on "
        "60,000 images; ours on 55,000, and validates on the other 5,000 after each epoch, which counts as `fit`. "
        "Excluded from `fit`: imports, reading the data, the test. The limit is the highest rate of FP32 matrix "
        f"products here, {told}.",
        "",
        table.markdown(runs, limit),
        "",
        *(f"- {claim}" for claim in table.claims(runs[ARTICLE], runs[OURS])),
        "",
    ]
    return "\n".join(lines)


def as_keras_has_it(dataset: Dataset, path: Path) -> None:
    """Write MNIST as `keras.datasets.mnist.load_data` returns it: 60,000 images to train on, 10,000 to test with."""
    splits = [[_arrays(one) for one in part] for part in ((dataset.train, dataset.validation), (dataset.test,))]
    (x_train, y_train), (x_test, y_test) = ([np.concatenate(one) for one in zip(*part, strict=True)] for part in splits)
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def _arrays(split: Split) -> tuple[Array, Array]:
    return next(iter(split.feed().values())), next(iter(split.labels().values()))


def _article(data: Path, seed: int, epochs: int) -> Run:
    seconds, printed = _timed("benchmarks.training.article", str(data), str(seed), str(epochs))
    found = json.loads(printed.splitlines()[-1])
    return Run(seed, found["fit_s"], seconds, found["accuracy"], found["samples"])


def _ours(folder: Path, seed: int) -> Run:
    options = (f"--set=artifacts={folder}", f"--set=train.seed={seed}", "--set=data.name=mnist")
    seconds, _ = _timed("pipeline", "train", *options)
    found = json.loads((folder / "train/history.json").read_text(encoding="utf-8"))
    samples = len(found["epochs"]) * json.loads((folder / "train/dataset.json").read_text())["samples"]["train"]
    return Run(seed, found["seconds"], seconds, found["test"][0]["value"], samples)


def _timed(module: str, *arguments: str) -> tuple[float, str]:
    """Run a module, and return the seconds its process took, and what it printed.

    Raises:
        SystemExit: it failed, with its last words.
    """
    environment.prepare_tensorflow()
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, text=True, env=os.environ)
    if done.returncode:
        raise SystemExit(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started, done.stdout


if __name__ == "__main__":
    typer.run(main)

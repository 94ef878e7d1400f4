"""`python -m benchmarks.large`: large models through the stages, each stage in a process of its own, and its memory."""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import onnx
import typer
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from benchmarks import networks
from benchmarks.networks import Network
from pipeline import environment
from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.record import dump_json
from pipeline.artifacts.store import Store
from pipeline.errors import PipelineError
from pipeline.graphs import files

STAGES = ("train", "export", "engine", "validate")
SIZE = 224
NETWORKS = ("ResNet50", "VGG16", "ConvNeXtBase", "EfficientNetV2L")
OVER_2_GB = "over 2 GB"
"""An ONNX model of ours: eight products with square weights of 8,192, in a file beside it."""

FEATURES, WIDTH, PRODUCTS = 64, 8192, 8
SAMPLES = {"train": 8, "validation": 4, "test": 4}

MiB = 2**20


class Run(NamedTuple):
    """One stage of one model, in a process of its own: how it ended, how long it took, and its largest memory."""

    model: str
    stage: str
    exit_code: int
    seconds: float
    peak_bytes: int
    last_line: str


def main(
    output: Annotated[Path, typer.Option(help="Folder for the models, the table and the raw data.")] = Path(
        "artifacts/large"
    ),
    only: Annotated[list[str] | None, typer.Option(help="A model; may be given several times.")] = None,
    precisions: Annotated[str, typer.Option(help="Those to build.")] = "fp32,fp16,int8",
    limit_gib: Annotated[float, typer.Option(help="Address space that a stage may use.")] = 16,
) -> None:
    """Run the stages train to validate on each model and print how much memory each took."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140, highlight=False)
    weights: dict[str, int] = {}
    runs: list[Run] = []
    found: dict[str, dict[str, str]] = {}
    for name in only or [*NETWORKS, OVER_2_GB]:
        folder = output / name.lower().replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        # In a process of its own, like the stages, so that nothing of it is left.
        subprocess.run([sys.executable, "-c", WRITE, name, folder], check=True)
        weights[name] = int((folder / "weights.txt").read_text(encoding="ascii"))
        for stage in STAGES:
            runs.append(_run(name, stage, folder, precisions, int(limit_gib * 2**30)))
            console.print(_line(runs[-1], weights[name]), markup=False)
            if runs[-1].exit_code:
                break
        found[name] = _outcome(folder / "artifacts")
    page = table(runs, weights, found)
    (output / "table.md").write_text(page, encoding="utf-8")
    (output / "results.json").write_text(
        dump_json(
            {
                "schema": 1,
                "machine": asdict(environment.machine()),
                "versions": environment.versions(),
                "limit_gib": limit_gib,
                "samples": SAMPLES,
                "weight_bytes": weights,
                "runs": [run._asdict() for run in runs],
                "outcome": found,
            }
        ),
        encoding="utf-8",
    )
    console.print(page, markup=False)


WRITE = (
    "import sys; from pathlib import Path; from benchmarks import large; large.write(sys.argv[1], Path(sys.argv[2]))"
)


def write(name: str, folder: Path) -> None:
    """Write a model and its data below a folder, with the bytes of its weights."""
    if name == OVER_2_GB:
        model = products()
        weights = files.size(model)
        files.save(model, folder / "model.onnx")
        draw = np.random.default_rng(1)
        arrays = {f"x_{part}": draw.standard_normal((count, FEATURES), np.float32) for part, count in SAMPLES.items()}
    else:
        environment.prepare_tensorflow()
        network = Network(name, (SIZE, SIZE, 3), 1000, (1,))
        model = networks.build(network)
        model.save(folder / "model.keras")
        weights = 4 * model.count_params()
        every = iter(np.split(networks.images(network, sum(SAMPLES.values())), np.cumsum([*SAMPLES.values()])))
        arrays = {f"x_{part}": next(every) for part in SAMPLES}
    np.savez(folder / "samples.npz", allow_pickle=False, **arrays)
    (folder / "weights.txt").write_text(str(weights), encoding="ascii")


def products() -> onnx.ModelProto:
    """Return a network of more than 2 GB: its weights alone keep it from being one protobuf file."""
    draw = np.random.default_rng(0)
    sizes = [FEATURES, *[WIDTH] * (PRODUCTS + 1), 10]
    names = ["x", *(f"layer_{i}" for i in range(len(sizes) - 2)), "y"]
    nodes, constants = [], []
    for i, (taken, given) in enumerate(pairwise(sizes)):
        weight = draw.standard_normal((taken, given), np.float32) * np.float32((2 / taken) ** 0.5)
        constants.append(numpy_helper.from_array(weight, f"weight_{i}"))
        nodes.append(helper.make_node("MatMul", [names[i], f"weight_{i}"], [f"product_{i}"], name=f"product_{i}"))
        last = i == len(sizes) - 2
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"product_{i}"], [names[i + 1]], name=f"act_{i}"))
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _run(model: str, stage: str, folder: Path, precisions: str, limit: int) -> Run:
    """Run a stage with few samples and small batches, so that what counts is the weights."""
    source = "model.onnx" if model == OVER_2_GB else "model.keras"
    options = {
        "artifacts": folder / "artifacts",
        "model.source": folder / source,
        "data.source": folder / "samples.npz",
        "engine.precisions": precisions,
        "engine.calibration_samples": 4,
        "engine.batch_opt": 2,
        "engine.batch_max": 4,
        "engine.tune": "false",
        "validate.batch_size": 2,
        "validate.batch_sizes": "1,2",
        "benchmark.batch_sizes": "1,2",
    }
    command = [sys.executable, "-m", "pipeline", stage, "--force"]
    command += [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    started = time.monotonic()
    with (folder / f"{stage}.log").open("w") as log:
        child = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        )
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    lines = (folder / f"{stage}.log").read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line for line in reversed(lines) if line.strip()), "")
    return Run(model, stage, child.returncode, time.monotonic() - started, usage.ru_maxrss * 1024, last)


def _line(run: Run, weights: int) -> str:
    peak = f"{run.peak_bytes / MiB:,.0f} MiB, {run.peak_bytes / weights:.1f} times the weights"
    return f"{run.model} {run.stage}: {run.seconds:.0f} s, {peak}{f'; {run.last_line}' if run.exit_code else ''}"


def _outcome(root: Path) -> dict[str, str]:
    """Return the bytes of each graph and engine, and the verdict, as far as the stages came."""
    published, found = Store(root).published(), {}
    try:
        for name in published.names("engine"):
            if name.endswith("engine.json"):
                one = published.read(EngineRecord, name)
                graph = sum(part.bytes for part in (one.onnx, one.onnx_data) if part)
                built = f"{one.engine.bytes / MiB:,.0f}" if one.engine else one.status
                found[one.precision] = f"{graph / MiB:,.0f} / {built}"
        found["verdict"] = published.read(ParityReport).verdict
    except PipelineError as error:
        found["verdict"] = error.message
    return found


def table(runs: Sequence[Run], weights: dict[str, int], outcome: dict[str, dict[str, str]]) -> str:
    """Return a row for each model, and the same for what was built."""
    heads = [f"{stage}{unit}" for stage in STAGES for unit in (", s", ", MiB", ", × weights")]
    lines = [f"| model | weights, MiB | {' | '.join(heads)} |", f"|{' --- |' * (len(heads) + 2)}"]
    for name, size in weights.items():
        cells = []
        for stage in STAGES:
            one = next((run for run in runs if (run.model, run.stage) == (name, stage)), None)
            if one is None or one.exit_code:
                cells += ["", "", "not run" if one is None else f"exit {one.exit_code}"]
            else:
                cells += [f"{one.seconds:.0f}", f"{one.peak_bytes / MiB:,.0f}", f"{one.peak_bytes / size:.1f}"]
        lines.append(f"| {name} | {size / MiB:,.0f} | {' | '.join(cells)} |")
    kinds = sorted({kind for found in outcome.values() for kind in found} - {"verdict"})
    lines += ["", f"| model | {' | '.join(f'{kind}: graph / engine, MiB' for kind in kinds)} | verdict |"]
    lines += [f"|{' --- |' * (len(kinds) + 2)}"]
    for name, found in outcome.items():
        cells = [found.get(kind, "") for kind in (*kinds, "verdict")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)

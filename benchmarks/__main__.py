"""`python -m benchmarks`: times our runners beside their peers, and writes a table and the raw data."""

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks import networks, runners, table, trtexec
from benchmarks.networks import Network
from benchmarks.preparation import Prepared, prepare
from benchmarks.table import Timed as TimedNetwork
from pipeline import backends, environment, precisions
from pipeline.artifacts.conditions import Conditions
from pipeline.artifacts.record import dump_json
from pipeline.measuring import conditions, harness, speedups
from pipeline.measuring.cells import MODES, Measurement, Schedule, Timed
from pipeline.tensors import Outputs

CHECKED = 8
"""Images, at least, whose outputs are compared with Keras's, before and after each cell is timed."""

LONG = {
    "article_cnn": Schedule(seconds=0.6, min_samples=30, rounds=10, warmup_s=2.0),
    "MobileNetV2": Schedule(seconds=1.0, min_samples=7, rounds=7, warmup_s=2.0),
    "ResNet50": Schedule(seconds=1.0, min_samples=5, rounds=5, warmup_s=2.0),
}
QUICK = Schedule(seconds=0.05, min_samples=6, rounds=3, warmup_s=0.01)
QUICK_BATCHES = (1, 16)

State = tuple[Conditions, Conditions]
"""What `conditions.read` said before anything was timed, and after."""


def main(
    output: Annotated[Path, typer.Option(help="Folder for the table and the raw data.")] = Path("artifacts/peers"),
    only: Annotated[list[str] | None, typer.Option(help="Name of a network to time; may be repeated.")] = None,
    threads: Annotated[int, typer.Option(help="Threads, for runners that let them be set; 0: one for each core.")] = 0,
    quick: Annotated[bool, typer.Option(help="The article's CNN only, too briefly for meaningful numbers.")] = False,
) -> None:
    """Time our runners beside their peers."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 140)
    threads = threads or environment.cpu_count()
    chosen = [network for network in networks.NETWORKS if not only or network.name in only]
    if unknown := set(only or ()) - {network.name for network in networks.NETWORKS}:
        names = ", ".join(network.name for network in networks.NETWORKS)
        raise typer.BadParameter(f"unknown network {', '.join(sorted(unknown))}; choose from {names}")
    if quick:
        chosen = [networks.NETWORKS[0]._replace(batch_sizes=QUICK_BATCHES)]
    output.mkdir(parents=True, exist_ok=True)
    start = conditions.read()
    everything: list[TimedNetwork] = []
    described: dict[str, Prepared] = {}
    differences: dict[str, float] = {}
    apart: list[dict[str, object]] = []
    for network in chosen:
        with tempfile.TemporaryDirectory() as folder:
            console.print(f"{network.name}: building, exporting, tuning")
            files, described[network.name] = prepare(network, Path(folder), threads)
            for variant, words in described[network.name].tuned_in_words.items():
                console.print(f"{network.name}: our runner, {variant}, as tuned: {words}")
            schedule = QUICK if quick else LONG[network.name]
            cells, interrupted = _time(network, runners.timed(files, threads), schedule, differences, console)
            everything.append(TimedNetwork(network.name, cells))
            if environment.gpus() and not interrupted:
                apart += [trtexec.run(files.engine, network, batch) for batch in network.batch_sizes]
        state = start, conditions.read()
        # After each network, and not at the end: a run that is killed in the next one loses no more than that one.
        _write(output, everything, described, differences, apart, threads, state)
        if interrupted:
            console.print("interrupted; what was measured until then is kept")
            break
    text = _show(console, everything, apart, threads, state)
    (output / "table.md").write_text(text, encoding="utf-8")
    console.print(f"table and raw data: {output}/table.md, results.json, samples.npz")


def _time(
    network: Network, who: list[Timed], schedule: Schedule, differences: dict[str, float], console: Console
) -> tuple[list[Measurement], bool]:
    """Time all runners at each batch size; return their cells, and whether Ctrl-C cut it short."""
    cells: list[Measurement] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress(*columns, console=console, disable=not console.is_terminal, auto_refresh=False, transient=True) as bar,
    ):
        task = bar.add_task("", total=harness.steps(who, schedule) * len(network.batch_sizes))
        for batch in network.batch_sizes:
            samples = Path(folder) / "samples.npz"
            np.savez(samples, image=networks.images(network, -(-CHECKED // batch) * batch))  # whole batches

            def show(what: str, batch: int = batch) -> None:
                bar.update(task, advance=1, description=f"{network.name}, batch {batch}: {what}")
                bar.refresh()  # by hand: a bar that moved by itself would take time from what is timed

            console.print(f"{network.name}, batch {batch}: timing in {schedule.rounds} rounds")
            found, interrupted = harness.time_batch(
                who, samples, batch, schedule, _wrong(network.name, batch, differences), show
            )
            cells += found
            if interrupted:
                return cells, True
    return cells, False


def _wrong(network: str, batch: int, differences: dict[str, float]) -> Callable[[Timed, Outputs, Outputs | None], str]:
    """Return the check of outputs: they must be Keras's, but for the order of sums; how far they are is kept."""
    # On a GPU, TensorFlow computes in TF32 by itself, so that equal to it is equal to TF32.
    tolerance = precisions.get("tf32" if environment.gpus() else "fp32").tolerance

    def wrong(timed: Timed, found: Outputs, expected: Outputs | None) -> str:
        (scores,) = found.values()  # the networks have one output, which peers call otherwise
        if not np.isfinite(scores).all():
            return "NaN or Inf in the outputs"
        if expected is None:
            return "" if timed.runner.module == runners.KERAS else "Keras did not run: there is nothing to compare with"
        (reference,) = expected.values()
        difference = float(np.abs(scores - reference).max())
        name = f"{network}/{batch}/{timed}"
        differences[name] = max(difference, differences.get(name, 0.0))
        return "" if tolerance.holds(scores, reference) else f"differs from Keras by up to {difference:.2g}"

    return wrong


def _write(
    output: Path,
    everything: list[TimedNetwork],
    described: dict[str, Prepared],
    differences: dict[str, float],
    apart: list[dict[str, object]],
    threads: int,
    state: State,
) -> None:
    """Write `results.json` and `samples.npz`."""
    found = {
        "schema": 2,
        "environment": {
            "machine": asdict(environment.machine()),
            "versions": environment.versions(backends.distributions()),
            "conditions": {"start": state[0].model_dump(mode="json"), "end": state[1].model_dump(mode="json")},
            "threads": threads,
        },
        "networks": {
            name: one.written._asdict()
            | {"engine_sha256": one.engine_sha256, "no_engine": one.no_engine}
            | {"tuning": one.tuning.model_dump(mode="json", by_alias=True)}
            for name, one in described.items()
        },
        "cells": [
            {"network": timed.network} | cell.cell(None).model_dump(mode="json")
            for timed in everything
            for cell in timed.cells
        ],
        "noise_floor": [
            {"network": timed.network} | row.model_dump() for timed in everything for row in timed.floors()
        ],
        "max_difference_from_keras": differences,
        "claims": [claim._asdict() for claim in table.checks(everything)],
        "trtexec": apart,
    }
    (output / "results.json").write_text(dump_json(found), encoding="utf-8")
    samples = {
        f"{timed.network}/{name}": round_ns
        for timed in everything
        for name, round_ns in speedups.samples(timed.cells).items()
    }
    np.savez_compressed(output / "samples.npz", allow_pickle=False, **samples)


def _show(
    console: Console, everything: list[TimedNetwork], apart: list[dict[str, object]], threads: int, state: State
) -> str:
    """Print the tables and the checks; return them in markdown."""
    machine = environment.machine()
    text = [f"# Our runners beside their peers\n\n{machine}; {threads} threads. By `python -m benchmarks`.\n"]
    for timed in everything:
        for mode in MODES:
            if found := table.rows(timed, mode):
                title = f"{timed.network}, {'host to host' if mode == MODES[0] else 'inputs resident on the GPU'}"
                console.print(table.rich_table(title, found))
                text.append(table.markdown(title, found))
        for line in table.missing(timed):
            console.print(line)
            text.append(f"- {line}\n")
    lines = [f"trtexec, by its own clock, not interleaved: {row}" for row in apart]
    lines += [f"while it was timed, {change}" for change in conditions.changes(*state)]
    lines += [f"{claim.verdict}: {claim.words}" for claim in table.checks(everything)]
    for line in lines:
        console.print(line, highlight=False)
    return "\n".join([*text, *(f"- {line}" for line in lines)]) + "\n"


if __name__ == "__main__":
    typer.run(main)

"""Stage 5: time every way to run the model, under one clock and in turn, against the original."""

import tempfile
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from pipeline import backends, data, environment, precisions
from pipeline.backends import LoadOptions
from pipeline.errors import BackendUnavailable, Interrupted
from pipeline.measuring import conditions, harness, speedups, statistics
from pipeline.measuring.harness import NULL, ORIGINAL, Cell, Contender, Timing
from pipeline.measuring.limits.roofline import Roofline
from pipeline.runners import tuning_record
from pipeline.tensors import Array
from pipeline.workflow.run import Context, Outcome

CHECKED = 32
"""Images, at least, by which a contender's outputs are checked: on the one image of a batch of 1, chance decides."""


def run(context: Context) -> Outcome:
    """Publish `results.json` and `samples.npz`."""
    options = context.config.benchmark
    context.check_validated()
    dataset = data.reload(context.read_json("train/dataset.json"), context.config.data)
    threads = options.threads or environment.cpu_count()
    contenders = speedups.with_twins(
        _contenders(context, threads), lambda contender: contender.backend not in (ORIGINAL, NULL)
    )
    roof = Roofline(context.artifact("export/model.onnx"), contenders, threads)
    timing = Timing(options.cell_seconds, options.min_samples, options.rounds, options.warmup_s)
    cells: list[Cell] = []
    interrupted = True
    before = conditions.read()
    watched = harness.steps(contenders, timing) * len(options.batch_sizes)
    # Ctrl-C between two cells' timing, where `time_batch` does not meet it, keeps what is there as well.
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder, _progress(context) as progress:
        task = progress.add_task("", total=watched)
        for batch in options.batch_sizes:
            # Real images, over and over where the batch is larger than the test set.
            count = -(-CHECKED // batch) * batch  # whole batches
            images = Path(folder) / "images.npy"
            np.save(images, np.resize(dataset.test.images, (count, *dataset.test.images.shape[1:])))

            def show(what: str, batch: int = batch) -> None:
                progress.update(task, advance=1, description=f"batch {batch}: {what}")
                progress.refresh()  # by hand: a bar that moved by itself would take time from what is timed

            context.say(
                f"batch {batch}: timing {sum(not one.skip for one in contenders)} cells in {timing.rounds} rounds"
            )
            timed, cut_short = harness.time_batch(contenders, images, batch, timing, _wrong, show)
            cells += timed
            if cut_short:
                break
        else:
            interrupted = False
    for cell in cells:
        if cell.contender.backend == ORIGINAL and cell.device not in (None, "cpu") and _has_tf32():
            cell.contender = replace(cell.contender, precision="tf32")  # TensorFlow's own default there
    floors = speedups.noise_floors(cells)
    harness_us = [cell.summary.p50_us for cell in cells if cell.contender.backend == NULL and cell.status == "ok"]
    roof.finish(max((value for value in harness_us if value is not None), default=None), again=not interrupted)
    found = {
        "schema": 2,
        "interrupted": interrupted,
        "environment": {
            "machine": environment.machine(),
            "versions": environment.versions(backends.distributions()),
            "dataset": dataset.name,
            "settings": options.model_dump(),
            "threads": threads,
            "conditions": {"start": before, "end": conditions.read()},
        },
        "noise_floor": floors,
        "limits": {device: asdict(peaks) for device, peaks in roof.peaks.items()},
        "cells": [cell.row() | {"limit": roof.share(cell)} for cell in cells],
        "speedups": speedups.speedups(cells, floors, lambda contender: contender.backend == ORIGINAL),
    }
    context.write_json("results.json", found)
    np.savez_compressed(context.output / "samples.npz", allow_pickle=False, **speedups.samples(cells))
    _show(context, found)
    if interrupted:
        return Outcome(Interrupted("interrupted; what was measured until then is kept", "Run it again for the rest."))
    return Outcome()


def _progress(context: Context) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    shown = context.console.is_terminal
    return Progress(*columns, console=context.console, disable=not shown, auto_refresh=False, transient=True)


def _contenders(context: Context, threads: int) -> list[Contender]:
    """Return what is to be timed, the original model's variants first; what this machine lacks says why it is skipped.

    Backends are found by their file: each variant that takes a typed graph or an engine is timed with each of them.
    """
    source = context.config.model.source
    source = "" if source == "article-cnn" else source
    found: list[Contender] = []

    def add(name: str, variant: str, precision: str, path: str, options: LoadOptions, skip: str = "") -> None:
        module = f"{backends.__name__}.{name}"
        if not skip:
            try:
                backends.get(name).probe(variant)
            except BackendUnavailable as error:
                skip = error.message
        own = source if name == ORIGINAL else ""
        found.append(Contender(module, variant, precision, context.artifact(path), options, source=own, skip=skip))

    places: dict[str, str] = {"keras": "train/model.keras", "saved_model": "export/saved_model"}
    for variant, offered in backends.get(ORIGINAL).VARIANTS.items():
        add(ORIGINAL, variant, "fp32", places[offered.consumes], LoadOptions(variant, threads=threads))
    add(NULL, "harness", "fp32", "export/model.onnx", LoadOptions("harness"))
    runners = _runners()
    for sidecar in context.engine_sidecars():
        precision = precisions.get(sidecar["precision"])
        folder = f"engine/{precision.name}"
        graph, engine = f"{folder}/model.onnx", f"{folder}/model.engine"
        for name, variant, consumes in runners:
            if consumes == "engine":
                if variant != sidecar["flavour"]:
                    continue
                built = sidecar["status"] == "built"
                skip = "" if built else f"no engine: {sidecar['reason']}"
                digest, path = context.sha256(engine) if built else None, engine
            else:
                skip = "" if sidecar["onnx"] else f"no typed graph: {sidecar['reason']}"
                if variant == "cpu" and not precision.cpu_computes:
                    skip = f"a CPU has no {precision.name} arithmetic: timing a stand-in would say nothing"
                digest, path = context.sha256(graph) if sidecar["onnx"] else None, graph
            graph_digest = context.sha256(graph) if sidecar["onnx"] else None  # a plan is of a graph, its engine's too
            steps = (
                tuning_record.steps(context.artifact(f"{folder}/plan.json"), variant, graph_digest) if digest else ()
            )
            options = LoadOptions(variant, precision.allow_tf32, sha256=digest, threads=threads, plan=steps)
            add(name, variant, precision.name, path, options, skip)
        if sidecar["flavour"] is None:
            reason = f"no engine: {sidecar['reason']}"
            add("tensorrt", "tensorrt", precision.name, engine, LoadOptions("tensorrt"), reason)
    return found


def _runners() -> list[tuple[str, str, str]]:
    """Return backend, variant and kind of artifact of every way to run an exported model."""
    found = []
    for name in backends.NAMES:
        if name in (ORIGINAL, NULL):
            continue
        try:
            found += [(name, variant, offered.consumes) for variant, offered in backends.get(name).VARIANTS.items()]
        except BackendUnavailable:
            found.append((name, "cpu", "onnx"))  # its library is absent; the probe will say so
    return sorted(found, key=lambda one: one[0] != "onnxruntime")


def _has_tf32() -> bool:
    return any(float(gpu.compute_capability) >= 8 for gpu in environment.gpus())


def _wrong(contender: Contender, scores: Array, reference: Array | None) -> str:
    """Return what is wrong with a contender's outputs on these images, measured against the original model's."""
    if contender.backend == NULL:
        return ""
    if not np.isfinite(scores).all():
        return "NaN or Inf in the outputs"
    if reference is None or precisions.get(contender.precision).tolerance.holds(scores, reference):
        return ""
    agreement = float((scores.argmax(axis=1) == reference.argmax(axis=1)).mean())
    # Beyond its numeric tolerance a precision has been judged by its accuracy, in the validate stage. What is looked
    # for here is another thing: a session that computes something else altogether.
    return "" if agreement >= 0.9 else f"only {agreement:.0%} of the images agree with the original model"


def _show(context: Context, found: dict[str, Any]) -> None:
    for mode, title in (("end_to_end", "Latency, host to host"), ("compute", "Latency, inputs resident on the GPU")):
        cells = [cell for cell in found["cells"] if cell["mode"] == mode and cell["status"] == "ok"]
        if cells:
            context.console.print(_table(title, cells, found["speedups"]))
    for row in found["noise_floor"]:
        low, high = row["ratio_ci95"]
        context.say(
            f"noise: {row['cell']} against itself at batch {row['batch']}, {row['mode']}: {row['ratio']:.3f} "
            f"({low:.3f} to {high:.3f}); differences below {row['floor']:.1%} are none"
        )
    for cell in found["cells"]:
        if cell["status"] == "failed":
            context.warn(f"{_name(cell)}, batch {cell['batch']}: {cell['reason']}")
    skipped: dict[str, list[str]] = {}
    for cell in found["cells"]:
        if cell["status"] == "skipped":
            skipped.setdefault(cell["reason"], []).append(_name(cell))
    for reason, names in skipped.items():
        context.say(f"skipped {', '.join(dict.fromkeys(names))}: {reason}")


def _name(cell: dict[str, Any]) -> str:
    return f"{cell['backend']} {cell['variant']} {cell['precision']}{' (again)' if cell['twin'] else ''}"


def _table(title: str, cells: list[dict[str, Any]], speedups: list[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in ("batch", "run by", "p50 µs", "95 %", "p99 µs", "images/s", "limit", "over the strongest original"):
        table.add_column(column, no_wrap=column in ("run by", "95 %"))
    same = ("backend", "variant", "precision", "batch", "mode")
    for cell in cells:
        limit = cell["limit"]
        own = [row for row in speedups if not cell["twin"] and all(row[key] == cell[key] for key in same)]
        table.add_row(
            str(cell["batch"]),
            _name(cell),
            statistics.microseconds(cell["p50_us"]),
            " – ".join(map(statistics.microseconds, cell["p50_ci95_us"] or (None,))),
            statistics.microseconds(cell["p99_us"]),
            f"{cell['items_per_s']:,.0f}" if cell["backend"] != NULL else "",
            f"{limit['share']:.0%} {limit['limit']}" if limit else "",
            _speedup(own[0]) if own else "",
        )
    return table


def _speedup(row: dict[str, Any]) -> str:
    told = ", no difference told" if row["verdict"] == statistics.UNTOLD else ""
    return f"{row['ratio']:.2f}× {row['over']}{told}"

"""Stage 5: time every way to run the model, under one clock and in turn, against the original."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
from rich.table import Table

from pipeline import backends, data, environment, evaluation, harness, latency, precisions
from pipeline.backends import LoadOptions, Outputs, Session
from pipeline.errors import BackendUnavailable, ConfigError, ParityError
from pipeline.harness import MODES, Cell, Contender
from pipeline.runner import Context, Outcome

ORIGINAL = "tensorflow"

CHECKED = 32
"""Images, at least, by which a contender's outputs are checked: on the one image of a batch of 1, chance decides."""


def run(context: Context) -> Outcome:
    """Publish `results.json` and `samples.npz`."""
    options = context.config.benchmark
    _check_validated(context)
    dataset = data.reload(context.read_json("train/dataset.json"), context.config.data)
    data.register_layers(context.config.model.source)
    cells: list[Cell] = []
    with ExitStack() as stack:
        sessions = [_open(stack, contender) for contender in _contenders(context)]
        for batch in options.batch_sizes:
            # Real images, over and over where the batch is larger than the test set.
            count = -(-CHECKED // batch) * batch  # whole batches
            images = np.resize(dataset.test.images, (count, *dataset.test.images.shape[1:]))
            prepared = _prepare(sessions, images, batch)
            timed = [cell for cell in prepared if cell.call is not None]
            context.say(f"batch {batch}: timing {len(timed)} cells in {options.rounds} rounds")
            harness.fill(timed, options)
            for cell in timed:
                cell.call = None  # frees the device memory that it holds
            cells += prepared
    speedups = _speedups(cells)
    context.write_json(
        "results.json",
        {
            "schema": 1,
            "environment": {
                "machine": environment.machine(),
                "versions": environment.versions(),
                "dataset": dataset.name,
                "clock": harness.CLOCK,
                "settings": options.model_dump(),
            },
            "cells": [cell.row() for cell in cells],
            "speedups": speedups,
        },
    )
    samples = {
        f"{cell.key}/round{index}": round_ns
        for cell in cells
        if cell.status == "ok"
        for index, round_ns in enumerate(cell.rounds)
    }
    np.savez_compressed(context.output / "samples.npz", allow_pickle=False, **samples)
    _show(context, cells, speedups)
    return Outcome()


def _check_validated(context: Context) -> None:
    verdict = context.read_json("validate/parity.json")["verdict"]
    if verdict == "fail":
        if not context.config.benchmark.allow_failed:
            raise ParityError(
                "the model failed validation; a fast wrong answer is not timed",
                "See artifacts/validate/parity.json, or insist with --set benchmark.allow_failed=true.",
            )
        context.warn("timing a model that FAILED validation, as benchmark.allow_failed says")


def _contenders(context: Context) -> list[Contender]:
    """Return what is to be timed, the original model's variants first."""
    original = backends.get(ORIGINAL)
    places = {"keras": "train/model.keras", "saved_model": "export/saved_model"}
    found = [
        Contender(ORIGINAL, variant, "fp32", context.artifact(places[consumes]), LoadOptions(variant))
        for variant, consumes in original.VARIANTS.items()
    ]
    exported = context.artifact("export/model.onnx")
    found.append(Contender("null", "harness", "fp32", exported, LoadOptions("harness")))
    for sidecar in context.engine_sidecars():
        precision = precisions.get(sidecar["precision"])
        folder = f"engine/{precision.name}"
        typed = context.artifact(f"{folder}/model.onnx")
        for variant in ("cpu", "cuda"):
            skip = "" if sidecar["onnx"] else f"no typed graph: {sidecar['reason']}"
            if variant == "cpu" and not precision.cpu_computes:
                skip = f"ONNX Runtime has no {precision.name} arithmetic on a CPU: timing a stand-in would say nothing"
            sha256 = context.sha256(f"{folder}/model.onnx") if sidecar["onnx"] else None
            options = LoadOptions(variant, allow_tf32=precision.allow_tf32, sha256=sha256)
            found.append(Contender("onnxruntime", variant, precision.name, typed, options, skip))
        built = sidecar["status"] == "built"
        engine = f"{folder}/model.engine"
        options = LoadOptions(
            sidecar["flavour"] or "tensorrt", precision.allow_tf32, sha256=context.sha256(engine) if built else None
        )
        skip = "" if built else f"no engine: {sidecar['reason']}"
        found.append(Contender("tensorrt", options.variant, precision.name, context.artifact(engine), options, skip))
    return found


def _open(stack: ExitStack, contender: Contender) -> tuple[Contender, Session | None, str]:
    """Load a contender for as long as the stage runs, or return why it cannot."""
    if contender.skip:
        return contender, None, contender.skip
    try:
        backend = backends.get(contender.backend)
        backend.probe(contender.options.variant)
        session = stack.enter_context(backend.load(contender.path, contender.options))
    except BackendUnavailable as error:
        return contender, None, error.message
    if contender.backend == ORIGINAL and session.device != "cpu" and _has_tf32():
        contender = replace(contender, precision="tf32")  # TensorFlow's own default there
    return contender, session, ""


def _has_tf32() -> bool:
    return any(float(gpu.compute_capability) >= 8 for gpu in environment.gpus())


def _prepare(sessions: list[tuple[Contender, Session | None, str]], images: np.ndarray, batch: int) -> list[Cell]:
    """Return a cell for each contender and mode, with its call, after checking the outputs for all `images`."""
    cells: list[Cell] = []
    reference: np.ndarray | None = None
    for contender, session, reason in sessions:
        if session is None:
            cells += [Cell(contender, batch, mode, reason=reason) for mode in MODES]
            continue
        feed = {session.inputs[0].name: images[:batch]}
        try:
            scores = evaluation.infer(session, images, batch)  # compiles what is compiled on first use
        except (BackendUnavailable, ConfigError) as error:  # ConfigError: a batch beyond the engine's profile
            cells += [Cell(contender, batch, mode, session.device, reason=error.message) for mode in MODES]
            continue
        wrong = "" if contender.backend == "null" else _wrong(scores, reference, precisions.get(contender.precision))
        if reference is None:
            reference = scores
        for mode in MODES:
            cell = Cell(contender, batch, mode, session.device, reason=wrong)
            cells.append(cell)
            if wrong:
                cell.status = "failed"
                continue
            try:
                cell.call = _run_call(session, feed) if mode == "end_to_end" else session.bind(feed)
                cell.status = "ok"
            except BackendUnavailable as error:
                cell.reason = error.message
    return cells


def _run_call(session: Session, feed: dict[str, np.ndarray]) -> Callable[[], Outputs]:
    return lambda: session.run(feed)


def _wrong(scores: np.ndarray, reference: np.ndarray | None, precision: precisions.Precision) -> str:
    """Return what is wrong with a contender's outputs on these images, measured against the original model's."""
    if not np.isfinite(scores).all():
        return "NaN or Inf in the outputs"
    if reference is None or precisions.within(scores, reference, precision.tolerance):
        return ""
    agreement = float((scores.argmax(axis=1) == reference.argmax(axis=1)).mean())
    # Beyond its numeric tolerance a precision has been judged by its accuracy, in the validate stage. What is looked
    # for here is another thing: a session that computes something else altogether.
    return "" if agreement >= 0.9 else f"only {agreement:.0%} of the images agree with the original model"


def _speedups(cells: list[Cell]) -> list[dict[str, Any]]:
    """Return how much faster each other backend is than each variant of the original, the strongest baseline first."""
    ok = [cell for cell in cells if cell.status == "ok"]
    found = []
    for cell in ok:
        if cell.contender.backend in (ORIGINAL, "null"):
            continue
        baselines = [
            base
            for base in ok
            if base.contender.backend == ORIGINAL and (base.batch, base.mode) == (cell.batch, cell.mode)
        ]
        rows = [
            {
                "backend": cell.contender.backend,
                "variant": cell.contender.variant,
                "precision": cell.contender.precision,
                "batch": cell.batch,
                "mode": cell.mode,
                "over": f"{base.contender.backend} {base.contender.variant}",
                "over_device": base.device,
                "device": cell.device,
            }
            | latency.speedup(base.rounds, cell.rounds)
            for base in baselines
        ]
        found += sorted(rows, key=lambda row: float(str(row["ratio"])))
    return found


def _show(context: Context, cells: list[Cell], speedups: list[dict[str, Any]]) -> None:
    table = Table(title="Latency, host to host", title_justify="left")
    for column in (
        "batch",
        "model run by",
        "precision",
        "device",
        "p50 µs",
        "p99 µs",
        "images/s",
        "over the strongest",
    ):
        table.add_column(column)
    for cell in cells:
        if cell.status != "ok" or cell.mode != "end_to_end":
            continue
        row, contender = cell.row(), cell.contender
        own = [
            speedup
            for speedup in speedups
            if all(speedup[key] == row[key] for key in ("backend", "variant", "precision", "batch", "mode"))
        ]
        table.add_row(
            str(cell.batch),
            f"{contender.backend} {contender.variant}",
            contender.precision,
            str(cell.device),
            _number(row["p50_us"]),
            _number(row["p99_us"]),
            _number(row["items_per_s"]) if contender.backend != "null" else "",
            f"{own[0]['ratio']:.1f}× {own[0]['over']}" if own else "",
        )
    context.console.print(table)
    for cell in cells:
        if cell.status == "failed":
            context.warn(f"{cell.key}: {cell.reason}")
    skipped: dict[str, list[str]] = {}
    for cell in cells:
        if cell.status == "skipped" and cell.mode == "end_to_end":
            name = f"{cell.contender.backend} {cell.contender.variant} {cell.contender.precision}"
            skipped.setdefault(cell.reason, []).append(name)
    for reason, names in skipped.items():
        context.say(f"skipped {', '.join(dict.fromkeys(names))}: {reason}")


def _number(value: float | None) -> str:
    return "too few samples" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"

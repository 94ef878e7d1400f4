"""Stage 4: compare outputs and accuracy hop by hop, so that where something is lost has a name."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from pipeline import backends, data, graphs, precisions, user_code
from pipeline.backends import LoadOptions, Session
from pipeline.config import Validate
from pipeline.errors import BackendUnavailable, ParityError
from pipeline.precisions import Precision
from pipeline.runners import inference
from pipeline.tasks import classification
from pipeline.workflow.run import Context, Outcome

BATCH_SAMPLES = 128
"""Test images, the first of the split, whose results are compared between batch sizes."""

DRAWN = 12
"""Images at most that are kept for the report, of those to which a candidate gives another answer."""


@dataclass(frozen=True)
class Candidate:
    """One way to run the model, and the one before it in the chain. `note` says what a reader must know about it."""

    name: str
    reference: str
    precision: Precision
    backend: str
    options: LoadOptions
    path: Path
    note: str = ""
    emulate: bool = False
    batches: tuple[int, int] = inference.ANY_BATCH
    """The smallest and largest batch it takes; an engine's profile has limits."""
    skip: str = ""


def run(context: Context) -> Outcome:
    """Publish `parity.json`, `disagreements.json` and `disagreements.npz`."""
    options = context.config.validate_
    dataset_record = context.read_json("train/dataset.json")
    dataset = data.reload(dataset_record, context.config.data)
    test = dataset.test
    outputs: dict[str, np.ndarray] = {}
    hops, invariance, totals, differing = [], [], [], []
    chain = _chain(context)
    for candidate in chain:
        row: dict[str, Any] = {
            "reference": candidate.reference,
            "candidate": candidate.name,
            "precision": candidate.precision.name,
            "backend": candidate.backend,
            "device": None,
            "executed": False,
            "emulated": candidate.emulate,
        }
        try:
            if candidate.skip:
                raise BackendUnavailable(candidate.skip)
            with _loaded(candidate) as session:
                found = inference.infer(session, test.images, options.batch_size, candidate.batches)
                different = _batch_invariance(session, candidate, test.images, options)
        except BackendUnavailable as error:
            if candidate.reference:
                hops.append(row | _not_compared(error.message))
            continue
        outputs[candidate.name] = found
        invariance.append(different)
        if not candidate.reference:
            continue
        row |= {"device": session.device, "executed": True}
        hops.append(row | _compared(candidate, outputs, candidate.reference, test.labels, options))
        if candidate.name.startswith(("typed", "engine")):
            totals.append(row | {"reference": "keras"} | _compared(candidate, outputs, "keras", test.labels, options))
            if "keras" in outputs:
                other_answers = classification.disagreements(outputs["keras"], found, test.labels, DRAWN)
                differing.append({"candidate": candidate.name, "reference": "keras"} | other_answers)

    verdict = _overall([row["verdict"] for row in (*hops, *totals, *invariance)])
    context.write_json(
        "parity.json",
        {
            "schema": 1,
            "verdict": verdict,
            "dataset": {
                "name": dataset.name,
                "split": "test",
                "samples": len(test),
                "origin": dataset.origin,
                "substitute": dataset_record["substitute"],
            },
            "accuracy_budget_pp": options.accuracy_budget_pp,
            "interval": "Tango's score interval for paired proportions (Statistics in Medicine 17, 1998), 95 %",
            "hops": hops,
            "totals": totals,
            "batch_invariance": invariance,
        },
    )
    _keep_images(context, differing, test.images)
    _show(context, dataset_record, hops, invariance)
    return Outcome(failure=_failure(hops, totals, invariance))


def _keep_images(context: Context, differing: list[dict[str, Any]], images: np.ndarray) -> None:
    """Write which images get another answer, and the images themselves, so that a reader sees them without the data."""
    context.write_json("disagreements.json", {"schema": 1, "drawn_at_most": DRAWN, "candidates": differing})
    indices = np.array(sorted({sample["index"] for row in differing for sample in row["samples"]}), np.int64)
    path = context.output / "disagreements.npz"
    np.savez_compressed(path, allow_pickle=False, indices=indices, images=images[indices])


def _chain(context: Context) -> list[Candidate]:
    """Return the candidates in order: Keras → SavedModel → ONNX → typed ONNX per precision → engine."""
    user_code.register_layers(context.config.model.source)
    fp32 = precisions.get("fp32")
    chain = [
        Candidate(
            "keras", "", fp32, "tensorflow", LoadOptions("call", exact=True), context.artifact("train/model.keras")
        ),
        Candidate(
            "saved_model",
            "keras",
            fp32,
            "tensorflow",
            LoadOptions("saved_model", exact=True),
            context.artifact("export/saved_model"),
        ),
        Candidate(
            "onnx",
            "saved_model",
            fp32,
            "onnxruntime",
            LoadOptions("cpu", exact=True, sha256=context.sha256("export/model.onnx")),
            context.artifact("export/model.onnx"),
        ),
    ]
    for sidecar in context.engine_sidecars():
        precision = precisions.get(sidecar["precision"])
        typed, engine = f"typed {precision.name}", f"engine {precision.name}"
        folder = f"engine/{precision.name}"
        emulate = precision.emulate is not None
        chain.append(
            Candidate(
                typed,
                "onnx",
                precision,
                "onnxruntime",
                LoadOptions("cpu", exact=True, sha256=sidecar["onnx"] and context.sha256(f"{folder}/model.onnx")),
                context.artifact(f"{folder}/model.onnx"),
                note=f"{precision.name} emulated on the CPU by rounding in FP32" if emulate else "",
                emulate=emulate,
                skip="" if sidecar["onnx"] else f"no typed graph: {sidecar['reason']}",
            )
        )
        built = sidecar["status"] == "built"
        chain.append(
            Candidate(
                engine,
                typed,
                precision,
                "tensorrt",
                LoadOptions(
                    sidecar["flavour"] or "tensorrt",
                    allow_tf32=precision.allow_tf32,
                    sha256=context.sha256(f"{folder}/model.engine") if built else None,
                ),
                context.artifact(f"{folder}/model.engine"),
                batches=(sidecar["profile"]["min"], sidecar["profile"]["max"]),
                skip="" if built else f"no engine: {sidecar['reason']}",
            )
        )
    return chain


@contextmanager
def _loaded(candidate: Candidate) -> Iterator[Session]:
    if candidate.emulate:
        with inference.loaded(graphs.load(candidate.path), candidate.precision) as session:
            yield session
    else:
        with backends.get(candidate.backend).load(candidate.path, candidate.options) as session:
            yield session


def _batch_invariance(session: Session, candidate: Candidate, images: np.ndarray, options: Validate) -> dict[str, Any]:
    """Tell whether an image's result depends on the size of the batch it came in."""
    images = images[:BATCH_SAMPLES]
    smallest, largest = candidate.batches
    sizes = [size for size in options.batch_sizes if smallest <= size <= largest] or [smallest]
    results = [inference.infer(session, images, size, candidate.batches) for size in sizes]
    max_abs = max(float(np.abs(result - results[0]).max()) for result in results)
    tolerance = candidate.precision.tolerance
    same = all(tolerance.holds(result, results[0]) for result in results)
    return {
        "candidate": candidate.name,
        "batch_sizes": sizes,
        "samples": len(images),
        "max_abs": max_abs if np.isfinite(max_abs) else None,
        "verdict": "pass" if same else "fail",
        "reason": f"results within {tolerance}" if same else f"results differ by more than {tolerance}",
    }


def _compared(
    candidate: Candidate, outputs: dict[str, np.ndarray], reference: str, labels: np.ndarray, options: Validate
) -> dict[str, Any]:
    if reference not in outputs:
        return _not_compared(f"{reference} did not run")
    comparison = classification.compare(
        outputs[reference], outputs[candidate.name], labels, candidate.precision.tolerance, options.accuracy_budget_pp
    )
    row = asdict(comparison) | {"accuracy_drop_ci95_pp": list(comparison.accuracy_drop_ci95_pp)}
    return row | {"reason": "; ".join(filter(None, (comparison.reason, candidate.note)))}


def _not_compared(reason: str) -> dict[str, Any]:
    measures = [
        name for name in classification.Comparison.__dataclass_fields__ if name not in ("samples", "verdict", "reason")
    ]
    return {"samples": 0, **dict.fromkeys(measures), "verdict": "skipped", "reason": reason}


def _overall(verdicts: list[str]) -> str:
    return next((verdict for verdict in ("fail", "inconclusive") if verdict in verdicts), "pass")


def _failure(*tables: list[dict[str, Any]]) -> ParityError | None:
    failing = [
        f"{row.get('reference', 'itself in other batches')} → {row['candidate']}: {row['reason']}"
        for table in tables
        for row in table
        if row["verdict"] == "fail"
    ]
    if not failing:
        return None
    return ParityError(
        "\n".join(failing),
        "`make report` shows the numbers. Leave the precision out with --set engine.precisions=…, "
        "or raise validate.accuracy_budget_pp if the loss is acceptable.",
    )


def _show(
    context: Context, dataset: dict[str, Any], hops: list[dict[str, Any]], invariance: list[dict[str, Any]]
) -> None:
    samples = dataset["samples"]["test"]
    table = Table(title=f"Parity on {samples:,} test images of {dataset['name']}", title_justify="left")
    for column in ("hop", "max |Δ|", "top-1 agreement", "accuracy", "drop, points (95 %)", "verdict"):
        table.add_column(column)
    for row in hops:
        hop = f"{row['reference']} → {row['candidate']}{', emulated' if row['emulated'] else ''}"
        if row["executed"]:
            low, high = row["accuracy_drop_ci95_pp"]
            table.add_row(
                hop,
                "not finite" if row["max_abs"] is None else f"{row['max_abs']:.1e}",
                f"{row['top1_agreement']:.4f}",
                f"{row['accuracy_candidate']:.4f}",
                f"{row['accuracy_drop_pp']:+.2f} ({low:+.2f} to {high:+.2f})",
                row["verdict"],
            )
        else:
            table.add_row(hop, "", "", "", "", "skipped")
    context.console.print(table)
    for reason in dict.fromkeys(row["reason"] for row in hops if not row["executed"]):
        names = ", ".join(row["candidate"] for row in hops if row["reason"] == reason)
        context.say(f"skipped {names}: {reason}")
    for row in hops:
        if row["verdict"] == "inconclusive":
            context.warn(f"{row['reference']} → {row['candidate']}: inconclusive: {row['reason']}")
    largest = max((row["max_abs"] or 0.0 for row in invariance), default=0.0)
    sizes = ", ".join(str(size) for size in context.config.validate_.batch_sizes)
    context.say(f"batches of {sizes}: results of an image differ by at most {largest:.1e}")

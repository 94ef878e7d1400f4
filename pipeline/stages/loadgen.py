"""Beside the main line: a scenario of MLPerf LoadGen, in a process of its own, with LoadGen's own logs kept."""

import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline import artifacts, data, digests, predict
from pipeline.config import Config
from pipeline.measuring.loadgen import logs, system
from pipeline.measuring.loadgen.process import Fail, Tell, isolated
from pipeline.precisions import Precision
from pipeline.workflow.run import Context, Outcome

UNVERIFIED = "Result not verified by MLCommons Association."
"""What MLCommons asks to be said of every result that it has not reviewed."""

TARGETS = {"meets_99": 0.99, "meets_99_9": 0.999}
"""MLPerf's accuracy targets, as fractions of the FP32 model's."""


def run(context: Context) -> Outcome:
    """Publish `<scenario>-<mode>/`: LoadGen's logs and `result.json`; other runs of models still there stay beside."""
    options, seconds = context.config.loadgen, context.config.benchmark.seconds
    system.library()
    context.check_validated()
    precision = predict.choose(artifacts.Store(context.root), options.precision)
    name = f"{options.scenario}-{options.mode}"
    _keep_others(context, name)
    folder = context.output / name
    folder.mkdir()
    begun, answered = _conduct(context, precision, folder)
    said = logs.read_log(folder)
    reasons, accuracy = list(said.reasons), None
    if options.mode == "accuracy":
        accuracy = _judged(context, begun["backend"], precision.name, answered)
        if missing := answered["samples"] - answered["answered"]:
            reasons.append(f"{missing} of {answered['samples']} samples were not answered")
    result = {
        "schema": 1,
        "scenario": options.scenario,
        "mode": options.mode,
        "official": False,
        "unofficial": _why_unofficial(options.mode, seconds),
        "statement": UNVERIFIED,
        "valid": said.verdict != "INVALID" and not reasons,
        "loadgen_result": said.verdict or None,
        "reasons": reasons,
        "metric": _metric(options.scenario, said.metrics) if options.mode == "performance" else None,
        "metrics": said.metrics,
        "accuracy": accuracy,
        "precision": precision.name,
        **begun,
        "seconds_asked": seconds,
        "settings": said.settings,
        "dataset": context.read_json("train/dataset.json")["name"],
        "loadgen_version": said.version,
    }
    context.write_json(f"{name}/result.json", result)
    _show(context, folder, result)
    return Outcome()


def _keep_others(context: Context, name: str) -> None:
    """Copy what was published of other scenarios, where the file that they ran is still the published one."""
    for file in sorted((context.root / "loadgen").glob("*/result.json")):
        model = artifacts.read_json(file)["model"]
        stage, _, path = model["artifact"].partition("/")
        record = context.manifests[stage].outputs.get(path)
        if file.parent.name != name and record is not None and record.sha256 == model["sha256"]:
            shutil.copytree(file.parent, context.output / file.parent.name)


def _conduct(context: Context, precision: Precision, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the scenario in a process of its own; return how the model ran, and in accuracy mode what was answered."""
    scenario, mode = context.config.loadgen.scenario, context.config.loadgen.mode
    context.say(f"{scenario}, {mode}: loading the model and measuring what to expect")
    with isolated(_work, context.config, precision.name, folder) as receive:
        begun = receive(None)
        expected = begun["expected"]
        context.say(
            f"{begun['backend']} {begun['variant']} {precision.name} on {begun['device']}: about "
            f"{max(1, expected['seconds']):,.0f} s, {expected['samples_per_s']:,.0f} samples/s expected"
        )
        if begun["emulated"]:
            context.warn(f"this CPU has no {precision.name} arithmetic: emulated by rounding in FP32")
        columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=context.console, disable=not context.console.is_terminal) as progress:
            task = progress.add_task(f"LoadGen {system.NAMES[scenario]}", total=expected["seconds"])
            start = time.monotonic()
            while (answered := receive(0.2)) is None:
                progress.update(task, completed=min(time.monotonic() - start, expected["seconds"]))
    return begun, answered


def _work(tell: Tell, fail: Fail, config: Config, precision_name: str, folder: Path) -> None:
    """Run the scenario and tell how the model runs, then, at the end, what was answered."""
    store, options = artifacts.Store(config.artifacts), config.loadgen
    precision = predict.choose(store, precision_name)
    record = artifacts.read_json(store.verified_file("train/dataset.json"))
    test = data.reload(record, config.data).test
    # What is judged is what is timed; only an arithmetic that the CPU lacks has to be stood in for.
    exact = options.mode == "accuracy" and not precision.cpu_computes
    with predict.open_session(store, options.backend, precision, config, exact=exact) as (way, session):
        largest = max(config.benchmark.batch_sizes)
        under_test = system.SystemUnderTest(session, test.images, way.batches, largest, fail)
        settings, expected = system.configure(under_test, options, config.benchmark.seconds)
        begun = {
            "backend": way.backend,
            "variant": way.variant,
            "device": session.device,
            "emulated": way.emulated,
            "session": dict(session.settings),
            "largest_batch": under_test.largest,
            "model": {"artifact": way.artifact, "sha256": digests.of_file(store.root / way.artifact)},
            "expected": asdict(expected),
        }
        tell(begun)
        system.conduct(under_test, settings, folder)
    answered = {}
    if options.mode == "accuracy":
        answers = logs.read_answers(folder, len(test))
        correct = int((answers == test.labels).sum())
        answered = {"samples": len(test), "answered": int((answers >= 0).sum()), "correct": correct}
    tell(answered)


def _why_unofficial(mode: str, seconds: float | None) -> list[str]:
    reasons = ["not submitted to MLCommons, nor reviewed", "the model and its data are not an MLPerf benchmark's"]
    if mode == "performance" and seconds is not None and seconds < system.MLPERF_SECONDS:
        reasons.append(f"{seconds:g} s instead of the {system.MLPERF_SECONDS:g} s of MLPerf's rules")
    return reasons


def _metric(scenario: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the number that MLPerf goes by in a scenario, None where LoadGen could not give it."""
    key, name, unit = {
        # The upper bound of the percentile at 99 % confidence, which early stopping gives.
        "singlestream": ("early_stopping_latency_ss", "90th percentile of latency", "ns"),
        "multistream": ("early_stopping_latency_ms", "99th percentile of latency, of 8 samples", "ns"),
        "server": ("completed_samples_per_sec", "queries answered", "per second"),
        "offline": ("samples_per_second", "samples", "per second"),
    }[scenario]
    value = metrics.get(key)
    return {"name": name, "value": value if value else None, "unit": unit}


def _judged(context: Context, backend: str, precision: str, answered: dict[str, Any]) -> dict[str, Any]:
    """Return the accuracy LoadGen saw, beside what validation found and MLPerf's targets."""
    parity = context.read_json("validate/parity.json")
    candidate = {"tensorrt": "engine", "onnxruntime": "typed", "tensorflow": "keras"}[backend]
    executed = [row for row in (*parity["totals"], *parity["hops"]) if row["executed"]]
    fp32 = next(row["accuracy_reference"] for row in executed if row["reference"] == "keras")
    if candidate == "keras":
        found = fp32
    else:
        candidate = f"{candidate} {precision}"
        found = next((row["accuracy_candidate"] for row in executed if row["candidate"] == candidate), None)
    accuracy = answered["correct"] / answered["samples"]
    return {
        "accuracy": accuracy,
        "correct": answered["correct"],
        "samples": answered["samples"],
        "validated": {"candidate": candidate, "accuracy": found},
        "fp32": fp32,
        "of_fp32": accuracy / fp32 if fp32 else None,
    } | {name: accuracy >= share * fp32 for name, share in TARGETS.items()}


def _show(context: Context, folder: Path, result: dict[str, Any]) -> None:
    for line in (folder / "mlperf_log_summary.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("Result is"):
            context.say(f"LoadGen: {line}")
    if (metric := result["metric"]) and metric["value"]:
        value, unit = (metric["value"] / 1e3, "µs") if metric["unit"] == "ns" else (metric["value"], metric["unit"])
        context.say(f"{metric['name']}: {value:,.1f} {unit}")
    for reason in result["reasons"]:
        context.warn(reason)
    if accuracy := result["accuracy"]:
        validated = accuracy["validated"]
        seen = "did not run there" if validated["accuracy"] is None else f"{validated['accuracy']:.4f}"
        context.say(
            f"accuracy {accuracy['accuracy']:.4f} on {accuracy['samples']:,} test samples; validation of "
            f"{validated['candidate']}: {seen}; FP32: {accuracy['fp32']:.4f}"
        )
        for name, share in TARGETS.items():
            context.say(f"MLPerf's target of {share:.1%} of FP32's: {'met' if accuracy[name] else 'NOT met'}")
    context.warn(f"UNOFFICIAL, unverified: {'; '.join(result['unofficial'])}. {UNVERIFIED}")

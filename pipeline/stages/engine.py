"""Stage 3: the typed ONNX graph of each precision, and a TensorRT engine from it."""

import time
from dataclasses import replace

import numpy as np

from pipeline import backends, environment, precisions, tables
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.engine import EngineRecord, TunedRunner
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.selection import SelectedOn
from pipeline.backends.tensorrt import build
from pipeline.config import AUTO, Engine
from pipeline.data import sizes
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.measuring import clock, tuning
from pipeline.precisions import Precision
from pipeline.quantization import engines, selection
from pipeline.quantization.engines import Flavour, Made
from pipeline.quantization.typed_graphs import Rewriter
from pipeline.runners import inference, of_precision, probed, tuning_record
from pipeline.tables import engines as engine_tables
from pipeline.tensors import Ranges, fixed_batch
from pipeline.workflow.context import Context, Outcome

TIMED_S = 1.0
"""Seconds for which an engine is timed where one must be chosen; the benchmark stage is the one that counts."""


def run(context: Context) -> Outcome:
    """Publish `<precision>/model.onnx`, `model.engine`, `engine.json` and `tuning.json`, and `selection.json`."""
    options = _options(context)
    flavour = _flavour(options)
    if flavour.name:
        context.say(f"flavour: {flavour.name} {build.installed_version(flavour.name)}{_targets(options, flavour.name)}")
    else:
        context.warn(f"no engine can be built here, only the typed graphs: {flavour.absent}")
    rewriter = Rewriter.of(context.published, context.config, context.say)
    ranges = _ranges(context)
    made: list[Made] = []
    tuned: dict[tuple[str, str, str], TunedRunner] = {}  # by backend, variant and digest: tf32's graph is fp32's
    for precision in _wanted(options):
        folder = context.output / precision.name
        folder.mkdir()
        one = engines.make(rewriter, precision, flavour, options, ranges, folder)
        context.write(one.record, f"{precision.name}/engine.json")
        _say(context, one.record)
        if options.tune and one.record.onnx:
            _tune(context, one.record, tuned)
        made.append(one)
    if options.precisions == (AUTO,):
        return Outcome(failure=_select(context, rewriter, made))
    failed = [one.record for one in made if one.record.status == "failed"]
    if not failed:
        return Outcome()
    words = "\n".join(f"{record.precision}: {record.reason}" for record in failed)
    return Outcome(
        failure=BuildError(
            f"not every engine could be built\n{words}",
            "The others are published. Leave a precision out with --set engine.precisions=…, or change the model.",
        )
    )


def _options(context: Context) -> Engine:
    """Return the section `engine`, with the only batch of a model that takes no other."""
    options, fixed = context.config.engine, fixed_batch(context.published.read(ModelRecord).signature.inputs)
    if fixed is None:
        return options
    context.say(f"the model takes batches of {fixed} alone: so do its engines")
    return options.model_copy(update=dict.fromkeys(("batch_min", "batch_opt", "batch_max"), fixed))


def _ranges(context: Context) -> Ranges:
    """Return the sizes of the dynamic axes that engines are built for, and say them."""
    model, dataset = context.published.read(ModelRecord), context.published.read(DatasetRecord)
    configured = context.config.engine.ranges
    found = sizes.ranges(model.signature, dataset, configured)
    for name, axes in found.items():
        for axis, (smallest, best, largest) in axes.items():
            if axis in configured.get(name, {}):
                context.say(f"{name}, axis {axis}: {smallest} to {largest}, fastest at {best}")
            else:
                context.say(
                    f"{name}, axis {axis}: engines take {best} alone, as in the data; others with "
                    f"engine.ranges.{name}.{axis} = [smallest, best, largest]"
                )
    return found


def _wanted(options: Engine) -> list[Precision]:
    if options.precisions != (AUTO,):
        return [precisions.get(name) for name in options.precisions]
    return sorted(map(precisions.get, precisions.NAMES), key=lambda one: (-precisions.BITS[one.compute_type], one.name))


def _flavour(options: Engine) -> Flavour:
    """Return the flavour to build with, or none, and why there is none.

    Raises:
        BackendUnavailable: the flavour asked for by name cannot build here.
    """
    if options.flavour != AUTO:
        build.probe_build(options.flavour)
        return Flavour(options.flavour)
    reasons = []
    for name in build.FLAVOURS:
        try:
            build.probe_build(name)
        except BackendUnavailable as error:
            reasons.append(error.message)
        else:
            return Flavour(name)
    return Flavour(None, "; ".join(reasons))


def _targets(options: Engine, flavour: str) -> str:
    if flavour != "tensorrt-rtx":
        return ""
    return f", ahead of time for {', '.join(options.targets) if options.targets else 'its default targets'}"


def _tune(context: Context, record: EngineRecord, tuned: dict[tuple[str, str, str], TunedRunner]) -> None:
    """Write `tuning.json`: how this machine runs the typed graph, and the engine, fastest."""
    started = time.monotonic()
    folder, name = context.output / record.precision, record.precision
    assert record.onnx is not None
    found = []
    for runner in of_precision(record, folder, None, None):
        backend, variant = runner.record.backend, runner.record.variant
        if not backends.get(backend).TUNABLE or probed(runner).unavailable:
            continue
        if runner.record.batches and not record.runs_here:
            continue
        smallest, largest = inference.limits(runner.record)
        batches = [batch for batch in tuning.BATCHES if smallest <= batch <= largest]
        key = backend, variant, str(runner.record.sha256)
        try:
            if key not in tuned:
                result = tuning.tune(runner, batches)
                tuned[key] = TunedRunner(
                    backend=backend,
                    variant=variant,
                    versions=tuning_record.versions(backend),
                    steps=result.steps,
                    measured=result.measured,
                )
        except BackendUnavailable as error:
            context.say(f"{name}: {backend} {variant} is not tuned: {error.message}")
            continue
        found.append(tuned[key])
    if not found:
        return
    context.write(tuning_record.record(record.onnx.sha256, found), f"{name}/tuning.json")
    for one in found:
        context.say(f"{name}: {one.backend} {one.variant} tuned: {tuning_record.describe(one.steps)}")
    context.say(f"{name}: tuning took {time.monotonic() - started:.1f} s")


def _say(context: Context, record: EngineRecord) -> None:
    name = record.precision
    if record.status == "failed" or record.arithmetic is None:
        context.warn(f"{name}: could not be built")  # why is in the error at the end
        return
    types = ", ".join(f"{count} × {kind}" for kind, count in record.arithmetic.compute_nodes.items()) or "no product"
    if record.left:
        left = ", ".join(f"{count} × {operator}" for operator, count in record.left.items())
        types = f"{types} ({left}: in FP32, which {name} does not reach)"
    for what, nodes in (("not quantised", record.left_out), ("in FP32 all the same", record.in_fp32)):
        for names, why in engine_tables.by_reason(nodes):
            context.say(f"{name}: {what}: {names}: {why}")
    if record.engine is None:
        context.say(f"{name}: {types}; no engine")
        return
    engine = f"engine {record.engine.bytes:,} bytes in {record.build_seconds or 0:.1f} s"
    here = "runs here" if record.runs_here else f"not run here: {record.runs_here_reason}"
    context.say(f"{name}: {types}; {engine}; {here}")


def _select(context: Context, rewriter: Rewriter, made: list[Made]) -> BuildError | None:
    """Write `selection.json`, and say what was chosen and why."""
    candidates = [one.candidate for one in made]
    basis = "bits of an operand, averaged over the multiply-accumulates; no GPU ran the engines"
    if any(one.record.runs_here for one in made):
        candidates = [
            replace(one.candidate, cost=_latency_us(context, rewriter, one.record))
            if one.record.runs_here
            else replace(
                one.candidate, failure=one.candidate.failure or f"does not run here: {one.record.runs_here_reason}"
            )
            for one in made
        ]
        basis = f"median latency in µs on {environment.gpus()[0].name}, batch {made[0].record.profile.opt}"
    validation = rewriter.dataset.validation
    on = SelectedOn(name=rewriter.dataset.name, split="validation", samples=len(validation))
    chosen = selection.select(candidates, basis, on, tuple(one.record for one in rewriter.yardsticks))
    context.write(chosen)
    context.console.print(tables.terminal(engine_tables.candidates(chosen)))
    if chosen.chosen is None:
        return BuildError("no precision is proven to stay within the budget", "See selection.json for why.")
    context.say(f"chosen: {chosen.chosen} (by {basis})")
    return None


def _latency_us(context: Context, rewriter: Rewriter, record: EngineRecord) -> float:
    """Return the median of an engine's inference, inputs resident on the GPU. No engine has been run on one yet."""
    validation = rewriter.dataset.validation
    feed = validation.feed(np.resize(np.arange(len(validation)), record.profile.opt))
    every = of_precision(record, context.output / record.precision, None, None)
    engine = next(runner for runner in every if runner.record.file.endswith("model.engine"))
    with engine.open() as session:
        call = session.bind(feed)
        samples = clock.measure(call, warmup_s=0.2, min_duration_s=TIMED_S, min_samples=30)
    return float(np.median(samples)) / 1e3

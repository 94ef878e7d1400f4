"""Stage 3: the typed ONNX graph of each precision, and a TensorRT engine from it."""

import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from pipeline import artifacts, digests, environment, precisions
from pipeline.backends import LoadOptions
from pipeline.backends import tensorrt as trt_backend
from pipeline.backends.tensorrt import build, inspection
from pipeline.config import AUTO, Engine
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.measuring import harness, tuning
from pipeline.precisions import Precision
from pipeline.quantization import selection, typed_graphs
from pipeline.quantization.typed_graphs import Rewriter
from pipeline.runners import tuning_record
from pipeline.workflow.run import Context, Outcome

TIMED_S = 1.0
"""Seconds for which an engine is timed where one has to be chosen; the benchmark stage times in earnest."""


def run(context: Context) -> Outcome:
    """Publish `<precision>/model.onnx`, `model.engine` and `engine.json` for each precision, and `selection.json`."""
    options = context.config.engine
    flavour, absent = _flavour(options)
    if flavour:
        context.say(f"flavour: {flavour} {build.installed_version(flavour)}{_targets(options, flavour)}")
    else:
        context.warn(f"no engine can be built here, only the typed graphs: {absent}")
    rewriter = typed_graphs.of(context)
    sidecars, candidates = [], []
    plans: dict[tuple[str, str], tuning.Tuned] = {}  # by variant and digest: tf32's graph is fp32's
    for precision in _wanted(options):
        folder = context.output / precision.name
        folder.mkdir()
        sidecar, candidate = _build_one(rewriter, precision, flavour, absent, options, folder)
        (folder / "engine.json").write_text(artifacts.dump_json(sidecar), encoding="utf-8")
        _say(context, sidecar)
        if options.tune and sidecar["onnx"]:
            _tune(context, precision, sidecar, plans)
        sidecars.append(sidecar)
        candidates.append(candidate)
    failed = {sidecar["precision"]: sidecar["reason"] for sidecar in sidecars if sidecar["status"] == "failed"}
    if options.precisions == (AUTO,):
        return Outcome(failure=_select(context, rewriter, sidecars, candidates))
    failure = None
    if failed:
        words = "\n".join(f"{name}: {reason}" for name, reason in failed.items())
        failure = BuildError(
            f"not every engine could be built\n{words}",
            "The others are published. Leave a precision out with --set engine.precisions=…, or change the model.",
        )
    return Outcome(failure=failure)


def _wanted(options: Engine) -> list[Precision]:
    if options.precisions != (AUTO,):
        return [precisions.get(name) for name in options.precisions]
    return sorted(map(precisions.get, precisions.NAMES), key=lambda one: (-precisions.BITS[one.compute_type], one.name))


def _flavour(options: Engine) -> tuple[str | None, str]:
    """Return the flavour to build with, or None and why there is none.

    Raises:
        BackendUnavailable: the flavour asked for by name cannot build here.
    """
    if options.flavour != "auto":
        build.probe_build(options.flavour)
        return options.flavour, ""
    reasons = []
    for flavour in build.FLAVOURS:
        try:
            build.probe_build(flavour)
        except BackendUnavailable as error:
            reasons.append(error.message)
        else:
            return flavour, ""
    return None, "; ".join(reasons)


def _build_one(
    rewriter: Rewriter, precision: Precision, flavour: str | None, absent: str, options: Engine, folder: Path
) -> tuple[dict[str, Any], selection.Candidate]:
    """Write one precision's files; return its sidecar, which tells also what failed, and what a choice needs."""
    # An 8-bit float does not exist on every GPU: where the user names no target, those that have it.
    targets = options.targets or (precision.targets if flavour == "tensorrt-rtx" else ())
    bits = float(precisions.BITS[precision.compute_type])
    sidecar: dict[str, Any] = {
        "schema": 2,
        "precision": precision.name,
        "status": "skipped",
        "reason": absent,
        "messages": [],
        "flavour": flavour,
        "version": build.installed_version(flavour) if flavour else None,
        "targets": list(targets),
        "gpu": [gpu._asdict() for gpu in environment.gpus()],
        "allow_tf32": precision.allow_tf32,
        "profile": {"min": options.batch_min, "opt": options.batch_opt, "max": options.batch_max},
        "census": None,
        "mean_bits": bits,
        "keep_fp32": [],
        "calibration": None,
        "judgement": None,
        "onnx": None,
        "engine": None,
        "build_seconds": None,
        "runs_here": False,
        "runs_here_reason": absent,
        "layers": None,
    }
    onnx_path, engine_path = folder / "model.onnx", folder / "model.engine"
    judgement, cost = None, bits
    try:
        typed = rewriter.typed(precision)
        judgement, cost = typed.judgement, precision.mean_bits(typed.census)
        onnx.save(typed.model, onnx_path)
        sidecar |= {
            "census": typed.census,
            "mean_bits": cost,
            "keep_fp32": list(typed.keep_fp32),
            "calibration": typed.calibration,
            "judgement": asdict(judgement) if judgement else None,
            "onnx": _record(onnx_path),
        }
        if flavour is not None:
            sidecar |= _build_engine(onnx_path, engine_path, precision, flavour, targets, options)
    except BuildError as error:
        # TensorRT names the file by where it is now; it will be published elsewhere.
        reason = error.message.replace(f"{folder.parent}/", "engine/")
        sidecar |= {"status": "failed", "reason": reason, "runs_here_reason": "it could not be built"}
    candidate = selection.Candidate(
        precision=precision.name,
        judgement=judgement,
        cost=cost,
        mean_bits=cost,
        onnx_bytes=sidecar["onnx"]["bytes"] if sidecar["onnx"] else 0,
        engine_bytes=sidecar["engine"]["bytes"] if sidecar["engine"] else None,
        failure=sidecar["reason"] if sidecar["status"] == "failed" else "",
    )
    return sidecar, candidate


def _build_engine(
    onnx_path: Path, engine_path: Path, precision: Precision, flavour: str, targets: tuple[str, ...], options: Engine
) -> dict[str, Any]:
    """Build and write an engine, and return what the sidecar says of it."""
    started = time.monotonic()
    built = build.build(
        onnx_path,
        build.BuildOptions(
            flavour=flavour,
            allow_tf32=precision.allow_tf32,
            batch=(options.batch_min, options.batch_opt, options.batch_max),
            targets=targets,
            workspace_bytes=options.workspace_mib and options.workspace_mib * 2**20,
            optimization_level=options.optimization_level,
        ),
    )
    seconds = round(time.monotonic() - started, 3)
    engine_path.write_bytes(built.engine)
    found: dict[str, Any] = {
        "status": "built",
        "reason": "",
        "messages": list(built.messages),
        "engine": _record(engine_path),
        "build_seconds": seconds,
    }
    return found | _try_to_load(engine_path, flavour, found["engine"]["sha256"], precision)


def _record(path: Path) -> dict[str, Any]:
    return {"sha256": digests.of_file(path), "bytes": path.stat().st_size}


def _try_to_load(path: Path, flavour: str, sha256: str, precision: Precision) -> dict[str, Any]:
    """Load the engine where this machine can, and keep what its inspector says of the layers.

    Raises:
        BuildError: no layer computes in the precision.
    """
    try:
        with trt_backend.load(path, LoadOptions(flavour, sha256=sha256)) as session:
            layers = trt_backend.inspect(session)
    except BackendUnavailable as error:
        return {"runs_here": False, "runs_here_reason": error.message}
    (path.parent / "layers.json").write_text(artifacts.dump_json({"schema": 1, "layers": layers}), encoding="utf-8")
    summary = inspection.summarise(layers)
    if wrong := inspection.contradicts(summary, precision.compute_type):
        raise BuildError(wrong, "The builder found other kernels faster, or none in this type for this GPU.")
    return {"runs_here": True, "runs_here_reason": "", "layers": summary}


def _tune(
    context: Context, precision: Precision, sidecar: dict[str, Any], plans: dict[tuple[str, str], tuning.Tuned]
) -> None:
    """Write `plan.json`: how this machine runs the typed graph, and the engine, best."""
    started = time.monotonic()
    folder, profile = context.output / precision.name, sidecar["profile"]
    onnx_sha256, in_profile = sidecar["onnx"]["sha256"], range(profile["min"], profile["max"] + 1)
    ways = [("onnxruntime", "model.onnx", LoadOptions("cpu", sha256=onnx_sha256))] if precision.cpu_computes else []
    if environment.gpus():
        cuda = LoadOptions("cuda", allow_tf32=precision.allow_tf32, sha256=onnx_sha256)
        ways.append(("onnxruntime", "model.onnx", cuda))
    if sidecar["runs_here"]:
        ways.append(("tensorrt", "model.engine", LoadOptions(sidecar["flavour"], sha256=sidecar["engine"]["sha256"])))
    found: dict[str, tuning.Tuned] = {}
    for backend, file, load in ways:
        batches = [batch for batch in tuning.BATCHES if backend != "tensorrt" or batch in in_profile]
        try:
            if load.variant != "cpu" or (load.variant, onnx_sha256) not in plans:
                tuned = tuning.tune(backend, folder / file, load, precision.tolerance, batches)
                plans[load.variant, onnx_sha256] = tuned
        except BackendUnavailable as error:
            context.say(f"{precision.name}: {backend} {load.variant} is not tuned: {error.message}")
            continue
        found[load.variant] = plans[load.variant, onnx_sha256]
    if found:
        (folder / tuning_record.FILE).write_text(
            artifacts.dump_json(tuning_record.describe(onnx_sha256, found)), encoding="utf-8"
        )
        seconds = time.monotonic() - started
        for variant, tuned in found.items():
            context.say(f"{precision.name}: {variant} tuned: {tuning_record.describe_steps(tuned.steps)}")
        context.say(f"{precision.name}: tuning took {seconds:.1f} s")


def _targets(options: Engine, flavour: str) -> str:
    if flavour != "tensorrt-rtx":
        return ""
    return f", ahead of time for {', '.join(options.targets) if options.targets else 'its default targets'}"


def _say(context: Context, sidecar: dict[str, Any]) -> None:
    name = sidecar["precision"]
    if sidecar["status"] == "failed":
        context.warn(f"{name}: could not be built")  # why is in the error at the end
        return
    types = ", ".join(f"{count} × {kind}" for kind, count in sidecar["census"]["compute_nodes"].items())
    if sidecar["status"] == "skipped":
        context.say(f"{name}: {types}; no engine")
        return
    engine = f"engine {sidecar['engine']['bytes']:,} bytes in {sidecar['build_seconds']:.1f} s"
    here = "runs here" if sidecar["runs_here"] else f"not run here: {sidecar['runs_here_reason']}"
    context.say(f"{name}: {types}; {engine}; {here}")


def _select(
    context: Context, rewriter: Rewriter, sidecars: list[dict[str, Any]], candidates: list[selection.Candidate]
) -> BuildError | None:
    """Write `selection.json`, and say what was chosen and why."""
    basis = "type: the bits of an operand, on average over the multiply-accumulates; no GPU ran the engines"
    if any(sidecar["runs_here"] for sidecar in sidecars):
        candidates = [
            replace(one, cost=_latency_us(context, rewriter, one.precision))
            if sidecar["runs_here"]
            else replace(one, failure=one.failure or f"does not run here: {sidecar['runs_here_reason']}")
            for one, sidecar in zip(candidates, sidecars, strict=True)
        ]
        basis = f"median latency in µs on {environment.gpus()[0].name}, batch {context.config.engine.batch_opt}"
    chosen = selection.select(candidates, basis) | {
        "dataset": {"name": rewriter.dataset.name, "split": "validation", "samples": len(rewriter.dataset.validation)},
        "accuracy_budget_pp": context.config.validate_.accuracy_budget_pp,
    }
    context.write_json("selection.json", chosen)
    if chosen["chosen"] is None:
        return BuildError("no precision is proven to keep within the accuracy budget", "See selection.json for why.")
    context.say(f"chosen: {chosen['chosen']} (by {basis})")
    for row in chosen["candidates"]:
        if row["rejected"]:
            context.say(f"  not {row['precision']}: {row['rejected'].splitlines()[0]}")
    return None


def _latency_us(context: Context, rewriter: Rewriter, name: str) -> float:
    """Return the median of an engine's inference, inputs resident on the GPU."""
    path = context.output / name / "model.engine"
    sidecar = artifacts.read_json(path.parent / "engine.json")
    images = np.resize(
        rewriter.dataset.validation.images,
        (context.config.engine.batch_opt, *rewriter.dataset.validation.images.shape[1:]),
    )
    options = LoadOptions(sidecar["flavour"], sha256=sidecar["engine"]["sha256"])
    with trt_backend.load(path, options) as session:
        call = session.bind({session.inputs[0].name: images})
        samples = harness.measure(call, warmup_s=0.2, min_duration_s=TIMED_S, min_samples=30)
    return float(np.median(samples)) / 1e3

"""Making one precision: its typed graph, its engine, and the record of both."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline import digests, environment
from pipeline.artifacts.engine import BatchProfile, EngineLayer, EngineLayers, EngineRecord
from pipeline.artifacts.manifest import FileRecord
from pipeline.backends import LoadOptions, tensorrt
from pipeline.backends.tensorrt import build, features, inspection, process
from pipeline.backends.tensorrt.progress import Watch
from pipeline.config import Engine
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.graphs import files, keras_layers
from pipeline.precisions import Precision
from pipeline.quantization.selection import Candidate
from pipeline.quantization.typed_graphs import Rewriter, TypedGraph
from pipeline.tensors import Range, Ranges


class Flavour(NamedTuple):
    """The TensorRT to build with; None where there is none, and why."""

    name: str | None
    absent: str = ""
    timing_cache: Path | None = None
    """The file of what it has measured of kernels here, where it has one."""


class Made(NamedTuple):
    """A precision's record, and what a choice among precisions needs."""

    record: EngineRecord
    candidate: Candidate


def make(
    rewriter: Rewriter,
    precision: Precision,
    flavour: Flavour,
    options: Engine,
    profiles: Sequence[Range],
    ranges: Ranges,
    folder: Path,
    watch: Watch | None = None,
) -> Made:
    """Write one precision's files into a folder; what fails is in the record.

    `profiles` are the smallest, best and largest batch of each of the engine's optimization profiles, `ranges` those
    sizes of the other dynamic axes. `watch` is told of a build's progress.
    """
    # An 8-bit float does not exist on every GPU: where the user names no target, those that have it.
    targets = options.targets or (precision.targets if flavour.name == "tensorrt-rtx" else ())
    record = EngineRecord(
        precision=precision.name,
        status="skipped",
        reason=flavour.absent,
        flavour=flavour.name,
        version=build.installed_version(flavour.name) if flavour.name else None,
        targets=targets,
        gpu=environment.gpus(),
        allow_tf32=precision.allow_tf32,
        profiles=tuple(BatchProfile(min=least, opt=best, max=most) for least, best, most in profiles),
        ranges={name: dict(axes) for name, axes in ranges.items()},
        features=options.features if flavour.name else (),
        mean_bits=float(precision.bits),
        runs_here_reason=flavour.absent,
    )
    typed: TypedGraph | None = None
    try:
        typed = rewriter.typed(precision)
        files.save(typed.model, folder / "model.onnx")
        if typed.cpu is not None:
            files.save(typed.cpu, folder / "cpu.onnx")
        record = _with_graph(record, precision, typed, folder)
        if precision.rewrites:
            record = record.model_copy(update={"left": precision.left(rewriter.exported)})
        if flavour.name is not None:
            layers = keras_layers.homes(typed.model, rewriter.layers)
            record = _with_engine(record, precision, flavour, options, layers, folder, watch)
    except BuildError as error:
        # TensorRT names the file by where it is now; it will be published elsewhere.
        reason = str(error).replace(f"{folder.parent}/", "engine/")
        failed = {"status": "failed", "reason": reason, "runs_here_reason": "it could not be built"}
        record = record.model_copy(update=failed)
    candidate = Candidate(
        precision=precision.name,
        comparison=typed.comparison if typed else None,
        cost=record.mean_bits,
        mean_bits=record.mean_bits,
        onnx_bytes=files.written(folder / "model.onnx"),
        engine_bytes=record.engine.bytes if record.engine else None,
        failure=_failure(record),
    )
    return Made(record, candidate)


def _failure(record: EngineRecord) -> str:
    """Return why a precision is not to be chosen, or nothing."""
    if record.status == "failed":
        return record.reason
    return "TensorRT's rules leave nothing to quantise" if record.nothing_pays else ""


def _with_graph(record: EngineRecord, precision: Precision, typed: TypedGraph, folder: Path) -> EngineRecord:
    data = files.data_of(folder / "model.onnx")
    found = {
        "arithmetic": typed.arithmetic,
        "mean_bits": precision.mean_bits(typed.arithmetic),
        "keep_fp32": typed.keep_fp32,
        "calibration": typed.calibration,
        "comparison": typed.comparison,
        "onnx": _file(folder / "model.onnx"),
        "onnx_data": _file(data) if data.exists() else None,
        "cpu": _file(folder / "cpu.onnx") if typed.cpu is not None else None,
        "left_out": dict(typed.left_out),
        "in_fp32": dict(typed.in_fp32),
        "nothing_pays": typed.nothing_pays,
    }
    if typed.precision.form is not None:
        found |= {"remainder": typed.precision.remainder, "placement": typed.precision.placement}
    return record.model_copy(update=found)


def _with_engine(
    record: EngineRecord,
    precision: Precision,
    flavour: Flavour,
    options: Engine,
    layers: Mapping[str, str],
    folder: Path,
    watch: Watch | None,
) -> EngineRecord:
    """Build and write the engine, and load it where this machine can."""
    assert flavour.name is not None
    started = time.monotonic()
    built = process.build(
        folder / "model.onnx",
        folder / "model.engine",
        build.BuildOptions(
            flavour=flavour.name,
            allow_tf32=precision.allow_tf32,
            profiles=tuple((one.min, one.opt, one.max) for one in record.profiles),
            ranges=record.ranges,
            targets=record.targets,
            workspace_bytes=options.workspace_mib and options.workspace_mib * 2**20,
            optimization_level=options.optimization_level,
            features=options.features,
            timing_cache=flavour.timing_cache,
        ),
        layers,
        watch,
    )
    seconds = round(time.monotonic() - started, 3)
    record = record.model_copy(
        update={
            "status": "built",
            "reason": "",
            "messages": built.messages,
            "engine": _file(folder / "model.engine"),
            "build_seconds": seconds,
            "build_phases": built.phases,
            "features_taken": built.taken,
            "timing_cache": built.timing_cache,
        }
    )
    return _loaded(record, precision, flavour.name, folder)


def _loaded(record: EngineRecord, precision: Precision, flavour: str, folder: Path) -> EngineRecord:
    """Load the engine where this machine can, and keep what its inspector says of the layers.

    Raises:
        BuildError: in a profile no layer computes in the precision.
    """
    assert record.engine is not None
    if "strip" in record.features:
        return record.model_copy(update={"runs_here_reason": features.WEIGHTLESS})
    try:
        with tensorrt.load(folder / "model.engine", LoadOptions(flavour, sha256=record.engine.sha256)) as session:
            inspected = tensorrt.inspect(session)
    except BackendUnavailable as error:
        return record.model_copy(update={"runs_here": False, "runs_here_reason": error.message})
    every = tuple(_layer(index, layer) for index, layers in enumerate(inspected) for layer in layers)
    EngineLayers(layers=every).write(folder / "layers.json")
    summaries = tuple(map(inspection.summarise, inspected))
    for summary in summaries:
        if wrong := inspection.contradicts(summary, precision.compute_type):
            raise BuildError(wrong, "The builder found other kernels faster, or none in this type for this GPU.")
    profiles = tuple(
        profile.model_copy(update={"layers": summary})
        for profile, summary in zip(record.profiles, summaries, strict=True)
    )
    return record.model_copy(update={"runs_here": True, "runs_here_reason": "", "profiles": profiles})


def _layer(profile: int, layer: inspection.Layer) -> EngineLayer:
    return EngineLayer(
        profile=profile,
        name=inspection.name(layer),
        kind=inspection.kind(layer),
        reads=next(filter(None, map(inspection.tensor_type, inspection.inputs(layer))), ""),
        writes=next(filter(None, map(inspection.tensor_type, inspection.outputs(layer))), ""),
        details=dict(layer),
    )


def _file(path: Path) -> FileRecord:
    return FileRecord(sha256=digests.of_file(path), bytes=path.stat().st_size)

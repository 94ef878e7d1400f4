"""Making one precision: its typed graph, its engine, and the record of both."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pipeline import digests, environment
from pipeline.artifacts.engine import BatchProfile, EngineLayer, EngineLayers, EngineRecord
from pipeline.artifacts.manifest import FileRecord
from pipeline.backends import LoadOptions, tensorrt
from pipeline.backends.tensorrt import build, inspection
from pipeline.config import Engine
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.graphs import files, keras_layers
from pipeline.precisions import Precision
from pipeline.quantization.selection import Candidate
from pipeline.quantization.typed_graphs import Rewriter, TypedGraph
from pipeline.tensors import Ranges


class Flavour(NamedTuple):
    """The TensorRT to build with; None where there is none, and why."""

    name: str | None
    absent: str = ""


class Made(NamedTuple):
    """A precision's record, and what a choice among precisions needs."""

    record: EngineRecord
    candidate: Candidate


def make(
    rewriter: Rewriter, precision: Precision, flavour: Flavour, options: Engine, ranges: Ranges, folder: Path
) -> Made:
    """Write one precision's files into a folder; what fails is in the record."""
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
        profile=BatchProfile(min=options.batch_min, opt=options.batch_opt, max=options.batch_max),
        ranges={name: dict(axes) for name, axes in ranges.items()},
        mean_bits=float(precision.bits),
        runs_here_reason=flavour.absent,
    )
    typed: TypedGraph | None = None
    try:
        typed = rewriter.typed(precision)
        files.save(typed.model, folder / "model.onnx")
        record = _with_graph(record, precision, typed, folder)
        if precision.rewrite is not None:
            record = record.model_copy(update={"left_in_fp32": precision.left_in_fp32(rewriter.exported)})
        if flavour.name is not None:
            layers = keras_layers.homes(typed.model, rewriter.layers)
            record = _with_engine(record, precision, flavour.name, options, layers, folder)
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
        failure=record.reason if record.status == "failed" else "",
    )
    return Made(record, candidate)


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
    }
    return record.model_copy(update=found)


def _with_engine(
    record: EngineRecord,
    precision: Precision,
    flavour: str,
    options: Engine,
    layers: Mapping[str, str],
    folder: Path,
) -> EngineRecord:
    """Build and write the engine, and load it where this machine can."""
    started = time.monotonic()
    built = build.build(
        folder / "model.onnx",
        build.BuildOptions(
            flavour=flavour,
            allow_tf32=precision.allow_tf32,
            batch=(options.batch_min, options.batch_opt, options.batch_max),
            ranges=record.ranges,
            targets=record.targets,
            workspace_bytes=options.workspace_mib and options.workspace_mib * 2**20,
            optimization_level=options.optimization_level,
        ),
        layers,
    )
    seconds = round(time.monotonic() - started, 3)
    (folder / "model.engine").write_bytes(built.engine)
    record = record.model_copy(
        update={
            "status": "built",
            "reason": "",
            "messages": built.messages,
            "engine": _file(folder / "model.engine"),
            "build_seconds": seconds,
        }
    )
    return _loaded(record, precision, flavour, folder)


def _loaded(record: EngineRecord, precision: Precision, flavour: str, folder: Path) -> EngineRecord:
    """Load the engine where this machine can, and keep what its inspector says of the layers.

    Raises:
        BuildError: no layer computes in the precision.
    """
    assert record.engine is not None
    try:
        with tensorrt.load(folder / "model.engine", LoadOptions(flavour, sha256=record.engine.sha256)) as session:
            layers = tensorrt.inspect(session)
    except BackendUnavailable as error:
        return record.model_copy(update={"runs_here": False, "runs_here_reason": error.message})
    EngineLayers(layers=tuple(map(_layer, layers))).write(folder / "layers.json")
    summary = inspection.summarise(layers)
    if wrong := inspection.contradicts(summary, precision.compute_type):
        raise BuildError(wrong, "The builder found other kernels faster, or none in this type for this GPU.")
    return record.model_copy(update={"runs_here": True, "runs_here_reason": "", "layers": summary})


def _layer(layer: inspection.Layer) -> EngineLayer:
    return EngineLayer(
        name=inspection.name(layer),
        kind=inspection.kind(layer),
        reads=next(filter(None, map(inspection.tensor_type, inspection.inputs(layer))), ""),
        writes=next(filter(None, map(inspection.tensor_type, inspection.outputs(layer))), ""),
        details=dict(layer),
    )


def _file(path: Path) -> FileRecord:
    return FileRecord(sha256=digests.of_file(path), bytes=path.stat().st_size)

"""Stage 3: the typed ONNX graph of each precision, and a TensorRT engine from it."""

import time
from pathlib import Path
from typing import Any

import onnx

from pipeline import artifacts, environment, graphs, precisions
from pipeline.backends import LoadOptions
from pipeline.backends import tensorrt as trt_backend
from pipeline.config import Engine
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.runner import Context, Outcome


def run(context: Context) -> Outcome:
    """Publish `<precision>/model.onnx`, `model.engine` and `engine.json` for each precision."""
    options = context.config.engine
    exported = graphs.load(context.artifact("export/model.onnx"))
    flavour, absent = _flavour(options)
    if flavour:
        context.say(f"flavour: {flavour} {trt_backend.installed_version(flavour)}{_targets(options, flavour)}")
    else:
        context.warn(f"no engine can be built here, only the typed graphs: {absent}")
    failed = {}
    for name in options.precisions:
        folder = context.output / name
        folder.mkdir()
        sidecar = _build_one(exported, precisions.get(name), flavour, absent, options, folder)
        (folder / "engine.json").write_text(artifacts.dump_json(sidecar), encoding="utf-8")
        _say(context, name, sidecar)
        if sidecar["status"] == "failed":
            failed[name] = sidecar["reason"]
    failure = None
    if failed:
        words = "\n".join(f"{name}: {reason}" for name, reason in failed.items())
        failure = BuildError(
            f"not every engine could be built\n{words}",
            "The others are published. Leave a precision out with --set engine.precisions=…, or change the model.",
        )
    return Outcome(failure=failure)


def _flavour(options: Engine) -> tuple[str | None, str]:
    """Return the flavour to build with, or None and why there is none.

    Raises:
        BackendUnavailable: the flavour asked for by name cannot build here.
    """
    if options.flavour != "auto":
        trt_backend.probe_build(options.flavour)
        return options.flavour, ""
    reasons = []
    for flavour in trt_backend.FLAVOURS:
        try:
            trt_backend.probe_build(flavour)
        except BackendUnavailable as error:
            reasons.append(error.message)
        else:
            return flavour, ""
    return None, "; ".join(reasons)


def _build_one(
    exported: onnx.ModelProto,
    precision: precisions.Precision,
    flavour: str | None,
    absent: str,
    options: Engine,
    folder: Path,
) -> dict[str, Any]:
    """Write one precision's files and return its sidecar, which tells also what failed, in the builder's words."""
    sidecar: dict[str, Any] = {
        "schema": 1,
        "precision": precision.name,
        "status": "skipped",
        "reason": absent,
        "messages": [],
        "flavour": flavour,
        "version": trt_backend.installed_version(flavour) if flavour else None,
        "targets": list(options.targets),
        "gpu": [gpu._asdict() for gpu in environment.gpus()],
        "allow_tf32": precision.allow_tf32,
        "profile": {"min": options.batch_min, "opt": options.batch_opt, "max": options.batch_max},
        "compute_types": {},
        "onnx": None,
        "engine": None,
        "build_seconds": None,
        "runs_here": False,
        "runs_here_reason": absent,
    }
    onnx_path, engine_path = folder / "model.onnx", folder / "model.engine"
    try:
        typed = precision.apply(exported)
        onnx.save(typed, onnx_path)
        sidecar |= {"compute_types": graphs.compute_types(typed), "onnx": _record(onnx_path)}
        if flavour is None:
            return sidecar
        started = time.monotonic()
        built = trt_backend.build(
            onnx_path,
            trt_backend.BuildOptions(
                flavour=flavour,
                allow_tf32=precision.allow_tf32,
                batch=(options.batch_min, options.batch_opt, options.batch_max),
                targets=options.targets,
                workspace_bytes=options.workspace_mib and options.workspace_mib * 2**20,
                optimization_level=options.optimization_level,
            ),
        )
        sidecar["build_seconds"] = round(time.monotonic() - started, 3)
    except BuildError as error:
        # TensorRT names the file by where it is now; it will be published elsewhere.
        reason = error.message.replace(f"{folder.parent}/", "engine/")
        return sidecar | {"status": "failed", "reason": reason, "runs_here_reason": "it could not be built"}
    engine_path.write_bytes(built.engine)
    sidecar |= {"status": "built", "reason": "", "messages": list(built.messages), "engine": _record(engine_path)}
    return sidecar | _try_to_load(engine_path, flavour, sidecar["engine"]["sha256"])


def _record(path: Path) -> dict[str, Any]:
    return {"sha256": artifacts.sha256(path), "bytes": path.stat().st_size}


def _try_to_load(path: Path, flavour: str, sha256: str) -> dict[str, Any]:
    """Load the engine where this machine can, and keep what its inspector says of the layers."""
    try:
        with trt_backend.load(path, LoadOptions(flavour, sha256=sha256)) as session:
            layers = trt_backend.inspect(session)
    except BackendUnavailable as error:
        return {"runs_here": False, "runs_here_reason": error.message}
    (path.parent / "layers.json").write_text(artifacts.dump_json({"schema": 1, "layers": layers}), encoding="utf-8")
    return {"runs_here": True, "runs_here_reason": ""}


def _targets(options: Engine, flavour: str) -> str:
    if flavour != "tensorrt-rtx":
        return ""
    return f", ahead of time for {', '.join(options.targets) if options.targets else 'its default targets'}"


def _say(context: Context, name: str, sidecar: dict[str, Any]) -> None:
    types = ", ".join(f"{count} × {kind}" for kind, count in sidecar["compute_types"].items())
    match sidecar["status"]:
        case "built":
            here = "runs here" if sidecar["runs_here"] else f"not run here: {sidecar['runs_here_reason']}"
            engine = f"engine {sidecar['engine']['bytes']:,} bytes in {sidecar['build_seconds']:.1f} s"
            context.say(f"{name}: {types}; {engine}; {here}")
        case "failed":
            context.warn(f"{name}: could not be built")  # why is in the error at the end
        case _:
            context.say(f"{name}: {types}; no engine")

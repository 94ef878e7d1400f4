"""What this machine has, what is missing, and what each stage will therefore use (`python -m pipeline doctor`)."""

import platform
from typing import Literal

from pydantic import Field

from pipeline import backends, environment
from pipeline.artifacts.record import Record, dump_json
from pipeline.backends.tensorrt import build
from pipeline.config import AUTO, Config
from pipeline.doctor import processes
from pipeline.doctor.processes import ExportersFound, OnnxRuntimeFound, TensorFlowFound
from pipeline.environment import Machine
from pipeline.errors import BackendUnavailable
from pipeline.runners import tuning_record
from pipeline.stages import STAGES

RUNTIME = "onnxruntime>=1.32"
"""ONNX Runtime where there is no GPU."""
CUDA_RUNTIME = "onnxruntime-gpu>=1.26,<1.27"
"""Its last build for CUDA 12, TensorFlow's, which fills the same folder (decision 8)."""


class FlavourFound(Record):
    """One TensorRT: its version, and whether it can build and run engines here."""

    version: str | None
    builds: bool
    builds_reason: str
    runs: bool
    runs_reason: str


class BackendFound(Record):
    """One backend, and for each of its variants why it cannot run here; empty where it can."""

    label: str
    versions: dict[str, str]
    variants: dict[str, str]


class Findings(Record):
    """What was found, before any conclusion."""

    machine: Machine
    versions: dict[str, str]
    tensorflow: TensorFlowFound
    onnxruntime: OnnxRuntimeFound
    tensorrt: dict[str, FlavourFound]
    backends: dict[str, BackendFound]
    exporters: ExportersFound


class Diagnosis(Findings):
    """What `doctor --json` prints."""

    schema_: Literal[3] = Field(3, alias="schema")
    setup: str
    """The extra that is installed, and what `make setup` would choose."""
    conflicts: tuple[str, ...]
    missing: tuple[str, ...]
    stages: dict[str, str]
    """What each stage will use."""


def examine(config: Config) -> Diagnosis:
    """Find out, without changing anything."""
    # TensorFlow takes seconds to import, and CUDA can end a process: each is asked in a process of its own.
    with (
        processes.started("tensorflow") as tensorflow,
        processes.started("exporters") as exporters,
        processes.started("onnxruntime", *(["gpu"] if environment.gpus() else [])) as onnxruntime,
    ):
        found = Findings(
            machine=environment.machine(),
            versions=environment.versions(backends.distributions()),
            tensorrt={flavour: _flavour(flavour) for flavour in build.FLAVOURS},
            backends={name: _backend(name) for name in backends.NAMES if backends.get(name).ROLE != "harness"},
            tensorflow=processes.finish(tensorflow, TensorFlowFound),
            onnxruntime=processes.finish(onnxruntime, OnnxRuntimeFound),
            exporters=processes.finish(exporters, ExportersFound),
        )
    return Diagnosis(
        **dict(found),
        setup=setup(found),
        conflicts=tuple(conflicts(found)),
        missing=tuple(missing(found)),
        stages=_stages(found, config),
    )


def _flavour(flavour: str) -> FlavourFound:
    builds, runs = "", ""
    try:
        build.probe_build(flavour)
    except BackendUnavailable as error:
        builds = error.message
    try:
        backends.get("tensorrt").probe(flavour)
    except BackendUnavailable as error:
        runs = error.message
    version = build.installed_version(flavour)
    return FlavourFound(version=version, builds=not builds, builds_reason=builds, runs=not runs, runs_reason=runs)


def _backend(name: str) -> BackendFound:
    backend = backends.get(name)
    variants = {}
    for variant in backend.VARIANTS:
        try:
            backend.probe(variant)
            variants[variant] = ""
        except BackendUnavailable as error:
            variants[variant] = error.message
    return BackendFound(label=backend.LABEL, versions=tuning_record.versions(name), variants=variants)


def setup(found: Findings) -> str:
    """Say which of the extras is installed, and what `make setup` would choose on this machine."""
    versions, gpu = found.versions, bool(found.machine.gpus)
    cuda, tensorrt = "nvidia-cudnn-cu12" in versions, "tensorrt-cu12" in versions
    installed = "gpu" if cuda and tensorrt else "cuda" if cuda else "none"
    runtimes = [f"{name} {versions[name]}" for name in ("onnxruntime", "onnxruntime-gpu") if name in versions]
    chosen = "gpu, with onnxruntime-gpu" if gpu else "none, with onnxruntime"
    answer = "nvidia-smi answers" if gpu else "nvidia-smi does not answer"
    return (
        f"extra {installed}, {' and '.join(runtimes) or 'no ONNX Runtime'}; `make setup` would take {chosen}: {answer}"
    )


def _replace_runtime(found: Findings) -> str:
    """Say how this machine gets the one ONNX Runtime that it should have."""
    wanted = CUDA_RUNTIME if found.machine.gpus else RUNTIME
    return (
        f"`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install --no-deps '{wanted}'`; "
        "in a clone `rm -f .venv/installed-* && make setup` does both"
    )


def conflicts(found: Findings) -> list[str]:
    """Name the packages that should not be installed side by side, with the remedy."""
    versions = found.versions
    wrong = []
    if "onnxruntime" in versions and "onnxruntime-gpu" in versions:
        wrong.append(f"onnxruntime and onnxruntime-gpu fill the same folder: {_replace_runtime(found)}")
    if "nvidia-cudnn-cu12" in versions and "nvidia-cudnn-cu13" in versions:
        wrong.append("nvidia-cudnn-cu12 and nvidia-cudnn-cu13 write the same files; remove the one for CUDA 13")
    runtime = versions.get("onnxruntime-gpu", "0.0")
    if _release(runtime) >= (1, 27) and "nvidia-cudnn-cu12" in versions:
        wrong.append(
            f"onnxruntime-gpu {runtime} is built for CUDA 13, TensorFlow for CUDA 12: {_replace_runtime(found)}"
        )
    if _release(versions.get("tensorrt", "11.0")) < (11, 0):
        wrong.append(f"tensorrt {versions.get('tensorrt')} is too old: 11 is needed (it fixes CVE-2026-24268)")
    return wrong


def missing(found: Findings) -> list[str]:
    """Name what is missing and what that costs."""
    probed = (
        ("tensorflow", found.tensorflow.error),
        ("onnxruntime", found.onnxruntime.error),
        ("exporters", found.exporters.error),
    )
    lacking = [f"{name}: {error}" for name, error in probed if error]
    runtime = found.onnxruntime.version
    if runtime and _release(runtime) < (1, 32):
        remedy = "" if found.machine.gpus else f", or {_replace_runtime(found)}"
        lacking.append(
            f"fixes of memory errors in loading models (1.28.3 and later), which ONNX Runtime {runtime} lacks: "
            f"load only models that you trust{remedy}"
        )
    if not found.machine.gpus:
        no_gpu = "no NVIDIA GPU (nvidia-smi does not answer): everything runs on the CPU; engines are built but not run"
        return [*lacking, no_gpu]
    extra = "with `make setup`, which takes the extra gpu where nvidia-smi answers"
    if not found.tensorflow.gpus:
        lacking.append(f"TensorFlow does not see the GPU: install tensorflow[and-cuda] {extra}")
    if "onnxruntime-gpu" not in found.versions:
        has_build = platform.machine() in ("x86_64", "AMD64")
        remedy = _replace_runtime(found) if has_build else "there is none for CUDA 12 and this processor"
        lacking.append(f"ONNX Runtime is the build without CUDA: {remedy}")
    elif "CUDAExecutionProvider" not in found.onnxruntime.loaded:
        lacking.append(f"ONNX Runtime's CUDA provider does not load: install the CUDA 12 libraries {extra}")
    lacking += [
        f"{flavour} cannot build: {one.builds_reason}" for flavour, one in found.tensorrt.items() if not one.builds
    ]
    return lacking


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _stages(found: Findings, config: Config) -> dict[str, str]:
    """Say what each stage will use on this machine."""
    tensorflow = next(iter(found.tensorflow.gpus), "the CPU")
    wanted = list(found.tensorrt) if config.engine.flavour == AUTO else [config.engine.flavour]
    builder = next((name for name in wanted if found.tensorrt[name].builds), None)
    ahead = "" if builder and found.tensorrt[builder].runs else ", ahead of time: they will not run here"
    runners = [
        f"{one.label} {variant}"
        for name, one in found.backends.items()
        if backends.get(name).ROLE == "exported"
        for variant, reason in one.variants.items()
        if not reason
    ]
    available = ", ".join(runners) or "nothing that runs an exported model"
    uses = {
        "train": f"TensorFlow on {tensorflow}",
        "export": "tf2onnx and onnxslim, on the CPU",
        "engine": f"{builder} {found.tensorrt[builder].version}{ahead}"
        if builder
        else "typed ONNX graphs only, no engine",
        "validate": f"TensorFlow on {tensorflow}; {available}",
        "benchmark": f"TensorFlow on {tensorflow}; {available}",
        "report": "the artifacts alone; it writes a page and a text",
    }
    return {stage: uses[stage] for stage in STAGES}


def to_json(found: Diagnosis) -> str:
    """Return the findings as JSON."""
    return dump_json(found.model_dump(mode="json", by_alias=True)).rstrip()


def to_text(found: Diagnosis) -> str:
    """Return the findings for people."""
    machine = found.machine
    lines = [f"machine      {machine.cpu}, {machine.cores} cores, {machine.system}"]
    for gpu in machine.gpus:
        lines.append(f"GPU          {gpu.name}, {gpu.memory_mib} MiB, driver {gpu.driver}")
    lines += ["GPU          none"] * (not machine.gpus)
    lines.append(f"set up with  {found.setup}")
    for flavour, one in found.tensorrt.items():
        builds = "builds" if one.builds else f"does not build ({one.builds_reason})"
        lines.append(f"{flavour:12} {f'{one.version}: {builds}' if one.version else 'not installed'}")
    lines += ["", "Backends:"]
    for name, backend in found.backends.items():
        lines.append(f"  {backend.label} ({name}): {_listed(backend.versions) or 'not installed'}")
        lines += [f"    {variant:13}{reason or 'runs here'}" for variant, reason in backend.variants.items()]
    lines += ["", "Exporters:"]
    lines += [f"  {name:13}{_listed(versions)}" for name, versions in found.exporters.versions.items()]
    lines += [f"  {name:13}{reason}" for name, reason in found.exporters.unavailable.items()]
    lines += [""] * bool(found.conflicts or found.missing)
    lines += [f"CONFLICT     {conflict}" for conflict in found.conflicts]
    lines += [f"missing      {missing}" for missing in found.missing]
    lines += ["", "What each stage will use:"]
    lines += [f"  {stage:11}{use}" for stage, use in found.stages.items()]
    return "\n".join(lines)


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())

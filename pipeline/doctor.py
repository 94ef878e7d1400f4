"""What this machine has, what is missing, and what each stage will therefore use (`python -m pipeline doctor`)."""

import json
import platform
import subprocess
import sys
from typing import Any

from pipeline import artifacts, backends, environment
from pipeline.backends.tensorrt import build
from pipeline.config import Config
from pipeline.errors import BackendUnavailable

PROBE_TIMEOUT_S = 60

RUNTIME = "onnxruntime>=1.32"
"""ONNX Runtime where there is no GPU."""
CUDA_RUNTIME = "onnxruntime-gpu>=1.26,<1.27"
"""Its last build for CUDA 12, TensorFlow's, which fills the same folder (decision 8)."""

# TensorFlow takes seconds to import, and CUDA can end a process: each is asked in a process of its own.
_TENSORFLOW = """
import json, tensorflow as tf
gpus = tf.config.list_physical_devices("GPU")
names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
print(json.dumps({"version": tf.__version__, "gpus": names}))
"""

_ONNXRUNTIME = """
import json, numpy as np, onnxruntime as ort
from onnx import TensorProto, helper
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "probe", [value("x")], [value("y")])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
settings = ort.SessionOptions()
settings.log_severity_level = 4
if {gpu} and hasattr(ort, "preload_dlls"):
    ort.preload_dlls()
loaded = []
for provider in ort.get_available_providers():
    if provider == "CPUExecutionProvider" or ({gpu} and provider == "CUDAExecutionProvider"):
        session = ort.InferenceSession(model, settings, providers=[provider])
        session.run(None, {{"x": np.zeros(1, np.float32)}})
        if provider in session.get_providers():
            loaded.append(provider)
print(json.dumps({{"version": ort.__version__, "built_in": ort.get_available_providers(), "loaded": loaded}}))
"""


def examine(config: Config) -> dict[str, Any]:
    """Find out, without changing anything. The result is plain data; `docs/artifacts.md` describes it."""
    environment.prepare_tensorflow()
    gpus = environment.gpus()
    probes = {"tensorflow": _start(_TENSORFLOW), "onnxruntime": _start(_ONNXRUNTIME.format(gpu=bool(gpus)))}
    tensorrt = _tensorrt()
    found: dict[str, Any] = {
        "schema": 1,
        "machine": environment.machine(),
        "versions": environment.versions(),
        "tensorflow": _finish(probes["tensorflow"]),
        "onnxruntime": _finish(probes["onnxruntime"]),
        "tensorrt": tensorrt,
    }
    found["setup"] = _setup(found)
    found["conflicts"] = _conflicts(found)
    found["missing"] = _missing(found)
    found["stages"] = _stages(found, config)
    return found


def _start(code: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Return what a probe printed, or the last line of what went wrong."""
    try:
        output, errors = process.communicate(timeout=PROBE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"error": f"no answer within {PROBE_TIMEOUT_S} s"}
    if process.returncode:
        lines = errors.strip().splitlines()
        return {"error": lines[-1] if lines else f"ended with exit code {process.returncode}"}
    result: dict[str, Any] = json.loads(output.splitlines()[-1])
    return result


def _tensorrt() -> dict[str, Any]:
    """Tell for each flavour its version, and why it cannot build or run here, where it cannot."""
    try:
        backend = backends.get("tensorrt")
    except BackendUnavailable as error:
        return {"error": error.message}
    found = {}
    for flavour in build.FLAVOURS:
        entry: dict[str, Any] = {"version": build.installed_version(flavour)}
        for verb, probe in (("builds", build.probe_build), ("runs", backend.probe)):
            try:
                probe(flavour)
                entry |= {verb: True, f"{verb}_reason": ""}
            except BackendUnavailable as error:
                entry |= {verb: False, f"{verb}_reason": error.message}
        found[flavour] = entry
    return found


def _setup(found: dict[str, Any]) -> str:
    """Tell which of the extras is installed, and what `make setup` would choose on this machine."""
    versions, gpu = found["versions"], bool(found["machine"]["gpus"])
    cuda, tensorrt = "nvidia-cudnn-cu12" in versions, "tensorrt-cu12" in versions
    installed = "gpu" if cuda and tensorrt else "cuda" if cuda else "none"
    runtimes = [f"{name} {versions[name]}" for name in ("onnxruntime", "onnxruntime-gpu") if name in versions]
    chosen = "gpu, with onnxruntime-gpu" if gpu else "none, with onnxruntime"
    answer = "nvidia-smi answers" if gpu else "nvidia-smi does not answer"
    return (
        f"extra {installed}, {' and '.join(runtimes) or 'no ONNX Runtime'}; `make setup` would take {chosen}: {answer}"
    )


def _replace_runtime(found: dict[str, Any]) -> str:
    """Tell how this machine gets the one ONNX Runtime that it should have."""
    wanted = CUDA_RUNTIME if found["machine"]["gpus"] else RUNTIME
    return (
        f"`pip uninstall -y onnxruntime onnxruntime-gpu`, then `pip install --no-deps '{wanted}'`; "
        "in a clone `rm -f .venv/installed-* && make setup` does both"
    )


def _conflicts(found: dict[str, Any]) -> list[str]:
    """Name the packages that should not be installed side by side, with the remedy."""
    versions = found["versions"]
    conflicts = []
    if "onnxruntime" in versions and "onnxruntime-gpu" in versions:
        conflicts.append(f"onnxruntime and onnxruntime-gpu fill the same folder: {_replace_runtime(found)}")
    if "nvidia-cudnn-cu12" in versions and "nvidia-cudnn-cu13" in versions:
        conflicts.append("nvidia-cudnn-cu12 and nvidia-cudnn-cu13 write the same files; remove the one for CUDA 13")
    runtime = versions.get("onnxruntime-gpu", "0.0")
    if tuple(int(part) for part in runtime.split(".")[:2]) >= (1, 27) and "nvidia-cudnn-cu12" in versions:
        conflicts.append(
            f"onnxruntime-gpu {runtime} is built for CUDA 13, TensorFlow for CUDA 12: {_replace_runtime(found)}"
        )
    if "tensorrt" in versions and int(versions["tensorrt"].split(".")[0]) < 11:
        conflicts.append(f"tensorrt {versions['tensorrt']} is too old: 11 is needed (and mends CVE-2026-24268)")
    return conflicts


def _missing(found: dict[str, Any]) -> list[str]:
    """Name what is not there and what that costs."""
    missing = [f"{name}: {found[name]['error']}" for name in ("tensorflow", "onnxruntime") if "error" in found[name]]
    runtime = found["onnxruntime"].get("version", "")
    if runtime and tuple(int(part) for part in runtime.split(".")[:2]) < (1, 32):
        remedy = "" if found["machine"]["gpus"] else f", or {_replace_runtime(found)}"
        missing.append(
            f"fixes of memory errors in loading models (1.28.3 and later), which ONNX Runtime {runtime} lacks: "
            f"load only models that you trust{remedy}"
        )
    if not found["machine"]["gpus"]:
        return [
            *missing,
            "no NVIDIA GPU (nvidia-smi does not answer): everything runs on the CPU, engines are built only",
        ]
    extra = "with `make setup`, which takes the extra gpu where nvidia-smi answers"
    if not found["tensorflow"].get("gpus"):
        missing.append(f"TensorFlow does not see the GPU: install tensorflow[and-cuda] {extra}")
    if "onnxruntime-gpu" not in found["versions"]:
        has_build = platform.machine() in ("x86_64", "AMD64")
        remedy = _replace_runtime(found) if has_build else "there is none for CUDA 12 and this processor"
        missing.append(f"ONNX Runtime is the build without CUDA: {remedy}")
    elif "CUDAExecutionProvider" not in found["onnxruntime"].get("loaded", ()):
        missing.append(f"ONNX Runtime's CUDA provider does not load: install the CUDA 12 libraries {extra}")
    for flavour, entry in found["tensorrt"].items():
        if isinstance(entry, dict) and not entry["builds"]:
            missing.append(f"{flavour} cannot build: {entry['builds_reason']}")
    return missing


def _stages(found: dict[str, Any], config: Config) -> dict[str, str]:
    """Tell what each stage will use on this machine."""
    tensorflow = next(iter(found["tensorflow"].get("gpus", ())), "the CPU")
    flavours = {name: entry for name, entry in found["tensorrt"].items() if isinstance(entry, dict)}
    wanted = [config.engine.flavour] if config.engine.flavour != "auto" else list(flavours)
    builder = next((name for name in wanted if flavours.get(name, {}).get("builds")), None)
    runs = builder is not None and flavours[builder]["runs"]
    cuda = "CUDAExecutionProvider" in found["onnxruntime"].get("loaded", ())
    ahead = "" if runs else ", ahead of time: they will not run here"
    contenders = ["TensorFlow", "ONNX Runtime on the CPU"]
    contenders += ["ONNX Runtime with CUDA"] * cuda + [f"{builder} engines"] * runs
    return {
        "train": f"TensorFlow on {tensorflow}",
        "export": "tf2onnx and onnxslim, on the CPU",
        "engine": f"{builder} {flavours[builder]['version']}{ahead}"
        if builder
        else "typed ONNX graphs only, no engine",
        "validate": f"TensorFlow on {tensorflow}, ONNX Runtime on the CPU" + (", the engines" if runs else ""),
        "benchmark": ", ".join(contenders),
        "report": "Markdown from the artifacts",
    }


def to_json(found: dict[str, Any]) -> str:
    """Return the findings as JSON."""
    return artifacts.dump_json(found).rstrip()


def to_text(found: dict[str, Any]) -> str:
    """Return the findings for people."""
    machine = found["machine"]
    lines = [f"machine      {machine['cpu']}, {machine['cores']} cores, {machine['system']}"]
    for gpu in machine["gpus"]:
        lines.append(f"GPU          {gpu['name']}, {gpu['memory_mib']} MiB, driver {gpu['driver']}")
    lines += ["GPU          none"] * (not machine["gpus"])
    lines.append(f"set up with  {found['setup']}")
    tensorflow, runtime = found["tensorflow"], found["onnxruntime"]
    lines.append(
        f"TensorFlow   {tensorflow['error']}"
        if "error" in tensorflow
        else f"TensorFlow   {tensorflow['version']}, GPUs: {', '.join(tensorflow['gpus']) or 'none'}"
    )
    lines.append(
        f"ONNX Runtime {runtime['error']}"
        if "error" in runtime
        else f"ONNX Runtime {runtime['version']}, loads {', '.join(runtime['loaded'])}"
    )
    for name, entry in found["tensorrt"].items():
        if not isinstance(entry, dict):
            lines.append(f"TensorRT     {entry}")
            continue
        if not entry["version"]:
            lines.append(f"{name:12} not installed")
            continue
        builds = "builds" if entry["builds"] else f"does not build ({entry['builds_reason']})"
        runs = "runs" if entry["runs"] else f"does not run ({entry['runs_reason']})"
        lines.append(f"{name:12} {entry['version']}: {builds}; {runs}")
    lines += [f"CONFLICT     {conflict}" for conflict in found["conflicts"]]
    lines += [f"missing      {missing}" for missing in found["missing"]]
    lines += ["", "What each stage will use:"]
    lines += [f"  {stage:11}{use}" for stage, use in found["stages"].items()]
    return "\n".join(lines)

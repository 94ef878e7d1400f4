"""Runs engines with TensorRT 11 and with TensorRT for RTX; pipeline.backends.tensorrt.build builds them.

A batch that fits goes over one stream: into pinned memory, then one CUDA graph that holds the copy to the device, the
inference and the copy back. A larger one goes in chunks over several streams in turn, so that the copies of one chunk
overlap the inference of another, and the host fills and empties pinned memory meanwhile.

No engine has been run on a GPU yet: the only one at hand, an H200, is none of TensorRT for RTX's. The tests run it on a
fake device that moves real bytes as late as the order of the calls allows. For the names of variables see `build`.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import cuda
from pipeline.backends import LoadOptions, Role, check_variant, only_path
from pipeline.backends.tensorrt import build
from pipeline.backends.tensorrt.execution import ShapeContext
from pipeline.backends.tensorrt.execution import load as load_engine
from pipeline.backends.tensorrt.session import EngineSession
from pipeline.errors import ArtifactError, BackendUnavailable

VARIANTS = build.VARIANTS
ROLE: Role = "exported"
LABEL = "TensorRT"
DISTRIBUTIONS = (
    *("tensorrt", "tensorrt-cu12", "tensorrt-cu13"),
    *("tensorrt-rtx", "tensorrt-rtx-cu12", "tensorrt-rtx-cu13"),
    *("cuda-core", "cuda-bindings"),
)
TUNABLE = True


def probe(variant: str) -> None:
    """Raise BackendUnavailable, with the reason and the remedy, where an engine of `variant` cannot be run."""
    _gpu(variant, build.module(variant))


def _gpu(variant: str, trt: Any) -> Any:
    """Return the first GPU, or raise BackendUnavailable where there is none, or none that the library runs on.

    TensorRT for RTX names the compute capabilities it has, and takes newer ones too; data-centre GPUs of capability 9.0
    and 10.0 are among those that it leaves out. Asked here, it is one reason for every engine.
    """
    gpu = cuda.device()
    if variant == "tensorrt-rtx":
        found = tuple(gpu.compute_capability)  # major, minor
        members = trt.ComputeCapability.__members__
        known = sorted((int(name[2:-1]), int(name[-1])) for name in members if name.startswith("SM"))
        if found not in known and found < known[-1]:
            raise BackendUnavailable(
                f"TensorRT for RTX does not run on {gpu.name}, of compute capability {found[0]}.{found[1]}: "
                "install TensorRT, the extra `gpu`",
                f"It runs on {', '.join(f'{major}.{minor}' for major, minor in known)} and newer.",
            )
    return gpu


def _verified(model: Path, sha256: str | None) -> bytes:
    """Read an engine that has the digest it was published with: the bytes checked are the bytes returned."""
    if sha256 is None:
        raise ArtifactError(
            f"{model}: an engine is executable content, and is not loaded without a digest to check it by",
            "Load only what this project built: run `make engine`, whose manifest holds the digest.",
        )
    try:
        data = model.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(f"{model} does not exist", "Run `make engine`.") from error
    if not data:
        raise ArtifactError(f"{model} is empty", "Run `make engine`.")
    if (found := hashlib.sha256(data).hexdigest()) != sha256.lower():
        raise ArtifactError(f"{model} was changed: its sha256 is {found}, not {sha256}", "Run `make engine`.")
    return data


def deserialised(flavour: str, data: bytes) -> tuple[Any, Any]:
    """Return TensorRT's runtime and the engine it made of bytes that were checked, on the first GPU.

    Raises:
        BackendUnavailable: there is no GPU, or the engine is for another one or another version, with TensorRT's words.
    """
    trt, gpu = build.module(flavour), cuda.device()
    gpu.set_current()
    with build.captured(flavour) as words:
        runtime = trt.Runtime(build.logger_of(flavour))
        runtime.engine_host_code_allowed = False  # the default, stated: an engine must not bring code for the host
        engine = runtime.deserialize_cuda_engine(data)
        if engine is None:
            raise BackendUnavailable(
                "; ".join([f"TensorRT cannot load the engine on {gpu.name}", *words]),
                "An engine fits one GPU model and one TensorRT version: rebuild it on this machine with `make engine`.",
            )
    return runtime, engine


@contextmanager
def load(model: Path | bytes, options: LoadOptions) -> Iterator[EngineSession]:
    """Load an engine for the time of a `with` block. Its precision and TF32 were decided when it was built.

    Raises:
        ArtifactError: no digest was given, or the file is missing, empty or not the one published.
        BackendUnavailable: no GPU or library here, a GPU that the library does not run on, or an engine for another
            GPU or version, with TensorRT's words.
        BatchOutsideProfile: a step has chunks that the engine was not built for.
        ConfigError: there is no such variant, or a step has no stream.
        TypeError: bytes: an engine is loaded from the file it was published as.
    """
    check_variant("tensorrt", options.variant, VARIANTS)
    path = only_path(model, "tensorrt")
    data = _verified(path, options.sha256)
    trt = build.module(options.variant)
    gpu = _gpu(options.variant, trt)
    runtime, engine = deserialised(options.variant, data)
    session = EngineSession(load_engine(options.variant, runtime, engine), gpu, options.steps)
    del runtime, engine  # the session decides when they go
    try:
        yield session
    finally:
        session.close()


def inspect(session: EngineSession) -> list[list[dict[str, Any]]]:
    """Return each profile's layers as TensorRT's inspector describes them, at the batch the profile is best at."""
    session.check_open()
    return [_layers(session, profile) for profile in range(session._loaded.engine.num_optimization_profiles)]


def _layers(session: EngineSession, profile: int) -> list[dict[str, Any]]:
    trt = build.module(session.flavour)
    engine = session._loaded.engine
    best: dict[str, tuple[int, ...]] = {}
    for spec in session.inputs:
        profile_shapes = tuple(engine.get_tensor_profile_shape(spec.name, profile))  # smallest, best, largest
        best[spec.name] = tuple(profile_shapes[1])
    of_best = ShapeContext(session._loaded, session._lanes[0], profile, best)
    inspector = engine.create_engine_inspector()
    inspector.execution_context = of_best.context  # without shapes, a dynamic tensor's type is "N/A due to …"
    document = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    # An engine built elsewhere, without detailed verbosity, has names only.
    return [layer if isinstance(layer, dict) else {"Name": layer} for layer in document["Layers"]]

"""ONNX Runtime: the CPU provider everywhere, the CUDA provider where there is a GPU."""

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline import environment
from pipeline.backends import Artifact, Closable, Feed, LoadOptions, Outputs, TensorSpec, check_variant
from pipeline.errors import ArtifactError, BackendUnavailable, ConfigError

VARIANTS: dict[str, Artifact] = {"cpu": "onnx", "cuda": "onnx"}

_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeSession(Closable):
    """An inference session with its inputs and outputs on the host (`run`) or on the device (`bind`)."""

    def __init__(self, session: ort.InferenceSession, device: str) -> None:
        self._session = session
        self._kind = "cpu" if device == "cpu" else "cuda"
        self.device = device
        self.inputs = tuple(_spec(value) for value in session.get_inputs())
        self.outputs = tuple(_spec(value) for value in session.get_outputs())
        self._names = [spec.name for spec in self.outputs]

    def run(self, feed: Feed) -> Outputs:
        """Infer from host arrays to host arrays."""
        self.check_open()
        try:
            return dict(zip(self._names, self._session.run(self._names, dict(feed)), strict=True))
        except (ort.capi.onnxruntime_pybind11_state.InvalidArgument, ValueError) as error:
            raise ConfigError(f"ONNX Runtime refuses the input: {error}") from error

    def bind(self, feed: Feed) -> Callable[[], None]:
        """Put the inputs on the device, and the outputs too; each call infers once and waits."""
        self.check_open()
        binding = self._session.io_binding()
        for name, array in feed.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, self._kind, 0))
        for name in self._names:
            binding.bind_output(name, self._kind, 0)

        def call() -> None:
            self.check_open()
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()

        return call


def _spec(value: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, shape, np.dtype(_TYPES[value.type]))


def probe(variant: str) -> None:
    """Check that the provider is in this build and that there is a GPU for it; `load` finds whether it really works."""
    check_variant("onnxruntime", variant, VARIANTS)
    if variant == "cuda":
        if not environment.gpus():
            raise BackendUnavailable(
                "ONNX Runtime's CUDA provider needs an NVIDIA GPU; nvidia-smi finds none",
                "Run on a machine with a GPU, or use the CPU.",
            )
        if "CUDAExecutionProvider" not in ort.get_available_providers():
            raise BackendUnavailable(
                "this build of ONNX Runtime has no CUDA provider", "Install onnxruntime-gpu instead of onnxruntime."
            )


@contextlib.contextmanager
def load(model: Path, options: LoadOptions) -> Iterator[OnnxRuntimeSession]:
    """Load an ONNX model.

    With `exact`, only optimizations that keep the arithmetic are allowed: beyond ORT_ENABLE_BASIC, ONNX Runtime fuses
    Q/DQ pairs and computes FP8 graphs wrongly on the CPU.

    Raises:
        ArtifactError: the file is not there, is no model, or is not the one expected.
        BackendUnavailable: the provider does not load, or ONNX Runtime fell back to the CPU.
    """
    probe(options.variant)
    settings = ort.SessionOptions()
    settings.log_severity_level = 3  # errors; its warnings say that a graph could be optimized further
    level = ort.GraphOptimizationLevel
    settings.graph_optimization_level = level.ORT_ENABLE_BASIC if options.exact else level.ORT_ENABLE_ALL
    cuda = ("CUDAExecutionProvider", {"use_tf32": "1" if options.allow_tf32 else "0"})
    providers = [cuda, "CPUExecutionProvider"] if options.variant == "cuda" else ["CPUExecutionProvider"]
    try:
        # Bytes, not a path: what was checked is what is loaded.
        content = model.read_bytes()
        if options.sha256 is not None and hashlib.sha256(content).hexdigest() != options.sha256:
            raise ArtifactError(f"{model} has changed since it was published", "Run `make engine`.")
        printed = io.StringIO()
        with environment.native_log_hidden(), contextlib.redirect_stdout(printed):  # both are told below, once
            if options.variant == "cuda" and hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # the CUDA libraries that TensorFlow's packages brought
            loaded = ort.InferenceSession(content, settings, providers=providers)
    except FileNotFoundError as error:
        raise ArtifactError(f"{model} does not exist", "Run `make export engine`.") from error
    except Exception as error:
        if not type(error).__module__.startswith("onnxruntime"):
            raise
        kind = type(error).__name__
        if kind in ("InvalidProtobuf", "InvalidGraph", "NoSuchFile"):
            raise ArtifactError(
                f"{model} is not a readable ONNX model: {error}", "Run `make export engine`."
            ) from error
        raise BackendUnavailable(f"ONNX Runtime ({options.variant}) cannot run {model.name}: {error}") from error
    if options.variant == "cuda" and "CUDAExecutionProvider" not in loaded.get_providers():
        why = next(iter(printed.getvalue().splitlines()), "it does not say why")
        raise BackendUnavailable(
            f"ONNX Runtime fell back to the CPU, its CUDA provider did not load: {why}",
            "`make doctor` tells what is missing.",
        )
    session = OnnxRuntimeSession(loaded, environment.gpus()[0].name if options.variant == "cuda" else "cpu")
    try:
        yield session
    finally:
        session.close()

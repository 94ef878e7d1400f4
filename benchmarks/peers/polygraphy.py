"""Polygraphy's runners, by `runner.infer(feed)` with its default options.

`onnxrt` is its OnnxrtRunner on the CPU; it takes as many threads as there are cores. `tensorrt` is its TrtRunner on the
engine that ours runs. The latter was never run: TensorRT has not been at hand yet.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import backends, environment
from pipeline.backends import Bound, LoadOptions, Role, Variant, check_variant
from pipeline.errors import ArtifactError, BackendUnavailable
from pipeline.tensors import FIRST_GPU, Feed, Outputs, TensorSpec

VARIANTS = {"onnxrt": Variant("onnx", "cpu"), "tensorrt": Variant("engine", "cuda")}
ROLE: Role = "exported"
LABEL = "Polygraphy"
DISTRIBUTIONS = ("polygraphy",)
TUNABLE = False


class PolygraphySession:
    """An activated runner. TrtRunner's outputs are the runner's until its next `infer`."""

    def __init__(self, runner: Any, device: str) -> None:
        from polygraphy.datatype import DataType

        self._runner = runner
        self.device = device
        self.inputs = tuple(
            TensorSpec(
                name,
                tuple(size if isinstance(size, int) and size >= 0 else None for size in meta.shape),
                np.dtype(DataType.to_dtype(meta.dtype, "numpy")),
            )
            for name, meta in runner.get_input_metadata(use_numpy_dtypes=False).items()
        )
        self.outputs: tuple[TensorSpec, ...] = ()  # a runner does not say before it infers
        self.settings: dict[str, object] = {"threads": environment.cpu_count(), "runner": type(runner).__name__}

    def run(self, feed: Feed) -> Outputs:
        """Infer."""
        outputs: Outputs = self._runner.infer(feed)
        return outputs

    def bind(self, feed: Feed) -> Bound:
        """Raise BackendUnavailable: the runner does not say how long the device takes."""
        raise BackendUnavailable("runner.infer is timed as it is called: with host arrays")


def probe(variant: str) -> None:
    """Raise BackendUnavailable, with the remedy, where Polygraphy is not installed or cannot run this."""
    check_variant("polygraphy", variant, VARIANTS)
    try:
        import polygraphy  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(
            f"polygraphy cannot be imported: {error}", "pip install 'keras-tensorrt-pipeline[peers]'"
        ) from error
    if variant == "tensorrt":
        backends.get("tensorrt").probe("tensorrt")


@contextmanager
def load(model: Path, options: LoadOptions) -> Iterator[PolygraphySession]:
    """Activate a runner for an ONNX model or an engine.

    Raises:
        ArtifactError: an engine that is not the one with this digest.
        BackendUnavailable: as `probe`.
    """
    probe(options.variant)
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.WARNING  # it would log every session made
    if options.variant == "onnxrt":
        from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx

        runner, device = OnnxrtRunner(SessionFromOnnx(str(model))), "cpu"
    else:
        from polygraphy.backend.trt import EngineFromBytes, TrtRunner

        engine = model.read_bytes()
        if hashlib.sha256(engine).hexdigest() != options.sha256:
            raise ArtifactError(f"{model} is not the engine that was built here", "Build it again.")
        runner, device = TrtRunner(EngineFromBytes(engine)), str(FIRST_GPU)
    with runner:
        yield PolygraphySession(runner, device)

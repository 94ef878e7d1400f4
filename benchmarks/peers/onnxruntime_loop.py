"""`session.run` of ONNX Runtime with its default options: the loop that everybody writes.

`cuda` and `tensorrt` are its providers for NVIDIA GPUs, with TF32 off where the other runners have it off. On a
GPU only the first has run, on an H200: the second needs TensorRT, which was not at hand there.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import environment, graphs
from pipeline.backends import Bound, LoadOptions, Role, Variant, check_variant
from pipeline.errors import BackendUnavailable
from pipeline.tensors import FIRST_GPU, Feed, Outputs

VARIANTS = {
    "cpu": Variant("onnx", "cpu"),
    "cuda": Variant("onnx", "cuda"),
    "tensorrt": Variant("onnx", "cuda"),
}
ROLE: Role = "exported"
LABEL = "ONNX Runtime, bare loop"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
TUNABLE = False

_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


class LoopSession:
    """A bare session; its outputs are new arrays, the caller's own."""

    def __init__(self, session: Any, model: Path, device: str) -> None:
        proto = graphs.load(model)
        self.inputs, self.outputs = graphs.inputs(proto), graphs.outputs(proto)
        self.device = device
        self.settings: dict[str, object] = {"threads": "library default", "providers": session.get_providers()}
        self._run = session.run
        self._output = self.outputs[0].name

    def run(self, feed: Feed) -> Outputs:
        """Infer. One call and one small dict are all that is added to the loop that is meant."""
        return {self._output: self._run(None, feed)[0]}

    def bind(self, feed: Feed) -> Bound:
        """Raise BackendUnavailable: the loop hands over host arrays."""
        raise BackendUnavailable("session.run always takes and returns host arrays")


def probe(variant: str) -> None:
    """Raise BackendUnavailable where this build of ONNX Runtime has no such provider."""
    import onnxruntime as ort

    check_variant("onnxruntime_loop", variant, VARIANTS)
    if variant != "cpu" and not environment.gpus():
        raise BackendUnavailable("no NVIDIA GPU here (nvidia-smi does not answer)", "Run it on a machine with one.")
    if _PROVIDERS[variant] not in ort.get_available_providers():
        raise BackendUnavailable(f"this build of ONNX Runtime has no {_PROVIDERS[variant]}", "Install onnxruntime-gpu.")


@contextmanager
def load(model: Path, options: LoadOptions) -> Iterator[LoopSession]:
    """Load an ONNX model with ONNX Runtime's default session options.

    Raises:
        BackendUnavailable: the provider does not load: ONNX Runtime would fall back to another in silence.
    """
    import onnxruntime as ort

    probe(options.variant)
    tf32 = {"use_tf32": "1" if options.allow_tf32 else "0"}
    ways: dict[str, list[Any]] = {
        "cpu": [],
        "cuda": [("CUDAExecutionProvider", tf32)],
        "tensorrt": ["TensorrtExecutionProvider", ("CUDAExecutionProvider", tf32)],
    }
    providers = ways[options.variant]
    if providers and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()  # the CUDA libraries that TensorFlow's packages brought
    session = ort.InferenceSession(str(model), providers=[*providers, "CPUExecutionProvider"])
    if (found := session.get_providers()[0]) != _PROVIDERS[options.variant]:
        raise BackendUnavailable(
            f"ONNX Runtime fell back to {found}: its {_PROVIDERS[options.variant]} did not load",
            "`make doctor` shows what is missing.",
        )
    yield LoopSession(session, model, "cpu" if options.variant == "cpu" else str(FIRST_GPU))

"""ONNX Runtime: the CPU provider everywhere, the CUDA provider where there is a GPU.

Imported without ONNX Runtime itself, which `session` and `opening` import. The CUDA provider has run on an H200, in
FP32, TF32 and FP16. The products of INT8 and FP8 graphs it computes in FP32, between the Q/DQ pairs: as far as we know
it has no kernels that fuse them, so that its speed says nothing of these precisions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import environment
from pipeline.backends import LoadOptions, Role, Session, Variant, check_variant, import_session
from pipeline.errors import BackendUnavailable

VARIANTS = {"cpu": Variant("onnx", "cpu"), "cuda": Variant("onnx", "cuda")}
ROLE: Role = "exported"
LABEL = "ONNX Runtime"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")
TUNABLE = True


def probe(variant: str) -> None:
    """Check that ONNX Runtime is installed, has the provider, and that there is a GPU for it.

    `load` finds whether the provider really works.
    """
    check_variant("onnxruntime", variant, VARIANTS)
    if variant == "cuda" and not environment.gpus():
        raise BackendUnavailable(
            "ONNX Runtime's CUDA provider needs an NVIDIA GPU; nvidia-smi finds none",
            "Run on a machine with a GPU, or use the CPU.",
        )
    providers = import_session("onnxruntime").ort.get_available_providers()
    if variant == "cuda" and "CUDAExecutionProvider" not in providers:
        raise BackendUnavailable(
            "this build of ONNX Runtime has no CUDA provider",
            "`make setup` installs the build for CUDA 12; `make doctor` shows the two pip commands.",
        )


@contextmanager
def load(model: Path | bytes, options: LoadOptions) -> Iterator[Session]:
    """Load an ONNX model, from a file or from its bytes.

    With `exact`, the graph is run as it is written, without any optimization: from ORT_ENABLE_EXTENDED on, ONNX Runtime
    fuses Q/DQ pairs and computes FP8 graphs wrongly on the CPU. Nor are steps followed then.

    Raises:
        ArtifactError: the file is not there, is no model, or is not the one expected.
        BackendUnavailable: ONNX Runtime is not installed, the provider does not load, or nodes of the graph would run
            on the CPU instead.
    """
    probe(options.variant)
    with import_session("onnxruntime").load(model, options) as session:
        yield session

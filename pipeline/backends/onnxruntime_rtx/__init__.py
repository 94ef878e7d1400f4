"""ONNX Runtime with NVIDIA's plugin, TensorRT for RTX inside it (extra `rtx`): an ONNX graph, built where it is loaded.

The plugin's `libcuda.so.1` comes with the driver: without one the library does not even load, so nothing is built ahead
of time here. **It has never run on a GPU.** What it shares with every plugin (registering it, a session for each batch
size, refusing the CPU) the tests run with OpenVINO's plugin, on a CPU.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline import environment, graphs
from pipeline.backends import LoadOptions, Role, Session, Variant, check_variant, import_session, read_model
from pipeline.errors import BackendUnavailable
from pipeline.graphs import arithmetic

VARIANTS = {"cuda": Variant("onnx", "cuda")}
ROLE: Role = "exported"
LABEL = "ONNX Runtime with TensorRT for RTX"
DISTRIBUTIONS = ("onnxruntime", "onnxruntime-ep-nv-tensorrt-rtx-cu12", "onnxruntime-ep-nv-tensorrt-rtx-cu13")
TUNABLE = False

PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
CAPABILITIES, NEWER = ("8.6", "8.9"), 12
"""The GPUs the plugin takes, by compute capability: these, and those of this major number and above (0.5.0's words)."""


def probe(variant: str) -> None:
    """Raise BackendUnavailable, with the reason and the remedy, where the plugin cannot be used on this machine.

    `load` finds whether it really works: the plugin is 335 MB, and brings a TensorRT of its own into the process.
    """
    check_variant("onnxruntime_rtx", variant, VARIANTS)
    gpus = environment.gpus()
    if not gpus:
        raise BackendUnavailable(
            "ONNX Runtime's plugin of TensorRT for RTX needs an NVIDIA GPU; nvidia-smi finds none",
            "Run on a machine with a GPU, or use the CPU.",
        )
    capability = gpus[0].compute_capability
    if capability not in CAPABILITIES and int(capability.partition(".")[0]) < NEWER:
        raise BackendUnavailable(
            "ONNX Runtime's plugin of TensorRT for RTX does not run on "
            f"{gpus[0].name}, of compute capability {capability}",
            f"It runs on {', '.join(CAPABILITIES)}, and {NEWER}.0 and newer. Elsewhere use TensorRT, the extra `gpu`.",
        )
    if importlib.util.find_spec(PLUGIN) is None:
        raise BackendUnavailable(f"{PLUGIN} is not installed", "pip install 'keras-tensorrt-pipeline[rtx]'")
    if environment.version("onnxruntime-gpu"):
        raise BackendUnavailable(
            "NVIDIA's plugin wants ONNX Runtime's CPU package, and onnxruntime-gpu is installed",
            "Use an environment of its own for it: make EXTRAS=rtx,dev",
        )


@contextmanager
def load(model: Path | bytes, options: LoadOptions) -> Iterator[Session]:
    """Load an ONNX model, from a file or from its bytes; TensorRT builds it for each batch size at its first run.

    The graph is built as it is written, none of ONNX Runtime's own optimizations before. `exact` goes without a CUDA
    graph. Steps and threads are not followed.

    Raises:
        ArtifactError: the file is not there, is no model, or is not the one expected.
        BackendUnavailable: the plugin cannot be used here; it would compute in TF32 what was to be FP32; or nodes of
            the graph would run on the CPU.
    """
    probe(options.variant)
    if isinstance(model, bytes):
        read_model(model, options.sha256)
    proto = graphs.load(model, options.sha256)
    in_fp32 = [product.node.name for product in arithmetic.typed_products(proto) if product.kind == "FLOAT"]
    if in_fp32 and not options.allow_tf32:
        raise BackendUnavailable(
            f"ONNX Runtime's plugin of TensorRT for RTX computes FP32 products in TF32, and has no option against it: "
            f"{len(in_fp32)} of this graph's products, as {in_fp32[0]}",
            "Choose tf32, or run FP32 by TensorRT for RTX itself or by ONNX Runtime.",
        )
    with import_session("onnxruntime_rtx").load(proto, options) as session:
        yield session

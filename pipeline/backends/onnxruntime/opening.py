"""How an ONNX model becomes a session of ONNX Runtime: its options, its providers, and why one is refused."""

import contextlib
import io
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime as ort

from pipeline import environment
from pipeline.backends import LoadOptions
from pipeline.errors import ArtifactError, BackendUnavailable, first_line
from pipeline.graphs.files import Stored

GRAPH_REFUSED, CPU_REFUSED = "cannot use the graph capture feature", "fallback to CPU EP has been explicitly disabled"
"""What ONNX Runtime says where nodes that its CUDA provider lacks keep it from capturing a CUDA graph, or from starting
without its CPU provider."""


class Opened(NamedTuple):
    """A session, and why it captures no CUDA graph though one was wanted; empty where it does."""

    session: ort.InferenceSession
    graph_refused: str = ""


def open_session(model: Stored | Path, name: str, options: LoadOptions, threads: int | None, stream: Any) -> Opened:
    """Load a model; on CUDA every node, and with CUDA graphs where ONNX Runtime captures them.

    Args:
        model: the ONNX model, or a file of our own that nothing needs to be checked of.
        name: what to call it in an error.
        options: the variant, whether TF32 is allowed, and whether the graph is run exactly as it is written.
        threads: those of one operator; None leaves the choice to ONNX Runtime.
        stream: the CUDA stream to run on, for the variant `cuda`.

    Raises:
        ArtifactError: it is no ONNX model.
        BackendUnavailable: the provider does not load, or nodes would run on the CPU: one line, which names them.
    """
    on_cuda, refused = options.variant == "cuda", ""
    for graph in (True, False) if on_cuda and not options.exact else (False,):
        providers: list[Any] = ["CPUExecutionProvider"]
        if on_cuda:
            # Alone: naming the CPU's provider too contradicts disable_cpu_ep_fallback, and is refused.
            providers = [("CUDAExecutionProvider", _cuda(options, stream, graph=graph))]
        found = create(model, session_options(options, threads), providers, options)
        if not isinstance(found, Refusal):
            return Opened(found, refused)
        if not (graph and GRAPH_REFUSED in found.words):
            break
        refused = found.words  # what cannot be captured may run all the same
    assert isinstance(found, Refusal)
    if found.kind in ("InvalidProtobuf", "InvalidGraph", "NoSuchFile"):
        raise ArtifactError(f"{name} is not a readable ONNX model: {found.words}", "Run `make export engine`.")
    why = found.words
    if on_cuda and (GRAPH_REFUSED in why or CPU_REFUSED in why):
        why = _left_to_cpu(model, options, stream) or why
    raise BackendUnavailable(
        f"ONNX Runtime ({options.variant}) cannot run {Path(name).name}: {why}",
        "`make doctor` shows what is missing.",
    )


def session_options(options: LoadOptions, threads: int | None) -> ort.SessionOptions:
    """Return how ONNX Runtime is to load and run a model; `threads` are those of one operator (None: its choice)."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 3  # errors; its warnings say that a graph could be optimized further
    level = ort.GraphOptimizationLevel
    settings.graph_optimization_level = level.ORT_DISABLE_ALL if options.exact else level.ORT_ENABLE_ALL
    if threads is not None:
        settings.intra_op_num_threads = threads
    if not options.spin:
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if options.variant == "cuda":
        # Without this, nodes that the provider lacks run on the CPU in silence.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return settings


def wrong_optimizers(version: str, variant: str = "cpu") -> list[str]:
    """Return the optimizers of a version of ONNX Runtime that must not run, for `disabled_optimizers`.

    Pad_Fusion folds a Pad of zeros into a MaxPool, which pads with -Inf: 1.26 to 1.31.0 do, 1.32.0 does not.
    WeightBiasQuantization gives a quantized convolution's bias to a DequantizeLinear of int32, which the CPU fuses and
    the CUDA provider has no kernel for: one node on the CPU, and the whole graph is refused there.
    """
    pads = tuple(int(part) for part in version.split(".")[:2]) < (1, 32)
    return ["Pad_Fusion"] * pads + ["WeightBiasQuantization"] * (variant == "cuda")


class Refusal(NamedTuple):
    """Why there is no session: the name of ONNX Runtime's exception, and its words in one line."""

    kind: str
    words: str


def _cuda(options: LoadOptions, stream: Any, *, graph: bool) -> dict[str, str]:
    """Return the CUDA provider's options."""
    return {
        "use_tf32": "1" if options.allow_tf32 else "0",
        "enable_cuda_graph": "1" if graph else "0",
        "user_compute_stream": str(int(stream.handle)),
    }


def create(
    model: Stored | Path, settings: ort.SessionOptions, providers: list[Any] | None, options: LoadOptions
) -> ort.InferenceSession | Refusal:
    """Create a session, or return why not; what ONNX Runtime prints meanwhile is part of that.

    `providers` is None where the settings name the device of a plugin's provider.
    """
    printed = io.StringIO()
    with environment.native_log_hidden(), contextlib.redirect_stdout(printed):
        try:
            if options.variant == "cuda":
                # On an H200 cuDNN's front end logged an error for each of hundreds of plans it tried and dropped.
                ort.set_default_logger_severity(4)
            if options.variant == "cuda" and hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # the CUDA libraries that TensorFlow's packages brought
            wrong = wrong_optimizers(ort.__version__, options.variant)
            return ort.InferenceSession(
                _given(model, settings), settings, providers=providers, disabled_optimizers=wrong, enable_fallback=0
            )
        except Exception as error:
            if not is_its_own(error):
                raise
            said = next(iter(printed.getvalue().splitlines()), "")
            return Refusal(type(error).__name__, "; ".join(filter(None, (words(error), said))))


def is_its_own(error: Exception) -> bool:
    """Tell whether an exception is one of ONNX Runtime's, which have no class in common."""
    return isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")


def _given(model: Stored | Path, settings: ort.SessionOptions) -> bytes | Path:
    """Return what a session is created of; the files of the weights are given to its options."""
    if isinstance(model, Path):
        return model
    if model.data:
        names, contents = list(model.data), list(model.data.values())
        settings.add_external_initializers_from_files_in_memory(names, contents, list(map(len, contents)))
    return model.content


def words(error: Exception) -> str:
    """Return what ONNX Runtime says in one line, without its codes and the place in its own source."""
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", " ".join(first_line(error).split()))
    return re.sub(r"^Exception during initialization: \S+\.(?:cc|h):\d+ .* was false\. ", "", line)


def _left_to_cpu(model: Stored | Path, options: LoadOptions, stream: Any) -> str:
    """Say which nodes the CUDA provider leaves to the CPU, or nothing where ONNX Runtime does not tell.

    A session that may use the CPU is created for this, and never run.
    """
    if not hasattr(ort.InferenceSession, "get_provider_graph_assignment_info"):  # ONNX Runtime before 1.24
        return ""
    settings = session_options(options, None)
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = [("CUDAExecutionProvider", _cuda(options, stream, graph=False)), "CPUExecutionProvider"]
    session = create(model, settings, providers, options)
    return "" if isinstance(session, Refusal) else on_cpu(session)


def on_cpu(session: ort.InferenceSession, provider: str = "the CUDA provider") -> str:
    """Say which operators a session with a record of its nodes' providers runs on the CPU; empty where none.

    Nodes that only compute shapes belong there: ONNX Runtime says nothing of which those are.
    """
    nodes = Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name == "CPUExecutionProvider"
        for node in part.get_nodes()
    )
    named = ", ".join(f"{count} × {operator}" for operator, count in sorted(nodes.items()))
    return f"{provider} leaves {nodes.total()} of its nodes to the CPU: {named}" if nodes else ""

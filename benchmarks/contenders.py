"""Who is timed: our runners, and beside them every usual way to run the same model."""

from pathlib import Path
from typing import Literal, NamedTuple

from benchmarks import peers
from pipeline import backends, environment
from pipeline.backends import LoadOptions, Step
from pipeline.measuring import speedups
from pipeline.measuring.harness import Contender

ONNXRUNTIME, TENSORRT = f"{backends.__name__}.onnxruntime", f"{backends.__name__}.tensorrt"
KERAS, OPENVINO = f"{backends.__name__}.tensorflow", f"{backends.__name__}.openvino"
LOOP, POLYGRAPHY = f"{peers.__name__}.onnxruntime_loop", f"{peers.__name__}.polygraphy"


class Way(NamedTuple):
    """One way to run a model: a backend's module and variant, what it takes, and what the table calls it."""

    module: str
    variant: str
    takes: Literal["keras", "onnx", "engine"]
    label: str
    on_gpu: bool = False


WAYS = (
    Way(KERAS, "call", "keras", "Keras model(x)"),  # first: the others' outputs are held against its
    Way(KERAS, "predict", "keras", "Keras predict"),
    Way(KERAS, "function", "keras", "Keras tf.function"),
    Way(KERAS, "xla", "keras", "Keras tf.function, XLA"),
    Way(OPENVINO, "cpu", "onnx", "OpenVINO"),
    Way(POLYGRAPHY, "onnxrt", "onnx", "Polygraphy OnnxrtRunner"),
    Way(LOOP, "cpu", "onnx", "ONNX Runtime, bare loop"),
    Way(ONNXRUNTIME, "cpu", "onnx", "ours: ONNX Runtime"),
    Way(LOOP, "cuda", "onnx", "ONNX Runtime CUDA, bare loop", on_gpu=True),
    Way(LOOP, "tensorrt", "onnx", "ONNX Runtime TensorRT, bare loop", on_gpu=True),
    Way(ONNXRUNTIME, "cuda", "onnx", "ours: ONNX Runtime CUDA", on_gpu=True),
    Way(POLYGRAPHY, "tensorrt", "engine", "Polygraphy TrtRunner", on_gpu=True),
    Way(TENSORRT, "tensorrt", "engine", "ours: TensorRT", on_gpu=True),
)


class Files(NamedTuple):
    """One network in each form it is run in, with the digests, and how this machine runs it best.

    `engine` is None where there is none, and `no_engine` says why. `plans` are the steps for each of our variants.
    """

    keras: Path
    onnx: Path
    onnx_sha256: str
    engine: Path | None
    engine_sha256: str | None
    no_engine: str
    plans: dict[str, tuple[Step, ...]]


def contenders(files: Files, threads: int) -> list[Contender]:
    """Return everybody, our first runner on the CPU and on the GPU twice; what cannot run here says why it is skipped.

    All compute in FP32, TF32 off, with `threads` threads where the way lets that be chosen.
    """
    found = []
    for way in WAYS:
        skip = ""
        if way.on_gpu and not environment.gpus():
            skip = "no NVIDIA GPU here (nvidia-smi does not answer)"
        elif way.takes == "engine" and files.engine is None:
            skip = files.no_engine
        path, digest = {
            "keras": (files.keras, None),
            "onnx": (files.onnx, files.onnx_sha256),
            "engine": (files.engine or files.onnx, files.engine_sha256),
        }[way.takes]
        plan = files.plans.get(way.variant, ()) if way.module in (ONNXRUNTIME, TENSORRT) else ()
        options = LoadOptions(way.variant, sha256=digest, threads=threads, plan=plan)
        found.append(Contender(way.module, way.variant, "fp32", path, options, skip=skip))
    return speedups.with_twins(found, ours)


def ours(contender: Contender) -> bool:
    """Tell whether it is one of this project's own runners."""
    return contender.module in (ONNXRUNTIME, TENSORRT)


def label(contender: Contender) -> str:
    """Return what the table calls a contender."""
    way = next(way for way in WAYS if (way.module, way.variant) == (contender.module, contender.variant))
    return f"{way.label}{', again' if contender.twin else ''}"

"""What is timed: our runners, and with them every usual way to run the same model."""

from pathlib import Path
from typing import NamedTuple

from benchmarks import peers
from pipeline import backends, environment
from pipeline.artifacts.runner import Role, RunnerOptions, RunnerRecord, Step
from pipeline.measuring import speedups
from pipeline.measuring.cells import Timed
from pipeline.runners import Runner

ONNXRUNTIME, TENSORRT = f"{backends.__name__}.onnxruntime", f"{backends.__name__}.tensorrt"
KERAS, OPENVINO = f"{backends.__name__}.tensorflow", f"{backends.__name__}.openvino"
LOOP, POLYGRAPHY = f"{peers.__name__}.onnxruntime_loop", f"{peers.__name__}.polygraphy"


class Way(NamedTuple):
    """One way to run a model: a backend's module and variant, and what the table calls it."""

    module: str
    variant: str
    label: str


WAYS = (
    Way(KERAS, "call", "Keras model(x)"),  # first: the others' outputs are compared with its
    Way(KERAS, "predict", "Keras predict"),
    Way(KERAS, "function", "Keras tf.function"),
    Way(KERAS, "xla", "Keras tf.function, XLA"),
    Way(OPENVINO, "cpu", "OpenVINO"),
    Way(POLYGRAPHY, "onnxrt", "Polygraphy OnnxrtRunner"),
    Way(LOOP, "cpu", "ONNX Runtime, bare loop"),
    Way(ONNXRUNTIME, "cpu", "ours: ONNX Runtime"),
    Way(LOOP, "cuda", "ONNX Runtime CUDA, bare loop"),
    Way(LOOP, "tensorrt", "ONNX Runtime TensorRT, bare loop"),
    Way(ONNXRUNTIME, "cuda", "ours: ONNX Runtime CUDA"),
    Way(POLYGRAPHY, "tensorrt", "Polygraphy TrtRunner"),
    Way(TENSORRT, "tensorrt", "ours: TensorRT"),
)


class Files(NamedTuple):
    """One network in each form it is run in, with the digests, and how this machine runs it fastest.

    `engine` is None where there is none, and `no_engine` says why. `steps` are those of each of our variants.
    """

    keras: Path
    onnx: Path
    onnx_sha256: str
    engine: Path | None
    engine_sha256: str | None
    no_engine: str
    steps: dict[str, tuple[Step, ...]]


def runners(files: Files, threads: int | None) -> list[Runner]:
    """Return all runners; those that cannot run here say why.

    All compute in FP32, TF32 off, with `threads` threads where that can be set.
    """
    return [runner(way, files, threads) for way in WAYS]


def runner(way: Way, files: Files, threads: int | None) -> Runner:
    """Return one way to run a network."""
    kind = backends.module(way.module).VARIANTS[way.variant]
    path, sha256 = {
        "keras": (files.keras, None),
        "saved_model": (files.keras, None),
        "onnx": (files.onnx, files.onnx_sha256),
        "engine": (files.engine or files.onnx, files.engine_sha256),
    }[kind.consumes]
    why = ""
    if kind.device == "cuda" and not environment.gpus():
        why = "no NVIDIA GPU here (nvidia-smi does not answer)"
    elif kind.consumes == "engine" and files.engine is None:
        why = files.no_engine
    role: Role = "original" if way.module == KERAS else "exported"
    record = RunnerRecord(
        name=way.label,
        role=role,
        backend=way.module.rpartition(".")[2],
        variant=way.variant,
        precision="fp32",
        file=path.name,
        sha256=sha256,
        options=RunnerOptions(
            threads=threads, steps=files.steps.get(way.variant, ()) if way.module in (ONNXRUNTIME, TENSORRT) else ()
        ),
    )
    return Runner(record, path, kind.device, way.module, unavailable=why)


def timed(files: Files, threads: int) -> list[Timed]:
    """Return all runners, our first one on the CPU and on the GPU twice."""
    return speedups.with_repeats(runners(files, threads), ours)


def ours(runner: Runner) -> bool:
    """Tell whether it is one of this project's own runners."""
    return runner.module in (ONNXRUNTIME, TENSORRT)

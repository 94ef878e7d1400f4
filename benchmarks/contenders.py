"""Who is timed: our runners, and beside them every usual way to run the same model."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import backends, environment, plan, precisions, results
from pipeline.backends import LoadOptions, Step
from pipeline.errors import BackendUnavailable
from pipeline.harness import Cell, Contender

from benchmarks import peers

OURS_CPU = f"{backends.__name__}.onnxruntime"
OURS_GPU = f"{backends.__name__}.tensorrt"
LOOP = f"{peers.__name__}.onnxruntime_loop"
POLYGRAPHY = f"{peers.__name__}.polygraphy"
OPENVINO = f"{backends.__name__}.openvino"
KERAS = f"{backends.__name__}.tensorflow"


class Way(NamedTuple):
    """One way to run a model, and what it is called in the table."""

    module: str
    variant: str
    label: str
    on_gpu: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Module and variant, by which a contender is known."""
        return self.module, self.variant


WAYS = (
    Way(KERAS, "call", "Keras model(x)"),  # first: the others' outputs are held against its
    Way(KERAS, "predict", "Keras predict"),
    Way(KERAS, "function", "Keras tf.function"),
    Way(KERAS, "xla", "Keras tf.function, XLA"),
    Way(OPENVINO, "cpu", "OpenVINO"),
    Way(POLYGRAPHY, "onnxrt", "Polygraphy OnnxrtRunner"),
    Way(LOOP, "cpu", "ONNX Runtime, bare loop"),
    Way(OURS_CPU, "cpu", "ours: ONNX Runtime"),
    Way(LOOP, "cuda", "ONNX Runtime CUDA, bare loop", on_gpu=True),
    Way(LOOP, "tensorrt", "ONNX Runtime TensorRT, bare loop", on_gpu=True),
    Way(OURS_CPU, "cuda", "ours: ONNX Runtime CUDA", on_gpu=True),
    Way(POLYGRAPHY, "tensorrt", "Polygraphy TrtRunner", on_gpu=True),
    Way(OURS_GPU, "tensorrt", "ours: TensorRT", on_gpu=True),
)


def label(contender: Contender) -> str:
    """Return what a contender is called in the table."""
    way = next(way for way in WAYS if way.key == (contender.module, contender.variant))
    return f"{way.label}{', again' if contender.twin else ''}"


def ours(contender: Contender) -> bool:
    """Tell whether it is one of this project's runners."""
    return contender.module in (OURS_CPU, OURS_GPU)


class Files(NamedTuple):
    """What is run: one network in each of its forms, with the digests, and how this machine runs it best.

    `engine` is missing where none could be built, and `no_engine` says why. `plans` are the steps of each variant.
    """

    keras: Path
    onnx: Path
    onnx_sha256: str
    engine: Path | None
    engine_sha256: str | None
    no_engine: str
    plans: dict[str, tuple[Step, ...]]


def contenders(files: Files, threads: int) -> list[Contender]:
    """Return everybody, our runner on the CPU and on the GPU twice; what this machine lacks says why it is skipped.

    All run FP32 with TF32 off, with `threads` threads where the way lets that be chosen.
    """
    found = []
    no_gpu = "" if environment.gpus() else "no NVIDIA GPU here (nvidia-smi does not answer)"
    for way in WAYS:
        consumes = backends.module(way.module).VARIANTS[way.variant]
        path = {"keras": files.keras, "onnx": files.onnx, "engine": files.engine or files.onnx}[consumes]
        digest = {"keras": None, "onnx": files.onnx_sha256, "engine": files.engine_sha256}[consumes]
        steps = files.plans.get(way.variant, ()) if way.module in (OURS_CPU, OURS_GPU) else ()
        skip = no_gpu if way.on_gpu else ""
        if consumes == "engine" and not files.engine:
            skip = skip or files.no_engine
        if not skip:
            try:
                backends.module(way.module).probe(way.variant)
            except BackendUnavailable as error:
                skip = error.message
        options = LoadOptions(way.variant, sha256=digest, threads=threads, plan=steps)
        found.append(Contender(way.module, way.variant, "fp32", path, options, skip=skip))
    return results.with_twins(found, ours)


def tune(onnx: Path, onnx_sha256: str, engine: Path | None, engine_sha256: str | None, threads: int) -> dict[str, Any]:
    """Find how this machine runs the graph and the engine best, as the engine stage does; return a plan's content."""
    from pipeline import tuning

    tolerance = precisions.get("fp32").tolerance
    ways = [("onnxruntime", onnx, LoadOptions("cpu", sha256=onnx_sha256, threads=threads))]
    if environment.gpus():
        ways.append(("onnxruntime", onnx, LoadOptions("cuda", sha256=onnx_sha256)))
    if engine is not None:
        ways.append(("tensorrt", engine, LoadOptions("tensorrt", sha256=engine_sha256)))
    tuned: dict[str, Any] = {}
    for backend, path, options in ways:
        try:
            tuned[options.variant] = tuning.tune(backend, path, options, tolerance)
        except BackendUnavailable:
            continue  # its cell will say so
    return plan.describe(onnx_sha256, tuned)


def steps_of(described: dict[str, Any]) -> dict[str, tuple[Step, ...]]:
    """Return the steps of each variant in a plan's content."""
    return {name: tuple(Step(**step) for step in found["steps"]) for name, found in described["variants"].items()}


def same_kind(one: Cell, other: Cell) -> bool:
    """Tell whether two cells ran on the same kind of device, with the same batch, in the same mode."""
    return (one.device == "cpu", one.batch, one.mode) == (other.device == "cpu", other.batch, other.mode)


__all__ = ["WAYS", "Files", "Way", "contenders", "label", "ours", "replace", "same_kind", "steps_of", "tune"]

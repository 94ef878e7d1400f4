"""The steps of single runners: a small network in every precision, run by one of them and held against the CPU.

The network is made of ONNX operators, so that TensorFlow need not be here; all else is what the engine stage does.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks import ranges
from benchmarks.gpu_check import records
from benchmarks.gpu_check.records import PrecisionRun
from pipeline import backends, digests, environment, precisions
from pipeline.backends import LoadOptions, tensorrt
from pipeline.backends.tensorrt import build
from pipeline.errors import BackendUnavailable, BuildError, PipelineError
from pipeline.precisions import Precision
from pipeline.tensors import Feed, Outputs

PROFILES = ((1, 1, 1), (2, 16, 64))
ONE_PROFILE = ((1, 16, 64),)
"""For all batches, to be timed beside the others at batch 1: what a profile of its own is worth there."""

WITH_ONE_PROFILE = ("fp16", "int8")
"""The precisions of which an engine is also built with one profile."""

BATCHES = (1, 16, 7, 64, 100)
"""Growing and shrinking; the last is larger than the engine's profiles, and so is run in chunks."""


def main(found: Path, name: str, variant: str) -> None:
    """Take every precision as far as this machine goes, and write a `PrecisionRun` after each.

    Raises:
        BackendUnavailable: nothing ran, and nothing could be built.
        PipelineError: what should run here does not, or computes something else.
    """
    unavailable = ""
    try:
        backends.get(name).probe(variant)
    except BackendUnavailable as error:
        unavailable = error.message
    runner = Runner(name, variant, unavailable)
    if runner.builds:
        build.probe_build(variant)
    elif unavailable:
        raise BackendUnavailable(unavailable)
    images = np.random.default_rng(1).integers(0, 256, (max(BATCHES), 28, 28, 1), dtype=np.uint8)
    exported = network()
    amax = ranges.largest(exported, {"image": images})
    runs = []
    for precision in (precisions.get(name).configured("fp16", "all") for name in precisions.NAMES):
        typed = precision.apply(exported, amax=amax)
        for one_profile in (False, True) if runner.builds and precision.name in WITH_ONE_PROFILE else (False,):
            run = PrecisionRun(precision.name, one_profile)
            runs.append(_run(run, precision, typed, model_of(found, run, engine=False), runner, images))
            records.write(found, runs)
            print(runs[-1])
    if wrong := [f"{one.name}: {one.wrong}" for one in runs if one.wrong]:
        raise PipelineError("\n".join(wrong))
    if refused := [one.name for one in runs if one.refused]:
        print(f"note: {'built, ' if runner.builds else ''}not run: {', '.join(refused)}")


def model_of(found: Path, run: PrecisionRun, *, engine: bool) -> Path:
    """Return where a step that writes `found` leaves the typed graph, or the engine, of a run."""
    profile = "-one-profile" if run.one_profile else ""
    return found.with_name(f"{found.stem}-{run.precision}{profile}.{'engine' if engine else 'onnx'}")


class Runner(NamedTuple):
    """One way to run a model, and why that cannot be done here; empty where it can."""

    backend: str
    variant: str
    unavailable: str

    @property
    def builds(self) -> bool:
        """Whether it runs engines, which are built first."""
        return backends.get(self.backend).VARIANTS[self.variant].consumes == "engine"


def _run(
    run: PrecisionRun, precision: Precision, typed: onnx.ModelProto, graph: Path, runner: Runner, images: np.ndarray
) -> PrecisionRun:
    path = graph
    onnx.save(typed, graph)
    try:
        if runner.builds:
            path = graph.with_suffix(".engine")
            run = _built(run, precision, graph, runner.variant, path)
        if runner.unavailable:
            return replace(run, refused=_refused(path, runner))
        return _compared(run, precision, typed, path, runner, images)
    except (BackendUnavailable, BuildError) as error:
        # ONNX Runtime may have no kernel for a type; an engine must be built, and run on the GPU it was built for.
        return replace(run, wrong=error.message) if runner.builds else replace(run, refused=error.message)


def _built(run: PrecisionRun, precision: Precision, graph: Path, flavour: str, path: Path) -> PrecisionRun:
    started = time.monotonic()
    targets = precision.targets if flavour == "tensorrt-rtx" else ()
    profiles = ONE_PROFILE if run.one_profile else PROFILES
    options = build.BuildOptions(flavour, allow_tf32=precision.allow_tf32, profiles=profiles, targets=targets)
    built = build.build(graph, options)
    path.write_bytes(built.engine)
    return replace(run, engine_bytes=len(built.engine), build_s=round(time.monotonic() - started, 2))


def _compared(
    run: PrecisionRun, precision: Precision, typed: onnx.ModelProto, path: Path, runner: Runner, images: np.ndarray
) -> PrecisionRun:
    """Run batches of several sizes, and compare each with the same graph on the CPU."""
    feeds = {batch: {"image": images[:batch]} for batch in BATCHES}
    expected = {batch: _on_cpu(precision, typed, feed) for batch, feed in feeds.items()}
    sha256 = digests.of_file(path)
    options = LoadOptions(runner.variant, allow_tf32=precision.allow_tf32, sha256=sha256)
    differences, wrong = [], ""
    with backends.get(runner.backend).load(path, options) as session:
        for batch, feed in feeds.items():
            scores = session.run(feed)["scores"]
            differences.append(float(np.abs(scores - expected[batch]["scores"]).max()))
            if not precision.tolerance.holds(scores, expected[batch]["scores"]):
                wrong = f"at batch {batch} it differs from the CPU by {differences[-1]:.2g}"
                break
        settings = dict(session.settings)
    worst = max(differences)
    if not np.isfinite(worst):
        return replace(run, wrong=wrong or "NaN or Inf in the outputs")
    return replace(run, batches=BATCHES[: len(differences)], difference=worst, settings=settings, wrong=wrong)


def _refused(engine: Path, runner: Runner) -> str:
    """Return why an engine does not run here: in the library's own words, where there is a GPU to ask it about."""
    if not environment.gpus():
        return runner.unavailable
    try:
        tensorrt.deserialised(runner.variant, engine.read_bytes())
    except BackendUnavailable as error:
        return error.message
    return f"it was deserialised, and not run: {runner.unavailable}"


def _on_cpu(precision: Precision, typed: onnx.ModelProto, feed: Feed) -> Outputs:
    """Run the typed graph by ONNX Runtime on the CPU, rounding as it would where that has no such arithmetic."""
    model = precision.emulate(typed) if precision.emulate else typed
    with backends.get("onnxruntime").load(model.SerializeToString(), LoadOptions("cpu", exact=True)) as session:
        return {name: rows.copy() for name, rows in session.run(feed).items()}


def network() -> onnx.ModelProto:
    """Return two convolutions and two dense layers with random weights: images uint8 [batch, 28, 28, 1] to 10 scores.

    The second convolution and the first dense layer are of sizes that every precision quantises.
    """
    random = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        fan_in = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        values = random.standard_normal(shape) * np.sqrt((2 if len(shape) > 1 else 0.02) / fan_in)
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "w1", "b1"], ["conv1"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["conv1"], ["relu1"]),
        helper.make_node("MaxPool", ["relu1"], ["pool1"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pool1", "w2", "b2"], ["conv2"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["conv2"], ["relu2"]),
        helper.make_node("MaxPool", ["relu2"], ["pool2"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pool2"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["dense1"]),
        helper.make_node("Relu", ["dense1"], ["relu3"]),
        helper.make_node("Gemm", ["relu3", "w4", "b4"], ["dense2"]),
        helper.make_node("Softmax", ["dense2"], ["scores"]),
    ]
    for node in nodes:
        node.name = f"{node.op_type}_{node.output[0]}"
    shapes = {"1": (32, 1, 3, 3), "2": (64, 32, 3, 3), "3": (64 * 5 * 5, 64), "4": (64, 10)}
    initializers = [numpy_helper.from_array(np.array(1 / 255, np.float32), "scale")]
    for number, shape in shapes.items():
        outputs = shape[0] if len(shape) == 4 else shape[1]
        initializers += [weights(f"w{number}", *shape), weights(f"b{number}", outputs)]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 28, 28, 1])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "gpu_check", [image], [scores], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

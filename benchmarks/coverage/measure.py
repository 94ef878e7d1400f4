"""What becomes of one case: exported, run by ONNX Runtime, built by TensorRT for RTX in three precisions."""

import re
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime as ort
import tensorflow as tf

from benchmarks import ranges
from benchmarks.coverage.case import BATCHES, BY_PYTORCH, NOT_APPLICABLE, NOT_BY_PYTORCH, OK, PRECISIONS, Case
from pipeline import graphs, precisions
from pipeline.backends.tensorrt.build import BuildOptions, build
from pipeline.errors import BuildError
from pipeline.exporters import Exportable, pytorch, tf2onnx
from pipeline.graphs import keras_layers, quantize
from pipeline.models import calling
from pipeline.tensors import Array, Outputs

OPSET = 18
TOLERANCE = {"rtol": 1e-3, "atol": 1e-4}
"""As in the export stage."""

Result = dict[str, Any]


def measure(
    case: Case, built: Sequence[str] = PRECISIONS, tell: Callable[[Result], None] = lambda result: None
) -> Result:
    """Take a case as far as it goes; return, for each of `STEPS` reached, `OK` or the reason it failed.

    What tf2onnx does not bring through is tried with PyTorch's exporter, as the export stage does. `built` are the
    precisions in which engines are built; `tell` is given the result before each.
    """
    start = time.perf_counter()
    model = _model(case)
    feeds = [[one.draw(index) for one in case.inputs] for index in range(len(BATCHES))]
    expected = [_keras(model, feed) for feed in feeds]
    result: Result = {}
    graph, named = _exported(result, partial(_export, model, case), feeds, expected)
    if why := _failed(result):
        second: Result = {}
        graph, named = _exported(second, partial(_export_by_pytorch, model), feeds, expected)
        why_too = _failed(second)
        result = result | {NOT_BY_PYTORCH: why_too} if why_too else second | {BY_PYTORCH: why}
    if graph is not None and result.get("equal") == OK:
        for precision in built:
            tell(result)
            _step(result, precision, partial(_build, graph, precision, named))
    result["seconds"] = round(time.perf_counter() - start, 1)
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return result


def _failed(result: Result) -> str | None:
    return next((result[step] for step in ("export", "equal") if result.get(step, OK) != OK), None)


def _exported(
    result: Result, export: Callable[[], onnx.ModelProto], feeds: list[list[Array]], expected: list[list[Array]]
) -> tuple[onnx.ModelProto | None, list[Outputs]]:
    """Export and compare; return the graph, where there is one, and the feeds by the names of its inputs."""
    made: list[onnx.ModelProto] = []
    if not _step(result, "export", lambda: made.append(export())):
        return None, []
    names = [value.name for value in made[0].graph.input]
    named = [dict(zip(names, feed, strict=True)) for feed in feeds]
    _step(result, "equal", lambda: _compare(made[0], named, expected))
    return made[0], named


def _step(result: Result, name: str, run: Callable[[], Any]) -> bool:
    try:
        result[name] = run() or OK
    except Exception as error:  # what any library may raise is what the table is about
        result[name] = reason(error)
    return bool(result[name] == OK)


def reason(error: Exception) -> str:
    """Return an error in one line of at most 300 characters, without folders of this machine."""
    text = error.message if isinstance(error, BuildError) else f"{type(error).__name__}: {error}"
    return re.sub(r'\x1b\[\d+m|(?:^|(?<=["\s(]))/\S+/', "", " ".join(text.split()))[:300]


def _model(case: Case) -> keras.Model:
    """Build the model, no weight of it a plain zero or one: what multiplies by them or adds them proves nothing."""
    keras.utils.set_random_seed(0)
    inputs = [
        keras.Input(one.shape, batch_size=one.batch, dtype=one.dtype, name=f"in{index}")
        for index, one in enumerate(case.inputs)
    ]
    model = keras.Model(inputs if len(inputs) > 1 else inputs[0], case.build(*inputs))
    random = np.random.default_rng(0)
    for variable in model.weights:
        value = np.asarray(variable)
        if value.dtype == np.float32 and value.size and np.ptp(value) == 0 and value.flat[0] in (0, 1):
            variable.assign(value + random.uniform(0.05, 0.3, value.shape))
    return model


def _keras(model: keras.Model, feed: list[Array]) -> list[Array]:
    """Run the model as `predict` does, in a traced function: Keras's Resizing of uint8 gives another type otherwise."""
    tensors = [tf.constant(one) for one in feed]
    found = tf.function(lambda given: model(given, training=False))(tensors if len(tensors) > 1 else tensors[0])
    return [np.asarray(one) for one in keras.tree.flatten(found)]


def _export(model: keras.Model, case: Case) -> onnx.ModelProto:
    signature = tuple(
        tf.TensorSpec((one.batch, *one.shape), one.dtype, name=f"in{index}") for index, one in enumerate(case.inputs)
    )

    def function(*tensors: Any) -> dict[str, Any]:
        found = keras.tree.flatten(model(list(tensors) if len(tensors) > 1 else tensors[0], training=False))
        return {f"out{index}": one for index, one in enumerate(found)}

    return tf2onnx.convert_function(function, signature, OPSET, keras_layers.names(model))


def _export_by_pytorch(model: keras.Model) -> onnx.ModelProto:
    serving, signature = calling.serving(model), calling.signature(calling.caller(model))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        pytorch.write(Exportable(model.name, "keras", Path(), signature, serving, model), path, OPSET)
        return onnx.load(path)


def _session(graph: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _compare(graph: onnx.ModelProto, feeds: list[Outputs], expected: list[list[Array]]) -> str:
    session, worst = _session(graph), 0.0
    for feed, wanted in zip(feeds, expected, strict=True):
        for found, one in zip(session.run(None, feed), wanted, strict=True):
            if found.shape != one.shape or found.dtype != one.dtype:
                return f"{found.dtype} {found.shape} for {one.dtype} {one.shape}"
            if not np.allclose(found, one, **TOLERANCE, equal_nan=True):
                worst = max(worst, float(np.abs(found.astype(float) - one.astype(float)).max()))
    return f"differs by {worst:.2g}" if worst else OK


def _build(graph: onnx.ModelProto, name: str, feeds: list[Outputs]) -> str:
    if name == "int8" and not quantize.activations(graph):
        return NOT_APPLICABLE
    amax = ranges.largest(graph, feeds[0]) if name == "int8" else {}
    typed = precisions.get(name).apply(graph, amax=amax)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(typed, path)
        options = BuildOptions("tensorrt-rtx", allow_tf32=False, profiles=((1, *BATCHES),), ranges=_sizes(graph, feeds))
        build(path, options)
    return OK


def _sizes(graph: onnx.ModelProto, feeds: list[Outputs]) -> dict[str, dict[int, tuple[int, int, int]]]:
    """Return the sizes of each dynamic axis but the batch, as the feeds have them."""
    found: dict[str, dict[int, tuple[int, int, int]]] = {}
    for spec in graphs.inputs(graph):
        for axis, size in enumerate(spec.shape):
            if axis and size is None:
                seen = sorted(feed[spec.name].shape[axis] for feed in feeds)
                found.setdefault(spec.name, {})[axis] = (seen[0], seen[-1], seen[-1])
    return found

"""The ranges of activations on made-up data, where there is no training split to calibrate on."""

import numpy as np
import onnx

from pipeline.graphs import quantize
from pipeline.tensors import Feed


def largest(graph: onnx.ModelProto, feed: Feed) -> dict[str, float]:
    """Return the largest magnitude of each activation that INT8 and FP8 store, on these inputs."""
    import onnxruntime as ort

    names = quantize.activations(graph)
    watched = onnx.ModelProto()
    watched.CopyFrom(graph)
    there = {value.name for value in watched.graph.output}
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    inside = [name for name in names if name not in feed]
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = dict(zip(inside, session.run(inside, dict(feed)), strict=True)) if inside else {}
    return {name: float(np.abs({**feed, **values}[name]).max()) for name in names}

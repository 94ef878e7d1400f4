"""What the tests of the precisions share: small graphs, and how they are run."""

from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto

from pipeline import graphs
from pipeline.data import Dataset

Array = NDArray[Any]
LEVELS = onnxruntime.GraphOptimizationLevel


class Article(NamedTuple):
    """The article's CNN, trained: the exported graph, its data, its activations' ranges by min-max."""

    model: ModelProto
    dataset: Dataset
    ranges: dict[str, float]

    @property
    def images(self) -> Array:
        """Those of the test split, uint8 [samples, 28, 28, 1]."""
        return self.dataset.test.feed()["image"]

    @property
    def labels(self) -> Array:
        """Those of the test split."""
        return self.dataset.test.labels()["probabilities"]


def run(model: ModelProto, images: Array, level: Any = LEVELS.ORT_DISABLE_ALL) -> Array:
    """Return the first output for all images, in batches of 128, by ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.log_severity_level = 4  # the tests look at what is raised
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    name = graphs.inputs(model)[0].name
    return np.concatenate([session.run(None, {name: images[i : i + 128]})[0] for i in range(0, len(images), 128)])


def small_cnn(nodes: list[onnx.NodeProto], shape: tuple[int, ...], constants: dict[str, Array]) -> ModelProto:
    """Return a checked FP32 graph from `image` (FLOAT, [batch, *shape]) to `result`."""
    graph = onnx.helper.make_graph(
        nodes,
        "small",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", *shape])],
        [onnx.helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    graphs.check(inferred, "small")
    return inferred

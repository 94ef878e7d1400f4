import numpy as np
import onnx
import pytest
from networks import Article, small_cnn
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from pipeline import precisions
from pipeline.errors import BuildError
from pipeline.graphs import quantize

node = helper.make_node


def test_int8_scales_and_weights_are_those_of_onnx_runtime(article: Article) -> None:
    amax = {name: 0.7 + i for i, name in enumerate(quantize.activations(article.model))}
    typed = precisions.get("int8").apply(article.model, amax=amax)
    ours = {tensor.name: numpy_helper.to_array(tensor) for tensor in typed.graph.initializer}
    theirs = QDQQuantizer(
        onnx.shape_inference.infer_shapes(article.model),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range={k: TensorData(lowest=np.float32(-v), highest=np.float32(v)) for k, v in amax.items()},
        nodes_to_quantize=None,
        nodes_to_exclude=[],
        op_types_to_quantize=["Conv", "MatMul"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["Conv", "MatMul"],
        },
    )
    theirs.quantize_model()
    arrays = {t.name: numpy_helper.to_array(t) for t in theirs.model.model.graph.initializer}
    for name in amax:
        np.testing.assert_array_equal(ours[f"{name}/scale"], arrays[f"{name}_scale"])
    stored = [name.removesuffix("_quantized") for name in arrays if name.endswith("_quantized")]
    assert len(stored) == 2
    for name in stored:
        base = next(key.removesuffix("/quantised") for key in ours if key.startswith(f"{name}/axis") and "quant" in key)
        np.testing.assert_array_equal(ours[f"{base}/quantised"], arrays[f"{name}_quantized"])
        np.testing.assert_array_equal(ours[f"{base}/scale"], arrays[f"{name}_scale"])


def residual() -> onnx.ModelProto:
    """A convolution whose result a second one and an addition read."""
    return small_cnn(
        [
            node("Conv", ["image", "kernel"], ["x"], name="first"),
            node("Conv", ["x", "kernel"], ["y"], name="second"),
            node("Conv", ["x", "kernel"], ["z"], name="third"),
            node("Sum", ["x", "y", "z"], ["result"], name="sum"),
        ],
        (4, 4, 4),
        {"kernel": np.random.default_rng(0).normal(size=(4, 4, 1, 1)).astype(np.float32)},
    )


@pytest.mark.parametrize("name", ["int8", "fp8"])
def test_only_products_read_what_is_quantised(name: str) -> None:
    typed = precisions.get(name).apply(residual(), keep_fp32=["third"], amax={"image": 1.0, "x": 2.0})
    nodes = {n.name: n for n in typed.graph.node}
    assert nodes["second"].input[0] == "x/dequantised"
    assert nodes["third"].input[:] == ["x", "kernel"]
    assert nodes["sum"].input[:] == ["x", "y", "z"]
    operators = [n.op_type for n in typed.graph.node]
    assert (operators.count("QuantizeLinear"), operators.count("DequantizeLinear")) == (2, 3)


def test_fp8_weights_use_the_whole_range_of_every_channel() -> None:
    kernel = np.array([[1e-3, -2e-3], [500, 100], [0, 0]], np.float32).reshape(3, 2, 1, 1)
    model = small_cnn([node("Conv", ["image", "kernel"], ["result"], name="conv")], (2, 3, 3), {"kernel": kernel})
    typed = precisions.get("fp8").apply(model, amax={"image": 1.0})
    arrays = {t.name: numpy_helper.to_array(t).astype(np.float32) for t in typed.graph.initializer}
    assert arrays["kernel/axis0/quantised"].reshape(3, 2).tolist() == [[224, -448], [448, 88], [0, 0]]
    assert arrays["kernel/axis0/scale"].tolist() == pytest.approx([2e-3 / 448, 500 / 448, 1])


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"group": 2}])
def test_scales_are_per_output_channel(attributes: dict[str, int]) -> None:
    if "group" in attributes:
        kernel, op, shape, axis = np.ones((6, 2, 1, 1), np.float32), "Conv", (4, 3, 3), 0
    else:
        kernel, op, shape = np.ones((4, 6) if not attributes else (6, 4), np.float32), "Gemm", (4,)
        axis = 0 if attributes else 1
    model = small_cnn([node(op, ["image", "kernel"], ["result"], name="n", **attributes)], shape, {"kernel": kernel})
    typed = precisions.get("int8").apply(model, amax={"image": 1.0})
    sizes = {t.name: t.dims[:] for t in typed.graph.initializer}
    assert sizes[f"kernel/axis{axis}/scale"] == [6]
    assert sizes["image/scale"] == []


def test_a_missing_range_is_an_error() -> None:
    with pytest.raises(BuildError, match="'x'"):
        quantize.quantise(residual(), quantize.INT8, {"image": 1.0})


def test_no_scale_is_zero() -> None:
    for form in (quantize.INT8, quantize.FP8):
        assert form.scale(np.array([0, 1e-42, form.largest], np.float32)).tolist() == [1, 1, 1]
    assert TensorProto.DataType.Name(quantize.FP8.elem_type) == "FLOAT8E4M3FN"

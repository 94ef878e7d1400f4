"""What an 8-bit graph does not quantise: in 16 bits, no less exact, and each product with its reason."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from networks import Array, Article, run, small_cnn
from onnx import ModelProto

from pipeline import data, precisions
from pipeline.graphs import arithmetic
from pipeline.precisions import Precision, Remainder
from pipeline.quantization import calibration

EIGHT_BITS = [name for name in precisions.NAMES if precisions.get(name).form]
ALL = ["MobileNetV2", "ResNet50", "EfficientNetV2B0"]


def error(precision: Precision, model: ModelProto, images: Array, ranges: dict[str, float]) -> float:
    """Return the relative error of the typed graph against FP32's, emulated where a CPU has to."""
    typed = precision.apply(model, amax=ranges)
    found = run(typed if precision.emulate is None else precision.emulate(typed), images)
    return calibration.relative_error({"y": run(model, images)}, {"y": found})


@pytest.mark.slow
@pytest.mark.parametrize("network", ALL, indirect=True)
@pytest.mark.parametrize("name", EIGHT_BITS)
def test_a_remainder_of_16_bits_is_whole_and_builds(
    name: str, network: tuple[ModelProto, Array, dict[str, float]], build_rtx: Callable[[ModelProto, str], bytes]
) -> None:
    model, _, ranges = network
    narrow = precisions.get(name).configured("fp16", "tensorrt")
    typed = narrow.apply(model, amax=ranges)
    assert build_rtx(typed, name)
    found = arithmetic.summary(typed)
    assert set(found.nodes_by_type) == {"FLOAT16"}, "every node that computes is in FP16"
    assert narrow.in_fp32(typed) == {}
    left = narrow.left_out(model)
    assert found.compute_nodes.get("FLOAT16", 0) == len(left), "each product left has its reason"
    assert found.compute_nodes[narrow.compute_type] + len(left) == len(list(arithmetic.typed_products(model)))
    print(f"{name}: left out: {Counter(left.values())}")


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_a_remainder_of_16_bits_keeps_the_error(name: str, article: Article) -> None:
    """On large networks `make bench-modelopt` measures it: with random weights it takes many images to tell."""
    wide, narrow = (
        error(precisions.get(name).configured(remainder, "all"), article.model, article.images, article.ranges)
        for remainder in ("fp32", "fp16")
    )
    assert narrow <= 1.2 * wide


@pytest.mark.parametrize("remainder", ["fp16", "bf16"])
@pytest.mark.parametrize("name", EIGHT_BITS)
def test_on_the_articles_network(
    name: str, remainder: Remainder, article: Article, build_rtx: Callable[[ModelProto, str], bytes]
) -> None:
    precision = precisions.get(name).configured(remainder, "all")
    typed = precision.apply(article.model, amax=article.ranges)
    assert arithmetic.summary(typed).mac_share == {precision.compute_type: 1.0}
    assert build_rtx(typed, name)
    scales = {tensor.data_type for tensor in typed.graph.initializer if tensor.name.split("/")[-2:-1] == ["scale"]}
    assert onnx.TensorProto.FLOAT not in scales
    assert precision.emulate is not None
    emulated = run(precision.emulate(typed), article.images[:1000])
    right = (emulated.argmax(-1) == article.labels[:1000]).mean()
    reference = (run(article.model, article.images[:1000]).argmax(-1) == article.labels[:1000]).mean()
    assert reference - right <= 0.005


def test_the_articles_last_layer_is_left_out_and_said_why(article: Article) -> None:
    left = precisions.get("int8").configured("fp16", "tensorrt").left_out(article.model)
    assert list(left.values()) == ["10 columns of weights: 8-bit products of matrices pay from 16 on"]
    products = {one.node.name for one in arithmetic.typed_products(article.model)}
    assert set(precisions.get("fp8").configured("fp16", "tensorrt").left_out(article.model)) == products


def test_a_layer_kept_in_fp32_is_named_as_in_fp32(article: Article) -> None:
    precision = precisions.get("int8").configured("fp16", "all")
    kept = next(node.name for node in article.model.graph.node if node.op_type == "Conv")
    typed = precision.apply(article.model, [kept], article.ranges)
    assert precision.in_fp32(typed, [kept]) == {kept: "it is kept in FP32"}
    kinds = {one.node.name: one.kind for one in arithmetic.typed_products(typed)}
    assert kinds[kept] == "FLOAT"
    assert set(kinds.values()) == {"FLOAT", "INT8"}


def test_operators_that_a_remainder_cannot_compute_are_named() -> None:
    node, weights = onnx.helper.make_node, np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32)
    nodes = [node("MatMul", ["image", "w"], ["a"], name="dense"), node("Mish", ["a"], ["result"], name="mish")]
    model = small_cnn(nodes, (16,), {"w": weights})
    precision = precisions.get("int8").configured("bf16", "all")
    typed = precision.apply(model, amax={"image": 3.0})
    assert precision.in_fp32(typed) == {"mish": "TensorRT for RTX builds no Mish in BFLOAT16"}


def test_a_residual_addition_reads_8_bits_and_costs_little(
    network: tuple[ModelProto, Array, dict[str, float]],
) -> None:
    model, images, ranges = network
    precision = precisions.get("int8").configured("fp16", "tensorrt")
    typed = precision.apply(model, amax=ranges)
    dequantised = {node.output[0] for node in typed.graph.node if node.op_type == "DequantizeLinear"}
    added = [node for node in typed.graph.node if node.op_type == "Add" and dequantised & set(node.input)]
    assert added, "both networks have residual paths"
    assert all(len(dequantised & set(node.input)) == 1 for node in added)
    every = error(precisions.get("int8").configured("fp16", "all"), model, images, ranges)
    assert error(precision, model, images, ranges) < 2 * every


def test_what_bytes_a_graph_moves(article: Article) -> None:
    fp32 = arithmetic.summary(article.model).bytes_by_type
    fp16 = arithmetic.summary(precisions.get("fp16").apply(article.model)).bytes_by_type
    assert fp32 is not None
    assert fp16 is not None
    assert set(fp16) == {"FLOAT16"}
    assert fp16["FLOAT16"] * 2 == pytest.approx(fp32["FLOAT"], rel=0.01)
    typed = precisions.get("int8").configured("fp16", "all").apply(article.model, amax=article.ranges)
    int8 = arithmetic.summary(typed).bytes_by_type
    assert int8 is not None
    weights = sum(
        int(np.prod(tensor.dims)) for tensor in typed.graph.initializer if tensor.data_type == 3 and tensor.dims
    )
    assert int8["INT8"] > weights, "the weights and the products' other operands"


def test_calibration_sees_what_the_placement_needs(network: tuple[ModelProto, Array, dict[str, float]]) -> None:
    model, images, _ = network
    seen = calibration.observe(model, data.Split({"image": images[:2]}))
    precisions.get("int8").configured("fp16", "tensorrt").apply(model, amax=calibration.ranges(seen, "minmax"))

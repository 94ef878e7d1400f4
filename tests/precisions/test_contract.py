"""What every precision keeps to, on the article's CNN and two of keras.applications; a new one enrols itself."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from networks import Array, Article, run
from onnx import ModelProto

from pipeline import graphs, precisions
from pipeline.backends.tensorrt import build
from pipeline.errors import BuildError
from pipeline.graphs import arithmetic, quantize
from pipeline.quantization import calibration

REWRITING = [name for name in precisions.NAMES if precisions.get(name).rewrites]

DEEP = {"fp32": 0, "tf32": 2e-3, "fp16": 2e-3, "bf16": 0.1, "int8": 0.3, "fp8": 0.5}
"""Bounds of the relative error through 50 layers of random weights, which amplify every rounding; measured a third."""


def runnable(name: str, typed: ModelProto) -> ModelProto:
    """Return what ONNX Runtime can compute on a CPU in this precision's stead."""
    emulate = precisions.get(name).emulate
    return typed if emulate is None else emulate(typed)


@pytest.mark.parametrize("name", precisions.NAMES)
def test_article(name: str, article: Article, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    before = article.model.SerializeToString(deterministic=True)
    typed = precisions.get(name).apply(article.model, amax=article.ranges)
    assert article.model.SerializeToString(deterministic=True) == before
    assert graphs.inputs(typed) == graphs.inputs(article.model)
    assert graphs.outputs(typed) == graphs.outputs(article.model)
    assert arithmetic.summary(typed).mac_share == {precisions.get(name).compute_type: 1.0}
    assert len(build_rtx(typed, name)) > 0

    emulated = runnable(name, typed)
    onnx.checker.check_model(emulated, full_check=True)
    images, labels = article.images, article.labels
    reference, candidate = run(article.model, images).argmax(1), run(emulated, images).argmax(1)
    drop = np.mean(reference == labels) - np.mean(candidate == labels)
    print(f"{name}: accuracy drop {100 * drop:.2f} points, top-1 agreement {np.mean(reference == candidate):.4f}")
    assert np.mean(reference == candidate) >= 0.99
    if article.dataset.name == "mnist":
        assert drop <= (0.005 if precisions.get(name).calibrations else 0.001)


@pytest.mark.parametrize("name", precisions.NAMES)
def test_network(
    name: str, network: tuple[ModelProto, Array, dict[str, float]], build_rtx: Callable[[ModelProto, str], bytes]
) -> None:
    model, images, amax = network
    typed = precisions.get(name).apply(model, amax=amax)
    assert graphs.inputs(typed) == graphs.inputs(model)
    assert graphs.outputs(typed) == graphs.outputs(model)
    assert arithmetic.summary(typed).mac_share == {precisions.get(name).compute_type: 1.0}
    assert len(build_rtx(typed, name)) > 0
    reference, candidate = run(model, images), run(runnable(name, typed), images)
    assert np.ptp(reference, axis=0).max() > 0.1
    error = calibration.relative_error({"y": reference}, {"y": candidate})
    print(f"{name}: relative error {error:.1e}, largest difference {np.abs(reference - candidate).max():.1e}")
    assert error <= DEEP[name]


@pytest.mark.parametrize("name", REWRITING)
def test_twice_is_refused(name: str, article: Article) -> None:
    typed = precisions.get(name).apply(article.model, amax=article.ranges)
    for other in REWRITING:
        with pytest.raises(BuildError, match="already"):
            precisions.get(other).apply(typed, amax=article.ranges)


@pytest.mark.parametrize("name", REWRITING)
def test_keep_fp32(name: str, article: Article, build_rtx: Callable[[ModelProto, str], bytes]) -> None:
    precision = precisions.get(name)
    conv = next(node.name for node in article.model.graph.node if node.op_type == "Conv")
    typed = precision.apply(article.model, keep_fp32=[conv], amax=article.ranges)
    kinds = {product.node.op_type: product.kind for product in arithmetic.typed_products(typed)}
    assert kinds == {"Conv": "FLOAT", "MatMul": precision.compute_type}
    weights = {tensor.name: tensor.data_type for tensor in typed.graph.initializer}
    kept = next(node for node in typed.graph.node if node.op_type == "Conv")
    assert [weights[name] for name in kept.input[1:]] == [onnx.TensorProto.FLOAT] * 2
    assert len(build_rtx(typed, name)) > 0
    share = arithmetic.summary(typed).mac_share
    convolution, dense = 26 * 26 * 32 * 9, 13 * 13 * 32 * 10
    assert share == pytest.approx(
        {"FLOAT": convolution / (convolution + dense), precision.compute_type: dense / (convolution + dense)}
    )


@pytest.mark.parametrize("name", REWRITING)
def test_a_rewrite_that_changes_nothing_is_refused(name: str, article: Article) -> None:
    everything = [node.name for node in article.model.graph.node]
    with pytest.raises(BuildError, match="none at all, but for the 2 kept"):
        precisions.get(name).apply(article.model, keep_fp32=everything, amax=article.ranges)
    with pytest.raises(BuildError, match="'nowhere'"):
        precisions.get(name).apply(article.model, keep_fp32=["nowhere"], amax=article.ranges)


def test_fp8_is_not_for_gpus_before_sm89(article: Article, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(precisions.get("fp8").apply(article.model, amax=article.ranges), path)
    with pytest.raises(BuildError, match="fp8_e4m3"):
        build.build(path, build.BuildOptions("tensorrt-rtx", False, (1, 4, 8), targets=("sm86",)))


@pytest.mark.parametrize("name", ["int8", "fp8"])
def test_a_range_that_calibration_lacks_is_named(name: str, article: Article) -> None:
    with pytest.raises(BuildError, match=quantize.activations(article.model)[0]):
        precisions.get(name).apply(article.model)

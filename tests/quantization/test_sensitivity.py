"""Planted losses of accuracy are found, named by Keras layer, and repaired with few layers; at what cost."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import made_outputs
import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper, numpy_helper

from pipeline import config, data, environment, precisions
from pipeline.artifacts.sensitivity import LayerSensitivity
from pipeline.backends.tensorrt import build
from pipeline.errors import BackendUnavailable, BuildError, ConfigError
from pipeline.graphs import keras_layers
from pipeline.judging.choosing import Choosing
from pipeline.judging.comparing import compare
from pipeline.precisions import Calibrated
from pipeline.quantization import calibration, sensitivity
from pipeline.runners import inference
from pipeline.tensors import Array, Outputs, Signature, TensorSpec

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras
    import own_models

    from pipeline import models
    from pipeline.exporters import tf2onnx

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

DIGITS = data.load(config.Data(name="digits"))
IMAGES, LABELS = DIGITS.train.feed()[""], DIGITS.train.labels()[""]
TRAIN = data.Split({"image": IMAGES})
BOUND = data.bind(
    DIGITS,
    Signature(
        (TensorSpec("image", (None, 28, 28, 1), np.dtype(np.uint8)),),
        (TensorSpec("probabilities", (None, 10), np.dtype(np.float32)),),
    ),
)


class Planted(NamedTuple):
    """A network's exported graph, its layers, and the labels that localisation is to use with the training images."""

    graph: ModelProto
    layers: list[str]
    labels: Array

    def localise(self, name: str, amax: dict[str, float] | None = None, **options: Any) -> LayerSensitivity:
        """Localise on the digits at a budget of half a point."""
        evaluator = sensitivity.Evaluator(
            self.graph,
            precisions.get(name),
            Calibrated(amax or {}),
            data.Split({"image": IMAGES}, {"probabilities": self.labels}),
            choosing=Choosing(made_outputs.dataset(probabilities=self.labels)),
        )
        return sensitivity.localise(evaluator, layers=self.layers, model_sha256="0" * 64, **options)

    def scores(self, name: str, keep_fp32: list[str], amax: dict[str, float] | None = None) -> Outputs:
        """Return the class scores with these layers in FP32."""
        precision = precisions.get(name)
        keep = keras_layers.resolve(self.graph, keep_fp32, self.layers)
        return inference.outputs(precision.apply(self.graph, keep, amax), precision, TRAIN, 64)


def predicted(graph: ModelProto) -> Array:
    """Return the best class of each training image in FP32."""
    return inference.outputs(graph, precisions.get("fp32"), TRAIN, 64)["probabilities"].argmax(axis=1)


def planted(model: keras.Model, folder: Path, labels: Array | None = None) -> Planted:
    """Export a model as the export stage does. Without labels, FP32's own predictions are the truth."""
    model.save(folder / "model.keras")
    graph = tf2onnx.convert(model, 18)
    if labels is None:
        labels = predicted(graph)
    return Planted(graph, keras_layers.names(model), labels)


@pytest.fixture(scope="module")
def overflow(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """A middle beyond FP16's range, outputs that are not. Read only."""
    keras.utils.set_random_seed(0)
    return planted(own_models.overflowing((28, 28, 1), 10), tmp_path_factory.mktemp("overflow"))


@pytest.fixture(scope="module")
def two_overflows(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Two pairs of convolutions between which pass numbers beyond FP16's range. Read only."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    names = ("first", "huge", "tiny", "middle", "huge_again", "tiny_again")
    convolutions = [layers.Conv2D(4, 3, activation="relu", name=name) for name in names]
    head = layers.Dense(10, activation="softmax", name="probabilities")
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8", name="image"),
            layers.Rescaling(1 / 255),
            *convolutions,
            layers.Flatten(),
            head,
        ]
    )
    for layer, factor in zip(convolutions, (4, 6e4, 1 / 3e6, 4, 6e4, 1 / 3e6), strict=True):
        kernel, bias = layer.get_weights()
        layer.set_weights([np.abs(kernel) * factor, bias])
    return planted(model, tmp_path_factory.mktemp("two_overflows"))


@pytest.fixture(scope="module")
def outlier(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planted, dict[str, float]]:
    """The article's CNN, trained; one channel is 300 times the others', its weights in the next layer 1/300. Read only.

    That changes nothing in FP32. A scale for the whole tensor leaves the other 31 channels less than one step.
    """
    keras.utils.set_random_seed(0)
    model = models.article_cnn((28, 28, 1), 10)
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", steps_per_execution=10)
    model.fit(IMAGES, LABELS, batch_size=64, epochs=4, verbose=0)
    convolution, dense = model.get_layer(index=1), model.get_layer("probabilities")
    kernel, bias = convolution.get_weights()
    weights, dense_bias = dense.get_weights()
    kernel[..., 3] *= 300
    bias[3] *= 300
    weights[3::32] /= 300  # flattened [13, 13, 32]: channels are innermost
    convolution.set_weights([kernel, bias])
    dense.set_weights([weights, dense_bias])
    found = planted(model, tmp_path_factory.mktemp("outlier"), LABELS)
    seen = calibration.observe(found.graph, calibration.draw(BOUND, 256, seed=0).split)
    return found, calibration.ranges(seen, "minmax")


@pytest.fixture
def build_rtx(tmp_path: Path) -> Callable[[ModelProto], bytes]:
    """A function that builds an engine with the real TensorRT for RTX."""
    try:
        build.probe_build("tensorrt-rtx")
    except BackendUnavailable as error:
        pytest.skip(error.message)

    def built(model: ModelProto) -> bytes:
        onnx.save(model, tmp_path / "model.onnx")
        return build.build(tmp_path / "model.onnx", build.BuildOptions("tensorrt-rtx", False, (1, 4, 8))).engine

    return built


def repaired(case: Planted, found: LayerSensitivity, amax: dict[str, float] | None = None) -> ModelProto:
    """Return the graph with the layers in FP32 that localisation came to."""
    keep = keras_layers.resolve(case.graph, found.keep_fp32, case.layers)
    return precisions.get(found.precision).apply(case.graph, keep, amax)


def test_an_overflow_is_named_and_repaired_with_few_layers(
    overflow: Planted, build_rtx: Callable[[ModelProto], bytes]
) -> None:
    found = overflow.localise("fp16")
    assert found.baseline.verdict == "fail"
    assert found.keep_fp32 == ("further_up", "too_large", "further_down")
    assert found.result.verdict == "pass"
    first, *rest = found.groups
    assert first.layers == found.keep_fp32
    assert first.overflows
    assert first.won_back > 0.99
    assert all(not unit.overflows and unit.won_back < 0.1 for unit in rest)
    broken = {tensor.layer for tensor in found.tensors if tensor.non_finite}
    assert "too_large" in broken
    assert "conv" not in broken
    assert build_rtx(repaired(overflow, found))
    assert overflow.localise("bf16").keep_fp32 == (), "BF16 has FP32's range"


def test_the_overflowing_layer_alone_wins_nothing(overflow: Planted) -> None:
    """Its result would be cast to FP16 at the border: why both sides of what is too large are one unit."""
    reference = inference.outputs(overflow.graph, precisions.get("fp32"), TRAIN, 64)
    before = sensitivity.output_error(reference, overflow.scores("fp16", []))
    alone = sensitivity.output_error(reference, overflow.scores("fp16", ["too_large"]))
    assert alone > 0.9 * before > 0.01


def test_two_overflows_of_which_neither_alone_wins_anything_are_both_repaired(two_overflows: Planted) -> None:
    found = two_overflows.localise("fp16")
    assert found.baseline.non_finite == len(DIGITS.train)
    assert {unit.won_back for unit in found.groups} == {0}
    assert [unit.layers for unit in found.groups[:2]] == [("huge", "tiny"), ("huge_again", "tiny_again")]
    assert found.keep_fp32 == ("huge", "tiny", "huge_again", "tiny_again")
    assert found.result.verdict == "pass"
    assert found.result.non_finite == 0


def test_an_outlier_channel_is_named_and_repaired(
    outlier: tuple[Planted, dict[str, float]], build_rtx: Callable[[ModelProto], bytes]
) -> None:
    case, amax = outlier
    found = case.localise("int8", amax)
    assert found.baseline.verdict == "fail"
    assert (found.baseline.loss["probabilities"] or 0) > 2
    assert found.keep_fp32 == ("probabilities",)
    assert found.result.verdict == "pass"
    assert [unit.layers for unit in found.groups] == [("probabilities",), (case.layers[1],)]
    assert found.groups[0].won_back > 0.9 > 0.1 > found.groups[1].won_back
    errors = {tensor.name.split("/")[-1]: tensor.relative_error for tensor in found.tensors}
    assert errors["Relu:0"] < 0.05 < 0.2 < errors["MatMul:0"]
    assert build_rtx(repaired(case, found, amax))


def test_the_record_reads_back_and_is_the_same_again(outlier: tuple[Planted, dict[str, float]]) -> None:
    case, amax = outlier
    found = case.localise("int8", amax)
    assert LayerSensitivity.parse(json.loads(found.to_json()), Path("int8.json")) == found
    assert found == case.localise("int8", amax)
    assert [tensor.name for tensor in found.tensors][-1] == "probabilities"
    assert {tensor.layer for tensor in found.tensors} <= set(case.layers)


def chain(depth: int, scale: float = 1) -> Planted:
    """Return products named as a Keras model's dense layers, of which the first reads one pixel `scale` times."""
    random = np.random.default_rng(0)
    factors = np.ones(784, np.float32)
    factors[400] = scale
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], name="m_1/Cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "shape"], ["flat"], name="m_1/flatten_1/Reshape"),
        helper.make_node("Mul", ["flat", "factors"], ["x0"], name="m_1/rescaling_1/mul"),
    ]
    weights = {"factors": factors, "shape": np.array([-1, 784])}
    for i in range(depth):
        size, spread = (784, 1 / 3000) if i == 0 else (16, 1 / 4)  # pixels' norm is about 3,000: x1 and on are about 1
        weights[f"w{i}"] = random.normal(0, spread, (size, 16)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"], name=f"m_1/dense{i}_1/MatMul"))
    weights["w0"][400] /= scale
    nodes.append(helper.make_node("Softmax", [f"x{depth}"], ["probabilities"], name="m_1/softmax_1/Softmax"))
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["batch", 28, 28, 1])],
        [helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", 16])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    labels = predicted(model)
    return Planted(model, ["flatten", "rescaling", *(f"dense{i}" for i in range(depth)), "softmax"], labels)


def ranges(case: Planted) -> dict[str, float]:
    """Return the ranges of a chain's activations."""
    seen = calibration.observe(case.graph, calibration.draw(BOUND, 256, seed=0).split)
    return calibration.ranges(seen, "minmax")


def test_where_nothing_is_left_to_quantise_it_says_so() -> None:
    case = chain(1, scale=1e4)
    found = case.localise("int8", ranges(case))
    assert found.baseline.verdict == "fail"
    assert found.keep_fp32 is None
    assert found.result.verdict == "fail"
    assert found.result.reason.startswith("no set of layers was found that is enough; with 0 in FP32: accuracy drop")
    assert [unit.verdict for unit in found.groups] == ["skipped"]
    case = chain(2, scale=1e4)
    assert case.localise("int8", ranges(case)).keep_fp32 == ("dense0",)


@pytest.mark.parametrize("depth", [2, 5, 9])
@pytest.mark.parametrize(("name", "others"), [("int8", 0), ("fp16", 2)])
def test_cost_grows_linearly_with_the_layers(
    depth: int, name: str, others: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`others` of the layers compute without a product: FP16 rounds there, INT8 does not."""
    case = chain(depth, scale=1e6)
    runs: list[int] = []
    outputs = inference.outputs
    monkeypatch.setattr(inference, "outputs", lambda *arguments: runs.append(1) or outputs(*arguments))
    calls: list[tuple[int, int, str]] = []
    found = case.localise(name, ranges(case), progress=lambda *call: calls.append(call))
    units = depth + others if name == "int8" else depth + others - 1  # the overflow joins rescaling and dense0
    assert [call for call in calls if call[2] == "layers"] == [(i + 1, units, "layers") for i in range(units)]
    assert found.baseline.verdict == "fail"
    assert found.keep_fp32 == (("dense0",) if name == "int8" else ("rescaling", "dense0"))
    assert Counter(call[2] for call in calls)["search"] <= 2 * len(case.layers)
    assert len(runs) <= 2 + 3 * len(case.layers)


def test_a_loop_is_one_layer_that_reads_what_its_body_reads(
    tmp_path: Path, build_rtx: Callable[[ModelProto], bytes]
) -> None:
    """tf2onnx leaves a GRU as a Loop, whose body reads by name the numbers that FP16 cannot hold."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1), dtype="uint8", name="image"),
            layers.Rescaling(1e3, name="up"),
            layers.Reshape((28, 28), name="rows"),
            layers.GRU(16, name="recurrent"),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ]
    )
    kernel, *others = model.get_layer("recurrent").get_weights()
    model.get_layer("recurrent").set_weights([kernel / 255e3, *others])
    case = planted(model, tmp_path)
    assert "Loop" in {node.op_type for node in case.graph.graph.node}
    found = case.localise("fp16")
    assert found.baseline.verdict == "fail"
    (unit,) = (unit for unit in found.groups if unit.overflows)
    assert set(unit.layers) == {"up", "rows", "recurrent"}
    assert found.result.verdict == "pass"
    assert found.keep_fp32 is not None
    assert "recurrent" in found.keep_fp32
    kept = keras_layers.resolve(case.graph, found.keep_fp32, case.layers)
    assert build_rtx(precisions.get("fp16").apply(case.graph, kept))


class Oracle:
    """Passes where all of some layers are kept, and only then."""

    def __init__(self, needed: str) -> None:
        self._needed = set(needed)

    def trial(self, kept: Iterable[keras_layers.Group] = ()) -> sensitivity._Trial:
        """Judge."""
        right = np.full(4000, self._needed <= {group.name for group in kept})
        scores = np.stack([right, ~right], axis=1).astype(np.float32)
        reference = np.tile(np.float32([1, 0]), (4000, 1))
        one = made_outputs.yardstick(reference, np.zeros(4000, np.int64))
        comparison = compare([one], {"out": reference}, {"out": scores}, precisions.Tolerance(0, 0))
        return sensitivity._Trial(1.0, 0, comparison)


@pytest.mark.parametrize("needed", ["a", "c", "ad", "bc", "abcd"])
def test_layers_that_are_not_needed_are_dropped_again(needed: str) -> None:
    oracle: Any = Oracle(needed)
    units = [sensitivity._Unit(tuple(keras_layers.Group(name, ()) for name in names), False) for names in ("ab", "cd")]
    ranked = sensitivity._ranked(oracle, units, lambda *_: None)
    kept, result = sensitivity._search(oracle, oracle.trial(), ranked, lambda *_: None)
    assert kept is not None
    assert "".join(group.name for group in kept) == needed
    assert result.verdict == "pass"


def test_a_precision_within_its_budget_keeps_nothing_and_is_ranked_all_the_same() -> None:
    found = chain(3).localise("bf16")
    assert (found.keep_fp32, found.result.verdict, len(found.groups)) == ((), "pass", 5)


@pytest.mark.parametrize("name", ["fp32", "tf32"])
def test_a_precision_with_fp32s_graph_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} uses FP32's own graph"):
        chain(1).localise(name)


def test_an_fp32_graph_that_breaks_by_itself_is_refused() -> None:
    with pytest.raises(BuildError, match="FP32 graph itself"):
        chain(2, scale=np.inf).localise("fp16")


def test_output_error_is_the_total_variation_distance_and_nan_the_worst() -> None:
    reference = np.array([[0.5, 0.5, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
    other = np.array([[0.25, 0.75, 0], [0, 0, 1], [np.nan, 1, 0], [0, 0, 0]], np.float32)
    assert sensitivity.output_error({"y": reference}, {"y": other}) == pytest.approx((0.25 + 1 + 1 + 0) / 4)

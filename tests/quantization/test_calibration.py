import made_outputs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.data import Dataset, Split
from pipeline.errors import BuildError, DataError
from pipeline.graphs import quantize
from pipeline.judging.choosing import Choosing
from pipeline.quantization import calibration

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (230, 4, 4, 1), np.uint8)
LABELS = np.repeat([0, 1, 2, 0], [150, 40, 10, 30])


def split(images: np.ndarray, labels: np.ndarray) -> Split:
    """Return images with their labels under the model's names."""
    return Split({"image": images}, {"y": labels})


def dataset(repeated: int = 0) -> Dataset:
    """200 training images in three uneven classes, of which the test split repeats some."""
    test = np.concatenate([IMAGES[220:], IMAGES[:repeated]])
    return Dataset(
        "made up",
        "random",
        train=split(IMAGES[:200], LABELS[:200]),
        validation=split(IMAGES[200:220], LABELS[200:220]),
        test=split(test, np.zeros(len(test), np.int64)),
    )


def one_product() -> onnx.ModelProto:
    """[batch, 4, 4, 1] of uint8, as FLOAT, times a matrix."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["x", "w"], ["y"], name="dense"),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 4, 4, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, 4, 1])],
        [numpy_helper.from_array(np.ones((1, 1), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_groups_are_balanced_as_far_as_they_go() -> None:
    samples = calibration.draw(dataset(), 60, seed=3, groups=LABELS[:200])
    assert samples.groups is not None
    assert np.bincount(samples.groups).tolist() == [25, 25, 10]
    assert np.bincount(samples.split.labels()["y"]).tolist() == [25, 25, 10]
    assert len(set(samples.digests)) == 60
    assert calibration.draw(dataset(), 60, 3, LABELS[:200]).digests == samples.digests
    assert calibration.draw(dataset(), 60, 4, LABELS[:200]).digests != samples.digests


def test_without_groups_samples_are_drawn_as_they_come() -> None:
    samples = calibration.draw(dataset(), 200, seed=3)
    assert samples.groups is None
    assert samples.digests == calibration.admit(samples.split, dataset()).digests
    assert len(set(samples.digests)) == 200


def test_groups_are_those_of_the_first_output_whose_task_has_any() -> None:
    train = dataset().train
    scores = np.eye(3, dtype=np.float32)[LABELS[:200]]
    known = {"embedding": scores - 0.5, "y": scores}
    every = Choosing(made_outputs.dataset(y=LABELS), {"embedding": "similarity"}).yardsticks(known, train.targets)
    groups = calibration.strata(every, train)
    np.testing.assert_array_equal(groups, LABELS[:200])
    assert calibration.strata(every[:1], train) is None, "an embedding without labels"
    assert calibration.draw(dataset(), 60, seed=3).groups is None


def test_what_the_engine_is_judged_by_is_passed_over() -> None:
    repeating = dataset(repeated=100)
    samples = calibration.draw(repeating, 100, seed=0)
    assert not set(samples.digests) & {one.tobytes().hex() for one in repeating.seen["test"].samples}
    with pytest.raises(DataError, match="has only 100"):
        calibration.draw(dataset(repeated=100), 101, seed=0)


@pytest.mark.parametrize("count", [0, -1, 201])
def test_a_count_that_cannot_be_is_refused(count: int) -> None:
    with pytest.raises(DataError, match="has only 200"):
        calibration.draw(dataset(), count, seed=0)


def test_made_up_and_held_out_samples_are_refused() -> None:
    noise = RANDOM.integers(0, 256, (3, 4, 4, 1), np.uint8)
    mixed = split(np.concatenate([IMAGES[:1], noise]), LABELS[:4])
    with pytest.raises(DataError, match="3 of 4 calibration samples are not in the training split"):
        calibration.admit(mixed, dataset())
    with pytest.raises(DataError, match="2 of 2 calibration samples are not in the training split"):
        calibration.admit(split(IMAGES[200:202], LABELS[:2]), dataset())
    with pytest.raises(DataError, match="1 of 2 calibration samples are in the validation or test split as well"):
        calibration.admit(split(IMAGES[:2], LABELS[:2]), dataset(repeated=1))
    with pytest.raises(DataError, match="0 of 0"):
        calibration.admit(split(IMAGES[:0], LABELS[:0]), dataset())


def test_a_histogram_grows_without_losing_a_count() -> None:
    activation = calibration.Activation()
    batches = [RANDOM.normal(size=1000).astype(np.float32) * scale for scale in (0, 1, 1, 50, 3)]
    for batch in batches:
        activation.add(batch)
    everything = np.concatenate(batches)
    assert activation.counts.sum() == len(everything)
    assert activation.largest == pytest.approx(np.abs(everything).max())
    counts, edges, lowest, highest, limit = activation.histogram()
    assert (lowest, highest) == (everything.min(), everything.max())
    assert counts.sum() == len(everything)
    assert len(counts) > calibration.BINS // 2
    np.testing.assert_array_equal(counts, np.histogram(everything, edges)[0])
    assert limit == edges[-1] >= activation.largest


def test_an_outlier_costs_no_memory() -> None:
    activation = calibration.Activation()
    activation.add(np.ones(4, np.float32))
    activation.add(np.array([1e30], np.float32))
    assert len(activation.counts) == calibration.BINS


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    activation = calibration.Activation()
    activation.add(np.ones(4, np.float32))
    with pytest.raises(BuildError, match="NaN or Inf"):
        activation.add(np.array([1, value], np.float32))


def test_methods_cut_outliers_as_their_definitions_say() -> None:
    activation = calibration.Activation()
    values = RANDOM.normal(size=200_000).astype(np.float32)
    activation.add(np.append(values, np.float32(40)))
    methods = ("minmax", "entropy", "percentile", "distribution")
    found = {method: calibration.ranges({"x": activation}, method)["x"] for method in methods}
    assert found["minmax"] == 40
    assert 2 < found["entropy"] < 6
    assert found["percentile"] == pytest.approx(np.percentile(np.abs(values), calibration.PERCENTILE), rel=0.1)
    spread = np.std(np.append(values, 40))
    assert found["distribution"] == pytest.approx(448 / calibration.FP8_SPREAD * spread, rel=0.01)


def test_observation_covers_every_activation_whatever_the_batch() -> None:
    model = one_product()
    samples = calibration.draw(dataset(), 50, seed=0)
    one, other = (calibration.observe(model, samples.split, batch) for batch in (7, 50))
    assert tuple(one) == quantize.activations(model) == ("x",)
    assert one["x"].largest == other["x"].largest == samples.split.feed()["image"].max()


def test_the_least_error_wins_and_the_first_among_equals() -> None:
    errors = {"minmax": 2.0, "entropy": 1.0, "percentile": 1.0, "distribution": float("nan")}
    assert calibration.choose(errors, errors.__getitem__)[0] == "entropy"
    with pytest.raises(BuildError, match="finite"):
        calibration.choose(["distribution"], errors.__getitem__)


def test_the_record_says_what_was_used() -> None:
    samples = calibration.draw(dataset(), 30, seed=5, groups=LABELS[:200])
    seen = calibration.observe(one_product(), samples.split)
    record = calibration.record(samples, seen, 5, "minmax", {"minmax": 0.1})
    assert record.strata == {"0": 10, "1": 10, "2": 10}
    assert record.sample_sha256 == samples.digests
    assert record.activations["x"].amax == samples.split.feed()["image"].max()

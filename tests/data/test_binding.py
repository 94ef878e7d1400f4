"""Fitting data to a model: names, shapes, types and labels, both sides named where they do not fit."""

from dataclasses import replace

import numpy as np
import pytest
from sample_sets import model

from pipeline import data
from pipeline.config import Data
from pipeline.data import rows
from pipeline.data.splits import THE_ONLY, Dataset, Split
from pipeline.errors import DataError
from pipeline.quantization import calibration
from pipeline.tensors import Array, Signature

CLASSIFIER = model({"row": "float32 ? 4"}, {"kind": "float32 ? 3"})
TWO = model({"image": "uint8 ? 2 2 1", "meta": "float32 ? 3"}, {"kind": "float32 ? 3", "size": "float32 ? 1"})


def made(inputs: dict[str, Array], targets: dict[str, Array] | None = None) -> Dataset:
    split = Split(inputs, targets or {})
    return Dataset("made", "up", split, split, split)


ROWS = np.zeros((6, 4), np.float32)


def test_what_has_no_name_becomes_the_only_one() -> None:
    bound = data.bind(made({THE_ONLY: ROWS}, {THE_ONLY: np.arange(6) % 3}), CLASSIFIER)
    assert (list(bound.test.inputs), list(bound.test.targets)) == (["row"], ["kind"])


def test_several_are_bound_by_name_in_the_models_order_and_a_target_may_be_missing() -> None:
    inputs = {"meta": np.zeros((6, 3)), "image": np.zeros((6, 2, 2), np.uint8)}
    bound = data.bind(made(inputs, {"size": np.ones((6, 1))}), TWO)
    assert list(bound.test.inputs) == ["image", "meta"]
    feed = bound.test.feed(slice(2))
    assert (feed["image"].shape, feed["meta"].dtype) == ((2, 2, 2, 1), np.float32)
    assert list(bound.test.targets) == ["size"]


@pytest.mark.parametrize(
    ("inputs", "targets", "signature", "said"),
    [
        ({"image": np.zeros((6, 2, 2, 1), np.uint8)}, {}, TWO, "nothing for the model's input meta"),
        ({THE_ONLY: ROWS}, {}, TWO, "an input without a name, and the model's inputs are image, meta"),
        ({"rows": ROWS}, {}, CLASSIFIER, "an input 'rows', and the model's inputs are row"),
        ({"row": ROWS}, {"colour": ROWS}, CLASSIFIER, "an output 'colour', and the model's outputs are kind"),
        ({"row": ROWS[:, :3]}, {}, CLASSIFIER, "samples of shape [3], and the model's input row takes [4]"),
        ({"row": ROWS[..., None]}, {}, CLASSIFIER, "samples of shape [4, 1]"),
        ({"row": ROWS}, {}, model({"row": "int32 ? 4"}, {}), "row is float32, and the model's input row is int32"),
        ({"row": ROWS.astype(int)}, {}, model({"row": "uint8 ? 4"}, {}), "row is int64, and the model's input"),
    ],
)
def test_what_does_not_fit_is_named_on_both_sides(
    inputs: dict[str, Array], targets: dict[str, Array], signature: Signature, said: str
) -> None:
    with pytest.raises(DataError) as caught:
        data.bind(made(inputs, targets), signature)
    assert said in caught.value.message
    assert caught.value.hint


def test_a_fixed_batch_and_dynamic_axes_take_any_number() -> None:
    one = model({"row": "float32 1 ?"}, {"kind": "float32 1 3"})
    assert data.bind(made({THE_ONLY: ROWS}), one).test.feed()["row"].shape == (6, 4)


def test_integers_that_the_models_type_cannot_hold_are_refused() -> None:
    tokens = np.full((6, 4), 2**31)
    bound = data.bind(made({THE_ONLY: tokens}), model({"ids": "int32 ? 4"}, {}))
    with pytest.raises(DataError, match="from 2147483648 to 2147483648, and the model takes int32"):
        bound.record()
    bound = data.bind(made({THE_ONLY: tokens - 1}), model({"ids": "int32 ? 4"}, {}))
    assert bound.test.feed()["ids"].dtype == np.int32


@pytest.mark.parametrize(
    ("labels", "output", "said"),
    [
        (
            [0, 1, 2, 3, 0, 0],
            "float32 ? 3",
            "sample 3 has the label 3, and the model's output kind has 3 classes, 0 to",
        ),
        ([0, 1, 2, -1, 0, 0], "float32 ? 3", "sample 3 has the label -1"),
        ([[[0, 255]]] * 6, "float32 ? 1 2 5", "sample 0 has the label 255, and the model's output kind has 5 classes"),
    ],
)
def test_labels_out_of_range_are_named(labels: list[object], output: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        data.bind(made({"row": ROWS}, {"kind": np.array(labels)}), model({"row": "float32 ? 4"}, {"kind": output}))
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("targets", "output"),
    [
        (np.eye(6, 3), "float32 ? 3"),
        (np.ones((6, 3), np.uint8), "float32 ? 3"),  # many labels: every one may be 1
        (np.arange(6) + 70, "float32 ? 1"),  # an age
        (np.full((6, 2), 9), "float32 ? ?"),
        (np.zeros((6, 2, 2), np.int64), "float32 ? 2 2 5"),
    ],
)
def test_other_targets_stay_as_they_are(targets: Array, output: str) -> None:
    signature = model({"row": "float32 ? 4"}, {"kind": output})
    found = data.bind(made({"row": ROWS}, {"kind": targets}), signature).test.labels()["kind"]
    np.testing.assert_array_equal(found, targets)
    assert found.dtype == targets.dtype


def test_every_label_has_a_name_where_there_are_names() -> None:
    dataset = replace(made({"row": ROWS}, {"kind": np.arange(6) % 3}), class_names={"kind": ("cat", "dog")})
    with pytest.raises(DataError, match="has the label 2 of kind, and names 2 classes: cat, dog"):
        data.bind(dataset, CLASSIFIER)


def test_a_mask_loses_its_last_axis_of_one() -> None:
    signature = model({"row": "float32 ? 4"}, {"kind": "float32 ? 2 2 5"})
    bound = data.bind(made({"row": ROWS}, {"kind": np.full((6, 2, 2, 1), 4, np.uint8)}), signature)
    assert bound.test.labels()["kind"].shape == (6, 2, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", ["input row", "target kind"])
def test_what_is_no_number_is_named(value: float, column: str) -> None:
    bad = ROWS.copy()
    bad[4, 2] = value
    inputs, targets = ({"row": bad}, {"kind": ROWS}) if "input" in column else ({"row": ROWS}, {"kind": bad})
    signature = model({"row": "float32 ? 4"}, {"kind": "float32 ? 4"})
    with pytest.raises(DataError, match=f"made, train split: the {column} holds {value} as float32, in sample 4"):
        data.bind(made(inputs, targets), signature).record()


def test_a_number_too_large_for_the_models_type_is_refused() -> None:
    with pytest.raises(DataError, match="holds inf as float16"):
        data.bind(made({THE_ONLY: ROWS + 1e6}), model({"row": "float16 ? 4"}, {})).record()


class Counted:
    """Rows that note how often each sample is read, and how many at a time."""

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self.shape, self.dtype = (count, *shape), np.dtype(np.float32)
        self.reads = np.zeros(count, int)
        self.most = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: object) -> Array:
        indices = np.arange(len(self))[which]  # type: ignore[call-overload]
        self.reads[indices] += 1
        self.most = max(self.most, len(indices))
        return np.repeat(indices.astype(np.float32), np.prod(self.shape[1:])).reshape(-1, *self.shape[1:])


def test_a_data_set_is_read_once_and_in_small_batches_for_its_record_and_for_calibration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rows, "BATCH_BYTES", 1000)
    parts = [Counted(100, (5,)), Counted(20, (5,)), Counted(20, (5,))]
    offset = [Split({"row": part}, {"kind": np.zeros(len(part), np.int64)}) for part in parts]
    dataset = data.bind(
        Dataset("lazy", "", *offset),
        model({"row": "float32 ? 5"}, {"kind": "float32 ? 3"}),
    )
    dataset.record()
    with pytest.raises(DataError, match="which has only 80"):  # 20 of them are in the test split as well
        calibration.draw(dataset, 81, seed=0)
    calibration.draw(dataset, 30, seed=0)
    for part in parts:
        assert (part.reads == 1).all()
        assert part.most <= 1000 // 20


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("https://example.org/data.npz", "an address on the network"),
        ("no/such/data.npz", "does not exist in "),
        ("samples", "does not exist in "),
    ],
)
def test_a_source_that_is_none_says_what_is_one(source: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        data.load(Data(source=source))
    assert f"{source!r}" in caught.value.message
    assert said in caught.value.message
    assert "package.module:function" in caught.value.hint or "Download" in caught.value.hint

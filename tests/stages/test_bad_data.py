"""Data that do not fit the model, and ranges and sizes that do not: both sides are named, and nothing is lost."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from small_models import SAMPLES, Refused, Stage, classifier, labels, samples

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

X, Y = samples(), labels()


def with_one(array: np.ndarray, value: float) -> np.ndarray:
    """Return the array with a value at sample 7."""
    changed = array.copy()
    changed[7] = value
    return changed


OBJECTS = np.empty(2, object)
OBJECTS[:] = [[1, 2], [3]]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x/zzz": X, "y": Y}, "the data has an input 'zzz', and the model's inputs are a"),
        ({"x/a": X, "x/b": X, "y": Y}, "the data has an input 'b', and the model's inputs are a"),
        ({"x": X, "y/q": Y}, "the data has an output 'q', and the model's outputs are p"),
        ({"x": np.zeros((SAMPLES, 4, 4)), "y": Y}, "samples of shape [4, 4], and the model's input a takes [4]"),
        ({"x": samples(features=5), "y": Y}, "samples of shape [5], and the model's input a takes [4]"),
        ({"x": X.astype(np.complex64), "y": Y}, "complex64 [60, 4], not numbers"),
        ({"x": np.array(["a", "b", "c"]), "y": Y[:3]}, "not numbers"),
        ({"x": OBJECTS, "y": Y[:2]}, "an array of Python objects"),
        ({"x": X, "y": Y[:50]}, "differ in their samples: input 60, target 50"),
        ({"x": X, "y": Y + 1}, "has the label 3, and the model's output p has 3 classes, 0 to 2"),
        ({"x": X, "y": Y - 1}, "has the label -1"),
        ({"x": with_one(X.astype(np.float64), np.nan), "y": Y}, "holds nan as float32, in sample"),
        ({"x": with_one(X, np.inf), "y": Y}, "(sample 7 of the source)"),
        ({"x": with_one(X.astype(np.float64), 1e300), "y": Y}, "holds inf as float32"),
        ({"x": X[:0], "y": Y[:0]}, "a split has no samples"),
        ({"x_train": X, "y_train": Y, "x_test": X[:0], "y_test": Y[:0]}, "a split has no samples"),
        ({"x": X[:1], "y": Y[:1]}, "1 samples are too few"),
        ({"y": Y}, "no inputs"),
    ],
)
def test_arrays_that_do_not_fit(arrays: Mapping[str, np.ndarray], said: str, refused: Refused) -> None:
    np.savez("bad.npz", **arrays)  # type: ignore[arg-type]
    error = refused("train", {"data.source": "bad.npz"})
    assert error.exit_code == 2
    assert said in error.message
    assert error.hint


def test_an_input_that_the_data_lack(refused: Refused) -> None:
    a, b = keras.Input((4,), name="a"), keras.Input((2,), name="b")
    keras.Model([a, b], keras.layers.Dense(3)(keras.layers.Concatenate()([a, b]))).save("two.keras")
    np.savez("one.npz", **{"x/a": X})  # type: ignore[arg-type]
    error = refused("train", {"model.source": "two.keras", "data.source": "one.npz"})
    assert "one.npz has nothing for the model's input b" in error.message
    assert "The model takes a float32[?, 4], b float32[?, 2]; the data has a float32[" in error.hint
    np.savez("unnamed.npz", x=X)
    error = refused("train", {"model.source": "two.keras", "data.source": "unnamed.npz"})
    assert "an input without a name, and the model's inputs are a, b" in error.message


@pytest.mark.parametrize("key", ["validate.task.q", "validate.budget.q"])
def test_a_task_or_a_budget_for_an_output_that_is_none_is_found_before_training(key: str, refused: Refused) -> None:
    value = "classification" if "task" in key else 0.5
    error = refused("train", {key: value, "train.epochs": 50})
    assert f"{key.removesuffix('.q')} names q, which the model does not return" in error.message
    assert error.hint == "Its outputs are p."


def test_integers_for_a_regression_of_two_numbers(refused: Refused) -> None:
    classifier(2, None).save("regression.keras")
    error = refused("train", {"model.source": "regression.keras"})
    assert "has the label 2, and the model's output p has 2 classes" in error.message
    assert "Give numbers that are no classes as floats" in error.hint


def test_numbers_beyond_an_embedding(refused: Refused) -> None:
    words = keras.Input((4,), dtype="int32", name="words")
    x = keras.layers.Flatten()(keras.layers.Embedding(10, 2)(words))
    keras.Model(words, keras.layers.Dense(3, activation="softmax")(x)).save("text.keras")
    np.savez("words.npz", x=np.full((SAMPLES, 4), 37), y=Y)
    error = refused("train", {"model.source": "text.keras", "data.source": "words.npz"})
    assert error.exit_code == 2
    assert "text.keras cannot run on the test split" in error.message
    assert "= 37 is not in [0, 10)" in error.message
    assert "numbers in the range" in error.hint
    np.savez("fractions.npz", x=X, y=Y)
    error = refused("train", {"model.source": "text.keras", "data.source": "fractions.npz"})
    assert "is float32, and the model's input words is int32" in error.message


FUNCTIONS = """
import sys
import numpy as np

def raises(): raise KeyError("image")
def exits(): sys.exit(4)
def nothing(): return None
def a_word(): return "samples"
def takes(one): return one
def generates():
    yield np.zeros(4)
def other_at_each_call(): return np.random.default_rng().normal(size=(60, 4)), np.arange(60) % 3
"""


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("raises", "raised KeyError: 'image'"),
        ("exits", "raised SystemExit: 4"),
        ("nothing", "it returned nothing"),
        ("a_word", "not numbers"),
        ("takes", "missing 1 required positional argument"),
        ("generates", "not numbers"),
        ("absent", "has no attribute 'absent'"),
    ],
)
def test_a_function_that_gives_no_data(function: str, said: str, refused: Refused) -> None:
    Path("own_data.py").write_text(FUNCTIONS)
    error = refused("train", {"data.source": f"own_data:{function}"})
    sys.modules.pop("own_data", None)
    assert error.exit_code == 2
    assert "data.source" in error.message
    assert said in error.message
    assert error.hint


def test_a_function_that_gives_other_data_at_each_call(stage: Stage, refused: Refused) -> None:
    Path("own_random.py").write_text(FUNCTIONS)
    options = {"data.source": "own_random:other_at_each_call"}
    stage("train", options)
    error = refused("export", options)
    assert "is not the one the model was trained on" in error.message
    assert "fix its seeds" in error.hint


@pytest.mark.parametrize("source", ["absent.npz", "https://example.org/d.npz", "d.csv", "m.keras"])
def test_a_source_that_is_none(source: str, refused: Refused) -> None:
    Path("d.csv").write_text("a,b\n1,2\n")
    error = refused("train", {"data.source": source})
    assert error.exit_code == 2
    assert f"data.source = {source!r}" in error.message
    assert error.hint


IMAGES = {"model.source": "sizes.keras", "data.source": "images.npz", "engine.precisions": "fp32"}


@pytest.fixture
def of_any_height(refused: Refused, stage: Stage) -> Refused:
    """Publish a model of images of any height, trained on those of 8 rows."""
    image = keras.Input((None, 9, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3, name="conv")(image))
    keras.Model(image, keras.layers.Dense(3, activation="softmax")(x)).save("sizes.keras")
    np.savez("images.npz", x=np.random.default_rng(0).random((SAMPLES, 8, 9, 3), np.float32), y=Y)
    stage("train", IMAGES)
    return refused


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ({"picture": {1: [4, 8, 16]}}, "the model has no input 'picture'"),
        ({"image": {0: [1, 8, 16]}}, "engine.ranges.image.0: this axis is not dynamic"),
        ({"image": {2: [1, 9, 16]}}, "engine.ranges.image.2: this axis is not dynamic"),
        ({"image": {7: [1, 9, 16]}}, "engine.ranges.image.7: this axis is not dynamic"),
        ({"image": {1: [16, 8, 4]}}, "must be 1 ≤ smallest ≤ best ≤ largest"),
        ({"image": {1: [0, 8, 16]}}, "must be 1 ≤ smallest ≤ best ≤ largest"),
        ({"image": {1: [4, 8]}}, "engine.ranges.image.1"),
        ({"image": {"one": [4, 8, 16]}}, "engine.ranges.image.one"),
        ({"image": {1: [1, 8, 16]}}, "the model cannot run at the smallest sizes, image [3, 1, 9, 3]"),
    ],
)
def test_ranges_that_the_model_does_not_have(ranges: Mapping[str, Any], said: str, of_any_height: Refused) -> None:
    error = of_any_height("export", IMAGES | {"engine.ranges": ranges})
    assert error.exit_code == 2
    assert said in error.message
    assert error.hint


def test_sizes_that_the_data_do_not_have_are_checked_all_the_same(of_any_height: Refused, stage: Stage) -> None:
    said = stage("export", IMAGES | {"engine.ranges": {"image": {1: [10, 12, 20]}}})
    assert "the smallest sizes, the largest sizes" in said

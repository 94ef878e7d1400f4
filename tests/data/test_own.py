"""Data that a function of the user's own returns."""

from pathlib import Path

import keras
import numpy as np
import pytest
from sample_sets import GOOD, OwnData, hashes, images_of, labels_of, model

from pipeline import data
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.config import Data, Model
from pipeline.data import streams
from pipeline.data.splits import THE_ONLY
from pipeline.errors import DataError
from pipeline.models import sources


def test_own_data_are_split_and_named_by_their_source(own: OwnData) -> None:
    source = own(GOOD)
    dataset = data.load(Data(source=source))
    assert (dataset.name, dataset.origin, dataset.class_names) == (source, "data.source", {})
    record = dataset.record()
    assert record.samples.model_dump() == {"train": 36, "validation": 4, "test": 6}
    assert (record.inputs[0].shape, record.targets[0].classes) == ((None, 12, 16, 3), ("0", "1", "2"))
    assert len(hashes(dataset.train) | hashes(dataset.validation) | hashes(dataset.test)) == 46


def test_own_grey_images_get_a_channel_and_labels_in_a_column_are_taken(own: OwnData) -> None:
    source = own("def load(): return [(np.zeros((20, 8, 8), np.uint8), np.ones((20, 1), np.int32))] * 2")
    dataset = data.bind(data.load(Data(source=source)), model({"image": "uint8 ? 8 8 1"}, {"kind": "float32 ? 2"}))
    assert dataset.test.feed()["image"].shape == (20, 8, 8, 1)
    labels = dataset.test.labels()["kind"]
    assert (labels.shape, labels.dtype) == ((20,), np.int64)


def test_an_own_dataset_keeps_its_splits_and_class_names(own: OwnData) -> None:
    source = own(
        """
        from pipeline.data import Dataset, Split
        def load():
            split = Split({"image": np.zeros((5, 8, 8, 1), np.uint8)}, {"pet": np.arange(5) % 2})
            return Dataset("theirs", "a camera", split, split, split, {"pet": ("cat", "dog")})
        """
    )
    dataset = data.load(Data(source=source))
    assert (dataset.name, dataset.origin, dataset.class_names) == (source, "a camera", {"pet": ("cat", "dog")})
    assert len(dataset.validation) == 5
    assert dataset.record().targets[0].classes == ("cat", "dog")


def test_samples_that_are_not_split_are_split_evenly_by_class_and_always_alike(own: OwnData) -> None:
    source = own("def load(): return np.arange(1000), np.repeat([0, 1, 2], [900, 90, 10])")
    dataset = data.load(Data(source=source))
    shares = {name: np.bincount(labels_of(split)).tolist() for name, split in dataset.splits.items()}
    assert shares == {"train": [720, 72, 8], "validation": [90, 9, 1], "test": [90, 9, 1]}
    everything = np.concatenate([images_of(split) for split in dataset.splits.values()])
    assert sorted(everything.tolist()) == list(range(1000))
    assert len(set(labels_of(dataset.validation)[:50].tolist())) > 1  # not sorted by class
    assert data.load(Data(source=source)).record() == dataset.record()


@pytest.mark.parametrize("samples", [3, 4, 7, 12])
def test_few_samples_leave_no_split_empty(own: OwnData, samples: int) -> None:
    dataset = data.load(Data(source=own(f"def load(): return np.arange({samples})")))
    counts = [len(split) for split in dataset.splits.values()]
    assert min(counts) >= 1
    assert sum(counts) == samples
    assert dataset.record().targets == ()


def test_three_pairs_are_the_three_splits_and_dictionaries_name_what_is_in_them(own: OwnData) -> None:
    source = own(
        """
        def load():
            make = lambda n: ({"a": np.full((n, 3), n), "b": np.full(n, 0.5)}, {"c": np.zeros((n, 2))})
            return make(5), make(2), make(3)
        """
    )
    dataset = data.load(Data(source=source))
    assert [len(split) for split in dataset.splits.values()] == [5, 2, 3]
    assert {name: rows[:].shape for name, rows in dataset.test.inputs.items()} == {"a": (3, 3), "b": (3,)}
    assert dataset.test.targets["c"][:].shape == (3, 2)


PAIR = "def load(): return [(np.zeros((20, 8, 8, 1), np.uint8), np.arange(20))] * 2"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (PAIR.replace("arange(20)", "arange(19)"), "differ in their samples: input 20, target 19"),
        (PAIR.replace("20", "0"), "a split has no samples"),
        (PAIR.replace("20", "1"), "too few"),  # nothing left for one of training and validation
        (PAIR.replace("* 2", "+ [(np.zeros((5, 9, 9, 1), np.uint8), np.arange(5))]"), "[9, 9, 1]"),
        (PAIR.replace("np.arange(20)", "None", 1).replace("* 2", "+ [(np.zeros((5, 8, 8, 1)), np.ones(5))]"), "differ"),
        ("def load(): return [1, 2], np.array(['cat', 'dog'])", "the target is <U3 [2], not numbers"),
        ("def load(): return [[1, 2], [3]]", "ragged"),
        ("def load(): return np.array([[1, 2], [3]], object)", "the input is object [2]"),
        ("def load(): return np.ones(2)", "2 samples are too few"),
        ("def load(): return np.array([1, 2j])", "complex128"),
        ("def load(): pass", "it returned nothing"),
        ("def load(): return 1, 2, 3", "a tuple of 3"),
        ("def load(): return 3", "the input is int64 []"),
        ("def load(): return {}", "no inputs"),
        ("def load(): raise KeyError('label')", "raised KeyError: 'label'"),
        ("def load(): raise SystemExit(3)", "raised SystemExit: 3"),
        (
            """
            from pipeline.data import Dataset, Split
            def load():
                split = Split({"x": np.zeros((5, 8), np.float32)}, {"y": np.arange(4)})
                return Dataset("theirs", "", split, split, split)
            """,
            "input x 5, target y 4",
        ),
        (
            """
            from pipeline.data import Dataset, Split
            def load(): return Dataset("theirs", "", *[Split({"x": [1, 2]})] * 3)
            """,
            "the input x is a list, not an array",
        ),
        (
            """
            from pipeline.data import Dataset, Split
            def load(): return Dataset("theirs", "", *[Split(np.zeros((5, 8)), np.zeros(5))] * 3)
            """,
            'a split is no Split({"input": array}',
        ),
        ("load = 3", "is a int, not a function"),
        ("def other(): pass", "has no attribute 'load'"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
    ],
)
def test_own_data_that_cannot_be_used_are_refused_with_the_reason(own: OwnData, body: str, said: str) -> None:
    source = own(body)
    with pytest.raises(DataError) as caught:
        data.load(Data(source=source))
    assert source in caught.value.message
    assert said in caught.value.message
    assert "data.source" in caught.value.message
    assert caught.value.exit_code == 2


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="No module named 'no_such_module_at_all'"):
        data.load(Data(source="no_such_module_at_all:load"))


# Streams

TF = """
import tensorflow as tf
whole = tf.data.Dataset.from_tensor_slices(({"a": np.arange(20)}, {"b": np.arange(20.0)}))
"""


def test_a_tf_dataset_is_read_once_and_in_order(own: OwnData) -> None:
    dataset = data.load(Data(source=own(TF + "def load(): return whole.take(12).batch(5), whole.skip(12).batch(8)")))
    assert [len(split) for split in dataset.splits.values()] == [10, 2, 8]
    np.testing.assert_array_equal(dataset.test.inputs["a"][:], np.arange(12, 20))
    np.testing.assert_array_equal(dataset.test.targets["b"][:], np.arange(12.0, 20.0))
    kept = np.sort(np.concatenate([dataset.train.inputs["a"][:], dataset.validation.inputs["a"][:]]))
    np.testing.assert_array_equal(kept, np.arange(12))


def test_a_py_dataset_is_read(own: OwnData) -> None:
    source = own(
        """
        import keras
        class Batches(keras.utils.PyDataset):
            def __len__(self): return 5
            def __getitem__(self, index): return np.full((4, 2), index, np.float32), np.full((4, 1), index)
        def load(): return Batches()
        """
    )
    dataset = data.load(Data(source=source))
    assert [len(split) for split in dataset.splits.values()] == [16, 2, 2]
    for split in dataset.splits.values():
        np.testing.assert_array_equal(images_of(split)[:, 0], labels_of(split))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (TF + "def load(): return whole.batch(5).repeat()", "endless: limit it with .take(batches)"),
        (TF + "def load(): return whole.take(0).batch(5)", "it yields no batch"),
        (TF + "def load(): return whole", "x/a is a single number: batch the data set"),
        (TF + "def load(): return whole.batch(5).map(lambda x, y: (x, y, 1.0))", "sample weights"),
        (TF + "def load(): return whole.batch(5).map(lambda x, y: ((x['a'], x['a']), y))", "x is a tuple"),
        (TF + "def load(): return whole.batch(5).map(lambda x, y: (tf.as_string(x['a']), y))", "x is object"),
        (TF + "def load(): return whole.batch(5).map(lambda x, y: (x, y['b'][:2]))", "x/a[5], y[2]"),
        (
            "import tensorflow as tf\n"
            "def load(): return tf.data.Dataset.from_tensor_slices(tf.ragged.constant([[1, 2], [3]])).batch(2)",
            "ragged tensors need padding",
        ),
        (
            "import tensorflow as tf\n"
            "def load(): return tf.data.Dataset.from_generator(lambda: (np.ones((2, n)) for n in (3, 4)),"
            " output_signature=tf.TensorSpec((2, None)))",
            "float32[3] and another float32[4]: pad all to one shape",
        ),
        (
            "import keras\nclass Endless(keras.utils.PyDataset):\n"
            "    num_batches = None\n    def __getitem__(self, index): return np.ones((2, 2))\n"
            "def load(): return Endless()",
            "the PyDataset is endless",
        ),
        (
            "import keras\nclass Broken(keras.utils.PyDataset):\n"
            "    def __len__(self): return 2\n    def __getitem__(self, index): return {}['image']\n"
            "def load(): return Broken()",
            "reading it raised KeyError: 'image'",
        ),
    ],
)
def test_a_stream_that_cannot_be_used_is_refused_with_the_reason(own: OwnData, body: str, said: str) -> None:
    source = own(body)
    with pytest.raises(DataError) as caught:
        data.load(Data(source=source))
    assert source in caught.value.message
    assert said in caught.value.message


def test_a_stream_of_unknown_length_is_taken_for_endless_at_some_time(monkeypatch: pytest.MonkeyPatch) -> None:
    class Long(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 10**9

        def __getitem__(self, index: int) -> np.ndarray:
            return np.zeros((100, 1))

    monkeypatch.setattr(streams, "MOST_SAMPLES", 1000)
    with pytest.raises(ValueError, match=r"more than 1,000 samples: is it endless\?"):
        streams.stored(Long())


def test_a_stream_is_on_the_disk_and_not_in_memory() -> None:
    class Batches(keras.utils.PyDataset):  # type: ignore[misc]
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> np.ndarray:
            return np.full((2, 2), index)

    rows = streams.stored(Batches()).inputs[THE_ONLY]
    assert isinstance(rows, np.memmap)
    np.testing.assert_array_equal(rows[:, 0], [0, 0, 1, 1, 2, 2])


SET = """
from pipeline.data import Dataset, Split
def load():
    split = Split({"": np.zeros((5, 8, 8, 1), np.uint8)}, {"": np.arange(5) % 2})
    return Dataset(name="theirs", train=split, validation=split, test=split, **{"origin": "a camera", GIVEN})
"""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ('"class_names": None', "class_names"),
        ('"class_names": {"": "ab"}', "class_names"),
        ('"class_names": {"": (0, 1)}', "class_names"),
        ('"origin": 7', "origin is 7"),
        ('"substitute": None', "substitute is None"),
    ],
)
def test_what_describes_an_own_dataset_is_looked_at(own: OwnData, given: str, said: str) -> None:
    source = own(SET.replace("GIVEN", given))
    with pytest.raises(DataError, match=said) as caught:
        data.load(Data(source=source))
    assert f"data.source {source}" in caught.value.message


@pytest.mark.parametrize(
    "names",
    [("a\0b", "c\nd"), ("", ""), ("a", "a"), ("\ud800", "a\udcff"), ("x" * 10**7, "y")],
    ids=["control characters", "empty", "twice", "not UTF-8", "long"],
)
def test_odd_names_of_classes_are_written_and_read_back(own: OwnData, names: tuple[str, str], tmp_path: Path) -> None:
    source = own(SET.replace("GIVEN", f'"class_names": {{"": {names!r}}}'))
    record = data.load(Data(source=source)).record()
    record.write(tmp_path / "dataset.json")
    assert DatasetRecord.read(tmp_path / "dataset.json") == record
    assert len(record.targets[0].classes) == 2


READING = """
from pipeline.data import Dataset, Split
class Rows:
    shape, dtype = (5, 8, 8, 1), np.dtype(np.uint8)
    def __len__(self): return 5
    def __getitem__(self, which): {does}
def load():
    split = Split({{"": Rows()}}, {{"": np.arange(5) % 2}})
    return Dataset("theirs", "a database", split, split, split)
"""


@pytest.mark.parametrize("does", ["raise ConnectionError('down')", "import sys; sys.exit()", "import os; os._exit(0)"])
def test_rows_of_an_own_class_that_raise_name_their_source(own: OwnData, does: str) -> None:
    source = own(READING.format(does=does))
    with pytest.raises(DataError, match="reading it raised") as caught:
        data.load(Data(source=source)).record()
    assert f"data.source {source}" in caught.value.message
    assert "in __getitem__" in caught.value.message


@pytest.mark.parametrize("label", [9_999_999, 2**62])
def test_a_label_that_no_model_has_a_class_for_is_named(own: OwnData, label: int) -> None:
    source = own(f"def load(): return np.zeros((40, 28, 28, 1), np.uint8), np.r_[np.arange(39) % 2, {label}]")
    dataset = data.load(Data(source=source))
    assert dataset.targets[0].classes == ()
    with pytest.raises(DataError, match=f"label {label:,}"):
        sources.find(Model(), (28, 28, 1), dataset.classes, compiled=False)


@pytest.mark.parametrize("shape", [(1, 1, 1), (0, 0, 1), (3, 28, 1), (28, 28)])
def test_an_image_too_small_for_the_articles_network_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="images of 4×4 pixels and more"):
        sources.find(Model(), shape, 10, compiled=False)
    sources.find(Model(), (4, 4, 1), 10, compiled=False)

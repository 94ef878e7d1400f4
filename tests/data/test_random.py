"""Random inputs: of the model's types, for export, build and timing only."""

import pytest
from commands import Run
from sample_sets import model

from pipeline import data
from pipeline.config import Data
from pipeline.errors import DataError
from pipeline.quantization import calibration


def test_random_inputs_have_the_models_types_and_no_targets() -> None:
    signature = model(
        {"image": "uint8 ? 6 6 3", "ids": "int32 ? ?", "mask": "bool ? ?", "x": "float16 ? 4"}, {"y": "float32 ? 2"}
    )
    options = Data(source="random", random_below=100, random_axis=7)
    dataset = data.bind(data.load(options), signature)
    feed = dataset.test.feed()
    assert {name: (one.shape, one.dtype.name) for name, one in feed.items()} == {
        "image": ((64, 6, 6, 3), "uint8"),
        "ids": ((64, 7), "int32"),
        "mask": ((64, 7), "bool"),
        "x": ((64, 4), "float16"),
    }
    assert 50 < feed["ids"].max() < 100 < feed["image"].max()
    assert 0 <= feed["x"].min() < feed["x"].max() <= 1
    record = dataset.record()
    assert record.random
    assert record.targets == ()
    assert data.reload(record, signature, options).record() == record
    assert data.identify(options) != data.identify(Data(source="random"))
    with pytest.raises(DataError, match=r"the train split of random .* is not the one"):
        data.reload(record, signature, Data(source="random"))


def test_nothing_is_calibrated_on_random_inputs() -> None:
    dataset = data.bind(data.load(Data(source="random")), model({"row": "float32 ? 4"}, {}))
    for refused in (lambda: calibration.draw(dataset, 8, seed=0), lambda: calibration.admit(dataset.train, dataset)):
        with pytest.raises(DataError, match="random"):
            refused()


def test_text_cannot_be_drawn() -> None:
    with pytest.raises(DataError, match=r"input words object\[\?\] takes text"):
        data.bind(data.load(Data(source="random")), model({"words": "object ?"}, {}))


def test_nothing_is_trained_on_random_inputs(pipeline: Run) -> None:
    done = pipeline("train", "--set=data.source=random", "--set=train.epochs=2")
    assert done.returncode == 2
    assert "train.epochs = 2 would train on random numbers" in done.stderr

"""`pipeline.optimize`: the whole pipeline from Python, on a model and arrays in memory."""

from pathlib import Path

import keras
import numpy as np
import pytest

import pipeline
from pipeline.errors import DataError
from pipeline.optimizing import Optimized

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

QUICK = {
    "engine.tune": False,
    "validate.batch_sizes": (1, 7),
    "benchmark.batch_sizes": (1,),
    "benchmark.seconds": 0.02,
    "benchmark.warmup_s": 0.01,
    "benchmark.min_samples": 2,
    "benchmark.rounds": 2,
}


def two_inputs() -> keras.Model:
    """Return a network of two inputs and one output, a number, with weights as they are drawn."""
    keras.utils.set_random_seed(0)
    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    x = keras.layers.Dense(8, activation="relu")(keras.layers.Concatenate()([left, right]))
    return keras.Model([left, right], keras.layers.Dense(1, name="sum")(x))


def samples(count: int = 60) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return inputs by name, and targets."""
    random = np.random.default_rng(0)
    inputs = {"left": random.normal(size=(count, 3)), "right": random.normal(size=(count, 2))}
    return inputs, (inputs["left"].sum(axis=1) + inputs["right"].sum(axis=1)).astype(np.float32)


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Optimized]:
    """A model and what came out of it. Read only."""
    model = two_inputs()
    folder = tmp_path_factory.mktemp("optimized")
    found = pipeline.optimize(model, samples(), ["fp32", "fp16"], folder / "artifacts", QUICK, quiet=True)
    return model, found


@pytest.mark.slow
def test_it_goes_through_every_stage_and_returns_the_verdicts(optimized: tuple[keras.Model, Optimized]) -> None:
    _, found = optimized
    assert found.failure == ""
    assert found.verdicts["typed fp32"] == found.verdicts["typed fp16"] == "pass"
    assert "tensorrt tensorrt-rtx fp32" not in found.verdicts, "it did not run"
    assert found.best in found.verdicts
    assert found.report.is_file()
    assert found.parity.outputs[0].task == "regression"


@pytest.mark.slow
def test_it_predicts_as_the_model_does(optimized: tuple[keras.Model, Optimized]) -> None:
    model, found = optimized
    inputs, _ = samples(5)
    expected = model.predict(inputs, verbose=0)
    for batch in (1, 3):
        np.testing.assert_allclose(found.predict(inputs, batch)["sum"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(DataError, match="input right is missing"):
        found.predict({"left": inputs["left"]})


@pytest.mark.slow
def test_it_shows_itself(optimized: tuple[keras.Model, Optimized]) -> None:
    _, found = optimized
    shown = found._repr_html_()
    assert "<b>pass</b>" in shown
    assert f"{found.best}: " in shown
    assert shown.count("<html") == 0, "the page is an attribute, escaped"
    assert "&lt;html" in shown


@pytest.mark.slow
def test_a_second_call_runs_nothing_again(
    optimized: tuple[keras.Model, Optimized], capsys: pytest.CaptureFixture[str]
) -> None:
    model, found = optimized
    root = found.published.root
    before = {path: path.stat().st_mtime_ns for path in root.glob("*/manifest.json")}
    again = pipeline.optimize(model, samples(), ["fp32", "fp16"], root, QUICK)
    assert capsys.readouterr().out.count("up to date") == 6
    assert {path: path.stat().st_mtime_ns for path in root.glob("*/manifest.json")} == before
    assert again.verdicts == found.verdicts


@pytest.mark.slow
def test_a_model_that_fails_is_not_timed_and_says_why(tmp_path: Path) -> None:
    large = keras.Sequential(
        [keras.Input((4,)), keras.layers.Rescaling(1e6), keras.layers.Dense(3), keras.layers.Rescaling(1e-6)]
    )
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    found = pipeline.optimize(large, (x, None), ["fp16"], tmp_path, QUICK, quiet=True)
    assert "typed fp16" in found.failure
    assert found.verdicts["typed fp16"] == "fail"
    assert found.recommendation is None
    assert found.best is None
    assert found.report.is_file()
    assert "not timed: " in found._repr_html_()


def test_what_is_no_model_or_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="a list is no Keras model"):
        pipeline.optimize([], artifacts=tmp_path)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="data is a list"):
        pipeline.optimize("my.keras", [1, 2], artifacts=tmp_path)

"""A model of two inputs and three outputs, one of them without labels, from its file to its answers."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import QUICK, ROOT, read, run_pipeline

from pipeline import environment
from pipeline.data import Dataset, Split

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

SOURCES = ("--set=model.source=three.keras", "--set=data.source=test_several_outputs:people")


def part(count: int, seed: int) -> Split:
    """Return made samples of two inputs, with labels for two of the outputs."""
    random = np.random.default_rng(seed)
    inputs = {
        "numbers": random.normal(size=(count, 6)).astype(np.float32),
        "picture": random.integers(0, 256, (count, 8, 8, 1), np.uint8),
    }
    kind = inputs["numbers"][:, :3].argmax(axis=1)
    return Split(inputs, {"age": inputs["numbers"].sum(axis=1) * 3 + 20, "kind": kind})


def people() -> Dataset:
    """Return made data in three splits."""
    return Dataset("people", "made", part(300, 0), part(100, 1), part(200, 2), {"kind": ("red", "green", "blue")})


def save(path: Path) -> None:
    """Write a model that was not trained: whether it stays what it is does not depend on that."""
    environment.prepare_tensorflow()
    with environment.native_log_hidden():
        import keras  # here: the stages import this module for its data alone
    keras.utils.set_random_seed(0)
    layers = keras.layers
    numbers, picture = keras.Input((6,), name="numbers"), keras.Input((8, 8, 1), dtype="uint8", name="picture")
    seen = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(layers.Rescaling(1 / 255)(picture)))
    both = layers.Concatenate()([layers.Dense(16, activation="relu")(numbers), seen])
    outputs = [layers.Dense(size, name=name)(both) for name, size in (("age", 1), ("kind", 3), ("embedding", 32))]
    keras.Model([numbers, picture], outputs).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages up to validation, run. Read only."""
    folder = tmp_path_factory.mktemp("three")
    save(folder / "three.keras")
    for stage in ("train", "export", "engine", "validate"):
        done = run(stage, "--set=engine.precisions=fp32,int8", folder=folder)
        assert done.returncode == 0, f"{stage}: {done.stdout}\n{done.stderr}"
    return folder


def run(*arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return run_pipeline(
        *arguments, *QUICK[1:], *SOURCES, cwd=folder, PYTHONPATH=f"{Path(__file__).parent}:{ROOT / 'tests'}:{ROOT}"
    )


def test_each_output_is_judged_by_its_own_task(folder: Path) -> None:
    parity = read(folder, "validate/parity.json")
    judged = {one["output"]: (one["task"], one["labels"], one["metric"]) for one in parity["outputs"]}
    assert judged == {
        "age": ("regression", True, "mean absolute error"),
        "kind": ("classification", True, "accuracy"),
        "embedding": ("similarity", False, "mean cosine"),
    }
    assert {row["output"] for row in read(folder, "train/history.json")["test"]} == {"age", "kind"}
    for row in parity["runners"]:
        if row["total"]:
            assert [one["output"] for one in row["total"]["outputs"]] == list(judged)
    strata = read(folder, "engine/int8/engine.json")["calibration"]["strata"]
    assert strata == {str(group): 60 for group in range(5)}, "as many of each fifth of the ages"


def test_predict_reads_an_array_for_each_input_and_answers_for_each_output(folder: Path) -> None:
    split = part(1, 9)
    np.savez(folder / "one.npz", **{name: rows[0] for name, rows in split.inputs.items()})
    done = run("predict", "one.npz", folder=folder)
    assert done.returncode == 0, done.stderr
    answer = done.stdout.splitlines()[-1]
    assert answer.startswith("one.npz: age: ")
    assert any(f"kind: {name} (" in answer for name in ("red", "green", "blue"))
    assert "embedding: " in answer
    assert "(32 numbers)" in answer


def test_loadgen_computes_the_metric_of_each_output_with_labels(folder: Path) -> None:
    seconds = "--set=benchmark.seconds=0.2"
    done = run("benchmark", "--scenario=offline", "--accuracy", seconds, folder=folder)
    assert done.returncode == 0, done.stderr
    found = read(folder, "loadgen/offline-accuracy/result.json")
    assert [one["output"] for one in found["accuracy"]] == ["age", "kind"]
    for one in found["accuracy"]:
        assert one["value"] == pytest.approx(one["validated"], rel=1e-5)
        assert one["meets_99_9"]

"""Training that is interrupted goes on as if nothing had happened; what goes wrong is said, and nothing is lost."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from commands import run_pipeline
from PIL import Image
from small_models import CLASSES, FEATURES, Stage, labels, samples

from pipeline import environment
from pipeline.errors import (
    ArtifactError,
    BackendUnavailable,
    ConfigError,
    DataError,
    Interrupted,
    PipelineError,
    Preempted,
)
from pipeline.training.checkpoints import Checkpoints, Progress

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

OWN = f"""
import signal
from pathlib import Path
import keras

def model():
    taken = keras.Input(({FEATURES},), name="a")
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(8, activation="relu")(taken))
    return keras.Model(taken, keras.layers.Dense({CLASSES}, activation="softmax", name="p")(hidden))

class Disturbing(keras.callbacks.Callback):
    '''At the step that a file says, does what it says: what a signal would, or a loss that is none.'''

    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        at, what = Path("disturb").read_text().split() if Path("disturb").exists() else (0, "")
        if self.steps == int(at):
            if what == "grow":
                self.model.layers[-1].kernel.assign(self.model.layers[-1].kernel * 1e6)
            elif what == "nan":
                self.model.layers[-1].kernel.assign(self.model.layers[-1].kernel * float("nan"))
            else:
                signal.getsignal(getattr(signal, what))(getattr(signal, what), None)

def disturbing():
    return Disturbing()

def other():
    return "no callback"

def raising():
    raise RuntimeError("out of cheese")
"""

GPU = bool(environment.gpus())

STEPS = 7
"""Of an epoch: 56 samples to train on, in batches of 8."""

Train = Callable[..., str]


@pytest.fixture
def train(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Return a function that trains a small model with dropout, one step at a time; it returns what was said."""
    monkeypatch.delitem(sys.modules, "own_training", raising=False)
    (tmp_path / "own_training.py").write_text(OWN)
    monkeypatch.setattr("pipeline.training.fitting.STEPS_PER_EXECUTION", 1)
    np.savez("d.npz", x=samples(70), y=labels(70))

    def go(**options: object) -> str:
        chosen = {f"train.{key}" if key != "artifacts" else key: value for key, value in options.items()}
        own = {"model.source": "own_training:model", "train.callbacks": "own_training:disturbing"}
        return stage("train", own | {"train.epochs": 4, "train.batch_size": 8} | chosen)

    return go


def weights(folder: Path) -> list[np.ndarray]:
    """Return the weights of a published model, and its optimizer's variables."""
    model = keras.saving.load_model(folder / "train/model.keras")
    return [np.asarray(one) for one in (*model.weights, *model.optimizer.variables)]


def history(folder: Path) -> dict[str, Any]:
    """Return what was recorded of a training."""
    found: dict[str, Any] = json.loads((folder / "train/history.json").read_text())
    return found


def disturbed(train: Train, step: int, what: str, error: type[PipelineError], **options: object) -> PipelineError:
    """Train until a signal or a bad loss at a step, and return what was raised."""
    Path("disturb").write_text(f"{step} {what}")
    with pytest.raises(error) as caught:
        train(**options)
    Path("disturb").unlink()
    return caught.value


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"early_stopping": 5}, marks=pytest.mark.long),
        {"early_stopping": 5, "learning_rate": 0.5, "schedule": "constant"},  # whose first epochs are the best
        pytest.param({"schedule": "constant"}, marks=pytest.mark.long),
    ],
)
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(
    train: Train, tmp_path: Path, options: dict[str, object]
) -> None:
    train(artifacts="whole", **options)
    for step, what, error, code, where in (
        (STEPS + 3, "SIGTERM", Preempted, 8, "epoch 2, step 4"),
        (2, "SIGINT", Interrupted, 130, "epoch 2, step 6"),
        (2 + STEPS, "SIGTERM", Preempted, 8, "epoch 4"),  # at the last step of an epoch, which is then ended
    ):
        stopped = disturbed(train, step, what, error, artifacts="parts", **options)
        assert stopped.exit_code == code
        assert stopped.message.endswith(f"parts/.train.kept/checkpoint is at {where}"), stopped.message
        assert not Path("parts/train").exists()
    said = train(artifacts="parts", **options)
    assert "going on from the checkpoint in parts/.train.kept/checkpoint: epoch 4\n" in said
    for found, expected in zip(weights(tmp_path / "parts"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(found, expected)
    parts, whole = history(tmp_path / "parts"), history(tmp_path / "whole")
    assert [one["measures"] for one in parts["epochs"]] == [one["measures"] for one in whole["epochs"]]
    assert [one["learning_rate"] for one in parts["epochs"]] == [one["learning_rate"] for one in whole["epochs"]]
    assert (parts["best_epoch"], parts["resumed_at"], whole["resumed_at"]) == (whole["best_epoch"], "epoch 4", "")
    assert not Path("parts/.train.kept").exists(), "a checkpoint of what is published is of no use"


def test_another_training_does_not_go_on_from_a_checkpoint(train: Train) -> None:
    disturbed(train, STEPS + 3, "SIGTERM", Preempted)
    said = train(learning_rate=0.01)
    assert "is of another training (configuration). Training begins anew." in said


@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_checkpoint_is_told(train: Train, damage: str) -> None:
    disturbed(train, STEPS + 3, "SIGTERM", Preempted)
    path = Path("artifacts/.train.kept/checkpoint/variables.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:100] if damage == "cut" else content)
    said = train()
    assert "the checkpoint in artifacts/.train.kept/checkpoint " in said
    assert said.count("Training begins anew.") == 1


def test_a_loss_that_is_no_number_ends_the_training(train: Train) -> None:
    error = disturbed(train, STEPS + 3, "nan", DataError)
    assert "diverged: its loss is not a number in epoch 2" in error.message
    assert "The last good checkpoint, epoch 2, is in artifacts/.train.kept/checkpoint. Lower" in error.hint
    again = train()
    assert "going on from the checkpoint" in again, again


def test_a_loss_that_grows_ends_the_training(train: Train) -> None:
    error = disturbed(train, STEPS + 1, "grow", DataError)
    assert re.search(r"the training diverged: its loss, 1\.\d+ at first, is [\d.]+e\+0\d in epoch 2$", error.message), (
        error.message
    )
    assert "The last good checkpoint, epoch 2, is in artifacts/.train.kept/checkpoint. Lower" in error.hint
    assert not Path("artifacts/train").exists()
    assert "going on from the checkpoint" in train()


def test_checkpoints_by_steps(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[tuple[int, int]] = []
    whole = Checkpoints.save

    def save(self: Checkpoints, model: keras.Model, progress: Progress, best: Any = None) -> None:
        saved.append((len(progress.epochs), progress.step))
        whole(self, model, progress, best)

    monkeypatch.setattr(Checkpoints, "save", save)
    train(checkpoint_steps=3, epochs=2)
    assert saved == [(0, 3), (0, 6), (1, 0), (1, 3), (1, 6), (2, 0)]
    assert "train: up to date" in train(checkpoint_steps=5, epochs=2), "the weights do not depend on it"


def test_data_that_change_while_it_trains(train: Train) -> None:
    Path("own_training.py").write_text(OWN + CHANGING)
    with pytest.raises(DataError, match=r"changed while the model was trained") as caught:
        train(callbacks="own_training:changing")
    assert "its checkpoint is in artifacts/.train.kept/checkpoint" in caught.value.hint
    assert not Path("artifacts/train").exists()
    assert "is of another training (samples). Training begins anew." in train(callbacks="own_training:changing")


CHANGING = """
import numpy as np

class Changing(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        with np.load("d.npz") as file:
            arrays = dict(file)
        if arrays["x"].max() < 1000:
            np.savez("d.npz", **arrays | {"x": arrays["x"] + 1000})

def changing():
    return Changing()
"""


def test_a_disk_that_is_full_leaves_the_last_checkpoint(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, saved = np.savez, []

    def full(*arguments: Any, **arrays: Any) -> None:
        saved.append(arguments)
        if len(saved) == 3:
            raise OSError(28, "No space left on device")
        whole(*arguments, **arrays)

    with monkeypatch.context() as patched:
        patched.setattr(np, "savez", full)
        with pytest.raises(ArtifactError, match=r"cannot write below .*: No space left on device"):
            train()
    assert "going on from the checkpoint in artifacts/.train.kept/checkpoint: epoch 3\n" in train()


def test_the_best_epoch_is_taken(train: Train, tmp_path: Path) -> None:
    """At such a rate the validation loss is lowest early on."""
    train(early_stopping=2, learning_rate=0.3, schedule="constant", epochs=30)
    found = history(tmp_path / "artifacts")
    losses = [epoch["measures"]["val_loss"] for epoch in found["epochs"]]
    assert found["best_epoch"] == int(np.argmin(losses)) + 1
    assert len(losses) == found["best_epoch"] + 2


@pytest.mark.parametrize(
    "options", [{}, {"early_stopping": 2, "learning_rate": 0.3, "schedule": "constant", "epochs": 30}]
)
def test_a_training_that_was_over_and_not_published_is_not_trained_on(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    train(artifacts="whole", **options)

    def full(*arguments: object) -> None:
        raise ArtifactError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.training.testing.test", full)
        with pytest.raises(ArtifactError, match="the disk is full"):
            train(artifacts="parts", **options)
    assert "going on from the checkpoint" in train(artifacts="parts", **options)
    for found, expected in zip(weights(tmp_path / "parts")[:4], weights(tmp_path / "whole")[:4], strict=True):
        np.testing.assert_array_equal(found, expected)
    parts, whole = history(tmp_path / "parts"), history(tmp_path / "whole")
    assert [one["measures"] for one in parts["epochs"]] == [one["measures"] for one in whole["epochs"]]
    assert parts["best_epoch"] == whole["best_epoch"]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("other", "returned str, not Keras callbacks"),
        ("raising", "raised RuntimeError: out of cheese"),
        ("absent", "cannot be imported"),
    ],
)
def test_callbacks_that_are_none(train: Train, function: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        train(callbacks=f"own_training:{function}")


def test_images_that_vanish_while_it_trains_are_named(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.training.feeding.IN_MEMORY_BYTES", 0)
    Path("own_images.py").write_text(OWN_IMAGES)
    for name in ("a", "b"):
        Path("pictures", name).mkdir(parents=True)
        for number in range(20):
            pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(f"pictures/{name}/{number}.png")
    with pytest.raises(DataError, match=r"\d+\.png is not an image that can be read"):
        stage(
            "train",
            {"model.source": "own_images:model", "data.source": "pictures", "train.callbacks": "own_images:taking"},
        )
    assert not Path("artifacts/train").exists()


OWN_IMAGES = """
from pathlib import Path
import keras

def model(shape, classes):
    layers = [keras.Input(shape, dtype="uint8"), keras.layers.Rescaling(1 / 255), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(classes, activation="softmax")])

class Taking(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        for path in Path("pictures").rglob("*.png"):
            path.write_bytes(b"")

def taking():
    return Taking()
"""


def test_tensorboard_gets_what_keras_measures(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "tensorboard", None)
        with pytest.raises(BackendUnavailable, match="needs TensorBoard"):
            train(tensorboard=True)
    pytest.importorskip("tensorboard")
    assert "TensorBoard's logs: artifacts/.train.kept/tensorboard" in train(tensorboard=True)
    published = tmp_path / "artifacts/train/tensorboard"
    assert {path.parent.name for path in published.rglob("events.*")} == {"train", "validation"}


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_what_was_trained_in_16_bits_is_published_in_fp32(train: Train, precision: str, tmp_path: Path) -> None:
    said = train(precision=precision)
    assert f"training in {precision}; what is published is in FP32" in said
    folder = tmp_path / "artifacts/train"
    record = json.loads((folder / "model.json").read_text())
    assert (record["policy"], record["as_trained"]) == ("float32", "train/as_trained.keras")
    published, trained = (
        keras.saving.load_model(folder / name, compile=False) for name in ("model.keras", "as_trained.keras")
    )
    assert {layer.dtype_policy.name for layer in published.layers} == {"float32"}
    assert trained.layers[-1].dtype_policy.name == precision
    for one, other in zip(published.weights, trained.weights, strict=True):
        assert one.dtype == "float32"
        np.testing.assert_array_equal(one, other)
    assert keras.config.dtype_policy().name == "float32", "the policy is this training's alone"


def test_the_hop_from_what_was_trained_to_what_is_published_is_measured(train: Train, stage: Stage) -> None:
    train(precision="mixed_bfloat16")
    options = {"model.source": "own_training:model", "engine.precisions": "fp32", "train.precision": "mixed_bfloat16"}
    for name in ("export", "engine", "validate"):
        stage(name, options)
    parity = json.loads(Path("artifacts/validate/parity.json").read_text())
    first = parity["hops"][0]
    assert (first["reference"], first["candidate"]) == ("as trained", "keras")
    assert parity["runners"][0]["runner"]["file"] == "train/as_trained.keras"


@pytest.mark.parametrize(
    ("devices", "error", "said"),
    [
        ("first", ConfigError, "are no devices"),
        ("cpu:0,1", ConfigError, "are no devices"),
        ("7", BackendUnavailable, "TensorFlow sees 0 GPUs here"),
        pytest.param(
            "all", BackendUnavailable, "TensorFlow sees 0 GPUs", marks=pytest.mark.skipif(GPU, reason="a GPU")
        ),
    ],
)
def test_devices_that_are_none(train: Train, devices: str, error: type[PipelineError], said: str) -> None:
    with pytest.raises(error, match=said):
        train(devices=devices)


@pytest.mark.long
def test_two_devices_share_each_batch_and_end_with_the_weights_of_one(train: Train, tmp_path: Path) -> None:
    source = Path("own_training.py")
    source.write_text(source.read_text().replace("Dropout(0.3)", "Dropout(0.0)"))
    train(artifacts="one", callbacks="")
    options = ("--set=model.source=own_training:model", "--set=data.source=d.npz", "--set=train.epochs=4")
    two = ("--set=train.batch_size=8", "--set=train.devices=cpu:0,cpu:1", "--set=artifacts=two")
    done = run_pipeline("train", *options, *two, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "training on cpu:0 and cpu:1, each with a share of every batch" in done.stdout
    for found, expected in zip(weights(tmp_path / "two"), weights(tmp_path / "one"), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    recorded = history(tmp_path / "two")
    assert recorded["devices"] == ["cpu:0", "cpu:1"]
    assert all(epoch["waited_s"] is None for epoch in recorded["epochs"])


@pytest.mark.long
def test_a_training_killed_at_any_moment_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL and SIGTERM, at moments that no code of ours chooses, and that each run of the tests draws anew."""
    options = ("train", "--set=data.name=digits", "--set=train.checkpoint_steps=1", "--set=train.epochs=9")
    whole = run_pipeline(*options, "--set=artifacts=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    draw, command = random.Random(), [sys.executable, "-m", "pipeline", *options, "--set=artifacts=parts"]
    state = tmp_path / "parts/.train.kept/checkpoint/state.json"
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, Preempted.exit_code)):
        before = state.read_bytes() if state.exists() else b""
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            while (state.read_bytes() if state.exists() else b"") == before and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.3))
            process.send_signal(number)
        assert process.returncode == code, "it was still training"
    last = run_pipeline(*options, "--set=artifacts=parts", cwd=tmp_path)
    assert "going on from the checkpoint" in last.stdout, last.stdout + last.stderr
    for found, expected in zip(weights(tmp_path / "parts"), weights(tmp_path / "whole"), strict=True):
        np.testing.assert_array_equal(found, expected)

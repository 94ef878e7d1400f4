"""Several processes train one model: as one does, published once, and none of them waits for ever for one that died."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from commands import PYTHONPATH, run_here

from pipeline import hosts
from pipeline.errors import BackendUnavailable, ConfigError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

MPIRUN = shutil.which("mpirun")
JAX = importlib.util.find_spec("jax") is not None
LACKS = (
    "Open MPI is not installed (Debian's openmpi-bin)"
    if MPIRUN is None
    else ("" if JAX else "JAX is not installed (the extra hosts)")
)
together = pytest.mark.skipif(bool(LACKS), reason=LACKS)

OWN = """
import os, signal
import keras
import numpy as np

def model():
    taken = keras.Input((4,), name="a")
    hidden = keras.layers.Dense(8, activation="relu")(taken)
    made = keras.Model(taken, keras.layers.Dense(3, activation="softmax", name="p")(hidden))
    random = np.random.default_rng(0)  # JAX and TensorFlow draw other numbers from one seed
    made.set_weights([random.normal(size=one.shape) for one in made.get_weights()])
    return made

class Dying(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if os.environ.get("OMPI_COMM_WORLD_RANK") == "1" and batch == 3:
            os.kill(os.getpid(), signal.SIGKILL)

def dying():
    return Dying()

class Preempted(keras.callbacks.Callback):
    steps = 0

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == 16 and not os.path.exists("once"):  # the sixth step of the second epoch
            if os.environ["OMPI_COMM_WORLD_RANK"] == "0":
                open("once", "w").close()
                os.kill(os.getpid(), signal.SIGTERM)

def preempted():
    return Preempted()
"""

OPTIONS = (
    "train",
    *("--set=model.source=own_hosts:model", "--set=data.source=d.npz"),
    *("--set=train.epochs=4", "--set=train.batch_size=8"),
)


def with_model_and_data(folder: Path) -> Path:
    """Write a model of the user's own and its samples into a folder; return that."""
    (folder / "own_hosts.py").write_text(OWN)
    x = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    np.savez(folder / "d.npz", x=x, y=np.arange(100) % 3)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return with_model_and_data(tmp_path)


def mpirun(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Run a command line of ours as two processes."""
    own = {"PYTHONPATH": PYTHONPATH, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [str(MPIRUN), "--oversubscribe", "-n", "2", sys.executable, "-m", "pipeline", *options]
    return subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=240)


def weights(path: Path) -> list[np.ndarray]:
    return [np.asarray(one) for one in keras.saving.load_model(path, compile=False).weights]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder in which two processes have trained, below `two`, and what they said. That model stays as it is."""
    folder = with_model_and_data(tmp_path_factory.mktemp("hosts"))
    two = mpirun(folder, *OPTIONS, "--set=artifacts=two")
    assert two.returncode == 0, two.stdout + two.stderr
    return folder, two.stdout


@together
@pytest.mark.slow
def test_two_processes_train_what_one_does(by_two: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, said = by_two
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    run_here(*OPTIONS, "--set=artifacts=one")
    assert "training on cpu of process 0 and cpu of process 1, each with a share of every batch" in said
    assert said.count("train: done in") == 1, "process 0 alone publishes"
    for found, expected in zip(
        weights(folder / "two/train/model.keras"), weights(folder / "one/train/model.keras"), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)  # JAX's arithmetic, and TensorFlow's
    recorded = json.loads((folder / "two/train/history.json").read_text())
    assert recorded["backend"] == "jax"
    assert recorded["devices"] == ["cpu of process 0", "cpu of process 1"]
    run_here("export", *OPTIONS[1:], "--set=artifacts=two")


@together
@pytest.mark.long
def test_a_process_that_dies_ends_the_others(folder: Path) -> None:
    started = time.monotonic()
    done = mpirun(folder, *OPTIONS, "--set=train.callbacks=own_hosts:dying")
    assert done.returncode != 0
    assert time.monotonic() - started < 60 + hosts.LOST_AFTER_S
    assert "process rank 1" in done.stderr
    assert "signal 9" in done.stderr
    assert not (folder / "artifacts/train").exists()


@pytest.mark.long
@pytest.mark.skipif(not JAX, reason="JAX is not installed (the extra hosts)")
def test_what_is_said_where_another_process_is_gone(folder: Path) -> None:
    """Two processes as mpirun would start them, without it: it ends the others at once."""
    as_started = {"OMPI_MCA_orte_hnp_uri": f"{os.getpid()}.0;tcp://127.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "pipeline", *OPTIONS, "--set=train.callbacks=own_hosts:dying"]

    def started(rank: str) -> "subprocess.Popen[str]":
        own = {"PYTHONPATH": PYTHONPATH, "OMPI_COMM_WORLD_RANK": rank, "OMPI_COMM_WORLD_LOCAL_RANK": rank}
        whole = os.environ | as_started | own
        return subprocess.Popen(command, cwd=folder, env=whole, stderr=subprocess.PIPE, text=True)

    with started("0") as first, started("1") as second:
        _, said = first.communicate(timeout=120)
        second.communicate(timeout=120)
    assert second.returncode == -signal.SIGKILL
    if first.returncode == BackendUnavailable.exit_code:
        assert "error: training with the other processes failed" in said
        assert "Traceback" not in said
    else:  # JAX noticed before a step did
        assert "another task died" in said


@together
@pytest.mark.long
def test_processes_that_are_preempted_go_on_together(folder: Path, by_two: tuple[Path, str]) -> None:
    preempted = (*OPTIONS, "--set=train.callbacks=own_hosts:preempted", "--set=train.checkpoint_steps=4")
    first = mpirun(folder, *preempted, "--set=artifacts=parts")
    assert "stopped by SIGTERM" in first.stderr + first.stdout
    assert "the checkpoint in parts/.train.kept/checkpoint is at epoch 2, step 7" in first.stderr + first.stdout
    assert not (folder / "parts/train").exists()
    then = mpirun(folder, *preempted, "--set=artifacts=parts")
    assert then.returncode == 0, then.stdout + then.stderr
    assert "going on from the checkpoint in parts/.train.kept/checkpoint: epoch 2, step 7" in then.stdout
    whole = by_two[0] / "two/train/model.keras"
    for found, expected in zip(weights(folder / "parts/train/model.keras"), weights(whole), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("asked", "variables", "several"),
    [
        ("auto", {}, False),
        ("auto", {"OMPI_COMM_WORLD_SIZE": "1"}, False),
        ("auto", {"OMPI_COMM_WORLD_SIZE": "4"}, True),
        ("auto", {"SLURM_STEP_NUM_TASKS": "2"}, True),
        ("one", {"OMPI_COMM_WORLD_SIZE": "4"}, False),
        ("all", {}, True),
    ],
)
def test_whether_there_are_several(
    asked: str, variables: dict[str, str], several: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in hosts.STARTED_BY:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hosts.several(asked) is several


def test_keras_cannot_be_moved_once_it_is_there() -> None:
    with pytest.raises(ConfigError, match="Keras is imported already"):
        hosts.join()


def test_without_jax_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(BackendUnavailable, match="needs JAX") as caught:
        hosts.join()
    assert "keras-tensorrt-pipeline[hosts]" in caught.value.hint

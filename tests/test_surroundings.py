"""Surroundings that are odd: no home, no folder for temporary files, a Keras that is set up for something else."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from commands import PYTHONPATH, Run

from pipeline import temporary

TRAIN = ("train", "--set=data.name=digits", "--set=train.epochs=1")


def bare(*arguments: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m pipeline` with hardly any variable set, as a service is."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": PYTHONPATH, "PATH": os.defpath} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.long
@pytest.mark.parametrize("variables", [{}, {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"}], ids=["none", "wrong"])
def test_no_home_and_no_temporary_folder_of_ones_own_will_do(tmp_path: Path, variables: dict[str, str]) -> None:
    for command in (("config",), ("doctor",), TRAIN):
        found = bare(*command, cwd=tmp_path, **variables)
        assert (found.returncode, "Traceback" in found.stderr) == (0, False), found.stderr


def test_a_home_that_nobody_knows_is_said(tmp_path: Path) -> None:
    """As in a container whose user has no entry in passwd."""
    statement = (
        "import os, pwd\n"
        "pwd.getpwuid = lambda number: (_ for _ in ()).throw(KeyError(number))\n"
        "from pipeline import data\n"
        "from pipeline.config import Data\n"
        "assert data.identify(Data()) == 'digits'\n"
        "print(data.load(Data()).substitute)\n"
        "data.load(Data(name='mnist'))"
    )
    variables = {"PYTHONPATH": PYTHONPATH, "PATH": os.defpath}
    found = subprocess.run([sys.executable, "-c", statement], env=variables, capture_output=True, text=True)
    assert "neither HOME nor KERAS_HOME says" in found.stdout
    assert found.stderr.splitlines()[-2].startswith("pipeline.errors.DataError: MNIST is unavailable")


@pytest.mark.skipif(sys.platform != "linux", reason="a file cannot be written to /proc")
def test_a_machine_without_a_folder_for_temporary_files_is_said() -> None:
    statement = (
        "import sys, tempfile\n"
        "tempfile._candidate_tempdir_list = lambda: ['/proc']\n"
        "sys.argv = ['pipeline', 'config']\n"
        "from pipeline import cli\n"
        "cli.main()"
    )
    variables = os.environ | {"PYTHONPATH": PYTHONPATH}
    found = subprocess.run([sys.executable, "-c", statement], env=variables, capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stderr.startswith("error: temporary files cannot be written")
    assert "TMPDIR" in found.stderr


@pytest.mark.long
@pytest.mark.parametrize("named_by", ["variable", "file"])
def test_keras_runs_on_tensorflow_whatever_it_is_set_up_for(tmp_path: Path, pipeline: Run, named_by: str) -> None:
    variables = {"KERAS_BACKEND": "torch"}
    if named_by == "file":
        (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch", "floatx": "float32"}))
        variables = {"KERAS_HOME": str(tmp_path)}
    run = pipeline(*TRAIN, **variables)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


def test_a_process_whose_keras_runs_on_another_backend_is_told(tmp_path: Path) -> None:
    pytest.importorskip("jax", reason="Keras's backend numpy needs JAX, and none of the others is installed")
    statement = "import keras, pipeline; pipeline.optimize('my.keras')"
    variables = os.environ | {"PYTHONPATH": PYTHONPATH, "KERAS_BACKEND": "numpy"}
    found = subprocess.run(
        [sys.executable, "-c", statement], env=variables, cwd=tmp_path, capture_output=True, text=True
    )
    assert "ConfigError: Keras runs on numpy in this process" in found.stderr
    assert not list(tmp_path.iterdir())


LEAVING = """
import tempfile

def load():
    tempfile.NamedTemporaryFile(delete=False).close()
    print("in", tempfile.gettempdir())
    raise OSError("the disk is gone")
"""


def test_what_is_left_by_what_fails_goes_with_the_process(tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text(LEAVING, encoding="utf-8")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        found = bare("train", "--set=data.source=leaving:load", cwd=tmp_path, TMPDIR=folder)
        assert found.returncode == 2, found.stderr
        assert "the disk is gone" in found.stderr
        assert f"in {folder}/pipeline-" in found.stdout
        assert not list(Path(folder).iterdir())


def test_a_long_name_leaves_sockets_their_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("t" * temporary.LONGEST)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    temporary.keep_apart()
    try:
        assert tempfile.gettempdir() == str(folder)
    finally:
        temporary.remove()
    assert not list(folder.iterdir())

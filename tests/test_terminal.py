"""Terminals and pipes as they are found: other encodings, closed, full, with a reader that has left."""

import fcntl
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import PYTHONPATH, Run

MINIMAL = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
"""A C locale that Python does not take for UTF-8."""

TRAIN = ("train", "--set=data.name=digits", "--set=train.epochs=1")


def shell(command: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a line of sh in which `$P` is `python -m pipeline`."""
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "P": f"{sys.executable} -m pipeline"} | variables
    return subprocess.run(["sh", "-c", command], cwd=cwd, env=environment, capture_output=True, timeout=300)


@pytest.mark.parametrize(
    "encoding",
    [MINIMAL, {"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "cp1252"}, {"PYTHONIOENCODING": "iso8859-9"}],
    ids=["C", "latin-1", "cp1252", "iso8859-9"],
)
def test_a_terminal_that_is_not_utf_8_gets_ascii(tmp_path: Path, encoding: dict[str, str]) -> None:
    for command in ("config", "config --set=engine.profiles=[[3,2,1]]", "verify nothing"):
        whole, found = shell(f"$P {command}", tmp_path), shell(f"$P {command}", tmp_path, **encoding)
        assert found.returncode == whole.returncode
        assert b"Traceback" not in found.stderr
        assert (found.stdout + found.stderr).count(b"\n") == (whole.stdout + whole.stderr).count(b"\n")
    assert (
        b"1 <= smallest <= best <= largest"
        in shell("$P config --set=engine.profiles=[[3,2,1]]", tmp_path, **encoding).stderr
    )


def test_a_name_that_is_not_utf_8_is_shown(tmp_path: Path) -> None:
    found = shell("$P config --config $(printf 'a\\377b')", tmp_path)
    assert (found.returncode, b"a\\xffb" in found.stderr) == (2, True)


@pytest.mark.parametrize(
    ("redirected", "code"),
    [("| head -1", 0), (">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 3), ("2>/dev/full", 0)],
)
def test_an_answer_that_cannot_be_written_is_no_success(tmp_path: Path, redirected: str, code: int) -> None:
    """A reader that has enough, or a closed output, is a choice; a full disk is not."""
    found = shell(f"{{ $P config; echo $? >code; }} {redirected}", tmp_path)
    assert (tmp_path / "code").read_text() == f"{code}\n"
    assert b"Traceback" not in found.stderr
    assert found.stderr.count(b"standard output cannot be written: No space left on device") == (code == 3)


@pytest.mark.skipif(sys.platform != "linux", reason="the size of a pipe is Linux's to set")
def test_a_pipe_that_does_not_wait_gets_all(tmp_path: Path, pipeline: Run) -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)  # less than is said
    os.set_blocking(writer, False)
    environment = os.environ | {"PYTHONPATH": PYTHONPATH}
    command = [sys.executable, "-m", "pipeline", "config"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=writer) as process:
        os.close(writer)
        select.select([reader], [], [])
        time.sleep(0.2)  # until the pipe is full
        with os.fdopen(reader, encoding="utf-8") as said:
            found = said.read()
    assert (process.returncode, found) == (0, pipeline("config").stdout)


@pytest.mark.parametrize("redirected", [">/dev/full 2>/dev/full", "<&- >&- 2>&-"])
def test_an_error_keeps_its_exit_code_though_nobody_hears_it(tmp_path: Path, redirected: str) -> None:
    found = shell(f"$P config --set=train.epochs=x {redirected}", tmp_path)
    assert (found.returncode, found.stderr) == (2, b"")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirected", "variables"),
    [
        pytest.param(">/dev/full 2>/dev/full", {}, marks=pytest.mark.long),
        ("<&- >&- 2>&-", {}),
        pytest.param("| head -c 1", {}, marks=pytest.mark.long),
        ("", MINIMAL),
    ],
    ids=["full", "closed", "left", "C"],
)
def test_a_stage_publishes_though_nobody_can_hear_of_it(
    tmp_path: Path, pipeline: Run, redirected: str, variables: dict[str, str]
) -> None:
    found = shell(f"{{ $P {' '.join(TRAIN)}; echo $? >code; }} {redirected}", tmp_path, **variables)
    assert (tmp_path / "code").read_text() == "0\n"
    assert b"Traceback" not in found.stderr
    assert "up to date" in pipeline(*TRAIN).stdout


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_no_color_is_honoured_in_errors(tmp_path: Path, no_color: str, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"PYTHONPATH": PYTHONPATH, "NO_COLOR": no_color, "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "pipeline", "config", "--set=train.epochs=x"]
    code = subprocess.run(command, cwd=tmp_path, env=environment, stderr=theirs, stdout=theirs).returncode
    os.close(theirs)
    said = os.read(ours, 65_536)
    os.close(ours)
    assert (code, b"train.epochs" in said, b"\x1b[31m" in said) == (2, True, coloured)

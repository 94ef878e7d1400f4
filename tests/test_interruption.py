"""Ctrl-C, SIGTERM and SIGHUP at every moment of a command: one line, its exit code, and nothing left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import PYTHONPATH, started

SAID = "interrupted; what was published before is unchanged\n"


def python(program: str, cwd: Path, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": PYTHONPATH} | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


WHILE_IT_IS_IMPORTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), getattr(signal, {number!r}))

sys.meta_path.insert(0, Finder())
sys.argv[1:] = ["config"]
runpy.run_module("pipeline", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_while_the_command_is_imported_ends_it_in_a_line(number: str, code: int, tmp_path: Path) -> None:
    done = python(WHILE_IT_IS_IMPORTED.format(number=number), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", SAID)


AFTER_THE_WORK = """
import os, signal, sys
from pipeline import __main__

class Last:
    def __del__(self, kill=os.kill, pid=os.getpid(), number=signal.{number}):
        kill(pid, number)

last = Last()  # which goes with the interpreter
sys.argv[1:] = ["config"]
__main__.main()
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_after_the_work_leaves_its_exit_code(number: str, tmp_path: Path) -> None:
    done = python(AFTER_THE_WORK.format(number=number), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[train]" in done.stdout


def test_what_is_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    ignoring = "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    done = python(ignoring + WHILE_IT_IS_IMPORTED.format(number="SIGHUP"), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


SLOW = """
import tempfile, time
def load():
    with tempfile.TemporaryDirectory():
        print("reading", flush=True)
        time.sleep(300)
"""


@pytest.mark.parametrize(("number", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_in_a_stage_leaves_nothing(
    number: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_data.py").write_text(SLOW, encoding="utf-8")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with started("train", "--set=data.source=slow_data:load", cwd=tmp_path, until="reading") as process:
        os.kill(process.pid, getattr(signal, number))
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (code, SAID), output
    assert not list(temporary.iterdir())
    assert not (tmp_path / "artifacts/.train.partial").exists()


def alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_sigterm_in_a_benchmark_keeps_what_is_measured_and_leaves_no_process(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = copy / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    options = ("--set=benchmark.seconds=20", "--set=benchmark.batch_sizes=16", "--set=data.name=digits", "--force")
    with started("benchmark", *options, cwd=copy, until="timing") as process:
        os.killpg(process.pid, signal.SIGTERM)  # as systemd does: the whole group
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 143, output + errors
        ends = time.monotonic() + 20
        while alive(process.pid) and time.monotonic() < ends:
            time.sleep(0.1)
        assert not alive(process.pid), "the server of its workers ends with it"
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert not list(temporary.iterdir())

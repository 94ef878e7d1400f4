"""Ctrl-C, SIGTERM and SIGHUP at every moment of a command: one line, its exit code, and nothing left."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import PYTHONPATH, run_pipeline, run_python, started

SAID = "interrupted; what was published before is unchanged\n"


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
    done = run_python(WHILE_IT_IS_IMPORTED.format(number=number), tmp_path)
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
    done = run_python(AFTER_THE_WORK.format(number=number), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "[train]" in done.stdout


def test_what_is_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    ignoring = "import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    done = run_python(ignoring + WHILE_IT_IS_IMPORTED.format(number="SIGHUP"), tmp_path)
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


def printing_the_configuration(interrupting: str, tmp_path: Path) -> tuple[int, str, str]:
    """Return how `config` ends where Python runs another program first, as its `sitecustomize`."""
    (tmp_path / "sitecustomize.py").write_text(interrupting, encoding="utf-8")
    done = run_pipeline("config", cwd=tmp_path, timeout=30, PYTHONPATH=f"{tmp_path}{os.pathsep}{PYTHONPATH}")
    return done.returncode, done.stdout, done.stderr


IN_A_STRING = """
import ctypes, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.config.writing":
            run = ctypes.pythonapi.PyRun_String
            run.restype, run.argtypes = ctypes.py_object, [ctypes.c_char_p, ctypes.c_int, *[ctypes.py_object] * 2]
            run(b"import os, signal; os.kill(os.getpid(), signal.SIGHUP); sum(range(10**6))", 257, {}, {})

sys.meta_path.insert(0, Finder())
"""


def test_a_signal_in_what_a_library_runs_as_a_string_has_its_own_exit_code(tmp_path: Path) -> None:
    # The interpreter notes it as unhandled there, and `python -m` would end by SIGINT.
    assert printing_the_configuration(IN_A_STRING, tmp_path) == (129, "", SAID)


IN_NUMPY = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "numpy.linalg":
            os.kill(os.getpid(), signal.SIGHUP)
        if name == "pipeline.config.writing":
            import numpy, time
            time.sleep(60)

sys.meta_path.insert(0, Finder())
"""


def test_a_signal_while_numpy_is_imported_is_obeyed_after_it(tmp_path: Path) -> None:
    # Its C code would print the traceback of what cut the import short.
    assert printing_the_configuration(IN_NUMPY, tmp_path) == (129, "", SAID)


IN_THE_COLLECTOR = """
import gc, os, signal, sys, time

def interrupt(phase, about):
    gc.callbacks.remove(interrupt)
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "pipeline.config.writing":
            gc.callbacks.append(interrupt)
            gc.collect()
            time.sleep(60)

sys.meta_path.insert(0, Finder())
"""


def test_a_signal_that_python_passes_over_comes_again(tmp_path: Path) -> None:
    assert printing_the_configuration(IN_THE_COLLECTOR, tmp_path) == (129, "", SAID)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_doctors_probes_end_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "doctor"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": PYTHONPATH}, stderr=subprocess.PIPE, text=True
    ) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while len(probes := children.read_text(encoding="ascii").split()) < 3:
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.terminate()
        _, said = process.communicate(timeout=30)
        assert (process.returncode, said) == (143, SAID)
        assert not [one for one in probes if Path(f"/proc/{one}").exists()]

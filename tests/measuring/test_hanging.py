"""Processes that hang, are stopped or killed, and the server they are forked from: a failed cell, the rest goes on."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import made_backend
import pytest
from commands import ROOT

from pipeline.measuring import harness
from pipeline.measuring.cells import Schedule, Timed
from pipeline.measuring.loadgen.process import Fail, Tell, isolated
from pipeline.measuring.worker import Worker
from pipeline.runners import processes
from pipeline.tensors import Outputs

IMPATIENT = Schedule(seconds=0.01, min_samples=2, rounds=2, warmup_s=0.01, patience_s=6.0)


def nothing_wrong(one: Timed, found: Outputs, reference: Outputs | None) -> str:
    return ""


@pytest.fixture(autouse=True)
def light() -> None:
    """A server that imports nothing starts at once, where there is none yet."""
    processes.context().set_forkserver_preload([])


@pytest.mark.parametrize(
    ("hangs_at", "doing"), [(1, "loading the model"), (2, "inferring the samples"), (4, "warming up")]
)
def test_a_process_that_hangs_is_a_failed_cell_and_the_rest_goes_on(tmp_path: Path, hangs_at: int, doing: str) -> None:
    timed = [made_backend.timed(tmp_path, hangs_at, "made hanging"), made_backend.timed(tmp_path)]
    cells, interrupted = harness.time_batch(timed, made_backend.samples(tmp_path), 2, IMPATIENT, nothing_wrong)
    assert not interrupted
    assert [cell.status for cell in cells] == ["failed", "ok"], cells[1].reason
    assert "was silent for 6 s" in cells[0].reason
    assert doing in cells[0].reason


ATTACKED = """
import os, signal, sys, time
from multiprocessing import forkserver
from pathlib import Path
import made_backend
from pipeline.measuring import harness
from pipeline.measuring.cells import Schedule
from pipeline.runners import processes

processes.context().set_forkserver_preload([])  # what takes seconds, and is not needed here
processes.START_S = 8.0
what, number, folder = sys.argv[1], getattr(signal, sys.argv[2]), Path(sys.argv[3])
attacked = []

def progress(step):
    if "loading" in step and "second" in step and not attacked:
        server = forkserver._forkserver._forkserver_pid
        workers = [int(one) for one in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
        attacked.append(server if what == "server" else workers[0])
        os.kill(attacked[0], number)

names = ("made first", "made second", "made third")
timed = [made_backend.timed(folder, name=name) for name in names]
schedule = Schedule(seconds=0.01, min_samples=2, rounds=2, warmup_s=0.01, patience_s=8.0)
cells, _ = harness.time_batch(timed, made_backend.samples(folder), 2, schedule, lambda *_: "", progress)
for cell in cells:
    print(cell.status, "|", cell.reason)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes by /proc")
@pytest.mark.parametrize(
    ("what", "number", "statuses"),
    [
        ("worker", "SIGSTOP", ["failed", "ok", "ok"]),
        ("worker", "SIGKILL", ["failed", "ok", "ok"]),
        ("server", "SIGSTOP", None),
        ("server", "SIGKILL", None),
    ],
)
def test_a_signal_to_a_worker_or_to_the_server_they_are_forked_from(
    what: str, number: str, statuses: list[str] | None, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ATTACKED, what, number, tmp_path],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    cells = [line.split(" | ") for line in done.stdout.splitlines()]
    assert len(cells) == 3
    if statuses:
        assert [status for status, _ in cells] == statuses, done.stdout
        assert "made first" in cells[0][1]
    else:  # what runs already needs no server; the others are forked from a new one
        assert [status for status, _ in cells][1:] == ["ok", "ok"], done.stdout
    assert not [path.name for path in tmp_path.glob("worker-*")]


ENDED = """
import sys
from multiprocessing import forkserver
from pathlib import Path
import made_backend
from pipeline.runners import processes
from pipeline.measuring.worker import Worker

processes.context().set_forkserver_preload(["slow_to_end"])
folder = Path(sys.argv[1])
with Worker(made_backend.timed(folder), made_backend.samples(folder), 2) as worker:
    assert worker.status == "ok", worker.reason
print(forkserver._forkserver._forkserver_pid)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes by /proc")
def test_the_server_of_workers_ends_with_the_command(tmp_path: Path) -> None:
    """With TensorFlow imported it takes seconds by itself."""
    (tmp_path / "slow_to_end.py").write_text("import atexit, time; atexit.register(time.sleep, 30)", encoding="utf-8")
    variables = environment(tmp_path)
    variables["PYTHONPATH"] += os.pathsep + str(tmp_path)
    command = [sys.executable, "-c", ENDED, tmp_path]
    done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    status = Path(f"/proc/{int(done.stdout)}/status")
    assert not status.exists() or "zombie" in status.read_text(encoding="utf-8")


def environment(folder: Path) -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return os.environ | {"PYTHONPATH": paths, "TMPDIR": str(folder)}


def test_temporary_files_of_a_worker_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    timed = made_backend.timed(tmp_path, made_backend.LEAVES_A_FILE)
    with Worker(timed, made_backend.samples(tmp_path), 2) as worker:
        assert worker.status == "ok", worker.reason
        assert list(tmp_path.rglob("left*"))
    assert not list(tmp_path.rglob("left*"))


def hang(tell: Tell, fail: Fail) -> None:
    tempfile.NamedTemporaryFile(prefix="left", delete=False).close()
    tell("begun")
    time.sleep(600)


def test_temporary_files_of_loadgens_process_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with isolated(hang) as receive:
        assert receive(60) == "begun"
        assert list(tmp_path.rglob("left*"))
        assert receive(0.1) is None
    assert not list(tmp_path.iterdir())

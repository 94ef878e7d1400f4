"""Memory, open files and the like run out: one error that names what, and what was published before is whole."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import made_run
import pytest
from commands import PYTHONPATH

from pipeline import exhaustion
from pipeline.report import drawing

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")


def limited(limits: str, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """Run `python -m pipeline` with what bash's `ulimit` takes."""
    return subprocess.run(
        ["bash", "-c", f'ulimit {limits} && exec "$0" -m pipeline "$@"', sys.executable, *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": PYTHONPATH, "TMPDIR": str(temporary(cwd))},
        capture_output=True,
        text=True,
        timeout=120,
    )


def temporary(folder: Path) -> Path:
    (folder / "temporary").mkdir(exist_ok=True)
    return folder / "temporary"


def refused(found: "subprocess.CompletedProcess[str]", folder: Path, *words: str) -> None:
    assert found.returncode == 9, found.stdout + found.stderr
    assert len(found.stderr.splitlines()) == 2, found.stderr
    assert all(word in found.stderr for word in words), found.stderr
    assert not list(temporary(folder).iterdir())
    assert not list(folder.glob("artifacts/.*.partial"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the artifacts of a small run. Read only."""
    folder = tmp_path_factory.mktemp("run")
    made_run.make(folder / "artifacts")
    return folder


@pytest.fixture
def reported(run: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_training_with_too_little_memory_is_refused_before_it_ends_the_process(tmp_path: Path) -> None:
    """TensorFlow aborts where it can start no thread, and leaves what it was writing."""
    found = limited("-v 2000000", "train", "--set=data.name=digits", cwd=tmp_path)
    refused(found, tmp_path, "train needs 4 GiB of address space", "`ulimit -v` allows 1.9 GiB")


def test_a_report_without_memory_for_its_charts_is_an_error_and_the_one_before_stays(reported: Path) -> None:
    """The engine that draws reserves more than is there, and dies of SIGTRAP: the report's process did with it."""
    before = {path: path.read_bytes() for path in (reported / "artifacts/report").rglob("*")}
    found = limited("-v 6000000", "report", "--force", cwd=reported)
    refused(found, reported, "draws the report's charts was ended by signal 5", "`ulimit -v` allows 5.7 GiB")
    assert before == {path: path.read_bytes() for path in (reported / "artifacts/report").rglob("*")}


ALMOST_ALL_TAKEN = """
import os, sys
from pipeline import cli
try:
    while True:
        last = os.open(os.devnull, os.O_RDONLY)
except OSError:
    os.closerange(last - 4, last + 1)
sys.argv[1:] = ["report", "--force"]
cli.main()
"""


def test_a_command_that_lacks_open_files_says_which_limit(reported: Path) -> None:
    found = subprocess.run(
        ["bash", "-c", 'ulimit -n 256 && exec "$0" -c "$1"', sys.executable, ALMOST_ALL_TAKEN],
        cwd=reported,
        env=os.environ | {"PYTHONPATH": PYTHONPATH, "TMPDIR": str(temporary(reported))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    refused(found, reported, "open files ran out", "`ulimit -n` allows 256")


FEW_THREADS = """
import resource, sys, threading
from pipeline import exhaustion
exhaustion.STACK_BYTES = 2**30  # so that a limit of memory is one of threads
exhaustion.FRAMEWORKS_GIB = 0
resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
try:
    exhaustion.check("train")
except exhaustion.LimitReached as error:
    print(error.exit_code, error.message, threading.stack_size(), threading.active_count())
"""


def test_a_training_that_may_start_few_threads_is_refused_before_it_ends_the_process(tmp_path: Path) -> None:
    """As with pids.max in a container: TensorFlow aborts at the first thread that it cannot start."""
    variables = os.environ | {"PYTHONPATH": PYTHONPATH}
    command = [sys.executable, "-c", FEW_THREADS]
    found = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert re.fullmatch(r"9 train needs some \d+ threads, and [1-5] could be started 0 1\n", found.stdout), found


def test_next_to_no_open_files_are_said_at_once(tmp_path: Path) -> None:
    """Python finds no module of a package's folder then, without a word: "unknown backend; choose from: "."""
    refused(limited("-n 10", "config", cwd=tmp_path), tmp_path, "`ulimit -n` allows 10 open files")


def test_open_files_are_taken_as_far_as_they_are_allowed(tmp_path: Path) -> None:
    found = limited("-Sn 10", "config", cwd=tmp_path)
    assert found.returncode == 0, found.stderr


def raised(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def nested() -> Exception:
    """An error of something else that came of no memory."""
    try:
        try:
            raise MemoryError
        except MemoryError as error:
            raise ValueError("cannot read it") from error
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (MemoryError(), "memory"),
        (raised(errno.ENOMEM), "memory"),
        (nested(), "memory"),
        (ImportError("a.so: failed to map segment from shared object"), "memory"),
        (RuntimeError("OOM when allocating tensor with shape[1000000,1000]"), "memory"),
        (raised(errno.EMFILE), "open files"),
        (ImportError("a.so: cannot open shared object file: Too many open files"), "open files"),
        (raised(errno.EAGAIN), "processes or threads"),
        (RuntimeError("can't start new thread"), "processes or threads"),
        (raised(errno.ENOSPC), "room on a disk"),
        (raised(errno.EFBIG), "the size that a file may have"),
    ],
)
def test_what_ran_out_is_told_from_what_is_raised(error: Exception, what: str) -> None:
    found = exhaustion.told(error)
    assert found is not None
    assert found.message.startswith(f"{what} ran out")


@pytest.mark.parametrize("error", [ValueError("no such axis"), raised(errno.ENOENT), KeyError("memory"), OSError()])
def test_any_other_error_is_none_of_a_limit(error: Exception) -> None:
    assert exhaustion.told(error) is None


def test_a_chart_that_cannot_be_drawn_is_a_bug_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"exit code 1(.|\n)*Traceback"):
        drawing.svg("no chart")

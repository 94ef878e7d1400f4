"""Publishing while others read, after kills, on file systems that fail, and with odd things in the way."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from made_store import FILES, NEW, content, fill, publish, python, refusal

from pipeline.artifacts import system_calls
from pipeline.artifacts.store import Store
from pipeline.errors import ArtifactError


def names(store: Store) -> list[str]:
    return sorted(path.name for path in store.root.iterdir())


@pytest.fixture(params=["exchange", "two renames"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Publish by both ways: the second is that of file systems that cannot exchange two folders."""
    if request.param == "two renames":
        monkeypatch.setattr(system_calls, "exchange", lambda one, other: False)
    return str(request.param)


def test_linux_exchanges_two_folders_and_loses_neither(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not system_calls.exchange(tmp_path / "one", tmp_path / "other"):
        pytest.skip("this file system cannot")
    assert (tmp_path / "one/other").exists()
    assert (tmp_path / "other/one").exists()
    assert not system_calls.exchange(tmp_path / "one", tmp_path / "missing")


# Readers


def test_a_reader_finds_one_version_whole_while_another_is_published(store: Store, how: str) -> None:
    stop, found = threading.Event(), list[Any]()

    def read() -> None:
        reader = Store(store.root)
        while not stop.is_set():
            try:
                found.append(reader.verified("train").outputs.keys())
            except BaseException as error:
                found.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        for number in range(100):
            publish(store, "train", FILES | {"model.keras": str(number).encode()})
    finally:
        stop.set()
        thread.join()
    assert found
    assert [one for one in found if one != FILES.keys()] == []
    assert names(store) == ["train"]


def between_the_renames(store: Store) -> None:
    store.folder("train").rename(store.root / ".train.previous")
    (store.root / ".train.partial").mkdir()


def test_a_reader_between_the_renames_reads_the_previous_version_and_moves_nothing(store: Store) -> None:
    between_the_renames(store)
    assert store.verified("train").outputs.keys() == FILES.keys()
    assert store.verified_file("train/model.keras").read_bytes() == FILES["model.keras"]
    assert store.published().path("train/model.keras").read_bytes() == FILES["model.keras"]
    assert names(store) == [".train.partial", ".train.previous"]
    publish(store, "train", NEW)
    assert content(store) == NEW
    assert names(store) == ["train"]


def test_a_folder_deleted_on_purpose_does_not_come_back(store: Store) -> None:
    # What a kill after the second rename leaves, of a version before; then the user deletes the folder.
    store.folder("train").rename(store.root / ".train.previous")
    refusal(lambda: store.verified("train"), "has no artifact yet")
    store.recover(["train"])
    assert store.manifest("train") is None
    publish(store, "train", NEW)
    assert names(store) == ["train"]


READ_ONLY = """
import sys
from pathlib import Path
from pipeline.artifacts.store import Store
from pipeline.errors import ArtifactError

store = Store(Path(sys.argv[1]))
print(store.published().path("train/model.keras").read_bytes(), len(store.verified("train").outputs))
try:
    with store.publish("train"):
        pass
except ArtifactError as error:
    print(error)
"""


@pytest.mark.parametrize("interrupted", [False, True])
def test_from_a_read_only_file_system_all_can_be_read_and_nothing_is_repaired(store: Store, interrupted: bool) -> None:
    if interrupted:
        between_the_renames(store)
    here = Path(__file__).parent
    mount = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77; exec "$0" -c "$2" "$1"'
    script = f"import sys; sys.path[:0] = [{str(here.parents[1])!r}]\n{READ_ONLY}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, sys.executable, str(store.root), script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    assert f"{FILES['model.keras']!r} {len(FILES)}" in done.stdout
    assert "cannot write below" in done.stdout
    assert "Read-only file system" in done.stdout


# Odd things in the way


@pytest.mark.parametrize("aside", [".train.partial", ".train.previous"])
@pytest.mark.parametrize("what", ["a file", "a link", "a dangling link", "a folder"])
def test_what_lies_where_publishing_writes_is_no_obstacle(store: Store, tmp_path: Path, aside: str, what: str) -> None:
    path, mine = store.root / aside, tmp_path / "mine"
    mine.mkdir()
    (mine / "photograph").touch()
    if what == "a file":
        path.touch()
    elif what == "a folder":
        (path / "deep").mkdir(parents=True)
    else:
        path.symlink_to(mine if what == "a link" else tmp_path / "nowhere")
    publish(store, "train", NEW)
    publish(store, "train", FILES)
    assert content(store) == FILES
    assert names(store) == ["train"]
    assert (mine / "photograph").exists(), "what a link leads to stays"


# A file system that fails, at each call


FAILING = """
import errno, os, sys
from pathlib import Path
from pipeline.artifacts import system_calls
from pipeline.artifacts.store import Store
from pipeline.errors import ArtifactError
from made_store import NEW, fill

event, nth, number = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
system_calls.exchange = lambda one, other: False
count = 0

def fail(name, arguments):
    global count
    if name == event and str(sys.argv[1]) in str(arguments[0]):
        count += 1
        if count == nth:
            raise OSError(number, os.strerror(number), str(arguments[0]))

sys.addaudithook(fail)
try:
    with Store(Path(sys.argv[1])).publish("train") as folder:
        fill(folder, "train", NEW)
except ArtifactError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("number", [errno.EIO, errno.EBUSY, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize(
    ("event", "nth", "code"),
    [("os.mkdir", 1, 3), ("os.rename", 1, 3), ("os.rename", 2, 3), ("os.remove", 1, 3), ("shutil.rmtree", 1, 3)],
)
def test_a_file_system_that_fails_is_said_and_leaves_the_previous_artifacts(
    store: Store, event: str, nth: int, code: int, number: int
) -> None:
    if event in ("os.remove", "shutil.rmtree"):
        (store.root / ".train.partial").mkdir()
        (store.root / ".train.partial/left").touch()
    done = python(FAILING, store.root, event, nth, number)
    assert done.returncode == code, done.stdout + done.stderr
    assert os.strerror(number) in done.stdout
    assert "artifacts=DIR" in done.stdout
    assert content(store) == FILES
    publish(store, "train", NEW)
    assert content(store) == NEW
    assert names(store) == ["train"]


def test_what_cannot_be_cleaned_up_after_publishing_is_left_for_the_next_time(store: Store) -> None:
    done = python(FAILING, store.root, "shutil.rmtree", 1, errno.EIO)
    assert done.returncode == 0, done.stderr
    assert content(store) == NEW
    publish(store, "train", FILES)
    assert names(store) == ["train"]


@pytest.mark.parametrize(
    "error",
    [
        OSError("Can't synchronously write data (errno = 28, error message = 'No space left on device')"),
        RuntimeError("RESOURCE_EXHAUSTED: /tmp/x; No space left on device"),
        RuntimeError("the process ended with exit code 1:\nTraceback\nOSError: [Errno 28] No space left on device"),
        OSError("1000 requested and 0 written"),
    ],
)
def test_a_full_disk_in_a_librarys_words_is_a_full_disk(store: Store, error: Exception) -> None:
    def full() -> None:
        with store.publish("train"):
            raise error

    said = refusal(full, "Make room", f"cannot write below {store.folder('train')}").message
    known = os.strerror(errno.ENOSPC)
    assert said.partition(": ")[2] == (known if known in str(error) else str(error))
    assert content(store) == FILES


TEMPORARY_FILES_FILL_THEIR_DISK = """
import sys, tempfile
from pathlib import Path
from pipeline.artifacts.store import Store
from pipeline.errors import PipelineError

tempfile.tempdir = sys.argv[2]
try:
    with Store(Path(sys.argv[1])).publish("train"), tempfile.TemporaryFile() as file:
        file.write(bytes(1_000_000))
except PipelineError as error:
    print(error.exit_code, error)
"""


def test_a_full_disk_of_temporary_files_is_named_beside_that_of_the_artifacts(store: Store, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    mount = 'mount -t tmpfs -o size=64k none "$2" || exit 77; exec "$0" -c "$3" "$1" "$2"'
    script = f"import sys; sys.path[:0] = [{str(Path(__file__).parents[2])!r}]\n{TEMPORARY_FILES_FILL_THEIR_DISK}"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount, sys.executable, str(store.root), str(tmp_path / "temporary"), script],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    where = (
        f"3 cannot write below {store.folder('train')}, or temporary files in {tmp_path / 'temporary'}: No space left"
    )
    assert done.stdout.startswith(where), done.stderr
    assert content(store) == FILES


@pytest.mark.parametrize("error", [ConnectionRefusedError(111, "Connection refused"), FileNotFoundError(2, "No", "/x")])
def test_what_says_nothing_of_the_artifacts_is_not_put_down_to_them(store: Store, error: OSError) -> None:
    with pytest.raises(type(error)) as caught, store.publish("train"):
        raise error
    assert not isinstance(caught.value, ArtifactError)


# The lock


LOCKING = """
import sys
from pathlib import Path
from pipeline.artifacts.store import Store
from pipeline.errors import ArtifactError

try:
    with Store(Path(sys.argv[1])).lock():
        pass
except ArtifactError as error:
    print(error)
    sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("name", ["ENOSYS", "ENOLCK", "EINTR", "EOPNOTSUPP", "EAGAIN"])
def test_a_file_system_without_locks_is_said_as_that(store: Store, tmp_path: Path, name: str) -> None:
    strace = ["strace", "-f", "-qq", "-o", str(tmp_path / "calls"), "-e", f"inject=flock:error={name}"]
    root = str(Path(__file__).parents[2])
    script = f"import sys; sys.path[:0] = [{root!r}]\n{LOCKING}"
    try:
        done = subprocess.run(
            [*strace, sys.executable, "-c", script, str(store.root)], capture_output=True, text=True, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("strace is not installed")
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr}")
    assert done.returncode == 3, done.stderr
    said = "another run is using" if name == "EAGAIN" else f"cannot lock a file: {os.strerror(getattr(errno, name))}"
    assert said in done.stdout


@pytest.mark.parametrize("what", ["a folder", "a dangling link", "a pipe"])
def test_something_else_in_the_place_of_the_lock_is_an_error_or_none(store: Store, tmp_path: Path, what: str) -> None:
    path = store.root / ".lock"
    if what == "a folder":
        path.mkdir()
    elif what == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere")
    if what == "a pipe":
        with store.lock():
            pass
    else:
        refusal(store.lock().__enter__, "cannot be written")
    assert not (tmp_path / "elsewhere").exists()


def test_the_block_is_given_an_empty_folder(store: Store) -> None:
    with store.publish("train") as folder:
        assert list(folder.iterdir()) == []
        fill(folder, "train", NEW)

"""Publishing whole or not at all, and telling whether what is there is still what was published."""

import hashlib
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from made_store import FILES, NEW, content, fill, publish, python, refusal

from pipeline import digests
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.record import dump_json
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.store import MANIFEST, Store
from pipeline.errors import NotPublished

# Publishing


def test_what_is_published_takes_the_place_of_what_was(store: Store) -> None:
    assert content(store) == FILES
    publish(store, "train", NEW)
    assert content(store) == NEW
    assert [path.name for path in store.root.iterdir()] == ["train"]


def test_a_manifest_reads_back_as_it_was_written(store: Store) -> None:
    manifest = store.manifest("train")
    assert manifest is not None
    assert Manifest.parse(json.loads(manifest.to_json()), Path(MANIFEST)) == manifest
    assert manifest.outputs["model.keras"].bytes == len(b"weights")
    assert json.loads((store.folder("train") / MANIFEST).read_text())["schema"] == Manifest.schema_number()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), KeyboardInterrupt(), SystemExit(1)])
def test_an_exception_in_the_block_leaves_the_previous_artifacts(store: Store, error: BaseException) -> None:
    def interrupted() -> None:
        with store.publish("train") as folder:
            fill(folder, "train", NEW)
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert content(store) == FILES
    assert [path.name for path in store.root.iterdir()] == ["train"]


def test_an_exception_at_the_first_publishing_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def interrupted() -> None:
        with store.publish("train"):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        interrupted()
    refusal(lambda: store.verified("train"), "has no artifact yet", "make train")


# Kills itself at one of the system's calls: while it fills the folder, before either rename, before the clean-up.
KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.artifacts import system_calls
from pipeline.artifacts.store import Store
from made_store import NEW, fill

event, number = sys.argv[2], int(sys.argv[3])
if sys.argv[4] == "two renames":  # as on a file system that cannot exchange two folders
    system_calls.exchange = lambda one, other: False

def kill(name, arguments):
    global number
    if name == event:
        number -= 1
        if not number:
            os.kill(os.getpid(), signal.SIGKILL)

with Store(Path(sys.argv[1])).publish("train") as folder:
    (folder / "model.keras").write_bytes(b"half")
    if event == "in the block":
        os.kill(os.getpid(), signal.SIGKILL)
    fill(folder, "train", NEW)
    sys.addaudithook(kill)
"""


@pytest.mark.parametrize(
    ("how", "event", "number", "survives"),
    [
        ("exchange", "in the block", 1, FILES),
        ("exchange", "os.rename", 1, FILES),
        ("exchange", "shutil.rmtree", 1, NEW),
        ("two renames", "os.rename", 1, FILES),
        ("two renames", "os.rename", 2, FILES),
        ("two renames", "shutil.rmtree", 1, NEW),
    ],
)
def test_a_kill_leaves_the_previous_artifacts_or_the_new_ones_whole(
    store: Store, how: str, event: str, number: int, survives: dict[str, bytes]
) -> None:
    done = python(KILLED, store.root, event, number, how)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert content(store) == survives
    publish(store, "train", {"third": b"3"})
    assert content(store) == {"third": b"3"}
    assert [path.name for path in store.root.iterdir()] == ["train"]


def fails_in_the_block(store: Store) -> None:
    with pytest.raises(RuntimeError, match="a bug"), store.publish("train"):
        raise RuntimeError("a bug")


@pytest.mark.parametrize("check", [lambda store: store.recover(["train"]), fails_in_the_block])
def test_what_a_kill_between_the_renames_left_aside_is_put_back(store: Store, check: Callable[[Store], object]) -> None:
    store.folder("train").rename(store.root / ".train.previous")
    (store.root / ".train.partial").mkdir()
    check(store)
    assert store.folder("train").is_dir()
    assert content(store) == FILES


TOO_LARGE = """
import resource, sys
from pathlib import Path
from pipeline.artifacts.store import Store
from pipeline.errors import ArtifactError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
try:
    with Store(Path(sys.argv[1])).publish("train") as folder:
        (folder / "model.keras").write_bytes(bytes(1_000_000))
except ArtifactError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def test_a_file_that_cannot_be_written_to_its_end_leaves_the_previous_artifacts(store: Store) -> None:
    pytest.importorskip("resource", reason="no limits on resources on this system")
    done = python(TOO_LARGE, store.root)
    assert done.returncode == 3, done.stderr
    assert f"cannot write below {store.folder('train')}" in done.stdout
    assert "artifacts=DIR" in done.stdout
    assert content(store) == FILES
    assert [path.name for path in store.root.iterdir()] == ["train"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, the disk that is always full")
def test_a_full_disk_is_said_and_leaves_the_previous_artifacts(store: Store) -> None:
    def fill_the_disk() -> None:
        with store.publish("train"):
            Path("/dev/full").write_bytes(b"x")

    refusal(fill_the_disk, "No space left on device", "Make room")
    assert content(store) == FILES


@pytest.mark.parametrize("below", [".", "artifacts"])
def test_a_file_where_the_folder_should_be_is_an_error_that_names_it(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    store = Store(tmp_path / "file" / below)

    def lock() -> None:
        with store.lock():
            pass

    refusal(lock, str(store.root), "artifacts=DIR")


# Checking


def test_nothing_published_is_said_with_the_command_that_publishes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.manifest("export") is None
    refusal(lambda: store.verified("export"), str(tmp_path / "export"), "no artifact yet", "make export")
    refusal(lambda: store.verified_file("export/model.onnx"), "export/model.onnx", "not been published", "make export")


def overwrite(path: Path) -> None:
    path.write_bytes(b"W" + path.read_bytes()[1:])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damage", "said"), [(overwrite, "has changed"), (truncate, "bytes"), (Path.unlink, "is missing")]
)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(store: Store, name: str, damage: Callable[[Path], None], said: str) -> None:
    damage(store.folder("train") / name)
    refusal(lambda: store.verified("train"), str(store.folder("train") / name), said, "make train")
    refusal(lambda: store.verified_file(f"train/{name}"), name, said)


def test_every_damaged_file_is_named(store: Store) -> None:
    for name in FILES:
        overwrite(store.folder("train") / name)
    refusal(lambda: store.verified("train"), *FILES)


def test_a_single_file_is_checked_alone(store: Store) -> None:
    overwrite(store.folder("train") / "history.json")
    assert store.verified_file("train/model.keras") == store.root / "train/model.keras"
    (store.folder("train") / "stray").write_bytes(b"never published")
    refusal(lambda: store.verified_file("train/stray"), "train/stray", "not been published")


def test_a_stage_is_stale_where_its_input_was_published_anew(store: Store) -> None:
    train = store.verified("train")
    publish(store, "export", {"model.onnx": b"graph"}, {"train/model.keras": train.outputs["model.keras"].sha256})
    store.verified("export")
    publish(store, "train", FILES | {"history.json": b"[]"})  # not what export has read
    store.verified("export")
    publish(store, "train", NEW)
    refusal(lambda: store.verified("export"), "export is stale", "train/model.keras", "make export")
    publish(store, "train", {"other": b""})
    refusal(lambda: store.verified("export"), "export is stale", "train/model.keras")


def test_a_stage_whose_inputs_stayed_on_another_machine_is_good(tmp_path: Path) -> None:
    store = Store(tmp_path)
    publish(store, "export", {"model.onnx": b"graph"}, {"train/model.keras": "0" * 64})
    assert content(store, "export") == {"model.onnx": b"graph"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"schema": 3}',
        b'{"schema": 1, "stage": "train"}',
        b'{"schema": 2, "stage": "train"}',
        b'{"stage": "train"}',
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(store: Store, text: bytes) -> None:
    path = store.folder("train") / MANIFEST
    path.write_bytes(text)
    refusal(lambda: store.verified("train"), f"{path} cannot be read", "make train")


@pytest.mark.parametrize("change", [{"schema": Manifest.schema_number() + 1}, {"unknown": 1}, {"seconds": "long"}])
def test_a_manifest_of_another_schema_is_refused(store: Store, change: dict[str, object]) -> None:
    path = store.folder("train") / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refusal(lambda: store.verified("train"), f"{path} cannot be read")


def test_stages_that_one_can_do_without_are_told_with_the_reason(store: Store) -> None:
    manifests, missing = store.all_verified(("train", "benchmark"), optional=("benchmark",))
    assert list(manifests) == ["train"]
    assert "no artifact yet" in missing["benchmark"].message
    with pytest.raises(NotPublished, match="no artifact yet"):
        store.all_verified(("train", "benchmark"))
    overwrite(store.folder("train") / "history.json")
    refusal(lambda: store.all_verified(("train",), optional=("train",)), "has changed")


# What may be read


def test_what_is_published_is_checked_when_it_is_asked_for(store: Store) -> None:
    published = store.published()
    assert published.path("train/model.keras") == store.root / "train/model.keras"
    assert published.sha256("train/model.keras") == hashlib.sha256(b"weights").hexdigest()
    assert published.names("train") == sorted(f"train/{name}" for name in FILES)
    assert published.has("train/history.json")
    assert not published.has("train/model.onnx")
    overwrite(store.folder("train") / "history.json")
    published.path("train/model.keras")
    refusal(lambda: published.path("train/history.json"), "history.json has changed", "make train")


def test_of_a_stage_that_has_not_run_there_is_nothing_to_read(store: Store) -> None:
    published = store.published()
    assert published.names("benchmark") == []
    assert not published.has("benchmark/results.json")
    assert published.read_if_there(Manifest, "benchmark/manifest.json") is None
    refusal(lambda: published.path("benchmark/results.json"), "has not been published", "make benchmark")


def test_a_file_that_is_there_and_broken_is_not_passed_over(store: Store) -> None:
    publish(store, "benchmark", {"results.json": b"{}"})
    refusal(lambda: store.published().read_if_there(BenchmarkResults), "is not a results.json", "make benchmark")


# The lock and the JSON


def test_a_second_run_is_kept_out_while_the_first_lasts(store: Store) -> None:
    def lock() -> None:
        with Store(store.root).lock():
            pass

    with store.lock():
        refusal(lock, "another run is using", str(store.root))
    lock()


def test_a_run_in_another_process_is_kept_out(store: Store) -> None:
    attempt = (
        "from pathlib import Path\nfrom pipeline.artifacts.store import Store\n"
        "Store(Path(sys.argv[1])).lock().__enter__()"
    )
    with store.lock():
        done = python(attempt, store.root)
    assert "ArtifactError: another run is using" in done.stderr
    assert python(attempt, store.root).returncode == 0


def test_the_lock_of_a_killed_run_is_free(store: Store) -> None:
    done = python(
        "import os\nfrom pathlib import Path\nfrom pipeline.artifacts.store import Store\n"
        "with Store(Path(sys.argv[1])).lock():\n    os.kill(os.getpid(), 9)",
        store.root,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    with store.lock():
        pass


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"deep": float("-inf")}]])
def test_json_refuses_what_is_not_a_number(value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        dump_json({"value": value})


def test_json_reads_back_as_it_was_written(tmp_path: Path) -> None:
    tree = {"accuracy": 0.98, "reason": "größer ≥", "p99_us": None, "sizes": [1, 64]}
    (tmp_path / "file.json").write_text(dump_json(tree), encoding="utf-8")
    assert json.loads((tmp_path / "file.json").read_text(encoding="utf-8")) == tree
    assert "größer" in (tmp_path / "file.json").read_text(encoding="utf-8"), "for people, too"


def test_hashes_are_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")  # FIPS 180-4's example
    assert digests.of_file(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"

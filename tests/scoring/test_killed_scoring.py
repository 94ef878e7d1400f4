"""Every row once, whatever is killed; and a folder of answers has those of one input, one bundle and one cut."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import run_pipeline, started
from deadly_rows import DEADLY, deadly, deadly_to_load, of_a_full_disk
from filelock import FileLock
from numpy.typing import NDArray
from scored_rows import errors, fixed, job, scored, write

from pipeline import scoring
from pipeline.config import Config
from pipeline.config.deploying import Score
from pipeline.deployment import bundle as bundles
from pipeline.errors import ArtifactError, BackendUnavailable, ConfigError, DataError, LimitReached
from pipeline.scoring import local
from pipeline.scoring.jobs import GIVEN_UP
from pipeline.scoring.progress import Shown
from pipeline.scoring.summary import Share, Summary
from pipeline.tensors import Array

Images = NDArray[np.uint8]
ROWS = 300
ONE = Config(score=Score(workers=1))


@pytest.fixture
def source(images: Images, tmp_path: Path) -> Path:
    """Forty images with ids from 0 on."""
    return write(tmp_path / "rows.parquet", {"id": np.arange(40), "image": fixed(images)})


def _parts(target: Path) -> set[str]:
    return {path.name for path in target.glob("part-*.parquet")}


def _wait_for_more(target: Path, process: "subprocess.Popen[str]") -> int:
    """Wait until a run has written some files more; return how many there are."""
    least = len(_parts(target)) + 25
    while len(_parts(target)) < least:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)
    return len(_parts(target))


def _children(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    return [one for one in map(int, found) if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


def _gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").split()[2] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_run_that_is_killed_and_interrupted_comes_to_its_end(bundle: Path, images: Images, tmp_path: Path) -> None:
    many = np.concatenate([images] * 8)[:ROWS]
    write(tmp_path / "in/rows.parquet", {"id": np.arange(ROWS), "image": fixed(many)})
    target = tmp_path / "out"
    command = ("score", str(bundle), "in", "out", "--set=score.rows_per_file=1", "--set=score.workers=2")
    with started(*command, cwd=tmp_path, until="300 rows") as process:
        _wait_for_more(target, process)
        os.killpg(process.pid, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM):
        with started(*command, cwd=tmp_path, until="300 rows") as process:
            before = _wait_for_more(target, process)
            workers = _children(process.pid)
            os.kill(process.pid, number)
            _, said = process.communicate(timeout=60)
            assert process.returncode == 128 + number
            assert "what was scored stays" in said
            assert "The same command goes on from there." in said
            assert "Traceback" not in said
        assert len(workers) == 2
        assert all(map(_gone, workers))
        assert ROWS > len(_parts(target)) >= before
    there = {name: (target / name).stat().st_mtime_ns for name in _parts(target)}
    with started(*command, cwd=tmp_path, until="300 rows") as process:
        _wait_for_more(target, process)
        os.kill(_children(process.pid)[0], signal.SIGKILL)  # while it scores, or still loads
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "300 rows, each once, in 300 files; 0 with an error" in out
    assert {name: (target / name).stat().st_mtime_ns for name in there} == there, "what was done is not done again"
    table = pq.read_table(target)
    assert sorted(table["id"].to_pylist()) == list(range(ROWS))
    answers = dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    assert all(answers[row] == answers[row % 40] for row in range(ROWS))
    assert not list(target.glob("*.tmp"))


def test_a_row_that_kills_its_process_is_given_up(
    bundle: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    asked, pieces = job(bundle, source, tmp_path / "out", rows_per_file=20, batch_size=8)
    with Shown(40, 0) as shown:
        local.score(replace(asked, source=deadly(asked.source)), pieces, 1, shown)
    assert shown.done == 40
    table = pq.read_table(tmp_path / "out")
    assert errors(table) == {DEADLY: GIVEN_UP}
    assert table["id"].to_pylist() == list(range(40))
    assert not list((tmp_path / "out/_tries").iterdir())
    assert not list(temporary.iterdir()), "what a process leaves goes with it"


def test_a_process_that_dies_while_it_loads_leaves_the_work_to_the_others(
    bundle: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, pieces = job(bundle, source, tmp_path / "out", rows_per_file=10, batch_size=8)
    with Shown(40, 0) as shown:
        local.score(deadly_to_load(asked, tmp_path / "deaths", 1), pieces, 2, shown)
    assert "a process died while it loaded the model (exit code -9); the others go on" in capsys.readouterr().out
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == list(range(40))


def test_it_is_an_error_where_no_process_loads(bundle: Path, source: Path, tmp_path: Path) -> None:
    asked, pieces = job(bundle, source, tmp_path / "out", rows_per_file=10, batch_size=8)
    with (
        Shown(40, 0) as shown,
        pytest.raises(local.WorkerError, match="a process died while it loaded the model"),
    ):
        local.score(deadly_to_load(asked, tmp_path / "deaths", 2), pieces, 2, shown)


def test_a_disk_that_is_full_is_said_by_the_process_that_finds_it_so(
    bundle: Path, source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    asked, pieces = job(bundle, source, tmp_path / "out", rows_per_file=20, batch_size=8)
    with Shown(40, 0) as shown, pytest.raises(LimitReached, match=r"room on a disk ran out: .*No space left on device"):
        local.score(replace(asked, source=of_a_full_disk(asked.source)), pieces, 1, shown)
    assert "Traceback" not in capfd.readouterr().err


def test_a_run_says_what_it_did(
    bundle: Path, source: Path, images: Images, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    scoring.score(bundle, source, target, ONE)
    summary = Summary.read(target / "_summary.json")
    assert (summary.rows, summary.errors, summary.files, summary.rows_of_this_run) == (40, 0, 1, 40)
    assert (summary.by, summary.workers, summary.threads) == ("processes", 1, "as judged")
    measured = bundles.opened(bundle).record.runners[0].measured
    assert summary.batch == max(measured, key=lambda one: one.items_per_s).batch
    assert isinstance(summary.share, Share)
    assert summary.rows_per_s is not None
    assert summary.share.share == pytest.approx(summary.rows_per_s / summary.share.of_items_per_s)
    scoring.score(bundle, source, target, ONE)
    summary = Summary.read(target / "_summary.json")
    assert (summary.rows, summary.rows_of_this_run, summary.rows_per_s) == (40, 0, None)
    assert summary.share == "nothing was left to score"
    assert "40 rows, 40 of them scored before" in capsys.readouterr().out
    part = target / "part-000000.parquet"
    part.write_bytes(part.read_bytes()[:-20])
    scoring.score(bundle, source, target, ONE)
    assert Summary.read(target / "_summary.json").rows_of_this_run == 40, "what is not whole is done anew"


def test_an_input_without_a_good_row_is_an_error(bundle: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "rows.parquet", {"id": [1, 2], "image": [[0], [0]]})
    with pytest.raises(DataError, match="not one of 2 rows could be scored: image: 1 numbers, not 784"):
        scoring.score(bundle, source, tmp_path / "out", ONE)


def test_answers_of_something_else_are_not_mixed(bundle: Path, source: Path, images: Images, tmp_path: Path) -> None:
    target = tmp_path / "out"
    scored(bundle, source, target, rows_per_file=20)
    with pytest.raises(ArtifactError, match=r"score\.rows_per_file=20, not 30"):
        scored(bundle, source, target, rows_per_file=30)
    other = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    bundles.close(other, bundles.opened(other).record.model_copy(update={"version": 7}))
    with pytest.raises(ArtifactError, match="was begun with another bundle"):
        scored(other, source, target, rows_per_file=20)
    elsewhere = write(tmp_path / "in/rows.parquet", {"id": np.arange(40), "image": fixed(images)})
    with pytest.raises(ArtifactError, match=f"was begun with another input .{source}"):
        scored(bundle, elsewhere, target, rows_per_file=20)
    os.utime(source, ns=(1, 1))
    with pytest.raises(ArtifactError, match="has changed since"):
        scored(bundle, source, target, rows_per_file=20)
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange/part-000000.parquet").write_bytes(b"somebody's")
    with pytest.raises(ArtifactError, match=r"has files of something else: part-000000\.parquet"):
        scored(bundle, source, tmp_path / "strange")


def test_a_damaged_bundle_is_refused_before_anything(bundle: Path, source: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    (damaged / "README.md").write_bytes(b"!" + (damaged / "README.md").read_bytes()[1:])
    run = run_pipeline("score", str(damaged), str(source), "out", cwd=tmp_path)
    assert run.returncode == 3, run.stderr
    assert "README.md" in run.stderr
    assert not (tmp_path / "out").exists()


def test_a_second_run_is_kept_out(bundle: Path, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/_lock"), pytest.raises(ArtifactError, match="another run is writing"):
        scoring.score(bundle, source, tmp_path / "out", ONE)


def test_what_cannot_be(bundle: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="lies in INPUT"):
        scoring.score(bundle, tmp_path, tmp_path / "out", ONE)
    with pytest.raises(ConfigError, match="has a name that is not UTF-8"):
        scoring.score(bundle, source, tmp_path / os.fsdecode(b"\xff"), ONE)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BackendUnavailable) as caught:
        scoring.score(bundle, source, tmp_path / "out", ONE)
    assert "keras-tensorrt-pipeline[parquet]" in caught.value.hint


def test_batches_and_threads_do_not_change_the_answers(
    bundle: Path, source: Path, probabilities: Array, tmp_path: Path
) -> None:
    asked, pieces = job(bundle, source, tmp_path / "out", batch_size=7)
    with replace(asked, alone=False).open() as opened:
        opened.score(pieces[0], lambda _: None)
    found = np.array(pq.read_table(tmp_path / "out")["probabilities"].to_pylist())
    np.testing.assert_allclose(found, probabilities, rtol=1e-4, atol=1e-6)

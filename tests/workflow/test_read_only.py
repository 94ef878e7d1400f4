"""Artifacts on a read-only file system: what is up to date is said to be so, and nothing is asked of the disk."""

import subprocess
import sys
from pathlib import Path

import made_run
import pytest
from commands import ROOT, run_here

READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" || exit 77; cd "$1/.."; shift; exec "$@"'


def on_read_only(artifacts: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m pipeline` where the artifacts are mounted read-only."""
    program = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from pipeline import __main__; __main__.main()"
    command = [sys.executable, "-P", "-c", program, *arguments]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(artifacts), *command],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip(f"nothing can be mounted here: {done.stderr}")
    return done


@pytest.mark.skipif(sys.platform != "linux", reason="mounts")
def test_what_is_up_to_date_is_so_on_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made_run.make(tmp_path / "artifacts")
    run_here("report")
    found = on_read_only(tmp_path / "artifacts", "report")
    assert (found.returncode, found.stderr) == (0, "")
    assert found.stdout == "report: up to date (artifacts/report)\n"
    found = on_read_only(tmp_path / "artifacts", "report", "--force")
    assert found.returncode == 3
    assert found.stderr.startswith("error: artifacts cannot be written: [Errno 30] Read-only file system")

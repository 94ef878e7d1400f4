"""A process of its own for what may end one: whatever happens there is told, and this process goes on."""

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import deadly_work
import pytest

from pipeline.errors import BuildError
from pipeline.runners import trial

LIMIT_S = 60.0


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Look that no temporary file is left."""
    yield
    assert not list(Path(tempfile.gettempdir()).glob(f"trial-{os.getpid()}-*"))


def test_what_goes_well_is_heard_nowhere_and_leaves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    trial.tried(deadly_work.goes_well, limit_s=LIMIT_S)
    assert "not heard" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    ("work", "said"),
    [
        (deadly_work.divides_by_nothing, "by SIGFPE; its last words: F kernel.cc:7] Check failed: stride > 0"),
        (deadly_work.is_killed, "by SIGKILL: memory may have run out"),
        (deadly_work.ends_at_once, "with exit code 7"),
        (deadly_work.exits, "raises SystemExit: 0"),
        (deadly_work.raises_of_a_library, "raises JSONDecodeError: Expecting property name"),
        (deadly_work.takes_all_memory, "needs more memory than there is"),
    ],
)
def test_how_it_ends_is_told(work: trial.Work, said: str) -> None:
    with pytest.raises(trial.Ended) as caught:
        trial.tried(work, limit_s=LIMIT_S)
    assert said in caught.value.message


def test_an_endless_loop_has_an_end() -> None:
    with pytest.raises(trial.Ended, match=r"was not done after 0\.5 s") as caught:
        trial.tried(deadly_work.hangs, limit_s=0.5)
    assert "model.trial_s" in caught.value.hint


def test_errors_of_the_pipeline_come_back_as_they_were() -> None:
    with pytest.raises(BuildError) as caught:
        trial.tried(deadly_work.raises_ours, limit_s=LIMIT_S)
    assert (caught.value.message, caught.value.hint) == ("too many axes", "Take some away.")


@pytest.mark.parametrize("kind", ["SystemExit", "ClassVar", "first_line", "Unknown"])
def test_a_class_that_is_none_of_ours_is_not_made(kind: str) -> None:
    with pytest.raises(trial.Ended, match="no"):
        trial.tried(deadly_work.answers_for_another, kind, limit_s=LIMIT_S)


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
def test_no_process_is_left(tmp_path: Path) -> None:
    with pytest.raises(trial.Ended):
        trial.tried(deadly_work.writes_its_number_and_hangs, str(tmp_path / "pid"), limit_s=2.0)
    number = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{number}").exists():
            return
        time.sleep(0.1)
    raise AssertionError("it is still there")

"""A little of `make torture`: that its cases hold, and that it would see what they are there for."""

import random
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.torture import checks, commands, damage, publishing, shapes
from benchmarks.torture.__main__ import PARTS, tried
from benchmarks.torture.base import stages
from benchmarks.torture.cases import Broken, Case, Place
from benchmarks.torture.journal import Journal, Outcome
from pipeline.artifacts.store import Store

linux = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.fixture
def place(main_job: Path, tmp_path: Path) -> Place:
    folder = tmp_path / "case"
    folder.mkdir()
    return Place(main_job, folder)


def some(part: Callable[[Path, random.Random], object], base: Path, number: int) -> list[Case]:
    return random.Random(15).sample(list(part(base, random.Random(15))), number)  # type: ignore[arg-type]


def broken(found: list[Case], place: Place) -> list[str]:
    outcomes = [tried(case, place.base, place.folder) for case in found]
    return [f"{one.name}: {one.broke}" for one in outcomes if one.broke]


def test_damage_and_odd_shapes_are_refused_by_name(place: Place) -> None:
    in_process = [case for case in some(shapes.cases, place.base, 60) if "change" in case.name]
    assert broken(some(damage.cases, place.base, 60) + in_process, place) == []


@linux
@pytest.mark.skipif(bool(publishing.unavailable()), reason=publishing.unavailable())
def test_a_publication_whose_system_calls_fail_loses_nothing(place: Place) -> None:
    assert broken(some(publishing.cases, place.base, 6), place) == []


# That it would see it.


def test_what_is_lost_is_seen(place: Place) -> None:
    artifacts = place.copied()
    published = stages(place.base)
    checks.whole(artifacts, published)
    (artifacts / ".report.partial").mkdir()
    with pytest.raises(Broken, match=r"left in artifacts/: \['\.report\.partial'\]"):
        checks.whole(artifacts, published)
    checks.whole(artifacts, published, interrupted=True)
    (artifacts / "photographs/cat.txt").unlink()
    with pytest.raises(Broken, match=r"the user's artifacts/photographs/cat\.txt is gone"):
        checks.whole(artifacts, published, interrupted=True)
    (artifacts / "report/index.html").write_bytes(b"")
    with pytest.raises(Broken, match=r"report is damaged: .*index\.html has 0 bytes"):
        checks.whole(artifacts, published, interrupted=True)


def test_damage_that_is_not_found_is_seen(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "changed", lambda *_: [])
    found = broken(
        [case for case in damage.cases(place.base, random.Random(1)) if "index.html: cut" in case.name], place
    )
    assert found == ["report/index.html: cut: it is not refused"]


@linux
@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise ValueError('a bug')", "a traceback, exit code 1: .*a bug"),
        ("import os, subprocess; subprocess.Popen(['sleep', '60'], start_new_session=True)", "1 processes are left"),
        ("import tempfile; tempfile.mkstemp(prefix='mine')", r"temporary files are left: \['mine"),
        ("import time; time.sleep(60)", "it has not ended after 2 s"),
    ],
)
def test_what_a_command_leaves_is_seen(
    program: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "LIMIT_S", 2.0)
    monkeypatch.setattr(commands, "GRACE_S", 0.1)
    with pytest.raises(Broken, match=f"(?s){said}"):
        commands.run(Place(tmp_path, tmp_path), (sys.executable, "-c", program))


def test_it_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.add(Outcome("part", "one", 0.5, ""))
    with (tmp_path / "journal").open("a", encoding="utf-8") as file:
        file.write('{"part": "part", "name": "cut sho')
    assert Journal(tmp_path / "journal").outcomes == {("part", "one"): Outcome("part", "one", 0.5, "")}


def test_a_case_has_one_name_and_the_same_for_a_seed(main_job: Path) -> None:
    names = {}
    for name, part in PARTS.items():
        if name == "publishing":  # whose cases take a run under strace to list
            continue
        first, again = ([case.name for case in part.cases(main_job, random.Random(7))] for _ in range(2))
        assert first == again
        assert len(set(first)) == len(first), name
        names[name] = len(first)
    assert sum(names.values()) > 3000, names

"""Two processes at once: both may publish, or one reads; either is kept out, or all is whole."""

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.torture import checks, commands
from benchmarks.torture.base import stages
from benchmarks.torture.cases import Broken, Case, Place
from benchmarks.torture.publishing import PUBLISHER
from pipeline.artifacts.store import Store
from pipeline.errors import ArtifactError

ROUNDS = 12
PUBLICATIONS = "40"


def cases(base: Path, chance: random.Random) -> Iterator[Case]:
    """Return the cases."""
    for number in range(ROUNDS):
        after_s = chance.uniform(0, 1.0)
        for what, one, other in (
            ("two publish", (*PUBLISHER, PUBLICATIONS), (*PUBLISHER, PUBLICATIONS)),
            ("report beside a publisher", commands.LIGHT["report"], (*PUBLISHER, PUBLICATIONS)),
            ("predict beside a publisher", commands.LIGHT["predict"], (*PUBLISHER, PUBLICATIONS)),
            ("deploy and deploy", commands.LIGHT["deploy"], commands.LIGHT["deploy"]),
            ("score and score", commands.LIGHT["score"], commands.LIGHT["score"]),
        ):
            yield Case("together", f"{what} {number}", partial(_both, one, other, after_s))
        yield Case("together", f"a reader beside a publisher {number}", _reading)


def _both(one: tuple[str, ...], other: tuple[str, ...], after_s: float, place: Place) -> None:
    artifacts = place.copied()

    def start(process: "subprocess.Popen[bytes]") -> None:
        time.sleep(after_s)
        commands.expect(commands.run(_second(place), other), (0, 3))

    commands.expect(commands.run(place, one, meanwhile=start), (0, 3))
    checks.whole(artifacts, stages(place.base))


def _second(place: Place) -> Place:
    """Return the same folder with temporary files of its own."""
    folder = place.folder / "second"
    folder.mkdir()
    for name in ("artifacts", "inputs", "pipeline.toml", "answers"):
        (place.folder / "answers").mkdir(exist_ok=True)
        (folder / name).symlink_to(place.folder / name)
    return Place(place.base, folder)


def _reading(place: Place) -> None:
    artifacts = place.copied()
    looks: list[int] = []

    def read(process: "subprocess.Popen[bytes]") -> None:
        looks.append(_looked(artifacts, lambda: process.poll() is None))

    commands.expect(commands.run(place, (*PUBLISHER, PUBLICATIONS), meanwhile=read), (0,))
    if not looks[0]:
        raise Broken("nothing was read")
    checks.whole(artifacts, stages(place.base))


def _looked(artifacts: Path, going_on: Callable[[], bool]) -> int:
    store, looks = Store(artifacts), 0
    while going_on():
        manifest = store.manifest("report")
        if manifest is None:
            raise Broken("a reader found nothing")
        try:
            store.verified("report")
        except ArtifactError as error:
            raise Broken(f"a reader was refused: {error}") from error
        looks += 1
    return looks

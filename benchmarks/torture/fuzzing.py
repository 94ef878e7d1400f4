"""Fuzzing, guided by coverage, of everything that parses (benchmarks.torture.parsers)."""

import importlib.util
import random
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.torture import commands
from benchmarks.torture.cases import Broken, Case, Place

SEEDS = 2
RUNS = 6000
"""Inputs that each case makes."""

FUZZ = (sys.executable, "-m", "benchmarks.torture.fuzz")


def unavailable() -> str:
    """Say why these cases cannot be run here, or nothing."""
    return "" if importlib.util.find_spec("atheris") else "atheris is not installed (the extra torture)"


def cases(base: Path, chance: random.Random) -> Iterator[Case]:
    """Return the cases: each parser, with some seeds."""
    from benchmarks.torture.parsers import PARSERS

    for name in PARSERS:
        for number in range(SEEDS):
            yield Case("fuzzing", f"{name} {number}: {RUNS} inputs", partial(_fuzzed, name, chance.randrange(2**31)))


def _fuzzed(name: str, seed: int, place: Place) -> None:
    from benchmarks.torture.parsers import PARSERS

    corpus, scratch = place.folder / "corpus", place.folder / "scratch"
    for folder in (corpus, scratch):
        folder.mkdir()
    for number, content in enumerate(PARSERS[name].corpus(place.base)):
        (corpus / str(number)).write_bytes(content)
    ended = commands.run(place, (*FUZZ, name, str(corpus), str(scratch), str(seed), str(RUNS)))
    if ended.code:
        found = [path.read_bytes()[:300] for path in scratch.iterdir() if path.name != "input"]
        raise Broken(f"exit code {ended.code} on {found}: {ended.said}")

"""Odd surroundings: limits, variables, streams and names. A command works there, or says what is missing."""

import random
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from benchmarks.torture import checks, commands
from benchmarks.torture.base import stages
from benchmarks.torture.cases import Case, Place


class Odd(NamedTuple):
    """What is odd: the shell's line that runs the command, or variables."""

    line: str = 'exec "$@"'
    variables: Mapping[str, str | None] = MappingProxyType({})


def _limited(limit: str) -> Odd:
    return Odd(f'ulimit {limit}; exec "$@"')


def _unwritable(name: str) -> Odd:
    # For root every folder can be written: a file in its place cannot be one for anybody.
    return Odd(variables={name: "/dev/null/not-a-folder"})


ODD_NAME = """
name=$(printf 'a\\nb \\303\\274\\377 [x]')
mkdir "$name"
mv artifacts inputs pipeline.toml "$name"
cd "$name"
code=0
"$@" || code=$?
cd ..
mv "$name"/* .
rmdir "$name"
exit $code
"""

ODD: dict[str, Odd] = {
    **{f"{number} file descriptors": _limited(f"-n {number}") for number in (12, 20, 32, 48, 64, 96, 128, 192)},
    **{f"{size} MB of memory": _limited(f"-v {size * 1000}") for size in (300, 700, 1200, 2000, 4000, 8000)},
    **{f"files of {size} KB": _limited(f"-f {size}") for size in (0, 1, 8, 64, 512)},
    "no core files and a small stack": _limited("-c 0 -s 1024"),
    "no HOME": Odd(variables={"HOME": None}),
    "HOME is no folder": _unwritable("HOME"),
    "HOME is not there": Odd(variables={"HOME": "/nowhere/at/all"}),
    "no TMPDIR": Odd(variables={"TMPDIR": None}),
    "TMPDIR is no folder": _unwritable("TMPDIR"),
    "no variables at all": Odd('exec env -i PATH="$PATH" PYTHONPATH="$PYTHONPATH" TORTURED="$TORTURED" "$@"'),
    "Keras on another backend": Odd(variables={"KERAS_BACKEND": "torch"}),
    "Keras on a backend that is none": Odd(variables={"KERAS_BACKEND": "nonsense"}),
    "the C locale": Odd(variables={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    **{
        name: Odd(variables={"PYTHONIOENCODING": name})
        for name in ("latin-1", "cp1252", "iso-8859-9", "ascii", "utf-16")
    },
    "NO_COLOR": Odd(variables={"NO_COLOR": "1"}),
    "a terminal that is dumb": Odd(variables={"TERM": "dumb", "COLUMNS": "1"}),
    "columns that are none": Odd(variables={"COLUMNS": "none", "LINES": "-1"}),
    "no standard output": Odd('exec "$@" >&-'),
    "no standard error": Odd('exec "$@" 2>&-'),
    "no streams": Odd('exec "$@" <&- >&- 2>&-'),
    "a full standard output": Odd('exec "$@" >/dev/full'),
    "full streams": Odd('exec "$@" >/dev/full 2>/dev/full'),
    "a reader that leaves": Odd('"$@" | head -c 1 >/dev/null; exit "${PIPESTATUS[0]}"'),
    "a reader that is not there": Odd('"$@" | true; exit "${PIPESTATUS[0]}"'),
    "unwritable files": Odd('umask 777; exec "$@"'),
    "a folder with an odd name": Odd(ODD_NAME),
    "a folder that is gone": Odd('mkdir gone; cd gone; rmdir ../gone; exec "$@"'),
    "a nice process": Odd('exec nice -n 19 "$@"'),
    "one core": Odd('exec taskset -c 0 "$@"'),
    "optimised Python": Odd(variables={"PYTHONOPTIMIZE": "2"}),
    "warnings as errors": Odd(variables={"PYTHONWARNINGS": "error::DeprecationWarning:pipeline"}),
    "threads that are none": Odd(variables={"OMP_NUM_THREADS": "none"}),
    "a proxy that is not there": Odd(
        variables={"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    ),
}
SHARE = 0.15
"""Of the commands, in each of the surroundings, drawn by chance: all would take an hour."""


def cases(base: Path, chance: random.Random) -> Iterator[Case]:
    """Return the cases: each of the surroundings, with some of the commands."""
    known = [name for name in commands.COMMANDS if name not in ("all", "localise")]
    for name, odd in ODD.items():
        for command in chance.sample(known, round(len(known) * SHARE)):
            yield Case("surroundings", f"{command}: {name}", partial(_run, command, odd))


def _run(command: str, odd: Odd, place: Place) -> None:
    artifacts = place.copied()

    def wrapped(arguments: list[str]) -> list[str]:
        return ["bash", "-c", odd.line, "bash", *arguments]

    ended = commands.run(place, commands.COMMANDS[command], variables=odd.variables, wrapped=wrapped)
    commands.expect(ended, commands.DOCUMENTED)
    checks.whole(artifacts, stages(place.base))

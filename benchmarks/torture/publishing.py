"""System calls that fail, or kill, at every moment of a publication: by strace, which does it in the kernel's place."""

import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.torture import checks, commands
from benchmarks.torture.base import stages
from benchmarks.torture.cases import Case, Place
from benchmarks.torture.publisher import BEGUN

CALLS = "mkdir,rename,renameat2,unlink,unlinkat,rmdir,openat,write,close,newfstatat,getdents64,flock,fcntl,lseek,read"
OF_NAMES = ("EIO", "ENOSPC", "EROFS", "EBUSY", "EACCES", "EDQUOT", "ESTALE")
OF_CONTENT = ("EIO", "ENOSPC", "EDQUOT", "ESTALE")
OF_LOOKS = ("EIO", "EACCES")
ERRORS = dict.fromkeys(("write", "read", "close", "lseek", "getdents64"), OF_CONTENT) | {
    "newfstatat": OF_LOOKS,
    "fcntl": ("EIO", "ENOLCK", "ENOSYS", "EAGAIN"),
    "flock": ("EIO", "ENOLCK", "ENOSYS", "EAGAIN"),
}
"""What the kernel answers to a call, on a local disk or one behind a network; to those that are not here: OF_NAMES."""

SHARE = 0.4
"""Of the cases, drawn by chance."""

AGAIN = 4
"""One in so many is followed by an undisturbed publication."""
CODES = {"SIGKILL": (-9,), "SIGTERM": (143, 0), "SIGINT": (130, 0)}
"""0: the signal came when all was done, as the number of calls before the last one is not the same in each run."""

PUBLISHER = (sys.executable, "-m", "benchmarks.torture.publisher")
CALL = re.compile(r"^(?:\d+ +)?(\w+)\(")


def unavailable() -> str:
    """Say why these cases cannot be run here, or nothing."""
    try:
        done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, timeout=60)
    except OSError as error:
        return f"strace cannot be run: {error.strerror}"
    return "" if done.returncode == 0 else "strace may not trace processes here"


def cases(base: Path, chance: random.Random) -> Iterator[Case]:
    """Return the cases: each call of a publication, with some of the errors and signals."""
    for call, number in _of_a_publication(base):
        for what in (*ERRORS.get(call, OF_NAMES), *CODES):
            again = chance.randrange(AGAIN) == 0
            if chance.random() < SHARE:
                inject = f"{call}:{'signal' if what in CODES else 'error'}={what}:when={number}"
                codes = CODES.get(what, (0, 3))
                yield Case("publishing", f"{call} {number}: {what}", partial(_injected, inject, codes, again))


def _of_a_publication(base: Path) -> list[tuple[str, int]]:
    """Return each call that a publication makes, with its number among the process's calls of that name."""
    # As deep as the cases: the number of calls before the publication depends on it.
    with TemporaryDirectory(dir=base.parent, prefix="case-") as name:
        place = Place(base, Path(name))
        place.copied()
        log = Path(name) / "log"
        _publish(place, ["strace", "-o", str(log), "-e", f"trace={CALLS}"])
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    begun = [str(BEGUN) in line for line in lines]
    counted: Counter[str] = Counter()
    found = []
    for number, line in enumerate(lines):
        if match := CALL.match(line):
            counted[match[1]] += 1
            if begun.index(True) < number < len(lines) - 1 - begun[::-1].index(True):
                found.append((match[1], counted[match[1]]))
    return found


def _injected(inject: str, codes: tuple[int, ...], again: bool, place: Place) -> None:
    artifacts = place.copied()
    call, killed = inject.partition(":")[0], -9 in codes
    strace = ["strace", "--quiet=all", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}"]
    commands.expect(_publish(place, strace, killed=killed), codes)
    published = stages(place.base)
    checks.whole(artifacts, published, interrupted=True)
    if again:
        commands.expect(_publish(place), (0,))
        checks.whole(artifacts, published)


def _publish(place: Place, strace: Sequence[str] = (), *, killed: bool = False) -> commands.Ended:
    """Run the publisher under strace, with the same calls each time: a set's order depends on the seed of hashes."""

    def wrapped(command: list[str]) -> list[str]:
        return [*strace, *command]

    return commands.run(place, PUBLISHER, variables={"PYTHONHASHSEED": "0"}, wrapped=wrapped, killed=killed)

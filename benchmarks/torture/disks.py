"""Full and read-only disks, of the artifacts and of temporary files: small file systems in memory, mounted apart."""

import random
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.torture import checks, commands
from benchmarks.torture.base import stages
from benchmarks.torture.cases import Case, Place

PUBLISHING = ("report", "deploy", "train", "export", "engine", "validate", "benchmark", "localise")
SIZES = 1
SHARE = 0.5
"""Of the commands on read-only disks, drawn by chance."""

FULL = """
set -e
mount -t tmpfs -o size={size}k tmpfs "$1"
shift
exec "$@"
"""
ARTIFACTS = """
set -e
mv artifacts kept
mkdir artifacts
mount -t tmpfs tmpfs artifacts
cp -a kept/. artifacts/
used=$(du -sk artifacts | cut -f1)
mount -o remount,size=$((used + {size}))k artifacts
code=0
"$@" || code=$?
mount -o remount,size=1g artifacts
rm -rf kept/* kept/.[a-z]*
cp -a artifacts/. kept/
umount artifacts
rmdir artifacts
mv kept artifacts
exit $code
"""
READ_ONLY = 'set -e; mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; shift; exec "$@"'


def unavailable() -> str:
    """Say why these cases cannot be run here, or nothing."""
    tried = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        done = subprocess.run(tried, capture_output=True, timeout=60)
    except OSError as error:
        return f"unshare cannot be run: {error.strerror}"
    return "" if done.returncode == 0 else "file systems cannot be mounted by this user"


def cases(base: Path, chance: random.Random) -> Iterator[Case]:
    """Return the cases: each command that publishes, on disks of several sizes; every command on read-only ones."""
    for command in PUBLISHING:
        for number in range(SIZES):
            size = int(2 ** chance.uniform(2, 13))
            yield Case("disks", f"{command}: {size} KB left, {number}", partial(_full_artifacts, command, size))
            yield Case("disks", f"{command}: TMPDIR of {size} KB, {number}", partial(_mounted, command, "tmp", size))
    for command in commands.COMMANDS:
        for name in ("artifacts", "tmp", "home"):
            if chance.random() < SHARE:
                yield Case("disks", f"{command}: {name} read-only", partial(_mounted, command, name, None))


def _full_artifacts(command: str, size: int, place: Place) -> None:
    artifacts = place.copied()

    def wrapped(arguments: list[str]) -> list[str]:
        return ["unshare", "--mount", "bash", "-c", ARTIFACTS.format(size=size), "bash", *arguments]

    ended = commands.run(place, commands.COMMANDS[command], wrapped=wrapped)
    commands.expect(ended, commands.DOCUMENTED)
    checks.whole(artifacts, stages(place.base))


def _mounted(command: str, name: str, size: int | None, place: Place) -> None:
    artifacts = place.copied()
    (place.folder / name).mkdir(exist_ok=True)
    script = READ_ONLY if size is None else FULL.format(size=size)

    def wrapped(arguments: list[str]) -> list[str]:
        return ["unshare", "--mount", "bash", "-c", script, "bash", name, *arguments]

    ended = commands.run(place, commands.COMMANDS[command], wrapped=wrapped)
    commands.expect(ended, commands.DOCUMENTED)
    checks.whole(artifacts, stages(place.base))

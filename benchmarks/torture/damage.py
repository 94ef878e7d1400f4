"""Damage to every published file: whoever reads it must refuse it and name it."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.torture.base import stages
from benchmarks.torture.cases import Broken, Case, Place
from pipeline.artifacts.store import MANIFEST, Store
from pipeline.deployment import bundle
from pipeline.errors import ArtifactError

MANIFEST_FLIPS = 200
"""Flipped bits for each manifest."""

FLIPS = 12
"""Flipped bits for each other file."""

Damage = Callable[[Path, random.Random], None]


def cases(base: Path, chance: random.Random) -> Iterator[Case]:
    """Return one case for each file and damage."""
    artifacts = base / "artifacts"
    for stage in stages(base):
        for path in sorted(path for path in (artifacts / stage).rglob("*") if path.is_file()):
            name = path.relative_to(artifacts).as_posix()
            flips = MANIFEST_FLIPS if path.name == MANIFEST else FLIPS
            for what, damage in [*((f"flip {number}", _flip) for number in range(flips)), *OTHERS.items()]:
                if _changes(path, damage):
                    yield Case("damage", f"{name}: {what}", partial(_refused, name, damage, chance.random()))


def _changes(path: Path, damage: Damage) -> bool:
    return damage is not _flip or path.stat().st_size > 0


def _refused(name: str, damage: Damage, seed: float, place: Place) -> None:
    artifacts = place.linked()
    damage(artifacts / name, random.Random(seed))
    stage = name.partition("/")[0]
    readers: list[Callable[[], object]] = [lambda: Store(artifacts).verified(stage)]
    if name.startswith(f"{bundle.FOLDER}/"):
        readers.append(lambda: bundle.opened(artifacts))
    for read in readers:
        try:
            read()
        except ArtifactError as error:
            if stage not in str(error):
                raise Broken(f"it is refused without being named: {error}") from error
        else:
            raise Broken("it is not refused")


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    _replace(path, bytes(content))


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    _replace(path, content[: chance.randrange(len(content))] if content else b"no longer empty")


def _emptied(path: Path, chance: random.Random) -> None:
    _replace(path, b"no longer empty" if not path.stat().st_size else b"")


def _longer(path: Path, chance: random.Random) -> None:
    _replace(path, path.read_bytes() + chance.randbytes(1 + chance.randrange(100)))


def _other(path: Path, chance: random.Random) -> None:
    _replace(path, chance.randbytes(path.stat().st_size + 1))


def _gone(path: Path, chance: random.Random) -> None:
    path.unlink()


def _folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _loop(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _replace(path: Path, content: bytes) -> None:
    """Write another file in a file's place: it is shared with the run."""
    path.unlink()
    path.write_bytes(content)


OTHERS: dict[str, Damage] = {
    "cut": _cut,
    "emptied": _emptied,
    "longer": _longer,
    "others' bytes": _other,
    "gone": _gone,
    "a folder": _folder,
    "a link to itself": _loop,
}

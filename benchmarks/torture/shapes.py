"""Artifacts whose JSON is of another shape, under a digest that is right: what somebody can make who writes both."""

import json
import random
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.torture import commands
from benchmarks.torture.base import stages
from benchmarks.torture.cases import Broken, Case, Place
from pipeline.artifacts import PUBLISHED, FileRecord
from pipeline.artifacts.store import MANIFEST, Store
from pipeline.errors import ArtifactError

CHANGES = 140
"""For each JSON file, read by its model."""

COMMANDS = 3
"""For each JSON file, read by a command."""

ODD: tuple[Any, ...] = (None, True, -1, 0, 10**400, 1e308, "", "\0\x1b[2J\n<b>|`", [], {}, [[]], {"": None}, "é" * 1000)
READERS = ("report", "check", "predict", "deploy", "verify")


def cases(base: Path, chance: random.Random) -> Iterator[Case]:
    """Return the cases: each file, changed in many ways."""
    artifacts = base / "artifacts"
    for stage in stages(base):
        for path in sorted((artifacts / stage).rglob("*.json")):
            name = path.relative_to(artifacts).as_posix()
            if path.name == MANIFEST or _kind(name) is None:
                continue
            for number in range(CHANGES):
                yield Case("shapes", f"{name}: change {number}", partial(_read, name, chance.random()))
            for number in range(COMMANDS):
                command = READERS[number % len(READERS)]
                yield Case("shapes", f"{command}, {name}: {number}", partial(_run, name, command, chance.random()))


def _kind(name: str) -> Any:
    return next((kind for kind in PUBLISHED if fnmatch(name, kind.PATH)), None)


def _read(name: str, seed: float, place: Place) -> None:
    artifacts = place.linked()
    _change(artifacts, name, random.Random(seed))
    try:
        Store(artifacts).published().read(_kind(name), name)
    except ArtifactError as error:
        if Path(name).name not in str(error):
            raise Broken(f"it is refused without being named: {error}") from error


def _run(name: str, command: str, seed: float, place: Place) -> None:
    artifacts = place.copied()
    _change(artifacts, name, random.Random(seed))
    commands.expect(commands.run(place, commands.COMMANDS[command]), commands.DOCUMENTED)


def _change(artifacts: Path, name: str, chance: random.Random) -> None:
    path, store, stage = artifacts / name, Store(artifacts), name.partition("/")[0]
    text = _text(json.loads(path.read_text(encoding="utf-8")), chance)
    path.unlink()
    path.write_bytes(text)
    manifest = store.manifest(stage)
    assert manifest is not None
    outputs = manifest.outputs | {name.partition("/")[2]: FileRecord.of(path)}
    place = artifacts / stage / MANIFEST
    place.unlink()
    manifest.model_copy(update={"outputs": outputs}).write(place)


def _text(tree: Any, chance: random.Random) -> bytes:
    """Return a JSON file's bytes with something changed: mostly a value, else the file."""
    whole = json.dumps(tree).encode()
    match chance.randrange(12):
        case 0:
            return b"[" * 200_000
        case 1:
            return whole[: chance.randrange(len(whole))]
        case 2:
            return whole.replace(b'"', b"\xff", 1)
        case 3:
            return json.dumps(chance.choice(ODD)).encode()
    holder, key = chance.choice(list(_places(tree)))
    match chance.randrange(3):
        case 0:
            del holder[key]
        case 1:
            holder[key] = [holder[key]]
        case _:
            holder[key] = chance.choice(ODD)
    return json.dumps(tree).encode()


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Return every value's container and its key in it."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield tree, key
        yield from _places(value)

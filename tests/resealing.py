"""A run in which a record says something else, with every digest renewed: as somebody who can write the folder can."""

import json
from pathlib import Path
from typing import Any

from pipeline import digests
from pipeline.artifacts.manifest import FileRecord, Manifest
from pipeline.artifacts.store import MANIFEST


def reseal(root: Path, name: str, content: bytes) -> None:
    """Put other bytes into `<stage>/<file>`; its stage's manifest and all that were made from it say so."""
    (root / name).write_bytes(content)
    stage, _, file = name.partition("/")
    if file == MANIFEST:
        return
    record = FileRecord.of(root / name).model_dump()
    for path in root.glob(f"*/{MANIFEST}"):
        tree = json.loads(path.read_text(encoding="utf-8"))
        if path.parent.name == stage:
            tree["outputs"][file] = record
        inputs = tree["fingerprint"]["inputs"]
        if name in inputs:
            inputs[name] = record["sha256"]
        Manifest.model_validate(tree).write(path)


def reseal_bundle(bundle: Path, content: bytes) -> None:
    """Put other bytes into a bundle's record; its digest says so."""
    (bundle / "bundle.json").write_bytes(content)
    (bundle / "bundle.sha256").write_text(f"{digests.of_file(bundle / 'bundle.json')}  bundle.json\n")


def places(tree: Any, path: tuple[str | int, ...] = ()) -> "list[tuple[str | int, ...]]":
    """Return where everything in a tree is."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(below for key, value in items for below in places(value, (*path, key)))]

"""A store with a stage in it, for the tests of the store."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline.artifacts.manifest import Fingerprint, Manifest
from pipeline.artifacts.store import MANIFEST, Store, records
from pipeline.environment import Machine
from pipeline.errors import ArtifactError

FILES = {"model.keras": b"weights", "saved_model/variables/data": b"\0" * 1000, "history.json": b"{}"}
NEW = {"model.keras": b"other weights"}


def publish(store: Store, stage: str, files: dict[str, bytes], inputs: dict[str, str] | None = None) -> None:
    with store.publish(stage) as folder:
        fill(folder, stage, files, inputs)


def fill(folder: Path, stage: str, files: dict[str, bytes], inputs: dict[str, str] | None = None) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    manifest = Manifest(
        stage=stage,
        status="done",
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        command=("python", "-m", "pipeline", stage),
        seconds=1.5,
        dataset=None,
        fingerprint=Fingerprint(inputs=inputs or {}, configuration={}, versions={}),
        machine=Machine("a CPU", 2, "Linux", ()),
        versions={"python": "3.11"},
        outputs=records(folder),
    )
    manifest.write(folder / MANIFEST)


def content(store: Store, stage: str = "train") -> dict[str, bytes]:
    """Return what is published, checked, without its manifest."""
    store.verified(stage)
    folder = store.current(stage)
    return {name: (folder / name).read_bytes() for name in records(folder)}


def refusal(call: Callable[[], object], *named: str) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        call()
    assert caught.value.exit_code == 3
    for part in named:
        assert part in str(caught.value)
    return caught.value


def python(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """Run a script in a process of its own, with this folder and the package importable."""
    here = Path(__file__).parent
    return subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]\n{script}"]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )

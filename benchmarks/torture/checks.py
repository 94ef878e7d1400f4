"""What must hold of a run's artifacts after whatever was done."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.torture.cases import USERS, Broken
from pipeline.artifacts.store import Store
from pipeline.errors import ArtifactError

BESIDE = (".lock", ".timing-cache", ".train.kept", "schemas", "README.md")
"""What lies beside the stages and is no leftover; from what is kept an interrupted training goes on."""


def whole(artifacts: Path, stages: Sequence[str], *, interrupted: bool = False) -> None:
    """See that every stage has what it published, whole, and that the user's files are there.

    Args:
        artifacts: the folder.
        stages: that had published before; a newer version of one is as good.
        interrupted: a kill may have left what the next run removes.

    Raises:
        Broken: a file is missing, changed, or left.
    """
    store = Store(artifacts)
    for stage in stages:
        try:
            manifest = store.manifest(stage)
            wrong = store.changed(stage, manifest) if manifest else ["it is gone"]
        except ArtifactError as error:
            wrong = [error.message]
        if wrong:
            raise Broken(f"{stage} is damaged: {wrong[0]}")
    for name, text in USERS.items():
        path = artifacts.parent / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            raise Broken(f"the user's {name} is gone")
    known = {*BESIDE, *stages, *(Path(name).parts[1] for name in USERS)}
    if not interrupted and (left := sorted({path.name for path in artifacts.iterdir()} - known)):
        raise Broken(f"left in {artifacts.name}/: {left}")

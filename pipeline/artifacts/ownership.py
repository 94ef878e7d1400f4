"""What in a stage's folder is the pipeline's own, which publishing replaces; the user's own is not touched."""

import json
from pathlib import Path

from pipeline import listing
from pipeline.errors import ArtifactError

MANIFEST = "manifest.json"

SHOWN = 5


def check(folder: Path, stage: str) -> None:
    """Refuse to replace a folder in which something is not the pipeline's own.

    Raises:
        ArtifactError: the folder is a link, none at all, none of this stage's, or has files that its manifest does not
            name.
    """
    if folder.is_symlink():
        raise ArtifactError(
            f"{folder} is a link, and publishing replaces the whole folder",
            "Delete the link, and set artifacts=DIR to a folder on the disk where it leads to.",
        )
    if not folder.exists():
        return
    move = "Move it away, or set artifacts=DIR to another folder. Nothing was changed."
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is a file, and `{stage}` publishes a folder there", move)
    found, named = _contents(folder), _named(folder / MANIFEST, stage)
    if named is None and any(folder.iterdir()):
        raise ArtifactError(
            f"{folder} was not published by the pipeline: it has no readable manifest of `{stage}`, and it holds "
            f"{_list(found) or 'folders'}. Publishing replaces the whole folder",
            move,
        )
    if strangers := [name for name in found if name not in (named or ())]:
        raise ArtifactError(
            f"{folder} holds what the pipeline did not publish: {_list(strangers)}. Publishing replaces it all",
            "Move that away, or set artifacts=DIR to another folder. Nothing was changed.",
        )


def _contents(folder: Path) -> list[str]:
    """Return everything below a folder but folders, by POSIX path: what cannot be listed may be the user's."""
    return sorted(path.relative_to(folder).as_posix() for path in listing.entries(folder))


def _named(path: Path, stage: str) -> set[str] | None:
    """Return what a manifest names, and itself; None where it is none of this stage's.

    One of another version, or one that has changed, may still say what is the pipeline's.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, RecursionError):
        return None
    if not isinstance(tree, dict) or tree.get("stage") != stage or not isinstance(tree.get("outputs"), dict):
        return None
    return {MANIFEST, *tree["outputs"]}


def _list(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest

"""A case: something is done to a copy of a run, and what broke is told."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

USERS = {
    "artifacts/photographs/cat.txt": "a picture of a cat",
    "artifacts/notes.txt": "what I noticed",
    "artifacts/.hidden": "mine as well",
}
"""Files of the user's own, beside what is published; nothing may take them away."""


class Broken(Exception):  # noqa: N818  what a case finds
    """A promise that was not kept; the message says which."""


@dataclass(frozen=True)
class Place:
    """Where a case runs. `base` has the run, read only; `folder` is the case's own, and gone afterwards."""

    base: Path
    folder: Path

    def copied(self) -> Path:
        """Copy the run, add files of the user's, and return the copy's artifacts."""
        shutil.copytree(self.base, self.folder, dirs_exist_ok=True)
        for name, text in USERS.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text, encoding="utf-8")
        return self.folder / "artifacts"

    def linked(self) -> Path:
        """Return a copy of the run's artifacts whose files are the run's own: to be replaced, never written to."""
        target = self.folder / "artifacts"
        shutil.copytree(self.base / "artifacts", target, copy_function=_link)
        return target


@dataclass(frozen=True)
class Case:
    """One thing to try. Its name says what, and is the same in every run with the same seed.

    `run` raises Broken where a promise is not kept; whatever else it raises came out of the code under test.
    """

    part: str
    name: str
    run: Callable[[Place], None]


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)

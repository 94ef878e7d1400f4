"""The files below a folder: all of them, or an error."""

import os
from collections.abc import Iterator
from pathlib import Path


def files(folder: Path) -> list[Path]:
    """Return every file below a folder, links to files included, in the order of their names.

    `Path.rglob` passes over a folder that it may not list, in silence: what is published would lack its files.

    Raises:
        OSError: a folder cannot be listed; a link to a folder is none.
    """
    return sorted(path for path in entries(folder) if path.is_file())


def entries(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder that is no folder, links to folders included.

    Raises:
        OSError: a folder cannot be listed.
    """

    def fail(error: OSError) -> None:
        raise error

    for where, folders, names in os.walk(folder, onerror=fail):
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        yield from (Path(where) / name for name in (*links, *names))

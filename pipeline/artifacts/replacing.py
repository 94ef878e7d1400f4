"""A folder that is replaced as a whole: at every moment the one before or the new one is there, whole.

What is written lies in `.X.partial` beside the folder `X`, and then changes places with it in one step. A file system
that cannot do that takes two renames, with the one before in `.X.previous` in between. Only whoever writes, and so
holds the lock, puts that right after a kill; readers look where the folder is now, and rename nothing.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.artifacts import system_calls
from pipeline.artifacts.faults import writing


def beside(folder: Path, what: str) -> Path:
    """Return the folder's neighbour of a kind: `partial`, `previous`, or `kept`."""
    return folder.parent / f".{folder.name}.{what}"


def current(folder: Path) -> Path:
    """Return where a folder is now, for those who only read."""
    return beside(folder, "previous") if _between(folder) else folder


def recover(folder: Path) -> None:
    """Put back what a kill between the two renames has left aside. For the holder of the lock only."""
    if _between(folder):
        beside(folder, "previous").rename(folder)


@contextmanager
def replaced(folder: Path, check: Callable[[], None] = lambda: None) -> Iterator[Path]:
    """Yield an empty folder to fill; at the end of the block it takes the place of `folder`.

    Where the block raises, or the process is killed, the folder stays as it was. `check` is called before anything is
    written, and again before the folder is replaced.

    Raises:
        ArtifactError: the disk is full, or something else is wrong with the file system; and what `check` raises.
    """
    partial, previous = beside(folder, "partial"), beside(folder, "previous")
    with writing(folder):
        recover(folder)
        check()
        _discard(previous)  # before the other: without it, this is known to be out of date
        _discard(partial)
        partial.mkdir(parents=True)
        try:
            yield partial
            check()
            _put(partial, folder, previous)
        except BaseException:
            if not _between(folder):
                _discard_quietly(partial)
            raise
        _discard_quietly(partial)
        _discard_quietly(previous)


def _put(partial: Path, folder: Path, previous: Path) -> None:
    if not folder.exists():
        partial.rename(folder)
    elif not system_calls.exchange(partial, folder):
        try:
            folder.rename(previous)
            partial.rename(folder)
        except BaseException:
            recover(folder)
            raise


def _between(folder: Path) -> bool:
    """Tell whether somebody is between the two renames, or was killed there.

    Without `.partial` the second was done: what is in `.previous` then is out of date, and a folder that is not there
    was deleted since.
    """
    aside = (beside(folder, "previous"), beside(folder, "partial"))
    return not folder.is_symlink() and not folder.exists() and all(_is_folder(one) for one in aside)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _discard(path: Path) -> None:
    """Remove a folder, or the file or link in its place; what a link leads to stays."""
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _discard_quietly(path: Path) -> None:
    """Remove as much as can be removed: the next to publish removes the rest, or says why not."""
    with suppress(OSError):
        if _is_folder(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)

"""A folder that may not be listed is an error, wherever all files below a folder are meant."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import digests, listing
from pipeline.artifacts.store import records
from pipeline.data import sources
from pipeline.errors import DataError
from pipeline.scoring.sources import parquet

Walk = Callable[..., Iterator[Any]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images whose second class may not be listed: not even by root, for whom rights do not hold."""
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "one.png")
    plain: Walk = os.scandir

    def scandir(path: Any = ".") -> Any:
        if Path(path).name == "dogs":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    return tmp_path


@pytest.mark.parametrize("all_of", [listing.files, digests.of_path, records], ids=["files", "digest", "manifest"])
def test_what_may_not_be_listed_is_not_passed_over(folder: Path, all_of: Callable[[Path], object]) -> None:
    with pytest.raises(PermissionError):
        all_of(folder)


def test_it_is_said_of_data(folder: Path) -> None:
    from pipeline.config import Data

    for read in (lambda: sources.load(str(folder), Data()), lambda: sources.identify(str(folder), Data())):
        with pytest.raises(DataError, match=r"cannot be read: .*Permission denied: .*dogs"):
            read()
    with pytest.raises(DataError, match=r"cannot be read: .*Permission denied: .*dogs"):
        parquet.files(folder)


def test_links_to_files_count_and_links_to_folders_are_entries_alone(tmp_path: Path) -> None:
    (tmp_path / "b/c").mkdir(parents=True)
    for name in ("b/c/one", "a"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "around").symlink_to(".")
    (tmp_path / "broken").symlink_to("nowhere")
    assert [str(path.relative_to(tmp_path)) for path in listing.files(tmp_path)] == ["a", "b/c/one", "link"]
    found = {str(path.relative_to(tmp_path)) for path in listing.entries(tmp_path)}
    assert found == {"a", "b/c/one", "link", "around", "broken"}

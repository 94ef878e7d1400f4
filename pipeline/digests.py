"""Digests by which files and code are recognised."""

import hashlib
import os
from functools import cache
from pathlib import Path

from pipeline import listing


def of_file(path: Path) -> str:
    """Return a file's SHA-256 as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_path(path: Path) -> str:
    """Return a file's SHA-256, or of a folder that of its files' names and contents.

    Raises:
        OSError: something of it cannot be read.
    """
    if path.is_file():
        return of_file(path)
    digest = hashlib.sha256()
    for file in listing.files(path):
        digest.update(os.fsencode(f"{file.relative_to(path)} {of_file(file)}\n"))
    return digest.hexdigest()


@cache
def of_code() -> str:
    """Return a digest of this package's source: a changed pipeline must not call old artifacts up to date."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.suffix in (".py", ".j2", ".css"):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]

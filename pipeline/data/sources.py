"""Which kind of source `data.source` names: random numbers, an import path, an .npz file, a folder of IDX or images."""

import hashlib
from pathlib import Path

from pipeline import config, digests, listing, user_code
from pipeline.data import idx, images, npz, own, random_inputs
from pipeline.data.splits import Dataset, RandomInputs
from pipeline.errors import DataError

KINDS = (
    "data.source takes an .npz file, a folder of images or of IDX files, package.module:function, or random "
    "(docs/own-models.md)."
)

READ_BYTES = 1 << 30
"""Files up to this size together are identified by their content, larger ones by their names, sizes and times."""


def load(source: str, options: config.Data) -> Dataset:
    """Return the data that a source names.

    Raises:
        DataError: there is no such thing, or it cannot be used, and why.
    """
    if source == random_inputs.SOURCE:
        return random_inputs.load(_limits(options))
    if user_code.is_import_path(source):
        return own.load(source)
    path = Path(source)
    if "://" in source:
        raise DataError(
            f"data.source = {source!r} is an address on the network", "Download it first, and name the file."
        )
    if path.suffix == ".npz" and path.is_file():
        return npz.load(source)
    if path.suffix != ".npz" and path.is_dir():
        try:
            return idx.load(source) if idx.files(path) else images.load(source)
        except OSError as error:
            raise _unreadable(source, error) from error
    if path.suffix == ".npz" and path.is_dir():
        raise DataError(f"data.source = {source!r} is a folder, where an .npz file belongs", KINDS)
    if path.exists():
        raise DataError(f"data.source = {source!r} is a file of a kind that cannot be read", KINDS)
    raise DataError(f"data.source = {source!r} does not exist in {Path.cwd()}", KINDS)


def identify(source: str, options: config.Data) -> str:
    """Identify what `load` would read: by its content, or, above `READ_BYTES`, by names, sizes and times.

    Raises:
        DataError: something of it cannot be read.
    """
    if source == random_inputs.SOURCE:
        return f"{source} {_limits(options)}"
    path = Path(source)
    if user_code.is_import_path(source) or not path.exists():
        return f"{source} {user_code.source_digest(source)}"
    try:
        files = [path] if path.is_file() else listing.files(path)
        stats = [(one, one.stat()) for one in files]
        if sum(stat.st_size for _, stat in stats) <= READ_BYTES:
            return f"{source} {digests.of_path(path)[:16]}"
    except OSError as error:
        raise _unreadable(source, error) from error
    named = "\n".join(f"{one.relative_to(path)} {stat.st_size} {stat.st_mtime_ns}" for one, stat in stats)
    return f"{source} {hashlib.sha256(named.encode()).hexdigest()[:16]}"


def _unreadable(source: str, error: OSError) -> DataError:
    return DataError(f"data.source {source} cannot be read: {error}", "Check who may read it.")


def _limits(options: config.Data) -> RandomInputs:
    return RandomInputs(options.random_below, options.random_axis)

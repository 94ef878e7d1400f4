"""A folder of images with a subfolder for each class, or of such folders for train, validation and test."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline import listing
from pipeline.data import pictures
from pipeline.data.assembling import WHOLE, assemble
from pipeline.data.pictures import MODES, SUFFIXES, Unreadable
from pipeline.data.rows import Which
from pipeline.data.splits import SPLIT_SEED, THE_ONLY, Dataset, Split
from pipeline.errors import DataError
from pipeline.tensors import Array, Rows, TensorSpec

SPLITS = ("train", "validation", "test")
LAYOUT = (
    "A folder of images has a subfolder for each class, or the subfolders train, test and, if you like, validation, "
    "each with a subfolder for each class; without classes the images lie in it directly."
)


@dataclass(frozen=True)
class Images:
    """Image files, decoded when they are asked for: uint8 [samples, height, width, channels].

    Where no `size` is given, the first one's size and channels are everyone's.
    """

    files: tuple[Path, ...]
    size: tuple[int, int] | None = None
    channels: int | None = None

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The number of samples, then the shape of one."""
        height, width, grey = _header(self.files[0])
        return (len(self.files), *(self.size or (height, width)), self.channels or (1 if grey else 3))

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """The type of an element."""
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, which: Which) -> Array:
        indices = np.arange(len(self.files))[which]
        found = np.empty((len(indices), *self.shape[1:]), np.uint8)
        for place, index in enumerate(indices):
            found[place] = self._read(self.files[index])
        return found

    def _read(self, path: Path) -> Array:
        height, width, channels = self.shape[1:]
        with _named(path):
            found = pictures.pixels(path, channels, self.size or (None, None))
        if found.shape[:2] != (height, width):
            raise _of_two_sizes(self.files[0], (height, width), path, found.shape[:2])
        return found

    def sized(self, spec: TensorSpec) -> "Images":
        """Return the images as a model takes them: resized to its height and width where these are fixed.

        Raises:
            DataError: the input is none of images, or its size is not fixed and the images are of several sizes.
        """
        height, width, channels = spec.shape[1:] if len(spec.shape) == 4 else (None, None, 0)
        if channels not in (None, *MODES):
            raise DataError(
                f"the model's input {spec} is not [samples, height, width, channels], of 1, 3 or 4 channels",
                "Return such data as arrays from a function: data.source=package.module:function.",
            )
        channels = channels or self.channels or self.shape[3]
        if height and width:
            return replace(self, size=(height, width), channels=channels)
        first = _header(self.files[0])[:2]
        for path in self.files:
            if (found := _header(path)[:2]) != first:
                raise _of_two_sizes(self.files[0], first, path, found)
        return replace(self, channels=channels)


def sized(rows: Rows, spec: TensorSpec) -> Rows:
    """Return samples as they are, and images, which may be those `Taken` from others, as the model takes them."""
    if isinstance(rows, Images):
        return rows.sized(spec)
    inner = getattr(rows, "rows", None)
    return rows if inner is None else replace(rows, rows=sized(inner, spec))  # type: ignore[type-var]


def load(source: str) -> Dataset:
    """Return the images of a folder; the classes are its subfolders, in the order of their names, as in Keras.

    Raises:
        DataError: it has no images, or another layout.
    """
    root = Path(source)
    folders = _folders(root)
    given = {folder.name: folder for folder in folders if folder.name in SPLITS}
    whole = not {"train", "test"} <= given.keys()
    if not whole and len(given) != len(folders):
        others = sorted({folder.name for folder in folders} - given.keys())
        raise DataError(f"data.source {source} has the folders train and test, and beside them {others}", LAYOUT)
    roots = {WHOLE: root} if whole else given
    classes = tuple(folder.name for folder in _folders(roots[WHOLE if whole else "train"]))
    left_out = sum(1 for path in listing.files(root) if not _is_image(path) and path.name[0] != ".")
    origin = "a folder of images" + (f" ({left_out} other files left out)" if left_out else "")
    parts = {name: _split(source, folder, classes) for name, folder in roots.items()}
    return assemble(source, origin, parts, classes)


def _split(source: str, folder: Path, classes: Sequence[str]) -> Split:
    direct = [path for path in sorted(folder.iterdir()) if _is_image(path)]
    found = [one.name for one in _folders(folder)]
    if direct and classes:
        raise DataError(f"data.source {source}: {direct[0]} lies beside the folders {', '.join(classes)}", LAYOUT)
    if strangers := sorted(set(found) - set(classes)):
        raise DataError(f"data.source {source}: {folder} has the classes {strangers}, which train has not", LAYOUT)
    by_class = {name: [path for path in listing.files(folder / name) if _is_image(path)] for name in found}
    files = direct if not classes else [path for paths in by_class.values() for path in paths]
    if not files:
        raise DataError(f"data.source {source}: {folder} has no images ({', '.join(SUFFIXES)})", LAYOUT)
    labels = np.array([classes.index(name) for name, paths in by_class.items() for _ in paths], np.int64)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(files))  # so that the first few are of all classes
    shuffled = Images(tuple(files[index] for index in order))
    return Split({THE_ONLY: shuffled}, {THE_ONLY: labels[order]} if classes else {})


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file()


def _header(path: Path) -> pictures.Header:
    with _named(path):
        return pictures.header(path)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what is wrong with a picture into a DataError that names its file."""
    try:
        yield
    except (Unreadable, OSError) as error:
        raise DataError(
            f"{path} is not an image that can be read: {error}", "Replace it, or take it out of the folder."
        ) from error


def _of_two_sizes(first: Path, size: tuple[int, ...], other: Path, found: tuple[int, ...]) -> DataError:
    return DataError(
        f"{first} is {size[1]}×{size[0]} and {other} is {found[1]}×{found[0]}, and the model does not fix the size",
        "Give the model's input a fixed height and width, or bring all images to one size.",
    )

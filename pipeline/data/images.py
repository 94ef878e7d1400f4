"""A folder of images with a subfolder for each class, or of such folders for train, validation and test."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.assembling import WHOLE, assemble
from pipeline.data.rows import Which
from pipeline.data.splits import SPLIT_SEED, THE_ONLY, Dataset, Split
from pipeline.errors import DataError
from pipeline.tensors import Array, Rows, TensorSpec

FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
SPLITS = ("train", "validation", "test")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's name for grey, colour, and colour with transparency, by the number of channels."""

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
        width, height, grey = _header(self.files[0])
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
        with _opened(path) as image:
            if self.size is None and image.size != (width, height):
                raise _of_two_sizes(self.files[0], (width, height), path, image.size)
            try:
                whole = image.convert("RGBA") if image.mode == "P" else image
                picture = whole.convert(MODES[channels])
            except (OSError, ValueError, SyntaxError) as error:  # Pillow's of a damaged file
                raise DataError(f"{path} is damaged: {error}", "Replace it, or take it out of the folder.") from error
            if picture.size != (width, height):
                picture = picture.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(picture, np.uint8).reshape(height, width, channels)

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
    left_out = sum(1 for path in root.rglob("*") if path.is_file() and not _is_image(path) and path.name[0] != ".")
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
    by_class = {name: [path for path in sorted((folder / name).rglob("*")) if _is_image(path)] for name in found}
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


def _header(path: Path) -> tuple[int, int, bool]:
    """Return width, height and whether an image is grey; its pixels are not decoded."""
    with _opened(path) as image:
        return *image.size, image.mode in ("1", "L", "LA")


def _opened(path: Path) -> Image.Image:
    """Open an image without decoding it.

    Raises:
        DataError: it is none, or has so many pixels that decoding it would take the memory, or 16 bits for each.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=FORMATS)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not an image that can be read: {error}", "Replace it, or take it out.") from error
    if image.mode[0] in "IF":
        image.close()
        raise DataError(f"{path} has more than 8 bits for each pixel and channel", "Convert it to 8 bits.")
    return image


def _of_two_sizes(first: Path, size: tuple[int, int], other: Path, found: tuple[int, int]) -> DataError:
    return DataError(
        f"{first} is {size[0]}×{size[1]} and {other} is {found[0]}×{found[1]}, and the model does not fix the size",
        "Give the model's input a fixed height and width, or bring all images to one size.",
    )

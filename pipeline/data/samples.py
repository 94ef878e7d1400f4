"""Single samples in files: arrays and pictures, as a model takes them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

import numpy as np

from pipeline import config, data
from pipeline.data import npy, pictures
from pipeline.data.pictures import Unreadable
from pipeline.errors import DataError
from pipeline.tensors import Array, Feed, TensorSpec

LOOKED_AT = 32
"""Samples of the data by which it is told what the numbers of a float image mean."""

White = Callable[[TensorSpec], float]
"""Returns the number that stands for a white pixel of an input."""


def read(path: Path, inputs: Sequence[TensorSpec], white: White) -> Feed:
    """Read a file that holds one sample: its inputs [1, …] by name, as the model takes them.

    An .npz has an array for each input, under its name. A model of one input takes an .npy as well, and a PNG or JPEG
    where that input is an image. Pictures are turned to grey or RGB and resized as needed; arrays must fit as they are.
    `white` returns the number that stands for a white pixel of an input.

    Raises:
        DataError: there is no such file, it cannot be read, or it does not fit the model.
    """
    takes = ", ".join(f"{one.dtype} {_sizes(one)} as {one.name}" for one in inputs)
    if not path.exists():
        raise DataError(f"{path} does not exist", "Give paths of PNG, JPEG, .npy or .npz files.")
    if path.suffix == ".npz":
        arrays = dict(npy.members(path))
        if set(arrays) != {one.name for one in inputs}:
            raise DataError(f"{path} holds {', '.join(arrays) or 'nothing'}; the model takes {takes}")
        return {one.name: _fitted(path, arrays[one.name], one) for one in inputs}
    if len(inputs) > 1:
        raise DataError(f"{path} is one array, and the model takes {takes}", "Give an .npz with these arrays.")
    (spec,) = inputs
    if path.suffix == ".npy":
        return {spec.name: _fitted(path, npy.load(path), spec)}
    if not spec.image_like:
        raise DataError(f"{path} is no array; the model takes no picture, but {takes}", "Give .npy or .npz files.")
    try:
        return {spec.name: picture(path, spec, white(spec))[None]}
    except (Unreadable, OSError) as error:
        raise DataError(f"{path} cannot be read: {error}", f"The model takes {takes}.") from error


def _fitted(path: Path, array: Array, spec: TensorSpec) -> Array:
    """Return one sample with its batch of one; the last axis of one channel may lack."""
    one = array[None]
    if not spec.fits_but_for_batch(one.shape) and not spec.fits(one.shape) and spec.shape[-1:] == (1,):
        one = one[..., None]
    fits = TensorSpec(spec.name, (None, *spec.shape[1:]), spec.dtype).fits(one.shape)
    if array.dtype != spec.dtype or not fits:
        raise DataError(
            f"{path} holds {array.dtype} {list(array.shape)}; the model's {spec.name} is {spec.dtype} {_sizes(spec)}"
        )
    return one


def _sizes(spec: TensorSpec) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in spec.shape[1:])}]"


def picture(file: Path | IO[bytes], spec: TensorSpec, white: float) -> Array:
    """Return a picture's pixels [height, width, channels] as the model takes them.

    Args:
        file: a PNG or JPEG file, or its bytes.
        spec: the model's input.
        white: the number that stands for a white pixel.

    Raises:
        Unreadable: it is no picture, or none that can be taken as it is meant (`pictures.pixels`).
    """
    height, width, channels = spec.shape[1:]
    pixels = pictures.pixels(file, channels or 3, (height, width))
    if spec.dtype == np.uint8:
        return pixels
    return (pixels * np.float32(white / 255)).astype(spec.dtype)


def white(spec: TensorSpec, options: config.Data) -> float:
    """Return the number that stands for a white pixel in the data.

    Raises:
        DataError: the data's numbers are those of no pixels.
    """
    inputs = data.load(options, download=False).test.inputs
    rows = np.asarray(inputs.get(spec.name, next(iter(inputs.values())))[:LOOKED_AT])
    if rows.dtype == np.uint8 or (rows.min() >= 0 and 1 < rows.max() <= 255):
        return 255.0
    if rows.min() >= 0 and rows.max() <= 1:
        return 1.0
    raise DataError(
        f"the data's {spec.name} lies from {rows.min():.3g} to {rows.max():.3g}: that is no picture's",
        "Give .npy files, prepared as the training data were.",
    )

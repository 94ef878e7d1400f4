"""Fourier transforms and the resizing of images: linear maps of known size, so products with constant matrices.

Complex numbers are float ones with a last dimension of 2 more, as tf2onnx has them.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from onnx import TensorProto

from pipeline.exporters.tf2onnx.replacement import Handler, Replacement
from pipeline.tensors import Array

Along = Callable[[Array, int], tf.Tensor]
"""Resizes images of one column, float32 [batch, size, 1, 1], as the height (0) or the width (1) is to be."""


def rfft(new: Replacement) -> None:
    """The Fourier transform of real numbers: STFT, MelSpectrogram. TensorRT has no DFT operator either."""
    length = int(np.ravel(new.input_value(1))[0])
    shape = new.input_shape()
    given = shape[-1] if shape else -1
    if given < 0:
        raise NotImplementedError("RFFT of a length that is not known")
    used = min(length, given)
    angle = -2 * np.pi * np.outer(np.arange(used), np.arange(length // 2 + 1)) / length
    signal = new.inputs[0]
    if given > length:
        signal = new.node("Slice", signal, new.axes(0), new.axes(length), new.axes(-1))
    parts = [new.node("MatMul", signal, new.constant(part, np.float32)) for part in (np.cos(angle), np.sin(angle))]
    new.shape = None if new.shape is None else [*new.shape, 2]
    new.elem_type = TensorProto.FLOAT
    new.result("Concat", *(new.node("Unsqueeze", part, new.axes(-1)) for part in parts), axis=-1)


def real(new: Replacement) -> None:
    """The real part."""
    new.result("Gather", new.inputs[0], new.constant(0, np.int64), axis=-1)


def imaginary(new: Replacement) -> None:
    """The imaginary part."""
    new.result("Gather", new.inputs[0], new.constant(1, np.int64), axis=-1)


def complex_abs(new: Replacement) -> None:
    """The magnitude."""
    new.result("ReduceL2", new.inputs[0], new.axes(-1), keepdims=0)


def resize_bicubic(new: Replacement) -> None:
    """TensorFlow's bicubic resizing, of which ONNX's is 2e-3 away: TensorFlow reads its weights from a table."""
    options = {"align_corners": bool(new.attribute("align_corners", 0))}
    options["half_pixel_centers"] = bool(new.attribute("half_pixel_centers", 0))
    sizes = new.input_value(1)

    def along(column: Array, axis: int) -> tf.Tensor:
        return tf.raw_ops.ResizeBicubic(images=column, size=[int(sizes[axis]), 1], **options)

    _resize(new, along)


def scale_and_translate(new: Replacement) -> None:
    """Lanczos and antialiased resizing, which TensorRT lacks (https://github.com/NVIDIA/TensorRT/issues/3560).

    The scale is computed from the image's size in the graph, and is no constant: it is taken to be that of a resizing.
    """
    if np.any(new.input_value(3)):
        raise NotImplementedError("ScaleAndTranslate with a translation")
    sizes, shape = new.input_value(1), new.input_shape() or []
    options = {"kernel_type": new.attribute("kernel_type").decode(), "antialias": bool(new.attribute("antialias", 1))}

    def along(column: Array, axis: int) -> tf.Tensor:
        scale = [sizes[axis] / np.float32(shape[axis + 1]), 1]
        size, offset = [int(sizes[axis]), 1], [0.0, 0.0]
        return tf.raw_ops.ScaleAndTranslate(images=column, size=size, scale=scale, translation=offset, **options)

    _resize(new, along)


def _resize(new: Replacement, along: Along) -> None:
    """Resize [batch, height, width, channels] by a product along the height and one along the width.

    The matrices are what TensorFlow makes of unit vectors.
    """
    shape = new.input_shape()
    if not shape or min(shape[1:]) < 0:
        raise NotImplementedError(f"resizing images of {shape}: height, width and channels have to be known")
    _, height, width, channels = shape
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:  # not in the graph that is being converted
        vertical, horizontal = (
            session.run(along(np.eye(size, dtype=np.float32).reshape(size, size, 1, 1), axis))[:, :, 0, 0].T
            for axis, size in enumerate((height, width))
        )
    image = new.inputs[0]
    if new.input_type() != TensorProto.FLOAT:
        image = new.node("Cast", image, to=TensorProto.FLOAT)
    rows = new.node("Reshape", image, new.axes(-1, height, width * channels))
    rows = new.node("MatMul", new.constant(vertical, np.float32), rows)
    image = new.node("Reshape", rows, new.axes(-1, len(vertical), width, channels))
    new.result("MatMul", new.constant(horizontal, np.float32), image)


HANDLERS: dict[str, Handler] = {
    "ComplexAbs": complex_abs,
    "Imag": imaginary,
    "RFFT": rfft,
    "Real": real,
    "ResizeBicubic": resize_bicubic,
    "ScaleAndTranslate": scale_and_translate,
}

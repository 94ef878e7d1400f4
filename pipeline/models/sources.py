"""Finding the configured model: the article's, one that a function returns, or a trained file."""

import inspect
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pipeline import memory, models, user_code
from pipeline.artifacts.dataset import MOST_CLASSES
from pipeline.config import ARTICLE_CNN, Model
from pipeline.errors import ArtifactError, DataError
from pipeline.models import bombs, loading_errors
from pipeline.tensors import Outputs

RETURN = "It must return a keras.Model, built or trained."

LEGACY = (".h5", ".hdf5")
"""How the names of Keras 2's files end, and of the weights inside a `.keras` file."""

TAKES = (
    "model.source takes a .keras, .h5 or .onnx file, a SavedModel folder, or package.module:function "
    "(docs/own-models.md)."
)


def find(options: Model, image_shape: Sequence[int | None], classes: int, *, compiled: bool) -> keras.Model:
    """Return the configured model.

    Args:
        options: the section `model`.
        image_shape: of a sample of the data's first input; for functions that take it.
        classes: how many the data's first target has; for functions that take it.
        compiled: whether a file's optimizer and loss are wanted too, to train on.

    Raises:
        DataError: there is no such function or file, what it gives is no model, or the data have more classes than any
            model that is made for them.
    """
    if options.source == ARTICLE_CNN:
        height, width, channels = (*image_shape, 0, 0, 0)[:3]
        if len(image_shape) != 3 or not (height and width and channels) or min(height, width) < models.SMALLEST:
            raise DataError(
                f"the article's network takes images of {models.SMALLEST}×{models.SMALLEST} pixels and more, and a "
                f"sample of the data has the shape {list(image_shape)}",
                "Name a model of your own with model.source.",
            )
        return models.article_cnn((height, width, channels), _sane(classes))
    if user_code.is_import_path(options.source):
        return _returned(options.source, image_shape, classes)
    try:
        model = read(Path(options.source), compiled=compiled)
    except ArtifactError as error:
        raise DataError(f"model.source: {error.message}", error.hint) from error
    _refuse_quantised(model)
    return model


def check(options: Model) -> None:
    """Look whether `model.source` can be what it is taken for: by its name, and whether it is there.

    Raises:
        DataError: it is an address, is not there, is a folder where a file belongs, or a file of another kind.
    """
    source, path = options.source, Path(options.source)
    if options.kind == "function":
        return
    if "://" in source:
        raise DataError(
            f"model.source = {source!r} is an address on the network", "Download it first, and name the file."
        )
    if not path.exists():
        raise DataError(f"model.source = {source!r} does not exist in {Path.cwd()}", TAKES)
    if path.is_dir() and not (path / user_code.SAVED_MODEL).is_file():
        raise DataError(f"model.source = {source!r} is a folder without {user_code.SAVED_MODEL}: no SavedModel", TAKES)
    if path.name == user_code.SAVED_MODEL:
        raise DataError(
            f"model.source = {source!r} is a part of a SavedModel", f"Name its folder: model.source={path.parent}"
        )
    if path.is_file() and path.suffix not in (".keras", ".onnx", *LEGACY):
        raise DataError(f"model.source = {source!r} is a file of a kind that cannot be read", TAKES)


def _sane(classes: int) -> int:
    if classes > MOST_CLASSES:
        raise DataError(
            f"the data have the label {classes - 1:,}: a model would need {classes:,} classes, and {MOST_CLASSES:,} "
            "are the limit",
            "Number the classes from 0. Give numbers that are no classes as floats, or a model that is made for them.",
        )
    return classes


def _returned(source: str, image_shape: Sequence[int | None], classes: int) -> keras.Model:
    function = user_code.import_function(source, "model.source")
    takes = _positional(function)
    if takes not in (0, 2):
        raise DataError(
            f"model.source {source} takes {takes} arguments",
            "It takes none, or the shape of a sample and the number of classes.",
        )
    given = (tuple(image_shape), _sane(classes)) if takes else ()
    model = user_code.call(function, *given, said=f"model.source {source} raised", hint=RETURN)
    if model is None:
        raise DataError(f"model.source {source} returned nothing", RETURN)
    if not isinstance(model, keras.Model):
        raise DataError(f"model.source {source} returned a {type(model).__name__}, not a keras.Model", RETURN)
    if not model.built and not getattr(model, "inputs", None) and isinstance(model, keras.Sequential):
        model.build((None, *image_shape))
    return model


def _positional(function: Callable[..., Any]) -> int:
    """Return how many arguments a function needs."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = inspect.signature(function).parameters.values()
    return sum(one.kind in kinds and one.default is one.empty for one in parameters)


def read(path: Path, *, compiled: bool = False) -> keras.Model:
    """Load a `.keras` or a legacy `.h5` file in Keras's safe mode, which refuses files that would run code.

    Raises:
        ArtifactError: the file is none, would run code or unpack to too much, or needs a layer that is not registered.
    """
    try:
        _look(path)
        with memory.limited():
            found = keras.saving.load_model(path, compile=compiled, safe_mode=True)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} cannot be loaded: there is no such file", loading_errors.AGAIN) from error
    except DAMAGED as error:
        raise loading_errors.explain(path, error) from error
    except OUT_OF_MEMORY as error:
        raise ArtifactError(
            f"{path} describes a model that needs more memory than there is: {loading_errors.words(error)[:200]}",
            "Use a machine with more memory, or a smaller model.",
        ) from error
    if not isinstance(found, keras.Model):
        raise ArtifactError(f"{path} holds a {type(found).__name__}, not a keras.Model", loading_errors.AGAIN)
    return found


DAMAGED = (ValueError, TypeError, OSError, KeyError, AttributeError, ImportError, IndexError, RuntimeError)
"""What Keras, h5py and zipfile raise of a file that is damaged."""

OUT_OF_MEMORY = (MemoryError, tf.errors.ResourceExhaustedError)


def _look(path: Path) -> None:
    """Look at a file before Keras does: at what it declares, then at its checksums.

    From Python 3.12 on, HDF5's way of reading a zip file's members passes over their checksums.
    """
    if path.suffix in LEGACY:
        return bombs.refuse_hdf5(path, path)
    try:
        with zipfile.ZipFile(path) as archive:
            bombs.refuse_zip(path, archive)
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} does not have the checksum it was stored with")
            for name in archive.namelist():
                if name.endswith(LEGACY):
                    with archive.open(name) as content:
                        bombs.refuse_hdf5(path, content)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:  # the last two: an unknown compression
        raise ValueError(f"it is no .keras file, or damaged ({error})") from error


def policy(model: keras.Model) -> str:
    """Return the types that a model was trained in, as Keras calls them: `float32`, or those of its other layers."""
    found = sorted({layer.dtype_policy.name for layer in model._flatten_layers()} - {"float32"})
    return ", ".join(found) or "float32"


def in_fp32(model: keras.Model) -> keras.Model:
    """Return the model with FP32 arithmetic: itself, where it was trained so.

    `mixed_float16` and `mixed_bfloat16` keep their weights in FP32, and FP32 holds every number of the others.

    Raises:
        DataError: its weights are quantised by Keras.
    """
    trained = policy(model)
    if trained == "float32":
        return model
    _refuse_quantised(model)
    if not getattr(model, "inputs", None):
        for layer in model._flatten_layers():
            layer.dtype_policy = "float32"
        return model
    config = _widened(keras.saving.serialize_keras_object(model))
    wide = keras.saving.deserialize_keras_object(config, safe_mode=True)
    wide.set_weights([np.asarray(one, np.float32) for one in model.get_weights()])
    return wide


def refuse_nan(outputs: Outputs, where: str) -> None:
    """Raise DataError where the original model's outputs are NaN: nothing could be held against them."""
    for name, rows in outputs.items():
        if rows.dtype.kind == "f" and (lost := np.isnan(rows).reshape(len(rows), -1).any(axis=1)).any():
            raise DataError(
                f"the model returns NaN in {name} {where}: for {lost.sum():,} of {len(rows):,} samples, first for "
                f"sample {int(lost.argmax())}",
                "Look at its weights, and at that sample for the root or logarithm of a negative number.",
            )


def _refuse_quantised(model: keras.Model) -> None:
    trained = policy(model)
    if any(kind in trained for kind in ("int8", "int4", "gptq", "awq", "float8")):
        raise DataError(
            f"{model.name} is quantised by Keras ({trained}), which does not carry over: TensorRT refuses its integers",
            "Give the model as it was before model.quantize(); the precisions int8 and fp8 quantise it for TensorRT.",
        )


def _widened(config: Any) -> Any:
    """Return a serialized model with every layer's policy FP32; its inputs keep their types."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: _widened(value) for key, value in config.items()}
    return [_widened(value) for value in config] if isinstance(config, list | tuple) else config

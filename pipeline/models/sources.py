"""Finding the configured model: the article's, one that a function returns, or a trained file."""

import inspect
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from pipeline import models, user_code
from pipeline.config import ARTICLE_CNN, Model
from pipeline.errors import ArtifactError, DataError, PipelineError

RETURN = "It must return a keras.Model, built or trained."


def find(options: Model, image_shape: Sequence[int | None], classes: int, *, compiled: bool) -> keras.Model:
    """Return the configured model.

    Args:
        options: the section `model`.
        image_shape: of a sample of the data's first input; for functions that take it.
        classes: how many the data's first target has; for functions that take it.
        compiled: whether a file's optimizer and loss are wanted too, to train on.

    Raises:
        DataError: there is no such function or file, or what it gives is no model.
    """
    for module in options.imports:
        user_code.import_module(module, "model.imports")
    if options.source == ARTICLE_CNN:
        height, width, channels = (*image_shape, 0, 0, 0)[:3]
        if len(image_shape) != 3 or not (height and width and channels):
            raise DataError(
                f"the article's network takes images, and a sample of the data has the shape {list(image_shape)}",
                "Name a model of your own with model.source.",
            )
        return models.article_cnn((height, width, channels), classes)
    if user_code.is_import_path(options.source):
        return _returned(options.source, image_shape, classes)
    try:
        return read(Path(options.source), compiled=compiled)
    except ArtifactError as error:
        raise DataError(f"model.source: {error.message}", error.hint) from error


def _returned(source: str, image_shape: Sequence[int | None], classes: int) -> keras.Model:
    function = user_code.import_function(source, "model.source")
    takes = _positional(function)
    if takes not in (0, 2):
        raise DataError(
            f"model.source {source} takes {takes} arguments",
            "It takes none, or the shape of a sample and the number of classes.",
        )
    try:
        model = function(*(tuple(image_shape), classes)[:takes])
    except PipelineError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise DataError(f"model.source {source} raised {type(error).__name__}: {error}", RETURN) from error
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
        ArtifactError: the file is none, or would run code, or needs a layer that is not registered.
    """
    if path.suffix in (".h5", ".hdf5"):
        return _loaded(path, compiled)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # from Python 3.12 on, HDF5's way of reading passes over zip's checksums
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} does not have the checksum it was stored with")
    except (OSError, zipfile.BadZipFile) as error:
        raise ArtifactError(f"{path} cannot be loaded: {error}", _AGAIN) from error
    return _loaded(path, compiled)


_AGAIN = "Give a file that Keras saved: model.save('my.keras')."


def _loaded(path: Path, compiled: bool) -> keras.Model:
    try:
        return keras.saving.load_model(path, compile=compiled, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, AttributeError, ImportError) as error:
        reason = _first_lines(error)
        if "unsafe" in reason or "arbitrary code" in reason or "safe_mode" in reason:
            raise ArtifactError(
                f"{path} would run arbitrary code when loaded, and is refused: {reason}",
                "Replace Lambda layers by a keras.layers.Layer subclass registered with "
                "@keras.saving.register_keras_serializable().",
            ) from error
        if any(words in reason.lower() for words in ("locate class", "unknown layer", "custom", "not be deserialized")):
            raise ArtifactError(
                f"{path} has a layer or model that Keras cannot make again: {reason}",
                "Name the module that registers it with model.imports=my_package.my_layers, and give its class "
                "@keras.saving.register_keras_serializable().",
            ) from error
        raise ArtifactError(f"{path} cannot be loaded: {reason}", _AGAIN) from error


def _first_lines(error: Exception, limit: int = 400) -> str:
    text: Any = error.args[0] if error.args else error
    return " ".join(str(text).split())[:limit]


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
    if any(kind in trained for kind in ("int8", "int4", "gptq", "awq", "float8")):
        raise DataError(
            f"{model.name} is quantised by Keras ({trained}), which does not carry over: TensorRT refuses its integers",
            "Give the model as it was before model.quantize(); the precisions int8 and fp8 quantise it for TensorRT.",
        )
    if not getattr(model, "inputs", None):
        for layer in model._flatten_layers():
            layer.dtype_policy = "float32"
        return model
    config = _widened(keras.saving.serialize_keras_object(model))
    wide = keras.saving.deserialize_keras_object(config, safe_mode=True)
    wide.set_weights([np.asarray(one, np.float32) for one in model.get_weights()])
    return wide


def _widened(config: Any) -> Any:
    """Return a serialized model with every layer's policy FP32; its inputs keep their types."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {"name": "float32"}}
        return {key: _widened(value) for key, value in config.items()}
    return [_widened(value) for value in config] if isinstance(config, list | tuple) else config

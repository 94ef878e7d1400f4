"""Keras models: the article's CNN, how a user's own is built, and how a saved one is loaded."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from pipeline import user_code
from pipeline.errors import ArtifactError, DataError

INPUT, OUTPUT = "image", "probabilities"
"""The input, uint8 [batch, height, width, channels], and the output, float32 [batch, classes], of every export."""


def article_cnn(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return the article's network on raw pixels.

    Takes uint8 [batch, height, width, channels], divides by 255 in its first layer, so that the file of the model holds
    the preprocessing too, and returns probabilities, float32 [batch, classes].
    """
    return keras.Sequential(
        [
            keras.Input(image_shape, dtype="uint8", name=INPUT),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(32, (3, 3), activation="relu"),
            keras.layers.MaxPooling2D((2, 2)),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation="softmax", name=OUTPUT),
        ],
        name="article_cnn",
    )


def build(source: str, image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Build the configured network.

    Args:
        source: `article-cnn`, or `package.module:function`; the function takes the two other arguments.
        image_shape: height, width, channels.
        classes: how many.

    Raises:
        DataError: the function cannot be imported, or returns something else than one-input one-output probabilities.
    """
    function = article_cnn if source == "article-cnn" else user_code.import_function(source, "model.source")
    model = function(image_shape, classes)
    if not isinstance(model, keras.Model):
        raise DataError(f"model.source {source} returned a {type(model).__name__}, not a keras.Model")
    if not model.built:
        model.build((None, *image_shape))
    if not hasattr(model, "outputs"):
        raise DataError(
            f"model.source {source} returned a subclassed model, {type(model).__name__}, whose inputs are not known",
            "Return keras.Model(image, model(image)) with image = keras.Input(image_shape, dtype='uint8').",
        )
    shapes = [tuple(tensor.shape) for tensor in model.outputs]
    if len(model.inputs) != 1 or shapes != [(None, classes)]:
        raise DataError(
            f"model.source {source}: {len(model.inputs)} inputs and outputs of shape {shapes}",
            f"It must take one image batch and return one batch of probabilities, [None, {classes}].",
        )
    return model


def serving(model: keras.Model) -> tuple[Callable[..., dict[str, tf.Tensor]], tuple[tf.TensorSpec, ...]]:
    """Return what an exporter traces: the model's inference as a function of tensors, and the signature it takes.

    The function takes `INPUT`, uint8 [batch, height, width, channels] with any batch, and returns {`OUTPUT`: …}.
    """
    signature = tf.TensorSpec((None, *model.inputs[0].shape[1:]), tf.uint8, name=INPUT)
    return lambda image: {OUTPUT: model(image, training=False)}, (signature,)


def load(path: Path, source: str = "article-cnn") -> keras.Model:
    """Load a `.keras` file in Keras's safe mode, which refuses files that would run code of their own.

    `source` is the model's import path: importing it registers the custom layers that the model may have.

    Raises:
        ArtifactError: the file is none, or would run code, or needs a layer that is not registered.
    """
    user_code.register_layers(source)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # from Python 3.12 on, HDF5's way of reading passes over zip's checksums
        if damaged:
            raise zipfile.BadZipFile(f"{damaged} does not have the checksum it was stored with")
        return keras.saving.load_model(path, safe_mode=True)
    except (ValueError, TypeError, OSError, KeyError, zipfile.BadZipFile) as error:
        reason = _first_lines(error)
        if "unsafe" in reason or "arbitrary code" in reason or "safe_mode" in reason:
            raise ArtifactError(
                f"{path} would run arbitrary code when loaded, and is refused: {reason}",
                "Replace Lambda layers by a keras.layers.Layer subclass registered with "
                "@keras.saving.register_keras_serializable(), then run `make train`.",
            ) from error
        raise ArtifactError(f"{path} cannot be loaded: {reason}", "Run `make train`.") from error


def _first_lines(error: Exception, limit: int = 400) -> str:
    text: Any = error.args[0] if error.args else error
    return " ".join(str(text).split())[:limit]

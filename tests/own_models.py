"""Models and data that tests name by import path, as a user names their own."""

import keras
import numpy as np

SIDE = 12


@keras.saving.register_keras_serializable(package="own_models")
class Scale(keras.layers.Layer):
    """A layer that only this module knows."""

    def call(self, inputs: object) -> object:
        return keras.ops.cast(inputs, "float32") / 255.0


def overflowing(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return a network with a custom layer, whose middle is beyond FP16's 65,504, though its outputs are not."""
    image = keras.Input(image_shape, dtype="uint8", name="image")
    x = Scale()(image)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="conv")(x)
    x = keras.layers.Rescaling(1e4, name="up")(x)
    x = keras.layers.Rescaling(1e4, name="further_up")(x)
    x = keras.layers.Conv2D(8, 3, activation="relu", name="too_large")(x)
    x = keras.layers.Rescaling(1e-4, name="down")(x)
    x = keras.layers.Rescaling(1e-4, name="further_down")(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(classes, activation="softmax", name="probabilities")(x))


def small(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return a small network with a custom layer."""
    return keras.Sequential(
        [
            keras.Input(image_shape, dtype="uint8", name="image"),
            Scale(),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def one_product(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return a network with a single matrix product."""
    return keras.Sequential(
        [
            keras.Input(image_shape, dtype="uint8", name="image"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation="softmax", name="only"),
        ]
    )


def with_lambda(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return a network whose saved file holds code."""
    return keras.Sequential(
        [
            keras.Input(image_shape, dtype="uint8", name="image"),
            keras.layers.Lambda(lambda x: keras.ops.cast(x, "float32") / 255.0),
            keras.layers.Flatten(),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )


def bright_or_dark() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return colour images of two classes that a small network tells apart."""
    random = np.random.default_rng(1)
    labels = np.arange(400) % 2
    images = random.integers(0, 100, (400, SIDE, SIDE, 3)) + 150 * labels[:, None, None, None]
    images = images.clip(0, 255).astype(np.uint8)
    return (images[:300], labels[:300]), (images[300:], labels[300:])


@keras.saving.register_keras_serializable(package="own_models")
class Overwriting(keras.layers.Layer):
    """A layer that tf2onnx cannot convert."""

    def call(self, inputs: object) -> object:
        return keras.ops.multiply(2, keras.ops.slice_update(inputs, (0, 2), inputs[:, :2]))


def overwriting(image_shape: tuple[int, int, int], classes: int) -> keras.Model:
    """Return a network that tf2onnx refuses, with a custom layer."""
    return keras.Sequential(
        [
            keras.Input(image_shape, dtype="uint8", name="image"),
            Scale(),
            keras.layers.Flatten(),
            Overwriting(),
            keras.layers.Dense(classes, activation="softmax"),
        ]
    )

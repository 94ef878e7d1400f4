"""A small U-Net that tells which pixels of a picture belong to a disk, which to a square, and which to neither."""

from pathlib import Path

import keras
import numpy as np
from keras import layers

FOLDER = Path("build/examples/unet")
SIDE = 32


def build() -> keras.Model:
    """Return a U-Net of two levels: what is lost on the way down comes back by the side."""
    picture = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="picture")
    x = layers.Rescaling(1 / 255)(picture)
    x = fine = _convolutions(x, 8)
    x = middle = _convolutions(layers.MaxPooling2D()(x), 16)
    x = _convolutions(layers.MaxPooling2D()(x), 32)
    x = layers.Conv2DTranspose(16, 2, strides=2)(x)
    x = _convolutions(layers.Concatenate()([x, middle]), 16)
    x = layers.Conv2DTranspose(8, 2, strides=2)(x)
    x = _convolutions(layers.Concatenate()([x, fine]), 8)
    return keras.Model(picture, layers.Conv2D(3, 1, activation="softmax", name="shape")(x), name="unet")


def _convolutions(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    for _ in range(2):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return x


def samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy pictures [samples, SIDE, SIDE, 3] and what each pixel is: 0 neither, 1 disk, 2 square."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    pictures = np.empty((count, SIDE, SIDE, 3), np.uint8)
    shapes = np.zeros((count, SIDE, SIDE), np.uint8)
    for picture, shape in zip(pictures, shapes, strict=True):
        drawn = random.integers(0, 256, 3) + np.zeros((SIDE, SIDE, 3))
        for kind in random.permutation([1, 2, random.integers(1, 3)]):
            row, column, half = *random.integers(4, SIDE - 4, 2), random.integers(3, 8)
            away = np.abs(rows - row), np.abs(columns - column)
            inside = np.hypot(*away) <= half if kind == 1 else np.maximum(*away) <= half
            shape[inside], drawn[inside] = kind, random.integers(0, 256, 3)
        picture[:] = (drawn + random.normal(0, 12, drawn.shape)).clip(0, 255)
    return pictures, shapes


def main(epochs: int = 8) -> None:
    """Train, and save the model and the samples."""
    keras.utils.set_random_seed(0)
    x, y = samples(1500, seed=0)
    model = build()
    model.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=epochs, verbose=0)

    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(FOLDER / "model.keras")
    x_validation, y_validation = samples(200, seed=1)
    x_test, y_test = samples(400, seed=2)
    np.savez(
        FOLDER / "samples.npz",
        **{"x_train": x, "x_validation": x_validation, "x_test": x_test},
        **{"y_train": y, "y_validation": y_validation, "y_test": y_test},
    )


if __name__ == "__main__":
    main()

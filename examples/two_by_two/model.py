"""Two inputs, two outputs: which digit an image shows, and that digit times a number that comes with it."""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

FOLDER = Path("build/examples/two_by_two")


def build() -> keras.Model:
    """Return a network that takes `image` and `factor`, and returns `digit` and `product`."""
    image = keras.Input((8, 8, 1), dtype="uint8", name="image")
    factor = keras.Input((1,), name="factor")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.Flatten()(x)
    digit = layers.Dense(10, activation="softmax", name="digit")(x)
    value = layers.Dense(1, name="value")(layers.Dense(32, activation="relu")(x))
    product = layers.Multiply(name="product")([value, factor])
    return keras.Model([image, factor], {"digit": digit, "product": product}, name="two_by_two")


def main(epochs: int = 25) -> None:
    """Train, and save the model and the samples."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    digits = load_digits()
    order = random.permutation(len(digits.images))
    images, labels = (digits.images[order] / 16 * 255).astype(np.uint8), digits.target[order]
    factors = random.uniform(-1, 1, len(images)).astype(np.float32)
    products = labels.astype(np.float32) * factors
    parts = {"train": slice(0, 1000), "validation": slice(1000, 1200), "test": slice(1200, None)}

    train = parts["train"]
    model = build()
    losses = {"digit": "sparse_categorical_crossentropy", "product": "mean_absolute_error"}
    model.compile("adam", losses)
    model.fit(
        {"image": images[train], "factor": factors[train]},
        {"digit": labels[train], "product": products[train]},
        epochs=epochs,
        verbose=0,
    )

    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(FOLDER / "model.keras")
    arrays = {}
    for name, rows in parts.items():
        arrays |= {f"x_{name}/image": images[rows], f"x_{name}/factor": factors[rows]}
        arrays |= {f"y_{name}/digit": labels[rows], f"y_{name}/product": products[rows]}
    np.savez(FOLDER / "samples.npz", **arrays)


if __name__ == "__main__":
    main()

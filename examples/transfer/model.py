"""Transfer learning on a folder of images: what was learned of the digits 0 to 4 helps with few images of 5 to 9.

The images are those embedded in scikit-learn, written out as PNG, in a folder for each class.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image
from sklearn.datasets import load_digits

FOLDER = Path("build/examples/transfer")
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
FEW = 10
"""Images of each new class to train with."""


def backbone() -> keras.Model:
    """Return a network from an image to 64 features."""
    image = keras.Input((8, 8, 1), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    return keras.Model(image, layers.GlobalMaxPooling2D()(x), name="backbone")


def classifier(features: keras.Model, images: np.ndarray, labels: np.ndarray, epochs: int) -> keras.Model:
    """Return a classifier on top of these features, trained; `features` are trained with it unless they are frozen."""
    probabilities = layers.Dense(5, activation="softmax", name="digit")(features.output)
    model = keras.Model(features.input, probabilities, name="transfer")
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, epochs=epochs, verbose=0)
    return model


def write(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images as PNG, in a folder for each class."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"{label}_{NAMES[label]}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def main(epochs: int = 30) -> None:
    """Train twice, and save the second model and the images that it is for."""
    keras.utils.set_random_seed(0)
    digits = load_digits()
    images, labels = (digits.images / 16 * 255).astype(np.uint8), digits.target
    old, new = labels < 5, labels >= 5
    features = backbone()
    classifier(features, images[old], labels[old], epochs)
    features.trainable = False

    few = np.concatenate([np.flatnonzero(labels == label)[:FEW] for label in range(5, 10)])
    others = np.setdiff1d(np.flatnonzero(new), few)
    model = classifier(features, images[few], labels[few] - 5, 4 * epochs)
    alone = classifier(backbone(), images[few], labels[few] - 5, 4 * epochs)
    for name, one in (("transferred", model), ("trained from scratch", alone)):
        found = one.evaluate(images[others], labels[others] - 5, verbose=0, return_dict=True)
        print(f"{name}: accuracy {found['accuracy']:.4f} on {len(others)} images")

    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(FOLDER / "model.keras")
    for part, rows in {
        "train": few,
        "validation": others[::4],
        "test": np.delete(others, slice(None, None, 4)),
    }.items():
        write(FOLDER / "images" / part, images[rows], labels[rows])


if __name__ == "__main__":
    main()

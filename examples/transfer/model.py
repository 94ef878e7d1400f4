"""Transfer learning on a folder of images: who knows the ten digits learns "even or odd" from few examples.

The images are those embedded in scikit-learn, written out as PNG, in a folder for each class.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image
from sklearn.datasets import load_digits

FOLDER = Path("build/examples/transfer")
PARITY = ("even", "odd")
FEW = 20
"""Images to learn "even or odd" from."""


def backbone() -> keras.Model:
    """Return a network from an image to 32 features."""
    image = keras.Input((8, 8, 1), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    return keras.Model(image, layers.Dense(32, activation="relu")(layers.Flatten()(x)), name="backbone")


def classifier(features: keras.Model, answers: int, images: np.ndarray, labels: np.ndarray, epochs: int) -> keras.Model:
    """Return a classifier on top of these features, trained, and the features with it unless they are frozen."""
    probabilities = layers.Dense(answers, activation="softmax", name="answer")(features.output)
    model = keras.Model(features.input, probabilities, name="transfer")
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(images, labels, epochs=epochs, verbose=0)
    return model


def write(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images as PNG, in a folder for each class."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / PARITY[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)


def main(epochs: int = 20) -> None:
    """Train twice, and save the second model and the images that it is for."""
    keras.utils.set_random_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images, labels = (digits.images[order] / 16 * 255).astype(np.uint8), digits.target[order]
    old, few, validation, test = np.split(np.arange(len(images)), [900, 900 + FEW, 1100])

    features = backbone()
    classifier(features, 10, images[old], labels[old], epochs)
    features.trainable = False
    model = classifier(features, 2, images[few], labels[few] % 2, 5 * epochs)
    alone = classifier(backbone(), 2, images[few], labels[few] % 2, 5 * epochs)
    for name, one in (("transferred", model), ("trained from scratch", alone)):
        found = one.evaluate(images[test], labels[test] % 2, verbose=0, return_dict=True)
        print(f"{name}: accuracy {found['accuracy']:.4f} on {len(test)} images")

    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(FOLDER / "model.keras")
    for part, rows in {"train": few, "validation": validation, "test": test}.items():
        write(FOLDER / "images" / part, images[rows], labels[rows] % 2)


if __name__ == "__main__":
    main()

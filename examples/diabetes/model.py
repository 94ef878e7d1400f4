"""Tabular regression: how far diabetes has progressed after a year, from ten measurements of a patient.

The measurements go in as they are: the model standardises them itself, by a Normalization adapted to the training data.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_diabetes

FOLDER = Path("build/examples/diabetes")


def build(train: np.ndarray) -> keras.Model:
    """Return a network whose first layer knows the mean and the variance of each measurement."""
    normalization = layers.Normalization(name="standardise")
    normalization.adapt(train)
    patient = keras.Input((train.shape[1],), name="patient")
    x = layers.Dense(32, activation="relu")(normalization(patient))
    x = layers.Dropout(0.2)(x)
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model(patient, layers.Dense(1, name="progression")(x), name="diabetes")


def main(epochs: int = 100) -> None:
    """Train, and save the model and the samples."""
    keras.utils.set_random_seed(0)
    x, y = load_diabetes(return_X_y=True, scaled=False)
    x, y = x.astype(np.float32), y.astype(np.float32)
    order = np.random.default_rng(0).permutation(len(x))
    train, validation, test = np.split(order, [250, 300])

    model = build(x[train])
    model.compile("adam", "mean_absolute_error")
    model.fit(x[train], y[train], epochs=epochs, verbose=0)

    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(FOLDER / "model.keras")
    splits = {"train": train, "validation": validation, "test": test}
    np.savez(
        FOLDER / "samples.npz",
        **{f"x_{name}": x[rows] for name, rows in splits.items()},
        **{f"y_{name}": y[rows] for name, rows in splits.items()},
    )


if __name__ == "__main__":
    main()

"""A recurrent classifier of movements, each a sequence of points of a length of its own.

Shorter sequences are padded with zeros, which the model masks; how long the longest is, is left open.
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

FOLDER = Path("build/examples/recurrent")
LONGEST = 40
MOVEMENTS = ("clockwise", "anticlockwise", "line", "zigzag")


def build() -> keras.Model:
    """Return a network of [samples, any length, 2]."""
    points = keras.Input((None, 2), name="points")
    x = layers.Masking()(points)
    x = layers.GRU(24)(x)
    return keras.Model(points, layers.Dense(len(MOVEMENTS), activation="softmax", name="movement")(x), name="recurrent")


def draw(kind: int, random: np.random.Generator) -> np.ndarray:
    """Return the steps between the points of one movement [length, 2], turned by a random angle, with noise."""
    length = random.integers(10, LONGEST + 1)
    t = np.linspace(0, 1, length)
    turn = np.array([-1, 1, 0, 0])[kind] * 2 * np.pi * t
    if MOVEMENTS[kind] == "zigzag":
        turn = 0.8 * np.sign(np.sin(2 * np.pi * 4 * t + random.uniform(0, 6)))
    angle = turn + random.uniform(0, 2 * np.pi)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) + random.normal(0, 0.5, (length, 2))


def samples(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return padded movements [samples, LONGEST, 2] and their kinds [samples]."""
    random = np.random.default_rng(seed)
    kinds = np.arange(count) % len(MOVEMENTS)
    drawn = [draw(kind, random) for kind in kinds]
    return keras.utils.pad_sequences(drawn, LONGEST, dtype="float32", padding="post"), kinds


def main(epochs: int = 12) -> None:
    """Train, and save the model and the samples."""
    keras.utils.set_random_seed(0)
    x, y = samples(2000, seed=0)
    model = build()
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=epochs, verbose=0)

    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(FOLDER / "model.keras")
    x_validation, y_validation = samples(400, seed=1)
    x_test, y_test = samples(800, seed=2)
    np.savez(
        FOLDER / "samples.npz",
        **{"x_train": x, "x_validation": x_validation, "x_test": x_test},
        **{"y_train": y, "y_validation": y_validation, "y_test": y_test},
    )


if __name__ == "__main__":
    main()

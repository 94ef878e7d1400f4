"""The article's script: `python -m benchmarks.training.article MNIST.npz SEED EPOCHS [FILE]`; prints what it measured.

The network, the optimizer and `fit` stand as in the article. Its `mnist.load_data()` would fetch the data from the
internet: here they come from a file with the same arrays. Any backend of Keras runs it (KERAS_BACKEND).
"""

import json
import sys
import time
from pathlib import Path

import keras
import numpy as np
from keras import layers, models


def main(data: str, seed: int, epochs: int) -> str:
    """Train and test; return one line of JSON."""
    keras.utils.set_random_seed(seed)
    with np.load(data) as file:
        x_train, y_train, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))

    x_train, x_test = x_train / 255.0, x_test / 255.0
    model = models.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, (3, 3), activation="relu"),
            layers.MaxPooling2D((2, 2)),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    started = time.perf_counter()
    model.fit(x_train, y_train, epochs=epochs, verbose=0)
    seconds = time.perf_counter() - started
    _, accuracy = model.evaluate(x_test, y_test, verbose=0)
    return json.dumps({"fit_s": seconds, "accuracy": accuracy, "samples": len(x_train) * epochs})


if __name__ == "__main__":
    measured = main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    for file in sys.argv[4:]:
        Path(file).write_text(measured, encoding="utf-8")
    print(measured)

"""A small vision transformer on handwritten digits, with a layer of its own for the positions of the patches."""

from pathlib import Path

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

FOLDER = Path("build/examples/vit")
PATCH, WIDTH, HEADS, BLOCKS = 2, 32, 4, 2


@keras.saving.register_keras_serializable(package="vit")
class Positions(layers.Layer):
    """Adds a learned vector to each patch, by its place."""

    def build(self, shape: tuple[int, ...]) -> None:
        """Make a vector for each place."""
        self.places = self.add_weight(shape=shape[1:], initializer="random_normal", name="places")

    def call(self, patches: keras.KerasTensor) -> keras.KerasTensor:
        """Return [samples, patches, width]."""
        return patches + self.places


def build() -> keras.Model:
    """Return the network: patches, blocks of attention and two dense layers, and the mean of the patches."""
    image = keras.Input((8, 8, 1), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(WIDTH, PATCH, strides=PATCH, name="patches")(x)
    x = Positions()(layers.Reshape((-1, WIDTH))(x))
    for _ in range(BLOCKS):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(y, y)])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(2 * WIDTH, activation="gelu")(y)
        x = layers.Add()([x, layers.Dense(WIDTH)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(image, layers.Dense(10, activation="softmax", name="digit")(x), name="vit")


def main(epochs: int = 25) -> None:
    """Train, and save the model and the samples."""
    keras.utils.set_random_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.images))
    images, labels = (digits.images[order] / 16 * 255).astype(np.uint8), digits.target[order]
    parts = {"train": slice(0, 1000), "validation": slice(1000, 1200), "test": slice(1200, None)}

    model = build()
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy")
    model.fit(images[parts["train"]], labels[parts["train"]], epochs=epochs, verbose=0)

    FOLDER.mkdir(parents=True, exist_ok=True)
    model.save(FOLDER / "model.keras")
    np.savez(
        FOLDER / "samples.npz",
        **{f"x_{name}": images[rows] for name, rows in parts.items()},
        **{f"y_{name}": labels[rows] for name, rows in parts.items()},
    )


if __name__ == "__main__":
    main()

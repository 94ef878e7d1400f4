"""Keras models: the article's CNN, how a user's own is found, and how any is called by the names of its inputs."""

import keras

INPUT, OUTPUT = "image", "probabilities"
"""What the article's network calls its input, uint8 [batch, height, width, channels], and output [batch, classes]."""

SMALLEST = 4
"""The least height and width of an image that its convolution and its pooling leave something of."""


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

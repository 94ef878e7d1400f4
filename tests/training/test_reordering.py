"""A bias and an activation after the pooling: the same outputs and gradients, and a model that is as it was then."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pipeline import environment

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras
    import tensorflow as tf

    from pipeline.training.reordering import pooled_first

k = keras.layers


def article() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), k.Conv2D(4, 3, activation="relu"), k.MaxPooling2D(2), k.Flatten()])


def functional(activation: str) -> Callable[[], keras.Model]:
    def build() -> keras.Model:
        x = keras.Input((9, 9, 2))
        y = k.MaxPooling2D(2, padding="same")(k.Conv2D(4, 3, activation=activation)(x))
        return keras.Model(x, k.Flatten()(k.MaxPooling2D()(k.Conv2D(3, 2, use_bias=False, padding="same")(y))))

    return build


def read_twice() -> keras.Model:
    x = keras.Input((8, 8, 1))
    y = k.Conv2D(4, 3, activation="relu")(x)
    return keras.Model(x, [k.MaxPooling2D(2)(y), k.AveragePooling2D(2)(y)])


def falling() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), k.Conv2D(4, 3, activation="gelu"), k.MaxPooling2D(2)])


def averaged() -> keras.Model:
    return keras.Sequential([keras.Input((8, 8, 1)), k.Conv2D(4, 3, activation="relu"), k.AveragePooling2D(2)])


def shared() -> keras.Model:
    x, convolution = keras.Input((8, 8, 1)), k.Conv2D(4, 3, activation="relu")
    return keras.Model(x, k.Add()([k.MaxPooling2D(2)(convolution(x)), k.MaxPooling2D(2)(convolution(-x))]))


@pytest.mark.parametrize(
    ("build", "count"),
    [
        (article, 1),
        (functional("tanh"), 2),
        (functional("sigmoid"), 2),
        (read_twice, 0),
        (falling, 0),
        (averaged, 0),
        (shared, 0),
    ],
)
def test_it_is_the_same_function(build: Callable[[], keras.Model], count: int, random: np.random.Generator) -> None:
    model = build()
    for variable in model.weights:
        variable.assign(random.standard_normal(variable.shape))
    x = tf.constant(random.standard_normal((5, *model.inputs[0].shape[1:])), tf.float32)

    def outputs_and_gradients() -> list[Any]:
        with tf.GradientTape() as tape:
            found = keras.tree.flatten(model(x, training=True))
            loss = tf.add_n([tf.reduce_sum(one * one) for one in found])
        return [*found, *tape.gradient(loss, model.trainable_variables)]

    before = outputs_and_gradients()
    with pooled_first(model) as changed:
        within = outputs_and_gradients()
    assert changed == count
    after = outputs_and_gradients()
    outputs = len(model.outputs)
    for index, (one, other, last) in enumerate(zip(before, within, after, strict=True)):
        np.testing.assert_array_equal(one, last)
        if index < outputs:
            np.testing.assert_array_equal(one, other)
        else:  # the sums of a gradient are in another order
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)

"""The other layers of Keras that have weights or change shapes, activations, and whole small models."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers as k
from keras import ops

from benchmarks.coverage.case import Case, Input, cases, later
from benchmarks.coverage.images import CONVOLUTIONS, POOLINGS, SHAPES
from benchmarks.coverage.sequences import ATTENTION, QUERY, RECURRENT

LINE, IMAGE, VOLUME = Input((8, 3)), Input((9, 9, 4)), Input((7, 7, 7, 4))
ANY_LINE, ANY_IMAGE = Input((None, 3)), Input((None, None, 4))
WORDS, ANY_WORDS = Input((6,), "int32", 20), Input((None,), "int32", 20)
ROW = Input((6,))


def _adapted(**options: object) -> k.Normalization:
    layer = k.Normalization(**options)
    layer.adapt(Input((6,)).draw(0) * 3 + 2)
    return layer


NORMALISATIONS = cases(
    "normalisation",
    IMAGE,
    (
        ("Normalization adapted", lambda x: _adapted()(x), ROW),
        ("Normalization adapted, axis=None", lambda x: _adapted(axis=None)(x), ROW),
        ("Normalization adapted, then Dense", lambda x: k.Dense(3)(_adapted()(x)), ROW),
        ("Normalization given", later(k.Normalization, mean=[1, 2, 3, 4], variance=[1, 2, 3, 4])),
        ("Normalization inverted", later(k.Normalization, mean=2.0, variance=4.0, invert=True)),
        ("BatchNormalization", later(k.BatchNormalization)),
        ("BatchNormalization axis 1", later(k.BatchNormalization, axis=1)),
        ("Conv2D, BatchNormalization, ReLU", lambda x: k.ReLU()(k.BatchNormalization()(k.Conv2D(5, 3)(x)))),
        ("Dense, BatchNormalization", lambda x: k.BatchNormalization()(k.Dense(5)(x)), ROW),
        ("LayerNormalization", later(k.LayerNormalization)),
        ("LayerNormalization axes", later(k.LayerNormalization, axis=(1, 2, 3))),
        ("GroupNormalization", later(k.GroupNormalization, 2)),
        ("GroupNormalization per channel", later(k.GroupNormalization, -1)),
        ("GroupNormalization dynamic size", later(k.GroupNormalization, 2), ANY_IMAGE),
        ("UnitNormalization", later(k.UnitNormalization)),
        ("RMSNormalization", later(k.RMSNormalization)),
        ("SpectralNormalization", lambda x: k.SpectralNormalization(k.Conv2D(5, 3))(x)),
    ),
    fast=("Normalization adapted, then Dense",),
)

CORE = cases(
    "core",
    ROW,
    (
        ("Dense", later(k.Dense, 5)),
        ("Dense on three dimensions", later(k.Dense, 5), LINE),
        ("Dense dynamic length", later(k.Dense, 5), ANY_LINE),
        ("EinsumDense ab,bc->ac", later(k.EinsumDense, "ab,bc->ac", 5, bias_axes="c")),
        ("EinsumDense abc,cde->abde", later(k.EinsumDense, "abc,cde->abde", (8, 2, 5), bias_axes="de"), LINE),
        ("EinsumDense abde,dec->abc", later(k.EinsumDense, "abde,dec->abc", (None, 5)), Input((8, 2, 3))),
        ("EinsumDense abc,cd->adb", later(k.EinsumDense, "abc,cd->adb", (5, 8)), LINE),
        ("Embedding", later(k.Embedding, 20, 5), WORDS),
        ("Embedding dynamic length", later(k.Embedding, 20, 5), ANY_WORDS),
        ("Dense with LoRA", lambda x: _with_lora(k.Dense(5))(x)),
        (
            "Dropout, GaussianNoise, Identity",
            lambda x: k.Dense(3)(k.Identity()(k.GaussianNoise(1.0)(k.Dropout(0.5)(x)))),
        ),
        ("Masking, Dense", lambda x: k.Dense(5)(k.Masking()(x)), LINE),
        ("Masking, GlobalAveragePooling1D", lambda x: k.GlobalAveragePooling1D()(k.Masking()(x)), LINE),
    ),
    fast=("Dense", "Dense with LoRA"),
)


def _with_lora(layer: k.Dense) -> k.Dense:
    layer.build((None, 6))
    layer.enable_lora(2)
    return layer


TWO = (LINE, LINE)


def _joined(layer: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    return lambda *inputs: layer()(list(inputs))


MERGING = cases(
    "merging",
    LINE,
    (
        *((layer.__name__, _joined(layer), TWO)
          for layer in (k.Add, k.Subtract, k.Multiply, k.Average, k.Maximum, k.Minimum, k.Concatenate)),
        ("Add broadcasting", lambda a, b: k.Add()([a, b]), (LINE, Input((1, 3)))),
        ("Dot", lambda a, b: k.Dot(axes=2)([a, b]), TWO),
        ("Dot normalised", lambda a, b: k.Dot(axes=2, normalize=True)([a, b]), TWO),
        ("Dot of rows", lambda a, b: k.Dot(axes=1)([a, b]), (ROW, ROW)),
    ),
)  # fmt: skip

ACTIVATIONS = cases(
    "activation",
    ROW,
    (
        *((name, later(k.Dense, 6, activation=name))
          for name in (
            "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_tanh",
            "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
            "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax",
            "squareplus", "tanh", "tanh_shrink")),
        ("threshold", lambda x: keras.activations.threshold(k.Dense(6)(x), 0.2, -1.0)),
        ("gelu, approximate", lambda x: keras.activations.gelu(k.Dense(6)(x), approximate=True)),
        ("PReLU", later(k.PReLU), IMAGE),
        ("PReLU shared", later(k.PReLU, shared_axes=[1, 2]), IMAGE),
        ("ELU", later(k.ELU), IMAGE),
        ("LeakyReLU", later(k.LeakyReLU), IMAGE),
        ("ReLU with limits", later(k.ReLU, max_value=1.5, negative_slope=0.1, threshold=0.2), IMAGE),
        ("Softmax axis 1", later(k.Softmax, axis=1), LINE),
        ("Softmax two axes", later(k.Softmax, axis=[1, 2]), LINE),
        ("Softmax masked", lambda x, m: k.Softmax()(x, mask=m), (ROW, Input((6,), "bool"))),
    ),
    fast=("gelu", "celu"),
)  # fmt: skip


def _transformer(x: keras.KerasTensor) -> keras.KerasTensor:
    x = k.LayerNormalization()(x + k.MultiHeadAttention(2, 4)(x, x))
    return k.LayerNormalization()(x + k.Dense(8)(k.Dense(16, activation="gelu")(x)))


def _patches(x: keras.KerasTensor) -> keras.KerasTensor:
    x = k.Reshape((9, 8))(k.Conv2D(8, 3, strides=3)(x))
    return k.Dense(4)(k.GlobalAveragePooling1D()(_transformer(x + k.Embedding(9, 8)(ops.arange(9)))))


def _unet(x: keras.KerasTensor) -> keras.KerasTensor:
    first = k.Conv2D(4, 3, padding="same", activation="relu")(x)
    down = k.Conv2D(8, 3, padding="same", activation="relu")(k.MaxPooling2D()(first))
    up = k.Conv2DTranspose(4, 2, strides=2)(down)
    return k.Conv2D(2, 1, activation="softmax")(k.Concatenate()([first, up]))


@keras.saving.register_keras_serializable(package="coverage")
class Subclassed(keras.Model):  # type: ignore[misc]
    """A model with a call method of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = k.Dense(5, activation="relu"), k.Dense(3)

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Return three numbers a row."""
        return self.second(self.first(inputs))


def _shared(x: keras.KerasTensor) -> keras.KerasTensor:
    inner = keras.Sequential([keras.Input((6,)), k.Dense(6, activation="tanh"), k.Dense(6)])
    return inner(inner(x))


STRUCTURES = cases(
    "structure",
    ROW,
    (
        (
            "two inputs, two outputs",
            lambda a, b: [k.Dense(3)(k.Concatenate()([a, b])), k.Dense(2)(b)],
            (ROW, Input((4,))),
        ),
        ("nested model, called twice", _shared),
        ("subclassed model", lambda x: Subclassed()(x)),
        ("Lambda layer", lambda x: k.Dense(3)(k.Lambda(lambda y: y * 2 + 1)(x))),
        ("U-Net", _unet, Input((8, 8, 3))),
        ("transformer block", _transformer, QUERY),
        ("vision transformer", _patches, Input((9, 9, 3))),
    ),
    fast=("transformer block",),
)

LAYERS: tuple[Case, ...] = (
    *CONVOLUTIONS, *POOLINGS, *NORMALISATIONS, *RECURRENT, *ATTENTION, *CORE, *SHAPES, *MERGING, *ACTIVATIONS,
    *STRUCTURES,
)  # fmt: skip

"""The layers of Keras that have weights or change shapes."""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers as k
from keras import ops

from benchmarks.coverage.case import Case, Input, cases, later

LINE, IMAGE, VOLUME = Input((8, 3)), Input((9, 9, 4)), Input((7, 7, 7, 4))
ANY_LINE, ANY_IMAGE = Input((None, 3)), Input((None, None, 4))
WORDS, ANY_WORDS = Input((6,), "int32", 20), Input((None,), "int32", 20)
ROW = Input((6,))

CONVOLUTIONS = cases(
    "convolution",
    IMAGE,
    (
        ("Conv1D", later(k.Conv1D, 5, 3), LINE),
        ("Conv1D causal", later(k.Conv1D, 5, 3, padding="causal"), LINE),
        ("Conv1D same, stride 2", later(k.Conv1D, 5, 3, strides=2, padding="same"), LINE),
        ("Conv1D dilated", later(k.Conv1D, 5, 3, dilation_rate=2), LINE),
        ("Conv1D dynamic length", later(k.Conv1D, 5, 3), ANY_LINE),
        ("Conv2D", later(k.Conv2D, 5, 3)),
        ("Conv2D same, stride 2", later(k.Conv2D, 5, 3, strides=2, padding="same")),
        ("Conv2D dilated", later(k.Conv2D, 5, 3, dilation_rate=2)),
        ("Conv2D groups", later(k.Conv2D, 6, 3, groups=2)),
        ("Conv2D dynamic size", later(k.Conv2D, 5, 3, padding="same"), ANY_IMAGE),
        ("Conv3D", later(k.Conv3D, 5, 3), VOLUME),
        ("Conv3D groups, same, stride 2", later(k.Conv3D, 6, 3, strides=2, padding="same", groups=2), VOLUME),
        ("Conv1DTranspose", later(k.Conv1DTranspose, 5, 3, strides=2), LINE),
        ("Conv1DTranspose same", later(k.Conv1DTranspose, 5, 3, strides=2, padding="same"), LINE),
        ("Conv2DTranspose", later(k.Conv2DTranspose, 5, 3, strides=2)),
        ("Conv2DTranspose same", later(k.Conv2DTranspose, 5, 3, strides=2, padding="same")),
        ("Conv2DTranspose output padding", later(k.Conv2DTranspose, 5, 3, strides=2, output_padding=1)),
        ("Conv2DTranspose dilated", later(k.Conv2DTranspose, 5, 3, dilation_rate=2)),
        ("Conv2DTranspose dynamic size", later(k.Conv2DTranspose, 5, 3, strides=2, padding="same"), ANY_IMAGE),
        ("Conv3DTranspose", later(k.Conv3DTranspose, 5, 3, strides=2), VOLUME),
        ("Conv3DTranspose same", later(k.Conv3DTranspose, 5, 3, strides=2, padding="same"), VOLUME),
        ("DepthwiseConv1D", later(k.DepthwiseConv1D, 3), LINE),
        ("DepthwiseConv2D", later(k.DepthwiseConv2D, 3)),
        ("DepthwiseConv2D multiplier, stride 2", later(k.DepthwiseConv2D, 3, strides=2, depth_multiplier=2)),
        ("DepthwiseConv2D dilated", later(k.DepthwiseConv2D, 3, dilation_rate=2)),
        ("SeparableConv1D", later(k.SeparableConv1D, 5, 3), LINE),
        ("SeparableConv2D", later(k.SeparableConv2D, 5, 3)),
    ),
    fast=("Conv2D groups", "Conv3D groups, same, stride 2"),
)

POOLINGS = cases(
    "pooling",
    IMAGE,
    tuple(
        (f"{layer.__name__}{' same' if options else ''}", later(layer, 2, **options), shape)
        for layers, shape in (
            ((k.MaxPooling1D, k.AveragePooling1D), LINE),
            ((k.MaxPooling2D, k.AveragePooling2D), IMAGE),
            ((k.MaxPooling3D, k.AveragePooling3D), VOLUME),
        )
        for layer in layers
        for options in ({}, {"padding": "same"})
    )
    + tuple(
        (layer.__name__, later(layer), shape)
        for layers, shape in (
            ((k.GlobalMaxPooling1D, k.GlobalAveragePooling1D), LINE),
            ((k.GlobalMaxPooling2D, k.GlobalAveragePooling2D), IMAGE),
            ((k.GlobalMaxPooling3D, k.GlobalAveragePooling3D), VOLUME),
        )
        for layer in layers
    )
    + tuple(
        (f"{layer.__name__} to {size}", later(layer, size), shape)
        for layers, shape in (
            ((k.AdaptiveMaxPooling1D, k.AdaptiveAveragePooling1D), LINE),
            ((k.AdaptiveMaxPooling2D, k.AdaptiveAveragePooling2D), IMAGE),
            ((k.AdaptiveMaxPooling3D, k.AdaptiveAveragePooling3D), VOLUME),
        )
        for layer in layers
        for size in (2, 3)
    ),
)


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

RECURRENT = cases(
    "recurrent",
    LINE,
    (
        ("SimpleRNN", later(k.SimpleRNN, 4)),
        ("SimpleRNN sequences, dynamic length", later(k.SimpleRNN, 4, return_sequences=True), ANY_LINE),
        ("LSTM", later(k.LSTM, 4)),
        ("LSTM sequences", later(k.LSTM, 4, return_sequences=True)),
        ("LSTM dynamic length", later(k.LSTM, 4), ANY_LINE),
        ("LSTM states", later(k.LSTM, 4, return_state=True)),
        ("LSTM backwards", later(k.LSTM, 4, go_backwards=True)),
        ("LSTM unrolled", later(k.LSTM, 4, unroll=True)),
        ("LSTM two layers", lambda x: k.LSTM(4)(k.LSTM(4, return_sequences=True)(x))),
        ("GRU", later(k.GRU, 4)),
        ("GRU sequences, dynamic length", later(k.GRU, 4, return_sequences=True), ANY_LINE),
        ("GRU reset_after=False", later(k.GRU, 4, reset_after=False)),
        ("GRU unrolled", later(k.GRU, 4, unroll=True)),
        ("Bidirectional LSTM", lambda x: k.Bidirectional(k.LSTM(4))(x)),
        ("Bidirectional LSTM sequences, dynamic length",
         lambda x: k.Bidirectional(k.LSTM(4, return_sequences=True))(x), ANY_LINE),
        ("Bidirectional GRU sum", lambda x: k.Bidirectional(k.GRU(4), merge_mode="sum")(x)),
        ("RNN of a GRUCell", lambda x: k.RNN(k.GRUCell(4))(x)),
        ("RNN of stacked cells", lambda x: k.RNN(k.StackedRNNCells([k.LSTMCell(4), k.GRUCell(4)]))(x)),
        ("Embedding with a mask, LSTM", lambda x: k.LSTM(4)(k.Embedding(20, 5, mask_zero=True)(x)), WORDS),
        ("Embedding with a mask, Bidirectional LSTM",
         lambda x: k.Bidirectional(k.LSTM(4))(k.Embedding(20, 5, mask_zero=True)(x)), WORDS),
        ("Masking, LSTM", lambda x: k.LSTM(4)(k.Masking()(x))),
        ("Masking, GRU sequences, dynamic length", lambda x: k.GRU(4, return_sequences=True)(k.Masking()(x)), ANY_LINE),
        ("LSTM stateful, fixed batch", later(k.LSTM, 4, stateful=True), Input((8, 3), batch=3)),
        ("ConvLSTM1D", later(k.ConvLSTM1D, 4, 3), Input((4, 8, 3))),
        ("ConvLSTM2D", later(k.ConvLSTM2D, 4, 3), Input((4, 8, 8, 3))),
        ("ConvLSTM3D", later(k.ConvLSTM3D, 4, 3), Input((4, 6, 6, 6, 3))),
        ("TimeDistributed Dense", lambda x: k.TimeDistributed(k.Dense(4))(x)),
        ("TimeDistributed Conv2D", lambda x: k.TimeDistributed(k.Conv2D(4, 3))(x), Input((4, 8, 8, 3))),
        ("TimeDistributed Conv2D dynamic length",
         lambda x: k.TimeDistributed(k.Conv2D(4, 3))(x), Input((None, 8, 8, 3))),
    ),
    fast=("LSTM",),
)  # fmt: skip

QUERY, VALUE, MASK = Input((6, 8)), Input((7, 8)), Input((7,), "bool")
ANY_QUERY, SQUARE = Input((None, 8)), Input((6, 6), "bool")

ATTENTION = cases(
    "attention",
    QUERY,
    (
        ("Attention", lambda q, v: k.Attention()([q, v]), (QUERY, VALUE)),
        ("Attention scaled", lambda q, v: k.Attention(use_scale=True)([q, v]), (QUERY, VALUE)),
        ("Attention by concatenation", lambda q, v: k.Attention(score_mode="concat")([q, v]), (QUERY, VALUE)),
        ("Attention causal", lambda q, v: k.Attention()([q, v], use_causal_mask=True), (QUERY, VALUE)),
        ("Attention masked", lambda q, v, m: k.Attention()([q, v], mask=[None, m]), (QUERY, VALUE, MASK)),
        ("AdditiveAttention", lambda q, v: k.AdditiveAttention()([q, v]), (QUERY, VALUE)),
        ("MultiHeadAttention", lambda q, v: k.MultiHeadAttention(2, 4)(q, v), (QUERY, VALUE)),
        ("MultiHeadAttention to itself, dynamic length", lambda q: k.MultiHeadAttention(2, 4)(q, q), ANY_QUERY),
        ("MultiHeadAttention causal", lambda q: k.MultiHeadAttention(2, 4)(q, q, use_causal_mask=True)),
        ("MultiHeadAttention masked",
         lambda q, m: k.MultiHeadAttention(2, 4)(q, q, attention_mask=m), (QUERY, SQUARE)),
        ("MultiHeadAttention with its scores",
         lambda q: list(k.MultiHeadAttention(2, 4)(q, q, return_attention_scores=True))),
        ("MultiHeadAttention of an Embedding with a mask",
         lambda x: (lambda e: k.MultiHeadAttention(2, 4)(e, e))(k.Embedding(20, 8, mask_zero=True)(x)), WORDS),
        ("GroupQueryAttention", lambda q: k.GroupQueryAttention(4, 4, 2)(q, q)),
        ("GroupQueryAttention causal", lambda q: k.GroupQueryAttention(4, 4, 2)(q, q, use_causal_mask=True)),
    ),
)  # fmt: skip

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


SHAPES = cases(
    "shapes",
    IMAGE,
    (
        ("ZeroPadding1D", later(k.ZeroPadding1D, 2), LINE),
        ("ZeroPadding2D", later(k.ZeroPadding2D, ((1, 2), (0, 1)))),
        ("ZeroPadding2D, MaxPooling2D", lambda x: k.MaxPooling2D(3)(k.ZeroPadding2D(1)(k.Conv2D(4, 3)(x)))),
        ("ZeroPadding3D", later(k.ZeroPadding3D, 1), VOLUME),
        ("Cropping1D", later(k.Cropping1D, 1), LINE),
        ("Cropping2D", later(k.Cropping2D, ((1, 2), (0, 1)))),
        ("Cropping2D dynamic size", later(k.Cropping2D, 1), ANY_IMAGE),
        ("Cropping3D", later(k.Cropping3D, 1), VOLUME),
        ("UpSampling1D", later(k.UpSampling1D, 2), LINE),
        *((f"UpSampling2D {how}", later(k.UpSampling2D, 2, interpolation=how))
          for how in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5")),
        ("UpSampling2D nearest, dynamic size", later(k.UpSampling2D, 2), ANY_IMAGE),
        ("UpSampling2D bilinear, dynamic size", later(k.UpSampling2D, 2, interpolation="bilinear"), ANY_IMAGE),
        ("UpSampling3D", later(k.UpSampling3D, 2), VOLUME),
        ("Reshape", later(k.Reshape, (27, 12))),
        ("Reshape -1", later(k.Reshape, (-1, 12))),
        ("Reshape -1, dynamic length", later(k.Reshape, (-1, 1)), ANY_LINE),
        ("Permute", later(k.Permute, (3, 1, 2))),
        ("RepeatVector", later(k.RepeatVector, 4), ROW),
        ("Flatten", later(k.Flatten)),
    ),
    fast=("UpSampling2D nearest", "UpSampling2D bicubic"),
)  # fmt: skip

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

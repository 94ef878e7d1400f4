"""Convolutions, poolings, and what changes the shape of images, sequences and volumes."""

from keras import layers as k

from benchmarks.coverage.case import Input, cases, later

LINE, IMAGE, VOLUME = Input((8, 3)), Input((9, 9, 4)), Input((7, 7, 7, 4))
ANY_LINE, ANY_IMAGE, ROW = Input((None, 3)), Input((None, None, 4)), Input((6,))

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

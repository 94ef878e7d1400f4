"""Keras's preprocessing layers that can be in a model, and its pretrained families."""

from collections.abc import Callable

import keras
from keras import layers as k

from benchmarks.coverage.case import Case, Input, cases, later

IMAGE, ANY_IMAGE, PIXELS = Input((10, 8, 3)), Input((None, None, 3)), Input((10, 8, 3), "uint8")
SMALL_INTEGERS, TEXT = Input((6,), "int32", 5), Input((1,), "string")

UP, DOWN = (15, 13), (5, 6)

PREPROCESSING = cases(
    "preprocessing",
    IMAGE,
    (
        ("Rescaling uint8", later(k.Rescaling, 1 / 255), PIXELS),
        *((f"Resizing {how} {'up' if size == UP else 'down'}", later(k.Resizing, *size, interpolation=how))
          for how in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5") for size in (UP, DOWN)),
        ("Resizing bilinear down, antialiased", later(k.Resizing, *DOWN, antialias=True)),
        ("Resizing crop to aspect ratio", later(k.Resizing, *DOWN, crop_to_aspect_ratio=True)),
        ("Resizing pad to aspect ratio", later(k.Resizing, *DOWN, pad_to_aspect_ratio=True)),
        ("Resizing bilinear, dynamic size", later(k.Resizing, *DOWN), ANY_IMAGE),
        ("Resizing bilinear of uint8", later(k.Resizing, *DOWN), PIXELS),
        ("CenterCrop", later(k.CenterCrop, 4, 5)),
        ("CenterCrop, resizing", later(k.CenterCrop, 12, 5)),
        ("CenterCrop, dynamic size", later(k.CenterCrop, 4, 5), ANY_IMAGE),
        ("RandomCrop", later(k.RandomCrop, 4, 5)),
        ("augmentation, which inference skips",
         lambda x: k.RandomContrast(0.2)(k.RandomZoom(0.2)(k.RandomRotation(0.1)(k.RandomFlip()(x))))),
        ("AutoContrast", later(k.AutoContrast, value_range=(0, 1))),
        ("Solarization", later(k.Solarization, value_range=(0, 1))),
        ("Discretization", later(k.Discretization, [-1.0, 0.0, 0.7])),
        ("Discretization one_hot", later(k.Discretization, [-1.0, 0.0, 0.7], output_mode="one_hot"), Input((1,))),
        ("CategoryEncoding one_hot", later(k.CategoryEncoding, 5, output_mode="one_hot"), Input((1,), "int32", 5)),
        ("CategoryEncoding multi_hot", later(k.CategoryEncoding, 5, output_mode="multi_hot"), SMALL_INTEGERS),
        ("CategoryEncoding count", later(k.CategoryEncoding, 5, output_mode="count"), SMALL_INTEGERS),
        ("Hashing", later(k.Hashing, 7), SMALL_INTEGERS),
        ("HashedCrossing", lambda a, b: k.HashedCrossing(7)((a, b)), (Input((1,), "int32", 5),) * 2),
        ("IntegerLookup", lambda x: k.IntegerLookup(vocabulary=[1, 2, 4])(x), SMALL_INTEGERS),
        ("StringLookup", lambda x: k.StringLookup(vocabulary=["a", "b"])(x), TEXT),
        ("TextVectorization", lambda x: k.TextVectorization(vocabulary=["a", "b"])(x), TEXT),
        ("MelSpectrogram", later(k.MelSpectrogram, fft_length=32, sequence_stride=8, num_mel_bins=6, sampling_rate=200,
                                            min_freq=5), Input((128,))),
        ("STFTSpectrogram", later(k.STFTSpectrogram, frame_length=16, frame_step=8, fft_length=16), Input((64, 1))),
        ("STFTSpectrogram, dynamic length", later(k.STFTSpectrogram, frame_length=4, frame_step=2, fft_length=4),
         Input((None, 1))),
    ),
    fast=("CategoryEncoding count", "MelSpectrogram"),
)  # fmt: skip

SIZES = {"InceptionResNetV2": 75, "InceptionV3": 75, "Xception": 71}
"""The smallest image each family takes, where it is more than 32."""

FAMILIES = (
    "ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3",
    "MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "VGG19",
    "Xception",
)  # fmt: skip


def _family(name: str) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    return lambda image: getattr(keras.applications, name)(weights=None, input_tensor=image, classes=10).output


APPLICATIONS = tuple(
    Case("application", name, _family(name), (Input((SIZES.get(name, 32), SIZES.get(name, 32), 3)),))
    for name in FAMILIES
)

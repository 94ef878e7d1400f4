"""The operations of `keras.ops` that belong in a graph."""

import numpy as np
from keras import ops as o
from keras.layers import Lambda

from benchmarks.coverage.case import Input, cases, later

ROWS, SQUARE, IMAGE = Input((5, 6)), Input((4, 4)), Input((9, 9, 3))
TWO = (ROWS, ROWS)
INTEGERS, TRUTHS, INDICES = Input((5, 6), "int32", 9), Input((5, 6), "bool"), Input((4,), "int32", 5)
WAVE = Input((64,))

ELEMENTWISE = cases(
    "elementwise operation",
    ROWS,
    (
        *((name, getattr(o, name))
          for name in (
            "absolute", "arcsinh", "arctan", "ceil", "cos", "cosh", "erf", "erfc", "exp", "exp2", "expm1", "floor",
            "isfinite", "isinf", "isnan", "logical_not", "nan_to_num", "negative", "reciprocal", "round", "sign",
            "signbit", "sin", "sinc", "sinh", "square", "tan", "tanh", "trunc")),
        *((name, (lambda f: lambda x: f(o.absolute(x) + 1.5))(getattr(o, name)))
          for name in ("arccosh", "log", "log10", "log1p", "log2", "rsqrt", "sqrt")),
        *((name, (lambda f: lambda x: f(o.tanh(x)))(getattr(o, name)))
          for name in ("arccos", "arcsin", "arctanh", "erfinv")),
        *((name, getattr(o, name), TWO)
          for name in (
            "add", "arctan2", "divide", "equal", "floor_divide", "greater", "greater_equal", "hypot", "less",
            "less_equal", "logaddexp", "maximum", "minimum", "mod", "multiply", "not_equal", "subtract")),
        *((name, getattr(o, name), (TRUTHS, TRUTHS)) for name in ("logical_and", "logical_or", "logical_xor")),
        *((name, getattr(o, name), (INTEGERS, INTEGERS)) for name in ("bitwise_and", "bitwise_or", "bitwise_xor")),
        ("power", lambda a, b: o.power(o.absolute(a) + 0.1, b), TWO),
        ("clip", lambda x: o.clip(x, -0.5, 0.7)),
        ("cast int32", lambda x: o.cast(x * 3, "int32")),
        ("where", lambda m, a, b: o.where(m, a, b), (TRUTHS, ROWS, ROWS)),
        ("select", lambda a, b: o.select([a > 0, b > 0], [a, b], 3.0), TWO),
        ("digitize", lambda x: o.digitize(x, np.array([-1.0, 0.0, 1.0]))),
    ),
    fast=("signbit",),
)  # fmt: skip

REDUCTIONS = cases(
    "reduction",
    ROWS,
    (
        *((name, (lambda f: lambda x: f(x, axis=1))(getattr(o, name)))
          for name in (
            "amax", "amin", "argmax", "argmin", "average", "cumsum", "cumprod", "logsumexp", "mean", "median", "norm",
            "prod", "std", "sum", "var")),
        ("any", lambda x: o.any(x, axis=1), TRUTHS),
        ("all", lambda x: o.all(x, axis=1), TRUTHS),
        ("count_nonzero", lambda x: o.count_nonzero(x, axis=1), INTEGERS),
        ("quantile", lambda x: o.quantile(x, 0.3, axis=1)),
        ("moments", lambda x: list(o.moments(x, axes=[1]))),
        ("segment_sum", lambda x: o.segment_sum(x, np.array([0, 0, 1]), 2), Input((5,), batch=3)),
        ("segment_max", lambda x: o.segment_max(x, np.array([0, 0, 1]), 2), Input((5,), batch=3)),
        ("bincount", lambda x: o.bincount(x, minlength=9), Input((6,), "int32", 9)),
    ),
)  # fmt: skip

LINEAR = cases(
    "linear algebra",
    SQUARE,
    (
        ("einsum bij,bkj->bik", lambda a, b: o.einsum("bij,bkj->bik", a, b), TWO),
        ("einsum bij->bji", lambda x: o.einsum("bij->bji", x)),
        ("matmul", o.matmul, (SQUARE, SQUARE)),
        ("tensordot", lambda x: o.tensordot(x, np.ones((4, 3), np.float32), axes=1)),
        ("outer", lambda x: o.einsum("bi,bj->bij", x, x), Input((6,))),
        ("cross", o.cross, (Input((5, 3)), Input((5, 3)))),
        ("tril", o.tril),
        ("triu", o.triu),
        ("diagonal", lambda x: o.diagonal(x, axis1=1, axis2=2)),
        ("trace", lambda x: o.trace(x, axis1=1, axis2=2)),
        ("normalize", lambda x: o.normalize(x, axis=-1)),
        ("dot_product_attention", lambda a: o.dot_product_attention(a, a, a), Input((6, 2, 4))),
        ("inv", o.inv),
        ("det", o.det),
        ("solve", o.solve, (SQUARE, SQUARE)),
        ("cholesky", lambda x: o.cholesky(o.matmul(x, o.swapaxes(x, 1, 2)) + o.eye(4))),
        ("svd", lambda x: o.svd(x, compute_uv=False)),
    ),
)

ARRANGING = cases(
    "arranging",
    ROWS,
    (
        ("top_k", lambda x: list(o.top_k(x, 3))),
        ("sort", o.sort),
        ("sort axis 1", lambda x: o.sort(x, axis=1)),
        ("argsort", o.argsort),
        ("searchsorted", lambda x: o.searchsorted(np.array([-1.0, 0.0, 1.0], np.float32), o.reshape(x, (-1,)))),
        ("one_hot", lambda x: o.one_hot(x, 9), INTEGERS),
        ("multi_hot", lambda x: o.multi_hot(x, 9), INTEGERS),
        ("take", lambda x, i: o.take(np.ones((5, 2), np.float32) * 3, i, axis=0) + o.sum(x), (ROWS, INDICES)),
        ("take_along_axis", lambda x: o.take_along_axis(x, o.argsort(x, axis=1), axis=1)),
        ("slice x[:, 1:5:2, -2:]", lambda x: x[:, 1:5:2, -2:]),
        ("slice x[:, ::-1]", lambda x: x[:, ::-1]),
        ("slice_update", lambda x: o.slice_update(x, (0, 1, 2), np.ones((1, 2, 2), np.float32))),
        ("split", lambda x: o.split(x, 3, axis=2)),
        ("pad constant", lambda x: o.pad(x, ((0, 0), (1, 2), (0, 1)), constant_values=2.0)),
        ("pad reflect", lambda x: o.pad(x, ((0, 0), (1, 2), (0, 1)), mode="reflect")),
        ("pad symmetric", lambda x: o.pad(x, ((0, 0), (1, 2), (0, 1)), mode="symmetric")),
        ("roll", lambda x: o.roll(x, 2, axis=1)),
        ("flip", lambda x: o.flip(x, axis=1)),
        ("rot90", lambda x: o.rot90(x, axes=(1, 2))),
        ("tile", lambda x: o.tile(x, (1, 2, 3))),
        ("repeat", lambda x: o.repeat(x, 3, axis=1)),
        ("stack", lambda a, b: o.stack([a, b], axis=1), TWO),
        ("concatenate", lambda a, b: o.concatenate([a, b], axis=1), TWO),
        ("broadcast_to", lambda x: x + o.broadcast_to(np.ones((1, 6), np.float32), (5, 6))),
        ("moveaxis, expand_dims, squeeze", lambda x: o.squeeze(o.expand_dims(o.moveaxis(x, 1, 2), 1), 1)),
        ("meshgrid, arange", lambda x: x + o.meshgrid(o.arange(6.0), o.arange(5.0))[0]),
        ("scatter", lambda x: x + o.scatter(np.array([[1, 2]]), np.array([3.0], np.float32), (5, 6))),
        ("scatter_update", lambda x: o.scatter_update(x, np.array([[0, 1, 2]]), np.array([3.0], np.float32))),
        ("unique", lambda x: o.unique(x), Input((6,), "int32", 4)),
        ("nonzero", lambda x: list(o.nonzero(x)), INTEGERS),
        ("unfold", lambda x: o.unfold(x, 3), Input((4, 9, 9))),
    ),
)

LOOPS = cases(
    "control flow",
    ROWS,
    (
        (
            "while_loop",
            later(Lambda, lambda x: o.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, y * 2.0), (0, x))[1]),
        ),
        ("fori_loop", lambda x: o.fori_loop(0, 3, lambda i, y: y * 2.0, x)),
        ("cond", later(Lambda, lambda x: o.cond(o.sum(x) > 0, lambda: x * 2.0, lambda: x - 1.0))),
        ("map", lambda x: o.map(lambda row: row * 2.0, x)),
        ("vectorized_map", lambda x: o.vectorized_map(lambda row: row * 2.0, x)),
        ("scan", lambda x: o.scan(lambda c, y: (c + y, c * y), o.zeros((6,)), x[0])[1]),
        ("associative_scan", lambda x: o.associative_scan(o.add, x, axis=1)),
    ),
)

SIGNALS = cases(
    "signal and image",
    IMAGE,
    (
        ("rfft", lambda x: list(o.rfft(x)), WAVE),
        ("irfft", lambda x: o.irfft(o.rfft(x)), WAVE),
        ("fft", lambda x: list(o.fft((x, x))), WAVE),
        ("stft", lambda x: list(o.stft(x, 16, 8, 16)), WAVE),
        ("extract_sequences", lambda x: o.extract_sequences(x, 8, 4), WAVE),
        ("depth_to_space", lambda x: o.depth_to_space(x, 2), Input((4, 4, 8))),
        ("space_to_depth", lambda x: o.space_to_depth(x, 2), Input((4, 4, 2))),
        ("image.resize bilinear", lambda x: o.image.resize(x, (5, 12))),
        ("image.resize nearest", lambda x: o.image.resize(x, (5, 12), interpolation="nearest")),
        ("image.extract_patches", lambda x: o.image.extract_patches(x, (3, 3))),
        ("image.rgb_to_grayscale", o.image.rgb_to_grayscale),
        ("image.rgb_to_hsv", lambda x: o.image.rgb_to_hsv(o.sigmoid(x))),
        ("image.hsv_to_rgb", lambda x: o.image.hsv_to_rgb(o.sigmoid(x))),
        ("image.gaussian_blur", lambda x: o.image.gaussian_blur(x)),
        (
            "image.affine_transform",
            lambda x: o.image.affine_transform(x, np.array([1, 0, 1, 0, 1, 0, 0, 0], np.float32)),
        ),
        ("image.crop_images", lambda x: o.image.crop_images(x, 1, 1, target_height=4, target_width=4)),
        ("image.pad_images", lambda x: o.image.pad_images(x, 1, 1, target_height=12, target_width=12)),
    ),
)

OPERATIONS = (*ELEMENTWISE, *REDUCTIONS, *LINEAR, *ARRANGING, *LOOPS, *SIGNALS)

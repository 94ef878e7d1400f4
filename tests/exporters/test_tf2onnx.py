"""What tf2onnx alone cannot do comes through, by name and shape as asked; what cannot is told by its layer."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from pipeline import environment, graphs
from pipeline.errors import BuildError

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras
    import tensorflow as tf

    from benchmarks.coverage.every import BY_KEY
    from benchmarks.coverage.measure import measure
    from pipeline.exporters import tf2onnx
    from pipeline.exporters.tf2onnx import tracing

pytestmark = [
    # Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning"),
]

CLOSED = (
    "activation: celu",
    "activation: gelu",
    "arranging: meshgrid, arange",
    "arranging: searchsorted",
    "convolution: Conv2D groups",
    "convolution: Conv3D groups, same, stride 2",
    "elementwise operation: digitize",
    "elementwise operation: log1p",
    "elementwise operation: signbit",
    "linear algebra: cross",
    "normalisation: Normalization adapted",
    "preprocessing: CategoryEncoding count",
    "preprocessing: CategoryEncoding multi_hot",
    "preprocessing: Discretization",
    "preprocessing: IntegerLookup",
    "preprocessing: MelSpectrogram",
    "preprocessing: Resizing bicubic up",
    "preprocessing: Resizing bilinear of uint8",
    "preprocessing: Resizing bilinear down, antialiased",
    "preprocessing: Resizing lanczos3 down",
    "preprocessing: Resizing nearest down",
    "reduction: argmax",
    "reduction: bincount",
    "reduction: median",
    "reduction: quantile",
    "signal and image: rfft",
)
"""Cases of the coverage table that tf2onnx and onnxslim alone get wrong or refuse."""


@pytest.mark.parametrize("key", CLOSED)
def test_a_gap_of_tf2onnx_is_closed(key: str) -> None:
    found = measure(BY_KEY[key], built=())
    assert (found["export"], found.get("equal")) == ("ok", "ok")


def test_the_sign_of_zero_is_kept() -> None:
    values = np.array([[-1.5, -0.0, 0.0, 2.0]], np.float32)
    graph = tf2onnx.convert_function(
        lambda x: {"sign": keras.ops.signbit(x)}, (tf.TensorSpec((None, 4), tf.float32, "x"),), 18
    )
    (found,) = ort.InferenceSession(graph.SerializeToString()).run(None, {"x": values})
    assert found.tolist() == [[True, True, False, False]]


def test_a_bit_pattern_is_refused_not_converted_wrongly() -> None:
    with pytest.raises(BuildError, match=r"cannot convert Bitcast(.|\n)*anything but the sign"):
        tf2onnx.convert_function(
            lambda x: {"bits": tf.bitcast(x, tf.int32) + 1}, (tf.TensorSpec((None, 4), tf.float32, "x"),), 18
        )


def test_names_order_types_and_dynamic_dimensions_are_those_asked_for() -> None:
    kernel = tf.Variable(np.ones((3, 2), np.float32))

    def function(words: tf.Tensor, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"z_first": tf.cast(words, tf.float32) @ kernel, "a_second": image * 2, "as_it_is": words}

    signature = (tf.TensorSpec((None, None, 3), tf.int32, "z"), tf.TensorSpec((None, 4, None), tf.float32, "a"))
    graph = tf2onnx.convert_function(function, signature, 18)
    assert [(one.name, one.shape, one.dtype) for one in graphs.inputs(graph)] == [
        ("z", (None, None, 3), np.int32),
        ("a", (None, 4, None), np.float32),
    ]
    assert [(one.name, one.shape) for one in graphs.outputs(graph)] == [
        ("z_first", (None, None, 2)),
        ("a_second", (None, 4, None)),
        ("as_it_is", (None, None, 3)),
    ]


def test_a_saved_models_signature_is_converted(tmp_path: Path) -> None:
    layers = [keras.layers.Conv1D(8, 3, groups=2, activation="gelu"), keras.layers.Flatten(), keras.layers.Dense(300)]
    model = keras.Sequential([keras.Input((6, 4)), *layers])
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "saved")  # holds the variables that its signatures read
    serving = loaded.signatures["serving_default"]
    ((name, spec),) = serving.structured_input_signature[1].items()
    signature = (tf.TensorSpec(spec.shape, spec.dtype, name),)
    graph = tf2onnx.convert_function(lambda x: serving(**{name: x}), signature, 18)
    rows = np.random.default_rng(0).standard_normal((5, 6, 4), np.float32)
    (found,) = ort.InferenceSession(graph.SerializeToString()).run(None, {name: rows})
    np.testing.assert_allclose(found, np.asarray(model(rows)), atol=1e-5)


def named_model(layer: keras.layers.Layer, **options: object) -> keras.Model:
    image = keras.Input((6, 4), name="image", **options)
    return keras.Model(image, keras.layers.Flatten(name="flat")(layer(image)))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (
            lambda: named_model(keras.layers.Lambda(keras.ops.erfinv, name="inverse")),
            r"export: tf2onnx cannot convert Erfinv in layer 'inverse'\n  Tensorflow op \[.*Erfinv\] is not supported",
        ),
        (
            lambda: named_model(keras.layers.LSTM(3, stateful=True, name="memory"), batch_size=2),
            "export: layer 'memory' changes a variable of the model as it runs",
        ),
    ],
)
def test_what_cannot_be_converted_is_told_by_its_layer(model: object, words: str) -> None:
    built = model()
    with pytest.raises(BuildError, match=words) as caught:
        tf2onnx.convert_function(
            lambda image: {"y": built(image, training=False)},
            (tf.TensorSpec(built.inputs[0].shape, tf.float32, "image"),),
            18,
            [layer.name for layer in built.layers],
        )
    assert caught.value.hint


def test_an_input_that_nothing_depends_on_is_an_error() -> None:
    signature = (tf.TensorSpec((None, 3), tf.float32, "used"), tf.TensorSpec((None, 3), tf.float32, "unused"))
    with pytest.raises(BuildError, match=r"gave the graph the inputs used .*, not .*unused"):
        tf2onnx.convert_function(lambda used, unused: {"y": used * 2}, signature, 18)


def test_more_weights_than_an_onnx_file_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "LIMIT", 100)
    kernel = tf.Variable(np.ones((3, 20), np.float32))
    with pytest.raises(BuildError, match="an ONNX file holds 2 GB"):
        tf2onnx.convert_function(lambda x: {"y": x @ kernel}, (tf.TensorSpec((None, 3), tf.float32, "x"),), 18)


MEASURED = """
import resource
import numpy as np, tensorflow as tf
from pipeline.exporters import tf2onnx
sides = [(2500, 2500)] * 4
kernels = [tf.Variable(np.random.default_rng(i).standard_normal(side, np.float32)) for i, side in enumerate(sides)]
def function(x):
    for kernel in kernels:
        x = tf.nn.relu(x @ kernel)
    return {"y": x}
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
graph = tf2onnx.convert_function(function, (tf.TensorSpec((None, 2500), tf.float32, "x"),), 18)
print(peak() - before, graph.ByteSize() / 2**20)
"""


@pytest.mark.slow
def test_memory_stays_within_eight_times_the_weights() -> None:
    done = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    grown, size = map(float, done.stdout.split())
    assert 90 < size < 100
    assert grown < 8 * size

"""The article's CNN, a user's own, and the loading of what was saved."""

import importlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline import environment
from pipeline.errors import ArtifactError, DataError

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline import config, models
    from pipeline.models import calling, sources

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAPE = (28, 28, 1)


def find(source: str, shape: tuple[int, ...] = SHAPE, classes: int = 10) -> keras.Model:
    """Return the model that this source is."""
    return sources.find(config.Model(source=source), shape, classes, compiled=False)


@pytest.fixture(scope="module")
def cnn() -> keras.Model:
    """Return the article's CNN with random weights. Read only."""
    keras.utils.set_random_seed(0)
    return models.article_cnn(SHAPE, 10)


@pytest.fixture
def images(random: np.random.Generator) -> np.ndarray:
    """Return a few images of random pixels."""
    return random.integers(0, 256, (5, *SHAPE), np.uint8)


def test_the_network_is_the_articles(cnn: keras.Model) -> None:
    rescaling, convolution, pooling, flatten, dense = cnn.layers
    assert isinstance(rescaling, keras.layers.Rescaling)
    assert (rescaling.scale, rescaling.offset) == (1 / 255, 0)
    assert isinstance(convolution, keras.layers.Conv2D)
    assert (convolution.filters, convolution.kernel_size, convolution.strides) == (32, (3, 3), (1, 1))
    assert (convolution.padding, convolution.activation) == ("valid", keras.activations.relu)
    assert isinstance(pooling, keras.layers.MaxPooling2D)
    assert (pooling.pool_size, pooling.strides) == ((2, 2), (2, 2))
    assert isinstance(flatten, keras.layers.Flatten)
    assert isinstance(dense, keras.layers.Dense)
    assert (dense.units, dense.activation) == (10, keras.activations.softmax)
    # 32 · (3·3 + 1) in the convolution, 10 · (13·13·32 + 1) in the dense layer.
    assert cnn.count_params() == 320 + 54_090


def test_it_takes_raw_pixels_and_returns_probabilities(cnn: keras.Model, images: np.ndarray) -> None:
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in cnn.inputs] == [("image", "uint8", (None, *SHAPE))]
    found = np.asarray(cnn(images))
    assert (found.dtype, found.shape) == (np.float32, (5, 10))
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    scaled = keras.Sequential([keras.Input(SHAPE), *cnn.layers[1:]])(images.astype(np.float32) / 255)
    np.testing.assert_allclose(found, np.asarray(scaled), atol=1e-6)


@pytest.mark.parametrize(("shape", "classes"), [((32, 32, 3), 10), ((12, 20, 1), 2)])
def test_it_is_built_for_other_images_and_classes(shape: tuple[int, int, int], classes: int) -> None:
    model = find("article-cnn", shape, classes)
    assert np.asarray(model(np.zeros((3, *shape), np.uint8))).shape == (3, classes)


def test_a_saved_model_gives_the_same_outputs(cnn: keras.Model, images: np.ndarray, tmp_path: Path) -> None:
    cnn.save(tmp_path / "model.keras")
    loaded = sources.read(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(images)), np.asarray(cnn(images)))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)]).save(path)
    with pytest.raises(ArtifactError, match=f"{path} would run arbitrary code") as caught:
        sources.read(path)
    assert caught.value.exit_code == 3
    assert "register_keras_serializable" in caught.value.hint


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def change_a_weight(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def leave_only_the_metadata(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        metadata = archive.read("metadata.json")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", metadata)


def change_the_configuration(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = members["config.json"].replace(b"Conv2D", b"Conv9D")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize(
    "damage", [halve, empty, change_a_weight, leave_only_the_metadata, change_the_configuration, Path.unlink]
)
def test_a_damaged_file_is_named(cnn: keras.Model, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "model.keras"
    cnn.save(path)
    damage(path)
    with pytest.raises(ArtifactError, match=f"{path} cannot be loaded") as caught:
        sources.read(path)
    assert caught.value.exit_code == 3
    assert "model.save" in caught.value.hint


OWN = '''
import keras

@keras.saving.register_keras_serializable("own")
class Halved(keras.layers.Layer):
    """A layer that only this module knows."""
    def call(self, x):
        return keras.ops.cast(x, "float32") / 2

@keras.saving.register_keras_serializable("own")
class Subclass(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(10)
    def build(self, shape):
        self.dense.build((None, 784))
    def call(self, x):
        return self.dense(keras.ops.reshape(keras.ops.cast(x, "float32"), (-1, 784)))

def network(image, classes):
    x = keras.layers.Flatten()(Halved()(image))
    return keras.layers.Dense(classes, activation="softmax")(x)

def good(image_shape, classes):
    image = keras.Input(image_shape, dtype="uint8")
    return keras.Model(image, network(image, classes))

def without_input(image_shape, classes):
    return keras.Sequential([Halved(), keras.layers.Flatten(), keras.layers.Dense(classes)])

def no_model(image_shape, classes):
    return [keras.layers.Dense(classes)]

def raises():
    raise RuntimeError("no weights")

def exits():
    raise SystemExit(3)

def three_arguments(image_shape, classes, more):
    return good(image_shape, classes)

def trained():
    return good((28, 28, 1), 10)

def two_inputs(image_shape, classes):
    left, right = keras.Input(image_shape, name="left"), keras.Input(image_shape, name="right")
    return keras.Model([left, right], network(keras.layers.Add()([left, right]), classes))

def two_outputs(image_shape, classes):
    image = keras.Input(image_shape, name="image")
    return keras.Model(image, {"a": network(image, classes), "b": network(image, classes)})

def subclass(image_shape, classes):
    return Subclass()
'''


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a module with a user's builders."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_builders.py").write_text(OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.import_module("own_builders")
    return "own_builders"


@pytest.mark.parametrize("function", ["good", "without_input", "trained"])
def test_an_own_network_is_built_saved_and_loaded(own: str, function: str, images: np.ndarray, tmp_path: Path) -> None:
    model = find(f"{own}:{function}")
    expected = np.asarray(model(images))
    model.save(tmp_path / "model.keras")
    found = sources.read(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(found(images)), expected)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("no_model", "returned a list, not a keras.Model"),
        ("missing", "has no attribute 'missing'"),
        ("raises", "raised RuntimeError: no weights"),
        ("exits", "raised SystemExit: 3"),
        ("three_arguments", "takes 3 arguments"),
    ],
)
def test_an_own_function_that_builds_something_else_is_refused(own: str, function: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        find(f"{own}:{function}")
    assert f"{own}:{function}" in caught.value.message
    assert said in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("function", "inputs", "outputs"),
    [("two_inputs", ["left", "right"], 1), ("two_outputs", ["image"], ["a", "b"]), ("good", 1, 1)],
)
def test_inputs_and_outputs_have_the_models_own_names(
    own: str, function: str, inputs: list[str] | int, outputs: list[str] | int, images: np.ndarray
) -> None:
    model = find(f"{own}:{function}")
    found = calling.signature(calling.caller(model))
    for specs, wanted in ((found.inputs, inputs), (found.outputs, outputs)):
        names = [spec.name for spec in specs]
        assert names == wanted if isinstance(wanted, list) else len(names) == wanted
    infer, signature = calling.serving(model)
    results = infer(*(images.astype(spec.dtype.as_numpy_dtype) for spec in signature))
    assert [(name, tuple(one.shape[1:])) for name, one in results.items()] == [
        (spec.name, spec.shape[1:]) for spec in found.outputs
    ]


def test_a_subclassed_model_is_called_as_it_was_built_or_as_declared(
    own: str, images: np.ndarray, tmp_path: Path
) -> None:
    model = find(f"{own}:subclass")
    with pytest.raises(DataError, match="does not tell its inputs") as caught:
        calling.caller(model)
    assert "model.inputs" in caught.value.hint
    with pytest.raises(DataError, match="is no type and shape"):
        calling.caller(model, {"image": "uint8 28"})
    how = calling.caller(model, {"image": "uint8[?, 28, 28, 1]"})
    assert [str(spec) for spec in calling.signature(how).inputs] == ["image uint8[?, 28, 28, 1]"]
    told = calling.functional(model, how)
    told.save(tmp_path / "model.keras")
    loaded = sources.read(tmp_path / "model.keras")
    assert calling.signature(calling.caller(loaded)) == calling.signature(how)
    np.testing.assert_array_equal(np.asarray(loaded(images)["output"]), np.asarray(model(images)))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float16"])
def test_a_model_of_16_bits_is_widened_to_fp32(policy: str, images: np.ndarray) -> None:
    keras.config.set_dtype_policy(policy)
    try:
        model = models.article_cnn(SHAPE, 10)
    finally:
        keras.config.set_dtype_policy("float32")
    assert sources.policy(model) == policy
    wide = sources.in_fp32(model)
    assert sources.policy(wide) == "float32"
    assert {str(weight.dtype) for weight in wide.weights} == {"float32"}
    difference = np.abs(np.asarray(wide(images)) - np.asarray(model(images)).astype(np.float32)).max()
    assert 0 < difference < 0.02


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize` method")
def test_a_model_quantised_by_keras_is_refused() -> None:
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    model.quantize("int8")
    with pytest.raises(DataError, match="quantised by Keras") as caught:
        sources.in_fp32(model)
    assert "before model.quantize" in caught.value.hint


def test_a_legacy_h5_file_is_read(cnn: keras.Model, images: np.ndarray, tmp_path: Path) -> None:
    cnn.save(tmp_path / "model.h5")
    found = find(str(tmp_path / "model.h5"))
    np.testing.assert_array_equal(np.asarray(found(images)), np.asarray(cnn(images)))


@pytest.mark.parametrize("name", ["missing.keras", "folder", "https://example.org/model.keras"])
def test_what_is_no_file_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(DataError, match=r"model\.source"):
        find(name if ":" in name else str(tmp_path / name))

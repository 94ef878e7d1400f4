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

    from pipeline import models

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SHAPE = (28, 28, 1)


@pytest.fixture(scope="module")
def cnn() -> keras.Model:
    """Return the article's CNN with random weights. Read only."""
    keras.utils.set_random_seed(0)
    return models.build("article-cnn", SHAPE, 10)


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
    model = models.build("article-cnn", shape, classes)
    assert np.asarray(model(np.zeros((3, *shape), np.uint8))).shape == (3, classes)


def test_a_saved_model_gives_the_same_outputs(cnn: keras.Model, images: np.ndarray, tmp_path: Path) -> None:
    cnn.save(tmp_path / "model.keras")
    loaded = models.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(np.asarray(loaded(images)), np.asarray(cnn(images)))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2)]).save(path)
    with pytest.raises(ArtifactError, match=f"{path} would run arbitrary code") as caught:
        models.load(path)
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
        models.load(path)
    assert caught.value.exit_code == 3
    assert "make train" in caught.value.hint


OWN = '''
import keras

@keras.saving.register_keras_serializable("own")
class Halved(keras.layers.Layer):
    """A layer that only this module knows."""
    def call(self, x):
        return keras.ops.cast(x, "float32") / 2

class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
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

def more_classes(image_shape, classes):
    return good(image_shape, classes + 1)

def two_inputs(image_shape, classes):
    images = [keras.Input(image_shape), keras.Input(image_shape)]
    return keras.Model(images, network(keras.layers.Add()(images), classes))

def two_outputs(image_shape, classes):
    image = keras.Input(image_shape)
    return keras.Model(image, [network(image, classes), network(image, classes)])

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


@pytest.mark.parametrize("function", ["good", "without_input"])
def test_an_own_network_is_built_saved_and_loaded(own: str, function: str, images: np.ndarray, tmp_path: Path) -> None:
    model = models.build(f"{own}:{function}", SHAPE, 10)
    expected = np.asarray(model(images))
    model.save(tmp_path / "model.keras")
    found = models.load(tmp_path / "model.keras", f"{own}:{function}")
    np.testing.assert_array_equal(np.asarray(found(images)), expected)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("no_model", "returned a list, not a keras.Model"),
        ("more_classes", "(None, 11)"),
        ("two_inputs", "2 inputs"),
        ("two_outputs", "[(None, 10), (None, 10)]"),
        ("subclass", "Subclass"),
        ("missing", "has no attribute 'missing'"),
    ],
)
def test_an_own_function_that_builds_something_else_is_refused(own: str, function: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        models.build(f"{own}:{function}", SHAPE, 10)
    assert f"{own}:{function}" in caught.value.message
    assert said in caught.value.message
    assert caught.value.exit_code == 2

"""A model that is none, is damaged, or is not what it should be: a clear error, and nothing lost."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from commands import Run
from small_models import FEATURES, Refused, Stage, classifier

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
    "ignore:You are saving your model as an HDF5 file:UserWarning",
    "ignore:Layer InputLayer does not have a `quantize` method:UserWarning",
)


def text(path: Path) -> None:
    path.write_text("hello")


def truncated(path: Path) -> None:
    classifier().save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(path: Path) -> None:
    classifier().save(path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def members(path: Path, **replaced: bytes) -> None:
    classifier().save(path)
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (found | {"config.json": replaced["config"]}).items():
            archive.writestr(name, content)


def without_configuration(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no model")


def a_layer(path: Path) -> None:
    members(path, config=json.dumps(keras.saving.serialize_keras_object(keras.layers.Dense(3))).encode())


def with_lambda(path: Path) -> None:
    taken = keras.Input((FEATURES,))
    doubled = keras.layers.Lambda(lambda x: x * 2)(taken)
    keras.Model(taken, keras.layers.Dense(3, activation="softmax")(doubled)).save(path)


def weights_alone(path: Path) -> None:
    weights = path.with_name("only.weights.h5")
    classifier().save_weights(weights)
    weights.rename(path)


def quantised(path: Path) -> None:
    model = classifier()
    model.quantize("int8")
    model.save(path)


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("bad.keras", text, "it is no .keras file, or damaged"),
        ("bad.keras", without_configuration, "no item named 'config.json'"),
        ("bad.keras", truncated, "it is no .keras file, or damaged"),
        ("bad.keras", changed, "does not have the checksum"),
        ("bad.keras", lambda path: members(path, config=b"[]"), "cannot be loaded"),
        ("bad.keras", a_layer, "holds a Dense, not a keras.Model"),
        ("bad.keras", with_lambda, "would run arbitrary code"),
        ("bad.keras", quantised, "is quantised by Keras (int8"),
        ("bad.keras", Path.mkdir, "is a folder without saved_model.pb"),
        ("bad", Path.mkdir, "is a folder without saved_model.pb"),
        ("bad.keras", lambda path: None, "does not exist in"),
        ("bad.pt", text, "a file of a kind that cannot be read"),
        ("bad.h5", text, "file signature not found"),
        ("bad.h5", truncated, "truncated file"),
        ("bad.h5", with_lambda, "would run arbitrary code"),
        ("bad.h5", weights_alone, "No model config found"),
    ],
)
def test_a_file_that_is_no_model(name: str, make: Callable[[Path], None], said: str, refused: Refused) -> None:
    make(Path(name))
    error = refused("train", {"model.source": name})
    assert error.exit_code == 2
    assert "model.source" in error.message or "quantised" in said
    assert name in error.message or "quantised" in said
    assert said in error.message
    assert error.hint


@pytest.mark.parametrize(
    "address", ["https://example.org/m.keras", "gs://bucket/m", "hf://google/vit", "s3://b/m.onnx"]
)
def test_an_address_where_a_file_belongs(address: str, refused: Refused) -> None:
    error = refused("train", {"model.source": address})
    assert error.exit_code == 2
    assert f"{address!r} is an address on the network" in error.message
    assert "Download it" in error.hint


REGISTERED = '@keras.saving.register_keras_serializable("own")\n'
LAYERS = """
import keras

{decorator}class {name}(keras.layers.Layer):
    def call(self, x):
        return x * 2
{after}"""


def saved_elsewhere(module: str, name: str, *, registered: bool) -> Path:
    """Save a model with a layer of a module's own in another process: this one does not know it."""
    path, code = Path(f"{module}.keras"), Path(f"{module}.py")
    code.write_text(LAYERS.format(decorator=REGISTERED if registered else "", name=name, after=""))
    program = (
        f"import keras, {module}\ntaken = keras.Input(({FEATURES},), name='a')\n"
        f"keras.Model(taken, keras.layers.Dense(3, activation='softmax')({module}.{name}()(taken))).save('{path}')"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    return path


@pytest.mark.long
def test_a_layer_whose_module_is_not_named(refused: Refused, stage: Stage) -> None:
    path = saved_elsewhere("twice_layers", "Twice", registered=True)
    error = refused("train", {"model.source": str(path)})
    assert error.exit_code == 2
    assert f"{path} needs the class 'Twice' of twice_layers" in error.message
    assert "model.imports=twice_layers" in error.hint
    wrong = refused("train", {"model.source": str(path), "model.imports": ["no_such_module"]})
    assert "model.imports = 'no_such_module' cannot be imported" in wrong.message
    named = {"model.source": str(path), "model.imports": ["twice_layers"], "engine.precisions": "fp32"}
    for name in ("train", "export", "engine", "validate"):
        stage(name, named)


def test_a_layer_that_was_saved_without_being_registered(refused: Refused, stage: Stage) -> None:
    path = saved_elsewhere("thrice_layers", "Thrice", registered=False)
    error = refused("train", {"model.source": str(path)})
    assert "needs the class 'Thrice' of thrice_layers" in error.message
    line = "keras.saving.get_custom_objects()['Thrice'] = Thrice"
    assert line in error.hint
    Path("thrice_layers.py").write_text(LAYERS.format(decorator="", name="Thrice", after=f"\n{line}\n"))
    stage("train", {"model.source": str(path), "model.imports": ["thrice_layers"]})


FUNCTIONS = """
import sys
import keras
import numpy as np
import tensorflow as tf

def good():
    taken = keras.Input((4,), name="a")
    return keras.Model(taken, keras.layers.Dense(3, activation="softmax", name="p")(taken))

def nothing(): pass
def a_path(): return "m.keras"
def a_pair(): return good(), 3
def a_traced_model(): return tf.function(good())
def raises(): raise RuntimeError("no weights here")
def exits(): sys.exit(0)
def three(a, b, c): return good()
def keyword(*, size): return good()
not_one = 3

def of_a_local_class():
    class Local(keras.layers.Layer):
        def call(self, x):
            return x * 2
    taken = keras.Input((4,), name="a")
    return keras.Model(taken, keras.layers.Dense(3, activation="softmax")(Local()(taken)))

def of_nan():
    model = good()
    model.set_weights([weights * np.nan for weights in model.get_weights()])
    return model

class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.dense = keras.layers.Dense(3)
    def call(self, x):
        return self.dense(x)

def prints():
    print("hello from the user's function")
    return good()
"""


@pytest.mark.parametrize(
    ("function", "code", "said"),
    [
        ("nothing", 2, "returned nothing"),
        ("a_path", 2, "returned a str, not a keras.Model"),
        ("a_pair", 2, "returned a tuple"),
        ("a_traced_model", 2, "returned a Function"),
        ("raises", 2, "raised RuntimeError: no weights here"),
        ("exits", 2, "raised SystemExit: 0"),
        ("three", 2, "takes 3 arguments"),
        ("keyword", 2, "missing 1 required keyword-only argument: 'size'"),
        ("not_one", 2, "is a int, not a function"),
        ("absent", 2, "has no attribute 'absent'"),
        ("Subclassed", 2, "does not tell its inputs"),
        ("of_nan", 2, "returns NaN in p"),
        ("of_a_local_class", 3, "needs the class 'Local'"),
    ],
)
def test_a_function_that_gives_no_model(function: str, code: int, said: str, refused: Refused) -> None:
    Path("own_functions.py").write_text(FUNCTIONS)
    error = refused("train", {"model.source": f"own_functions:{function}", "train.epochs": 0})
    sys.modules.pop("own_functions", None)
    assert error.exit_code == code
    assert said in error.message
    assert error.hint


@pytest.mark.parametrize(
    "code", ["def f(: pass", "import sys; sys.exit(5)", "raise RuntimeError('no')", "import no_such"]
)
def test_a_module_that_cannot_be_imported(code: str, refused: Refused) -> None:
    Path("own_broken.py").write_text(code)
    Path("own_package").mkdir()
    Path("own_package/__init__.py").write_text(code)
    for source in ("own_broken:f", "own_package.module:f"):
        error = refused("train", {"model.source": source})
        assert error.exit_code == 2
        assert f"model.source = '{source}' cannot be imported" in error.message


@pytest.mark.long
def test_what_a_function_prints_does_no_harm(stage: Stage, pipeline: Run, tmp_path: Path) -> None:
    Path("own_printing.py").write_text(FUNCTIONS + "\nprint('hello from the module')\n")
    options = ("--set=model.source=own_printing:prints", "--set=data.source=d.npz", "--set=train.epochs=0")
    done = pipeline("train", *options)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    told = pipeline("doctor", "--json", *options)
    assert told.returncode == 0, told.stderr
    json.load(io.StringIO(told.stdout))


SUBCLASSED = {"model.source": "own_subclassed:Subclassed", "train.epochs": 0}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("flaot32[?, 4]", "is no type and shape"),
        ("float32", "is no type and shape"),
        ("string[?, 4]", "is no type of numbers"),
        ("float32[?, -4]", "'-4' is the size of no axis"),
        ("float32[?, 0]", "'0' is the size of no axis"),
        ("float32[]", "has no axis for the batch"),
        ("float32[?]", "cannot be called with a float32[?]"),
        ("float32[?, 5]", "holds samples of shape [4], and the model's input a takes [5]"),
    ],
)
def test_declared_inputs_that_do_not_fit(declared: str, said: str, refused: Refused) -> None:
    Path("own_subclassed.py").write_text(FUNCTIONS)
    error = refused("train", SUBCLASSED | {"model.inputs": {"a": declared}})
    sys.modules.pop("own_subclassed", None)
    assert error.exit_code == 2
    assert said in error.message
    assert error.hint


def test_declared_inputs_of_a_model_that_tells_its_own(refused: Refused, stage: Stage) -> None:
    strange = refused("train", {"model.inputs": {"zzz": "float32[?, 4]"}})
    assert "model.inputs names 'zzz', and the model takes a float32[?, 4]" in strange.message
    other = refused("train", {"model.inputs": {"a": "float32[?, 9]"}})
    assert "model.inputs.a = 'float32[?, 9]', and the model takes a float32[?, 4]" in other.message
    stage("train", {"model.inputs": {"a": "float32[?, 4]"}})


def test_the_command_says_so_in_two_lines(stage: Stage, pipeline: Run, tmp_path: Path) -> None:
    stage("train")
    np.savez("d.npz", x=np.zeros((20, FEATURES + 1), np.float32))
    done = pipeline("train", "--set=model.source=m.keras", "--set=data.source=d.npz")
    assert done.returncode == 2
    assert "error: d.npz, train split: its input holds samples of shape [5], and the model's input a" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "artifacts/train/model.keras").is_file()

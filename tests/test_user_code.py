"""Functions of the user's own that raise, exit, fork or close standard output: told as theirs, and never a success."""

import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from commands import Run, run_python

from pipeline import data, user_code
from pipeline.config import Data, Model
from pipeline.errors import DataError
from pipeline.judging.own import Own
from pipeline.models import sources
from pipeline.training import callbacks

THEIRS = """
import os
import sys
import keras
import numpy as np

def connect():
    {does}

def function(*arguments):
    connect()

class Watching(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        connect()

def watching():
    return Watching()
"""

OUTPUTS = {"y": np.zeros((2, 1), np.float32)}


def scored(path: str) -> None:
    Own.named(path).scores(OUTPUTS, OUTPUTS)


def watched(path: str) -> None:
    (callback,) = callbacks.own(path.replace(":function", ":watching"))
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(OUTPUTS["y"], OUTPUTS["y"], verbose=0, callbacks=[callback])


CALLED: dict[str, Callable[[str], object]] = {
    "data.source": lambda path: data.load(Data(source=path)),
    "model.source": lambda path: sources.find(Model(source=path), (4,), 2, compiled=False),
    "validate.task": scored,
    "train.callbacks": lambda path: callbacks.own(path),
    "train.callbacks, while training": watched,
}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module of a user's own whose function does this; return the function's path."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(does: str) -> str:
        (tmp_path / "theirs.py").write_text(THEIRS.format(does=does), encoding="utf-8")
        monkeypatch.delitem(sys.modules, "theirs", raising=False)
        return "theirs:function"

    return write


@pytest.mark.parametrize("key", CALLED)
@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("raise ConnectionError('the database is down')", "raised ConnectionError: the database is down"),
        ("sys.exit()", "raised SystemExit: "),
        ("sys.exit(7)", "raised SystemExit: 7"),
        ("os._exit(0)", "raised SystemExit: 0"),
    ],
)
def test_what_a_users_function_raises_is_told_with_its_own_calls(
    key: str, does: str, said: str, theirs: Callable[[str], str]
) -> None:
    with pytest.raises(DataError) as caught:
        CALLED[key](theirs(does))
    first, *calls = caught.value.message.splitlines()
    assert key.partition(",")[0] in first
    assert "theirs:" in first
    assert said in first
    assert "in connect" in calls[-2]
    assert does in calls[-1]
    assert not any("pipeline/" in line or "site-packages" in line for line in calls), calls


def test_a_module_that_exits_at_its_top_level_cannot_be_imported(tmp_path: Path, theirs: Callable[[str], str]) -> None:
    (tmp_path / "exiting.py").write_text("import sys\nsys.exit(0)\n", encoding="utf-8")
    theirs("pass")
    with pytest.raises(DataError) as caught:
        user_code.import_module("exiting", "model.imports")
    assert "model.imports = 'exiting' cannot be imported: SystemExit: 0" in caught.value.message
    assert "line 2" in caught.value.message


EXITING_LAYER = """
import os
import keras

def load(shape, classes):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), Exiting()])

class Exiting(keras.layers.Dense):
    def __init__(self):
        super().__init__(10)

    def get_config(self):
        os._exit(0)
"""


def test_a_layer_that_exits_while_its_model_is_saved_is_no_success(pipeline: Run, tmp_path: Path) -> None:
    (tmp_path / "exiting_layer.py").write_text(EXITING_LAYER, encoding="utf-8")
    done = pipeline("train", "--set=data.name=digits", "--set=model.source=exiting_layer:load", "--set=train.epochs=0")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "train was ended by SystemExit" in done.stderr
    assert "in get_config" in done.stderr
    assert not (tmp_path / "artifacts/train").exists()


CLOSING = """
import os, sys
import numpy as np

def load():
    sys.stdout.close()
    sys.stderr.close()
    os.close(1)
    return np.zeros((40, 4), np.float32), np.arange(40) % 2
"""


def test_standard_output_closed_by_a_users_function_is_open_afterwards(tmp_path: Path) -> None:
    (tmp_path / "closing.py").write_text(CLOSING, encoding="utf-8")
    program = (
        "import sys; sys.path.insert(0, '')\n"
        "from pipeline import data; from pipeline.config import Data\n"
        "print(len(data.load(Data(source='closing:load')).test)); print('well', file=sys.stderr)"
    )
    done = run_python(program, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "well\n")


FORKING = """
import os
import numpy as np

def load():
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return np.zeros((40, 4), np.float32), np.arange(40) % 2
"""


@pytest.mark.filterwarnings("ignore:This process")
def test_a_process_that_a_users_function_forks_goes_no_further(tmp_path: Path) -> None:
    (tmp_path / "forking.py").write_text(FORKING, encoding="utf-8")
    program = (
        "import sys; sys.path.insert(0, '')\n"
        "from pipeline import data; from pipeline.config import Data\n"
        "data.load(Data(source='forking:load')); print('went on')"
    )
    done = run_python(program, tmp_path)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr

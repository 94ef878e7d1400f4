"""ONNX files and SavedModels that are not what they should be, and those of one batch size alone."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf
from onnx import TensorProto, helper, numpy_helper
from small_models import FEATURES, Refused, Stage

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ONNX = {"model.source": "model.onnx", "engine.precisions": "fp32"}


def graph(**changes: Any) -> onnx.ModelProto:
    """Return a classifier of one layer as an ONNX model, with something changed."""
    kind, batch = changes.get("kind", TensorProto.FLOAT), changes.get("batch", "n")
    weights = np.ones((FEATURES, 3), helper.tensor_dtype_to_np_dtype(kind))
    weights[0] = [1, 2, 3]
    inputs = [helper.make_tensor_value_info("a", kind, [batch, FEATURES])]
    if changes.get("weights_listed"):
        inputs.append(helper.make_tensor_value_info("w", kind, [FEATURES, 3]))
    first = helper.make_node(changes.get("operator", "Gemm"), ["a", "w"], ["g"], domain=changes.get("domain", ""))
    opsets = [helper.make_opsetid("", changes.get("opset", 18))]
    if "domain" in changes:
        opsets.append(helper.make_opsetid(changes["domain"], 1))
    return helper.make_model(
        helper.make_graph(
            [first, helper.make_node("Softmax", ["g"], ["p"])],
            "small",
            inputs,
            [helper.make_tensor_value_info("p", kind, [batch, 3])],
            [numpy_helper.from_array(weights, "w")],
        ),
        opset_imports=opsets,
        ir_version=9,
    )


def external(location: str) -> bytes:
    """Write the model with its weights in another file, and return those."""
    model = graph()
    weights = model.graph.initializer[0]
    content = weights.raw_data
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    Path("model.onnx").write_bytes(model.SerializeToString())
    return content


def written(**changes: Any) -> Callable[[], None]:
    """Return what writes the changed model."""
    return lambda: onnx.save(graph(**changes), "model.onnx")


def halved() -> None:
    written()()
    content = Path("model.onnx").read_bytes()
    Path("model.onnx").write_bytes(content[: len(content) // 2])


def absolute() -> None:
    Path("weights.bin").write_bytes(external(str(Path("weights.bin").resolve())))


def linked() -> None:
    Path("elsewhere.bin").write_bytes(external("weights.bin"))
    Path("weights.bin").symlink_to("elsewhere.bin")


def in_a_linked_folder() -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/weights.bin").write_bytes(external("folder/weights.bin"))
    Path("folder").symlink_to("elsewhere")


def hard_linked() -> None:
    Path("elsewhere.bin").write_bytes(external("weights.bin"))
    Path("weights.bin").hardlink_to("elsewhere.bin")


def pipe() -> None:
    external("weights.bin")
    os.mkfifo("weights.bin")


def unnamed() -> None:
    model = graph()
    weights = model.graph.initializer[0]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    Path("model.onnx").write_bytes(model.SerializeToString())


def before_the_file() -> None:
    Path("weights.bin").write_bytes(external("weights.bin"))
    model = onnx.load("model.onnx", load_external_data=False)
    model.graph.initializer[0].external_data[1].value = "-8"
    Path("model.onnx").write_bytes(model.SerializeToString())


def in_an_attribute() -> None:
    """Have a Constant node in the body of an If read a file."""
    secret = TensorProto(name="s", data_type=TensorProto.UINT8, dims=[1], data_location=TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value="/etc/hostname")
    body = helper.make_graph(
        [helper.make_node("Constant", [], ["s"], value=secret)],
        "body",
        [],
        [helper.make_tensor_value_info("s", TensorProto.UINT8, [1])],
    )
    model = graph()
    model.graph.node.append(helper.make_node("If", ["c"], ["d"], then_branch=body, else_branch=body))
    Path("model.onnx").write_bytes(model.SerializeToString())


def short() -> None:
    Path("weights.bin").write_bytes(external("weights.bin")[:10])


def without_output() -> None:
    model = graph()
    del model.graph.output[:]
    onnx.save(model, "model.onnx")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda: Path("model.onnx").write_text("hello"), "is not a readable ONNX model"),
        (lambda: Path("model.onnx").write_text(""), "the ONNX checker rejects"),
        (halved, "is not a readable ONNX model"),
        (Path("model.onnx").mkdir, "is a folder without saved_model.pb"),
        (written(operator="Mine", domain="com.acme"), "com.acme:Mine"),
        (written(operator="Gemmm"), "No Op registered for Gemmm"),
        (written(opset=99), "Opset 99"),
        (written(kind=TensorProto.FLOAT16), "is not in FP32: it has FLOAT16"),
        (lambda: external("../outside.bin"), "'../outside.bin', which is a path out of the model's folder"),
        (lambda: external("in/..\\..\\outside.bin"), "which is a path out of the model's folder"),
        (absolute, "which is an absolute path"),
        (lambda: external("C:\\weights.bin"), "which is an absolute path"),
        (lambda: external("weights.bin\0"), "which is no name of a file"),
        (lambda: external(""), "which is no name of a file"),
        (unnamed, "tensor 'w' names 0 files for its content"),
        (linked, "weights.bin is a symbolic link"),
        (in_a_linked_folder, "folder is a symbolic link"),
        (hard_linked, "which has 2 names: it is a hard link"),
        (pipe, "which is no ordinary file"),
        (lambda: (external("weights.bin"), Path("weights.bin").mkdir()), "which is no ordinary file"),
        (lambda: external("weights.bin"), "which is not there"),
        (short, "tensor 'w' is said to be 48 bytes from 0 on in 'weights.bin', which has 10"),
        (before_the_file, "from -8 on in 'weights.bin', which has 48"),
        (in_an_attribute, "'/etc/hostname', which is an absolute path"),
        (without_output, "the model has no output"),
    ],
)
def test_an_onnx_file_that_cannot_be_taken(write: Callable[[], None], said: str, refused: Refused) -> None:
    write()
    error = refused("train", ONNX)
    assert error.exit_code == 2
    assert said in error.message
    assert error.hint


def test_weights_among_the_inputs_are_no_inputs(stage: Stage) -> None:
    written(weights_listed=True)()
    stage("train", ONNX)
    stage("export", ONNX)


def test_what_is_no_keras_model_is_not_trained(refused: Refused) -> None:
    written()()
    error = refused("train", ONNX | {"train.epochs": 3})
    assert error.exit_code == 2
    assert "model.onnx cannot be trained" in error.message
    assert "train.epochs" in error.hint


@pytest.mark.parametrize("batch", [1, 7])
def test_a_model_of_one_batch_size_is_judged_in_it(batch: int, stage: Stage) -> None:
    written(batch=batch)()
    options = ONNX | {"engine.precisions": "fp32,int8"}
    stage("train", options)
    assert f"test samples: batches of {batch}\n" in stage("export", options)
    assert f"the model takes batches of {batch} alone" in stage("engine", options)
    assert f"batches of {batch}: results of a sample differ" in stage("validate", options)


class Program(tf.Module):
    """A model with several functions, some of which reach beyond it."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.eye(FEATURES, 3, dtype=np.float32))

    @tf.function(input_signature=[tf.TensorSpec((None, FEATURES), tf.float32, name="a")])  # type: ignore[untyped-decorator]
    def plain(self, a: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"p": tf.nn.softmax(a @ self.weights)}


class Reaching(Program):
    """One that reads a file, and one that runs Python."""

    @tf.function(input_signature=[tf.TensorSpec((None, FEATURES), tf.float32, name="a")])  # type: ignore[untyped-decorator]
    def reads(self, a: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.strings.length(tf.io.read_file("/etc/hostname"))
        return {"p": a @ self.weights + tf.cast(size, tf.float32)}

    @tf.function(input_signature=[tf.TensorSpec((None, FEATURES), tf.float32, name="a")])  # type: ignore[untyped-decorator]
    def runs_python(self, a: tf.Tensor) -> dict[str, tf.Tensor]:
        doubled = tf.numpy_function(lambda x: x * 2, [a], tf.float32)
        return {"p": tf.ensure_shape(doubled, (None, FEATURES)) @ self.weights}


class OfWords(Program):
    """One that takes strings."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="words")])  # type: ignore[untyped-decorator]
    def lengths(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"p": tf.cast(tf.strings.length(words), tf.float32)[:, None]}


SAVED = {"model.source": "saved"}
TRUSTED = SAVED | {"model.trust": True}


def test_a_saved_model_is_run_only_where_it_is_trusted(refused: Refused, stage: Stage) -> None:
    program = Reaching()
    tf.saved_model.save(program, "saved", signatures={"serving_default": program.reads, "other": program.runs_python})
    error = refused("train", SAVED)
    assert error.exit_code == 2
    assert "saved is a SavedModel, which is a program that can read and write files" in error.message
    assert "operators that reach beyond the model: PyFunc, ReadFile" in error.message
    assert "model.trust=true" in error.hint
    assert "saved has operators that reach beyond the model: PyFunc, ReadFile" in stage("train", TRUSTED)
    exported = refused("export", TRUSTED)
    assert exported.exit_code == 5
    assert "ReadFile" in exported.message


def test_a_signature_is_asked_for_where_there_are_several(refused: Refused, stage: Stage) -> None:
    program = Program()
    tf.saved_model.save(program, "saved", signatures={"alpha": program.plain, "beta": program.plain})
    error = refused("train", TRUSTED)
    assert "has 2 signatures, alpha, beta, and none is serving_default" in error.message
    assert "model.signature=alpha" in error.hint
    assert "saved has alpha, beta" in refused("train", TRUSTED | {"model.signature": "gamma"}).message
    stage("train", TRUSTED | {"model.signature": "beta"})
    tf.saved_model.save(program, "unsigned", signatures={})
    assert "unsigned has no signature" in refused("train", TRUSTED | {"model.source": "unsigned"}).message


@pytest.mark.parametrize("content", [b"garbage", b""])
def test_a_folder_that_only_looks_like_a_saved_model(content: bytes, refused: Refused) -> None:
    Path("saved").mkdir()
    Path("saved/saved_model.pb").write_bytes(content)
    error = refused("train", TRUSTED)
    assert error.exit_code == 2
    assert "model.source saved is no SavedModel" in error.message
    inside = refused("train", TRUSTED | {"model.source": "saved/saved_model.pb"})
    assert "model.source=saved" in inside.hint


def test_strings_are_refused_by_the_name_of_the_input(refused: Refused) -> None:
    program = OfWords()
    tf.saved_model.save(program, "saved", signatures={"serving_default": program.lengths})
    error = refused("train", TRUSTED)
    assert "the model's input words is of strings" in error.message
    assert "StringLookup" in error.hint

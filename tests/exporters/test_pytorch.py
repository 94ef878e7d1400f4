"""PyTorch's exporter: finding it, what it says where it fails, and, where it is set up, what it exports."""

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from commands import ROOT, Run, read

from pipeline import data, environment, exporters, graphs, precisions
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.exporters import Exportable
from pipeline.graphs import keras_layers
from pipeline.quantization import calibration
from pipeline.tensors import Signature, TensorSpec

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline import models
    from pipeline.exporters import pytorch
    from pipeline.exporters.pytorch import venv, words
    from pipeline.models import calling

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def exportable(model: keras.Model) -> Exportable:
    """Return a Keras model as the export stage hands it on."""
    signature = calling.signature(calling.caller(model))
    return Exportable(model.name, "keras", Path(), signature, calling.serving(model), model)


def overwriting() -> keras.Model:
    """Return a model with an operator that tf2onnx cannot convert."""
    x = keras.Input((8,), name="x")
    return keras.Model(x, keras.ops.slice_update(x, (0, 2), keras.layers.Dense(2)(x)))


def recurrent(length: int | None) -> keras.Model:
    """Return a recurrent classifier of sequences of this length."""
    x = keras.Input((length, 4), name="x")
    hidden = keras.layers.LSTM(8, name="memory")(x)
    return keras.Model(x, keras.layers.Dense(3, name="scores")(hidden))


def test_it_is_found_in_the_working_directory_or_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(venv.VARIABLE, raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "elsewhere" / ".venv"))
    with pytest.raises(BackendUnavailable, match=r"there is no \.venv-pytorch/(.|\n)*make pytorch-exporter"):
        venv.python()
    beside = tmp_path / "elsewhere" / ".venv-pytorch" / "bin" / "python"
    beside.parent.mkdir(parents=True)
    beside.touch()
    assert venv.python() == beside
    monkeypatch.setenv(venv.VARIABLE, sys.executable)
    assert venv.python() == Path(sys.executable)
    monkeypatch.setenv(venv.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(BackendUnavailable, match="none is no Python"):
        venv.python()


def test_an_environment_without_it_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(venv, "PACKAGES", ("keras", "not-on-this-machine"))
    monkeypatch.setenv(venv.VARIABLE, sys.executable)
    with pytest.raises(BackendUnavailable, match="lacks not-on-this-machine"):
        venv.versions()


def test_a_process_that_does_not_answer_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(venv.VARIABLE, sys.executable)
    with pytest.raises(BuildError, match="ended with exit code 1: FileNotFoundError"):
        venv.run(tmp_path / "request.json", tmp_path / "no such folder" / "answer.json")


def test_where_it_is_absent_tf2onnxs_refusal_says_how_to_set_it_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(venv.VARIABLE, str(tmp_path / "none"))
    able = exporters.by_file("keras")["model.onnx"]
    with pytest.raises(BuildError) as raised:
        exporters.first_right(able, exportable(overwriting()), tmp_path / "model.onnx", 18, lambda _: None, print)
    assert "tf2onnx cannot convert" in raised.value.message
    assert "Another exporter, pytorch, could be tried" in raised.value.message
    assert "make pytorch-exporter" in raised.value.message


SIGNATURE = Signature(
    (TensorSpec("left", (None, 4), np.dtype("f4")), TensorSpec("x", (None, None), np.dtype("f4"))), ()
)


@pytest.mark.parametrize(
    ("kind", "message", "told"),
    [
        (
            "UserError",
            "Constraints violated (L['tensors'][1].size()[1])! For more information, run with TORCH_LOGS.\n  - You "
            "marked L['tensors'][1].size()[1] as dynamic but your code specialized it to be a constant (32). If",
            "export: under PyTorch the model works for one size only of axis 1 of input 'x'",
        ),
        (
            "ConversionError",
            "Failed to convert the exported program to an ONNX model. \x1b[96mThis is step 3/3\x1b[0m of exporting\n"
            "<class 'torch.onnx._internal.exporter._errors.DispatchError'>: No ONNX function found for "
            "<OpOverload(op='aten.linalg_cholesky_ex', overload='default')>. Failure message: No decompositions",
            "export: PyTorch's exporter has no ONNX operator for aten.linalg_cholesky_ex",
        ),
        (
            "ModuleNotFoundError",
            "No module named 'tensorflow'",
            "export: a module that registers the model's own layers cannot be imported beside PyTorch: No module named "
            "'tensorflow'",
        ),
        (
            "TypeError",
            "<class 'keras.src.models.functional.Functional'> could not be deserialized properly. Please ensure",
            "export: PyTorch's exporter cannot make a layer or model of your own again",
        ),
        (
            "ValueError",
            "\x1b[1mone\x1b[0m\n\ntwo\nthree\nfour",
            "export: PyTorch's exporter failed: ValueError\n  one\n  two\n  three",
        ),
    ],
)
def test_its_words_are_shortened(kind: str, message: str, told: str) -> None:
    assert words.told(kind, message, SIGNATURE).message == told


@pytest.mark.pytorch
@pytest.mark.slow
def test_the_articles_nodes_have_the_names_of_its_layers(tmp_path: Path) -> None:
    keras.utils.clear_session()  # Keras numbers layers of one kind through a whole process
    article = models.article_cnn((28, 28, 1), 10)
    pytorch.write(exportable(article), tmp_path / "model.onnx", 18)
    graph, layers = graphs.load(tmp_path / "model.onnx"), keras_layers.names(article)
    operators = {node.name: node.op_type for node in graph.graph.node}
    found = {one.name: {operators[node] for node in one.nodes} for one in keras_layers.groups(graph, layers)}
    assert set(found) <= set(layers)
    assert "Conv" in found["conv2d"]
    assert found["probabilities"] & {"MatMul", "Gemm"}
    kept = {operators[node] for node in keras_layers.resolve(graph, ["conv2d"], layers)}
    assert "Conv" in kept
    assert not kept & {"MatMul", "Gemm"}


@pytest.mark.pytorch
@pytest.mark.slow
def test_a_recurrent_layer_is_unrolled_and_quantises(tmp_path: Path, random: np.random.Generator) -> None:
    model = exportable(recurrent(6))
    pytorch.write(model, tmp_path / "model.onnx", 18)
    graph = graphs.load(tmp_path / "model.onnx")
    assert not {"LSTM", "Loop", "Scan"} & {node.op_type for node in graph.graph.node}
    x = random.normal(size=(64, 6, 4)).astype(np.float32)
    amax = calibration.ranges(calibration.observe(graph, data.Split({"x": x})), "minmax")
    quantised = precisions.get("int8").apply(graph, amax=amax)
    steps = [node for node in quantised.graph.node if node.op_type in ("MatMul", "Gemm")]
    assert len(steps) >= 6
    made = {name: node for node in quantised.graph.node for name in node.output}
    assert all(made[node.input[0]].op_type == "DequantizeLinear" for node in steps)
    assert model.serving is not None
    expected = model.serving.function(x)["scores"].numpy()
    for written, tolerance in (((tmp_path / "model.onnx").read_bytes(), 1e-5), (quantised.SerializeToString(), 0.1)):
        session = onnxruntime.InferenceSession(written)
        np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, atol=tolerance)


@pytest.mark.pytorch
@pytest.mark.slow
def test_a_length_that_it_would_fix_is_an_error_that_names_the_axis(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="one size only of axis 1 of input 'x'"):
        pytorch.write(exportable(recurrent(None)), tmp_path / "model.onnx", 18)
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.pytorch
@pytest.mark.slow
def test_what_tf2onnx_refuses_goes_through_by_itself(pipeline: Run, tmp_path: Path) -> None:
    own = ("--set=model.source=own_models:overwriting", "--set=train.epochs=1", "--set=data.name=digits")
    variables = {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", venv.VARIABLE: str(venv.python().absolute())}
    for stage in ("train", "export"):
        done = pipeline(stage, *own, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "tf2onnx cannot convert" in done.stdout
    assert "trying pytorch" in done.stdout
    record = read(tmp_path, "export/export.json")
    (made,) = [one for one in record["files"] if one["file"] == "model.onnx"]
    assert made["exporter"] == "pytorch"
    assert made["not_taken"][0]["exporter"] == "tf2onnx"
    assert "tf2onnx cannot convert" in made["not_taken"][0]["reason"]
    assert "torch" in made["versions"]
    assert {one["at"] for one in made["compared"]} >= {"batches of 8", "batches of 3"}
    assert all(0 <= value < 1e-3 for one in made["compared"] for value in one["max_abs"].values())
    assert onnx.load(tmp_path / "artifacts/export/model.onnx").graph.input[0].name == "image"

"""What every exporter must do, run on each that is in the folder."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import backends, environment, exporters, graphs
from pipeline.errors import ConfigError
from pipeline.exporters import Exportable, Kind
from pipeline.stages.export import CHECKED_BY

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline import models
    from pipeline.models import calling

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def exportable(model: keras.Model) -> Exportable:
    """Return a Keras model as the export stage hands it on."""
    signature = calling.signature(calling.caller(model))
    return Exportable(model.name, "keras", Path(), signature, calling.serving(model), model)


def two_of_each() -> keras.Model:
    """Return a model of two inputs, one of any length, and two outputs."""
    left, right = keras.Input((4,), name="left"), keras.Input((None, 3), dtype="int32", name="right")
    x = keras.layers.Concatenate()([left, keras.layers.GlobalAveragePooling1D()(keras.ops.cast(right, "float32"))])
    return keras.Model([left, right], {"score": keras.layers.Dense(2)(x), "value": keras.layers.Dense(1)(x)})


MODELS = {
    "article": (lambda: models.article_cnn((12, 12, 1), 4), {"image": (12, 12, 1)}),
    "two of each": (two_of_each, {"left": (4,), "right": (5, 3)}),
}


def test_the_folders_listing_is_the_registry() -> None:
    assert exporters.NAMES == ("onnx_file", "pytorch", "saved_model", "tf2onnx")
    with pytest.raises(ConfigError, match="unknown exporter 'paper'"):
        exporters.get("paper")


@pytest.mark.parametrize(
    ("kind", "only", "expected"),
    [
        ("function", "auto", {"model.onnx": ["tf2onnx", "pytorch"], "saved_model": ["saved_model"]}),
        ("keras", "auto", {"model.onnx": ["tf2onnx", "pytorch"], "saved_model": ["saved_model"]}),
        ("keras", "pytorch", {"model.onnx": ["pytorch"], "saved_model": ["saved_model"]}),
        ("keras", "tf2onnx", {"model.onnx": ["tf2onnx"], "saved_model": ["saved_model"]}),
        ("saved_model", "auto", {"model.onnx": ["tf2onnx"]}),
        ("onnx", "auto", {"model.onnx": ["onnx_file"]}),
    ],
)
def test_each_kind_of_model_has_its_exporters_in_order(kind: Kind, only: str, expected: dict[str, list[str]]) -> None:
    assert {file: list(able) for file, able in exporters.by_file(kind, only).items()} == expected


def test_an_exporter_for_another_kind_of_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"export\.exporter = 'pytorch' takes models of the kinds function, keras"):
        exporters.by_file("saved_model", "pytorch")


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize(
    "name", ["saved_model", "tf2onnx", pytest.param("pytorch", marks=[pytest.mark.pytorch, pytest.mark.slow])]
)
def test_what_is_exported_computes_as_keras_does(
    name: str, case: str, tmp_path: Path, random: np.random.Generator
) -> None:
    exporter = exporters.get(name)
    build, shapes = MODELS[case]
    model = exportable(build())
    assert exporter.write(model, tmp_path / exporter.FILE, opset=18)
    assert exporter.versions()["keras"] == keras.__version__
    backend, options = CHECKED_BY[exporter.ARTIFACT]
    with backends.get(backend).load(tmp_path / exporter.FILE, options) as session:
        assert {spec.name for spec in session.inputs} == set(shapes)
        for batch in (3, 1):
            feed = {
                spec.name: random.integers(0, 100, (batch, *shapes[spec.name])).astype(spec.dtype)
                for spec in session.inputs
            }
            assert model.serving is not None
            expected = model.serving.function(*(feed[spec.name] for spec in model.serving.signature))
            for output, rows in session.run(feed).items():
                np.testing.assert_allclose(rows, expected[output].numpy(), rtol=1e-5, atol=1e-4)


def test_an_onnx_file_is_passed_on_simplified(tmp_path: Path) -> None:
    exporters.get("tf2onnx").write(exportable(models.article_cnn((12, 12, 1), 4)), tmp_path / "given.onnx", opset=18)
    given = exportable(models.article_cnn((12, 12, 1), 4))._replace(path=tmp_path / "given.onnx", serving=None)
    assert "simplified" in exporters.get("onnx_file").write(given, tmp_path / "model.onnx", opset=13)
    assert graphs.opset(graphs.load(tmp_path / "model.onnx")) == 18

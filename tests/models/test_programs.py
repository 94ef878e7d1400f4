"""SavedModels are programs: one that this run did not export is looked through before it runs, and named."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.backends import LoadOptions, tensorflow
from pipeline.errors import ArtifactError
from pipeline.models import calling, programs

Body = Callable[[tf.Tensor, str], tf.Tensor]


def plain(x: tf.Tensor, key: str) -> tf.Tensor:
    return x * 2


def reads(x: tf.Tensor, key: str) -> tf.Tensor:
    return x * tf.cast(tf.strings.length(tf.io.read_file(key)), tf.float32)


def writes(x: tf.Tensor, key: str) -> tf.Tensor:
    tf.io.write_file(key + ".written", "written")
    return x


def saves(x: tf.Tensor, key: str) -> tf.Tensor:
    tf.raw_ops.SaveV2(prefix=key, tensor_names=["x"], shape_and_slices=[""], tensors=[x])
    return x


def maps(x: tf.Tensor, key: str) -> tf.Tensor:
    return x * tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=(1,), memory_region_name=key)


def inside(x: tf.Tensor, key: str) -> tf.Tensor:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: saves(x, key), lambda: x)


def program(key: Path, served: Body, beside: Body = plain) -> tf.Module:
    """Return a model of one variable whose signature runs `served`; `beside` is a function of the object alone."""
    module = tf.Module()
    module.weight = tf.Variable(2.0)
    takes = [tf.TensorSpec((None, 1), tf.float32, name="x")]
    module.serve = tf.function(lambda x: {"y": served(x, str(key)) * module.weight}, input_signature=takes)
    module.other = tf.function(lambda x: {"y": beside(x, str(key))}, input_signature=takes)
    return module


def saved(folder: Path, module: tf.Module) -> Path:
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


FOUND = {
    reads: ["ReadFile"],
    writes: ["WriteFile"],
    saves: ["SaveV2"],
    maps: ["ImmutableConst"],
    inside: ["SaveV2"],
}


@pytest.mark.parametrize("body", FOUND)
def test_a_replaced_saved_model_that_reaches_out_is_named_and_not_run(tmp_path: Path, body: Body) -> None:
    """Its digests may be those of the manifest: whoever writes the folder writes that too."""
    folder = saved(tmp_path / "saved_model", program(tmp_path / "key", body))
    assert programs.reaching_out(folder) == FOUND[body]
    with (
        pytest.raises(ArtifactError, match=FOUND[body][0]) as caught,
        tensorflow.load(folder, LoadOptions("saved_model")),
    ):
        raise AssertionError("it was loaded")
    assert caught.value.exit_code == 3
    assert "model.trust=true" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["saved_model"]


def test_a_function_that_only_the_loaded_object_offers_counts(tmp_path: Path) -> None:
    for body, found in FOUND.items():
        folder = saved(tmp_path / body.__name__, program(tmp_path / "key", plain, beside=body))
        assert programs.reaching_out(folder) == found


def test_what_is_trusted_runs(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("four")
    folder = saved(tmp_path / "saved", program(tmp_path / "key", reads))
    with tensorflow.load(folder, LoadOptions("saved_model", trust=True)) as session:
        np.testing.assert_array_equal(session.run({"x": np.ones((1, 1), np.float32)})["y"], [[8]])


def test_what_keras_and_this_pipeline_export_reaches_nothing(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2), keras.layers.BatchNormalization()])
    model.export(tmp_path / "exported", verbose=False)
    tf.saved_model.save(model, str(tmp_path / "saved"))
    for name in ("exported", "saved"):
        assert programs.reaching_out(tmp_path / name) == []


def test_a_folder_without_a_graph_is_an_artifact_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"no graph")
    with pytest.raises(ArtifactError, match="is no SavedModel"):
        calling.saved_signature(tmp_path, trust=False)

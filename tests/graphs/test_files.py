"""ONNX models as files: large ones with their weights in a file beside them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pipeline import backends, graphs
from pipeline.backends import LoadOptions
from pipeline.errors import ArtifactError, BackendUnavailable, BuildError
from pipeline.graphs import files, weights


def model(seed: int = 0) -> ModelProto:
    """Return a product with two large weights, one stored as a list of floats, and a small constant."""
    draw = np.random.default_rng(seed).standard_normal((64, 64), np.float32)
    bias = numpy_helper.from_array(np.ones(64, np.float32), "bias")
    listed = helper.make_tensor("listed", TensorProto.FLOAT, draw.shape, draw.ravel().tolist())
    words = helper.make_tensor("words", TensorProto.STRING, [2000], [b"a word"] * 2000)
    made = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "raw"], ["m"], name="first"),
                helper.make_node("Gemm", ["m", "listed", "bias"], ["y"], name="second"),
            ],
            "products",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 64])],
            [numpy_helper.from_array(draw, "raw"), bias, listed, words],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    helper.set_model_props(made, {"author": "somebody"})
    return made


def arrays(graph: ModelProto) -> dict[str, list[object]]:
    return {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in graph.graph.initializer}


@pytest.fixture
def split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a model whose weights are in a file beside it."""
    monkeypatch.setattr(files, "DATA_FROM", 1)
    path = tmp_path / "model.onnx"
    files.save(model(), path)
    return path


def test_a_small_model_is_one_file(tmp_path: Path) -> None:
    files.save(model(), tmp_path / "model.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert onnx.load(tmp_path / "model.onnx") == model()


def test_a_large_model_has_its_weights_in_a_file_of_their_own(split: Path) -> None:
    data = split.with_name("model.onnx.data")
    assert sorted(path.name for path in split.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert data.stat().st_size == 2 * 64 * 64 * 4, "each begins at a page"
    assert files.written(split) == data.stat().st_size + split.stat().st_size
    light = onnx.load(split, load_external_data=False)
    kept = {one.key: one.value for one in light.metadata_props}
    assert kept == {"author": "somebody", "data_sha256": hashlib.sha256(data.read_bytes()).hexdigest()}
    assert arrays(onnx.load(split)) == arrays(model()), "as ONNX's own reader reads it"
    onnx.checker.check_model(str(split), full_check=True)


def test_what_is_read_is_what_was_written(split: Path) -> None:
    found = graphs.load(split)
    assert arrays(found) == arrays(model())
    assert {one.key: one.value for one in found.metadata_props} == {"author": "somebody"}
    assert found.graph.node == model().graph.node


def test_saving_leaves_the_model_as_it_was(split: Path) -> None:
    given = model()
    files.save(given, split)
    assert given == model()


def test_the_nodes_alone_are_read_without_the_weights(split: Path) -> None:
    split.with_name("model.onnx.data").unlink()
    assert len(graphs.load(split, weights=False).graph.node) == 2


def test_the_digest_of_the_model_stands_for_its_weights(split: Path, tmp_path: Path) -> None:
    """Two precisions, or two trainings, may differ in the weights alone."""
    (tmp_path / "other").mkdir()
    files.save(model(seed=1), tmp_path / "other/model.onnx")
    assert split.read_bytes() != (tmp_path / "other/model.onnx").read_bytes()
    before = files.digest(split)
    assert before != files.digest(tmp_path / "other/model.onnx")
    damage(split)
    assert files.digest(split) != before


def damage(path: Path) -> None:
    data = path.with_name("model.onnx.data")
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)


@pytest.mark.parametrize("harm", [damage, lambda path: path.with_name("model.onnx.data").unlink()])
@pytest.mark.parametrize("read", [graphs.load, files.stored, files.verified], ids=lambda read: read.__name__)
def test_damaged_weights_are_found(split: Path, read: Callable[[Path], object], harm: Callable[[Path], None]) -> None:
    harm(split)
    with pytest.raises(ArtifactError, match=r"model\.onnx\.data( has changed|', which is not there)"):
        read(split)


def backend_cases() -> list[str]:
    return [name for name in ("onnxruntime", "openvino") if name in backends.NAMES]


@pytest.mark.parametrize("name", backend_cases())
@pytest.mark.parametrize("given", [True, False], ids=["with digest", "without"])
def test_backends_run_it_and_refuse_other_weights(name: str, given: bool, split: Path) -> None:
    backend = backends.get(name)
    sha256 = hashlib.sha256(split.read_bytes()).hexdigest() if given else None
    options = LoadOptions("cpu", exact=True, sha256=sha256)
    x = np.random.default_rng(1).standard_normal((3, 64), np.float32)
    weight = numpy_helper.to_array(model().graph.initializer[0])
    try:
        backend.probe("cpu")
    except BackendUnavailable as error:
        pytest.skip(error.message)
    with backend.load(split, options) as session:
        for batch in (3, 1, 3):  # OpenVINO compiles for each, and keeps one
            found = session.run({"x": x[:batch]})["y"]
            np.testing.assert_allclose(found, x[:batch] @ weight @ weight + 1, rtol=1e-3, atol=1e-3)
    damage(split)
    with pytest.raises(ArtifactError, match="has changed since it was published"), backend.load(split, options):
        pass


def test_weights_without_a_digest_are_not_taken_for_published(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(model(), path, save_as_external_data=True, location="weights.bin", size_threshold=1000)
    with pytest.raises(ArtifactError, match=r"no digest of its weights in 'weights\.bin'"):
        files.stored(path, hashlib.sha256(path.read_bytes()).hexdigest())
    assert arrays(graphs.load(path)) == arrays(model())


def test_a_large_graph_in_memory_is_given_to_backends_as_a_file(split: Path) -> None:
    with files.loadable(model()) as given:
        assert isinstance(given, Path)
        assert arrays(graphs.load(given)) == arrays(model())
    assert not given.exists()


def test_types_and_checks_need_no_weights() -> None:
    light = weights.without_weights(model())
    assert light.ByteSize() < 20_000, "the words are kept"
    assert [value.name for value in light.graph.input] == ["x", "raw", "listed"]
    onnx.checker.check_model(light, full_check=True)
    found = graphs.inferred(model())
    assert arrays(found) == arrays(model())
    assert [value.name for value in found.graph.input] == ["x"]
    assert graphs.element_types(model())["m"] == TensorProto.FLOAT


def test_the_checker_still_looks_at_the_weights() -> None:
    wrong = model()
    wrong.graph.initializer[0].raw_data = b"\0" * 100
    with pytest.raises(BuildError, match="raw"):
        graphs.check(wrong, "this")


def test_constants_that_had_to_be_listed_as_inputs_are_listed_once() -> None:
    old = model()
    old.ir_version = 3
    old.graph.input.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, [64, 64]) for n in ("raw", "listed"))
    names = [value.name for value in weights.without_weights(old).graph.input]
    assert names == ["x", "raw", "listed"]
    assert [value.name for value in graphs.inferred(old).graph.input] == names

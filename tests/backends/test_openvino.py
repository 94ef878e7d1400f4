"""OpenVINO: FP32 that is FP32, no word to anybody, and what it cannot do said in its own words."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from commands import ROOT
from onnx import TensorProto, helper

from pipeline import backends
from pipeline.backends import LoadOptions, openvino
from pipeline.errors import ArtifactError, BackendUnavailable, BatchOutsideProfile, InputError

CPU = LoadOptions("cpu", threads=1)


def save(path: Path, *nodes: onnx.NodeProto, weights: np.ndarray | None = None, batch: int | str = "batch") -> Path:
    """Write a graph from `x` [batch, 256] to `y`, as wide as the weights are."""
    width = 256 if weights is None else weights.shape[1]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, width])],
        [] if weights is None else [onnx.numpy_helper.from_array(weights, "w")],
    )
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.nobody", 1)]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
    return path


@pytest.fixture
def product(tmp_path: Path, random: np.random.Generator) -> tuple[Path, np.ndarray]:
    """A single matrix product, and its weights [256, 16]."""
    weights = random.standard_normal((256, 16)).astype(np.float32)
    return save(tmp_path / "product.onnx", helper.make_node("MatMul", ["x", "w"], ["y"]), weights=weights), weights


@pytest.mark.parametrize("exact", [False, True])
def test_computes_fp32_in_fp32(product: tuple[Path, np.ndarray], random: np.random.Generator, exact: bool) -> None:
    """BF16, OpenVINO's own choice on a processor that has it, is off by about 2⁻⁹ of a term."""
    path, weights = product
    x = random.standard_normal((32, 256)).astype(np.float32)
    with openvino.load(path, LoadOptions("cpu", exact=exact, threads=1)) as session:
        found = session.run({"x": x})["y"]
        assert session.settings["arithmetic"] == "f32"
        assert session.settings["threads"] == 1
    error = np.abs(found - x.astype(np.float64) @ weights.astype(np.float64)).max()
    assert error < 1e-4, "256 terms of about 1: FP32's rounding is 1e-5, BF16's 1e-1"


def test_a_batch_size_is_compiled_once(product: tuple[Path, np.ndarray]) -> None:
    path, _ = product
    with openvino.load(path, CPU) as session:
        for batch in (1, 4, 1, 4, 4):
            session.run({"x": np.zeros((batch, 256), np.float32)})
        assert session._compiled.cache_info().misses == 2
        for batch in range(1, 10):
            session.run({"x": np.zeros((batch, 256), np.float32)})
        assert session._compiled.cache_info().currsize == openvino.COMPILED


def test_tells_nobody_that_it_was_imported(product: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    """OpenVINO's telemetry writes its identity to ~/intel as soon as it may send anything."""
    path, _ = product
    program = (
        "import sys\nfrom pathlib import Path\nfrom pipeline.backends import LoadOptions, openvino\n"
        f"with openvino.load(Path({str(path)!r}), LoadOptions('cpu')):\n    pass\n"
        "assert 'openvino' in sys.modules\n"
        "print([name for name, module in sys.modules.items() if name.startswith('openvino_telemetry') and module])"
    )
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
    assert not (home / "intel").exists()


def test_where_it_is_not_installed_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BackendUnavailable, match="openvino cannot be imported") as caught:
        backends.get("openvino").probe("cpu")
    assert "pip install 'keras-tensorrt-pipeline[openvino]'" in caught.value.hint


def test_an_operator_it_lacks_is_named_in_its_words(tmp_path: Path) -> None:
    path = save(tmp_path / "foreign.onnx", helper.make_node("Conjure", ["x"], ["y"], domain="com.nobody"))
    with pytest.raises(BackendUnavailable, match=r"No conversion rule found for operations: com\.nobody\.Conjure"):
        openvino.load(path, CPU).__enter__()


def test_refuses_a_file_that_is_not_the_model(product: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    path, _ = product
    with pytest.raises(ArtifactError, match="changed since"):
        openvino.load(path, LoadOptions("cpu", sha256="0" * 64)).__enter__()
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no protobuf")
    for other in (broken, tmp_path / "missing.onnx"):
        with pytest.raises(ArtifactError, match=other.name):
            openvino.load(other, CPU).__enter__()


def test_refuses_input_of_another_shape_type_or_name(product: tuple[Path, np.ndarray]) -> None:
    path, _ = product
    with openvino.load(path, CPU) as session:
        for feed, words in (
            ({"x": np.zeros((1, 255), np.float32)}, r"shape \(1, 255\), the model takes \(None, 256\)"),
            ({"x": np.zeros((1, 256), np.uint8)}, "refuses the input"),
            ({"z": np.zeros((1, 256), np.float32)}, r"\['z'\], the model takes \['x'\]"),
        ):
            with pytest.raises(InputError, match=words) as caught:
                session.run(feed)
            assert not isinstance(caught.value, BatchOutsideProfile)


def test_a_batch_that_the_graph_does_not_have_is_told_apart(tmp_path: Path) -> None:
    path = save(tmp_path / "fixed.onnx", helper.make_node("Relu", ["x"], ["y"]), batch=4)
    with openvino.load(path, CPU) as session:
        assert session.run({"x": np.ones((4, 256), np.float32)})["y"].shape == (4, 256)
        with pytest.raises(BatchOutsideProfile, match=r"\(3, 256\), the model takes \(4, 256\)"):
            session.run({"x": np.ones((3, 256), np.float32)})


def test_why_a_model_cannot_be_compiled_is_one_line(tmp_path: Path) -> None:
    """A reshape to another number of elements than the batch has."""
    path = tmp_path / "model.onnx"
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 256])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [7, 256])],
        [onnx.numpy_helper.from_array(np.array([7, 256]), "shape")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    with pytest.raises(BackendUnavailable, match="cannot compile the model: While validating") as caught:
        openvino.load(path, CPU).__enter__()
    assert "incompatible with input shape" in caught.value.message
    assert caught.value.message.count("\n") == 0
    assert "Exception from" not in caught.value.message


@pytest.mark.skipif(sys.platform != "linux", reason="Linux's")
def test_it_leaves_the_signal_stack_alone(product: tuple[Path, np.ndarray]) -> None:
    """On the stack that OpenVINO sets, a later Ctrl-C has ended the process with SIGSEGV."""

    def found() -> tuple[object, ...]:
        now = openvino._SignalStack()
        ctypes.CDLL(None).sigaltstack(None, ctypes.byref(now))
        return now.memory, now.flags, now.size

    path, _ = product
    before = found()
    with openvino.load(path, CPU) as session:
        session.run({"x": np.zeros((3, 256), np.float32)})
        assert found() == before

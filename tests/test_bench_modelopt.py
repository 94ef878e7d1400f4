"""The comparison with Model Optimizer: one way to judge and to build both graphs, and a table that hides nothing."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.modelopt import peer, table
from benchmarks.modelopt.measure import MODEL_OPTIMIZER, OURS, Comparison, Row, as_a_gpu_rounds
from pipeline import precisions, tables
from pipeline.config import Config
from pipeline.data import Split
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.runners import inference


@pytest.fixture
def set_up() -> None:
    """Skip where Model Optimizer is not set up."""
    try:
        peer.python()
    except BackendUnavailable as error:
        pytest.skip(str(error))


def graph(folder: Path, factor: float) -> onnx.ModelProto:
    """x [batch, 32] by a weight, times a factor and divided by it again."""
    weight = np.eye(32, dtype=np.float32)
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w"], ["p"], name="product"),
                helper.make_node("Mul", ["p", "f"], ["m"], name="times"),
                helper.make_node("Div", ["m", "f"], ["y"], name="divided"),
            ],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 32])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 32])],
            [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.float32(factor), "f")],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=8,
    )
    onnx.save(model, folder / "model.onnx")
    return model


def test_an_overflow_in_fp16_beside_int8_is_not_hidden(tmp_path: Path) -> None:
    exported, int8 = graph(tmp_path, 6e4), precisions.get("int8")
    split = Split({"x": np.full((4, 32), 7, np.float32)}, {})
    typed = precisions.get("fp16").apply(exported)
    assert as_a_gpu_rounds(exported, int8) is int8
    (rounded,) = inference.outputs(typed, as_a_gpu_rounds(typed, int8), split, 4).values()
    assert not np.isfinite(rounded).any(), "7 times 60,000 is past FP16's largest number"


def test_both_graphs_are_judged_and_built(main_job: Path, tmp_path: Path) -> None:
    config = Config(artifacts=main_job / "artifacts")
    said: list[str] = []
    ours, *theirs = Comparison("digits", config, tmp_path, said.append).rows(precisions.get("int8"))
    assert (ours.by, ours.failed) == (OURS, "")
    assert ours.arithmetic is not None
    assert ours.arithmetic["compute_nodes"].get("INT8")
    assert ours.onnx_bytes == (tmp_path / "int8-ours.onnx").stat().st_size
    assert ours.engine_bytes
    assert ours.test_error is not None
    assert 0 < ours.test_error < 1e-2
    assert [row.ranges_by for row in theirs] == ["entropy", "max"]
    for row in theirs:
        assert row.by == MODEL_OPTIMIZER
        if row.failed:  # not set up: said, and no number is made up for it
            assert "make modelopt" in row.failed
            assert (row.test_error, row.engine_bytes, row.products) == (None, None, None)
        else:
            assert row.versions is not None
            assert row.test_error is not None
            assert 0 <= row.test_error < 1e-2
            assert row.engine_bytes
            assert row.products is not None
            assert row.products.keys() == (ours.products or {}).keys(), "both keep the nodes' names"
    assert any("digits: int8, ours" in line for line in said)


@pytest.mark.usefixtures("set_up")
def test_what_model_optimizer_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    graph(tmp_path, 1.0)
    with pytest.raises(BuildError, match=r"exit code 1: .*Invalid quantization mode"):
        peer.make(tmp_path / "model.onnx", "int9", "max", {"x": np.ones((2, 32), np.float32)}, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_where_it_is_not_set_up_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "FOLDER", ".venv-that-is-not-there")
    with pytest.raises(BackendUnavailable, match="make modelopt"):
        peer.python()


ROWS = (
    Row(
        "net",
        "int8",
        OURS,
        "minmax",
        test_error=1e-3,
        validation_error=9e-4,
        metric="accuracy",
        value=0.98,
        original=0.99,
        verdict="pass",
        arithmetic={"mac_share": {"INT8": 1.0}, "quantize": 2, "dequantize": 4, "casts": 0},
        products={"conv": "INT8", "dense": "INT8"},
        onnx_bytes=1000,
        engine_bytes=2000,
        build_s=1.5,
    ),
    Row("net", "int8", MODEL_OPTIMIZER, "entropy", products={"conv": "INT8", "dense": "FLOAT16"}),
    Row("net", "int8", MODEL_OPTIMIZER, "max", failed="it said nothing"),
)


def test_the_table_has_both_and_says_what_failed() -> None:
    text = tables.markdown(table.table("net", ROWS, times=False))
    first = "| int8 | ours | minmax | 1.0e-03 | 9.0e-04 | accuracy 0.9800 (FP32: 0.9900) | 100 % INT8 | 2 | 4 |"
    assert first in text
    assert "built in" not in text
    assert "built in" in tables.markdown(table.table("net", ROWS, times=True))
    assert list(table.failures(ROWS)) == ["net, int8, Model Optimizer max: it said nothing"]


def test_products_of_other_types_are_counted_by_name() -> None:
    assert list(table.differences(ROWS)) == ["net, int8: of 2 products 1 in INT8 by us, in FLOAT16 by it"]
    renamed = ROWS[1]._replace(products={"conv": "INT8", "other": "INT8"})
    assert list(table.differences((ROWS[0], renamed))) == [
        "net, int8: 2 products have no namesake in the other graph",
        "net, int8: of 1 products all are in the same type",
    ]

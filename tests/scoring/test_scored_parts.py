"""The parts of scoring by themselves: inputs of other shapes, rows that the model refuses, ids, turns, deaths."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import TensorProto, helper, numpy_helper
from scored_rows import write

from pipeline import backends
from pipeline.artifacts.bundle import BundleInput, BundleOutput
from pipeline.backends import LoadOptions
from pipeline.errors import DataError
from pipeline.scoring import answers, columns, feeds, ids
from pipeline.scoring.feeds import Values
from pipeline.scoring.parts import MOST_GIVEN_UP, Parts, Try
from pipeline.scoring.plan import Piece
from pipeline.scoring.scorer import Scored, Scorer
from pipeline.scoring.sources import arrays, parquet, single
from pipeline.scoring.turns import Turns


def _input(name: str, dtype: str, *shape: int | None) -> BundleInput:
    return BundleInput(
        name=name, shape=(None, *shape), dtype=dtype, kind="numbers", white=None, words=f"{name}: {dtype}"
    )


def _output(**changes: Any) -> BundleOutput:
    known = {"name": "y", "shape": (None, 3), "dtype": "float32", "task": "classification", "form": "probabilities"}
    return BundleOutput(**{**known, "classes": ("a", "b", "c"), "words": "", **changes})


TWO = (_input("tokens", "int64", 3), _input("weight", "float32"))


def test_several_inputs_of_parquet_and_npz_and_files(tmp_path: Path) -> None:
    tokens, weight = np.arange(15, dtype=np.int64).reshape(5, 3), np.arange(5, dtype=np.float32)
    path = write(tmp_path / "x.parquet", {"tokens": list(tokens), "weight": weight.astype(float), "id": list("abcde")})
    np.savez(tmp_path / "x.npz", tokens=tokens, weight=weight)
    (tmp_path / "in").mkdir()
    for row in range(5):
        np.savez(tmp_path / f"in/{row}.npz", tokens=tokens[row], weight=weight[row])
    for source in (
        parquet.find(path, [""], TWO, "id"),
        arrays.find(tmp_path / "x.npz", tmp_path, TWO, "id"),
        single.find(tmp_path / "in", tmp_path, TWO, "id"),
    ):
        (table,) = source.tables(Piece(0, 0, 1, 4), 8)
        ((rows, feed),) = source.samples(table).groups
        assert rows.tolist() == [0, 1, 2], source
        np.testing.assert_array_equal(feed["tokens"], tokens[1:4])
        np.testing.assert_array_equal(feed["weight"], weight[1:4])
        assert (feed["tokens"].dtype, feed["weight"].dtype) == (np.int64, np.float32)


def test_an_input_may_be_called_as_ids_are(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", {"id": [5.0, 6.0]})
    rows = parquet.find(path, [""], (_input("id", "float32"),), "id")
    (table,) = rows.tables(Piece(0, 0, 0, 2), 8)
    assert rows.kept.names == ["row_id"]
    assert rows.remark == "the ids are made of file and row: column id is an input of the model"
    assert table["row_id"].to_pylist() == ["x.parquet:0", "x.parquet:1"]
    assert rows.samples(table).groups[0][1]["id"].tolist() == [5, 6]


def test_rows_of_several_lengths_go_in_with_their_like() -> None:
    column = pa.array([[1, 2], [3], None, [4, 5], []], pa.list_(pa.float64()))
    found = feeds.together({"x": columns.values(column, _input("x", "float32", None))}, 5)
    assert [(rows.tolist(), feed["x"].tolist()) for rows, feed in found.groups] == [
        ([0, 3], [[1, 2], [4, 5]]),
        ([1], [[3]]),
    ]
    assert found.errors == {2: "x: null", 4: "x: 0 numbers, not 1"}


@pytest.fixture(scope="module")
def lookup() -> bytes:
    """A model that ONNX Runtime cannot run for an index beyond its table."""
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "x"], ["y"])],
        "lookup",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.arange(30, dtype=np.float32).reshape(10, 3), "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.ModelProto.SerializeToString(model)


def test_a_row_that_the_model_refuses_is_alone(lookup: bytes) -> None:
    rows = np.array([1, 2, 99, 3, 4, 5, -99, 6], np.int64)
    with backends.get("onnxruntime").load(lookup, LoadOptions("cpu")) as session:
        found = Scorer(session, 3, (1, 64)).score(feeds.together({"x": Values(rows, {0: "bad"})}, 8))
    assert found.rows.tolist() == [1, 3, 4, 5, 7]
    assert found.outputs["y"][:, 0].tolist() == [6, 9, 12, 15, 18]
    assert found.errors.keys() == {0, 2, 6}
    assert found.errors[2].startswith("the model: ONNX Runtime cannot run this input")


def test_a_session_that_no_longer_works_is_nobodys_error(lookup: bytes) -> None:
    rows = feeds.together({"x": Values(np.array([1], np.int64), {})}, 1)
    with backends.get("onnxruntime").load(lookup, LoadOptions("cpu")) as session:
        scorer = Scorer(session, 4, (1, 64))
        scorer.score(rows)
    with pytest.raises(RuntimeError, match="closed"):
        scorer.score(rows)


def test_batches_keep_to_what_the_runner_takes(lookup: bytes) -> None:
    with backends.get("onnxruntime").load(lookup, LoadOptions("cpu")) as session:
        scorer = Scorer(session, 64, (4, 8))
        found = scorer.score(feeds.together({"x": Values(np.arange(10, dtype=np.int64), {})}, 10))
    assert scorer.batch == 8
    assert found.outputs["y"][:, 0].tolist() == list(range(0, 30, 3))


def test_outputs_become_columns() -> None:
    outputs = (_output(), _output(name="z", shape=(None, None, 2), task="", form="", classes=()))
    rows = np.array([[0.2, 0.7, 0.1], [np.nan, 0, 0]], np.float32)
    made = Scored(3, np.array([0, 2]), {"y": rows, "z": [np.ones((1, 2)), np.zeros((2, 2))]}, {1: "bad"})
    table = pa.table(answers.columns(outputs, made), schema=answers.schema(outputs))
    assert table["y_answer"].to_pylist() == ["b", None, None]
    assert table["y_score"].to_pylist() == [pytest.approx(0.7), None, None]
    assert table["error"].to_pylist() == [None, "bad", "y is not finite"]
    assert table["y"].to_pylist()[1] is None
    assert table["z"].to_pylist() == [[1, 1], None, [0, 0, 0, 0]]
    assert table["z_shape"].to_pylist() == [[1, 2], None, [2, 2]]


def test_several_labels_are_named() -> None:
    named, scores = answers.read(_output(form="several probabilities"), np.array([[0.9, 0.2, 0.6], [0.1, 0.1, 0.1]]))
    assert named == ["a, c", "none"]
    np.testing.assert_allclose(scores, [0.6, 0.9])


@pytest.mark.parametrize("values", [[3, 1, 2, 3], ["x", "y", "z", "x"], [1.5, 2.5, 3.5, 1.5]])
@pytest.mark.parametrize("at_once", [2, 100])
def test_an_id_that_is_there_twice_is_found_in_any_share(values: list[Any], at_once: int, tmp_path: Path) -> None:
    first = write(tmp_path / "a.parquet", {"id": values[:2]})
    second = write(tmp_path / "b.parquet", {"id": values[2:]})
    assert ids.unfit([first, second], "id", at_once) == "has a value twice"
    assert ids.unfit([first], "id", at_once) == ""


class _Rows:
    """Where pieces of ten rows are near each other."""

    def near(self, piece: Piece) -> int:
        return piece.start // 10


def test_a_process_goes_on_where_it_is() -> None:
    turns = Turns([Piece(number, 0, number, number + 1) for number in range(20)], _Rows())  # type: ignore[arg-type]
    assert [turns.next(worker).number for worker in (0, 1, 0, 1)] == [0, 10, 1, 11]  # type: ignore[union-attr]
    assert [turns.next(0).number for _ in range(9)] == [*range(2, 10), 12]  # type: ignore[union-attr]
    taken = turns.next(1)
    assert taken is not None
    turns.back(taken)
    assert turns.next(2) == taken
    assert {turns.next(1).number for _ in range(6)} == set(range(14, 20))  # type: ignore[union-attr]
    assert turns.next(0) is None
    assert not turns


def test_rows_are_given_up_after_processes_died_of_them_alone(tmp_path: Path) -> None:
    path = tmp_path / "part"
    for deaths in range(4):
        tried = Try(path)
        assert (tried.careful, tried.given_up) == (deaths >= 2, set())
        if tried.careful:
            tried.row(6)
            tried.row(7)
    assert Try(path).given_up == {7}


def test_processes_that_die_of_no_row_end_the_run(tmp_path: Path) -> None:
    parts, piece = Parts(tmp_path, "plan"), Piece(0, 0, 0, 10)
    for _ in range(2 + MOST_GIVEN_UP + 1):
        Try(tmp_path / "_tries/part-000000") if (tmp_path / "_tries").mkdir(exist_ok=True) is None else None
    with pytest.raises(DataError, match="processes die of rows 0 to 10"), parts.trying(piece):
        pass
    with parts.trying(piece) as tried:  # said once; the next command begins anew
        assert tried.deaths == 0


def test_a_source_is_sent_without_what_it_has_open(tmp_path: Path) -> None:
    rows = np.zeros((1000, 64), np.float32)
    np.save(tmp_path / "rows.npy", rows)
    write(tmp_path / "rows.parquet", {"x": list(rows)})
    takes = (_input("x", "float32", 64),)
    for source in (
        arrays.find(tmp_path / "rows.npy", tmp_path, takes, "id"),
        parquet.find(tmp_path / "rows.parquet", [""], takes, "id"),
    ):
        (table,) = source.tables(Piece(0, 0, 0, 10), 10)
        source.samples(table)
        sent = pickle.dumps(source)
        assert len(sent) < 5000, source
        ((_, feed),) = pickle.loads(sent).samples(table).groups
        assert feed["x"].shape == (10, 64)

"""Processes of their own for cells: what they answer, and what is told when one dies."""

import os
import signal
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import made_cells
import numpy as np
import onnx
import pytest

from pipeline import backends
from pipeline.measuring.cells import Timed
from pipeline.measuring.worker import Worker, WorkerError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    path = tmp_path / "images.npz"
    np.savez(path, image=np.random.default_rng(0).integers(0, 256, (6, 28, 28, 1), dtype=np.uint8))
    return path


@pytest.fixture
def timed(main_job: Path) -> Timed:
    return Timed(made_cells.runner("onnxruntime cpu fp32", path=main_job / "artifacts/engine/fp32/model.onnx"))


def test_answers_what_the_model_answers_here(timed: Timed, images: Path) -> None:
    with Worker(timed, images, 3) as worker:
        assert (worker.status, worker.reason, worker.device) == ("ok", "", "cpu")
        assert worker.modes == {"end_to_end": ""}
        found = worker.outputs()
        assert worker.measure("end_to_end", 0.001, 7).dtype == np.int64
    with backends.get("onnxruntime").load(timed.runner.path, timed.runner.options) as session:
        expected = session.run({"image": np.load(images)["image"]})["probabilities"]
    np.testing.assert_allclose(found["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "side", "status"),
    [(4, 28, "ok"), (3, 28, "skipped"), (4, 20, "failed")],
    ids=["the graph's batch", "a batch it was not built for", "images it does not take"],
)
def test_only_a_batch_it_was_not_built_for_is_no_failure(
    timed: Timed, tmp_path: Path, batch: int, side: int, status: str
) -> None:
    graph = onnx.load(timed.runner.path)
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    onnx.save(graph, tmp_path / "fixed.onnx")
    np.savez(tmp_path / "images.npz", image=np.zeros((8, side, side, 1), np.uint8))
    fixed = replace(timed, runner=replace(timed.runner, path=tmp_path / "fixed.onnx"))
    with Worker(fixed, tmp_path / "images.npz", batch) as worker:
        assert worker.status == status, worker.reason


def test_a_killed_process_is_told_with_its_signal(timed: Timed, images: Path) -> None:
    with Worker(timed, images, 3) as worker:
        os.kill(worker._process.pid, signal.SIGKILL)
        with pytest.raises(WorkerError, match="ended by signal 9") as caught:
            worker.outputs()
        assert "memory" in caught.value.hint


def test_an_interrupt_from_the_keyboard_does_not_end_it(timed: Timed, images: Path) -> None:
    with Worker(timed, images, 3) as worker:
        os.kill(worker._process.pid, signal.SIGINT)
        assert len(worker.outputs()["probabilities"]) == 6


def test_no_process_is_left_behind(timed: Timed, images: Path) -> None:
    with Worker(timed, images, 3) as worker:
        pass
    assert not worker._process.is_alive()
    with pytest.raises(ZeroDivisionError), Worker(timed, images, 3) as worker:
        1 / 0  # noqa: B018
    assert not worker._process.is_alive()


def test_an_interrupt_while_it_starts_ends_it(timed: Timed, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(timed, images, 3)
    start = type(worker._process).start

    def interrupted(process: BaseProcess) -> None:
        signal.getsignal(signal.SIGINT)(signal.SIGINT, None)  # as the interpreter does; a real one could come too late
        start(process)

    monkeypatch.setattr(type(worker._process), "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        worker.__enter__()
    assert worker._process.exitcode == -signal.SIGKILL

"""CUDA as far as it goes without a GPU: why there is none, and what is done with a fake device."""

import gc
import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType

import fake_gpu
import numpy as np
import pytest

from pipeline import cuda, environment
from pipeline.errors import BackendUnavailable
from pipeline.measuring.limits import microbenchmarks


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> fake_gpu.Gpu:
    gpu = fake_gpu.Gpu()
    monkeypatch.setattr(environment, "gpus", lambda: ["a fake GPU"])
    for name in ("cuda", "cuda.core"):
        monkeypatch.setitem(sys.modules, name, fake_gpu.modules(gpu, None)[name])
    return gpu


def test_no_gpu_is_reported_before_cuda_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpus", lambda: ())
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(BackendUnavailable, match="nvidia-smi does not answer"):
        cuda.device()


def test_cuda_core_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpus", lambda: ["a GPU"])
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(BackendUnavailable, match=r"cuda\.core cannot be imported") as caught:
        cuda.device()
    assert "pip install" in caught.value.hint


def test_a_driver_that_does_not_answer_is_reported_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(index: int) -> None:
        raise RuntimeError("the driver is too old\nand more")

    core = ModuleType("cuda.core")
    core.Device = fail
    monkeypatch.setattr(environment, "gpus", lambda: ["a GPU"])
    monkeypatch.setitem(sys.modules, "cuda.core", core)
    with pytest.raises(BackendUnavailable) as caught:
        cuda.device()
    assert caught.value.message == "no NVIDIA GPU can be used: the driver is too old"


def test_memory_goes_there_and_back(gpu: fake_gpu.Gpu) -> None:
    stream = cuda.create_stream()
    memory = cuda.Memory(stream, (2, 3), np.dtype(np.float32), pinned=True)
    assert memory.view.tolist() == [[0, 0, 0], [0, 0, 0]]
    memory.view[:] = [[1, 2, 3], [4, 5, 6]]
    memory.upload()
    stream.sync()
    memory.view[:] = 0
    memory.download()
    assert not memory.view.any()  # nothing was waited for
    stream.sync()
    assert memory.view.tolist() == [[1, 2, 3], [4, 5, 6]]


def test_memory_that_the_device_has_not_is_reported(gpu: fake_gpu.Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: fake_gpu.Device, size: int, *, stream: fake_gpu.Stream) -> None:
        raise fake_gpu.CudaError("out of memory\nand more")

    stream = cuda.create_stream()
    monkeypatch.setattr(fake_gpu.Device, "allocate", fail)
    with pytest.raises(BackendUnavailable, match=r"cannot allocate 4,000 bytes: out of memory\n"):
        cuda.Memory(stream, (1000,), np.dtype(np.float32), pinned=False)


def test_a_view_outlives_its_memory(gpu: fake_gpu.Gpu) -> None:
    memory = cuda.Memory(cuda.create_stream(), (), np.dtype(np.int64), pinned=True)
    view = memory.view
    view[...] = 7
    memory.close()
    del memory
    gc.collect()
    assert view == 7
    assert len(gpu.memory) == 1
    del view
    assert gpu.memory == {}


def test_a_graph_holds_what_was_put_on_the_stream(gpu: fake_gpu.Gpu) -> None:
    stream = cuda.create_stream()
    done: list[int] = []
    graph = cuda.capture(stream, lambda: stream.put("work", lambda: done.append(1)))
    stream.sync()
    assert done == []
    for _ in range(2):
        graph.launch(stream)
    stream.sync()
    assert done == [1, 1]


@pytest.mark.parametrize("where", ["in the work", "at its end"])
def test_what_cannot_be_captured_leaves_the_stream_usable(where: str, gpu: fake_gpu.Gpu) -> None:
    stream = cuda.create_stream()
    if where == "at its end":

        def fail(builder: fake_gpu.GraphBuilder) -> None:
            raise fake_gpu.CudaError("capture invalidated\nand more")

        builder = type("Failing", (fake_gpu.GraphBuilder,), {"complete": fail})
        stream.create_graph_builder = lambda: builder(stream)
    work: Callable[[], None] = stream.sync if where == "in the work" else lambda: None
    with pytest.raises(cuda.CaptureError, match="capturing$" if where == "in the work" else "invalidated$"):
        cuda.capture(stream, work)
    stream.sync()


def test_a_mistake_does_not_pass_for_work_that_cannot_be_captured(gpu: fake_gpu.Gpu) -> None:
    stream = cuda.create_stream()
    with pytest.raises(AttributeError):
        cuda.capture(stream, lambda: stream.no_such_name())
    stream.sync()


def test_the_clock_takes_what_is_launched_and_nothing_before_it(gpu: fake_gpu.Gpu) -> None:
    stream = cuda.create_stream()
    clock = cuda.EventClock(stream.handle)
    stream.put("work before", lambda: None)

    def launch() -> None:
        for _ in range(3):
            stream.put("work", lambda: None)  # takes 1 ms on the fake device

    assert [clock.time_ns(launch) for _ in range(2)] == [3_000_000, 3_000_000]


def test_peaks_are_of_copies_and_of_a_graphs_launch(gpu: fake_gpu.Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microbenchmarks, "COPY_BYTES", 1000)
    monkeypatch.setattr(microbenchmarks, "PINNED_BYTES", 100)
    with ExitStack() as stack:
        calls, reasons = microbenchmarks.cuda_calls(stack)
        assert reasons == {}
        assert {name: amount for name, (amount, _) in calls.items()} == {
            "bytes_per_s": 2000,
            "pcie_bytes_per_s": 100,
            "launch_us": 1,
        }
        _, destination, *_ = gpu.memory.values()
        for name, what in (("bytes_per_s", "copy in"), ("pcie_bytes_per_s", "copy in"), ("launch_us", "graph")):
            del gpu.log[:]
            calls[name][1]()
            assert gpu.log == [f"{what} on 1", "sync 1"]
        assert set(destination) == {1}
        del gpu.log[:]
    assert gpu.log == ["free graph", *["free device memory"] * 5, "free stream 1"]

"""What the TensorRT runner costs in Python: its calls into CUDA and TensorRT are stubs here that do nothing.

    python benchmarks/launch_overhead.py [--calls 20000]

Prints the median time of one `run` with batch 1 (28×28 bytes in, ten floats out; the copies into and out of pinned
memory are real), and of one launch of bound inputs, and what the bare calls of the stubs that both must make take. What
remains is the runner's own: it comes between two graph launches, so it has to stay at a few microseconds. Needs no GPU,
and says nothing about one.
"""

import argparse
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from pipeline import environment
from pipeline.backends import LoadOptions, tensorrt

IMAGE = np.zeros((1, 28, 28, 1), np.uint8)
SHAPES = {"image": (-1, 28, 28, 1), "probabilities": (-1, 10)}


def nothing(*arguments: object, **options: object) -> None:
    """Stand for a call of the driver."""


class Buffer:
    """Host memory, whatever is asked for."""

    def __init__(self, size: int) -> None:
        self.size, self.handle, self.bytes = size, 4096, np.zeros(size, np.int8)
        self.copy_to = self.close = nothing

    def __dlpack__(self, **options: Any) -> object:
        return self.bytes.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def stub_cuda() -> ModuleType:
    """Return what stands for `cuda.core`."""
    event = SimpleNamespace(sync=nothing, close=nothing)
    graph = SimpleNamespace(launch=nothing, close=nothing)
    builder = SimpleNamespace(begin_building=nothing, end_building=nothing, complete=lambda: graph, close=nothing)
    device = SimpleNamespace(name="no GPU", set_current=nothing, sync=nothing)
    device.allocate = lambda size, stream: Buffer(size)
    stream = SimpleNamespace(device=device, handle=1, sync=nothing, close=nothing)
    stream.record = lambda *_: event
    stream.create_graph_builder = lambda: builder
    device.create_stream = lambda: stream
    core = ModuleType("cuda.core")
    vars(core).update(
        Device=lambda index: device,
        LegacyPinnedMemoryResource=lambda: SimpleNamespace(allocate=lambda size, stream: Buffer(size)),
    )
    return core


def stub_tensorrt() -> ModuleType:
    """Return what stands for TensorRT: an engine for images of 28×28 bytes and ten classes."""
    context = SimpleNamespace(set_device_memory=nothing, infer_shapes=list)
    context.set_optimization_profile_async = lambda profile, handle: True
    context.set_input_shape = context.set_tensor_address = lambda name, value: True
    context.execute_async_v3 = lambda handle: True
    context.get_tensor_shape = lambda name: (1, *SHAPES[name][1:])
    engine = SimpleNamespace(num_io_tensors=2, num_optimization_profiles=1, device_memory_size_v2=256)
    engine.get_tensor_name = lambda index: list(SHAPES)[index]
    engine.get_tensor_dtype = lambda name: np.uint8 if name == "image" else np.float32
    engine.get_tensor_shape = SHAPES.__getitem__
    engine.get_tensor_mode = lambda name: "input" if name == "image" else "output"
    engine.get_tensor_profile_shape = lambda name, index: [(batch, *SHAPES[name][1:]) for batch in (1, 64, 1024)]
    engine.create_runtime_config = lambda: SimpleNamespace(set_execution_context_allocation_strategy=nothing)
    engine.create_execution_context = lambda *_, **__: context
    trt = ModuleType("tensorrt")
    vars(trt).update(
        __version__="11.0",
        ILogger=type("ILogger", (), {"INTERNAL_ERROR": 0, "ERROR": 1, "WARNING": 2}),
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: engine),
        nptype=lambda dtype: dtype,
        TensorIOMode=SimpleNamespace(INPUT="input"),
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED=1),
    )
    return trt


def median_us(call: Callable[[], object], calls: int) -> float:
    """Return the median time of a call in µs: of ten at a time, since the clock's own cost would show."""
    samples = []
    for _ in range(max(calls // 10, 1)):
        start = time.perf_counter_ns()
        for _ in range(10):
            call()
        samples.append((time.perf_counter_ns() - start) / 10)
    return statistics.median(samples) / 1e3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What the TensorRT runner costs in Python, with stubs for the driver.")
    parser.add_argument("--calls", type=int, default=20_000)
    calls = parser.parse_args().calls
    sys.modules |= {"cuda": ModuleType("cuda"), "cuda.core": stub_cuda(), "tensorrt": stub_tensorrt()}
    environment.gpus = lambda: ("a stub",)  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.engine")
        path.write_bytes(b"an engine")
        options = LoadOptions("tensorrt", sha256=hashlib.sha256(b"an engine").hexdigest())
        with tensorrt.load(path, options) as session:
            feed = {"image": IMAGE}
            view = np.empty_like(IMAGE)

            def bare() -> None:
                view[...] = IMAGE
                nothing(None)
                nothing()

            bound = session.bind(feed)
            session.run(feed)
            assert session.settings["cuda_graph"] is session.settings["bound_cuda_graph"] is True, session.settings
            cells = {
                "run, batch 1": lambda: session.run(feed),
                "the same calls, bare": bare,
                "bound launch": bound.launch,
                "the same call, bare": lambda: nothing(None),
            }
            best = dict.fromkeys(cells, float("inf"))  # of five medians
            for _ in range(5):  # in turn: what slows the machine down hits all
                for name, call in cells.items():
                    best[name] = min(best[name], median_us(call, calls // 5))
    for name, microseconds in best.items():
        print(f"{name:24}{microseconds:8.2f} µs")


if __name__ == "__main__":
    main()

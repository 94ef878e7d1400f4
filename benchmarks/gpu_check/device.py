"""The step `device`: `pipeline.cuda` brings bytes to the GPU and back, by itself and in a captured graph."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_check import records
from benchmarks.gpu_check.records import DeviceRun
from pipeline import cuda
from pipeline.errors import PipelineError

NBYTES = 64 << 20
TIMES = 10


def main(found: Path, nbytes: int = NBYTES) -> None:
    """Copy there and back, compare, and write a `DeviceRun`.

    Raises:
        BackendUnavailable: there is no GPU, or no cuda.core.
        PipelineError: other bytes came back.
    """
    stream = cuda.create_stream()
    memory = cuda.Memory(stream, (nbytes,), np.dtype(np.uint8), pinned=True)
    _there_and_back(stream, memory, memory.upload, memory.download, "copied there and back")
    up, down = cuda.capture(stream, memory.upload), cuda.capture(stream, memory.download)
    _there_and_back(stream, memory, lambda: up.launch(stream), lambda: down.launch(stream), "copied by captured graphs")
    clock = cuda.EventClock(int(stream.handle))
    times = [min(clock.time_ns(lambda: graph.launch(stream)) for _ in range(TIMES)) for graph in (up, down)]  # noqa: B023
    gpu = stream.device
    major, minor = gpu.compute_capability
    records.write(found, DeviceRun(str(gpu.name), (int(major), int(minor)), nbytes, *times))
    for graph in (up, down):
        graph.close()
    memory.close()
    stream.close()


def _there_and_back(
    stream: Any, memory: cuda.Memory, upload: Callable[[], None], download: Callable[[], None], how: str
) -> None:
    sent = np.random.default_rng().integers(0, 256, memory.view.shape, dtype=np.uint8)
    memory.view[:] = sent
    upload()
    stream.sync()
    memory.view[:] = 0  # what is read below has been on the GPU
    download()
    stream.sync()
    if changed := int((memory.view != sent).sum()):
        raise PipelineError(f"{how}: of {sent.size:,} bytes {changed:,} came back changed")

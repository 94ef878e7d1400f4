"""The step `device`: `pipeline.cuda` brings bytes to the GPU and back, by itself and in a captured graph."""

from pathlib import Path

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

    def there_and_back() -> None:
        memory.upload()
        memory.download()

    def check(how: str) -> None:
        if not np.array_equal(memory.view, expected):
            raise PipelineError(
                f"{how}: of {nbytes:,} bytes {int((memory.view != expected).sum()):,} came back changed"
            )

    random = np.random.default_rng(0)
    expected = random.integers(0, 256, nbytes, dtype=np.uint8)
    memory.view[:] = expected
    memory.upload()
    stream.sync()
    memory.view[:] = 0  # what is read below has been on the GPU
    memory.download()
    stream.sync()
    check("copied there and back")

    graph = cuda.capture(stream, there_and_back)
    expected = random.integers(0, 256, nbytes, dtype=np.uint8)
    memory.view[:] = expected
    clock = cuda.EventClock(int(stream.handle))
    fastest = min(clock.time_ns(lambda: graph.launch(stream)) for _ in range(TIMES))
    check("copied by a captured graph")
    gpu = stream.device
    major, minor = gpu.compute_capability
    records.write(found, DeviceRun(str(gpu.name), (int(major), int(minor)), nbytes, fastest))
    graph.close()
    memory.close()
    stream.close()

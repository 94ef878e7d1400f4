"""CUDA through cuda.core: the device, streams, memory, captured graphs, and a clock on the device.

cuda.core is imported inside functions: it may be absent. Its objects are passed on as they are, since a wrapper would
cost time between two launches. All but `Memory.download` has run on a GPU. The test that checks every name against the
API (see pipeline.backends.tensorrt.build) covers this file too.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline import environment
from pipeline.errors import BackendUnavailable, first_line
from pipeline.tensors import Array


class CaptureError(Exception):
    """Work on a stream cannot be captured as a graph; the message is one line of CUDA's."""


def device() -> Any:
    """Return the first GPU, as cuda.core's Device; raise BackendUnavailable where there is none."""
    remedy = "Run this on a machine with an NVIDIA GPU and its driver (`nvidia-smi`)."
    if not environment.gpus():
        raise BackendUnavailable("no NVIDIA GPU here (nvidia-smi does not answer)", remedy)
    try:
        from cuda.core import Device

        return Device(0)
    except ImportError as error:
        raise BackendUnavailable(
            f"cuda.core cannot be imported: {error}", "pip install cuda-core 'cuda-bindings<13'"
        ) from error
    except Exception as error:  # no driver is a RuntimeError, no GPU a CUDAError, which has no public name
        raise BackendUnavailable(f"no NVIDIA GPU can be used: {first_line(error)}", remedy) from error


def create_stream() -> Any:
    """Return a new stream of the first GPU, whose context becomes the thread's; the caller closes it.

    `int(stream.handle)` is what other libraries take, and `Bound.stream`.

    Raises:
        BackendUnavailable: there is no GPU.
    """
    gpu = device()
    gpu.set_current()
    return gpu.create_stream()


def allocate(stream: Any, nbytes: int) -> Any:
    """Return a buffer of device memory, at least one byte, for work on this stream; the caller closes it.

    Raises:
        BackendUnavailable: the device has not that much, with CUDA's words.
    """
    gpu = stream.device
    try:
        return gpu.allocate(max(nbytes, 1), stream=stream)
    except Exception as error:  # CUDAError has no public name
        raise BackendUnavailable(
            f"the GPU cannot allocate {nbytes:,} bytes: {first_line(error)}",
            "Choose a smaller batch, or free its memory (`nvidia-smi` shows what uses it).",
        ) from error


class Memory:
    """One tensor's memory on the device and, where `pinned`, its page-locked copy on the host for fast transfers.

    `address` is the device's, `view` the host's copy as an array, zeros at first. Views stay valid as long as somebody
    holds them, even after `close`: the array keeps the host memory, and CUDA frees it with the last one.
    """

    def __init__(self, stream: Any, shape: tuple[int, ...], dtype: np.dtype[Any], *, pinned: bool) -> None:
        nbytes = math.prod(shape) * dtype.itemsize
        self._stream = stream
        self._on_device = allocate(stream, nbytes)
        self._on_host: Any = None
        self.address = int(self._on_device.handle)
        if pinned:
            from cuda.core import LegacyPinnedMemoryResource

            self._on_host = LegacyPinnedMemoryResource().allocate(max(nbytes, 1), stream=stream)
            raw: Array = np.from_dlpack(self._on_host)  # int8 [nbytes]
            self.view = raw[:nbytes].view(dtype).reshape(shape)
            self.view[...] = 0

    def upload(self) -> None:
        """Start copying the host's copy to the device."""
        self._on_host.copy_to(self._on_device, stream=self._stream)

    def download(self) -> None:
        """Start copying the tensor from the device to the host's copy."""
        self._on_device.copy_to(self._on_host, stream=self._stream)

    def close(self) -> None:
        """Give the device's memory back; no work that uses it may be under way."""
        self._on_device.close(self._stream)


def capture(stream: Any, work: Callable[[], None]) -> Any:
    """Return a graph of what `work` puts on the stream, without running it.

    The graph does not keep the memory alive that its nodes name: its holder must.

    Raises:
        CaptureError: `work` did what cannot be captured, such as allocating or waiting; the stream can be used again.
    """
    graph_builder = stream.create_graph_builder()
    try:
        graph_builder.begin_building("thread_local")  # as trtexec: other threads are not restricted
        work()
        graph_builder.end_building()
        graph = graph_builder.complete()
    except Exception as error:  # CUDAError has no public name; TensorRT says no in several ways
        with suppress(Exception):  # ends the capture, and reports once more that it is invalid
            graph_builder.close()
        if isinstance(error, AttributeError | NameError | TypeError):
            raise  # a mistake here, which must not pass for an engine that cannot be captured
        raise CaptureError(first_line(error)) from error
    graph_builder.close()
    return graph


class EventClock:
    """Takes durations on the device itself, between two events of the stream with this handle."""

    def __init__(self, handle: int) -> None:
        from cuda.core import EventOptions, Stream

        gpu = device()
        gpu.set_current()
        options = EventOptions(timing_enabled=True)
        self._stream = Stream.from_handle(handle)
        self._begun = self._stream.record(options=options)
        self._ended = self._stream.record(options=options)

    def time_ns(self, launch: Callable[[], None]) -> int:
        """Return how long what `launch` puts on the stream takes there, in ns, and wait for its end.

        CUDA's events count in steps of about 0.5 µs (cuEventElapsedTime).
        """
        self._stream.record(self._begun)
        launch()
        self._stream.record(self._ended)
        self._ended.sync()
        milliseconds: float = self._ended - self._begun
        return round(milliseconds * 1e6)

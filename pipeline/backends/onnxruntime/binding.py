"""Input and output arrays bound to ONNX Runtime (its I/O binding), so that nothing is copied that need not be.

A batch is what is kept for one shape of the inputs: the arrays it computes into, and a binding for each piece that it
is run in. The session of the backend decides which batch is used when.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from pipeline.tensors import Array, Feed, Outputs, TensorSpec

Shapes = tuple[tuple[int, ...], ...]
"""The shape of each input, in the model's order."""


def pieces(samples: int, chunk: int) -> list[slice]:
    """Return the pieces of a batch: as few as `chunk` samples at most allow, and as equal as can be.

    So a batch of 65 in chunks of 64 is 33 + 32 and not 64 + 1.
    """
    size = -(-samples // -(-samples // chunk))
    return [slice(start, min(start + size, samples)) for start in range(0, samples, size)]


class Batch:
    """What is bound for inputs of these `shapes`, in pieces of at most `chunk` samples (None: whole)."""

    stream: int | None = None
    """The handle of the CUDA stream it runs on."""
    aliases: ClassVar[bool]
    """Whether an input is read where it lies, so that the same array needs no second look."""

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        shapes: Shapes,
        chunk: int | None,
        settings: dict[str, object],
    ) -> None:
        self.settings = settings
        samples = shapes[0][0]
        self._parts = None if chunk is None else pieces(samples, chunk)
        self._wanted = [(spec.name, shape, spec.dtype) for spec, shape in zip(inputs, shapes, strict=True)]
        self._placed: dict[str, Array] = {}
        self._arrays = {
            spec.name: np.empty([samples if size is None else size for size in spec.shape], spec.dtype)
            for spec in outputs
        }

    def take(self, feed: Feed) -> bool:
        """Place a feed's arrays, or return False where they are not just what is bound here."""
        if len(feed) != len(self._wanted):
            return False
        for name, shape, dtype in self._wanted:
            array = feed.get(name)
            # The shape of the same array too: assigning to it changes an array that stays the same object.
            if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
                return False
            if array is self._placed.get(name) and self.aliases:
                continue
            if not array.flags.c_contiguous:
                return False
            self.place(name, array)
        return True

    def place(self, name: str, array: Array) -> None:
        """Make a contiguous array the input that `infer` reads."""
        raise NotImplementedError

    def infer(self, *, wait: bool = True) -> None:
        """Infer, and wait for the end or not."""
        raise NotImplementedError

    def wait(self) -> None:
        """Wait for the end of what was started."""

    def fetch(self) -> Outputs:
        """Return the outputs in host memory: arrays of this batch's own, the same each time."""
        return self._arrays


class HostBatch(Batch):
    """Bound to arrays in host memory: the caller's own for the inputs, preallocated ones for the outputs."""

    aliases = True

    def __init__(self, session: Any, *what: Any) -> None:
        super().__init__(*what)
        self._infer = session.run_with_iobinding
        self._bindings = [session.io_binding() for _ in self._parts or (None,)]
        for name, array in self._arrays.items():
            for binding, part in self._split(array):
                binding.bind_output(name, "cpu", 0, array.dtype.type, list(part.shape), part.ctypes.data)

    def place(self, name: str, array: Array) -> None:
        """Bind the array. It is not copied: `bind_cpu_input` reads it where it lies, and keeps it alive."""
        self._placed.pop(name, None)
        for binding, part in self._split(array):
            binding.bind_cpu_input(name, part)
        self._placed[name] = array

    def infer(self, *, wait: bool = True) -> None:
        """Infer; a CPU is done when the call returns."""
        for binding in self._bindings:
            self._infer(binding)

    def _split(self, array: Array) -> Iterator[tuple[Any, Array]]:
        parts = (array,) if self._parts is None else (array[part] for part in self._parts)
        return zip(self._bindings, parts, strict=True)


class DeviceBatch(Batch):
    """Bound to memory on the first GPU, at addresses that never change, so that a CUDA graph can be replayed.

    As ONNX Runtime documents CUDA graphs: one for each `gpu_graph_id`, captured by the first run with it; -1 runs
    without a graph. Inputs go up by
    `OrtValue.update_inplace`, and outputs come down by `OrtValue.numpy`, both of which wait for their copy.
    """

    aliases = False

    GRAPHS = 64
    """CUDA graphs of one session: ONNX Runtime keeps them, with their memory, as long as the session lives."""

    def __init__(self, session: Any, *what: Any, stream: Any, graph_ids: "itertools.count[int]") -> None:
        from onnxruntime import OrtValue, RunOptions

        super().__init__(*what)
        self.stream = int(stream.handle)
        self._stream = stream
        self._infer = session.run_with_iobinding
        values = {
            name: OrtValue.ortvalue_from_shape_and_type(list(shape), dtype.type, "cuda", 0)
            for name, shape, dtype in (
                *self._wanted,
                *((name, array.shape, array.dtype) for name, array in self._arrays.items()),
            )
        }
        self._inputs = {name: values[name] for name, _, _ in self._wanted}
        self._outputs = {name: values[name] for name in self._arrays}
        self._runs = []  # of each piece: its binding, how to run it and wait, and how to run it and not
        for part in self._parts or (None,):
            binding = session.io_binding()
            for name, shape, dtype in self._wanted:
                binding.bind_input(name, "cuda", 0, dtype.type, *_place_of(part, shape, dtype, values[name]))
            for name, array in self._arrays.items():
                place = _place_of(part, array.shape, array.dtype, values[name])
                binding.bind_output(name, "cuda", 0, array.dtype.type, *place)
            graph_id = next(graph_ids) if self.settings["cuda_graph"] else -1
            waiting, not_waiting = RunOptions(), RunOptions()
            for options in (waiting, not_waiting):
                options.add_run_config_entry("gpu_graph_id", str(graph_id if graph_id <= self.GRAPHS else -1))
            not_waiting.add_run_config_entry("disable_synchronize_execution_providers", "1")
            self._runs.append((binding, waiting, not_waiting))

    def place(self, name: str, array: Array) -> None:
        """Copy the array to the device."""
        self._inputs[name].update_inplace(array)

    def infer(self, *, wait: bool = True) -> None:
        """Infer, and wait for the end or not."""
        for binding, waiting, not_waiting in self._runs:
            self._infer(binding, waiting if wait else not_waiting)

    def wait(self) -> None:
        """Wait for the end of what was started."""
        self._stream.sync()

    def fetch(self) -> Outputs:
        """Copy the outputs into the session's own arrays in host memory, and return these."""
        for name, array in self._arrays.items():
            np.copyto(array, self._outputs[name].numpy())
        return self._arrays


def _place_of(part: slice | None, shape: tuple[int, ...], dtype: np.dtype[Any], value: Any) -> tuple[list[int], int]:
    """Return the shape and the address of one piece of a tensor on the device."""
    if part is None:
        return list(shape), value.data_ptr()
    rows, offset = part.stop - part.start, part.start * math.prod(shape[1:]) * dtype.itemsize
    return [rows, *shape[1:]], value.data_ptr() + offset

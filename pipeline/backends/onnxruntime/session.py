"""ONNX Runtime's sessions of one model.

Inputs and outputs are bound (ONNX Runtime's I/O binding, see `binding`): what is fed is read where it lies, and what is
computed is written where it stays. A large batch can be run in pieces, and with other threads, as its step says.
"""

import contextlib
import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline import cuda
from pipeline.artifacts.runner import Step
from pipeline.backends import Bound, Closable, LoadOptions, read_model, step_of
from pipeline.backends.onnxruntime.binding import Batch, DeviceBatch, HostBatch, Shapes
from pipeline.backends.onnxruntime.opening import Opened, is_its_own, open_session, words
from pipeline.errors import BackendUnavailable, BatchOutsideProfile, InputError
from pipeline.graphs import files
from pipeline.graphs.files import Stored
from pipeline.tensors import CPU, FIRST_GPU, Array, Feed, Outputs, TensorSpec

KEPT = 8
"""Input shapes whose bindings and output arrays are kept; the one unused longest goes first."""

_TYPES = {
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(float16)": np.float16,
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(bool)": np.bool_,
}


class OnnxRuntimeSession(Closable):
    """Inference sessions of one model: one, and one more for each number of threads that a step names.

    `settings` are those of the batch run last: steps may run each size in its own way.
    """

    def __init__(
        self,
        open_session: Callable[[int | None], Opened],
        options: LoadOptions,
        device: str,
        stream: Any = None,
    ) -> None:
        self._open_session = functools.cache(open_session)  # by threads
        self._options = options
        self._stream = stream
        self.device = device
        session, self._graph_refused = self._open_session(options.threads)
        self.inputs = tuple(_spec(value) for value in session.get_inputs())
        self.outputs = tuple(_spec(value) for value in session.get_outputs())
        self._cuda_graph = session.get_provider_options().get("CUDAExecutionProvider", {}).get("enable_cuda_graph")
        # Only a batch may be dynamic, else nobody knows how large an output will be. ONNX Runtime reports a scalar's
        # shape and an unknown one alike, as ().
        self._bindable = all(spec.shape for spec in (*self.inputs, *self.outputs)) and not any(
            None in spec.shape[1:] for spec in self.outputs
        )
        self._divisible = self._bindable and all(spec.shape[0] is None for spec in (*self.inputs, *self.outputs))
        self._graph_ids = itertools.count(1)
        self._batches: OrderedDict[Shapes, Batch] = OrderedDict()
        self._last: Batch | None = None
        self._steps: tuple[Step, ...] = ()
        self.follow(options.steps)
        self.settings = self._settings(None, None)

    def follow(self, steps: Sequence[Step]) -> None:
        """Run batches by these steps from now on. An exact session follows none."""
        self._steps = () if self._options.exact else tuple(steps)
        self._last = None
        self._batches.clear()

    def run(self, feed: Feed) -> Outputs:
        """Infer from host arrays to host arrays.

        On the CPU an input is read where it lies: an array fed again is not even bound again, and what was written to
        it in between is seen. One that is not contiguous is copied.

        Raises:
            InputError: the feed lacks an input, or one has a shape or type the model does not take; a
                BatchOutsideProfile where only the graph's fixed batch is another.
            BackendUnavailable: the CUDA provider cannot run the graph.
        """
        self.check_open()
        batch = self._last
        if batch is None or not batch.take(feed):
            batch = self._turn_to(feed)
            if batch is None:
                return self._run_unbound(self._checked(feed))
        try:
            batch.infer()
        except RuntimeError as error:
            return self._run_unbound(self._checked(feed), error)
        return batch.fetch()

    def bind(self, feed: Feed) -> Bound:
        """Put the inputs on the device, with room for the outputs: on the CPU, into memory of the session's own.

        Raises:
            BackendUnavailable: an output's size is not known beforehand.
            InputError: as `run`.
        """
        self.check_open()
        arrays = self._checked(feed)
        if not self._bindable:
            raise BackendUnavailable("the sizes of this graph's outputs are not known beforehand")
        batch = self._new(tuple(array.shape for array in arrays.values()))
        batch.take({name: array.copy() for name, array in arrays.items()})
        try:
            batch.infer()  # what is wrong shows here; a CUDA graph is captured
        except RuntimeError as error:
            raise BackendUnavailable(
                f"ONNX Runtime cannot run this graph with its outputs bound: {words(error)}"
            ) from error
        self.settings = batch.settings

        def launch() -> None:
            self.check_open()
            batch.infer(wait=False)

        return Bound(launch, batch.wait, batch.stream)

    def close(self) -> None:
        """Forget the sessions and what is bound, and give back the stream."""
        if self._open:
            super().close()
            self._last = None
            self._batches.clear()
            self._open_session.cache_clear()
            if self._stream is not None:
                self._stream.close()

    def _turn_to(self, feed: Feed) -> Batch | None:
        """Return the batch for these shapes, with the arrays placed; None where nothing can be bound."""
        shapes = tuple([getattr(feed.get(spec.name), "shape", ()) for spec in self.inputs])
        batch = self._batches.get(shapes)
        if batch is None or not batch.take(feed):
            arrays = self._checked(feed)
            if not self._bindable:
                return None
            if batch is None:
                batch = self._batches[shapes] = self._new(shapes)
                if len(self._batches) > KEPT:
                    self._batches.popitem(last=False)
            batch.take(arrays)
        self._batches.move_to_end(shapes)
        self._last, self.settings = batch, batch.settings
        return batch

    def _new(self, shapes: Shapes) -> Batch:
        size = shapes[0][0]
        step = step_of(self._steps, size)
        alike = self._divisible and all(shape[0] == size for shape in shapes)
        chunk = step.chunk if step and alike and step.chunk and step.chunk < size else None
        threads = (step and step.threads) or self._options.threads
        what = (self.inputs, self.outputs, shapes, chunk, self._settings(threads, chunk))
        session = self._open_session(threads).session
        if self._options.variant == "cuda":
            return DeviceBatch(session, *what, stream=self._stream, graph_ids=self._graph_ids)
        return HostBatch(session, *what)

    def _settings(self, threads: int | None, chunk: int | None) -> dict[str, object]:
        found: dict[str, object] = {
            "threads": threads or self._options.threads or "library default",
            "chunk": chunk or "whole",
            "io_binding": self._bindable,
            "optimization": "none" if self._options.exact else "all",
            "cuda_graph": self._cuda_graph == "1" and self._bindable,
        }
        return found | ({"cuda_graph_reason": self._graph_refused} if self._graph_refused else {})

    def _run_unbound(self, arrays: dict[str, Array], refused: RuntimeError | None = None) -> Outputs:
        """Let ONNX Runtime allocate the outputs, where their sizes depend on more than the batch.

        Where it has refused the arrays bound for them, this shows whether they were the reason; if so, nothing is bound
        any more.
        """
        names = [spec.name for spec in self.outputs]
        without_graph = ort.RunOptions()
        without_graph.add_run_config_entry("gpu_graph_id", "-1")  # CUDA's provider would replay one on these arrays
        try:
            found = self._open_session(self._options.threads).session.run(names, arrays, without_graph)
        except Exception as error:
            if not is_its_own(error):
                raise
            if self._options.variant == "cuda":  # a kernel that takes no such type says so only when it runs
                raise BackendUnavailable(f"ONNX Runtime (cuda) cannot run this graph: {words(error)}") from error
            raise InputError(f"ONNX Runtime cannot run this input: {refused or error}") from error
        self._bindable, self._last = False, None
        if refused and self._options.variant == "cuda":
            self._graph_refused = words(refused)
        self._batches.clear()
        self.settings = self._settings(None, None)
        return dict(zip(names, found, strict=True))

    def _checked(self, feed: Feed) -> dict[str, Array]:
        """Return the feed's arrays, contiguous, in the order of the inputs, or raise InputError."""
        if feed.keys() != {spec.name for spec in self.inputs}:
            raise InputError(f"the feed has {sorted(feed)}, the model takes {[spec.name for spec in self.inputs]}")
        arrays = {}
        for spec in self.inputs:
            array = feed[spec.name]
            if not isinstance(array, np.ndarray):
                raise InputError(f"input {spec.name} is a {type(array).__name__}, not an array")
            if (spec.shape and not spec.fits(array.shape)) or array.dtype != spec.dtype:
                only_batch = array.dtype == spec.dtype and spec.fits_but_for_batch(array.shape)
                raise (BatchOutsideProfile if only_batch else InputError)(
                    f"ONNX Runtime refuses the input: {spec.name} is {array.dtype} {list(array.shape)}, "
                    f"the model takes {spec.dtype} {['any' if size is None else size for size in spec.shape]}"
                )
            arrays[spec.name] = array if array.flags.c_contiguous else np.ascontiguousarray(array)
        return arrays


def _spec(value: Any) -> TensorSpec:
    if value.type not in _TYPES:
        raise BackendUnavailable(
            f"ONNX Runtime's {value.name} is a {value.type}, for which there are no arrays of NumPy's"
        )
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, shape, np.dtype(_TYPES[value.type]))


@contextlib.contextmanager
def load(model: Path | bytes, options: LoadOptions) -> Iterator[OnnxRuntimeSession]:
    """Load an ONNX model as the package's `load` says; `options.variant` has been probed."""
    read: Stored | Path
    if isinstance(model, Path) and options.sha256 is None:
        # Nothing is promised of its content, so that ONNX Runtime may map the weights into memory.
        files.verified(model)
        read = model
    else:
        read = read_model(model, options.sha256)
    name = str(model) if isinstance(model, Path) else "the model"
    stream = cuda.create_stream() if options.variant == "cuda" else None
    device = str(FIRST_GPU if options.variant == "cuda" else CPU)
    session = OnnxRuntimeSession(
        lambda threads: open_session(read, name, options, threads, stream), options, device, stream
    )
    try:
        yield session
    finally:
        session.close()

"""ONNX Runtime's sessions of one model.

Inputs and outputs are bound (ONNX Runtime's I/O binding, see `binding`): what is fed is read where it lies, and what is
computed is written where it stays. A large batch can be run in pieces, and with other threads, as its step says.
"""

import contextlib
import functools
import io
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from pipeline import cuda, environment
from pipeline.artifacts.runner import Step
from pipeline.backends import Bound, Closable, LoadOptions, read_model, step_of
from pipeline.backends.onnxruntime.binding import Batch, DeviceBatch, HostBatch, Shapes
from pipeline.errors import ArtifactError, BackendUnavailable, BatchOutsideProfile, InputError
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
        open_session: Callable[[int | None], ort.InferenceSession],
        options: LoadOptions,
        device: str,
        stream: Any = None,
    ) -> None:
        self._open_session = functools.cache(open_session)  # by threads
        self._options = options
        self._stream = stream
        self.device = device
        session = self._open_session(options.threads)
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
            raise BackendUnavailable(f"ONNX Runtime cannot run this graph with its outputs bound: {error}") from error
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
        session = self._open_session(threads)
        if self._options.variant == "cuda":
            return DeviceBatch(session, *what, stream=self._stream, graph_ids=self._graph_ids)
        return HostBatch(session, *what)

    def _settings(self, threads: int | None, chunk: int | None) -> dict[str, object]:
        return {
            "threads": threads or self._options.threads or "library default",
            "chunk": chunk or "whole",
            "io_binding": self._bindable,
            "optimization": "none" if self._options.exact else "all",
            "cuda_graph": self._cuda_graph == "1",
        }

    def _run_unbound(self, arrays: dict[str, Array], refused: RuntimeError | None = None) -> Outputs:
        """Let ONNX Runtime allocate the outputs, where their sizes depend on more than the batch.

        Where it has refused the arrays bound for them, this shows whether they were the reason; if so, nothing is bound
        any more.
        """
        names = [spec.name for spec in self.outputs]
        without_graph = ort.RunOptions()
        without_graph.add_run_config_entry("gpu_graph_id", "-1")  # CUDA's provider would replay one on these arrays
        try:
            found = self._open_session(self._options.threads).run(names, arrays, without_graph)
        except Exception as error:
            if isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime"):
                raise InputError(f"ONNX Runtime cannot run this input: {refused or error}") from error
            raise
        self._bindable, self._last = False, None
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
    shape = tuple(size if isinstance(size, int) else None for size in value.shape)
    return TensorSpec(value.name, shape, np.dtype(_TYPES[value.type]))


@contextlib.contextmanager
def load(model: Path | bytes, options: LoadOptions) -> Iterator[OnnxRuntimeSession]:
    """Load an ONNX model as the package's `load` says; `options.variant` has been probed."""
    content = read_model(model, options.sha256)
    name = str(model) if isinstance(model, Path) else "the model"
    stream = cuda.create_stream() if options.variant == "cuda" else None
    device = str(FIRST_GPU if options.variant == "cuda" else CPU)
    session = OnnxRuntimeSession(
        lambda threads: _open(content, name, options, threads, stream), options, device, stream
    )
    try:
        yield session
    finally:
        session.close()


def session_options(options: LoadOptions, threads: int | None) -> ort.SessionOptions:
    """Return how ONNX Runtime is to load and run a model; `threads` are those of one operator (None: its choice)."""
    settings = ort.SessionOptions()
    settings.log_severity_level = 3  # errors; its warnings say that a graph could be optimized further
    level = ort.GraphOptimizationLevel
    settings.graph_optimization_level = level.ORT_DISABLE_ALL if options.exact else level.ORT_ENABLE_ALL
    if threads is not None:
        settings.intra_op_num_threads = threads
    if options.variant == "cuda":
        # Without this, nodes that the provider lacks run on the CPU in silence.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return settings


def wrong_optimizers(version: str) -> list[str]:
    """Return the optimizers of a version of ONNX Runtime that change results, for `disabled_optimizers`.

    Pad_Fusion folds a Pad of zeros into a MaxPool, which pads with -Inf: 1.26 to 1.31.0 do, 1.32.0 does not.
    """
    return ["Pad_Fusion"] if tuple(int(part) for part in version.split(".")[:2]) < (1, 32) else []


def _open(content: bytes, name: str, options: LoadOptions, threads: int | None, stream: Any) -> ort.InferenceSession:
    settings = session_options(options, threads)
    providers: list[Any] = ["CPUExecutionProvider"]
    if options.variant == "cuda":
        provider = {
            "use_tf32": "1" if options.allow_tf32 else "0",
            "enable_cuda_graph": "0" if options.exact else "1",
            "user_compute_stream": str(int(stream.handle)),
        }
        # Alone: naming the CPU's provider too contradicts disable_cpu_ep_fallback, and is refused.
        providers = [("CUDAExecutionProvider", provider)]
    printed = io.StringIO()
    failed: Exception | None = None
    with environment.native_log_hidden(), contextlib.redirect_stdout(printed):  # both are reported below, once
        try:
            if options.variant == "cuda" and hasattr(ort, "preload_dlls"):
                ort.preload_dlls()  # the CUDA libraries that TensorFlow's packages brought
            wrong = wrong_optimizers(ort.__version__)
            return ort.InferenceSession(
                content, settings, providers=providers, disabled_optimizers=wrong, enable_fallback=0
            )
        except Exception as error:
            if not isinstance(error, RuntimeError) and not type(error).__module__.startswith("onnxruntime"):
                raise
            failed = error
    if type(failed).__name__ in ("InvalidProtobuf", "InvalidGraph", "NoSuchFile"):
        raise ArtifactError(f"{name} is not a readable ONNX model: {failed}", "Run `make export engine`.") from failed
    why = "; ".join(filter(None, (str(failed), next(iter(printed.getvalue().splitlines()), ""))))
    raise BackendUnavailable(
        f"ONNX Runtime ({options.variant}) cannot run {Path(name).name}: {why}", "`make doctor` shows what is missing."
    ) from failed

"""Runs an engine for one shape: its context, memory and CUDA graph on one stream. See pipeline.backends.tensorrt.

Contexts of one stream share its scratch memory, since they never run at the same time. No engine has been run on a GPU
yet. For the names of variables see pipeline.backends.tensorrt.build.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline import cuda
from pipeline.backends.tensorrt import build
from pipeline.errors import BackendUnavailable, InputError
from pipeline.tensors import Feed, Outputs, TensorSpec

Shapes = Mapping[str, tuple[int, ...]]


@dataclass
class Loaded:
    """A deserialized engine, with what creates contexts of it."""

    flavour: str
    runtime: Any
    engine: Any
    runtime_config: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def failure(self, what: str) -> BackendUnavailable:
        """Return the error that says what TensorRT could not do, with its last message."""
        logger = build.logger_of(self.flavour)
        return BackendUnavailable("\n".join([f"TensorRT could not {what}:", *logger.words[-3:]]))


def load(flavour: str, runtime: Any, engine: Any) -> Loaded:
    """Read what the engine takes and returns, and how contexts of it are to be created: with our memory."""
    trt = build.module(flavour)
    runtime_config = engine.create_runtime_config()
    runtime_config.set_execution_context_allocation_strategy(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if flavour == "tensorrt-rtx":
        _specialise(trt, runtime_config)
    return Loaded(flavour, runtime, engine, runtime_config, *_tensors(trt, engine))


def _specialise(trt: Any, runtime_config: Any) -> None:
    """Have TensorRT for RTX compile a shape's own kernels at once.

    It would compile them later, beside the inference, and a graph captured before would keep the slower general ones.
    """
    runtime_config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER


def _capturable(context: Any, handle: int) -> bool:
    """Ask TensorRT for RTX whether the context's work can be captured."""
    return bool(context.is_stream_capturable(handle))


def _tensors(trt: Any, engine: Any) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the engine's inputs and outputs, None where a dimension is dynamic."""
    inputs: list[TensorSpec] = []
    outputs: list[TensorSpec] = []
    for name in (engine.get_tensor_name(index) for index in range(engine.num_io_tensors)):
        try:
            dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
        except TypeError as error:  # BF16 and FP8: numpy has neither
            raise BackendUnavailable(
                f"{name} has type {engine.get_tensor_dtype(name)}, which numpy lacks",
                "Keep the graph's inputs and outputs in a type of numpy.",
            ) from error
        shape = tuple(None if size == -1 else int(size) for size in engine.get_tensor_shape(name))
        place = inputs if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT else outputs
        place.append(TensorSpec(name, shape, dtype))
    return tuple(inputs), tuple(outputs)


class Lane:
    """A stream, and the scratch memory of the contexts that run on it, large enough for any shape of any profile."""

    def __init__(self, engine: Any) -> None:
        self.stream = cuda.create_stream()
        self.handle = int(self.stream.handle)
        self.scratch = cuda.allocate(self.stream, engine.device_memory_size_v2)

    def close(self) -> None:
        """Free the memory, then the stream; nothing may be under way on it."""
        self.scratch.close(self.stream)
        self.stream.close()


class ShapeContext:
    """An execution context on a lane, in one optimization profile, for one set of input shapes.

    It stays in that profile: a change would cost copies on the device. `shapes` has every tensor's shape.
    """

    def __init__(self, loaded: Loaded, lane: Lane, profile: int, shapes: Shapes) -> None:
        self.loaded, self.lane = loaded, lane
        engine = loaded.engine
        context = engine.create_execution_context(runtime_config=loaded.runtime_config)
        if context is None:
            raise loaded.failure("create an execution context")
        context.set_device_memory(int(lane.scratch.handle), lane.scratch.size)
        # On the stream of its inferences: what TensorRT copies for the profile comes before the first of them.
        if not context.set_optimization_profile_async(profile, lane.handle):
            raise loaded.failure(f"take optimization profile {profile}")
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise loaded.failure(f"take {shape} as the shape of {name}")
        if missing := context.infer_shapes():
            raise InputError(f"the engine cannot infer its shapes without {', '.join(missing)}")
        self.shapes = {spec.name: tuple(context.get_tensor_shape(spec.name)) for spec in self.specs}
        for name, shape in self.shapes.items():
            if -1 in shape:
                raise BackendUnavailable(f"the shape of {name} depends on the data, which is not supported: {shape}")
        self.context: Any = context
        self._placed: object = None

    @property
    def specs(self) -> tuple[TensorSpec, ...]:
        """Every input, then every output."""
        return (*self.loaded.inputs, *self.loaded.outputs)

    @property
    def capturable(self) -> bool:
        """Whether TensorRT says so; TensorRT 11 says nothing, and the capture itself tells."""
        return self.loaded.flavour != "tensorrt-rtx" or _capturable(self.context, self.lane.handle)

    def infer(self, memory: Mapping[str, cuda.Memory]) -> None:
        """Enqueue one inference on this memory."""
        context = self.context
        if self._placed is not memory:
            for name, one in memory.items():
                if not context.set_tensor_address(name, one.address):
                    raise self.loaded.failure(f"take the memory of {name}")
            self._placed = memory
        if not context.execute_async_v3(self.lane.handle):
            raise self.loaded.failure("execute the engine")

    def close(self) -> None:
        """Release the context, after the graphs captured from it."""
        self.context = None


class Slot:
    """Memory for one batch, and `launch`, which starts one inference on it: a CUDA graph where one can be captured.

    With `copies` a launch copies the inputs from pinned memory, infers, and copies the outputs to pinned memory;
    without, it infers. `outputs` returns a dict of views of that memory, valid from the end of a launch until the next.
    `wait` waits for the last marked launch, `sync` for everything on the stream. `reason` says why there is no graph.
    The graph names the memory, which the slot holds, and the context's, which `on` holds: see `free`.
    """

    def __init__(self, on: ShapeContext, *, copies: bool) -> None:
        stream = on.lane.stream
        inputs, outputs = on.loaded.inputs, on.loaded.outputs
        self._on, self._copies = on, copies
        self._memory = {
            spec.name: cuda.Memory(stream, on.shapes[spec.name], spec.dtype, pinned=copies or spec in inputs)
            for spec in on.specs
        }
        self._sources = tuple(
            (spec.name, on.shapes[spec.name], spec.dtype, self._memory[spec.name].view) for spec in inputs
        )
        self._outputs: Outputs = {spec.name: self._memory[spec.name].view for spec in outputs} if copies else {}
        self._uploads = [self._memory[spec.name].upload for spec in inputs]
        self._downloads = [self._memory[spec.name].download for spec in outputs] if copies else []
        self.lane = on.lane.handle
        self.sync = stream.sync
        self.outputs = self._outputs.copy
        self.launch: Callable[[], None] = self._enqueue
        self.reason = ""
        self._graph: Any = None
        self.upload()  # zeros: device memory holds anything at first
        self._enqueue()  # warm: TensorRT finishes its preparations of a shape with its first inference
        self.sync()
        try:
            if not on.capturable:
                raise cuda.CaptureError("TensorRT for RTX says that this context cannot be captured")
            self._graph = graph = cuda.capture(stream, self._enqueue)
            self.launch = partial(graph.launch, stream)
        except cuda.CaptureError as error:
            self.reason = str(error)
        self._done = stream.record()
        self.wait = self._done.sync
        self._record = partial(stream.record, self._done)

    def fill(self, feed: Feed) -> bool:
        """Copy the feed into pinned memory; return False, with nothing promised, where it does not fit this slot."""
        if len(feed) != len(self._sources):
            return False
        for name, shape, dtype, view in self._sources:
            array = feed.get(name)
            if array is None or array.shape != shape or array.dtype != dtype:
                return False
            view[...] = array
        return True

    def fill_part(self, part: Feed, batched: frozenset[str]) -> None:
        """Copy a batch no larger than the slot's into pinned memory; behind it stay earlier samples, or zeros."""
        for name, _, _, view in self._sources:
            if name in batched:
                view[: len(part[name])] = part[name]
            else:
                view[...] = part[name]

    def upload(self) -> None:
        """Start copying the inputs to the device."""
        for upload in self._uploads:
            upload()

    def launch_marked(self) -> None:
        """Launch so that `wait` waits for this inference, and not for what is put on the stream after it."""
        self.launch()
        self._record()

    def close_graph(self) -> None:
        """Wait for the stream and free the graph."""
        self.sync()
        if self._graph is not None:
            self._graph.close()
        self._done.close()

    def close(self) -> None:
        """Free the memory, after the graph and the context that name it."""
        for one in self._memory.values():
            one.close()

    def _enqueue(self) -> None:
        if self._copies:
            self.upload()
        self._on.infer(self._memory)
        for download in self._downloads:
            download()


def free(slots: Collection[Slot], contexts: Iterable[ShapeContext]) -> None:
    """Free the graphs, then the contexts they were captured from, then the memory that both name."""
    for slot in slots:
        slot.close_graph()
    for one in contexts:
        one.close()
    for slot in slots:
        slot.close()

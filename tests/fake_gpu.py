"""A GPU, cuda.core and TensorRT in numpy, for what the runner does in which order; they move and compute real bytes.

Work put on a stream waits until somebody waits for it, so that a result read too early, or memory written or freed too
early, shows as a wrong result or an error. Freed memory is poisoned. What a driver refuses during a capture is refused.
"""

import weakref
from collections.abc import Callable
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

POISON = 0xEE


class CudaError(Exception):
    """What CUDA would report."""


class Gpu:
    """The device and all that was made on it; `log` has what happened, in order."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.memory: dict[int, np.ndarray] = {}
        self.streams: dict[int, Stream] = {}
        self.contexts: list[weakref.ref[Context]] = []
        self.next_address = 4096
        self.capturable = True
        self.launches_left = 1_000_000
        self.config: SimpleNamespace | None = None
        self.stream_of_scratch: dict[int, int] = {}  # by address

    def at(self, address: int, nbytes: int) -> np.ndarray:
        if address not in self.memory:
            raise CudaError("memory is used after it was freed")
        return self.memory[address][:nbytes]


class Device:
    name = "A fake GPU"
    compute_capability = (8, 9)

    def __init__(self, gpu: Gpu) -> None:
        self.gpu = gpu

    def set_current(self) -> None:
        pass

    def create_stream(self) -> "Stream":
        return Stream(self)

    def allocate(self, size: int, *, stream: "Stream") -> "Buffer":
        assert not stream.captured_to
        return Buffer(self.gpu, size, "device memory")

    def sync(self) -> None:
        for stream in self.gpu.streams.values():
            stream.sync()
        self.gpu.log.append("device sync")


class Buffer:
    def __init__(self, gpu: Gpu, size: int, what: str) -> None:
        self.gpu, self.size, self.what = gpu, size, what
        self.handle = gpu.next_address
        gpu.next_address += size + 256
        gpu.memory[self.handle] = np.full(size, POISON, np.uint8)
        if what != "device memory":  # nobody closes pinned memory: the last reference frees it
            weakref.finalize(self, gpu.memory.pop, self.handle)

    def copy_to(self, destination: "Buffer", *, stream: "Stream") -> None:
        assert self.size == destination.size
        source_at, destination_at, size, gpu = self.handle, destination.handle, self.size, self.gpu

        def copy() -> None:
            gpu.at(destination_at, size)[:] = gpu.at(source_at, size)

        stream.put("copy in" if destination.what == "device memory" else "copy out", copy)

    def copy_from(self, source: "Buffer", *, stream: "Stream") -> None:
        source.copy_to(self, stream=stream)

    def fill(self, value: int, *, stream: "Stream") -> None:
        stream.put("fill", lambda: self.gpu.memory[self.handle].fill(value))

    def close(self, stream: "Stream | None" = None) -> None:
        self.gpu.memory.pop(self.handle)[:] = POISON
        self.gpu.log.append(f"free {self.what}")

    def __dlpack__(self, **options: Any) -> object:
        return np.asarray(_Keeper(self)).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class _Keeper:
    """Lends a pinned buffer's memory, and keeps the buffer as long as an array of it lives."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        self.__array_interface__ = buffer.gpu.memory[buffer.handle].__array_interface__


class Event:
    def __init__(self, gpu: Gpu) -> None:
        self.gpu, self.stream, self.position, self.time = gpu, None, 0, 0.0

    def sync(self) -> None:
        self.gpu.log.append("wait for event")
        self.stream.run_until(self.position)

    def close(self) -> None:
        pass

    def __sub__(self, other: "Event") -> float:
        return self.time - other.time


class Stream:
    def __init__(self, device: Device) -> None:
        self.device, self.gpu = device, device.gpu
        self.handle = len(self.gpu.streams) + 1
        self.gpu.streams[self.handle] = self
        self.queue: list[Callable[[], None]] = []
        self.done = 0
        self.now_ms = 0.0
        self.captured_to: list[list[tuple[str, Callable[[], None]]]] = []

    def put(self, what: str, work: Callable[[], None]) -> None:
        if self.captured_to:
            self.captured_to[0].append((what, work))
            return
        self.gpu.log.append(f"{what} on {self.handle}")

        def timed() -> None:
            work()
            self.now_ms += 1

        self.queue.append(timed)

    def run_until(self, position: int) -> None:
        while self.done < position:
            self.queue[self.done]()
            self.queue[self.done] = int  # done, and nothing it held
            self.done += 1

    def sync(self) -> None:
        if self.captured_to:
            raise CudaError("operation not permitted when stream is capturing")
        self.gpu.log.append(f"sync {self.handle}")
        self.run_until(len(self.queue))

    def record(self, event: Event | None = None, options: Any = None) -> Event:
        event = event or Event(self.gpu)
        event.stream = self

        def stamp() -> None:
            event.time = self.now_ms

        self.queue.append(stamp)
        event.position = len(self.queue)
        return event

    def create_graph_builder(self) -> "GraphBuilder":
        return GraphBuilder(self)

    def close(self) -> None:
        assert self.done == len(self.queue), "a stream is destroyed with work on it"
        self.gpu.log.append(f"free stream {self.handle}")


class GraphBuilder:
    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.nodes: list[tuple[str, Callable[[], None]]] = []

    def begin_building(self, mode: str) -> None:
        assert mode == "thread_local"
        self.stream.captured_to = [self.nodes]

    def end_building(self) -> "GraphBuilder":
        self.stream.captured_to = []
        return self

    def complete(self) -> "Graph":
        self.stream.gpu.log.append(f"capture on {self.stream.handle}: {', '.join(what for what, _ in self.nodes)}")
        return Graph(self.nodes)

    def close(self) -> None:
        self.stream.captured_to = []


class Graph:
    def __init__(self, nodes: list[tuple[str, Callable[[], None]]]) -> None:
        self.nodes: list[tuple[str, Callable[[], None]]] | None = nodes

    def launch(self, stream: Stream) -> None:
        if self.nodes is None:
            raise CudaError("a graph is launched after it was freed")
        if stream.gpu.launches_left == 0:
            raise CudaError("launch failed")
        stream.gpu.launches_left -= 1
        nodes = self.nodes
        stream.put("graph", lambda: [work() for _, work in nodes] and None)
        self.gpu = stream.gpu

    def close(self) -> None:
        self.nodes = None
        if hasattr(self, "gpu"):
            self.gpu.log.append("free graph")


class Mode(Enum):
    INPUT, OUTPUT = range(2)


class Tensor(SimpleNamespace):
    """One input or output: name, shape with -1 where it is dynamic, dtype, mode, perhaps a profile of its own."""


class Engine:
    """An engine whose inference is `function`, from arrays by name to arrays by name.

    `profiles` are the ranges of every dynamic first axis, `sizes` is that of every other.
    """

    device_memory_size_v2 = 64

    def __init__(
        self,
        gpu: Gpu,
        tensors: list[Tensor],
        function: Callable[..., Any],
        *profiles: tuple[int, int, int],
        sizes: tuple[int, int, int] = (1, 3, 5),
    ):
        self.gpu, self.tensors, self.function, self.profiles, self.sizes = gpu, tensors, function, profiles, sizes
        self.num_optimization_profiles = len(profiles)
        self.num_io_tensors = len(tensors)
        self.by_name = {tensor.name: tensor for tensor in tensors}
        weakref.finalize(self, gpu.log.append, "free engine")

    def get_tensor_name(self, index: int) -> str:
        return str(self.tensors[index].name)

    def get_tensor_dtype(self, name: str) -> np.dtype:
        return np.dtype(self.by_name[name].dtype)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.by_name[name].shape)

    def get_tensor_mode(self, name: str) -> Mode:
        return self.by_name[name].mode

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        shape = self.get_tensor_shape(name)
        return [
            tuple((size if axis else batch) if known == -1 else known for axis, known in enumerate(shape))
            for batch, size in zip(
                getattr(self.by_name[name], "profile", self.profiles[index]), self.sizes, strict=True
            )
        ]

    def create_runtime_config(self) -> SimpleNamespace:
        config = SimpleNamespace()
        config.set_execution_context_allocation_strategy = lambda strategy: vars(config).update(strategy=strategy)
        self.gpu.config = config
        return config

    def create_execution_context(self, runtime_config: SimpleNamespace) -> "Context":
        context = Context(self)
        self.gpu.contexts.append(weakref.ref(context))
        self.gpu.log.append("create context")
        return context


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.gpu = engine, engine.gpu
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.profile, self.warm = 0, False
        weakref.finalize(self, engine.gpu.log.append, "free context")

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= self.engine.device_memory_size_v2
        self.scratch = address

    def set_optimization_profile_async(self, index: int, handle: int) -> bool:
        """Select a profile, which forgets every shape, with a copy on the stream that the first inference needs."""
        if not 0 <= index < self.engine.num_optimization_profiles:
            return False
        self.profile, self.shapes, self.ready = index, {}, False
        self.gpu.streams[handle].put(f"profile {index}", lambda: vars(self).update(ready=True))
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self.engine.get_tensor_profile_shape(name, self.profile)
        self.shapes[name] = shape
        return all(low <= size <= high for low, size, high in zip(smallest, shape, largest, strict=True))

    def infer_shapes(self) -> list[str]:
        return []

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Return an input's shape, or an output's, whose dynamic axes have the size of the first input's there."""
        inputs = [self.shapes[tensor.name] for tensor in self.engine.tensors if tensor.name in self.shapes]
        return self.shapes.get(name) or tuple(
            next(shape[axis] for shape in inputs if len(shape) > axis) if size == -1 else size
            for axis, size in enumerate(self.engine.by_name[name].shape)
        )

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def is_stream_capturable(self, handle: int) -> bool:
        return self.gpu.capturable

    def execute_async_v3(self, handle: int) -> bool:
        stream = self.gpu.streams[handle]
        if stream.captured_to and not (self.warm and self.gpu.capturable):
            stream.sync()  # allocates, which ends the capture
        self.warm = True
        assert self.gpu.stream_of_scratch.setdefault(self.scratch, handle) == handle, "scratch memory of two streams"
        alive, addresses, engine, scratch = weakref.ref(self), dict(self.addresses), self.engine, self.scratch
        shapes = {name: self.get_tensor_shape(name) for name in engine.by_name}

        def infer() -> None:
            if alive() is None:
                raise CudaError("a context is used after it was freed")
            if not alive().ready:
                raise CudaError("an inference began before its profile was there")
            engine.gpu.at(scratch, 64)[:] = 1
            arrays = {}
            for name, tensor in engine.by_name.items():
                dtype = np.dtype(tensor.dtype)
                raw = engine.gpu.at(addresses[name], int(np.prod(shapes[name])) * dtype.itemsize)
                arrays[name] = raw.view(dtype).reshape(shapes[name])
            engine.function(**arrays)

        stream.put("infer", infer)
        return True


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)


def modules(gpu: Gpu, engine: Engine | None) -> dict[str, ModuleType]:
    """Return what stands for `cuda.core` and TensorRT in `sys.modules`."""
    core = ModuleType("cuda.core")

    class Pinned:
        def allocate(self, size: int, *, stream: Stream | None = None) -> Buffer:
            return Buffer(gpu, size, "pinned memory")

    class Streams:
        @staticmethod
        def from_handle(handle: int) -> Stream:
            return gpu.streams[handle]

    vars(core).update(
        Device=lambda index: Device(gpu),
        LegacyPinnedMemoryResource=Pinned,
        Stream=Streams,
        EventOptions=lambda timing_enabled: None,
    )
    trt = ModuleType("tensorrt")

    class Runtime:
        engine_host_code_allowed = True

        def __init__(self, logger: object) -> None:
            weakref.finalize(self, gpu.log.append, "free runtime")

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            assert not self.engine_host_code_allowed
            return engine_box.pop() if engine_box else None

    engine_box = [engine] if engine else []
    vars(trt).update(
        __version__="11.4.0",
        ComputeCapability=Enum("ComputeCapability", "NONE CURRENT SM75 SM80 SM86 SM89 SM120 SM121"),  # RTX's alone
        ILogger=ILogger,
        Runtime=Runtime,
        nptype=lambda dtype: dtype,
        TensorIOMode=Mode,
        ExecutionContextAllocationStrategy=SimpleNamespace(USER_MANAGED="ours"),
        DynamicShapesKernelSpecializationStrategy=SimpleNamespace(EAGER="at once"),
    )
    return {"cuda": ModuleType("cuda"), "cuda.core": core, "tensorrt": trt, "tensorrt_rtx": trt}

"""Builds and runs engines with TensorRT 11 and with TensorRT for RTX: one API under two module names.

Both are strongly typed, so the ONNX graph carries the precision; TF32, a builder flag, is the exception. TensorRT for
RTX builds without a GPU; TensorRT needs the GPU that the engine is for.

Running an engine was never exercised on a GPU: there was none where this was written. A test holds every name used on
an object of TensorRT or cuda.core against the recorded and the installed API. It knows such an object by its variable's
name, so these keep to the test's table (`builder`, `config`, `engine`, `stream`, …), and a new one is entered there.
"""

import hashlib
import importlib
import importlib.metadata
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import environment
from pipeline.backends import Array, Artifact, Closable, Feed, LoadOptions, Outputs, TensorSpec, check_variant
from pipeline.errors import ArtifactError, BackendUnavailable, BuildError, ConfigError

FLAVOURS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Each flavour with the module it is imported as."""

VARIANTS: dict[str, Artifact] = {"tensorrt": "engine", "tensorrt-rtx": "engine"}

_INSTALL = {
    "tensorrt": "Install the extra `gpu`: pip install 'tensorrt-cu12>=11,<12'.",
    "tensorrt-rtx": "There are wheels for Linux x86-64 and Windows: pip install tensorrt-rtx-cu12.",
}


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built.

    `batch` is the smallest, the best and the largest batch it accepts. `targets` are the compute capabilities that an
    engine of TensorRT for RTX is for, such as "sm89"; none leaves the choice to TensorRT, as None does for the limit of
    scratch memory, `workspace_bytes`, and for the optimization level.

    Raises:
        ConfigError: an unknown flavour, an impossible batch or workspace, targets for a flavour that takes none.
    """

    flavour: str
    allow_tf32: bool
    batch: tuple[int, int, int]
    targets: tuple[str, ...] = ()
    workspace_bytes: int | None = None
    optimization_level: int | None = None

    def __post_init__(self) -> None:
        check_variant("tensorrt", self.flavour, VARIANTS)
        smallest, best, largest = self.batch
        if not 1 <= smallest <= best <= largest:
            raise ConfigError(f"batch {self.batch} is not 1 <= smallest <= best <= largest")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise ConfigError(f"a workspace of {self.workspace_bytes} bytes is impossible")
        if self.targets and self.flavour != "tensorrt-rtx":
            raise ConfigError(
                f"{self.flavour} takes no targets, got {', '.join(self.targets)}",
                "It builds for this machine's GPU. Leave the targets out, or build with tensorrt-rtx.",
            )


@dataclass(frozen=True)
class BuiltEngine:
    """A serialized engine; the warnings and errors of parser and builder, in order; the version that built it."""

    engine: bytes
    messages: tuple[str, ...]
    version: str


def installed_version(flavour: str) -> str | None:
    """Return the version of the flavour's package without importing it, or None where it is not installed."""
    for distribution in (flavour, f"{flavour}-cu12", f"{flavour}-cu13"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return None


def _module(flavour: str) -> Any:
    """Import the flavour's module, which may be absent; raise BackendUnavailable where it is, or is too old."""
    check_variant("tensorrt", flavour, VARIANTS)
    try:
        trt = importlib.import_module(FLAVOURS[flavour])
    except (ImportError, OSError) as error:  # OSError: the wheel is there, a library it loads is not
        raise BackendUnavailable(f"{flavour} cannot be imported: {error}", _INSTALL[flavour]) from error
    if flavour == "tensorrt" and int(trt.__version__.split(".")[0]) < 11:
        raise BackendUnavailable(f"TensorRT {trt.__version__} is too old, 11 is needed", _INSTALL[flavour])
    return trt


def _device() -> Any:
    """Return the first GPU, as cuda.core's Device; raise BackendUnavailable where there is none."""
    remedy = "Run this where an NVIDIA GPU and its driver are (`nvidia-smi`)."
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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BackendUnavailable(f"no NVIDIA GPU can be used: {reason}", remedy) from error


def probe(variant: str) -> None:
    """Raise BackendUnavailable, with the reason and the remedy, where an engine of `variant` cannot be run."""
    _module(variant)
    _device()


def probe_build(flavour: str) -> None:
    """Raise BackendUnavailable, with the reason and the remedy, where an engine of `flavour` cannot be built."""
    _module(flavour)
    if flavour == "tensorrt":
        _device()


@cache
def _logger(flavour: str) -> Any:
    """Return the flavour's only logger: TensorRT keeps the first one it meets for the whole process."""
    trt = _module(flavour)
    kept = {trt.ILogger.INTERNAL_ERROR: "internal error", trt.ILogger.ERROR: "error", trt.ILogger.WARNING: "warning"}

    class Words(trt.ILogger):  # type: ignore[misc, name-defined]  # imported at run time
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # super().__init__() would leave the C++ part unmade
            self.words: list[str] = []

        def log(self, severity: object, message: str) -> None:
            if severity in kept:
                self.words.append(f"{kept[severity]}: {message}")

    return Words()


@contextmanager
def captured(flavour: str) -> Iterator[list[str]]:
    """Collect what TensorRT logs at warning and above, each line prefixed with its severity."""
    logger = _logger(flavour)
    logger.words = []
    yield logger.words


def build(model: Path, options: BuildOptions) -> BuiltEngine:
    """Build an engine from an ONNX model, whose external weights, if any, lie beside it.

    Raises:
        ArtifactError: the model is not there.
        BackendUnavailable: the flavour cannot build on this machine.
        BuildError: with the parser's or builder's own words.
        ConfigError: an unknown target, or an option outside what TensorRT accepts.
    """
    if not model.is_file():
        raise ArtifactError(f"{model} does not exist", "Run `make export engine`.")
    probe_build(options.flavour)
    trt = _module(options.flavour)
    with captured(options.flavour) as words:
        builder = trt.Builder(_logger(options.flavour))
        network = builder.create_network()
        parser = trt.OnnxParser(network, _logger(options.flavour))
        if not parser.parse(model.read_bytes(), path=str(model.resolve())):
            errors = [_describe(parser.get_error(index)) for index in range(parser.num_errors)]
            raise BuildError("\n".join([f"{model}: TensorRT cannot parse the graph:", *(errors or words)]))
        if not network.num_outputs:
            raise BuildError(f"{model}: the graph is empty")  # what parsing an empty file comes to
        config = _configure(trt, builder, network, options)
        serialized = builder.build_serialized_network(network, config)
        if serialized is None:
            raise BuildError("\n".join([f"{model}: TensorRT cannot build an engine:", *words]))
    return BuiltEngine(bytes(serialized), tuple(words), trt.__version__)


def _describe(parser_error: Any) -> str:
    operator, name = parser_error.node_operator(), parser_error.node_name()
    where = f"{operator} node {name!r}: " if operator else ""
    return f"{where}{parser_error.desc()}"


def _configure(trt: Any, builder: Any, network: Any, options: BuildOptions) -> Any:
    """Return the configuration, every option read back: TensorRT ignores or clamps what it does not accept."""
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector tells each layer's types
    if options.allow_tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)  # it is on by default, and then FP32 is not FP32
    if config.get_flag(trt.BuilderFlag.TF32) is not options.allow_tf32:
        raise BuildError(f"TensorRT did not take allow_tf32={options.allow_tf32}")
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
        if config.builder_optimization_level != options.optimization_level:
            raise ConfigError(f"TensorRT has no optimization level {options.optimization_level}", "Choose from 0 to 5.")
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        if config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) != options.workspace_bytes:
            raise ConfigError(f"TensorRT refuses a workspace of {options.workspace_bytes} bytes")
    if options.targets:
        _set_targets(trt, config, options.targets)
    _add_profile(builder, network, config, options.batch)
    return config


def _set_targets(trt: Any, config: Any, targets: tuple[str, ...]) -> None:
    """Name the compute capabilities to build for. What only TensorRT for RTX has is used here and nowhere else."""
    known = {name.lower(): value for name, value in trt.ComputeCapability.__members__.items() if name != "NONE"}
    if unknown := [target for target in targets if target.lower() not in known]:
        raise ConfigError(f"unknown targets: {', '.join(unknown)}", f"Choose from: {', '.join(known)}.")
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(known[target.lower()], index):
            raise ConfigError(f"TensorRT refuses target {target} among {', '.join(targets)}", "`current` goes alone.")


def _add_profile(builder: Any, network: Any, config: Any, batch: tuple[int, int, int]) -> None:
    """Give every input with a dynamic batch the range of batches the engine is for."""
    profile = builder.create_optimization_profile()
    dynamic = False
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        shape = tuple(tensor.shape)  # [batch, …], with -1 where a dimension is dynamic
        if -1 in shape[1:]:
            raise BuildError(
                f"input {tensor.name} has shape {shape}: only the first dimension, the batch, may be dynamic (-1)"
            )
        if -1 in shape:
            profile.set_shape(tensor.name, *((size, *shape[1:]) for size in batch))
            dynamic = True
    if dynamic and config.add_optimization_profile(profile) < 0:
        raise BuildError(f"TensorRT refuses batches {batch}")


class _Memory:
    """One tensor's memory on the device, and its page-locked twin on the host for fast copies. Both only grow."""

    def __init__(self, device: Any, stream: Any) -> None:
        from cuda.core import LegacyPinnedMemoryResource

        self._device, self._stream, self._pinned = device, stream, LegacyPinnedMemoryResource()
        self._on_device: Any = None
        self._on_host: Any = None

    def reserve(self, nbytes: int) -> int:
        """Make room for `nbytes` bytes, and return the address on the device, valid until more are reserved."""
        if self._on_device is None or self._on_device.size < nbytes:
            self.close()
            self._on_device = self._device.allocate(max(nbytes, 1), stream=self._stream)
            self._on_host = self._pinned.allocate(max(nbytes, 1), stream=self._stream)
        return int(self._on_device.handle)

    def upload(self, array: Array) -> None:
        """Start copying `array` to the device."""
        np.copyto(self._view(array.shape, array.dtype), array)
        self._copy(self._on_host, self._on_device, array.nbytes)

    def download(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Start copying from the device to the array returned: a view, which the next copy overwrites."""
        view = self._view(shape, dtype)
        self._copy(self._on_device, self._on_host, view.nbytes)
        return view

    def close(self) -> None:
        """Give the memory back."""
        for buffer in (self._on_device, self._on_host):
            if buffer is not None:
                buffer.close(self._stream)
        self._on_device = self._on_host = None

    def _view(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        raw: Array = np.from_dlpack(self._on_host)  # int8 [size]
        return raw[: _nbytes(shape, dtype)].view(dtype).reshape(shape)

    def _copy(self, source: Any, destination: Any, nbytes: int) -> None:
        from cuda.core import Buffer

        # cuda.core copies whole buffers of equal size only, so these stand for the part that this batch fills.
        source = Buffer.from_handle(int(source.handle), nbytes, owner=source)
        destination = Buffer.from_handle(int(destination.handle), nbytes, owner=destination)
        source.copy_to(destination, stream=self._stream)


class EngineSession(Closable):
    """An engine with one execution context, on one stream of the first GPU. Not for use from several threads."""

    def __init__(self, flavour: str, runtime: Any, engine: Any, context: Any, device: Any) -> None:
        self.flavour = flavour
        self.device = str(device.name)
        self.inputs, self.outputs = _tensors(_module(flavour), engine)
        self._runtime, self._engine, self._context = runtime, engine, context
        self._stream = device.create_stream()
        self._memory = {spec.name: _Memory(device, self._stream) for spec in (*self.inputs, *self.outputs)}
        self._placed: Feed | None = None

    def run(self, feed: Feed) -> Outputs:
        """Copy the inputs to the device, infer, and copy the outputs back into new arrays.

        Raises:
            BackendUnavailable: TensorRT could not execute the engine, with its words.
            ConfigError: the feed lacks an input, or one has a shape or type the engine does not take.
        """
        self.check_open()
        shapes = self._place(feed)
        self._infer()
        views = {spec.name: self._memory[spec.name].download(shapes[spec.name], spec.dtype) for spec in self.outputs}
        self._stream.sync()
        return {name: view.copy() for name, view in views.items()}

    def bind(self, feed: Feed) -> Callable[[], None]:
        """Copy the inputs to the device; each call of the result infers once and waits for the end.

        Where the session ran something else in between, the next call copies them again.

        Raises:
            ConfigError: as `run`.
        """
        self.check_open()
        bound = {name: array.copy() for name, array in feed.items()}
        self._place(bound)
        self._stream.sync()

        def call() -> None:
            self.check_open()
            if self._placed is not bound:
                self._place(bound)
            self._infer()
            self._stream.sync()

        return call

    def close(self) -> None:
        """Wait for the device, then release the context before its engine, and the memory before its stream."""
        if not self._open:
            return
        super().close()
        try:
            self._stream.sync()
        finally:
            self._context = None
            self._engine = None
            self._runtime = None
            for memory in self._memory.values():
                memory.close()
            self._stream.close()

    def _place(self, feed: Feed) -> dict[str, tuple[int, ...]]:
        """Prepare the context for the feed, start copying it to the device, and return every tensor's shape."""
        context, engine = self._context, self._engine
        self._placed = None
        _check_feed(feed, self.inputs)
        for spec in self.inputs:
            shape = feed[spec.name].shape
            if not context.set_input_shape(spec.name, shape):
                low, _, high = (tuple(dims) for dims in engine.get_tensor_profile_shape(spec.name, 0))
                raise ConfigError(
                    f"input {spec.name} of shape {shape} is outside the engine's {low} to {high}",
                    "Choose a batch in that range, or build the engine for more with `make engine`.",
                )
        if missing := context.infer_shapes():
            raise ConfigError(f"the engine cannot infer its shapes without {', '.join(missing)}")
        shapes = {}
        for spec in (*self.inputs, *self.outputs):
            shapes[spec.name] = shape = tuple(context.get_tensor_shape(spec.name))
            if -1 in shape:
                raise ConfigError(f"the shape of {spec.name} depends on the data, which is not supported: {shape}")
            address = self._memory[spec.name].reserve(_nbytes(shape, spec.dtype))
            if not context.set_tensor_address(spec.name, address):
                raise self._failure(f"take the memory of {spec.name}")
        for spec in self.inputs:
            self._memory[spec.name].upload(feed[spec.name])
        self._placed = feed
        return shapes

    def _infer(self) -> None:
        if not self._context.execute_async_v3(int(self._stream.handle)):
            self._stream.sync()
            raise self._failure("execute the engine")

    def _failure(self, what: str) -> BackendUnavailable:
        logger = _logger(self.flavour)
        return BackendUnavailable("\n".join([f"TensorRT could not {what}:", *logger.words[-3:]]))


def _nbytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    return math.prod(shape) * dtype.itemsize


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


def _check_feed(feed: Feed, specs: tuple[TensorSpec, ...]) -> None:
    """Raise ConfigError unless the feed has exactly these inputs, each of its rank, fixed sizes and type."""
    if set(feed) != {spec.name for spec in specs}:
        raise ConfigError(f"the feed has {sorted(feed)}, the engine takes {sorted(spec.name for spec in specs)}")
    for spec in specs:
        array = feed[spec.name]
        fits = len(array.shape) == len(spec.shape) and all(
            want in (None, size) for want, size in zip(spec.shape, array.shape, strict=True)
        )
        if not fits or array.dtype != spec.dtype:
            raise ConfigError(
                f"input {spec.name} is {array.dtype} {array.shape}, the engine takes {spec.dtype} {spec.shape}"
            )


def _verified(model: Path, sha256: str | None) -> bytes:
    """Read an engine that has the digest it was published with: the bytes checked are the bytes returned."""
    if sha256 is None:
        raise ArtifactError(
            f"{model}: no digest to check it by, and an engine is executable content: it is not loaded unchecked",
            "Load only what this project built: run `make engine`, whose manifest holds the digest.",
        )
    try:
        data = model.read_bytes()
    except FileNotFoundError as error:
        raise ArtifactError(f"{model} does not exist", "Run `make engine`.") from error
    if not data:
        raise ArtifactError(f"{model} is empty", "Run `make engine`.")
    if (found := hashlib.sha256(data).hexdigest()) != sha256.lower():
        raise ArtifactError(f"{model} was changed: its sha256 is {found}, not {sha256}", "Run `make engine`.")
    return data


@contextmanager
def load(model: Path, options: LoadOptions) -> Iterator[EngineSession]:
    """Load an engine for the time of a `with` block. Its precision and TF32 were decided when it was built.

    Raises:
        ArtifactError: no digest was given, or the file is missing, empty or not the one published.
        BackendUnavailable: no GPU or library here, or an engine for another GPU or version, with TensorRT's words.
    """
    check_variant("tensorrt", options.variant, VARIANTS)
    data = _verified(model, options.sha256)
    trt = _module(options.variant)
    device = _device()
    device.set_current()
    with captured(options.variant) as words:
        runtime = trt.Runtime(_logger(options.variant))
        runtime.engine_host_code_allowed = False  # the default, stated: an engine must not bring code for the host
        engine = runtime.deserialize_cuda_engine(data)
        context = None if engine is None else engine.create_execution_context()
        if context is None:
            raise BackendUnavailable(
                "\n".join([f"{model} cannot be run on {device.name}:", *words]),
                "An engine fits one GPU model and one TensorRT version: rebuild it on this machine with `make engine`.",
            )
    session = EngineSession(options.variant, runtime, engine, context, device)
    del runtime, engine, context  # the session decides when they go
    try:
        yield session
    finally:
        session.close()


def inspect(session: EngineSession) -> list[dict[str, Any]]:
    """Return the engine's layers as TensorRT's inspector describes them, at the batch the engine was tuned for."""
    session.check_open()
    trt = _module(session.flavour)
    context, engine = session._context, session._engine
    session._placed = None
    for spec in session.inputs:
        profile_shapes = tuple(engine.get_tensor_profile_shape(spec.name, 0))  # smallest, best, largest
        context.set_input_shape(spec.name, tuple(profile_shapes[1]))
    inspector = engine.create_engine_inspector()
    inspector.execution_context = context  # without shapes, a dynamic tensor's type is "N/A due to dynamic shapes"
    document = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
    # An engine built elsewhere, without detailed verbosity, has names only.
    return [layer if isinstance(layer, dict) else {"Name": layer} for layer in document["Layers"]]

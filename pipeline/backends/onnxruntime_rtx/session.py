"""ONNX Runtime's sessions with a plugin provider, one for each batch size."""

import contextlib
import ctypes
import importlib
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import ModelProto

from pipeline import cuda, graphs
from pipeline.backends import Bound, Closable, LoadOptions
from pipeline.backends.onnxruntime import opening
from pipeline.backends.onnxruntime_rtx import PLUGIN
from pipeline.errors import BackendUnavailable, BatchOutsideProfile, InputError
from pipeline.graphs.files import Stored
from pipeline.tensors import FIRST_GPU, Array, Feed, Outputs

COMPILED = 4
"""Batch sizes for which a session is kept, the latest used."""

Shapes = tuple[tuple[int, ...], ...]


@cache
def register(package: str) -> Any:
    """Register a plugin with ONNX Runtime, for the rest of this process; return the first device it offers.

    Raises:
        BackendUnavailable: it cannot be loaded, or offers no device here.
    """
    try:
        plugin = importlib.import_module(package)
        library = Path(plugin.get_library_path())
        # The wheel brings CUDA's runtime, under a name that the loader does not look for: once loaded, it is found.
        for runtime in library.parent.glob("libcudart.so.*"):
            ctypes.CDLL(str(runtime))
        ort.register_execution_provider_library(plugin.get_ep_name(), str(library))
    except Exception as error:
        if not isinstance(error, ImportError | OSError) and not opening.is_its_own(error):
            raise
        raise BackendUnavailable(
            f"ONNX Runtime cannot load the plugin {package}: {opening.words(error)}",
            "`make doctor` shows what is missing.",
        ) from error
    found = [device for device in ort.get_ep_devices() if device.ep_name == plugin.get_ep_name()]
    if not found:
        raise BackendUnavailable(
            f"the plugin {package} is loaded, and offers ONNX Runtime no device here",
            "It asks for a GPU of its kind, and a driver that knows its CUDA: `nvidia-smi` shows both.",
        )
    return found[0]


class PluginSession(Closable):
    """A model compiled for each batch size it meets, by the provider of one device; the `COMPILED` latest are kept.

    A provider that builds an engine for any batch at all (TensorRT's plugin takes 0 to 32,767 where it is told nothing)
    has none that suits a batch, and its CUDA graphs want fixed shapes.
    """

    def __init__(
        self,
        model: ModelProto,
        provider: Any,
        provider_options: Mapping[str, str],
        options: LoadOptions,
        device: str,
        stream: Any = None,
    ) -> None:
        self._model, self._provider, self._provider_options = model, provider, provider_options
        self._options, self._stream, self.device = options, stream, device
        self.inputs, self.outputs = graphs.inputs(model), graphs.outputs(model)
        self._compiled = lru_cache(COMPILED)(self._compile)
        self._compiled(tuple(tuple(size or 1 for size in spec.shape) for spec in self.inputs))
        self.settings: dict[str, object] = {
            "sessions": "one for each batch size, its shapes fixed",
            "optimization": "the provider's alone",
            "cuda_graph": provider_options.get("enable_cuda_graph") == "1",
        }

    def run(self, feed: Feed) -> Outputs:
        """Infer from host arrays to host arrays, new ones each time; ONNX Runtime copies them there and back.

        Raises:
            InputError: the feed lacks an input, or one has a shape or type that the model does not take; a
                BatchOutsideProfile where only the graph's fixed batch is another.
            BackendUnavailable: the provider cannot compile or run the graph for this batch size.
        """
        self.check_open()
        arrays = self._arrays(feed)
        session = self._compiled(_shapes(arrays))
        names = [spec.name for spec in self.outputs]
        with self._words_of_errors():
            return dict(zip(names, session.run(names, arrays), strict=True))

    def bind(self, feed: Feed) -> Bound:
        """Copy the inputs to memory of their own on the device, with room for the outputs.

        Raises:
            InputError: as `run`.
            BackendUnavailable: as `run`, or an output's size is not known beforehand.
        """
        self.check_open()
        arrays = self._arrays(feed)
        session = self._compiled(_shapes(arrays))
        binding = session.io_binding()
        waiting, not_waiting = ort.RunOptions(), ort.RunOptions()
        not_waiting.add_run_config_entry("disable_synchronize_execution_providers", "1")
        with self._words_of_errors():
            for name, array in arrays.items():
                value = self._allocate(array.shape, array.dtype)
                ort.copy_tensors([ort.OrtValue.ortvalue_from_numpy(array)], [value])
                binding.bind_ortvalue_input(name, value)
            for spec, found in zip(self.outputs, session.get_outputs(), strict=True):
                if not all(isinstance(size, int) for size in found.shape):
                    raise BackendUnavailable(f"the shape of {spec.name} depends on the data: {found.shape}")
                binding.bind_ortvalue_output(spec.name, self._allocate(found.shape, spec.dtype))
            if self._stream is not None:
                self._stream.device.sync()  # the copies may be under way on another stream
            session.run_with_iobinding(binding, waiting)  # what is wrong shows here

        def launch() -> None:
            self.check_open()
            session.run_with_iobinding(binding, not_waiting)

        if self._stream is None:
            return Bound(launch, self.check_open)
        return Bound(launch, self._stream.sync, int(self._stream.handle))

    def close(self) -> None:
        """Forget the sessions and give back the stream."""
        if self._open:
            super().close()
            self._compiled.cache_clear()
            if self._stream is not None:
                self._stream.close()

    def _compile(self, shapes: Shapes) -> ort.InferenceSession:
        """Return a session for inputs of these shapes, which runs on the provider alone."""
        content = self._fixed(shapes)
        found = opening.create(content, self._session_options(), None, self._options)
        if isinstance(found, opening.Refusal):
            why = found.words
            if opening.CPU_REFUSED in why:
                why = self._left_to_cpu(content) or why
            raise BackendUnavailable(
                f"ONNX Runtime ({self._provider.ep_name}) cannot run this graph: {why}",
                "Run it with ONNX Runtime's own providers, or with TensorRT.",
            )
        return found

    def _session_options(self) -> ort.SessionOptions:
        settings = ort.SessionOptions()
        settings.log_severity_level = 3
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # Without this, nodes that the provider lacks run on the CPU in silence.
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        settings.add_provider_for_devices([self._provider], self._provider_options)
        return settings

    def _left_to_cpu(self, content: Stored) -> str:
        """Say which nodes the provider leaves to the CPU: a session that may use it is created for this, never run."""
        settings = self._session_options()
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
        settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = opening.create(content, settings, None, self._options)
        return "" if isinstance(session, opening.Refusal) else opening.on_cpu(session, self._provider.ep_name)

    def _fixed(self, shapes: Shapes) -> Stored:
        """Return the model with inputs of these shapes; ONNX Runtime works out the rest."""
        known = dict(zip((spec.name for spec in self.inputs), shapes, strict=True))
        for value in self._model.graph.input:
            for dim, size in zip(value.type.tensor_type.shape.dim, known.get(value.name, ()), strict=False):
                dim.dim_value = size
        return Stored(self._model.SerializeToString(), {})

    def _allocate(self, shape: Any, dtype: np.dtype[Any]) -> ort.OrtValue:
        """Return room for a tensor where the provider computes."""
        memory = self._provider.memory_info(ort.OrtDeviceMemoryType.DEFAULT)  # None: the host's
        return ort.OrtValue.ortvalue_from_shape_and_type(list(shape), dtype.type, memory_info=memory)

    def _arrays(self, feed: Feed) -> dict[str, Array]:
        """Return the feed's arrays, contiguous, in the order of the inputs, or raise InputError."""
        if feed.keys() != {spec.name for spec in self.inputs}:
            raise InputError(f"the feed has {sorted(feed)}, the model takes {[spec.name for spec in self.inputs]}")
        for spec in self.inputs:
            array = feed[spec.name]
            if array.dtype != spec.dtype or not spec.fits(array.shape):
                only_batch = array.dtype == spec.dtype and spec.fits_but_for_batch(array.shape)
                raise (BatchOutsideProfile if only_batch else InputError)(
                    f"ONNX Runtime refuses the input: it is {array.dtype} {list(array.shape)}, the model takes {spec}"
                )
        return {spec.name: np.ascontiguousarray(feed[spec.name]) for spec in self.inputs}

    @contextlib.contextmanager
    def _words_of_errors(self) -> Iterator[None]:
        """Turn what ONNX Runtime raises into BackendUnavailable, with its words."""
        try:
            yield
        except Exception as error:
            if not opening.is_its_own(error):
                raise
            raise BackendUnavailable(
                f"ONNX Runtime ({self._provider.ep_name}) cannot run this graph: {opening.words(error)}"
            ) from error


def _shapes(arrays: Mapping[str, Array]) -> Shapes:
    return tuple(array.shape for array in arrays.values())


@contextlib.contextmanager
def load(model: ModelProto, options: LoadOptions) -> Iterator[PluginSession]:
    """Load an ONNX model as the package's `load` says, which has probed and checked it."""
    provider, stream = register(PLUGIN), cuda.create_stream()
    provider_options = {
        "enable_cuda_graph": "0" if options.exact else "1",
        "has_user_compute_stream": "1",
        "user_compute_stream": str(int(stream.handle)),
    }
    try:
        session = PluginSession(model, provider, provider_options, options, str(FIRST_GPU), stream)
    except BaseException:
        stream.close()
        raise
    try:
        yield session
    finally:
        session.close()

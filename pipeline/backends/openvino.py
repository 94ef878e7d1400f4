"""OpenVINO on the CPU (extra `openvino`)."""

import ctypes
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import graphs
from pipeline.backends import Bound, Closable, LoadOptions, Role, Variant, check_variant, read_model
from pipeline.errors import BackendUnavailable, BatchOutsideProfile, InputError
from pipeline.tensors import Array, Feed, Outputs, TensorSpec

VARIANTS = {"cpu": Variant("onnx", "cpu")}
ROLE: Role = "exported"
LABEL = "OpenVINO"
DISTRIBUTIONS = ("openvino",)
TUNABLE = False

COMPILED = 4
"""Batch sizes for which a compiled model is kept, the latest used; of a large model, whose weights each has, one."""

Shapes = tuple[tuple[int, ...], ...]


@dataclass
class _Ready:
    """A request for inputs of one shape, with the arrays it reads and writes: it does not keep them alive itself."""

    request: Any
    outputs: Outputs
    placed: list[Array] = field(default_factory=list)


class OpenVinoSession(Closable):
    """A model compiled for each batch size it meets.

    One compiled for any batch is up to twice as slow (the article's CNN on two cores: 930 µs against 330 for 64 images,
    14.7 ms against 9.7 for 1,024), so that the first run of a batch size compiles, and the `COMPILED` latest are kept.
    """

    device = "cpu"

    def __init__(self, core: Any, model: Any, config: dict[str, Any], kept: int = COMPILED) -> None:
        self._core, self._model, self._config, self._kept = core, model, config, kept
        self._tensor = _module().Tensor
        self.inputs = tuple(_spec(port) for port in model.inputs)
        self.outputs = tuple(_spec(port) for port in model.outputs)
        self._compiled = lru_cache(kept)(self._compile)
        self._ready = lru_cache(kept)(self._prepare)
        smallest = tuple(tuple(size or 1 for size in spec.shape) for spec in self.inputs)
        compiled = self._compiled(smallest)
        self.settings: dict[str, object] = {
            "threads": compiled.get_property("INFERENCE_NUM_THREADS"),
            "streams": compiled.get_property("NUM_STREAMS"),
            "arithmetic": compiled.get_property("INFERENCE_PRECISION_HINT").to_string(),
            "hint": str(compiled.get_property("PERFORMANCE_HINT")),
        }

    def run(self, feed: Feed) -> Outputs:
        """Infer from host arrays, which are not copied, into arrays that the next `run` of this batch size overwrites.

        Raises:
            InputError: the feed lacks an input, or one has a shape or type that the model does not take; a
                BatchOutsideProfile where only the graph's fixed batch is another.
            BackendUnavailable: OpenVINO cannot compile the model for this batch size.
        """
        self.check_open()
        arrays = self._arrays(feed)
        ready = self._ready(tuple(array.shape for array in arrays))
        self._place(ready, arrays)
        ready.request.infer(share_outputs=True)
        return dict(ready.outputs)

    def bind(self, feed: Feed) -> Bound:
        """Copy the inputs into a request of their own. `launch` returns when it is done: nothing else runs meanwhile.

        Raises:
            InputError, BackendUnavailable: as `run`.
        """
        self.check_open()
        arrays = [array.copy() for array in self._arrays(feed)]
        ready = self._prepare(tuple(array.shape for array in arrays))
        self._place(ready, arrays)

        def launch() -> None:
            self.check_open()
            ready.request.infer(share_outputs=True)

        return Bound(launch, wait=self.check_open)

    def close(self) -> None:
        """Free what was compiled."""
        super().close()
        self._ready.cache_clear()
        self._compiled.cache_clear()

    def _arrays(self, feed: Feed) -> list[Array]:
        """Return the inputs in the model's order, copied only where OpenVINO cannot read them in place."""
        if set(feed) != {spec.name for spec in self.inputs}:
            raise InputError(f"the feed has {sorted(feed)}, the model takes {[spec.name for spec in self.inputs]}")
        # It refuses arrays that are not contiguous, and those that may not be written to, though it only reads.
        found = (feed[spec.name] for spec in self.inputs)
        return [array if array.flags.carray else np.array(array, order="C") for array in found]

    def _place(self, ready: _Ready, arrays: list[Array]) -> None:
        if ready.placed and all(array is placed for array, placed in zip(arrays, ready.placed, strict=True)):
            return  # the caller writes into the same arrays each time
        ready.placed = []
        try:
            for index, array in enumerate(arrays):
                ready.request.set_input_tensor(index, self._tensor(array, shared_memory=True))
        except RuntimeError as error:
            raise InputError(f"OpenVINO refuses the input: {error}") from error
        ready.placed = arrays

    def _compile(self, shapes: Shapes) -> Any:
        for spec, shape in zip(self.inputs, shapes, strict=True):
            if not spec.fits(shape):
                raise (BatchOutsideProfile if spec.fits_but_for_batch(shape) else InputError)(
                    f"input {spec.name} has shape {shape}, the model takes {spec.shape}"
                )
        if self._kept == 1:  # the one before goes first
            self._ready.cache_clear()
            self._compiled.cache_clear()
        model = self._model.clone()
        try:
            model.reshape({port: list(shape) for port, shape in zip(model.inputs, shapes, strict=True)})
            with _signal_stack_kept():
                return self._core.compile_model(model, "CPU", self._config)
        except RuntimeError as error:
            raise BackendUnavailable(
                f"OpenVINO cannot compile the model: {_words(error)}", "Run it with ONNX Runtime instead."
            ) from error

    def _prepare(self, shapes: Shapes) -> _Ready:
        compiled = self._compiled(shapes)
        request = compiled.create_infer_request()
        outputs = {}
        for index, (spec, port) in enumerate(zip(self.outputs, compiled.outputs, strict=True)):
            if port.partial_shape.is_dynamic:
                raise BackendUnavailable(
                    f"the shape of {spec.name} depends on the data: {port.partial_shape}",
                    "Run it with ONNX Runtime instead.",
                )
            outputs[spec.name] = np.empty(tuple(port.shape), spec.dtype)
            request.set_output_tensor(index, self._tensor(outputs[spec.name], shared_memory=True))
        return _Ready(request, outputs)


def _module() -> Any:
    """Import openvino without its telemetry, or raise BackendUnavailable where it is not installed.

    Its import reports itself to Google Analytics, unless a file in the user's home says not to or the package
    `openvino_telemetry` is missing: then it takes a stub that does nothing. So that package is not to be found here.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # with None, its import fails
    try:
        return importlib.import_module("openvino")
    except (ImportError, OSError) as error:  # OSError: the wheel is there, a library it loads is not
        raise BackendUnavailable(
            f"openvino cannot be imported: {error}", "pip install 'keras-tensorrt-pipeline[openvino]'"
        ) from error


def _spec(port: Any) -> TensorSpec:
    shape = tuple(None if size.is_dynamic else size.get_length() for size in port.partial_shape)
    return TensorSpec(port.get_any_name(), shape, np.dtype(port.element_type.to_dtype()))


def probe(variant: str) -> None:
    """Raise BackendUnavailable, with the remedy, where OpenVINO is not installed."""
    check_variant("openvino", variant, VARIANTS)
    _module()


@contextmanager
def load(model: Path | bytes, options: LoadOptions) -> Iterator[OpenVinoSession]:
    """Load an ONNX model, from a file or from its bytes.

    FP32 is FP32: by itself, OpenVINO computes it in BF16 where the processor has that. `exact` also asks for its mode
    of accuracy. One caller waits for each result, so its hint is LATENCY: all threads on one batch. Steps are not
    followed.

    Raises:
        ArtifactError: the file is not there, is no model, or is not the one expected.
        BackendUnavailable: OpenVINO is not installed or cannot run this model, with its words.
    """
    probe(options.variant)
    openvino = _module()
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "EXECUTION_MODE_HINT": "ACCURACY" if options.exact else "PERFORMANCE",
        "PERFORMANCE_HINT": "LATENCY",
    }
    if options.threads is not None:
        config["INFERENCE_NUM_THREADS"] = str(options.threads)
    stored = read_model(model, options.sha256)
    core = openvino.Core()
    try:
        # It takes no weights of an ONNX model but from their file, which has been checked.
        large = bool(stored.data)
        read = core.read_model(model) if large else core.read_model(stored.content, b"")
    except RuntimeError as error:
        graphs.load(model)  # raises where it is no model at all
        name = model.name if isinstance(model, Path) else "the model"
        raise BackendUnavailable(
            f"OpenVINO cannot run {name}: {_words(error)}", "Run it with ONNX Runtime instead."
        ) from error
    del stored  # OpenVINO has it now
    session = OpenVinoSession(core, read, config, kept=1 if large else COMPILED)
    try:
        yield session
    finally:
        session.close()


class _SignalStack(ctypes.Structure):
    _fields_ = (("memory", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
    """Give this thread back the alternate signal stack that it had, or none.

    OpenVINO 2026.4 leaves one of 11,824 bytes, where the processor has AMX. Later a signal that Python handles, as
    Ctrl-C, has ended the process with SIGSEGV.
    """
    if sys.platform != "linux":
        yield
        return
    system, before = ctypes.CDLL(None), _SignalStack()
    system.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        system.sigaltstack(ctypes.byref(before), None)


def _words(error: Exception) -> str:
    """Return what OpenVINO says, in one line, without the places in its source."""
    lines = (line.strip() for line in str(error).splitlines())
    return " ".join(line for line in lines if line and not line.startswith(("Exception from", "Check '")))

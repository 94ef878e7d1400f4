"""TensorFlow's sessions: one way to call a Keras model or a SavedModel."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from pipeline import environment
from pipeline.backends import Bound, Closable, LoadOptions
from pipeline.errors import BackendUnavailable
from pipeline.models import calling, sources
from pipeline.tensors import CPU, FIRST_GPU, Feed, Outputs, Signature

Infer = Callable[..., dict[str, tf.Tensor]]
"""Takes the inputs' tensors in their order, returns the outputs' by name."""


class TensorFlowSession(Closable):
    """One way to call the model: `infer` takes and returns tensors, `predict` takes and returns host arrays."""

    def __init__(
        self,
        signature: Signature,
        infer: Infer,
        predict: Callable[[Feed], Outputs] | None = None,
        owner: object = None,
    ) -> None:
        self.inputs, self.outputs = signature.inputs, signature.outputs
        gpus = tf.config.list_logical_devices("GPU")
        self.device = str(FIRST_GPU if gpus else CPU)
        tf32 = bool(gpus) and tf.config.experimental.tensor_float_32_execution_enabled() and _has_tf32()
        self.settings = {
            "threads": tf.config.threading.get_intra_op_parallelism_threads() or "as many as there are",
            "arithmetic": "tf32" if tf32 else "fp32",
        }
        self._infer, self._predict = infer, predict
        self._names = [spec.name for spec in self.inputs]
        self._owner = owner  # a SavedModel's signature does not keep its variables alive

    def close(self) -> None:
        """Forget the model."""
        super().close()
        self._infer, self._predict, self._owner = _closed, None, None

    def run(self, feed: Feed) -> Outputs:
        """Infer from host arrays to host arrays.

        Raises:
            InputError: the model cannot take these samples.
        """
        self.check_open()
        with calling.refusals():
            if self._predict is not None:
                return self._predict(feed)
            found = self._infer(*(tf.constant(feed[name]) for name in self._names))
        return {name: one.numpy() for name, one in found.items()}  # on a CPU views of the results, kept alive by them

    def bind(self, feed: Feed) -> Bound:
        """Put the inputs on the device. TensorFlow does not give its stream."""
        self.check_open()
        if self._predict is not None:
            raise BackendUnavailable("model.predict always takes and returns host arrays")
        inputs = [tf.identity(tf.constant(feed[name])) for name in self._names]

        def launch() -> None:
            self.check_open()
            self._infer(*inputs)

        return Bound(launch, tf.test.experimental.sync_devices)


def _closed(*_: tf.Tensor) -> dict[str, tf.Tensor]:
    raise RuntimeError("this session is closed")


def _has_tf32() -> bool:
    """Tell whether one of this machine's GPUs has TF32: from compute capability 8 on."""
    return any(float(gpu.compute_capability) >= 8 for gpu in environment.gpus())


@contextmanager
def load(model: Path, options: LoadOptions) -> Iterator[TensorFlowSession]:
    """Load a `.keras` file or a SavedModel folder as the package's `load` says; `options.variant` has been probed."""
    # TensorFlow's own default is TF32 on GPUs that have it: what a user gets, and so what is timed. Parity is judged
    # against real FP32. The setting is the process's, not the session's.
    tf.config.experimental.enable_tensor_float_32_execution(not options.exact)
    if options.threads is not None:  # the process's, too, and before anything has run in it
        tf.config.threading.set_intra_op_parallelism_threads(options.threads)
        tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    session = (
        _saved_model(model, trust=options.trust) if options.variant == "saved_model" else _keras(model, options.variant)
    )
    try:
        yield session
    finally:
        session.close()
        gc.collect()  # Keras's models are cycles, with all their weights


def _keras(path: Path, variant: str) -> TensorFlowSession:
    model = sources.read(path)
    how = calling.caller(model)
    signature = calling.signature(how)
    infer, traced = calling.serving(model)
    if variant == "predict":

        def predict(feed: Feed) -> Outputs:
            size = len(feed[signature.inputs[0].name])
            found = model.predict(how.arguments(feed), batch_size=size, verbose=0)
            return calling.named((spec.name for spec in signature.outputs), found)

        return TensorFlowSession(signature, infer, predict)
    if variant == "call":
        return TensorFlowSession(signature, infer)
    compiled = tf.function(infer, input_signature=traced, jit_compile=variant == "xla")
    return TensorFlowSession(signature, compiled)


def _saved_model(path: Path, *, trust: bool) -> TensorFlowSession:
    saved = calling.saved_signature(path, trust=trust)
    return TensorFlowSession(saved.signature, saved.serving.function, owner=saved.owner)

"""TensorFlow's sessions: one way to call a Keras model or a SavedModel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf

from pipeline import environment, models
from pipeline.backends import Bound, Closable, LoadOptions
from pipeline.errors import ArtifactError, BackendUnavailable
from pipeline.models import INPUT, OUTPUT
from pipeline.tensors import CPU, FIRST_GPU, Array, Feed, Outputs, TensorSpec


class TensorFlowSession(Closable):
    """One way to call the model: `infer` takes and returns tensors, `predict` takes and returns host arrays."""

    def __init__(
        self,
        shape: tuple[int | None, ...],
        classes: int | None,
        infer: Callable[[tf.Tensor], tf.Tensor],
        predict: Callable[[Array], Array] | None = None,
        owner: object = None,
    ) -> None:
        self.inputs = (TensorSpec(INPUT, shape, np.dtype(np.uint8)),)
        self.outputs = (TensorSpec(OUTPUT, (None, classes), np.dtype(np.float32)),)
        gpus = tf.config.list_logical_devices("GPU")
        self.device = str(FIRST_GPU if gpus else CPU)
        tf32 = bool(gpus) and tf.config.experimental.tensor_float_32_execution_enabled() and _has_tf32()
        self.settings = {
            "threads": tf.config.threading.get_intra_op_parallelism_threads() or "as many as there are",
            "arithmetic": "tf32" if tf32 else "fp32",
        }
        self._infer, self._predict = infer, predict
        self._owner = owner  # a SavedModel's signature does not keep its variables alive

    def run(self, feed: Feed) -> Outputs:
        """Infer from host array to host array."""
        self.check_open()
        images = feed[INPUT]
        if self._predict is not None:
            return {OUTPUT: self._predict(images)}
        return {OUTPUT: self._infer(tf.constant(images)).numpy()}  # on a CPU a view of the result, kept alive by it

    def bind(self, feed: Feed) -> Bound:
        """Put the images on the device. TensorFlow does not give its stream."""
        self.check_open()
        if self._predict is not None:
            raise BackendUnavailable("model.predict always takes and returns host arrays")
        images = tf.identity(tf.constant(feed[INPUT]))

        def launch() -> None:
            self.check_open()
            self._infer(images)

        return Bound(launch, tf.test.experimental.sync_devices)


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
    session = _saved_model(model) if options.variant == "saved_model" else _keras(model, options.variant)
    try:
        yield session
    finally:
        session.close()


def _keras(path: Path, variant: str) -> TensorFlowSession:
    model = models.load(path)
    shape = tuple(model.inputs[0].shape)
    classes = model.outputs[0].shape[-1]

    def call(images: tf.Tensor) -> tf.Tensor:
        return model(images, training=False)

    if variant == "predict":
        return TensorFlowSession(
            shape, classes, call, predict=lambda images: model.predict(images, batch_size=len(images), verbose=0)
        )
    if variant == "call":
        return TensorFlowSession(shape, classes, call)
    signature = [tf.TensorSpec(shape, tf.uint8)]
    return TensorFlowSession(shape, classes, tf.function(call, input_signature=signature, jit_compile=variant == "xla"))


def _saved_model(path: Path) -> TensorFlowSession:
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ArtifactError(f"{path} cannot be loaded as a SavedModel: {error}", "Run `make export`.") from error
    signature = loaded.signatures["serving_default"]
    shape = tuple(signature.structured_input_signature[1][INPUT].shape)
    classes = signature.structured_outputs[OUTPUT].shape[-1]
    return TensorFlowSession(shape, classes, lambda images: signature(**{INPUT: images})[OUTPUT], owner=loaded)

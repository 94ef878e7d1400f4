"""The types in which a model is trained: FP32, or 16 bits with weights in FP32 where a GPU has tensor cores for them.

The weights are FP32 in each, so that what is published is in FP32 again. On a GPU this has not run.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from pipeline.config import AUTO

FLOAT32 = "float32"

TENSOR_CORES, BFLOAT16 = (7, 0), (8, 0)
"""The compute capabilities from which on a GPU multiplies FLOAT16 and BFLOAT16 faster. BFLOAT16 has FP32's range, so
that it needs no scaling of the loss."""


@contextmanager
def policy(asked: str, say: Callable[[str], None]) -> Iterator[None]:
    """Have a model made in the block compute in these types, as Keras calls them; `auto` leaves them to the GPU."""
    name = _of_this_machine() if asked == AUTO else asked
    before = keras.config.dtype_policy()
    if name != FLOAT32:
        say(f"training in {name}; what is published is in FP32")
        keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _of_this_machine() -> str:
    gpus = tf.config.list_physical_devices("GPU")
    found = [tf.config.experimental.get_device_details(gpu).get("compute_capability", (0, 0)) for gpu in gpus[:1]]
    if not found or found[0] < TENSOR_CORES:
        return FLOAT32
    return "mixed_bfloat16" if found[0] >= BFLOAT16 else "mixed_float16"

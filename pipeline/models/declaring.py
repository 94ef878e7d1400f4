"""What `model.inputs` says of a model's inputs, and whether a model takes and returns what a pipeline can carry."""

import math
import re
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from pipeline.errors import DataError
from pipeline.models import bombs
from pipeline.tensors import MOST_AXES, Signature, TensorSpec

DECLARE = "Say so with model.inputs, as --set 'model.inputs.image=\"uint8[?, 28, 28, 1]\"': ? is a dynamic axis."

_DECLARED = re.compile(r"\s*(\w+)\s*\[([^\]]*)\]\s*")
NUMBERS = "biufV"
"""NumPy's kinds of the types that a pipeline carries; it calls bfloat16's kind V."""

_DYNAMIC = ("?", "None")


def declared(text: str, name: str) -> TensorSpec:
    """Return what `model.inputs` says of an input, as `float32[?, 28, 28, 1]`: the first axis is the batch.

    Raises:
        DataError: it cannot be read.
    """
    found = _DECLARED.fullmatch(text)
    sizes = [part.strip() for part in found[2].split(",")] if found and found[2].strip() else []
    try:
        dtype = np.dtype(tf.as_dtype(found[1] if found else "").as_numpy_dtype)
    except TypeError as error:
        raise DataError(f"model.inputs.{name} = {text!r} is no type and shape", DECLARE) from error
    if dtype.kind not in NUMBERS:
        raise DataError(f"model.inputs.{name} = {text!r}: {found and found[1]!r} is no type of numbers", DECLARE)
    if wrong := [size for size in sizes if size not in _DYNAMIC and not (size.isdecimal() and int(size))]:
        raise DataError(f"model.inputs.{name} = {text!r}: {wrong[0]!r} is the size of no axis", DECLARE)
    if not sizes:
        raise DataError(f"model.inputs.{name} = {text!r} has no axis for the batch, the first", DECLARE)
    return TensorSpec(name, tuple(None if size in _DYNAMIC else int(size) for size in sizes), dtype)


def check(inputs: Mapping[str, str], signature: Signature) -> None:
    """Look whether the model's inputs are those declared, and all its tensors numbers with an axis for the batch.

    Raises:
        DataError: `model.inputs` names an input that the model does not have, or has otherwise; there is no input or no
            output; or one is of strings, say, has no axis, or has more numbers than there is memory.
    """
    known, taken = {spec.name: spec for spec in signature.inputs}, ", ".join(map(str, signature.inputs)) or "nothing"
    for name, text in inputs.items():
        if name not in known:
            raise DataError(f"model.inputs names {name!r}, and the model takes {taken}", "Name one of its inputs.")
        if declared(text, name) != known[name]:
            raise DataError(
                f"model.inputs.{name} = {text!r}, and the model takes {known[name]}",
                "Leave model.inputs out: this model tells its inputs. Sizes of dynamic axes are set in engine.ranges.",
            )
    for what, specs in (("input", signature.inputs), ("output", signature.outputs)):
        if not specs:
            raise DataError(
                f"the model has no {what}", "Give a model that takes samples and returns something for each."
            )
        for spec in specs:
            if spec.dtype.kind not in NUMBERS:
                raise DataError(
                    f"the model's {what} {spec.name} is of {_kind(spec)}, which neither ONNX nor TensorRT compute with",
                    "Take the layers that handle them, as StringLookup or TextVectorization, out of the model and run "
                    "them before or after it.",
                )
            if not spec.shape:
                raise DataError(
                    f"the model's {what} {spec} is a single number", "Its first axis must be the batch, of any size."
                )
            sizes = [size for size in spec.shape if isinstance(size, int)]
            room = bombs.memory_bytes() // spec.dtype.itemsize
            if len(spec.shape) > MOST_AXES or min(sizes, default=1) < 1 or math.prod(sizes) > room:
                raise DataError(
                    f"the model's {what} {str(spec)[:200]} is of a shape that no array here can have",
                    f"Give a model of at most {MOST_AXES} axes, each of 1 or more, and no more numbers than memory "
                    "holds.",
                )


def _kind(spec: TensorSpec) -> str:
    return "strings" if spec.dtype.kind in "OSU" else f"{spec.dtype} numbers"

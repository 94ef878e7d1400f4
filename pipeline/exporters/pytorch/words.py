"""What PyTorch's exporter says where it fails, in a few lines."""

import re

from pipeline.errors import BuildError
from pipeline.tensors import Signature

FIXED = re.compile(r"marked \S*?\[(\d+)\]\.size\(\)\[(\d+)\] as dynamic but your code specialized it to be a constant")
UNKNOWN = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
COLOURS = re.compile(r"\x1b\[\d+m")
SHOWN = 3
"""How many lines of PyTorch's an error has."""


def told(kind: str, message: str, signature: Signature) -> BuildError:
    """Return what the exporter raised as an error that says what to do.

    Args:
        kind: the exception's name.
        message: its text.
        signature: the model's; its inputs are those that the text counts.
    """
    fixed = list(dict.fromkeys(FIXED.findall(message)))
    if fixed:
        axes = ", ".join(f"axis {axis} of input {signature.inputs[int(number)].name!r}" for number, axis in fixed)
        return BuildError(
            f"export: under PyTorch the model works for one size only of {axes}",
            "It unrolls recurrent layers, and fixes the batch of those with masks or convolutions: fix that axis.",
        )
    if unknown := UNKNOWN.search(message):
        return BuildError(
            f"export: PyTorch's exporter has no ONNX operator for {unknown[1]}",
            "Replace the layer by one whose operators ONNX has, or compute it before or after the model.",
        )
    if kind in ("ModuleNotFoundError", "ImportError"):
        return BuildError(
            f"export: a module that registers the model's own layers cannot be imported beside PyTorch: {message}",
            "It may use keras.ops and NumPy there, not TensorFlow; what else it needs is to be installed there.",
        )
    if "deserialized" in message or "locate class" in message:
        return BuildError(
            "export: PyTorch's exporter cannot make a layer or model of your own again",
            "Register its class with @keras.saving.register_keras_serializable() in a module that can be imported, and "
            "not in the program itself.",
        )
    lines = [line.strip() for line in COLOURS.sub("", message).splitlines() if line.strip()]
    return BuildError("\n".join([f"export: PyTorch's exporter failed: {kind}", *(f"  {one}" for one in lines[:SHOWN])]))

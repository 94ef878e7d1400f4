"""What an engine really computes in, read from TensorRT's own list of its layers (`layers.json`).

An INT8 graph that builds proves no INT8 kernel: the builder chooses. Written from the inspector's documented format and
never yet run on an engine of TensorRT 11.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.artifacts.engine import LayerSummary

# The inspector describes a tensor in words, as "Row major linear FP32", "Half" or "Thirty-two wide channel vectorized
# row major Int8 format". The order matters: "BFloat16" holds "Float".
_TYPES = (
    ("BFLOAT16", r"BF16|BFloat16"),
    ("FLOAT16", r"FP16|Half|Float16"),
    ("FLOAT8E4M3FN", r"FP8|E4M3|Float8"),
    ("INT8", r"\bInt8|\bINT8"),
    ("FLOAT", r"FP32|Float"),
)
_MOVES = frozenset({"Reformat", "NoOp", "Constant", "Shuffle", "Identity", "Cast", "Signal", "Wait"})
"""Kinds of layers that move or convert and compute nothing."""


Tensor = Mapping[str, Any]
Layer = Mapping[str, Any]
"""As TensorRT's inspector has them in JSON."""


def name(layer: Layer) -> str:
    """Return a layer's name; of fused ones, all of them."""
    return str(layer.get("Name", ""))


def kind(layer: Layer) -> str:
    """Return a layer's kind; empty where an engine was built without details."""
    return str(layer.get("LayerType", ""))


def inputs(layer: Layer) -> Sequence[Tensor]:
    """Return the tensors a layer reads."""
    found: Sequence[Tensor] = layer.get("Inputs", ())
    return found


def outputs(layer: Layer) -> Sequence[Tensor]:
    """Return the tensors a layer writes."""
    found: Sequence[Tensor] = layer.get("Outputs", ())
    return found


def tensor_type(tensor: Tensor) -> str | None:
    """Return the ONNX name of the type that the inspector gives a tensor, or None where it gives none."""
    words = str(tensor.get("Format/Datatype", tensor.get("Datatype", "")))
    return next((name for name, pattern in _TYPES if re.search(pattern, words)), None)


def summarise(layers: Iterable[Layer]) -> LayerSummary:
    """Return how many layers compute in which type, how many do several operators at once, and how many only convert.

    A layer's type is its first input's, where the inspector gives it; `unknown` counts the others.
    """
    types: Counter[str] = Counter()
    fused = converting = 0
    for layer in layers:
        fused += " + " in name(layer)
        if kind(layer) in _MOVES:
            converting += kind(layer) in ("Reformat", "Cast")
            continue
        types[next(filter(None, map(tensor_type, inputs(layer))), None) or "unknown"] += 1
    return LayerSummary(types=dict(types), fused=fused, converting=converting)


def contradicts(summary: LayerSummary, compute_type: str) -> str:
    """Return in what an engine contradicts its graph's precision, or nothing.

    It does where every layer's type is known and none is the precision's: a quiet FP32.
    """
    types = summary.types
    if not types or "unknown" in types or compute_type in types:
        return ""
    found = ", ".join(f"{count} in {kind}" for kind, count in types.items())
    return f"the graph computes in {compute_type}, but no layer of the engine does: {found}"

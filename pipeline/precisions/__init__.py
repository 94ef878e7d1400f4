"""Numeric formats, one file each; the folder's listing is the registry.

TensorRT 11 takes a network's types as they stand in the graph, so a precision is a rewrite of the ONNX graph, and
ONNX Runtime can tell its accuracy on a CPU. Each module exposes one `PRECISION`. Adding a format is adding a file here.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
from onnx import ModelProto

from pipeline import graphs
from pipeline.errors import BuildError, ConfigError

NAMES: tuple[str, ...] = tuple(
    sorted(module.name for module in pkgutil.iter_modules(__path__)),
)


@dataclass(frozen=True)
class Tolerance:
    """Outputs count as equal where |candidate − reference| ≤ atol + rtol · |reference| for every element."""

    rtol: float
    atol: float

    def __str__(self) -> str:
        return f"atol {self.atol:g}, rtol {self.rtol:g}"


@dataclass(frozen=True)
class Precision:
    """One numeric format.

    `compute_type` is the ONNX element type that every multiply-accumulating node must have after `rewrite`.
    `rewrite` maps the exported FP32 graph to the typed graph; None where the FP32 graph already is it.
    `emulate` maps the typed graph to one that rounds alike in FP32, for a CPU that has no such arithmetic; None where
    ONNX Runtime computes the typed graph itself.
    """

    name: str
    tolerance: Tolerance
    compute_type: str
    allow_tf32: bool = False
    rewrite: Callable[[ModelProto], ModelProto] | None = None
    emulate: Callable[[ModelProto], ModelProto] | None = None

    def apply(self, model: ModelProto) -> ModelProto:
        """Return the typed graph, checked; the model passed in is left as it was.

        Raises:
            BuildError: the result does not compute in this precision, or is no valid ONNX graph.
        """
        typed = ModelProto()
        typed.CopyFrom(model)
        if self.rewrite is not None:
            typed = self.rewrite(typed)
        graphs.check(typed, f"precision {self.name}")
        found = graphs.compute_types(typed)
        if set(found) != {self.compute_type}:
            raise BuildError(
                f"precision {self.name}: every Conv, Gemm and MatMul was to compute in {self.compute_type}; "
                f"the graph has {found or 'none at all'}",
                "This model cannot be had in this precision; choose others with engine.precisions.",
            )
        if (graphs.inputs(typed), graphs.outputs(typed)) != (graphs.inputs(model), graphs.outputs(model)):
            raise BuildError(f"precision {self.name}: the rewrite changed the graph's inputs or outputs")
        return typed


def get(name: str) -> Precision:
    """Return the precision called `name`.

    Raises:
        ConfigError: there is no such precision.
    """
    if name not in NAMES:
        raise ConfigError(f"unknown precision {name!r}", f"Choose from: {', '.join(NAMES)}.")
    return cast("Precision", importlib.import_module(f"{__name__}.{name}").PRECISION)


def within(candidate: np.ndarray, reference: np.ndarray, tolerance: Tolerance) -> bool:
    """Tell whether every element is within the tolerance."""
    return bool(np.allclose(candidate, reference, rtol=tolerance.rtol, atol=tolerance.atol))

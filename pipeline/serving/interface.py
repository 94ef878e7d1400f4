"""What a served model takes and returns, and whether a request's tensors fit it, before anything is allocated."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.serving.datatypes import NAMES
from pipeline.serving.refusals import invalid
from pipeline.tensors import TensorSpec

LARGEST_AXIS = 2**31


@dataclass(frozen=True)
class Tensor:
    """An input or output; `shape` without the batch, None where an axis is dynamic."""

    name: str
    datatype: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    classes: tuple[str, ...] = ()

    @classmethod
    def of(cls, spec: TensorSpec, classes: tuple[str, ...] = ()) -> "Tensor":
        """Return it as the protocol names it."""
        return cls(spec.name, NAMES[spec.dtype], spec.dtype, spec.shape[1:], classes)

    @property
    def dims(self) -> list[int]:
        """The shape as the protocol writes it: -1 for a dynamic axis."""
        return [-1 if size is None else size for size in self.shape]


@dataclass(frozen=True)
class Interface:
    """Inputs, outputs, and how many samples a request may have."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    max_batch: int

    def checked(self, name: Any, datatype: Any, shape: Any) -> tuple[Tensor, tuple[int, ...]]:
        """Return the input that a request names, and the shape of what it says to send.

        Raises:
            Refused: there is no such input, or it is of another type, rank or size, or of too many samples.
        """
        wanted = self.inputs.get(name) if isinstance(name, str) else None
        if wanted is None:
            raise invalid(f"unknown input {str(name)[:100]!r}; the inputs are {', '.join(self.inputs)}")
        if datatype != wanted.datatype:
            raise invalid(f"input {name} is {wanted.datatype}, not {str(datatype)[:20]}")
        if not isinstance(shape, Sequence) or len(shape) != 1 + len(wanted.shape):
            raise invalid(f"input {name} wants the shape {[-1, *wanted.dims]}")
        for size, want in zip(shape, (None, *wanted.shape), strict=True):
            if type(size) is not int or not 0 < size < LARGEST_AXIS or want not in (None, size):
                raise invalid(f"input {name} wants the shape {[-1, *wanted.dims]}, not {str(list(shape))[:200]}")
        if shape[0] > self.max_batch:
            raise invalid(f"{shape[0]} samples are too many for one request: {self.max_batch} at most")
        return wanted, tuple(shape)

    def rows(self, shapes: dict[str, tuple[int, ...]]) -> int:
        """Return the number of samples of a request, by the shapes of its inputs.

        Raises:
            Refused: an input is missing, or they have different numbers of samples.
        """
        if missing := [name for name in self.inputs if name not in shapes]:
            raise invalid(f"input {', '.join(missing)} is missing")
        counts = {shape[0] for shape in shapes.values()}
        if len(counts) != 1:
            raise invalid(f"the inputs have different numbers of samples: {sorted(counts)}")
        return counts.pop()

    @property
    def largest(self) -> int | None:
        """Bytes of the tensors of the largest request; None where an axis is dynamic, so that nobody knows."""
        total = 0
        for tensor in self.inputs.values():
            shape = tuple(size for size in tensor.shape if size is not None)
            if len(shape) != len(tensor.shape):
                return None
            total += size_of((self.max_batch, *shape), tensor.dtype)
        return total

    def output(self, name: Any) -> Tensor:
        """Return an output that a request names.

        Raises:
            Refused: there is none such.
        """
        wanted = self.outputs.get(name) if isinstance(name, str) else None
        if wanted is None:
            raise invalid(f"unknown output {str(name)[:100]!r}; the outputs are {', '.join(self.outputs)}")
        return wanted


def size_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Return how many bytes a tensor takes."""
    return math.prod(shape) * dtype.itemsize

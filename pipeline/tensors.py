"""What passes between a model and whoever runs it: arrays by name, their shapes and types, the device they are on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feed = Mapping[str, Array]
Outputs = dict[str, Array]

Range = tuple[int, int, int]
"""The sizes of a dynamic axis: the smallest, the one to be fastest at, and the largest."""

Ranges = Mapping[str, Mapping[int, Range]]
"""By input and axis."""


MOST_AXES = 64
"""NumPy has no arrays of more."""


class Rows(Protocol):
    """The samples of one input or target, [samples, …]: an array, a memory map, or what reads them when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of samples, then the shape of one."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of an element."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, which: Any, /) -> Array:
        """Return the samples of a slice or of an array of indices, in memory."""
        ...


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `shape` holds None where a dimension is dynamic (the batch, first)."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]

    @property
    def image_like(self) -> bool:
        """Whether a sample has the shape and type of an image: [height, width, 1, 3 or 4], uint8 or a float."""
        pixels = self.dtype == np.uint8 or self.dtype.kind == "f"
        return pixels and len(self.shape) == 4 and self.shape[-1] in (1, 3, 4)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Tell whether an array of this shape has the rank, and the size of each dimension that is not dynamic."""
        return len(shape) == len(self.shape) and all(
            want in (None, size) for want, size in zip(self.shape, shape, strict=True)
        )

    def fits_but_for_batch(self, shape: tuple[int, ...]) -> bool:
        """Tell whether the first dimension, which is fixed, is all that keeps an array of this shape from fitting."""
        any_batch = TensorSpec(self.name, (None, *self.shape[1:]), self.dtype)
        return not self.fits(shape) and any_batch.fits(shape)

    def __str__(self) -> str:
        sizes = ("?" if size is None else str(size) for size in self.shape)
        return f"{self.name} {self.dtype}[{', '.join(sizes)}]"


def fixed_batch(inputs: Iterable[TensorSpec]) -> int | None:
    """Return the size of the only batch that a model of these inputs takes; None where it takes any."""
    return next((spec.shape[0] for spec in inputs if spec.shape and spec.shape[0] is not None), None)


@dataclass(frozen=True)
class Signature:
    """What a model takes and returns, in the order it does."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Tolerance:
    """Outputs count as equal where |candidate − reference| ≤ atol + rtol · |reference| for every element."""

    rtol: float
    atol: float

    def __str__(self) -> str:
        return f"atol {self.atol:g}, rtol {self.rtol:g}"

    def holds(self, candidate: Array, reference: Array) -> bool:
        """Tell whether every element of the candidate is near enough to the reference's."""
        return bool(np.allclose(candidate, reference, rtol=self.rtol, atol=self.atol))


DeviceKind = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Device:
    """Where something runs, by its address: `cpu`, `cuda:0`. Two equal GPUs have two addresses."""

    kind: DeviceKind
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"{self.kind}:{self.index}"

    @classmethod
    def parse(cls, address: str) -> "Device":
        """Return the device at an address.

        Raises:
            ValueError: it is none.
        """
        if address == "cpu":
            return CPU
        kind, _, index = address.partition(":")
        if kind != "cuda" or not index.isdigit():
            raise ValueError(f"{address!r} is no device; devices are cpu, cuda:0, cuda:1, …")
        return cls("cuda", int(index))


CPU = Device("cpu")
FIRST_GPU = Device("cuda", 0)

"""One case of the coverage table: what is built, and of which inputs."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from pipeline.tensors import Array

BATCHES = (3, 5)
"""The batch sizes at which ONNX Runtime is compared with Keras."""

LENGTHS = (6, 9)
"""What a dynamic dimension other than the batch is with each of them."""


PRECISIONS = ("fp32", "fp16", "int8")
STEPS = ("export", "equal", *PRECISIONS)
"""What is done with a case, in order."""

OK, NOT_APPLICABLE = "ok", "no product"
"""What a step says where nothing is wrong, and where a precision has nothing to change: no Conv, Gemm or MatMul."""

BY_PYTORCH, NOT_BY_PYTORCH = "by PyTorch, since tf2onnx", "nor by PyTorch"
"""In a result: why tf2onnx did not bring the case through, where PyTorch's exporter did; why that did not either."""


class Input(NamedTuple):
    """An input without its batch: `shape` holds None where it is dynamic; integers are below `high`."""

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    high: int = 256
    batch: int | None = None

    def draw(self, index: int) -> Array:
        """Return random numbers for one of `BATCHES`: normal ones, or integers from 0 up to `high`."""
        random = np.random.default_rng(index)
        shape = (self.batch or BATCHES[index], *(size or LENGTHS[index] for size in self.shape))
        if self.dtype == "bool":
            return random.random(shape) < 0.7
        if self.dtype == "string":
            return random.choice(["a", "b", "c d"], shape).astype(object)
        if "int" in self.dtype:
            return random.integers(0, self.high, shape).astype(self.dtype)
        return random.standard_normal(shape).astype(self.dtype)


class Case(NamedTuple):
    """A Keras layer or a function of the `inputs`; `fast` ones are run by the tests too."""

    kind: str
    name: str
    build: Callable[..., Any]
    inputs: tuple[Input, ...]
    fast: bool = False

    @property
    def key(self) -> str:
        """What the case is known by in the table and in the results."""
        return f"{self.kind}: {self.name}"


def later(layer: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[..., Any]:
    """Return a function that makes a Keras layer and calls it.

    Nothing of TensorFlow may run before a case's process is forked, and some layers make a variable as they are made.
    """
    return lambda *inputs: layer(*arguments, **options)(*inputs)


Row = tuple[str, Callable[..., Any]] | tuple[str, Callable[..., Any], Input | tuple[Input, ...]]


def cases(kind: str, default: Input, rows: tuple[Row, ...], fast: tuple[str, ...] = ()) -> tuple[Case, ...]:
    """Return a kind's cases; a row is a name, what is built, and its inputs where they are not the default one."""

    def made(row: Row) -> Case:
        inputs = row[2] if len(row) == 3 else default
        return Case(kind, row[0], row[1], (inputs,) if isinstance(inputs, Input) else inputs, row[0] in fast)

    return tuple(made(row) for row in rows)

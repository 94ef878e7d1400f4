"""What "still right" means for an output: one file for each kind of answer; the folder's listing is the registry.

Each module has one class, `TASK`. Adding a kind of answer is adding a file here. What compares two sets of outputs by
them, and which output has which, is `pipeline.judging`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from pipeline import registry
from pipeline.errors import DataError
from pipeline.tensors import Array, Rows

NAMES = registry.names(__name__)

Numbers = NDArray[np.float64]
Direction = Literal["higher", "lower"]

READ_AT_ONCE = 1024
"""Samples whose targets are read together."""


@dataclass(frozen=True)
class Seen:
    """What is known of an output where its task is decided: some of the original's results, and their targets.

    `outputs` and `targets` are [samples, …] of the same samples; `targets` is None without labels. `largest` is the
    largest number of an integer target in any split.
    """

    name: str
    outputs: Array
    targets: Array | None = None
    largest: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample's output, without sizes of 1."""
        return tuple(size for size in self.outputs.shape[1:] if size != 1)

    @property
    def target_shape(self) -> tuple[int, ...] | None:
        """The shape of a sample's target, without sizes of 1; None without labels."""
        return None if self.targets is None else tuple(size for size in self.targets.shape[1:] if size != 1)

    @property
    def numbers_of_classes(self) -> bool:
        """Whether the targets are whole numbers."""
        return self.targets is not None and self.targets.dtype.kind in "iub"

    @property
    def zeros_and_ones(self) -> bool:
        """Whether the targets are 0 and 1 alone, of whatever type."""
        if self.targets is None or (self.largest or 0) > 1:
            return False
        return bool(np.isin(self.targets, (0, 1)).all())

    @property
    def one_of_them(self) -> bool:
        """Whether the targets are 0 and 1, with one 1 in the last axis."""
        if self.targets is None or not self.zeros_and_ones:
            return False
        return bool((self.targets.sum(axis=-1, dtype=np.float64) == 1).all())

    @property
    def whole_outputs(self) -> bool:
        """Whether the model itself returns whole numbers."""
        return self.outputs.dtype.kind in "iub"

    @property
    def fractions(self) -> bool:
        """Whether every number of the output is within 0 and 1."""
        return bool(((self.outputs >= 0) & (self.outputs <= 1)).all())

    @property
    def distribution(self) -> bool:
        """Whether the output is probabilities that sum to 1 over the last axis."""
        sums = self.outputs.sum(axis=-1, dtype=np.float64) if self.outputs.ndim > 1 else np.zeros(1)
        return self.outputs.shape[-1] > 1 and self.fractions and bool(np.allclose(sums, 1, atol=1e-3))

    def refuse(self, task: str = "") -> DataError:
        """Return the error that a task, or none of them all, goes with this output and its target."""
        found = f"output {self.name} {self.outputs.dtype}{_free(self.outputs)}"
        target = "no target" if self.targets is None else f"target {self.targets.dtype}{_free(self.targets)}"
        return DataError(
            f"{f'{task} does not go' if task else 'no task goes'} with {found} and {target}",
            f"Set validate.task to another of {', '.join(NAMES)}, or to package.module:function that scores samples.",
        )


def _free(rows: Array) -> str:
    return f"[{', '.join(('?', *map(str, rows.shape[1:])))}]"


class Fit(NamedTuple):
    """How a task reads an output: one of its forms, of how many classes, and why."""

    form: str
    why: str
    classes: int = 0


class Changed(NamedTuple):
    """Of each sample: whether its answer counts as another one, and by how much it got worse; NaN counts as most."""

    differs: NDArray[np.bool_]
    fall: Numbers


class Answer(NamedTuple):
    """An output as a person reads it, and how good or sure it is; None where that cannot be told."""

    text: str
    score: float | None


@dataclass(frozen=True)
class Task(ABC):
    """A kind of answer: how a sample of it is scored, and how scores are put together.

    `form` says how the output is to be read, `classes` how many there are. Without labels `agreement` is true: targets
    are then the original's own answers (`expected`), and `spread` is the standard deviation of its outputs.
    """

    NAME: ClassVar[str]
    HIGHER_IS_BETTER: ClassVar[bool] = True
    PROPORTION: ClassVar[bool] = False
    """Whether every score is 0 or 1, whatever the samples."""

    form: str = ""
    classes: int = 0
    agreement: bool = False
    spread: float = field(default=1.0, repr=False)

    @classmethod
    @abstractmethod
    def guess(cls, seen: Seen) -> Fit | None:
        """Return how the output is read, where it is of this kind; at most one task says so."""

    @classmethod
    @abstractmethod
    def asked(cls, seen: Seen) -> Fit:
        """Return how the output is read where the user says that it is of this kind.

        Raises:
            DataError: it cannot be.
        """

    @classmethod
    def uses(cls, seen: Seen) -> bool:
        """Tell whether the targets are what this task needs; else agreement with the original is judged."""
        return True

    @property
    @abstractmethod
    def metric(self) -> str:
        """The name of what is measured."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """The unit of a loss, its interval and its budget."""

    @property
    def scale(self) -> float:
        """How many of the unit make a 1 of the metric: 100 where they are percentage points."""
        return 100.0

    @property
    def direction(self) -> Direction:
        """Which values of the metric are better."""
        return "higher" if self.HIGHER_IS_BETTER else "lower"

    @abstractmethod
    def budget(self, original: float) -> tuple[float, str]:
        """Return how much may be lost by default, in the unit, and where that comes from.

        `original` is the original model's metric.
        """

    @abstractmethod
    def scores(self, outputs: Array, targets: Array) -> Numbers:
        """Return each sample's score, [samples]."""

    def parts(self, outputs: Array, targets: Array) -> Numbers:
        """Return the numbers whose means over samples make the metric, [samples, numbers]."""
        return self.scores(outputs, targets)[:, None]

    def aggregate(self, means: Numbers) -> Numbers:
        """Return the metric [...] from the means of `parts` [..., numbers]."""
        return means[..., 0]

    def proportion(self, reference: Numbers, candidate: Numbers) -> bool:
        """Tell whether the metric of these parts is a share of right samples, which has an interval in closed form."""
        return self.PROPORTION

    def expected(self, outputs: Array) -> Array:
        """Return what stands for targets where there are none: the original's own answers."""
        return outputs

    def same(self, reference: Array, candidate: Array) -> Numbers | None:
        """Return how far each sample has the same answer, 0 to 1, [samples]; None where there is no such thing."""
        return None

    def changed(self, reference: Array, candidate: Array, targets: Array, budget: float) -> Changed:
        """Return which samples got worse by more than the budget, and by how much."""
        before, after = self.scores(reference, targets), self.scores(candidate, targets)
        fall = (before - after if self.HIGHER_IS_BETTER else after - before) * self.scale
        return Changed(~(fall <= budget), fall)

    @property
    def changed_means(self) -> str:
        """What `changed` counts, in words."""
        return "worse by more than the budget"

    def strata(self, targets: Rows) -> Array | None:
        """Return the group of each sample, by which calibration draws evenly; None where there are none."""
        return None

    @abstractmethod
    def reads(self, output: Array, names: Sequence[str], target: Array | None = None) -> Answer:
        """Return one sample's output as a person reads it; with its target, how good it is."""

    def target_reads(self, target: Array, names: Sequence[str]) -> str:
        """Return one sample's target as a person reads it."""
        return numbers(target)


def get(name: str) -> type[Task]:
    """Return the task called `name`.

    Raises:
        ConfigError: there is no such task.
    """
    return cast("type[Task]", registry.load(__name__, name).TASK)


def numbers(values: Any) -> str:
    """Return an array as a person reads it: its first four numbers, and how many there are."""
    flat = np.asarray(values).reshape(-1)
    shown = ", ".join(f"{value:.4g}" for value in flat[:4].astype(np.float64))
    return shown if len(flat) <= 4 else f"{shown}, … ({len(flat):,} numbers)"


def called(number: int, names: Sequence[str]) -> str:
    """Return a class's name, or its number where it has none."""
    if 0 <= number < len(names):
        return names[number]
    return str(number) if names else f"class {number}"

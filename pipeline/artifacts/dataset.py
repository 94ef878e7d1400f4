"""The data that a model was trained on."""

from typing import ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.tensor import TensorRecord

T = TypeVar("T")

MOST_CLASSES = 1_000_000
"""A number beyond that is no class: a model would need a weight for each of them."""


class PerSplit(Record, Generic[T]):
    """Something of each split."""

    train: T
    validation: T
    test: T


class TargetRecord(TensorRecord):
    """What should come out of the model, as the data has it."""

    class_names: tuple[str, ...]
    """By number; empty where the data does not name any."""
    largest: int | None
    """The largest number in any split, of an integer type; null for other types."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names, their numbers where they have none; none where the target is no number of a class."""
        count = -1 if self.largest is None else self.largest
        return self.class_names or tuple(map(str, range(count + 1 if count < MOST_CLASSES else 0)))


class DatasetRecord(Artifact):
    """The data that the model was trained on: later stages load them again and refuse others."""

    PATH: ClassVar[str] = "train/dataset.json"

    schema_: Literal[2] = Field(2, alias="schema")
    name: str
    origin: str
    substitute: str
    """Why MNIST was not taken, where it was wanted; else empty."""
    random: bool = False
    """Whether there are no data: inputs are random numbers, on which nothing is calibrated or called accurate."""
    samples: PerSplit[int]
    inputs: tuple[TensorRecord, ...]
    targets: tuple[TargetRecord, ...]
    """Empty where there are no labels."""
    sha256: PerSplit[str]
    """Over names, shapes, types, inputs and targets."""

    def target(self, name: str) -> TargetRecord | None:
        """Return the target of this name, or None."""
        return next((one for one in self.targets if one.name == name), None)

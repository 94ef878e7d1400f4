"""The samples to which a runner gives another answer than the original model."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record


class Answer(Record):
    """The best class for a sample."""

    class_index: int
    score: float | None
    """Null where it is no number."""


class DifferingSample(Record):
    """A sample of the test split with two answers."""

    index: int
    label: int
    reference: Answer
    candidate: Answer


class DifferingRunner(Record):
    """One runner's other answers."""

    runner: str
    reference: str
    count: int
    """To how many samples it gives another answer than the reference."""
    samples: tuple[DifferingSample, ...]
    """The gravest: those whose old answer lost most of its score."""


class Disagreements(Artifact):
    """The test samples to which a runner gives another answer than the original model.

    The images themselves are in `disagreements.npz`: `indices`, and `images`, uint8 [samples, height, width, channels].
    """

    PATH: ClassVar[str] = "validate/disagreements.json"

    schema_: Literal[2] = Field(2, alias="schema")
    drawn_at_most: int
    runners: tuple[DifferingRunner, ...]

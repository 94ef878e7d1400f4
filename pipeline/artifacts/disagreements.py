"""The samples to which a runner gives another answer than the original model."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record


class Answer(Record):
    """What a model answers to a sample."""

    text: str
    """As a person reads it: a class, numbers."""
    score: float | None
    """How sure of it the model is (classification), or how good it is by the task; null where it is no number."""


class DifferingSample(Record):
    """A sample of the test split with two answers."""

    index: int
    expected: str | None
    """The target as a person reads it; null without labels."""
    reference: Answer
    candidate: Answer


class DifferingRunner(Record):
    """One runner's other answers, of one output."""

    runner: str
    reference: str
    output: str
    """Its name; empty where a function of the user's own judges all outputs together."""
    task: str
    means: str
    """What is counted: another answer, or one that is worse by more than the budget."""
    count: int
    """Of how many samples."""
    samples: tuple[DifferingSample, ...]
    """The gravest: those whose score fell most."""


class Disagreements(Artifact):
    """The test samples to which a runner gives another answer than the original model, or a worse one.

    The samples themselves are in `disagreements.npz`: `indices`, and under `input/<name>` each input, [samples, …].
    """

    PATH: ClassVar[str] = "validate/disagreements.json"

    schema_: Literal[3] = Field(3, alias="schema")
    drawn_at_most: int
    runners: tuple[DifferingRunner, ...]

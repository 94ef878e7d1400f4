"""How the training went."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record


class TestMetric(Record):
    """How good the trained model is on the test split, by one output."""

    output: str
    task: str
    metric: str
    value: float | None
    """Null where it is no number."""


class TrainingHistory(Artifact):
    """How the training went, epoch by epoch, and how good the model is."""

    PATH: ClassVar[str] = "train/history.json"

    schema_: Literal[3] = Field(3, alias="schema")
    dataset: str
    device: str
    """Where it was trained: `cpu`, `cuda:0`."""
    epochs: int
    steps_per_epoch: int
    seconds: float
    samples_per_s: float | None
    """Null where nothing was trained."""
    epoch_seconds: tuple[float, ...]
    """Each epoch's training without its validation; the first one traces and compiles, too."""
    history: dict[str, tuple[float, ...]]
    """Keras's: a value for each epoch of every measure."""
    test: tuple[TestMetric, ...]
    """Of each output with labels; none where there are none, or where the task cannot be told."""
    test_samples: int

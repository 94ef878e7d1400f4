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


class TrainedEpoch(Record):
    """How one epoch went."""

    measures: dict[str, float | None]
    """Keras's, by name, `val_…` of the validation split; null where one is no number."""
    seconds: float
    """Of training; the first epoch also traces and compiles."""
    validation_s: float
    waited_s: float | None
    """How many of the seconds the training waited for data; null where several devices are fed ahead of time."""
    learning_rate: float | None
    """At the epoch's end; null where the optimizer does not tell."""


class TrainingHistory(Artifact):
    """How the training went, epoch by epoch, and how good the model is."""

    PATH: ClassVar[str] = "train/history.json"

    schema_: Literal[4] = Field(4, alias="schema")
    dataset: str
    backend: str
    """What Keras ran on: `tensorflow`, or `jax` where several processes trained together."""
    devices: tuple[str, ...]
    """Where it was trained: `cpu`, `cuda:0`; several shared every batch."""
    recipe: str
    batch: int
    steps_per_epoch: int
    steps_per_execution: int | None
    """How many steps TensorFlow took at a time; null where nothing was trained."""
    learning_rate: float
    """The optimizer's at its highest, where the model did not come compiled with one of its own."""
    schedule: str
    in_memory: bool | None
    """Whether the training samples were kept in memory, and not read anew in each epoch; null: nothing was trained."""
    epochs: tuple[TrainedEpoch, ...]
    best_epoch: int | None
    """The number, from 1, of the epoch whose weights were taken; null without early stopping: the last one's."""
    resumed_at: str
    """Where the training went on from a checkpoint of an interrupted one, the last time; empty: it never did."""
    seconds: float
    """Of all epochs, with their validation."""
    samples_per_s: float | None
    """In training, validation not counted; null where nothing was trained."""
    test: tuple[TestMetric, ...]
    """Of each output with labels; none where there are none, or where the task cannot be told."""
    test_samples: int

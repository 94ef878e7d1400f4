"""How the training went."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact


class TrainingHistory(Artifact):
    """How the training went, epoch by epoch, and the accuracy it reached."""

    PATH: ClassVar[str] = "train/history.json"

    schema_: Literal[2] = Field(2, alias="schema")
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
    test_accuracy: float
    test_samples: int

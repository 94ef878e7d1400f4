"""The data that a model was trained on."""

from typing import ClassVar, Generic, Literal, TypeVar

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record

T = TypeVar("T")


class PerSplit(Record, Generic[T]):
    """Something of each split."""

    train: T
    validation: T
    test: T


class DatasetRecord(Artifact):
    """The data that the model was trained on: later stages load them again and refuse others."""

    PATH: ClassVar[str] = "train/dataset.json"

    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    origin: str
    substitute: str
    """Why MNIST was not taken, where it was wanted; else empty."""
    samples: PerSplit[int]
    image_shape: tuple[int, ...]
    """Height, width, channels."""
    class_names: tuple[str, ...]
    sha256: PerSplit[str]
    """Over shape, images and labels."""

"""The model that everything after the training is held against."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact
from pipeline.artifacts.tensor import TensorRecord
from pipeline.tensors import Signature


class ModelRecord(Artifact):
    """The model: where it came from, what it takes and returns."""

    PATH: ClassVar[str] = "train/model.json"

    schema_: Literal[2] = Field(2, alias="schema")
    origin: str
    """`model.source` as configured: `article-cnn`, an import path, a file or a folder."""
    kind: Literal["function", "keras", "saved_model", "onnx"]
    """What that is. A legacy `.h5` file is a `keras` one, too."""
    sha256: str | None
    """Of the file or folder it came from, with an ONNX model's files of weights; null for a function."""
    file: str
    """The published original, `train/…`."""
    as_trained: str | None
    """The model as it was trained, where that was not in FP32, in which the published original is; else null."""
    name: str
    parameters: int | None
    """Null where they are not known."""
    trained_epochs: int
    """By this pipeline; 0: it was adopted as it is."""
    policy: str
    """Keras's types in the published original, as `mixed_float16`; it is exported in FP32 whatever they are."""
    inputs: tuple[TensorRecord, ...] = Field(min_length=1)
    outputs: tuple[TensorRecord, ...] = Field(min_length=1)
    layers: tuple[str, ...]
    """Its Keras layers in the order of `model.summary()`, a nested model's with that model's name before.

    None where it is no Keras model.
    """

    @property
    def signature(self) -> Signature:
        """What it takes and returns."""
        return Signature(tuple(one.spec for one in self.inputs), tuple(one.spec for one in self.outputs))

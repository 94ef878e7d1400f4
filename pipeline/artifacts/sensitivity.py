"""Where a precision loses accuracy, by Keras layer."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.parity import JudgedOutput
from pipeline.artifacts.record import Artifact, Record


class Trial(Record):
    """What keeping some layers in FP32 comes to."""

    verdict: Literal["pass", "fail", "inconclusive"]
    error: float
    """Distance of the outputs from FP32's, 0 to 1."""
    loss: dict[str, float | None]
    """By output, in the unit of its task; null where it is no number."""
    non_finite: int
    """Samples with NaN or Inf."""
    reason: str


class TensorDifference(Record):
    """How far a tensor of the typed graph is from FP32's."""

    name: str
    layer: str
    max_abs: float
    relative_error: float | None
    """Mean difference over FP32's mean magnitude; null where FP32 has zeros alone and the candidate has not."""
    non_finite: int


class LayerGroup(Record):
    """Keras layers returned to FP32 together: one, or several between which pass numbers too large."""

    layers: tuple[str, ...]
    nodes: tuple[str, ...]
    overflows: bool
    error_alone: float | None
    """Error left with these layers alone in FP32; null where no product would be left to the precision."""
    won_back: float
    verdict: Literal["pass", "fail", "inconclusive", "skipped"]


class LayerSensitivity(Artifact):
    """Where a precision loses accuracy, and the smallest set of layers found that brings it back."""

    PATH: ClassVar[str] = "localise/*.json"

    schema_: Literal[3] = Field(3, alias="schema")
    model_sha256: str
    """Of the exported FP32 graph."""
    precision: str
    samples: int
    outputs: tuple[JudgedOutput, ...]
    """By what each output was judged."""
    baseline: Trial
    """The precision as it is."""
    tensors: tuple[TensorDifference, ...]
    groups: tuple[LayerGroup, ...]
    """Ranked by the error that returning them to FP32 wins back."""
    keep_fp32: tuple[str, ...] | None
    """The layers to keep; null where no set found is enough."""
    result: Trial
    """With these layers kept."""

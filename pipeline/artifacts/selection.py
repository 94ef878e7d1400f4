"""Which precision was chosen, and why."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.parity import Comparison, JudgedOutput
from pipeline.artifacts.record import Artifact, Record


class SelectedOn(Record):
    """The samples that the choice was made on."""

    name: str
    split: str
    samples: int


class CandidatePrecision(Record):
    """One precision that could have been chosen."""

    precision: str
    cost: float | None
    """See `basis`; null where it could not be built."""
    mean_bits: float
    onnx_bytes: int
    engine_bytes: int | None
    comparison: Comparison | None
    rejected: str
    """Why it was not chosen; empty for the one that was."""


class Selection(Artifact):
    """The precision that `engine.precisions=auto` chose, on the validation split."""

    PATH: ClassVar[str] = "engine/selection.json"

    schema_: Literal[3] = Field(3, alias="schema")
    chosen: str | None
    basis: str
    """What `cost` is: a latency on a named GPU, or bits."""
    pareto: tuple[str, ...]
    """No other passing candidate is better in both cost and nearness to FP32's outputs."""
    candidates: tuple[CandidatePrecision, ...]
    dataset: SelectedOn
    outputs: tuple[JudgedOutput, ...]
    """By what each output was judged."""

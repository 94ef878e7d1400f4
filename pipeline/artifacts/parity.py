"""How every runner compares with the original model."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.runner import RunnerRecord

Verdict = Literal["pass", "fail", "inconclusive", "skipped"]
Interval = tuple[float, float]


class Comparison(Record):
    """What differs between two sets of outputs on the same samples, and whether it is acceptable."""

    samples: int
    max_abs: float | None
    """Largest absolute difference of an output; null where an output is NaN or Inf."""
    mean_abs: float | None
    """Mean absolute difference."""
    top1_agreement: float
    """Fraction of the samples with the same best class."""
    accuracy_reference: float
    accuracy_candidate: float
    accuracy_drop_pp: float
    """Percentage points lost; negative where some were won."""
    accuracy_drop_ci95_pp: Interval
    """Tango's score interval for paired proportions, 95 %."""
    mcnemar_p: float
    """McNemar's exact test of the samples that only one of the two gets right."""
    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str


class BatchInvariance(Record):
    """Whether a sample's result depends on the batch it came in."""

    batch_sizes: tuple[int, ...]
    samples: int
    max_abs: float | None
    verdict: Literal["pass", "fail"]
    reason: str


class JudgedRunner(Record):
    """One runner, held against the original Keras model on the test split."""

    runner: RunnerRecord
    device: str | None
    """Where it really ran: `cpu`, `cuda:0`; null where it did not."""
    verdict: Verdict
    """The worst of what follows; `skipped` where it did not run."""
    reason: str
    total: Comparison | None
    """Against the original model; null for that itself, and where one of the two did not run."""
    batch_invariance: BatchInvariance | None


class Hop(Record):
    """One step of the chain from the Keras model to what is served: so a loss has a place."""

    reference: str
    """Name of the runner before it."""
    candidate: str
    """Name of the runner."""
    verdict: Verdict
    reason: str
    comparison: Comparison | None
    """Null where one of the two did not run."""


class JudgedOn(Record):
    """The samples that everything was judged on."""

    name: str
    split: str
    samples: int
    origin: str
    substitute: str


class ParityReport(Artifact):
    """The verdict on every runner that the benchmark may time, and where accuracy is lost on the way to it."""

    PATH: ClassVar[str] = "validate/parity.json"

    schema_: Literal[2] = Field(2, alias="schema")
    verdict: Literal["pass", "fail", "inconclusive"]
    """The worst of all."""
    dataset: JudgedOn
    accuracy_budget_pp: float
    """Accuracy that may be lost, in percentage points."""
    interval: str
    """Which interval the drops have."""
    runners: tuple[JudgedRunner, ...]
    hops: tuple[Hop, ...]
    """Keras → SavedModel → ONNX → typed ONNX → each runner of that precision."""

    def judged(self, runner: RunnerRecord) -> JudgedRunner | None:
        """Return how this very runner, with these options, was judged; None where it was not."""
        return next((row for row in self.runners if row.runner == runner), None)

    def named(self, name: str) -> JudgedRunner | None:
        """Return how the runner of this name was judged; None where there is none."""
        return next((row for row in self.runners if row.runner.name == name), None)

"""How every runner compares with the original model."""

from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.runner import RunnerRecord

Verdict = Literal["pass", "fail", "inconclusive", "skipped"]
Interval = tuple[float, float]

NO_LABELS = "agreement with the original, no labels"
"""What is judged where there are no labels: stands before the metric's name wherever it is shown."""


class JudgedOutput(Record):
    """What an output is judged by."""

    output: str
    """Its name; empty where a function of the user's own judges all outputs together."""
    task: str
    """One of `tasks/`, or the import path of the user's own function."""
    form: str
    """How the task reads it, as `probabilities`."""
    classes: int
    """How many there are; 0 where there are none."""
    why: str
    """Why this task."""
    labels: bool
    """Whether there are labels; else agreement with the original stands for them."""
    metric: str
    unit: str
    """Of a loss, its interval and its budget. `points` are percentage points."""
    direction: Literal["higher", "lower"]
    """Which values of the metric are better."""
    budget: float
    """How much may be lost, in the unit."""
    budget_why: str
    interval: str
    """Which interval the losses have."""

    @property
    def measured(self) -> str:
        """The metric's name, with what stands for labels where there are none."""
        return self.metric if self.labels else f"{NO_LABELS}: {self.metric}"


class OutputComparison(Record):
    """What differs between two sets of one output on the same samples, and whether it is acceptable."""

    output: str
    """Its name; empty where a function of the user's own judges all outputs together."""
    task: str
    labels: bool
    """Whether there are labels; else agreement with the original stands for them."""
    metric: str
    unit: str
    """Of the loss, its interval and the budget. `points` are percentage points."""
    direction: Literal["higher", "lower"]
    """Which values of the metric are better."""
    samples: int
    max_abs: float | None
    """Largest absolute difference of an output; null where an output is NaN or Inf."""
    mean_abs: float | None
    """Mean absolute difference."""
    agreement: float | None
    """How far the answers are the same, 0 to 1: the share of the samples with the same class, of the positions in a
    segmentation, the mean cosine of embeddings; null where there is no such thing."""
    reference: float | None
    """The reference's metric; null where it is no number."""
    candidate: float | None
    loss: float | None
    """How much worse the candidate is, in the unit; negative where it is better."""
    loss_ci95: Interval | None
    """Its 95 % interval; null where the samples are too few for one."""
    p: float | None
    """McNemar's exact test of the samples that only one of the two gets right; null where scores are not 0 and 1."""
    interval: str
    """Which interval that is."""
    budget: float
    verdict: Literal["pass", "fail", "inconclusive"]
    reason: str

    @property
    def measured(self) -> str:
        """The metric's name, with what stands for labels where there are none."""
        return self.metric if self.labels else f"{NO_LABELS}: {self.metric}"


class Comparison(Record):
    """What differs between two sets of outputs on the same samples, and whether it is acceptable."""

    outputs: tuple[OutputComparison, ...]
    verdict: Literal["pass", "fail", "inconclusive"]
    """The worst of all outputs."""
    reason: str

    @property
    def samples(self) -> int:
        """How many samples were compared."""
        return self.outputs[0].samples

    @property
    def mean_abs(self) -> float | None:
        """The largest mean absolute difference of an output; None where one is NaN or Inf."""
        known = [one.mean_abs for one in self.outputs if one.mean_abs is not None]
        return max(known) if len(known) == len(self.outputs) else None


class BatchInvariance(Record):
    """Whether a sample's result depends on the batch it came in."""

    batch_sizes: tuple[int, ...]
    samples: int
    max_abs: float | None
    verdict: Literal["pass", "fail"]
    """`fail` where results differ by more than the tolerance, and answers change with them."""
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

    schema_: Literal[3] = Field(3, alias="schema")
    verdict: Literal["pass", "fail", "inconclusive"]
    """The worst of all."""
    dataset: JudgedOn
    outputs: tuple[JudgedOutput, ...]
    """By what each output was judged; none where no runner ran."""
    runners: tuple[JudgedRunner, ...]
    hops: tuple[Hop, ...]
    """Keras → SavedModel → ONNX → typed ONNX → each runner of that precision."""

    def judged(self, runner: RunnerRecord) -> JudgedRunner | None:
        """Return how this very runner, with these options, was judged; None where it was not."""
        return next((row for row in self.runners if row.runner == runner), None)

    def named(self, name: str) -> JudgedRunner | None:
        """Return how the runner of this name was judged; None where there is none."""
        return next((row for row in self.runners if row.runner.name == name), None)

"""Choosing a precision among candidates that stay within the accuracy budget: the Pareto set, and the fastest of it."""

from dataclasses import dataclass

from pipeline.artifacts.parity import Comparison, JudgedOutput
from pipeline.artifacts.selection import CandidatePrecision, SelectedOn, Selection


@dataclass(frozen=True)
class Candidate:
    """One precision as built. `cost` orders them: the median latency in µs on the GPU, or bits where none was timed."""

    precision: str
    comparison: Comparison | None
    cost: float
    mean_bits: float
    onnx_bytes: int
    engine_bytes: int | None
    failure: str = ""
    """Why there is no graph or no engine."""

    @property
    def error(self) -> float:
        """Mean absolute difference of the outputs from FP32's.

        Candidates that pass differ in accuracy by a few samples, which is chance; how near they stay to FP32 is not.
        """
        return float("inf") if self.comparison is None or self.comparison.mean_abs is None else self.comparison.mean_abs

    @property
    def eligible(self) -> bool:
        """Whether it may be chosen: there, and proven to be within the budget."""
        return not self.failure and self.comparison is not None and self.comparison.verdict == "pass"


def select(
    candidates: list[Candidate], basis: str, dataset: SelectedOn, outputs: tuple[JudgedOutput, ...]
) -> Selection:
    """Return the choice.

    Chosen is the candidate of the least cost among those that pass; among equals, the one whose outputs are nearest to
    FP32's, then the smaller one. `pareto` holds those that no other passing candidate beats in both cost and error.
    `basis` says what the cost is, `dataset` and `outputs` by what they were judged.
    """
    eligible = [candidate for candidate in candidates if candidate.eligible]
    pareto = [one for one in eligible if not any(_dominates(other, one) for other in eligible)]
    chosen = min(eligible, key=lambda one: (one.cost, one.error, one.onnx_bytes), default=None)
    return Selection(
        chosen=chosen.precision if chosen else None,
        basis=basis,
        pareto=tuple(one.precision for one in pareto),
        candidates=tuple(
            CandidatePrecision(
                precision=one.precision,
                cost=None if one.failure else one.cost,
                mean_bits=one.mean_bits,
                onnx_bytes=one.onnx_bytes,
                engine_bytes=one.engine_bytes,
                comparison=one.comparison,
                rejected="" if one is chosen else _why_not(one, chosen),
            )
            for one in candidates
        ),
        dataset=dataset,
        outputs=outputs,
    )


def _dominates(one: Candidate, other: Candidate) -> bool:
    better = one.cost < other.cost or one.error < other.error
    return better and one.cost <= other.cost and one.error <= other.error


def _why_not(one: Candidate, chosen: Candidate | None) -> str:
    if one.failure:
        return one.failure
    if one.comparison is None or one.comparison.verdict != "pass":
        return one.comparison.reason if one.comparison else "not judged"
    assert chosen is not None
    if one.cost > chosen.cost:
        return f"within the budget; {chosen.precision} costs less ({chosen.cost:g} against {one.cost:g})"
    if one.error > chosen.error:
        return f"within the budget; {chosen.precision} costs the same and is nearer to FP32"
    return f"within the budget; {chosen.precision} costs the same and is no larger"

"""Which runner to take: for each batch size and goal, the fastest of those that passed validation."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from pipeline import precisions
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Choice, Excluded, Ranked, Recommendation
from pipeline.artifacts.results import NoiseFloor
from pipeline.environment import Machine
from pipeline.measuring import statistics
from pipeline.measuring.cells import Measurement
from pipeline.measuring.speedups import floor_between


class Goal(NamedTuple):
    """What is wanted of a runner; `round_us` are the rounds' times of a call by which two are compared."""

    name: Literal["latency", "throughput"]
    unit: Literal["us", "samples/s"]
    value: Callable[[Measurement], float | None]
    round_us: Callable[[Measurement], Sequence[float]]
    best_first: Callable[[float], float]


GOALS = (
    Goal("latency", "us", lambda c: c.timing.p50_us, lambda c: c.timing.round_p50_us, lambda value: value),
    Goal("throughput", "samples/s", lambda c: c.timing.items_per_s, lambda c: c.timing.round_mean_us, lambda v: -v),
)


def recommend(
    cells: Sequence[Measurement], parity: ParityReport, floors: Sequence[NoiseFloor], machine: Machine
) -> Recommendation:
    """Return the fastest runner that passed, for each batch size and goal, host array to host array.

    Where it is not significantly faster than others, the simplest of them is chosen: the widest precision, then the
    backend that comes first in the list of runners. What is significant, the A/A repeats on the two runners' own
    devices say.
    """
    timed = [
        cell
        for cell in cells
        if cell.mode == "end_to_end" and not cell.timed.repeat and cell.runner.record.role == "exported"
    ]
    passed = [cell for cell in timed if cell.status == "ok" and _verdict(parity, cell) == "pass"]
    choices = [
        choice
        for batch in dict.fromkeys(cell.batch for cell in passed)
        for goal in GOALS
        if (choice := _choose(goal, batch, [cell for cell in passed if cell.batch == batch], floors))
    ]
    excluded: dict[str, str] = {}
    for cell in timed:
        verdict = _verdict(parity, cell)
        if cell.status != "ok":
            excluded.setdefault(cell.name, cell.reason)
        elif verdict != "pass":
            judged = parity.judged(cell.runner.record)
            excluded.setdefault(cell.name, f"validation: {verdict}{f', {judged.reason}' if judged else ''}")
    left_out = tuple(Excluded(runner=name, reason=reason) for name, reason in excluded.items())
    return Recommendation(machine=machine, choices=tuple(choices), excluded=left_out)


def _verdict(parity: ParityReport, cell: Measurement) -> str:
    judged = parity.judged(cell.runner.record)
    return judged.verdict if judged else "not judged"


def _choose(goal: Goal, batch: int, cells: list[Measurement], floors: Sequence[NoiseFloor]) -> Choice | None:
    ranked = [(value, cell) for cell in cells if (value := goal.value(cell)) is not None]
    ranked.sort(key=lambda one: goal.best_first(one[0]))
    if not ranked:
        return None
    fastest = ranked[0][1]
    equals = [cell for _, cell in ranked if cell is fastest or not _faster(goal, fastest, cell, floors)]
    chosen = min(equals, key=lambda cell: (-precisions.get(cell.runner.record.precision).bits, cells.index(cell)))
    rival = next((cell for _, cell in ranked if cell is not chosen), None)
    ratio = statistics.speedup(goal.round_us(rival), goal.round_us(chosen)) if rival else None
    compared = [cell for cell in equals if cell is not fastest] or ([rival] if rival else [])
    floor = max((floor_between(fastest, cell, floors) for cell in compared), default=0.0)
    verdict: Literal["faster", "no significant difference", "the only one"] = "the only one"
    reason = "no other runner passed validation and was timed"
    if rival and len(equals) > 1:
        verdict = "no significant difference"
        others = ", ".join(cell.name for cell in equals if cell is not chosen)
        reason = f"the simplest of those within the noise of {floor:.1%}; the others: {others}"
    elif rival:
        verdict = "faster"
        reason = f"faster than every other runner that passed, the next one beyond the noise of {floor:.1%}"
    value = next(value for value, cell in ranked if cell is chosen)
    return Choice(
        batch=batch,
        goal=goal.name,
        unit=goal.unit,
        runner=chosen.runner.record,
        device=str(chosen.device),
        value=value,
        next=rival.name if rival else None,
        ratio=ratio.ratio if ratio else None,
        ratio_ci95=ratio.ratio_ci95 if ratio else None,
        verdict=verdict,
        reason=reason,
        ranking=tuple(Ranked(runner=cell.name, device=str(cell.device), value=value) for value, cell in ranked),
    )


def _faster(goal: Goal, one: Measurement, other: Measurement, floors: Sequence[NoiseFloor]) -> bool:
    ratio = statistics.speedup(goal.round_us(other), goal.round_us(one))
    return statistics.verdict(ratio, floor_between(one, other, floors)) == "faster"

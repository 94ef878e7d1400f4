"""Judging runners: each against the original model, against the step before it, and against itself in other batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline import precisions
from pipeline.artifacts.disagreements import DifferingRunner
from pipeline.artifacts.parity import BatchInvariance, Comparison, Hop, JudgedOutput, JudgedRunner, Verdict
from pipeline.artifacts.runner import RunnerRecord
from pipeline.backends import Session
from pipeline.data import Split
from pipeline.errors import BackendUnavailable, BatchOutsideProfile
from pipeline.judging.choosing import Choosing, class_names
from pipeline.judging.comparing import compare, worst
from pipeline.judging.differing import differing
from pipeline.judging.yardstick import Yardstick
from pipeline.runners import Runner, inference, trial
from pipeline.tensors import Feed, Outputs

BATCH_SAMPLES = 128
"""Samples, the first of the split, whose results are compared between batch sizes."""

DRAWN = 12
"""Samples at most that are kept for the report, of those to which a runner gives another answer."""


@dataclass(frozen=True)
class Criteria:
    """By what runners are judged: the samples, how they are fed, and what decides on the task of each output.

    A sample's result must not depend on which of `batch_sizes` it came in; exported runners are fed the
    `timed_batch_sizes` as well.

    `trial_s` is for a model from elsewhere: each exported runner of the CPU is first tried with a sample in a process
    of its own, for so long at most, since its library may die of what the original's took.
    """

    samples: Split
    batch_size: int
    batch_sizes: tuple[int, ...]
    timed_batch_sizes: tuple[int, ...]
    choosing: Choosing
    trial_s: float | None = None


@dataclass(frozen=True)
class Judgement:
    """What was found of all runners."""

    runners: tuple[JudgedRunner, ...]
    hops: tuple[Hop, ...]
    differing: tuple[DifferingRunner, ...]
    outputs: tuple[JudgedOutput, ...]
    """By what each output was judged; none where no runner ran."""

    @property
    def verdict(self) -> Literal["pass", "fail", "inconclusive"]:
        """The worst of all."""
        return worst([*(row.verdict for row in self.runners), *(row.verdict for row in self.hops)])


def judge(runners: Sequence[Runner], criteria: Criteria) -> Judgement:
    """Judge runners, each after the one that it is compared with, the exact run of the original model first.

    By the outputs of the first that runs it is told what they are.
    """
    original, steps = runners[0].record.name, _steps(runners)
    outputs: dict[str, Outputs] = {}
    judged, hops, changed = [], [], []
    yardsticks: tuple[Yardstick, ...] = ()
    for runner in runners:
        record, reference = runner.record, before(runner.record, steps)
        try:
            outputs[record.name], invariance, device = _run(runner, criteria)
        except (BackendUnavailable, BatchOutsideProfile, trial.Ended) as error:
            judged.append(_skipped(record, error.message))
            if reference:
                hops.append(_skipped_hop(record, reference, error.message))
            continue
        yardsticks = yardsticks or criteria.choosing.yardsticks(outputs[record.name], criteria.samples.targets)
        judged.append(_against(original, record, device, outputs, yardsticks, invariance))
        if reference:
            hops.append(_hop(record, reference, outputs, yardsticks))
        if original in outputs and _has_precision(record):
            changed += [_differing(one, original, record.name, outputs, criteria) for one in yardsticks]
    return Judgement(tuple(judged), tuple(hops), tuple(changed), tuple(one.record for one in yardsticks))


def _run(runner: Runner, criteria: Criteria) -> tuple[Outputs, BatchInvariance, str]:
    """Return a runner's outputs, whether they depend on the batch, and where it ran; nothing stays in memory."""
    if criteria.trial_s and runner.record.role == "exported" and runner.device == "cpu":
        _try(runner, criteria.samples, criteria.trial_s)
    with runner.open() as session:
        found = inference.infer(session, criteria.samples, criteria.batch_size, inference.limits(runner.record))
        return found, _batch_invariance(session, runner.record, criteria), session.device


def _try(runner: Runner, samples: Split, limit_s: float) -> None:
    try:
        trial.tried(run_once, runner, samples.feed(slice(0, 1)), limit_s=limit_s)
    except trial.Ended as error:
        raise trial.Ended(f"{runner.record.name} {error.message}", error.hint) from error


def run_once(runner: Runner, sample: Feed) -> None:
    """Open a runner and run it on one sample, or a batch of the size that it takes."""
    if runner.unavailable:
        return
    with runner.open() as session:
        session.run(inference.filled(sample, inference.limits(runner.record, session)[0]))


def _differing(
    yardstick: Yardstick, original: str, name: str, outputs: dict[str, Outputs], criteria: Criteria
) -> DifferingRunner:
    classes = class_names(criteria.choosing.dataset, yardstick.output)
    found = differing(yardstick, outputs[original], outputs[name], classes, DRAWN)
    known = yardstick.record
    return DifferingRunner(
        runner=name,
        reference=original,
        output=known.output,
        task=known.task,
        means=yardstick.task.changed_means,
        count=found.count,
        samples=found.samples,
    )


def before(record: RunnerRecord, steps: Sequence[str]) -> str:
    """Return the name of the runner before this one on the way from the original; empty for the original itself.

    `steps` are those before any precision, in their order.
    """
    if record.role == "exported":
        return f"typed {record.precision}"
    if record.name not in steps:
        return steps[-1]
    return ["", *steps][steps.index(record.name)]


def _steps(runners: Sequence[Runner]) -> list[str]:
    return [one.record.name for one in runners if one.record.role == "exact" and not _has_precision(one.record)]


def _has_precision(record: RunnerRecord) -> bool:
    """Tell whether a precision's graph or engine is run, and not the model before any precision."""
    return record.file.startswith("engine/")


def _skipped(record: RunnerRecord, reason: str) -> JudgedRunner:
    return JudgedRunner(runner=record, device=None, verdict="skipped", reason=reason, total=None, batch_invariance=None)


def _skipped_hop(record: RunnerRecord, reference: str, reason: str) -> Hop:
    return Hop(reference=reference, candidate=record.name, verdict="skipped", reason=reason, comparison=None)


def _against(
    original: str,
    record: RunnerRecord,
    device: str,
    outputs: dict[str, Outputs],
    yardsticks: Sequence[Yardstick],
    invariance: BatchInvariance,
) -> JudgedRunner:
    """Return the verdict on a runner: the worse of its comparison with the original model and of its batches."""
    itself = record.name == original
    total = _compared(record, original, outputs, yardsticks) if original in outputs and not itself else None
    if total is None:
        verdict: Verdict = invariance.verdict
        reason = "the original model, with which the others are compared" if itself else f"{original} did not run"
    else:
        verdict, reason = total.verdict, total.reason
    if invariance.verdict == "fail":
        verdict, reason = "fail", f"a sample's result depends on its batch: {invariance.reason}"
    return JudgedRunner(
        runner=record, device=device, verdict=verdict, reason=reason, total=total, batch_invariance=invariance
    )


def _hop(record: RunnerRecord, reference: str, outputs: dict[str, Outputs], yardsticks: Sequence[Yardstick]) -> Hop:
    if reference not in outputs:
        return _skipped_hop(record, reference, f"{reference} did not run")
    found = _compared(record, reference, outputs, yardsticks)
    note = f"; {record.precision} emulated on the CPU by rounding in FP32" if record.emulated else ""
    return Hop(
        reference=reference,
        candidate=record.name,
        verdict=found.verdict,
        reason=f"{found.reason}{note}",
        comparison=found,
    )


def _compared(
    record: RunnerRecord, reference: str, outputs: dict[str, Outputs], yardsticks: Sequence[Yardstick]
) -> Comparison:
    tolerance = precisions.get(record.precision).tolerance
    return compare(yardsticks, outputs[reference], outputs[record.name], tolerance)


def _batch_invariance(session: Session, record: RunnerRecord, criteria: Criteria) -> BatchInvariance:
    """Tell whether a sample's result depends on the size of the batch it came in.

    A GPU has other kernels for other batches, which add in another order: beyond the tolerance it is the answers that
    count. A batch larger than the split is filled with its own samples, over again.
    """
    count = min(BATCH_SAMPLES, len(criteria.samples))
    smallest, largest = inference.limits(record, session)
    wanted = {*criteria.batch_sizes, *(criteria.timed_batch_sizes if record.role == "exported" else ())}
    sizes = [size for size in sorted(wanted) if smallest <= size <= largest] or [smallest]
    results = []
    for size in sizes:
        samples = criteria.samples.take(np.resize(np.arange(count), max(size, count)))
        found = inference.infer(session, samples, size, (smallest, largest))
        results.append({name: rows[:count] for name, rows in found.items()})
    pairs = [(rows, results[0][name]) for result in results for name, rows in result.items()]
    with np.errstate(invalid="ignore", over="ignore"):  # Inf − Inf: no number, and none is recorded
        max_abs = float(np.max([np.abs(rows.astype(np.float64) - first).max() for rows, first in pairs]))
    tolerance = precisions.get(record.precision).tolerance
    verdict: Literal["pass", "fail"] = "pass"
    reason = f"results within {tolerance}"
    if not all(tolerance.holds(rows, first) for rows, first in pairs):
        targets = criteria.samples.take(slice(count)).targets
        few = criteria.choosing.yardsticks(results[0], targets)
        compared = [compare(few, results[0], result, tolerance) for result in results[1:]]
        rows = [row for one in compared for row in one.outputs]
        kept = all(row.agreement in (None, 1.0) and row.loss is not None and row.loss <= row.budget for row in rows)
        answers = "every answer stays" if kept else "answers change"
        reason = f"results differ by more than {tolerance}, and {answers}"
        verdict = "pass" if kept else "fail"
    return BatchInvariance(
        batch_sizes=tuple(sizes),
        samples=count,
        max_abs=max_abs if np.isfinite(max_abs) else None,
        verdict=verdict,
        reason=reason,
    )

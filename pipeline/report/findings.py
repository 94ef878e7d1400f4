"""What a reader needs to know besides the numbers: what failed, what did not run, and why."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.artifacts.parity import ParityReport
from pipeline.report.run import PASS, Run
from pipeline.tables import Column, Table
from pipeline.tables.speed import called

BESIDE_A_GPU = (
    "TensorFlow ran on the CPU, so that a speed-up of what ran on the GPU is of the two devices as well; "
    "`make doctor` says what TensorFlow lacks"
)


class Failing(NamedTuple):
    """Something with the worst verdict: what, why, and at which runner, of which precision."""

    what: str
    reason: str
    runner: str
    precision: str


def failings(run: Run) -> list[Failing]:
    """Return the hops and the runners that have the worst verdict, where that is not a pass."""
    parity = run.parity.plain
    if parity.verdict == PASS:
        return []
    return [*_failing_hops(parity), *_failing_runners(parity)]


def _failing_hops(parity: ParityReport) -> Iterator[Failing]:
    for hop in parity.hops:
        if hop.verdict == parity.verdict:
            known = parity.named(hop.candidate)
            precision = known.runner.precision if known else "fp32"
            yield Failing(f"{hop.reference} → {hop.candidate}", hop.reason, hop.candidate, precision)


def _failing_runners(parity: ParityReport) -> Iterator[Failing]:
    for one in parity.runners:
        name, total, invariance = one.runner.name, one.total, one.batch_invariance
        if total and total.verdict == parity.verdict:
            yield Failing(f"original → {name}", total.reason, name, one.runner.precision)
        if invariance and invariance.verdict == parity.verdict:
            yield Failing(f"{name} in batches of other sizes", invariance.reason, name, one.runner.precision)


class NotRun(NamedTuple):
    """Something that was not done in a stage, and why."""

    stage: str
    what: list[str]
    why: str


def not_run(run: Run) -> list[NotRun]:
    """Return what was not built, compared or timed, by its reason."""
    return list(_grouped(_each_not_run(run)))


def table(run: Run) -> Table:
    """Return what was not built, compared or timed, and why, as a table."""
    rows = [[row.stage, ", ".join(row.what), row.why] for row in not_run(run)]
    return Table("What did not run", [Column("stage"), Column("what"), Column("why")], rows)


def _grouped(found: Iterable[tuple[str, str, str]]) -> Iterator[NotRun]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for stage, what, why in found:
        reasons.setdefault((stage, why), []).append(what)
    for (stage, why), names in reasons.items():
        yield NotRun(stage, list(dict.fromkeys(names)), " ".join(why.split()))


def _each_not_run(run: Run) -> Iterator[tuple[str, str, str]]:
    for engine in run.engines:
        if engine.plain.status != "built":
            yield "engine", engine.plain.precision, engine.plain.reason
    parity = run.parity.plain
    skipped = {hop.candidate: hop.reason for hop in parity.hops if hop.verdict == "skipped"}
    skipped |= {one.runner.name: one.reason for one in parity.runners if one.verdict == "skipped"}
    for name, reason in skipped.items():
        yield "validate", name, reason
    if run.results is None:
        yield "benchmark", "everything", "the model failed validation, so nothing was timed"
        return
    for cell in run.results.plain.cells:
        if cell.status != "ok":
            mode = f" {cell.mode}" if cell.runner.role == "original" else ""
            yield "benchmark", f"{called(cell)}{mode}", cell.reason
    timed = [cell for cell in run.results.plain.cells if cell.status == "ok"]
    originals = {str(cell.device) for cell in timed if cell.runner.role == "original"}
    if originals == {"cpu"} and any(cell.device != "cpu" for cell in timed):
        yield "benchmark", "the original model on the GPU", BESIDE_A_GPU


def untimed_engines(run: Run) -> list[str]:
    """Return the precisions of the engines that were built and not timed."""
    timed = {cell.plain.runner.precision for cell in run.cells() if cell.plain.runner.backend == "tensorrt"}
    built = [engine.plain.precision for engine in run.engines if engine.plain.status == "built"]
    return [precision for precision in built if precision not in timed]

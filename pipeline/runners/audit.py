"""Whether what was timed is what was judged: for every timing, a verdict on the same runner with the same options."""

from collections.abc import Callable, Iterable, Iterator

from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.runner import RunnerRecord
from pipeline.errors import ParityError


def check_passed(parity: ParityReport, allow_failed: bool, warn: Callable[[str], None]) -> None:
    """Raise ParityError where the model failed validation, unless `benchmark.allow_failed` says otherwise."""
    if parity.verdict != "fail":
        return
    if not allow_failed:
        raise ParityError(
            "the model failed validation, so it is not timed",
            "See artifacts/validate/parity.json, or time it anyway with --set benchmark.allow_failed=true.",
        )
    warn("timing a model that FAILED validation, as benchmark.allow_failed says")


def unjudged(runners: Iterable[RunnerRecord], parity: ParityReport) -> Iterator[str]:
    """Yield, for each exported runner without a verdict of its own, what is wrong."""
    for runner in dict.fromkeys(runners):
        if runner.role != "exported":
            continue
        judged = parity.judged(runner)
        if judged is None:
            named = parity.named(runner.name)
            how = (
                f"was judged with other options: {_differences(named.runner, runner)}" if named else "was never judged"
            )
            yield f"{runner.name} was timed, but {how}"
        elif judged.verdict == "skipped":
            yield f"{runner.name} was timed, but validation skipped it: {judged.reason}"


def problems(results: BenchmarkResults, parity: ParityReport, recommendation: Recommendation | None) -> list[str]:
    """Return every timing without a verdict and every recommended runner that did not pass; empty where all is well."""
    found = list(unjudged((cell.runner for cell in results.cells if cell.status == "ok"), parity))
    for choice in recommendation.choices if recommendation else ():
        judged = parity.judged(choice.runner)
        if judged is None or judged.verdict != "pass":
            verdict = f"its verdict is {judged.verdict}" if judged else "it was not judged"
            found.append(f"{choice.runner.name} is recommended at batch {choice.batch}, but {verdict}")
    return found


def _differences(judged: RunnerRecord, timed: RunnerRecord) -> str:
    before, after = judged.model_dump(), timed.model_dump()
    differing = [f"{key} {before[key]} → {after[key]}" for key in after if before[key] != after[key]]
    return "; ".join(differing)

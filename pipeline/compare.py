"""`benchmark --compare OLD.json`: what became faster or slower than in another run, in a table."""

from collections import Counter
from pathlib import Path

from rich.console import Console

from pipeline import tables
from pipeline.artifacts.results import BenchmarkResults
from pipeline.errors import ArtifactError, RegressionError
from pipeline.measuring import comparison
from pipeline.measuring.comparison import Comparison, Row
from pipeline.tables.comparison import compared


def read(path: Path) -> BenchmarkResults:
    """Read the results of a run.

    Raises:
        ArtifactError: see `Artifact.read`; it says to keep copies of runs to compare with.
    """
    try:
        return BenchmarkResults.read(path)
    except ArtifactError as error:
        keep = "Keep a copy of artifacts/benchmark/results.json from each run that you want to compare with later."
        raise ArtifactError(error.message, keep if not path.exists() else error.hint) from error


def show(old: BenchmarkResults, new: BenchmarkResults, console: Console, *, fail: bool = False) -> Comparison:
    """Compare two runs and print the result: medians in µs, their ratio with its 95 % interval, the floor, the verdict.

    Raises:
        RegressionError: `fail` is set, and a cell became slower or is gone.
    """
    found = comparison.compare(old, new)
    console.print(tables.terminal(compared(found.rows)))
    for difference in found.differences:
        console.print(f"differs: {difference}", markup=False)
    if found.incomparable:
        console.print(f"no verdicts, and no regressions: {found.incomparable}", markup=False)
    counts = Counter(row.verdict for row in found.rows)
    console.print(", ".join(f"{verdict}: {count}" for verdict, count in counts.items()) or "no cell in either run")
    if fail and found.regressions:
        lines = "\n".join(f"  {row.key}: {_explained(row)}" for row in found.regressions)
        raise RegressionError(
            f"worse than in the old results, {len(found.regressions)} of {len(found.rows)} cells:\n{lines}",
            "Run the benchmark again: a slowdown caused by other load on the machine will not repeat.",
        )
    return found


def _explained(row: Row) -> str:
    if row.ratio is None or row.floor is None:
        return f"{row.verdict}, {row.reason}"
    ends = row.ratio.ratio_ci95
    interval = f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else ""
    return f"{row.ratio.ratio:.3f}{interval} times as fast, beyond the noise floor of {row.floor:.1%}"

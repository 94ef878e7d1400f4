"""`doctor --artifacts RUN`: whether every timing of a run has a verdict of the same runner with the same options."""

from pathlib import Path

from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.store import Store
from pipeline.errors import ParityError
from pipeline.runners import audit


def check(folder: Path) -> list[str]:
    """Return what was found of a run: a folder that stages published into, or the one above it.

    Raises:
        ArtifactError: it is none, or something in it is missing, stale, changed, or of another version.
        ParityError: something was timed that was not judged, or is recommended and did not pass.
    """
    store = Store.of_run(folder)
    manifests, _ = store.all_verified(("train", "export", "engine", "validate", "benchmark"))
    published = store.published()
    parity, results = published.read(ParityReport), published.read(BenchmarkResults)
    recommendation = published.read(Recommendation)
    if wrong := audit.problems(results, parity, recommendation):
        raise ParityError("\n".join(wrong), "Run `make validate benchmark` with the same options.")
    timed = [cell for cell in results.cells if cell.status == "ok" and cell.runner.role == "exported"]
    files = sum(len(manifest.outputs) for manifest in manifests.values())
    return [
        f"{files} files of {len(manifests)} stages are as they were published",
        f"{len(timed)} timings of {len({cell.runner.name for cell in timed})} exported runners: each has a verdict of "
        "the same runner with the same options",
        f"{len(recommendation.choices)} recommendations: each of a runner that passed",
    ]

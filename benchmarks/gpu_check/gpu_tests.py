"""The step `tests`: every test marked `gpu`, where skipping for want of a GPU is a failure."""

from pathlib import Path

import pytest

from benchmarks.gpu_check import records, running
from benchmarks.gpu_check.records import GpuTests
from pipeline.errors import BackendUnavailable, PipelineError

ROOT = Path(__file__).parents[2]


def main(found: Path, folder: str = str(ROOT / "tests")) -> None:
    """Run them and write `GpuTests`.

    Only files that have such tests are collected; one that needs a library that is not here is named, and does not keep
    the others from running. Warnings are no errors here: another version's would hide what a test says of the GPU.

    Raises:
        BackendUnavailable: none could be run.
        PipelineError: some failed.
    """
    files = [path for path in sorted(Path(folder).rglob("test_*.py")) if "mark.gpu" in path.read_text(encoding="utf-8")]
    import filelock  # noqa: F401  what conftest.py imports: where it is not there, this process says so

    told = _Told(found)
    options = ["-m", "gpu", "-ra", "-W", "default", "-p", "no:cacheprovider", "--continue-on-collection-errors"]
    pytest.main([f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"), *options, *map(str, files)], plugins=[told])
    tests = told.tests()
    records.write(found, tests)
    if tests.failed:
        raise PipelineError(f"{len(tests.failed)} of the tests marked gpu failed: {', '.join(tests.failed)}")
    if not tests.passed:
        reasons = dict.fromkeys([*tests.not_importable.values(), *tests.skipped.values()])
        raise BackendUnavailable("; ".join(reasons) or "there are no tests marked gpu")


class _Told:
    """Keeps what pytest reports, and writes it down after each test."""

    def __init__(self, found: Path) -> None:
        self._found = found
        self._outcome: dict[str, tuple[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        before, _ = self._outcome.get(report.nodeid, ("", ""))
        if before != "failed" and (report.when == "call" or report.outcome != "passed"):
            self._outcome[report.nodeid] = (report.outcome, _words(report))
        records.write(self._found, self.tests())

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome == "passed":
            return
        missing = running.NOT_THERE.search(str(report.longrepr))
        known = report.outcome == "skipped" or missing
        self._outcome[report.nodeid] = ("missing" if known else "failed", missing[0] if missing else _words(report))

    def tests(self) -> GpuTests:
        def of(outcome: str) -> dict[str, str]:
            return {test: words for test, (how, words) in self._outcome.items() if how == outcome}

        return GpuTests(tuple(of("passed")), of("failed"), of("skipped"), of("missing"))


def _words(report: "pytest.TestReport | pytest.CollectReport") -> str:
    """Return a failure's message, or the reason of a skip, in a line."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join(str(crash.message if crash else report.longrepr or "").split())

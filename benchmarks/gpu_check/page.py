"""The page of a check, in Markdown, as those in docs/results/: from its record and from what its steps wrote down.

It is written after every step. What pydantic describes is read only where a step that needs it has left it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.gpu_check.records import Check, DeviceRun, GpuTests, PrecisionRun, Result, TimedRun


def summary(check: Check) -> str:
    """Return how many steps became what, and which failed, in a line."""
    counts = Counter(one.status for one in check.results)
    told = ", ".join(f"{count} {status}" for status, count in counts.items()) or "no step ran"
    ended = "interrupted: " if check.interrupted else ""
    failed = f" ({', '.join(check.failed)})" if check.failed else ""
    return f"{ended}{told}{failed}"


def render(check: Check, output: Path) -> str:
    """Return the page of a check whose folder is `output`."""
    results = {one.step: one for one in check.results}
    gpus = ", ".join(gpu.name for gpu in check.machine.gpus)
    parts = [
        f"# GPU check: {gpus or 'no GPU'}",
        _head(check),
        "## What ran and what did not",
        f"{summary(check)}.",
        *_steps(check.results),
        *_libraries(check),
        *_device(results.get("device")),
        *_tests(results.get("tests")),
        *_precisions(check.results),
        *_timings(results.get("timings")),
        *_limits(results.get("limits")),
        *_training(check, results.get("limits")),
        *_report(output / "run/report/report.md"),
    ]
    return "\n\n".join(parts) + "\n"


def _head(check: Check) -> str:
    described = [
        f"{gpu.name} (compute capability {gpu.compute_capability}, {gpu.memory_mib:,} MiB, driver {gpu.driver})"
        for gpu in check.machine.gpus
    ]
    machine = "; ".join([*described, f"{check.machine.cores} cores of {check.machine.cpu}", check.machine.system])
    versions = ", ".join(f"{name} {version}" for name, version in check.versions.items())
    rehearsal = (
        "**A rehearsal on a CPU: no number here is one of a GPU, or of anything else.** " if check.rehearsal else ""
    )
    took = f"{check.seconds / 60:.1f} of at most {check.budget_s / 60:g} minutes"
    return f"{rehearsal}{check.begun}, in {took}. {machine}. {versions}. By `python -m benchmarks.gpu_check`."


def _steps(results: Sequence[Result]) -> Iterator[str]:
    """What was begun, in a table; what was not, by its reason."""
    begun = [one for one in results if one.seconds]
    if begun:
        rows = [(one.step, one.what, one.status, f"{one.seconds:.0f}", one.reason) for one in begun]
        yield _table(("step", "what", "result", "seconds", "why"), rows)
    others: dict[str, list[str]] = {}
    for one in results:
        if not one.seconds:
            others.setdefault(f"{one.status}: {_line(one.reason)}", []).append(one.step)
    if others:
        yield "\n".join(f"- {reason}: {', '.join(steps)}" for reason, steps in others.items())


def _libraries(check: Check) -> Iterator[str]:
    if missing := [one for one in check.libraries if one.error]:
        yield "## What cannot be imported"
        yield "\n".join(f"- {one.name}: {_line(one.error)}" for one in missing)
    if seen := [one for one in check.libraries if not one.error and (one.gpus or one.name in ("tensorflow", "jax"))]:
        yield "\n".join(f"- {one.name} {one.version} sees {one.gpus or 'no GPU'}" for one in seen)


def _device(result: Result | None) -> Iterator[str]:
    if result and result.found:
        found = DeviceRun(**result.found)
        yield "## The CUDA runtime, through pipeline/cuda.py"
        yield (
            f"{found.name}: {found.nbytes:,} bytes copied there and back, by themselves and by captured graphs, came "
            f"back unchanged; {found.nbytes / found.to_ns:.1f} GB/s to the GPU and "
            f"{found.nbytes / found.back_ns:.1f} back."
        )


def _tests(result: Result | None) -> Iterator[str]:
    if result and result.found:
        found = GpuTests(**result.found)
        yield "## The tests marked gpu"
        yield f"{len(found.passed)} passed, {len(found.failed)} failed, {len(found.skipped)} skipped."
        told = [f"- failed: {test}: {_line(words)}" for test, words in found.failed.items()]
        told += [f"- skipped: {test}: {_line(words)}" for test, words in found.skipped.items()]
        told += [f"- not to be imported: {test}: {_line(words)}" for test, words in found.not_importable.items()]
        if told:
            yield "\n".join(told)


def _precisions(results: Sequence[Result]) -> Iterator[str]:
    """Each precision by each runner; what a library said once for several stands once, word by word."""
    rows: list[tuple[str, ...]] = []
    said: dict[str, int] = {}
    for result in results:
        if not (isinstance(result.found, list) and "precision" in str(result.found[:1])):
            continue
        for run in (PrecisionRun(**one) for one in result.found):
            number = said.setdefault(run.why, len(said) + 1) if run.why else 0
            rows.append(
                (
                    result.step,
                    run.name,
                    f"{run.engine_bytes:,}" if run.engine_bytes else "",
                    f"{run.build_s:.1f}" if run.build_s is not None else "",
                    ("wrong" if run.wrong else "no" if run.refused else "yes") + (f" [{number}]" if number else ""),
                    ", ".join(map(str, run.batches)),
                    "" if run.difference is None else f"{run.difference:.1e}",
                )
            )
    if rows:
        yield "## Every precision by every runner"
        yield (
            "A small network with random weights; the largest difference of a score from the same graph on the CPU, "
            "over all batches. An engine's profiles are 1 and 2 to 64; a larger batch goes in chunks."
        )
        yield _table(("runner", "precision", "engine, bytes", "build, s", "runs", "batches", "difference"), rows)
        yield from (f"[{number}]\n\n{_quoted(words)}" for words, number in said.items())


def _timings(result: Result | None) -> Iterator[str]:
    if result and result.found:
        runs = [TimedRun(**one) for one in result.found]
        yield "## The small network, timed"
        yield (
            "By the benchmark's harness, each runner in a process of its own, in turn; end_to_end is host array to "
            "host array, compute with inputs resident on the GPU. An A/A repeat is a runner once more: noise."
        )
        rows = [
            (
                *(str(one.batch), one.mode, one.runner),
                f"{one.p50_us:,.1f}" if one.p50_us else "n/a",
                " – ".join(f"{end:,.1f}" for end in one.p50_ci95_us or ()),
                f"{one.items_per_s:,.0f}" if one.items_per_s else "",
                one.reason,
            )
            for one in sorted(runs, key=lambda one: (one.batch, one.mode))
        ]
        yield _table(("batch", "mode", "runner", "p50, µs", "95 %", "images/s", "why not"), rows)


def _limits(result: Result | None) -> Iterator[str]:
    if result and result.found:
        from pipeline.artifacts.results import Peaks

        peaks = Peaks.model_validate(result.found)
        yield f"## The most that {peaks.device} did"
        rows = [(name, f"{2 * rate / 1e12:.1f} · 10¹² operations/s") for name, rate in peaks.macs_per_s.items()]
        rows += [("memory", f"{peaks.bytes_per_s / 1e9:,.0f} GB/s")] if peaks.bytes_per_s else []
        rows += [("PCIe", f"{peaks.pcie_bytes_per_s / 1e9:,.1f} GB/s")] if peaks.pcie_bytes_per_s else []
        rows += [("launch of a CUDA graph", f"{peaks.launch_us:.1f} µs")] if peaks.launch_us else []
        rows += [(name, f"not measured: {reason}") for name, reason in peaks.reasons.items()]
        yield _table(("of", "measured"), rows)


def _training(check: Check, limits: Result | None) -> Iterator[str]:
    if any(one.status == "passed" and one.step == "data" for one in check.results):
        from benchmarks.gpu_check import training_table  # it needs numpy

        yield from training_table.section(check, limits)


def _report(path: Path) -> Iterator[str]:
    """The pipeline's own report of all precisions and runners, as chapters of this page."""
    if path.is_file():
        text = re.sub(r"^#", "##", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        yield f"{text.strip()}\n\nThe same as a page with charts: `run/report/index.html`."


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *[[_line(cell) for cell in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _quoted(words: str) -> str:
    return "\n".join(f"> {line}" for line in words.splitlines())

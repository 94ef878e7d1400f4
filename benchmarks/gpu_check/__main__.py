"""`python -m benchmarks.gpu_check`: takes this machine through every step, and leaves results and a page."""

import argparse
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.gpu_check import libraries, page, records, running, steps
from benchmarks.gpu_check.records import Check, Result
from pipeline import environment
from pipeline.errors import ConfigError, Interrupted

MINUTES = 20.0


def main() -> int:
    """Run the check; return 0, 1 where a step that could run here failed, 130 after Ctrl-C."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ended as by Ctrl-C, with nothing left running
    begun, started = datetime.now(UTC), time.monotonic()
    output = (options.output or Path("artifacts/gpu-check") / f"{begun:%Y-%m-%d-%H%M%S}").resolve()
    if output.is_dir() and any(output.iterdir()):
        return _refused(f"{output} is not empty; nothing in it was changed. Name another with --output.")
    rehearsal = options.rehearse and not environment.gpus()
    listed = list(steps.steps(output, environment.gpus(), rehearsal=rehearsal))
    if unknown := set(options.only or ()) - {step.name for step in listed}:
        return _refused(f"no step {', '.join(unknown)}; choose from {', '.join(step.name for step in listed)}")
    listed = [step for step in listed if not options.only or step.name in options.only]
    (output / "found").mkdir(parents=True, exist_ok=True)
    environment.prepare_tensorflow()
    machine = environment.machine()
    print(f"{machine}\nresults: {output}", flush=True)
    check = Check(
        begun=f"{begun:%Y-%m-%d %H:%M} UTC",
        budget_s=60 * options.minutes,
        rehearsal=rehearsal,
        machine=machine,
        versions=environment.versions(),
        libraries=libraries.look(),
    )
    for step in listed:
        try:
            result = _one(step, check, output, check.budget_s - (time.monotonic() - started))
        except KeyboardInterrupt:
            check = replace(check, interrupted=True)
            break
        check = replace(check, results=(*check.results, result), seconds=round(time.monotonic() - started, 1))
        _write(output, check)
        print(
            f"{result.step}: {result.status}, {result.seconds:.0f} s{result.reason and f': {result.reason}'}",
            flush=True,
        )
    _write(output, check)
    print(f"{page.summary(check)}\nresults: {output}/page.md, results.json, logs/")
    return Interrupted.exit_code if check.interrupted else 1 if check.failed else 0


def _refused(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return ConfigError.exit_code


def _one(step: steps.Step, check: Check, output: Path, left_s: float) -> Result:
    gpu = bool(check.machine.gpus)
    reason = running.why_not(step, output, check.libraries, gpu=gpu, rehearsal=check.rehearsal)
    if reason:
        return Result(step.name, step.what, "skipped", reason, (sys.executable, *step.command))
    print(f"{step.name}: {step.what} …", flush=True)
    return running.run(step, output, left_s)


def _write(output: Path, check: Check) -> None:
    records.write(output / "results.json", check)
    (output / "page.md").write_text(page.render(check, output), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_check", description=__doc__.partition(": ")[2])
    parser.add_argument("--output", type=Path, help="a new folder; default: artifacts/gpu-check/<date and time>")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="what all steps together may take (%(default)g)")
    parser.add_argument("--only", action="append", metavar="STEP", help="only this step; may be repeated")
    parser.add_argument(
        "--rehearse",
        action="store_true",
        help="without a GPU: run on the CPU, too briefly for meaningful numbers, what could run there as well",
    )
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted before the first step", file=sys.stderr)
        sys.exit(Interrupted.exit_code)

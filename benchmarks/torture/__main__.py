"""`make torture`: thousands of ways to lose something or to let somebody in (docs/reliability.md)."""

import random
import signal
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.torture import base, damage, disks, fuzzing, publishing, shapes, signals, surroundings, together
from benchmarks.torture.cases import Broken, Case, Place
from benchmarks.torture.journal import Journal, Outcome
from benchmarks.torture.table import table
from pipeline import environment, interruption

PARTS = {
    "signals": signals,
    "surroundings": surroundings,
    "disks": disks,
    "together": together,
    "publishing": publishing,
    "fuzzing": fuzzing,
    "shapes": shapes,
    "damage": damage,
}
"""In the order in which they are tried: those that take longest first."""


def main(
    seed: Annotated[int, typer.Option(help="Another one tries other moments, bits and inputs.")] = 15,
    only: Annotated[list[str] | None, typer.Option(help=f"Of {', '.join(PARTS)}; unset: all.")] = None,
    share: Annotated[float, typer.Option(min=0, max=1, help="Of each part's cases.")] = 1.0,
    workers: Annotated[int, typer.Option(min=1, help="Cases at once.")] = 2,
    folder: Annotated[Path, typer.Option(help="What is done is kept here; delete it to begin anew.")] = Path(
        "build/torture"
    ),
) -> None:
    """Try all cases that were not tried yet; print what was tried and what broke. Exit code 1 where something did."""
    _obey()
    folder = folder.resolve()
    run = base.made(folder)
    journal = Journal(folder / f"seed-{seed}.jsonl")
    chosen, skipped = _chosen(run, seed, only or list(PARTS), share)
    left = [case for case in chosen if (case.part, case.name) not in journal.outcomes]
    print(f"{len(chosen):,} cases, {len(chosen) - len(left):,} of them done before", flush=True)
    began = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        for number, outcome in enumerate(pool.map(lambda case: tried(case, run, folder), left), 1):
            journal.add(outcome)
            if outcome.broke:
                print(f"BROKE {outcome.part}: {outcome.name}\n  {outcome.broke}", flush=True)
            if number % 100 == 0:
                print(f"  {number:,} of {len(left):,} after {time.monotonic() - began:.0f} s", flush=True)
    found = [journal.outcomes[case.part, case.name] for case in chosen]
    print(table(found, skipped, seed, environment.machine()))
    sys.exit(any(one.broke for one in found))


def _obey() -> None:
    """Have commands obey the signals that this process may have been started to ignore, as behind `nohup` or `&`."""
    for number in interruption.SIGNALS:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _chosen(run: Path, seed: int, parts: list[str], share: float) -> tuple[list[Case], dict[str, str]]:
    """Return the cases of parts, and why parts cannot be tried here."""
    chosen: list[Case] = []
    skipped: dict[str, str] = {}
    for name in parts:
        part = PARTS[name]
        if hasattr(part, "unavailable") and (why := part.unavailable()):
            skipped[name] = why
            continue
        cases = list(part.cases(run, random.Random(f"{seed} {name}")))
        random.Random(seed).shuffle(cases)
        chosen += cases[: round(len(cases) * share) or 1]
    return chosen, skipped


def tried(case: Case, run: Path, folder: Path) -> Outcome:
    """Try a case in a folder of its own below `folder`."""
    began, broke = time.monotonic(), ""
    with TemporaryDirectory(dir=folder, prefix="case-", ignore_cleanup_errors=True) as own:
        try:
            case.run(Place(run, Path(own)))
        except Broken as found:
            broke = str(found)
        except Exception:  # out of the code under test
            broke = traceback.format_exc()
    return Outcome(case.part, case.name, time.monotonic() - began, broke)


if __name__ == "__main__":
    typer.run(main)

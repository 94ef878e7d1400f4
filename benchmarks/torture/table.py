"""What was tried and what broke, as a page."""

from collections.abc import Mapping, Sequence

from benchmarks.torture.journal import Outcome
from pipeline.environment import Machine


def table(found: Sequence[Outcome], skipped: Mapping[str, str], seed: int, machine: Machine) -> str:
    """Return a Markdown table with a row for each part, and what broke below it."""
    lines = [
        f"Seed {seed}; {machine.cores} cores of {machine.cpu}.",
        "",
        "| part | cases | broke | seconds, one after the other |",
        "|---|---|---|---|",
    ]
    parts = dict.fromkeys(one.part for one in found)
    for name in parts:
        of_part = [one for one in found if one.part == name]
        lines.append(_row(name, of_part))
    lines.append(_row("**all**", found))
    lines += [f"\nNot tried: {name}: {why}" for name, why in skipped.items()]
    lines += [f"\n- {one.part}: {one.name}: {one.broke.splitlines()[-1]}" for one in found if one.broke]
    return "\n".join(lines)


def _row(name: str, found: Sequence[Outcome]) -> str:
    broke, seconds = sum(bool(one.broke) for one in found), sum(one.seconds for one in found)
    return f"| {name} | {len(found):,} | {broke:,} | {seconds:,.0f} |"

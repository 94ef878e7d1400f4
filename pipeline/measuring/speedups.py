"""What timed cells say of each other: the noise between equals, and speed-ups beyond it."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from pipeline.measuring import statistics
from pipeline.measuring.harness import NULL, Cell, Contender


def samples(cells: Sequence[Cell]) -> dict[str, statistics.Samples]:
    """Return every sample in ns, an array for each round of each cell, under the names of `samples.npz`."""
    return {
        f"{cell.key}/round{index}": round_ns
        for cell in cells
        if cell.status == "ok"
        for index, round_ns in enumerate(cell.rounds)
    }


def with_twins(contenders: Sequence[Contender], may: Callable[[Contender], bool]) -> list[Contender]:
    """Repeat the first contender on a CPU, and the first on a GPU, that `may` be, under a second name.

    The ratio of the two is 1 but for the noise: of the machine, and of what differs between two processes.
    """
    found: list[Contender] = []
    seen: set[bool] = set()
    for one in contenders:
        found.append(one)
        on_cpu = one.variant == "cpu"
        if not one.skip and on_cpu not in seen and may(one):
            seen.add(on_cpu)
            found.append(replace(one, twin=True))
    return found


def noise_floors(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the ratio of each twin to the cell it repeats, and the smallest difference that may be called one."""
    found = []
    for twin in cells:
        if twin.status != "ok" or not twin.contender.twin:
            continue
        first = next(
            cell
            for cell in cells
            if not cell.contender.twin
            and replace(cell.contender, twin=True) == twin.contender
            and (cell.batch, cell.mode) == (twin.batch, twin.mode)
        )
        if first.status != "ok":
            continue
        ratio = statistics.speedup(first.summary.round_p50_us, twin.summary.round_p50_us)
        found.append(
            {"batch": twin.batch, "mode": twin.mode, "device": twin.device, "cell": str(first.contender)}
            | asdict(ratio)
            | {"floor": statistics.noise_floor(ratio)}
        )
    return found


def floor_of(batch: int, mode: str, floors: Sequence[dict[str, Any]]) -> float:
    """Return the noise floor of a batch size and mode; the greatest, where devices differ."""
    return max((row["floor"] for row in floors if (row["batch"], row["mode"]) == (batch, mode)), default=0.0)


def speedups(
    cells: Sequence[Cell], floors: Sequence[dict[str, Any]], baseline: Callable[[Contender], bool]
) -> list[dict[str, Any]]:
    """Return how much faster each cell is than each baseline at its batch size and mode, the strongest one first."""
    ok = [cell for cell in cells if cell.status == "ok" and not cell.contender.twin and cell.contender.backend != NULL]
    found = []
    for cell in ok:
        if baseline(cell.contender):
            continue
        rows = []
        for base in ok:
            if not baseline(base.contender) or (base.batch, base.mode) != (cell.batch, cell.mode):
                continue
            ratio = statistics.speedup(base.summary.round_p50_us, cell.summary.round_p50_us)
            rows.append(
                {
                    "backend": cell.contender.backend,
                    "variant": cell.contender.variant,
                    "precision": cell.contender.precision,
                    "batch": cell.batch,
                    "mode": cell.mode,
                    "device": cell.device,
                    "over": f"{base.contender.backend} {base.contender.variant}",
                    "over_device": base.device,
                }
                | asdict(ratio)
                | {"verdict": statistics.verdict(ratio, floor_of(cell.batch, cell.mode, floors))}
            )
        found += sorted(rows, key=lambda row: float(str(row["ratio"])))
    return found

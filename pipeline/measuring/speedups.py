"""What timed cells say of each other: the noise between equals, and speed-ups beyond it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipeline.artifacts.results import NoiseFloor, Speedup
from pipeline.measuring import statistics
from pipeline.measuring.cells import Measurement, Timed
from pipeline.runners import Runner


def samples(cells: Sequence[Measurement]) -> dict[str, statistics.Samples]:
    """Return every sample in ns, an array for each round of each cell, under the names of `samples.npz`."""
    return {
        f"{cell.cell(None).key}/round{index}": round_ns
        for cell in cells
        if cell.status == "ok"
        for index, round_ns in enumerate(cell.rounds)
    }


def with_repeats(runners: Sequence[Runner], may: Callable[[Runner], bool]) -> list[Timed]:
    """Return all runners to be timed; the first on a CPU, and the first on a GPU, that `may` be, a second time.

    The ratio of the two is 1 but for the noise: of the machine, and of what differs between two processes.
    """
    found: list[Timed] = []
    seen: set[str] = set()
    for runner in runners:
        found.append(Timed(runner))
        if not runner.unavailable and runner.device not in seen and may(runner):
            seen.add(runner.device)
            found.append(Timed(runner, repeat=True))
    return found


def noise_floors(cells: Sequence[Measurement]) -> list[NoiseFloor]:
    """Return the ratio of each A/A repeat to what it repeats, and the smallest difference that may be called one."""
    found = []
    for repeat in cells:
        if repeat.status != "ok" or not repeat.timed.repeat:
            continue
        first = next(
            cell
            for cell in cells
            if cell.timed == replace(repeat.timed, repeat=False)
            and (cell.batch, cell.mode) == (repeat.batch, repeat.mode)
        )
        if first.status != "ok":
            continue
        ratio = statistics.speedup(first.timing.round_p50_us, repeat.timing.round_p50_us)
        found.append(
            NoiseFloor(
                batch=repeat.batch,
                mode=repeat.mode,
                device=str(repeat.device),
                runner=repeat.name,
                ratio=ratio.ratio,
                ratio_ci95=ratio.ratio_ci95,
                floor=statistics.noise_floor(ratio),
            )
        )
    return found


def floor_between(one: Measurement, other: Measurement, floors: Sequence[NoiseFloor]) -> float:
    """Return the noise floor for two cells of one batch size and mode: that of their device, the greater of two.

    The noise of a device that neither ran on says nothing of them. One that has no A/A repeat is taken to be as noisy
    as the noisiest.
    """
    measured = {row.device: row.floor for row in floors if (row.batch, row.mode) == (one.batch, one.mode)}
    noisiest = max(measured.values(), default=0.0)
    return max(measured.get(str(cell.device), noisiest) for cell in (one, other))


def speedups(
    cells: Sequence[Measurement], floors: Sequence[NoiseFloor], baseline: Callable[[Runner], bool]
) -> list[Speedup]:
    """Return how much faster each cell is than each baseline at its batch size and mode, the strongest one first."""
    ok = [cell for cell in cells if cell.status == "ok" and not cell.timed.repeat and not is_harness(cell.runner)]
    found = []
    for cell in ok:
        if baseline(cell.runner):
            continue
        rows = [
            _speedup(cell, base, floors)
            for base in ok
            if baseline(base.runner) and (base.batch, base.mode) == (cell.batch, cell.mode)
        ]
        found += sorted(rows, key=lambda row: row.ratio)
    return found


def _speedup(cell: Measurement, base: Measurement, floors: Sequence[NoiseFloor]) -> Speedup:
    ratio = statistics.speedup(base.timing.round_p50_us, cell.timing.round_p50_us)
    return Speedup(
        runner=cell.name,
        device=str(cell.device),
        over=base.name,
        over_device=str(base.device),
        batch=cell.batch,
        mode=cell.mode,
        ratio=ratio.ratio,
        ratio_ci95=ratio.ratio_ci95,
        verdict=statistics.verdict(ratio, floor_between(cell, base, floors)),
    )


def is_original(runner: Runner) -> bool:
    """Tell whether it runs the original model."""
    return runner.record.role == "original"


def is_harness(runner: Runner) -> bool:
    """Tell whether it does nothing, to time the harness itself."""
    return runner.record.role == "harness"

"""Which limit of the machine each timed cell is under, and how near it comes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pipeline import graphs
from pipeline.measuring.harness import NULL, ORIGINAL, Cell, Contender
from pipeline.measuring.limits.peaks import Peaks, Work, best, measure, share, work

Device = Literal["cpu", "cuda"]


class Roofline:
    """The limits of this machine: measured before and after the cells, in the same run, the better of both counts."""

    def __init__(self, exported: Path, contenders: Sequence[Contender], threads: int) -> None:
        """Count the contenders' work, and measure for the first time. `exported` is the graph of the original model."""
        self._exported, self._threads = exported, threads
        self._works: dict[tuple[Path, bool], Work] = {}
        self._wanted: dict[Device, set[str]] = {"cpu": set()}
        for one in contenders:
            if one.skip or one.backend == NULL:
                continue
            device = self._device(one.variant != "cpu" and one.backend != ORIGINAL)
            self._wanted.setdefault(device, set()).update(self._work(one).macs or ())
        self.peaks = self._measure()

    def finish(self, launch_us: float | None, *, again: bool) -> None:
        """Measure after the cells, too; starting anything on a CPU costs what the null backend's cell does."""
        if again:
            found = self._measure()
            self.peaks = {device: best(peaks, found[device]) for device, peaks in self.peaks.items()}
        self.peaks["cpu"] = replace(self.peaks["cpu"], launch_us=launch_us)

    def share(self, cell: Cell) -> dict[str, Any] | None:
        """Return which limit a timed cell is under and how near, None where that cannot be told."""
        p50_us = cell.summary.p50_us if cell.status == "ok" and cell.contender.backend != NULL else None
        peaks = self.peaks.get(self._device(cell.device != "cpu"))
        if p50_us is None or peaks is None:
            return None
        found = share(self._work(cell.contender), cell.batch, p50_us, peaks, cell.mode)
        return found if found["limit"] else None

    def _measure(self) -> dict[Device, Peaks]:
        return {device: measure(device, sorted(types), self._threads) for device, types in self._wanted.items()}

    def _device(self, on_gpu: bool) -> Device:
        return "cuda" if on_gpu else "cpu"

    def _work(self, contender: Contender) -> Work:
        """Count the work of the graph that the contender runs: its typed one, or the exported one for the original."""
        graph = self._exported if contender.backend == ORIGINAL else contender.path.parent / "model.onnx"
        key = graph, contender.precision == "tf32"
        if key not in self._works:
            self._works[key] = work(graphs.load(graph), allow_tf32=key[1])
        return self._works[key]

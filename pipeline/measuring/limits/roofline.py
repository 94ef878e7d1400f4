"""Which limit of the machine each timed cell is under, and how near it comes."""

from collections.abc import Sequence
from pathlib import Path

from pipeline import graphs
from pipeline.artifacts.results import Limit, Peaks
from pipeline.measuring.cells import Measurement
from pipeline.measuring.limits.peaks import Work, best, measure, share, work
from pipeline.measuring.speedups import is_harness, is_original
from pipeline.runners import Runner
from pipeline.tensors import Device


class Roofline:
    """The limits of this machine: measured before and after the cells, in the same run, the better of both counts."""

    def __init__(self, exported: Path, runners: Sequence[Runner], threads: int) -> None:
        """Count the runners' work, and measure for the first time. `exported` is the graph of the original model."""
        self._exported, self._threads = exported, threads
        self._works: dict[tuple[Path, bool], Work] = {}
        self._wanted: dict[str, set[str]] = {"cpu": set()}
        for one in runners:
            if not one.unavailable and not is_harness(one):
                device = str(Device(one.device))
                self._wanted.setdefault(device, set()).update(self._work(one).macs or ())
        self.peaks = self._measure()

    def finish(self, launch_us: float | None, *, again: bool) -> None:
        """Measure after the cells, too; starting anything on a CPU costs what the harness itself does."""
        if again:
            found = self._measure()
            self.peaks = {device: best(peaks, found[device]) for device, peaks in self.peaks.items()}
        self.peaks["cpu"] = self.peaks["cpu"].model_copy(update={"launch_us": launch_us})

    def share(self, cell: Measurement) -> Limit | None:
        """Return which limit a timed cell is under and how near, None where that is unknown."""
        if cell.status != "ok" or is_harness(cell.runner):
            return None
        p50_us, peaks = cell.timing.p50_us, self.peaks.get(str(cell.device))
        if p50_us is None or peaks is None:
            return None
        # On a GPU TensorFlow computes in TF32 by itself, whatever the model's type: its session says so.
        tf32 = cell.settings.get("arithmetic") == "tf32"
        return share(self._work(cell.runner, tf32), cell.batch, p50_us, peaks, cell.mode)

    def _measure(self) -> dict[str, Peaks]:
        return {device: measure(device, sorted(types), self._threads) for device, types in self._wanted.items()}

    def _work(self, runner: Runner, tf32: bool = False) -> Work:
        """Count the work of the graph that is run: a precision's typed one, or the exported one for the original."""
        graph = self._exported if is_original(runner) else runner.path.parent / "model.onnx"
        key = graph, tf32 or runner.record.precision == "tf32"
        if key not in self._works:
            self._works[key] = work(graphs.load(graph, weights=False), allow_tf32=key[1])
        return self._works[key]

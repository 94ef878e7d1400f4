"""The step `limits`: the most that this machine does, in each precision, by the functions of the benchmark stage."""

from pathlib import Path

from pipeline import environment, precisions
from pipeline.artifacts.record import dump_json
from pipeline.errors import BackendUnavailable
from pipeline.measuring.limits import peaks


def main(found: Path, seconds: str) -> None:
    """Measure the GPU's peaks, or the CPU's where there is none, and write them as `Peaks`.

    Raises:
        BackendUnavailable: nothing could be measured, with the reasons.
    """
    device = "cuda:0" if environment.gpus() else "cpu"
    measured = peaks.measure(device, precisions.NAMES, seconds=float(seconds))
    if not measured.tries:
        names: dict[str, list[str]] = {}
        for name, reason in measured.reasons.items():
            names.setdefault(reason, []).append(name)
        raise BackendUnavailable("; ".join(f"{', '.join(of)}: {reason}" for reason, of in names.items()))
    found.write_text(dump_json(measured.model_dump(mode="json")), encoding="utf-8")

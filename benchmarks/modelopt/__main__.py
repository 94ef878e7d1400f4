"""`python -m benchmarks.modelopt`: our graphs beside Model Optimizer's, in a table and as raw data."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.modelopt import cases, peer, table
from benchmarks.modelopt.measure import Comparison, Row
from pipeline import backends, environment, precisions, tables
from pipeline.artifacts.record import dump_json
from pipeline.errors import PipelineError

RESULTS, SCHEMA = "results.json", 1


def main(
    output: Annotated[Path, typer.Option(help="Folder for the table and the raw data.")] = Path("artifacts/modelopt"),
    work: Annotated[Path, typer.Option(help="Folder for the models and the graphs.")] = Path("build/modelopt"),
    only: Annotated[list[str] | None, typer.Option(help="Name of a network to compare; may be repeated.")] = None,
    times: Annotated[
        bool, typer.Option(help="Say how long rewriting and building took; not beside other work.")
    ] = True,
) -> None:
    """Hold our FP16, INT8 and FP8 graphs against Model Optimizer's."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200, highlight=False)
    names = [case.name for case in cases.CASES]
    if unknown := sorted(set(only or ()) - set(names)):
        raise typer.BadParameter(f"unknown network {', '.join(unknown)}; choose from {', '.join(names)}")
    peer.python()
    output.mkdir(parents=True, exist_ok=True)
    chosen = [case for case in cases.CASES if not only or case.name in only]
    kept, commit = _read(output / RESULTS), _commit()
    failed: dict[str, str] = {}
    for case in chosen:
        folder = (work / case.name).absolute()
        console.print(f"{case.name}: model and export", markup=False)
        rows: list[Row] = []
        try:
            config = cases.exported(case, folder)
            comparison = Comparison(case.name, config, folder, lambda text: console.print(text, markup=False))
            for name in peer.METHODS:
                for row in comparison.rows(precisions.get(name)):
                    timed = row if times else row._replace(rewrite_s=None, build_s=None)
                    rows.append(timed._replace(commit=commit))
        except PipelineError as error:
            failed[case.name] = str(error)
        kept = sorted(
            [*(row for row in kept if row.network != case.name), *rows], key=lambda row: names.index(row.network)
        )
        # After each network: a run that is killed in the next one loses no more than that one.
        _write(output, kept, failed, times=times)
        console.print(tables.terminal(table.table(case.name, kept, times=times)))
    for line in _lines(kept, failed):
        console.print(line, markup=False)
    console.print(f"table and raw data: {output}/table.md, {RESULTS}", markup=False)
    if failed:
        raise typer.Exit(1)


def _read(results: Path) -> list[Row]:
    """Return what an earlier run found: what is not compared anew stays.

    Raises:
        typer.BadParameter: the file is of another version of this program.
    """
    if not results.is_file():
        return []
    found = json.loads(results.read_text(encoding="utf-8"))
    if found["schema"] != SCHEMA:
        raise typer.BadParameter(f"{results} has schema {found['schema']}, not {SCHEMA}: name another --output")
    return [Row(**row) for row in found["rows"]]


def _lines(rows: Sequence[Row], failed: dict[str, str]) -> list[str]:
    apart = [f"{name}: {reason}" for name, reason in failed.items()]
    return [*table.differences(rows), *table.failures(rows), *apart]


def _write(output: Path, rows: Sequence[Row], failed: dict[str, str], *, times: bool) -> None:
    versions = environment.versions(backends.distributions())
    theirs = next((row.versions for row in rows if row.versions), {})
    names = ", ".join(f"{name} {version}" for name, version in theirs.items())
    commits = ", ".join(dict.fromkeys(row.commit for row in rows))
    text = [
        "# Our graphs beside Model Optimizer's\n",
        f"By `python -m benchmarks.modelopt` on {environment.machine()}; commit {commits}; ours with ONNX "
        f"{versions['onnx']}, ONNX Runtime {versions['onnxruntime']}; {names}.\n",
    ]
    for network in dict.fromkeys(row.network for row in rows):
        found = table.table(network, rows, times=times)
        text.append(f"## {network}\n\n{tables.markdown(found)}\n")
    text.append("\n".join(f"- {line}" for line in _lines(rows, failed)) + "\n")
    (output / "table.md").write_text("\n".join(text), encoding="utf-8")
    results = {
        "schema": SCHEMA,
        "machine": asdict(environment.machine()),
        "versions": versions,
        "model_optimizer": theirs,
        "rows": [row._asdict() for row in rows],
        "failed": failed,
    }
    (output / RESULTS).write_text(dump_json(results), encoding="utf-8")


def _commit() -> str:
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)  # noqa: S607
    return git.stdout.strip() or "unknown"


if __name__ == "__main__":
    typer.run(main)

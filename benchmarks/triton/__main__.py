"""`python -m benchmarks.triton`: a bundle's repositories in a real tritonserver, and broken ones in our check."""

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from benchmarks.triton import asking, broken
from benchmarks.triton.asking import Answer
from benchmarks.triton.server import BACKENDS, running
from pipeline import digests, environment
from pipeline.deployment import bundle, triton
from pipeline.deployment.bundle import Bundle
from pipeline.deployment.triton import check, schema
from pipeline.errors import BuildError, PipelineError
from pipeline.tensors import fixed_batch

SAMPLES = 64


@dataclass(frozen=True)
class Loaded:
    """What came of a repository that a real server was started on."""

    backend: str
    answers: tuple[Answer, ...]
    batches: dict[int, int]
    """How many of which size ran when single requests were sent at once, behind one of the largest batch."""
    label: str


@dataclass(frozen=True)
class Refused:
    """A broken repository: our check's reason, and what Triton makes of it (empty: not asked)."""

    name: str
    reason: str
    triton: str


def main(
    folder: Annotated[Path, typer.Argument(help="The bundle, or what holds it.")] = Path("artifacts"),
    output: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("artifacts/triton/results.md"),
    provoke: Annotated[
        bool, typer.Option(help="Start the server on each broken repository, too, and say what it makes of it.")
    ] = False,
) -> None:
    """Hold a bundle's Triton repositories to a real tritonserver."""
    console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200, highlight=False)
    try:
        found = bundle.opened(folder)
        loaded = []
        for backend in BACKENDS:
            loaded.append(load(found, backend))
            console.print(_line(loaded[-1]), markup=False)
        refused = refusals(found, provoke=provoke)
    except PipelineError as error:
        console.print(str(error), markup=False)
        raise typer.Exit(error.exit_code) from error
    for one in refused:
        console.print(f"refused: {one.name}: {one.reason}", markup=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(_page(found, loaded, refused), encoding="utf-8")
    console.print(f"table: {output}", markup=False)


def load(found: Bundle, backend: str) -> Loaded:
    """Start a real server on a repository as it is, ask it in every way, and return what it answered.

    Raises:
        BuildError: our check finds something, the server does not load it, or it was changed meanwhile.
    """
    repository = found.folder / triton.FOLDER / backend
    check.check(repository)
    record = found.record
    before = _digests(repository)
    config = schema.parsed(repository / record.name / schema.FILE)
    samples = fixed_batch(record.signature.inputs) or min(SAMPLES, config.max_batch_size)
    feed = asking.made(record.signature.inputs, samples)
    wanted = asking.expected(found.runner(record.runners[0]), feed)
    with running(repository) as server:
        answers = [*asking.answers(server, record, feed, wanted)]
        asked = asking.batches(server, record.name)
        answers.append(asking.gathered(server, record, config.max_batch_size, feed, wanted))
        gathered = asking.batches(server, record.name)
        label = ""
        for one in config.output:
            if one.label_filename:
                label = asking.top_label(server, record, feed, one.name)
                classes = next(output.classes for output in record.outputs if output.name == one.name)
                best = classes[int(np.argmax(wanted[one.name][0]))]
                if label != best:
                    raise BuildError(f"{backend}: Triton says {label!r} of the first sample, and our session {best!r}")
    if _digests(repository) != before:
        raise BuildError(f"{repository} was changed while it was served")
    batches = {size: count - asked.get(size, 0) for size, count in gathered.items()}
    return Loaded(backend, tuple(answers), {size: count for size, count in batches.items() if count}, label)


def refusals(found: Bundle, *, provoke: bool) -> list[Refused]:
    """Break copies of the repository, each in one way, and return why our check refuses each.

    Raises:
        BuildError: it does not, or for another reason.
    """
    refused = []
    source = found.folder / triton.FOLDER / "onnxruntime"
    ways = [(one.name, one.expected) for one in broken.WAYS]
    ways += [(name, "is not as the schema says") for name, _ in broken.SCHEMA]
    for name, expected in ways:
        with tempfile.TemporaryDirectory(prefix="broken-") as folder:
            repository = Path(folder) / "repository"
            shutil.copytree(source, repository)
            _break(name, repository / found.record.name)
            reasons = check.problems(repository)
            reason = next((one for one in reasons if expected in one), None)
            if reason is None:
                raise BuildError(f"{name}: our check does not refuse it for {expected!r}: {reasons}")
            refused.append(Refused(name, reason, _provoked(repository) if provoke else ""))
    return refused


def _break(name: str, model: Path) -> None:
    for one in broken.WAYS:
        if one.name == name:
            broken.apply(one, model)
    for other, text in broken.SCHEMA:
        if other == name:
            with (model / schema.FILE).open("a", encoding="utf-8") as file:
                file.write(text)


def _provoked(repository: Path) -> str:
    try:
        with running(repository):
            return "loads it"
    except BuildError as error:
        return error.message.splitlines()[0].removeprefix("tritonserver ")


def _digests(folder: Path) -> dict[str, str]:
    return {str(path): digests.of_file(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _line(one: Loaded) -> str:
    largest = max(answer.largest_difference for answer in one.answers)
    sizes = ", ".join(f"{count} of {size}" for size, count in sorted(one.batches.items()))
    return f"{one.backend}: loaded unchanged; {len(one.answers)} answers, {largest:.2g} off at most; gathered: {sizes}"


def _page(found: Bundle, loaded: list[Loaded], refused: list[Refused]) -> str:
    record = found.record
    lines = [
        "# A bundle's Triton repositories in a real tritonserver",
        "",
        f"Machine: {environment.machine()}.",
        "`tritonserver` 2.51 of nvidia-pytriton's wheel, without a GPU, on the loopback. The stand-in backend",
        "`benchmarks/triton/standin.py` runs the ONNX file in ONNX Runtime: it says nothing of a plan.",
        f"Bundle: {record.name}, version {record.version}: {record.runners[0].runner.name}.",
        "",
        "## Loaded unchanged, and what tritonclient got",
        "",
        "| repository | asked by | samples a request | largest difference from our session |",
        "|---|---|---:|---:|",
        *(
            f"| {one.backend} | {answer.way} | {answer.samples} | {answer.largest_difference:.2g} |"
            for one in loaded
            for answer in one.answers
        ),
        "",
        *(
            f"- {one.backend}: single requests at once, behind one of the largest batch, ran as batches: "
            + ", ".join(f"{count} of {size}" for size, count in sorted(one.batches.items()))
            + (f"; top label of the first sample: {one.label}, as our session's." if one.label else ".")
            for one in loaded
        ),
        "",
        "## Broken on purpose, refused by our check",
        "",
        "| broken | our check says | Triton itself, once |",
        "|---|---|---|",
        *(f"| {one.name} | {_cell(one.reason)} | {one.triton or 'not asked'} |" for one in refused),
        "",
    ]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    typer.run(main)

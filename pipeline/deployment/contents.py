"""What goes into a bundle: the runners that passed, their files, and what a user of the model has to know."""

import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from pipeline import environment
from pipeline.artifacts.bundle import BundledRunner, BundleInput, BundleOutput, BundleRecord, Measured
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import JudgedOutput, JudgedRunner, ParityReport
from pipeline.artifacts.recommendation import Choice, Recommendation
from pipeline.artifacts.results import BenchmarkResults
from pipeline.artifacts.runner import RunnerRecord
from pipeline.artifacts.store import Published
from pipeline.artifacts.tensor import TensorRecord
from pipeline.config.deploying import Deploy
from pipeline.errors import ParityError
from pipeline.graphs import files
from pipeline.judging.choosing import class_names

TAKEN_ALONG = (ParityReport.PATH, Recommendation.PATH)
"""The verdicts and the recommendation, as they were published."""

Found = tuple[RunnerRecord, str | None, str]
"""A runner, where it ran, and why it stands where it does."""


def record(published: Published, wanted: Deploy, whites: Mapping[str, float | None]) -> BundleRecord:
    """Return what a bundle says of itself, without its files.

    Args:
        published: of the stages train, export, engine, validate and benchmark.
        wanted: the configuration's section.
        whites: of each input that can be a picture, the number that stands for a white pixel.

    Raises:
        ParityError: no runner passed validation and was timed.
    """
    model, parity = published.read(ModelRecord), published.read(ParityReport)
    results = published.read(BenchmarkResults)
    batches = tuple(sorted({cell.batch for cell in results.cells}))
    choice = published.read(Recommendation).choice(wanted.batch or batches[0], wanted.goal)
    if choice is None:
        raise ParityError("no runner passed validation and was timed: there is nothing to deploy", "See the report.")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", model.name).strip("_") or "model"
    found = [*_exported(parity, choice), *_emulated(parity), *(_original(results) if wanted.original else [])]
    runners = tuple(
        BundledRunner(
            name=name if place == 0 else f"{name}.{_suffix(row)}",
            runner=row,
            device=device,
            verdict="original" if row.role == "original" else "pass",
            reason=reason,
            measured=_measured(results, row),
        )
        for place, (row, device, reason) in enumerate(found)
    )
    return BundleRecord(
        name=name,
        version=1,
        created=datetime.now(UTC).replace(microsecond=0),
        pipeline=environment.version("keras-tensorrt-pipeline") or "",
        machine=results.environment.machine,
        versions=results.environment.versions,
        goal=wanted.goal,
        judged_on=parity.dataset,
        inputs=tuple(_input(one, whites.get(one.name)) for one in model.inputs),
        outputs=tuple(_output(one, parity, published.read(DatasetRecord)) for one in model.outputs),
        batch_sizes=batches,
        runners=runners,
        files={},
    )


def copy(published: Published, record: BundleRecord, folder: Path) -> None:
    """Copy the files of all runners, the verdicts and the recommendation into a bundle's folder."""
    for file in dict.fromkeys([*(one.runner.file for one in record.runners), *TAKEN_ALONG]):
        take(published, file, folder)


def take(published: Published, file: str, folder: Path) -> None:
    """Copy a published file or folder, with a model's weights beside it, to the same place in a bundle's folder."""
    target = folder / file
    target.parent.mkdir(parents=True, exist_ok=True)
    if (source := published.root / file).is_dir():
        shutil.copytree(source, target)
        return
    shutil.copyfile(published.path(file), target)
    if (weights := files.data_of(source)).is_file():
        shutil.copyfile(weights, files.data_of(target))


def _exported(parity: ParityReport, choice: Choice) -> list[Found]:
    """Return the runners that passed, as recommended: the chosen one, then by what was measured.

    By the records of their judgement, so that on a machine other than the benchmark's they are the same.
    """
    places = {row.runner: place for place, row in enumerate(choice.ranking)}
    passed = [
        one
        for one in parity.runners
        if one.runner.role == "exported" and one.verdict == "pass" and one.runner.name in places
    ]
    passed.sort(key=lambda one: (one.runner != choice.runner, places[one.runner.name]))
    return [(one.runner, one.device, _why(one.runner, one, choice, places)) for one in passed]


def _why(row: RunnerRecord, judged: JudgedRunner, choice: Choice, places: Mapping[str, int]) -> str:
    of = f"{choice.goal} at batch {choice.batch}"
    if row == choice.runner:
        return f"recommended for {of}: {choice.reason}"
    return f"rank {places[row.name] + 1} of {len(places)} by {of}; {judged.reason}"


def _emulated(parity: ParityReport) -> list[Found]:
    """Return the typed graphs of precisions of which nothing else passed, as far as they were judged.

    A CPU stands in for their arithmetic: they show what a precision answers, and nothing of its speed.
    """
    passed = [one for one in parity.runners if one.verdict == "pass"]
    served = {one.runner.precision for one in passed if one.runner.role == "exported"}
    return [
        (one.runner, one.device, f"emulated, to see its answers; {one.reason}")
        for one in passed
        if one.runner.name.startswith("typed ") and one.runner.precision not in served
    ]


def _original(results: BenchmarkResults) -> list[Found]:
    """Return the original model as it was timed, in the form that needs nothing of the user's own code to be loaded."""
    timed = [cell for cell in results.cells if cell.runner.role == "original" and cell.status == "ok"]
    saved = [cell for cell in timed if cell.runner.file.endswith(("saved_model", ".onnx"))]
    return [(cell.runner, cell.device, "the model that the others are held against") for cell in saved[:1]]


def _suffix(row: RunnerRecord) -> str:
    return "original" if row.role == "original" else row.name.replace(" ", "-")


def _measured(results: BenchmarkResults, row: RunnerRecord) -> tuple[Measured, ...]:
    return tuple(
        Measured(batch=cell.batch, p50_us=cell.timing.p50_us, items_per_s=cell.timing.items_per_s)
        for cell in results.cells
        if cell.runner == row and cell.mode == "end_to_end" and not cell.repeat and cell.timing is not None
    )


def _input(one: TensorRecord, white: float | None) -> BundleInput:
    sizes = _sizes(one)
    if white is None:
        words = f"{one.name}: {one.dtype} {sizes} a sample, as the model was trained on"
    else:
        channels = {1: "grey", 3: "RGB", 4: "RGBA"}[one.shape[-1] or 3]
        height, width = one.shape[1:3]
        size = f"resized to {width} × {height} (width × height), " if height and width else ""
        words = f"{one.name}: a picture, made {channels}, {size}as {one.dtype} from 0 (black) to {white:g} (white)"
    return BundleInput(**one.model_dump(), kind="numbers" if white is None else "picture", white=white, words=words)


def _output(one: TensorRecord, parity: ParityReport, dataset: DatasetRecord) -> BundleOutput:
    judged: JudgedOutput | None = next((row for row in parity.outputs if row.output == one.name), None)
    classes = tuple(class_names(dataset, one.name)) if judged and judged.classes else ()
    if judged is None:
        words = f"{one.name}: {one.dtype} {_sizes(one)} a sample"
    else:
        listed = f" of {_listed(classes)}" if classes else f" of {judged.classes} classes" if judged.classes else ""
        words = f"{one.name}: {judged.form or 'numbers'}{listed} ({judged.task}), {one.dtype} {_sizes(one)} a sample"
    return BundleOutput(
        **one.model_dump(),
        task=judged.task if judged else "",
        form=judged.form if judged else "",
        classes=classes,
        words=words,
    )


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes) if len(classes) <= 12 else f"{', '.join(classes[:11])}, … ({len(classes)} classes)"


def _sizes(one: TensorRecord) -> str:
    return f"[{', '.join('any' if size is None else str(size) for size in one.shape[1:])}]"

"""One run read from its artifacts, and its headlines; page, Markdown and terminal share it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pipeline import texts
from pipeline.artifacts import Artifact, Manifest
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.disagreements import Disagreements
from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.export import ExportRecord
from pipeline.artifacts.history import TrainingHistory
from pipeline.artifacts.parity import JudgedRunner, ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.results import BenchmarkResults, Cell, Mode, Speedup
from pipeline.artifacts.runner import RunnerRecord
from pipeline.artifacts.selection import Selection
from pipeline.artifacts.store import Published, Store
from pipeline.errors import ArtifactError
from pipeline.tables.traced import Traced

STAGES = ("train", "export", "engine", "validate", "benchmark")
"""The stages whose artifacts a report is made from."""

PASS, FAIL = "pass", "fail"

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class Run:
    """The artifacts of one run; `results` and `recommendation` are None where the model failed and was not timed."""

    name: str
    root: Path
    published: Published
    manifests: dict[str, Manifest]
    dataset: Traced[DatasetRecord]
    history: Traced[TrainingHistory]
    export: Traced[ExportRecord]
    engines: list[Traced[EngineRecord]]
    selection: Traced[Selection] | None
    parity: Traced[ParityReport]
    disagreements: Traced[Disagreements]
    results: Traced[BenchmarkResults] | None
    recommendation: Traced[Recommendation] | None

    @property
    def last(self) -> Manifest:
        """Return the manifest of the last stage that ran: the benchmark's, or validate's where nothing was timed."""
        return self.manifests["benchmark" if self.results else "validate"]

    def cells(
        self, *, batch: int | None = None, mode: Mode | None = None, repeats: bool = True
    ) -> Iterator[Traced[Cell]]:
        """Yield the cells that were timed, other than the harness itself, of this batch size and mode."""
        for index, one in enumerate(self.results.plain.cells if self.results else ()):
            timed = one.timing is not None and one.runner.role != "harness"
            if timed and batch in (None, one.batch) and mode in (None, one.mode) and (repeats or not one.repeat):
                assert self.results is not None
                yield self.results.cells[index]

    def batches(self) -> list[int]:
        """Return the batch sizes that were timed."""
        return list(dict.fromkeys(cell.plain.batch for cell in self.cells()))

    def judged(self, runner: RunnerRecord) -> Traced[JudgedRunner] | None:
        """Return how this very runner, with these options, was judged; None where it was not."""
        found = self.parity.plain.judged(runner)
        return None if found is None else self._judged_at(self.parity.plain.runners.index(found))

    def compared(self) -> list[Traced[JudgedRunner]]:
        """Return the runners that were compared with the original model."""
        runners = self.parity.plain.runners
        return [self._judged_at(index) for index, one in enumerate(runners) if one.total is not None]

    def accuracies(self) -> list[Traced[JudgedRunner]]:
        """Return how each precision compares with the original, by one runner of it.

        That is the recommended one, else an engine, else another exported one, else the graph without optimizations.
        """
        chosen = [choice.runner for choice in self.recommendation.plain.choices] if self.recommendation else []

        def distance_from_use(judged: Traced[JudgedRunner]) -> tuple[bool, bool, bool]:
            runner = judged.plain.runner
            return runner not in chosen, runner.role != "exported", runner.backend != "tensorrt"

        found = []
        for engine in self.engines:
            own = [one for one in self.compared() if one.plain.runner.precision == engine.plain.precision]
            if own:
                found.append(min(own, key=distance_from_use))
        return found

    def _judged_at(self, index: int) -> Traced[JudgedRunner]:
        found: Traced[JudgedRunner] = self.parity.runners[index]
        return found


def read(root: Path, manifests: dict[str, Manifest], missing: Mapping[str, ArtifactError], name: str = "") -> Run:
    """Read the artifacts below `root` that these manifests list; they have been verified.

    `missing` says why others are not there. A run beside the page's own has a `name`, and its numbers say in which
    folder they stand.

    Raises:
        ArtifactError: the model passed validation and was not timed, or another version of the pipeline wrote a file.
    """
    published = Published(root, manifests, declared=[f"{stage}/" for stage in STAGES])

    def load(kind: type[A], path: str = "") -> Traced[A]:
        path = path or kind.PATH
        return Traced(published.read(kind, path), texts.on_one_line(f"{root}/{path}") if name else path)

    parity = load(ParityReport)
    if "benchmark" in missing and parity.plain.verdict != FAIL:
        raise missing["benchmark"]
    timed = "benchmark" in manifests
    engines = [load(EngineRecord, path) for path in published.names("engine") if path.endswith("/engine.json")]
    return Run(
        name=name or "this run",
        root=root,
        published=published,
        manifests=manifests,
        dataset=load(DatasetRecord),
        history=load(TrainingHistory),
        export=load(ExportRecord),
        engines=sorted(engines, key=lambda one: (-one.plain.mean_bits, one.plain.precision)),
        selection=load(Selection) if published.has(Selection.PATH) else None,
        parity=parity,
        disagreements=load(Disagreements),
        results=load(BenchmarkResults) if timed else None,
        recommendation=load(Recommendation) if timed else None,
    )


def read_others(folders: Sequence[Path]) -> list[Run]:
    """Read other runs, each named by as much of its path's end as distinguishes them.

    Raises:
        ArtifactError: see `read_folder`.
    """
    parts = [folder.parts for folder in folders]
    longest = max(map(len, parts), default=0)
    sizes = (size for size in range(1, longest) if len({one[-size:] for one in parts}) == len(parts))
    size = next(sizes, longest)
    return [
        read_folder(folder, texts.on_one_line(Path(*one[-size:]) if one else folder))
        for folder, one in zip(folders, parts, strict=True)
    ]


def read_folder(folder: Path, name: str) -> Run:
    """Read another run: a folder that stages published into (`artifacts/`, or a copy), or the one above it.

    Raises:
        ArtifactError: it is none, or something in it is missing, stale or changed, or of another version.
    """
    store = Store.of_run(folder)
    manifests, missing = store.all_verified(STAGES, optional=STAGES[-1:])
    return read(store.root, manifests, missing, name)


def headlines(run: Run) -> list[Traced[Speedup]]:
    """Return the speed-up of the runner to take at each batch size, over the strongest way to run the original model.

    That runner is the recommendation's for latency; without `pass` in validation there is no headline of it.
    """
    if run.results is None or run.recommendation is None:
        return []
    found = []
    for choice in sorted(run.recommendation.plain.choices, key=lambda one: one.batch):
        judged = run.judged(choice.runner)
        if choice.goal != "latency" or judged is None or judged.plain.verdict != PASS:
            continue
        wanted = (choice.runner.name, choice.batch, "end_to_end")
        # The rows of a runner begin with its strongest baseline.
        rows = enumerate(run.results.plain.speedups)
        index = next((place for place, row in rows if (row.runner, row.batch, row.mode) == wanted), None)
        if index is not None:
            found.append(run.results.speedups[index])
    return found

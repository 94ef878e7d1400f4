"""One run read back from its artifacts, and what is to be said of it first; pages, tables and the terminal share it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pipeline import artifacts
from pipeline.artifacts import Manifest, Store
from pipeline.artifacts.results import check_schema
from pipeline.errors import ArtifactError
from pipeline.report.traced import Traced

STAGES = ("train", "export", "engine", "validate", "benchmark")
"""The stages whose artifacts a report is made from."""

PASS, FAIL = "pass", "fail"


@dataclass(frozen=True)
class Run:
    """The artifacts of one run.

    `results` is None where the model failed validation and was not timed; `disagreements` where an earlier version of
    the pipeline validated, which kept none.
    """

    name: str
    root: Path
    manifests: dict[str, Manifest]
    dataset: Traced
    history: Traced
    sidecars: list[Traced]
    selection: Traced | None
    parity: Traced
    disagreements: Traced | None
    results: Traced | None

    @property
    def last(self) -> Manifest:
        """Return the manifest of the last stage that ran: the benchmark's, or validate's where nothing was timed."""
        return self.manifests["benchmark" if self.results else "validate"]

    def cells(self, **wanted: Any) -> Iterator[Traced]:
        """Yield the cells that were timed, other than the harness itself, with these values."""
        for cell in self.results["cells"] if self.results else ():
            plain = cell.plain
            timed = plain["status"] == "ok" and plain["backend"] != "null"
            if timed and all(plain[key] == value for key, value in wanted.items()):
                yield cell

    def batches(self) -> list[int]:
        """Return the batch sizes that were timed."""
        return list(dict.fromkeys(cell.plain["batch"] for cell in self.cells()))

    def judgement(self, backend: str, precision: str) -> Traced | None:
        """Return how what a backend runs in a precision compares with the original model; None where it did not run."""
        candidate = f"{'engine' if backend == 'tensorrt' else 'typed'} {precision}"
        rows = (row for row in self.parity["totals"] if row.plain["candidate"] == candidate and row.plain["samples"])
        return next(rows, None)

    def accuracies(self) -> dict[str, Traced]:
        """Return how each precision compares with the original: its engine where that ran, else its typed graph."""
        found = {}
        for sidecar in self.sidecars:
            precision = sidecar.plain["precision"]
            row = self.judgement("tensorrt", precision) or self.judgement("onnxruntime", precision)
            if row is not None:
                found[precision] = row
        return found


def read(root: Path, manifests: dict[str, Manifest], missing: Mapping[str, ArtifactError], name: str = "") -> Run:
    """Read the artifacts below `root` that these manifests list; they have been verified. `missing` says why others
    are not there.

    A run beside the page's own has a `name`, and its numbers say in which folder they stand.

    Raises:
        ArtifactError: the model passed validation and was not timed, or was by another version of the pipeline.
    """

    def load(path: str) -> Traced:
        return Traced(artifacts.read_json(root / path), f"{root}/{path}" if name else path)

    def load_if_there(path: str) -> Traced | None:
        stage, _, file = path.partition("/")
        return load(path) if stage in manifests and file in manifests[stage].outputs else None

    parity = load("validate/parity.json")
    if "benchmark" in missing and parity.plain["verdict"] != FAIL:
        raise missing["benchmark"]
    results = load_if_there("benchmark/results.json")
    if results:
        check_schema(results.plain, root / "benchmark/results.json")
    engine = manifests["engine"].outputs
    sidecars = [load(f"engine/{file}") for file in engine if file.endswith("/engine.json")]
    return Run(
        name=name or "this run",
        root=root,
        manifests=manifests,
        dataset=load("train/dataset.json"),
        history=load("train/history.json"),
        sidecars=sorted(sidecars, key=lambda sidecar: (-sidecar.plain["mean_bits"], sidecar.plain["precision"])),
        selection=load_if_there("engine/selection.json"),
        parity=parity,
        disagreements=load_if_there("validate/disagreements.json"),
        results=results,
    )


def read_others(folders: Sequence[Path]) -> list[Run]:
    """Read other runs, each called by as much of its path's end as tells them apart.

    Raises:
        ArtifactError: see `read_folder`.
    """
    parts = [folder.parts for folder in folders]
    longest = max(map(len, parts), default=0)
    sizes = (size for size in range(1, longest) if len({one[-size:] for one in parts}) == len(parts))
    size = next(sizes, longest)
    return [
        read_folder(folder, str(Path(*one[-size:])) if one else str(folder))
        for folder, one in zip(folders, parts, strict=True)
    ]


def read_folder(folder: Path, name: str) -> Run:
    """Read another run: a folder that stages published into (`artifacts/`, or a copy), or the one above it.

    Raises:
        ArtifactError: it is none, or something in it is missing, stale or changed.
    """
    root = next((path for path in (folder, folder / "artifacts") if (path / "validate").is_dir()), None)
    if root is None:
        raise ArtifactError(
            f"{folder} has no artifacts of a run", "Name a folder like artifacts/, or one that has artifacts/ in it."
        )
    manifests, missing = Store(root).all_verified(STAGES, optional=STAGES[-1:])
    return read(root, manifests, missing, name)


def label(cell: dict[str, Any]) -> str:
    """Return how a cell is called everywhere: who runs the model, and in what precision where there is a choice."""
    precision = "" if cell["backend"] == "tensorflow" else f" {cell['precision']}"
    return f"{cell['backend']} {cell['variant']}{precision}{' (again)' if cell.get('twin') else ''}"


def headlines(run: Run) -> list[Traced]:
    """Return the best speed-up at each batch size, host to host, over the strongest way to run the original model.

    Only what passed validation counts; of a run that chose its precision, only that precision.
    """
    chosen = run.selection.plain["chosen"] if run.selection else None
    found: dict[int, dict[tuple[str, ...], Traced]] = {}
    for row in run.results["speedups"] if run.results else ():
        plain = row.plain
        judgement = run.judgement(plain["backend"], plain["precision"])
        if plain["mode"] != "end_to_end" or judgement is None or judgement.plain["verdict"] != PASS:
            continue
        if chosen not in (None, plain["precision"]):
            continue
        contender = (plain["backend"], plain["variant"], plain["precision"])
        # The rows of one contender begin with its strongest baseline.
        found.setdefault(plain["batch"], {}).setdefault(contender, row)
    return [max(rows.values(), key=lambda row: float(row.plain["ratio"])) for _, rows in sorted(found.items())]


def failings(run: Run) -> list[Traced]:
    """Return the comparisons that have the worst verdict, where that is not a pass."""
    verdict = run.parity.plain["verdict"]
    tables = (run.parity[table] for table in ("hops", "totals", "batch_invariance"))
    return [] if verdict == PASS else [row for table in tables for row in table if row.plain["verdict"] == verdict]


class NotRun(NamedTuple):
    """Something that was not done in a stage, and why."""

    stage: str
    what: list[str]
    why: str


def not_run(run: Run) -> list[NotRun]:
    """Return what was not built, compared or timed, by its reason."""
    return list(_grouped(_each_not_run(run)))


def _grouped(found: Iterable[tuple[str, str, str]]) -> Iterator[NotRun]:
    reasons: dict[tuple[str, str], list[str]] = {}
    for stage, what, why in found:
        reasons.setdefault((stage, why), []).append(what)
    for (stage, why), names in reasons.items():
        yield NotRun(stage, list(dict.fromkeys(names)), " ".join(why.split()))


def _each_not_run(run: Run) -> Iterator[tuple[str, str, str]]:
    for sidecar in run.sidecars:
        if sidecar.plain["status"] != "built":
            yield "engine", sidecar.plain["precision"], sidecar.plain["reason"]
    for row in run.parity.plain["hops"]:
        if row["verdict"] == "skipped":
            yield "validate", row["candidate"], row["reason"]
    if run.results is None:
        yield "benchmark", "everything", "the model failed validation; a fast wrong answer is not timed"
        return
    for cell in run.results.plain["cells"]:
        if cell["status"] != "ok":
            mode = f" {cell['mode']}" if cell["backend"] == "tensorflow" else ""
            yield "benchmark", f"{label(cell)}{mode}", cell["reason"]


def untimed_engines(run: Run) -> list[str]:
    """Return the precisions of the engines that were built and not timed."""
    timed = {cell.plain["precision"] for cell in run.cells(backend="tensorrt")}
    built = [sidecar.plain["precision"] for sidecar in run.sidecars if sidecar.plain["status"] == "built"]
    return [precision for precision in built if precision not in timed]

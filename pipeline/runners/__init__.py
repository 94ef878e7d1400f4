"""The runners: every way to run a published model, in one list for validate, benchmark, predict, LoadGen and tuning.

So what is timed is what was judged, and what is served is the fastest that passed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pipeline import backends, environment, graphs, precisions, user_code
from pipeline.artifacts.engine import EngineRecord, TuningRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.runner import BatchRange, Role, RunnerOptions, RunnerRecord
from pipeline.artifacts.store import Published
from pipeline.backends import LoadOptions, Session
from pipeline.errors import ArtifactError, BackendUnavailable, ConfigError
from pipeline.graphs import files
from pipeline.precisions import Precision
from pipeline.runners import tuning_record
from pipeline.tensors import DeviceKind

Purpose = Literal["judge", "time", "serve"]

EXACT = "onnxruntime"
"""The backend whose unoptimised run is the step between the Keras model and what is served."""


@dataclass(frozen=True)
class Runner:
    """One way to run a published model: what artifacts record of it, and what it takes to open it here.

    `path` is where the recorded file lies. `module` satisfies pipeline.backends.Backend. `modules` are imported before
    it is loaded: they register the layers of the user's own. `unavailable` says why it cannot run here. `trust` is
    that of `LoadOptions`.
    """

    record: RunnerRecord
    path: Path
    device: DeviceKind
    module: str
    modules: tuple[str, ...] = ()
    unavailable: str = ""
    trust: bool = False

    @property
    def options(self) -> LoadOptions:
        """The options that the backend loads the file with."""
        asked = self.record.options
        return LoadOptions(
            variant=self.record.variant,
            allow_tf32=asked.allow_tf32,
            exact=asked.exact,
            sha256=None if self.record.emulated else self.record.sha256,
            threads=asked.threads,
            steps=asked.steps,
            trust=self.trust,
        )

    @contextmanager
    def open(self, *, spin: bool = True) -> Iterator[Session]:
        """Load the model for the time of a `with` block.

        `spin` is no matter of what is computed, and so not of the record: see `LoadOptions`.

        Raises:
            BackendUnavailable: this machine does not offer it, and why.
            ArtifactError: the file is missing or has changed since it was published.
        """
        if self.unavailable:
            raise BackendUnavailable(self.unavailable)
        user_code.register_layers(self.modules)
        backend = backends.module(self.module)
        backend.probe(self.record.variant)
        options = replace(self.options, spin=spin)
        if not self.record.emulated:
            with backend.load(self.path, options) as session:
                yield session
            return
        emulated = precisions.emulation(self.record.precision)(graphs.load(self.path, self.record.sha256))
        with files.loadable(emulated) as model:
            del emulated  # as large as its weights
            with backend.load(model, options) as session:
                yield session


def runners(
    published: Published, purpose: Purpose, *, modules: Sequence[str], threads: int | None, trust: bool = False
) -> list[Runner]:
    """Return every way to run what is published, for a purpose.

    `judge`: the exact runs, step by step from Keras on, then all that can be timed. `time`: the ways to run the
    original model, the harness, then the same. `serve`: the same, then the exact runs.

    Args:
        published: of the stages train, export and engine.
        purpose: which of the lists.
        modules: those that register the layers of the user's own model (`Model.modules`).
        threads: CPU threads, `benchmark.threads`; None: as many as there are.
        trust: whether a SavedModel may run whose graph reaches beyond the model (`Model.trust`).

    Example:
        published = Store(Path("artifacts")).published()
        for runner in runners(published, "time", modules=(), threads=None):
            print(runner.record.name, probed(runner).unavailable or "runs here")
    """
    threads = threads or environment.cpu_count()
    found = exported(published, threads)
    if purpose == "judge":
        found = [*exact(published, modules), *found]
    elif purpose == "time":
        found = [*original(published, modules, threads), *harness(published), *found]
    else:
        found = [*found, *exact(published, modules)]
    return [replace(one, trust=trust) for one in found]


def original(published: Published, modules: Sequence[str], threads: int) -> list[Runner]:
    """Return every usual way to run the original model, by the backends that run it."""
    model = published.read(ModelRecord)
    options = RunnerOptions(threads=threads)
    if model.kind == "onnx":  # what runs it unchanged is what a user has before any pipeline
        return [
            _runner(_record("original", EXACT, variant, "fp32", model.file, options, f"original {variant}"), published)
            for variant in backends.get(EXACT).VARIANTS
        ]
    files = {"saved_model": model.file}
    if model.kind != "saved_model":
        files = {"keras": model.file, "saved_model": "export/saved_model"}
    return [
        _runner(_record("original", name, variant, "fp32", file, options), published, modules)
        for name in backends.names("original")
        for variant, kind in backends.get(name).VARIANTS.items()
        if (file := files.get(kind.consumes))
    ]


def harness(published: Published) -> list[Runner]:
    """Return the runner that does nothing: timing it shows the harness's own cost."""
    return [
        _runner(_record("harness", name, variant, "fp32", "export/model.onnx", RunnerOptions()), published)
        for name in backends.names("harness")
        for variant in backends.get(name).VARIANTS
    ]


def exact(published: Published, modules: Sequence[str]) -> list[Runner]:
    """Return the steps from the original model to each typed graph, without anything that may change the arithmetic.

    Where a CPU lacks a precision's arithmetic it is emulated by rounding in FP32.
    """
    options, model = RunnerOptions(exact=True), published.read(ModelRecord)
    onnx = ("onnx", EXACT, "cpu", "export/model.onnx")
    chain = {
        "saved_model": [("saved_model", "tensorflow", "saved_model", model.file), onnx],
        "onnx": [("original", EXACT, "cpu", model.file), onnx],
    }.get(
        model.kind,
        [
            ("keras", "tensorflow", "call", model.file),
            ("saved_model", "tensorflow", "saved_model", "export/saved_model"),
            onnx,
        ],
    )
    if model.as_trained:
        chain = [("as trained", "tensorflow", "call", model.as_trained), *chain]
    found = [
        _runner(_record("exact", backend, variant, "fp32", file, options, name), published, modules)
        for name, backend, variant, file in chain
    ]
    for engine in engine_records(published):
        precision = configured(engine)
        record = _record(
            "exact",
            EXACT,
            "cpu",
            precision.name,
            f"engine/{precision.name}/model.onnx",
            options,
            f"typed {precision.name}",
        )
        record = record.model_copy(
            update={"emulated": precision.emulate is not None, "sha256": engine.onnx and engine.onnx.sha256}
        )
        why = "" if engine.onnx else f"no typed graph: {engine.reason}"
        found.append(Runner(record, published.at(record.file), "cpu", _module(EXACT), unavailable=why))
    return found


def exported(published: Published, threads: int) -> list[Runner]:
    """Return every way to run what was exported: each backend's variants with each precision that it takes."""
    found = []
    for engine in engine_records(published):
        folder = published.at(f"engine/{engine.precision}")
        tuned = published.read_if_there(TuningRecord, f"engine/{engine.precision}/tuning.json")
        found += of_precision(engine, folder, threads, tuned)
    return found


def of_precision(engine: EngineRecord, folder: Path, threads: int | None, tuned: TuningRecord | None) -> list[Runner]:
    """Return every way to run one precision's graph or engine in `folder`, those of the base install first."""
    precision = configured(engine)
    names = sorted(backends.names("exported"), key=lambda name: name != EXACT)
    found = []
    for name in names:
        for variant, kind in backends.get(name).VARIANTS.items():
            if kind.consumes == "engine" and variant != (engine.flavour or next(iter(backends.get(name).VARIANTS))):
                continue  # an engine is run by what built it
            found.append(_exported(engine, precision, name, variant, folder, threads, tuned))
    return found


def _exported(
    engine: EngineRecord,
    precision: Precision,
    name: str,
    variant: str,
    folder: Path,
    threads: int | None,
    tuned: TuningRecord | None,
) -> Runner:
    kind = backends.get(name).VARIANTS[variant]
    takes_engine = kind.consumes == "engine"
    file, published = ("model.engine", engine.engine) if takes_engine else ("model.onnx", engine.onnx)
    if kind.device == "cpu" and engine.cpu is not None:
        file, published = "cpu.onnx", engine.cpu
    steps = tuning_record.steps(tuned, name, variant, engine.onnx.sha256 if engine.onnx else None)
    options = RunnerOptions(
        # An engine's TF32 was decided when it was built.
        allow_tf32=precision.allow_tf32 and not takes_engine,
        threads=threads if kind.device == "cpu" else None,
        steps=steps if published else (),
    )
    record = _record("exported", name, variant, precision.name, f"engine/{precision.name}/{file}", options)
    record = record.model_copy(
        update={
            "sha256": published and published.sha256,
            "batches": _batches(engine) if takes_engine else None,
        }
    )
    why = ""
    if not published:
        why = f"{'no engine' if takes_engine else 'no typed graph'}: {engine.reason}"
    elif takes_engine and "strip" in engine.features:
        why = engine.runs_here_reason
    elif kind.device == "cpu" and not precision.cpu_computes:
        why = f"a CPU has no {precision.name} arithmetic, so timing it would mean nothing"
    return Runner(record, folder / file, kind.device, _module(name), unavailable=why)


def configured(engine: EngineRecord) -> Precision:
    """Return the precision of an engine record as it was configured when its graph was made.

    Raises:
        ArtifactError: this version has no such precision.
    """
    try:
        precision = precisions.get(engine.precision)
    except ConfigError as error:
        raise ArtifactError(f"an engine.json is of an {error.message}", backends.SAME_VERSION) from error
    if engine.remainder is None or engine.placement is None:
        return precision
    return precision.configured(engine.remainder, engine.placement)


def _batches(engine: EngineRecord) -> BatchRange | None:
    """Return the smallest and the largest batch of all profiles: between them each batch has one."""
    if not engine.profiles:
        return None
    smallest, largest = (one.min for one in engine.profiles), (one.max for one in engine.profiles)
    return BatchRange(smallest=min(smallest), largest=max(largest))


def engine_records(published: Published) -> list[EngineRecord]:
    """Return the engine record of each precision, the widest first."""
    names = [name for name in published.names("engine") if name.endswith("/engine.json")]
    found = [published.read(EngineRecord, name) for name in names]
    return sorted(found, key=lambda record: (-record.mean_bits, record.precision))


def probed(runner: Runner) -> Runner:
    """Return the runner with the reason why this machine does not offer it, where it does not."""
    if runner.unavailable:
        return runner
    try:
        backends.module(runner.module).probe(runner.record.variant)
    except BackendUnavailable as error:
        return replace(runner, unavailable=error.message)
    return runner


def _record(
    role: Role, backend: str, variant: str, precision: str, file: str, options: RunnerOptions, name: str = ""
) -> RunnerRecord:
    parts = (backend, variant, precision) if role == "exported" else (backend, variant)
    return RunnerRecord(
        name=name or " ".join(parts),
        role=role,
        backend=backend,
        variant=variant,
        precision=precision,
        file=file,
        sha256=None,
        options=options,
    )


def _runner(record: RunnerRecord, published: Published, modules: Sequence[str] = ()) -> Runner:
    """Return the runner of a published file or folder of the stages train and export."""
    folder = record.file.endswith("saved_model")
    path = published.at(record.file) if folder else published.path(record.file)
    sha256 = None if folder else published.sha256(record.file)
    device = backends.recorded(record.backend, record.variant).device
    return Runner(
        record.model_copy(update={"sha256": sha256}),
        path,
        device,
        _module(record.backend),
        tuple(modules),
    )


def _module(name: str) -> str:
    return f"{backends.__name__}.{name}"

"""Beside the main line: a scenario of MLPerf LoadGen, in a process of its own, with LoadGen's own logs kept."""

import shutil
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline import data, tables
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.loadgen import Expected, LoadgenAccuracy, LoadgenResult, Metric
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Goal
from pipeline.artifacts.runner import RunnerRecord
from pipeline.artifacts.store import Store
from pipeline.config import AUTO, Config
from pipeline.errors import ArtifactError, BackendUnavailable, DataError, PipelineError
from pipeline.measuring.loadgen import logs, system
from pipeline.measuring.loadgen.accuracy import Answered, beside_validation, best_of, values
from pipeline.measuring.loadgen.process import Fail, Receive, Tell, isolated
from pipeline.runners import audit, inference, serving
from pipeline.runners.serving import Wanted
from pipeline.tables.loadgen import scenarios
from pipeline.tables.numbers import written
from pipeline.workflow.context import Context, Outcome

UNVERIFIED = "Result not verified by MLCommons Association."
"""What MLCommons requires beside every result that it has not reviewed."""

LONGER = 10
"""How many times as long as expected a scenario may take: the machine may be busy with something else."""


class Begun(NamedTuple):
    """How the model runs, reported before the test."""

    runner: RunnerRecord
    device: str
    session: dict[str, object]
    largest_batch: int
    expected: Expected
    why: str


def run(context: Context) -> Outcome:
    """Publish `<scenario>-<mode>/`: LoadGen's logs and `result.json`; other runs of models still there stay beside."""
    options, seconds = context.config.loadgen, context.config.benchmark.seconds
    system.library()
    parity = context.published.read(ParityReport)
    audit.check_passed(parity, context.config.benchmark.allow_failed, context.warn)
    name = f"{options.scenario}-{options.mode}"
    _keep_others(context, name)
    folder = context.output / name
    folder.mkdir()
    begun, answered = _conduct(context, folder)
    said = logs.read_log(folder)
    reasons = list(said.reasons)
    accuracy: tuple[LoadgenAccuracy, ...] = ()
    if answered:
        accuracy = beside_validation(parity, begun.runner, answered)
        if missing := answered.samples - answered.answered:
            reasons.append(f"{missing} of {answered.samples} samples were not answered")
    result = LoadgenResult(
        scenario=options.scenario,
        mode=options.mode,
        unofficial=_why_unofficial(options.mode, seconds),
        statement=UNVERIFIED,
        valid=said.verdict != "INVALID" and not reasons,
        loadgen_result=said.verdict or None,
        reasons=tuple(reasons),
        metric=_metric(options.scenario, said.metrics) if options.mode == "performance" else None,
        metrics=said.metrics,
        accuracy=accuracy,
        runner=begun.runner,
        device=begun.device,
        session=begun.session,
        largest_batch=begun.largest_batch,
        expected=begun.expected,
        seconds_asked=seconds,
        settings=said.settings,
        dataset=context.published.read(DatasetRecord).name,
        loadgen_version=said.version,
    )
    context.write(result, f"{name}/result.json")
    _show(context, folder, result)
    return Outcome()


def _keep_others(context: Context, name: str) -> None:
    """Copy what was published of other scenarios, where the file that they ran is still the published one."""
    earlier = context.earlier()
    files = earlier.names("loadgen")
    for result in (file for file in files if file.endswith("/result.json")):
        other = result.removeprefix("loadgen/").removesuffix("/result.json")
        try:
            runner = LoadgenResult.read(earlier.path(result)).runner
        except ArtifactError:
            continue  # of another version of the pipeline
        stage, _, path = runner.file.partition("/")
        record = context.manifests[stage].outputs.get(path) if stage in context.manifests else None
        if other == name or record is None or record.sha256 != runner.sha256:
            continue
        for file in (file for file in files if file.startswith(f"loadgen/{other}/")):
            target = context.output / file.removeprefix("loadgen/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(earlier.path(file), target)


def _conduct(context: Context, folder: Path) -> tuple[Begun, Answered | None]:
    """Run the scenario in a process of its own; return how the model ran, and in accuracy mode what was answered."""
    options = context.config.loadgen
    context.say(f"{options.scenario}, {options.mode}: loading the model and measuring what to expect")
    with isolated(_work, context.config, folder) as receive:
        patience_s = context.config.benchmark.patience_s
        begun: Begun = receive(patience_s) or _silent("loaded the model", patience_s)
        expected = begun.expected
        context.say(f"{begun.runner.name} on {begun.device}: {begun.why}")
        seconds = max(1, expected.seconds)
        context.say(f"about {seconds:,.0f} s, {expected.samples_per_s:,.0f} samples/s expected")
        if begun.runner.emulated:
            context.warn(f"this CPU has no {begun.runner.precision} arithmetic: emulated by rounding in FP32")
        return begun, _wait(context, receive, expected.seconds)


def _silent(doing: str, seconds: float) -> NoReturn:
    raise PipelineError(
        f"LoadGen's process was silent for {seconds:,.0f} s while it {doing}, and was ended",
        "It hangs or is stopped; or give it longer: benchmark.patience_s.",
    )


def _wait(context: Context, receive: Receive, seconds: float) -> Answered | None:
    limit_s = LONGER * seconds + context.config.benchmark.patience_s
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=context.console, disable=not context.console.is_terminal) as progress:
        task = progress.add_task(f"LoadGen {system.NAMES[context.config.loadgen.scenario]}", total=seconds)
        start = time.monotonic()
        while (received := receive(0.2)) is None:
            if time.monotonic() - start > limit_s:
                _silent("ran the scenario", limit_s)
            progress.update(task, completed=min(time.monotonic() - start, seconds))
    return received if isinstance(received, Answered) else None


def _work(tell: Tell, fail: Fail, config: Config, folder: Path) -> None:
    """Run the scenario and tell how the model runs, then, at the end, what was answered."""
    published, options = Store(config.artifacts).published(), config.loadgen
    test = data.reload(published.read(DatasetRecord), published.read(ModelRecord).signature, config.data).test
    largest = max(config.benchmark.batch_sizes)
    # What is judged is what is timed; only an arithmetic that the CPU lacks is emulated.
    exact = options.mode == "accuracy"
    judged = published.read(ParityReport).outputs
    if exact and not any(one.labels for one in judged):
        raise DataError("there are no labels: nothing says whether an answer is right", "Leave out --accuracy.")
    goal: Goal = "throughput" if options.scenario == "offline" else "latency"
    batch = largest if options.scenario == "offline" else 1
    wanted = Wanted(options.backend, options.precision, batch, goal, exact)
    offered = serving.candidates(
        published, wanted, modules=config.model.modules, trust=config.model.trust, threads=config.benchmark.threads
    )
    if not exact and offered and options.precision != AUTO and all(one.runner.unavailable for one in offered):
        raise BackendUnavailable(
            offered[-1].runner.unavailable, "Time another precision, or run this on a machine with a GPU."
        )
    with serving.opened(offered) as (served, session):
        record = served.runner.record
        under_test = system.SystemUnderTest(
            session, test.feed(), inference.limits(record), largest, fail, best_of(judged)
        )
        settings, expected = system.configure(under_test, options, config.benchmark.seconds)
        tell(Begun(record, session.device, dict(session.settings), under_test.largest, expected, str(served)))
        system.conduct(under_test, settings, folder)
    if options.mode != "accuracy":
        tell(False)
        return
    answers, answered = logs.read_answers(folder, len(test), under_test.answers.layout)
    tell(Answered(len(test), int(answered.sum()), values(judged, answers, test)))


def _why_unofficial(mode: str, seconds: float | None) -> tuple[str, ...]:
    reasons = ["not submitted to MLCommons, nor reviewed", "the model and its data are not an MLPerf benchmark's"]
    if mode == "performance" and seconds is not None and seconds < system.MLPERF_SECONDS:
        reasons.append(f"{seconds:g} s instead of the {system.MLPERF_SECONDS:g} s of MLPerf's rules")
    return tuple(reasons)


def _metric(scenario: str, metrics: dict[str, float | bool]) -> Metric:
    """Return the number that MLPerf goes by in a scenario, None where LoadGen could not give it."""
    found: dict[str, tuple[str, Metric]] = {
        # The upper bound of the percentile at 99 % confidence, which early stopping gives.
        "singlestream": (
            "early_stopping_latency_ss",
            Metric(name="90th percentile of latency", value=None, unit="ns"),
        ),
        "multistream": (
            "early_stopping_latency_ms",
            Metric(name="99th percentile of latency, of 8 samples", value=None, unit="ns"),
        ),
        "server": ("completed_samples_per_sec", Metric(name="queries answered", value=None, unit="per second")),
        "offline": ("samples_per_second", Metric(name="samples", value=None, unit="per second")),
    }
    key, metric = found[scenario]
    return metric.model_copy(update={"value": metrics.get(key) or None})


def _show(context: Context, folder: Path, result: LoadgenResult) -> None:
    for line in (folder / "mlperf_log_summary.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("Result is"):
            context.say(f"LoadGen: {line}")
    context.console.print(tables.terminal(scenarios([result])))
    for reason in result.reasons:
        context.warn(reason)
    for one in result.accuracy:
        seen = one.validated
        of = f" of {one.output}" if len(result.accuracy) > 1 else ""
        context.say(
            f"{one.metric}{of} {written(one.value, 'fraction')} on {one.samples:,} test samples; validation of "
            f"{one.validated_runner}: {'it did not run there' if seen is None else f'{seen:.4f}'}; "
            f"FP32: {written(one.fp32, 'fraction')}"
        )
        for name, met in (("99 %", one.meets_99), ("99.9 %", one.meets_99_9)):
            context.say(f"MLPerf's target of {name} of FP32's: {'met' if met else 'NOT met'}")
    context.warn(f"UNOFFICIAL, unverified: {'; '.join(result.unofficial)}. {UNVERIFIED}")

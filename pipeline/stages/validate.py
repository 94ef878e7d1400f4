"""Stage 4: judge every runner against the original model, step by step, so that where something is lost has a name."""

import numpy as np

from pipeline import data, tables
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.disagreements import DifferingRunner, Disagreements
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import JudgedOn, ParityReport
from pipeline.data import Split
from pipeline.errors import BackendUnavailable, ParityError
from pipeline.judging.choosing import Choosing
from pipeline.runners import judge, runners
from pipeline.runners.judge import Criteria, Judgement
from pipeline.tables import accuracy
from pipeline.workflow.context import Context, Outcome


def run(context: Context) -> Outcome:
    """Publish `parity.json`, `disagreements.json` and `disagreements.npz`."""
    config, published = context.config, context.published
    record = published.read(DatasetRecord)
    dataset = data.reload(record, published.read(ModelRecord).signature, config.data)
    test = dataset.test
    criteria = Criteria(
        samples=test,
        batch_size=config.validate_.batch_size,
        batch_sizes=config.validate_.batch_sizes,
        timed_batch_sizes=config.benchmark.batch_sizes,
        choosing=Choosing(record, config.validate_.task, config.validate_.budget),
        trial_s=config.model.trial_s if published.read(ModelRecord).kind == "onnx" else None,
    )
    every = runners(
        published, "judge", modules=config.model.modules, trust=config.model.trust, threads=config.benchmark.threads
    )
    found = judge.judge(every, criteria)
    _check_ran(found)
    report = ParityReport(
        verdict=found.verdict,
        dataset=JudgedOn(
            name=dataset.name,
            split="test",
            samples=len(test),
            origin=dataset.origin,
            substitute=record.substitute,
        ),
        outputs=found.outputs,
        runners=found.runners,
        hops=found.hops,
    )
    context.write(report)
    _keep_samples(context, found.differing, test)
    _show(context, report)
    return Outcome(failure=_failure(report))


def _check_ran(found: Judgement) -> None:
    """Refuse to publish a validation in which nothing ran: it would pass.

    Raises:
        BackendUnavailable: every runner was skipped, with their reasons.
    """
    if all(row.verdict == "skipped" for row in found.runners):
        raise BackendUnavailable(
            "\n".join(
                ["nothing was judged: no runner ran", *(f"{row.runner.name}: {row.reason}" for row in found.runners)]
            ),
            "`make doctor` shows what this machine has. What was published before is unchanged.",
        )


def _keep_samples(context: Context, differing: tuple[DifferingRunner, ...], test: Split) -> None:
    """Write which samples get another or a worse answer, and their inputs: a reader sees them without the data."""
    context.write(Disagreements(drawn_at_most=judge.DRAWN, runners=differing))
    indices = np.array(sorted({sample.index for row in differing for sample in row.samples}), np.int64)
    path = context.output / "disagreements.npz"
    inputs = {f"input/{name}": rows for name, rows in test.feed(indices).items()}
    np.savez_compressed(path, allow_pickle=False, indices=indices, **inputs)


def _failure(report: ParityReport) -> ParityError | None:
    failing = [f"{row.reference} → {row.candidate}: {row.reason}" for row in report.hops if row.verdict == "fail"]
    failing += [f"{row.runner.name}: {row.reason}" for row in report.runners if row.verdict == "fail"]
    if not failing:
        return None
    return ParityError(
        "\n".join(failing),
        "`make report` shows the numbers. Leave the precision out with --set engine.precisions=…, "
        "or raise validate.budget if the loss is acceptable.",
    )


def _show(context: Context, report: ParityReport) -> None:
    context.console.print(tables.terminal(accuracy.hops(report)))
    for row in report.runners:
        if row.verdict == "inconclusive":
            context.warn(f"{row.runner.name}: inconclusive: {row.reason}")
    context.say_skipped((row.runner.name, row.reason) for row in report.runners if row.verdict == "skipped")
    judged = [row.batch_invariance for row in report.runners if row.batch_invariance]
    sizes = sorted({size for row in judged for size in row.batch_sizes})
    largest = max((row.max_abs or 0.0 for row in judged), default=0.0)
    context.say(f"batches of {', '.join(map(str, sizes))}: results of a sample differ by at most {largest:.1e}")

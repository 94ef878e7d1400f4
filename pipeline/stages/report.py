"""Stage 6: write down, from the artifacts alone, what ran where, how accurate and how fast, and what did not run."""

from pipeline.report import markdown, page
from pipeline.report import run as runs
from pipeline.report.run import Run
from pipeline.tables.judged import tested
from pipeline.tables.numbers import written
from pipeline.workflow.context import Context, Outcome


def run(context: Context) -> Outcome:
    """Publish `index.html` and `report.md`.

    Raises:
        ArtifactError: the model passed validation and was not timed, or a run to compare with cannot be read.
    """
    own = runs.read(context.published.root, context.manifests, context.missing)
    others = runs.read_others(context.config.report.compare)
    (context.output / "index.html").write_text(page.render(own, others), encoding="utf-8")
    (context.output / "report.md").write_text(markdown.render(own), encoding="utf-8")
    _summary(context, own)
    return Outcome()


def _summary(context: Context, own: Run) -> None:
    """Print the summary at the end of `make all`."""
    dataset, history, parity = own.dataset.plain, own.history.plain, own.parity.plain
    if dataset.random:
        context.warn("inputs are random numbers: nothing below says how good the model is on real ones")
    if dataset.substitute:
        context.warn(f"the figures below are of {dataset.origin}, NOT of MNIST")
    how_good = tested(history) or "how good the model is was not measured:"
    context.say(
        f"  {'trained' if history.epochs else 'adopted'}    {how_good} on {history.test_samples:,} test samples"
    )
    records = [record.plain for record in own.engines]
    built = [
        record.precision + ("" if record.runs_here else " (not run here)")
        for record in records
        if record.status == "built"
    ]
    context.say(f"  export     {own.export.plain.sentence}")
    context.say(f"  engines    {', '.join(built) or 'none'}")
    ran = [row for row in parity.runners if row.verdict != "skipped"]
    context.say(f"  accuracy   {parity.verdict} ({len(ran)} of {len(parity.runners)} runners ran)")
    for row in runs.headlines(own):
        best = row.plain
        context.say(
            f"  batch {best.batch:<5} {best.runner} on {best.device}: {written(best.ratio, 'ratio')} the strongest "
            f"original ({best.over} on {best.over_device}){'' if best.verdict == 'faster' else ', ' + best.verdict}"
        )
    if own.results is None:
        context.say("  speed      not timed: the model failed validation")
    context.say(f"  report     {context.published.root / 'report' / 'index.html'}")

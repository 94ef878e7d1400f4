"""Stage 6: write down, from the artifacts alone, what ran where, how accurate and how fast, and what did not run."""

from pipeline.report import markdown, page
from pipeline.report import run as runs
from pipeline.report.numbers import written
from pipeline.report.run import Run
from pipeline.workflow.run import Context, Outcome


def run(context: Context) -> Outcome:
    """Publish `index.html` and `report.md`.

    Raises:
        ArtifactError: the model passed validation and was not timed, or what it is to be compared with cannot be read.
    """
    own = runs.read(context.root, context.manifests, context.missing)
    others = runs.read_others(context.config.report.compare)
    (context.output / "index.html").write_text(page.render(own, others), encoding="utf-8")
    (context.output / "report.md").write_text(markdown.render(own), encoding="utf-8")
    _summary(context, own)
    return Outcome()


def _summary(context: Context, own: Run) -> None:
    """Print the few lines that a newcomer reads after `make all`."""
    if own.dataset["substitute"]:
        context.warn(f"the figures below are of {own.dataset['origin']}, NOT of MNIST")
    history = own.history.plain
    context.say(f"  trained    accuracy {history['test_accuracy']:.4f} on {history['test_samples']:,} test images")
    built = [
        sidecar.plain["precision"] + ("" if sidecar.plain["runs_here"] else " (not run here)")
        for sidecar in own.sidecars
        if sidecar.plain["status"] == "built"
    ]
    context.say(f"  engines    {', '.join(built) or 'none'}")
    hops = own.parity.plain["hops"]
    executed = sum(row["executed"] for row in hops)
    context.say(f"  accuracy   {own.parity['verdict']} ({executed} of {len(hops)} hops ran)")
    for row in runs.headlines(own):
        best = row.plain
        context.say(
            f"  batch {best['batch']:<5} {best['backend']} {best['variant']} {best['precision']} on {best['device']}: "
            f"{written(row['ratio'], 'ratio')} the strongest original ({best['over']} on {best['over_device']})"
            f"{'' if best['verdict'] == 'faster' else ', ' + best['verdict']}"
        )
    if own.results is None:
        context.say("  speed      not timed: the model failed validation")
    context.say(f"  report     {context.root / 'report' / 'index.html'}")

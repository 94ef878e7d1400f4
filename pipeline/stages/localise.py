"""Beside the main line: where a precision loses accuracy, by Keras layer, and what recovers it."""

import shutil

from rich.progress import Progress

from pipeline import precisions, tables
from pipeline.artifacts.sensitivity import LayerSensitivity
from pipeline.errors import ArtifactError
from pipeline.quantization.typed_graphs import Rewriter
from pipeline.tables import sensitivity
from pipeline.workflow.context import Context, Outcome


def run(context: Context) -> Outcome:
    """Publish `<precision>.json`; what was published on other precisions of the same model stays beside it."""
    options = context.config.localise
    _keep_others(context, f"{options.precision}.json")
    with Progress(console=context.console, disable=not context.console.is_terminal) as progress:
        task = progress.add_task(f"localising {options.precision}")

        def show(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what)

        rewriter = Rewriter.of(context.published, context.config, context.say)
        found = rewriter.localise(precisions.get(options.precision), options.samples, show)
    context.write(found, f"{options.precision}.json")
    _show(context, found)
    return Outcome()


def _keep_others(context: Context, name: str) -> None:
    """Copy what was published on other precisions of this very model."""
    model, earlier = context.published.sha256("export/model.onnx"), context.earlier()
    for file in earlier.names("localise"):
        if file == f"localise/{name}":
            continue
        try:
            if earlier.read(LayerSensitivity, file).model_sha256 == model:
                shutil.copy2(earlier.path(file), context.output)
        except ArtifactError:
            continue  # of another version of the pipeline


def _show(context: Context, found: LayerSensitivity) -> None:
    context.console.print(tables.terminal(sensitivity.layers(found)))
    baseline, result, name = found.baseline, found.result, found.precision
    context.say(f"{name} without any layer in FP32: {baseline.verdict}, error {baseline.error:.2e}, {baseline.reason}")
    if found.keep_fp32:
        names = ",".join(found.keep_fp32)
        context.say(f"smallest set found: {names}: {result.verdict}, {result.reason}")
        context.say(f"to build it that way: --set engine.keep_fp32={names}")
    elif found.keep_fp32 is None:
        context.warn(result.reason)
    else:
        context.say("no layer needs to stay in FP32")

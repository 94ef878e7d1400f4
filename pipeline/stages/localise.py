"""Beside the main line: where a precision loses accuracy, by Keras layer, and what brings it back."""

import shutil
from typing import Any

from rich.progress import Progress
from rich.table import Table

from pipeline import artifacts, precisions
from pipeline.quantization import typed_graphs
from pipeline.workflow.run import Context, Outcome


def run(context: Context) -> Outcome:
    """Publish `<precision>.json`; what was published on other precisions of the same model stays beside it."""
    name = context.config.localise.precision
    model = context.sha256("export/model.onnx")
    for file in sorted((context.root / "localise").glob("*.json")):
        if file.name != artifacts.MANIFEST and artifacts.read_json(file)["model_sha256"] == model:
            shutil.copy2(file, context.output)
    with Progress(console=context.console, disable=not context.console.is_terminal) as progress:
        task = progress.add_task(f"localising {name}")

        def show(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=what)

        found = typed_graphs.of(context).localise(precisions.get(name), context.config.localise.samples, show)
    context.write_json(f"{name}.json", {"model_sha256": model} | found)
    _show(context, name, found)
    return Outcome()


def _show(context: Context, name: str, found: dict[str, Any]) -> None:
    table = Table(title=f"{name}: what returning each to FP32 wins back, on {found['samples']:,} images")
    table.title_justify = "left"
    for column in ("Keras layer", "error left", "won back", "verdict"):
        table.add_column(column)
    for group in found["groups"]:
        # Where these layers have the last product, nothing of the precision would be left to try.
        error = "no product left" if group["error_alone"] is None else f"{group['error_alone']:.2e}"
        table.add_row(", ".join(group["layers"]), error, f"{group['won_back']:.0%}", group["verdict"])
    context.console.print(table)
    baseline, result = found["baseline"], found["result"]
    context.say(f"{name} as it is: {baseline['verdict']}, error {baseline['error']:.2e}, {baseline['reason']}")
    if found["keep_fp32"]:
        names = ",".join(found["keep_fp32"])
        context.say(f"smallest set found: {names}: {result['verdict']}, {result['reason']}")
        context.say(f"to build so: --set engine.keep_fp32={names}")
    elif found["keep_fp32"] is None:
        context.warn(result["reason"])
    else:
        context.say("no layer has to be kept in FP32")

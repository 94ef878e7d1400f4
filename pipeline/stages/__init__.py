"""The stages in their order: what each reads, and which part of the configuration it obeys."""

from typing import NamedTuple


class Stage(NamedTuple):
    """One step. `needs` are prefixes of the artifacts it reads; `sections` those of the configuration it obeys."""

    name: str
    entry: str
    needs: tuple[str, ...]
    sections: tuple[str, ...]
    hardware: bool
    """Whether another processor, GPU or driver makes it run again."""
    help: str
    optional: tuple[str, ...] = ()
    """Stages among those of `needs` that it can do without."""


LOCALISE = Stage(
    name="localise",
    entry="pipeline.stages.localise:run",
    needs=("train/model.keras", "train/dataset.json", "export/model.onnx"),
    sections=("engine", "validate", "localise"),
    hardware=False,
    help="Find the layers at which a precision loses accuracy.",
)
"""Beside the main line: looks into one precision, on demand."""

LOADGEN = Stage(
    name="loadgen",
    entry="pipeline.stages.loadgen:run",
    needs=("train/model.keras", "train/dataset.json", "engine/", "validate/"),
    sections=("model", "benchmark", "loadgen"),
    hardware=True,
    help="Run a scenario of MLPerf LoadGen.",
)
"""Beside the main line, as `benchmark --scenario`: one scenario, with LoadGen's own logs."""

STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="train",
            entry="pipeline.stages.train:run",
            needs=(),
            sections=("data", "model", "train"),
            hardware=False,
            help="Train the Keras model, on the GPU where there is one.",
        ),
        Stage(
            name="export",
            entry="pipeline.stages.export:run",
            needs=("train/model.keras",),
            sections=("model", "export"),
            hardware=False,
            help="Export it to SavedModel and ONNX.",
        ),
        Stage(
            name="engine",
            entry="pipeline.stages.engine:run",
            needs=("train/model.keras", "train/dataset.json", "export/model.onnx"),
            sections=("engine", "validate"),  # of the latter the budget, by which precisions and layers are chosen
            hardware=True,
            help="Build a TensorRT engine for each precision.",
        ),
        Stage(
            name="validate",
            entry="pipeline.stages.validate:run",
            needs=("train/model.keras", "train/dataset.json", "export/", "engine/"),
            sections=("model", "validate"),
            hardware=True,
            help="Compare outputs and accuracy, hop by hop, with the original model.",
        ),
        Stage(
            name="benchmark",
            entry="pipeline.stages.benchmark:run",
            needs=("train/model.keras", "train/dataset.json", "export/", "engine/", "validate/"),
            sections=("model", "benchmark"),
            hardware=True,
            help="Time every way to run the model against the original.",
        ),
        Stage(
            name="report",
            entry="pipeline.stages.report:run",
            needs=("train/", "export/", "engine/", "validate/", "benchmark/"),
            sections=("report",),
            hardware=False,
            help="Write down what ran where, how accurate and how fast: a page and a text.",
            optional=("benchmark",),  # a model that failed validation is not timed, and is what one wants to see
        ),
    )
}

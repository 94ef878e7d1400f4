"""The stages: what each reads, and which part of the configuration it obeys."""

from pipeline.workflow.stage import Stage

_RUNNERS = ("train/", "export/", "engine/")
"""What the list of runners is made from."""

_ALL = (
    Stage(
        name="train",
        entry="pipeline.stages.train:run",
        needs=(),
        sections=("data", "model", "train"),
        # How the test split is judged, and how much of a killed training is lost, make no other model.
        places=("validate.task", "validate.budget", "train.checkpoint_steps", "model.trial_s"),
        hardware=False,
        help="Train the Keras model, on the GPU where there is one.",
    ),
    Stage(
        name="export",
        entry="pipeline.stages.export:run",
        needs=("train/",),
        sections=("model", "export", "engine.ranges"),
        places=("data", "model.trial_s"),
        hardware=False,
        help="Export it to SavedModel and ONNX.",
    ),
    Stage(
        name="engine",
        entry="pipeline.stages.engine:run",
        needs=("train/", "export/model.onnx"),
        # The budget decides which precisions and layers are chosen, the batch sizes what engines are built for.
        sections=("engine", "validate.task", "validate.budget", "benchmark.batch_sizes"),
        places=("data",),
        hardware=True,
        help="Build a TensorRT engine for each precision.",
    ),
    Stage(
        name="validate",
        entry="pipeline.stages.validate:run",
        needs=_RUNNERS,
        # Runners are judged as the benchmark runs them: with its threads, at its batch sizes.
        sections=("model", "validate", "benchmark.threads", "benchmark.batch_sizes"),
        places=("data", "model.trial_s"),
        hardware=True,
        help="Compare every runner's outputs and accuracy with the original model's.",
    ),
    Stage(
        name="benchmark",
        entry="pipeline.stages.benchmark:run",
        needs=(*_RUNNERS, "validate/"),
        sections=("model", "benchmark"),
        places=("data", "model.trial_s"),
        hardware=True,
        help="Time every runner against the original model, and recommend the fastest that passed.",
    ),
    Stage(
        name="report",
        entry="pipeline.stages.report:run",
        needs=(*_RUNNERS, "validate/", "benchmark/"),
        sections=("report",),
        hardware=False,
        help="Write the report: what ran where, how accurately and how fast.",
        optional=("benchmark",),  # a model that failed validation is not timed, but gets a report
    ),
    Stage(
        name="localise",
        entry="pipeline.stages.localise:run",
        needs=("train/", "export/model.onnx"),
        sections=("engine", "validate.task", "validate.budget", "localise"),
        places=("data",),
        hardware=False,
        help="Find the layers at which a precision loses accuracy.",
        on_demand=True,
    ),
    Stage(
        name="loadgen",
        entry="pipeline.stages.loadgen:run",
        needs=(*_RUNNERS, "validate/", "benchmark/"),
        sections=("model", "benchmark", "loadgen"),
        places=("data", "model.trial_s"),
        hardware=True,
        help="Run a scenario of MLPerf LoadGen.",
        optional=("benchmark",),  # its recommendation is followed where there is one
        on_demand=True,
    ),
    Stage(
        name="deploy",
        entry="pipeline.stages.deploy:run",
        needs=(*_RUNNERS, "validate/", "benchmark/"),
        sections=("deploy",),
        # Who is trusted decides no more than whether older versions stay; the data tell which number is a white pixel.
        places=("data", "deploy.trusted_keys"),
        hardware=False,
        help="Put the recommended runner into a bundle to serve, and sign it.",
        on_demand=True,
    ),
)

STAGES = {stage.name: stage for stage in _ALL if not stage.on_demand}
"""The main line, in its order: what `make all` runs."""

ON_DEMAND = {stage.name: stage for stage in _ALL if stage.on_demand}
"""Beside the main line: `localise`, `deploy`, and `loadgen` as `benchmark --scenario`."""

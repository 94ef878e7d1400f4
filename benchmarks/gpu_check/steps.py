"""What is checked, in this order, so that what matters most is done before the time is over."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.environment import Gpu

Where = Literal["anywhere", "gpu", "rehearsal"]
"""Where a step makes sense: on any machine; with a GPU; with a GPU, or to try the check itself on a CPU."""

PRECISIONS = "fp32,tf32,fp16,bf16,int8,fp8"

RUNNERS = (
    ("onnxruntime", "cuda"),
    ("tensorrt", "tensorrt"),
    ("tensorrt", "tensorrt-rtx"),
    ("onnxruntime_rtx", "cuda"),
)
"""Every backend and variant that runs what was exported on a GPU."""

SEEDS = 3
"""Trainings of each kind: the first before anything that may be left out, the others while there is time."""

SHORT = (
    *("data.name=digits", "benchmark.batch_sizes=1,16", "benchmark.seconds=0.05", "benchmark.warmup_s=0.01"),
    *("benchmark.min_samples=6", "benchmark.rounds=3", "engine.tune=false"),
)
"""For a rehearsal: too brief for meaningful numbers."""


@dataclass(frozen=True)
class Step:
    """One step: `command` is given to this Python, in a process that may take `limit_s`.

    `found` is the file, below the check's folder, in which it writes down what it finds. `reads` are files that steps
    before it leave. `sees_gpu` is the library that must see the GPU where there is one.
    """

    name: str
    what: str
    command: tuple[str, ...]
    limit_s: float
    where: Where = "gpu"
    reads: tuple[str, ...] = ()
    sees_gpu: str = ""
    variables: dict[str, str] = field(default_factory=dict)
    found: str = ""


class Training(NamedTuple):
    """One way to train the article's network on MNIST: by Keras on `keras`, in `policy`, by `recipe`.

    Without a recipe it is the article's script. `limit` is the precision of its products on a GPU, whose rate is the
    limit: TensorFlow and XLA do those of FP32 in TF32 by themselves.
    """

    name: str
    what: str
    keras: str
    policy: str
    recipe: str
    limit: str
    where: Where


def trainings(gpus: tuple[Gpu, ...]) -> tuple[Training, ...]:
    """Return every way to train that is compared; 16 bits of the kind that this GPU has tensor cores for."""
    bfloat16 = not gpus or tuple(map(int, gpus[0].compute_capability.split("."))) >= (8, 0)
    mixed, narrow = ("mixed_bfloat16", "bf16") if bfloat16 else ("mixed_float16", "fp16")
    wide = "tf32" if gpus and bfloat16 else "fp32"
    tensorflow, jax, fp32 = "tensorflow", "jax", "float32"
    return (
        Training("script-tensorflow", "the article's script", tensorflow, fp32, "", wide, "rehearsal"),
        Training("script-jax", "the article's script", jax, fp32, "", wide, "gpu"),
        Training("article-float32", "ours, recipe article", tensorflow, fp32, "article", wide, "gpu"),
        Training("article-mixed", "ours, recipe article", tensorflow, mixed, "article", narrow, "gpu"),
        Training("fast-float32", "ours, recipe fast", tensorflow, fp32, "fast", wide, "rehearsal"),
        Training("fast-mixed", "ours, recipe fast", tensorflow, mixed, "fast", narrow, "gpu"),
    )


def steps(output: Path, gpus: tuple[Gpu, ...], *, rehearsal: bool) -> Iterator[Step]:
    """Yield the steps of a check whose folder is `output`."""
    yield Step("doctor", "what this machine has", ("-m", "pipeline", "doctor"), 120, "anywhere")
    yield _own(output, "device", "pipeline.cuda: copies, a captured graph, the clock", 60)
    required = {"REQUIRE_GPU": "1"}  # to skip a test for want of a GPU is a failure
    yield replace(_own(output, "tests", "the tests marked gpu", 300, module="gpu_tests"), variables=required)
    for backend, variant in RUNNERS:
        where: Where = "anywhere" if variant == "tensorrt-rtx" else "gpu"  # it builds engines without a GPU
        title = f"every precision by {backend} {variant}"
        yield _own(output, f"{backend}-{variant}", title, 240, where, "precisions", (backend, variant))
    yield _own(output, "limits", "the machine's peaks", 120, "rehearsal", arguments=("0.5" if rehearsal else "4",))
    yield from _pipeline(output, gpus, rehearsal)
    names = tuple(f"{backend} {variant}" for backend, variant in RUNNERS)
    timings = _own(output, "timings", "the small network, timed in both modes", 300, arguments=names)
    data = ("-m", "benchmarks.gpu_check.step", "mnist", str(output / "mnist.npz"))
    yield Step("data", "MNIST, for the trainings", data, 60, "rehearsal")
    for seed in range(1 if rehearsal else SEEDS):
        for training in trainings(gpus):
            yield _training(output, training, seed, epochs=1 if rehearsal else 5)
        if seed == 0:
            yield timings


def _own(
    output: Path,
    name: str,
    what: str,
    limit_s: float,
    where: Where = "gpu",
    module: str = "",
    arguments: tuple[str, ...] = (),
) -> Step:
    """Return a step of a module of this package."""
    found = f"found/{name}.json"
    command = ("-m", "benchmarks.gpu_check.step", module or name, str(output / found), *arguments)
    return Step(name, what, command, limit_s, where, found=found)


def _pipeline(output: Path, gpus: tuple[Gpu, ...], rehearsal: bool) -> Iterator[Step]:
    """Yield every stage, in all precisions; timed even where validation failed, since the numbers say why."""
    own = (f"artifacts={output / 'run'}", f"engine.precisions={PRECISIONS}", "data.download_timeout_s=20")
    options = (*own, *(SHORT if rehearsal else ("benchmark.allow_failed=true",)))
    limits = {"train": 180, "export": 120, "engine": 420, "validate": 240, "benchmark": 420, "report": 90}
    before = ""
    for stage, limit_s in limits.items():
        reads = (f"run/{before}/manifest.json",) if before else ()
        before = stage if stage != "benchmark" else before  # a model that failed, and was not timed, has a report too
        yield Step(stage, f"the pipeline's stage {stage}", _stage(stage, options), limit_s, "rehearsal", reads)


def _training(output: Path, training: Training, seed: int, epochs: int) -> Step:
    name = f"{training.name}-{seed}"
    what = f"{training.what}, {training.policy}, Keras on {training.keras}, seed {seed}"
    variables: dict[str, str] = {}
    if training.recipe:
        found = f"trainings/{name}/train/history.json"
        options = (
            f"artifacts={output / 'trainings' / name}",
            f"train.recipe={training.recipe}",
            f"train.precision={training.policy}",
            f"train.seed={seed}",
        )
        command = _stage("train", ("data.name=mnist", *options))
    else:
        found, variables = f"found/{name}.json", {"KERAS_BACKEND": training.keras}
        script = ("-m", "benchmarks.training.article")
        command = (*script, str(output / "mnist.npz"), str(seed), str(epochs), str(output / found))
    return Step(name, what, command, 150, training.where, ("mnist.npz",), training.keras, variables, found)


def _stage(name: str, options: tuple[str, ...]) -> tuple[str, ...]:
    return ("-m", "pipeline", name, *(f"--set={option}" for option in options))

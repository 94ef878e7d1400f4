"""The one configuration: typed, from defaults, a TOML file and `--set section.key=value`, in that order.

`python -m pipeline config` prints it with every key's meaning.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from pipeline import registry, user_code
from pipeline.config.deploying import Deploy, Score, Serve
from pipeline.config.section import (
    LARGEST,
    YEAR_S,
    BatchSizes,
    Count,
    Devices,
    Names,
    Seconds,
    Section,
    Seed,
    Threads,
    from_commas,
)

AUTO: Final = "auto"
ARTICLE_CNN = "article-cnn"
PRECISIONS = registry.names("pipeline.precisions")
TASKS = registry.names("pipeline.tasks")


class Data(Section):
    """Which samples: what goes into the model, what should come out, and how they are split."""

    name: Literal["auto", "mnist", "digits"] = Field(
        "auto", description="auto: MNIST if it is available, else the embedded digits, with a warning"
    )
    source: str = Field(
        "",
        description="your own data: an .npz file, a folder of images or IDX files, package.module:function; or random: "
        "no data, for export, build and timing only (docs/own-models.md)",
    )
    random_below: Count = Field(2, description="random integer inputs are below this (uint8: below 256)")
    random_axis: Count = Field(32, description="size of a dynamic axis of random inputs")
    dir: Path | None = Field(
        None, description="folder with MNIST's four IDX files, gzip or not; unset: the variable PIPELINE_DATA_DIR"
    )
    download_timeout_s: Seconds = Field(60.0, description="seconds for the whole download of MNIST")

    @model_validator(mode="after")
    def _one_source(self) -> "Data":
        if self.source and self.name != "auto":
            raise ValueError(f"set data.name ({self.name!r}) or data.source ({self.source!r}), not both")
        if self.source in ("auto", "mnist", "digits"):
            raise ValueError(f"data.source {self.source!r}: set data.name, or write ./{self.source} for a folder")
        return self


class Model(Section):
    """Which network."""

    source: str = Field(
        ARTICLE_CNN,
        min_length=1,
        description=f"{ARTICLE_CNN}; a .keras, .h5 or .onnx file; a SavedModel folder; or package.module:function that "
        "returns a model "
        "(docs/own-models.md)",
    )
    inputs: dict[str, str] = Field(
        {}, description='type and shape of each input, where the model does not tell: image = "uint8[?, 28, 28, 1]"'
    )
    signature: str = Field(
        "", description="which of a SavedModel's signatures; unset: serving_default, or the only one"
    )
    trust: bool = Field(False, description="whether a SavedModel, which is a program, may be run")
    imports: Names = Field((), description="modules that register the model's own layers, as package.module")
    trial_s: Seconds = Field(
        300.0, description="for how long a file may take to load and run a sample, in a process of its own"
    )

    @property
    def modules(self) -> tuple[str, ...]:
        """The modules that register the model's own layers: `imports`, and that of its function."""
        module, colon, _ = self.source.partition(":")
        return (*self.imports, module) if colon and self.kind == "function" else self.imports

    @property
    def kind(self) -> Literal["function", "keras", "saved_model", "onnx"]:
        """What `source` is: a function, or which kind of file. A legacy `.h5` file is a `keras` one."""
        if self.source == ARTICLE_CNN or user_code.is_import_path(self.source):
            return "function"
        path = Path(self.source)
        if path.is_dir():
            return "saved_model"
        return "onnx" if path.suffix == ".onnx" else "keras"


Auto = Literal["auto"]


class Train(Section):
    """How it is trained."""

    recipe: Literal["fast", "article"] = Field(
        "fast",
        description="what batch, rate, schedule and epochs are where they are auto; fast: the article's accuracy in "
        "the least time, on the article's network; article: as in its script",
    )
    epochs: Auto | Annotated[int, Field(ge=0, le=LARGEST)] = Field(
        "auto",
        description="auto: the recipe's, more on a small data set; 0, adopted as it is, for a model from a file",
    )
    batch_size: Auto | Count = Field("auto", description="auto: the recipe's")
    learning_rate: Auto | Annotated[float, Field(gt=0)] = Field(
        "auto", description="of Adam, at its highest; auto: the recipe's; a model that comes compiled keeps its own"
    )
    schedule: Literal["auto", "constant", "cosine", "one_cycle"] = Field(
        "auto",
        description="cosine: the learning rate falls to 0; one_cycle: it rises first; auto: the recipe's",
    )
    devices: Devices = Field(
        (AUTO,), min_length=1, description="auto: the first GPU, or the CPU; all: every GPU; or their numbers, as 0,1"
    )
    hosts: Literal["auto", "one", "all"] = Field(
        "auto",
        description="all: train with all processes that JAX finds, as in a Kubernetes job; auto: where mpirun or srun "
        "started several",
    )
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = Field(
        "float32",
        description="Keras's types of the arithmetic of a model that a function makes; auto: mixed where a GPU has "
        "tensor cores, else float32; what is published is in FP32",
    )
    early_stopping: int | None = Field(
        None,
        ge=0,
        le=LARGEST,
        description="epochs without a lower validation loss to go on for; the best epoch is taken; unset: off",
    )
    checkpoint_steps: Count = Field(
        500, description="steps between checkpoints within an epoch; each epoch ends with one"
    )
    tensorboard: bool = Field(False, description="write TensorBoard's logs; make tensorboard shows them")
    callbacks: str = Field(
        "", description="package.module:function that returns Keras callbacks, as of Weights & Biases or MLflow"
    )
    seed: Seed = 0


class Export(Section):
    """How the trained model is exported."""

    opset: int = Field(18, ge=13, le=18, description="ONNX operator set; 18 is tf2onnx's highest")
    exporter: Literal["auto", "tf2onnx", "pytorch"] = Field(
        "auto",
        description="what writes the ONNX model; auto: tf2onnx, and where that fails or differs from the original, "
        "pytorch, if it is set up (make pytorch-exporter)",
    )


Feature = Literal["refit", "strip", "version-compatible", "ampere-plus", "same-compute-capability"]


class Engine(Section):
    """Which engines are built, and for what."""

    precisions: Names = Field(
        ("fp32", "tf32", "fp16"),
        min_length=1,
        description=f"of {', '.join(PRECISIONS)}; auto: build all, choose the best within the budget",
    )
    keep_fp32: Names = Field(
        (), description="Keras layers to keep in FP32; auto: find those that a precision outside its budget needs"
    )
    remainder: Literal["fp16", "bf16", "fp32"] = Field(
        "fp16", description="in what int8 and fp8 compute all that is not quantised"
    )
    placement: Literal["tensorrt", "all"] = Field(
        "tensorrt",
        description="which products int8 and fp8 quantise; tensorrt: those that TensorRT runs faster in 8 bits",
    )
    calibration_samples: Count = Field(512, description="training samples to find the ranges of int8 and fp8 with")
    calibration_seed: Seed = 0
    flavour: Literal["auto", "tensorrt", "tensorrt-rtx"] = Field(
        "auto", description="auto: tensorrt if its library and a GPU are present, else tensorrt-rtx"
    )
    targets: Names = Field((), description="GPU generations for tensorrt-rtx, such as sm86, sm89; empty: its default")
    profiles: Auto | tuple[tuple[int, int, int], ...] = Field(
        "auto",
        description="smallest, best and largest batch of each optimization profile, as [[1, 1, 1], [2, 64, 256]]; a "
        "batch runs in the narrowest that it fits; auto: one for each of benchmark.batch_sizes",
    )
    ranges: dict[str, dict[int, tuple[int, int, int]]] = Field(
        {},
        description="smallest, best and largest size of each dynamic axis but the batch, by input and axis, as "
        "text.1 = [1, 64, 512]; unset: the size that the data has",
    )
    workspace_mib: Count | None = Field(None, description="limit of the builder's workspace; unset: TensorRT's own")
    optimization_level: int | None = Field(None, ge=0, le=5, description="builder effort; unset: TensorRT's own")
    features: Annotated[tuple[Feature, ...], BeforeValidator(from_commas)] = Field(
        (),
        description=f"what engines allow beside, each at a price (docs/usage.md): {', '.join(get_args(Feature))}",
    )
    tune: bool = Field(True, description="measure which threads and chunks run each graph fastest here")

    @field_validator("precisions")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names == (AUTO,):
            return names
        for name in names:
            if name not in PRECISIONS:
                raise ValueError(f"unknown precision {name!r}; choose from {', '.join(PRECISIONS)}, or auto alone")
        return tuple(dict.fromkeys(names))

    @model_validator(mode="before")
    @classmethod
    def _no_single_profile(cls, values: Any) -> Any:
        """Name the key that took the place of three, with their values in it."""
        before = {"batch_min": 1, "batch_opt": 64, "batch_max": 1024}
        if isinstance(values, dict) and (found := [key for key in before if key in values]):
            one = [values.get(key, default) for key, default in before.items()]
            raise ValueError(
                f"{', '.join(found)}: replaced by engine.profiles: set it to {[one]} for one profile, or leave it out "
                "for one for each of benchmark.batch_sizes"
            )
        return values

    @field_validator("profiles", mode="before")
    @classmethod
    def _threes(cls, value: Any) -> Any:
        every = value if isinstance(value, list | tuple) and value else [value]
        if value != AUTO and not all(
            isinstance(one, list | tuple) and len(one) == 3 and all(type(size) is int for size in one) for one in every
        ):
            raise ValueError("must be auto or a list of [smallest, best, largest], as [[1, 1, 1], [2, 64, 256]]")
        return value

    @field_validator("profiles")
    @classmethod
    def _joined(cls, value: str | tuple[tuple[int, int, int], ...]) -> str | tuple[tuple[int, int, int], ...]:
        end = None
        for smallest, best, largest in () if isinstance(value, str) else sorted(value):
            if not 1 <= smallest <= best <= largest <= LARGEST:
                raise ValueError(f"{[smallest, best, largest]} must be 1 ≤ smallest ≤ best ≤ largest ≤ {LARGEST}")
            if end is not None and smallest > end + 1:
                raise ValueError(f"no profile takes batches of {end + 1} to {smallest - 1}: close the gap")
            end = max(end or 0, largest)
        return value

    @field_validator("keep_fp32")
    @classmethod
    def _auto_alone(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if AUTO in names and len(names) > 1:
            raise ValueError("name layers, or auto alone")
        return names

    @property
    def judges(self) -> bool:
        """Whether the engine stage itself has to judge accuracy."""
        return AUTO in (*self.precisions, *self.keep_fp32)

    @model_validator(mode="after")
    def _ordered(self) -> "Engine":
        for name, axes in self.ranges.items():
            for axis, (smallest, best, largest) in axes.items():
                if not 1 <= smallest <= best <= largest <= LARGEST:
                    raise ValueError(f"ranges.{name}.{axis} must be 1 ≤ smallest ≤ best ≤ largest ≤ {LARGEST}")
        return self


class Validate(Section):
    """When a runner counts as equal to the original model."""

    task: str | dict[str, str] = Field(
        AUTO,
        description=f"{', '.join(TASKS)}, or package.module:function that scores samples; auto: by what outputs and "
        "targets are; or by output",
    )
    budget: Literal["auto"] | Annotated[float, Field(ge=0)] | dict[str, Annotated[float, Field(ge=0)]] = Field(
        "auto",
        description="what may be lost, in the metric's unit (docs/accuracy.md); auto: the task's own, half a point of "
        "accuracy; or by output",
    )
    batch_size: Count = Field(256, description="samples per inference")
    batch_sizes: BatchSizes = Field((1, 7, 64), description="a sample's result must not depend on these")

    @field_validator("task")
    @classmethod
    def _known(cls, task: str | dict[str, str]) -> str | dict[str, str]:
        for name in [task] if isinstance(task, str) else task.values():
            if name not in (AUTO, *TASKS) and not user_code.is_import_path(name):
                raise ValueError(f"unknown task {name!r}; choose from {', '.join(TASKS)}, or package.module:function")
        return task


class Benchmark(Section):
    """What is timed, and for how long."""

    batch_sizes: BatchSizes = Field((1, 64, 1024))
    seconds: Seconds | None = Field(
        None, description="for each cell, over all rounds (unset: 0.6); for a LoadGen run (unset: MLPerf's 600)"
    )
    min_samples: Count = Field(30, description="samples per cell, over all rounds, however long they take")
    rounds: int = Field(
        10,
        ge=2,
        le=LARGEST,
        description="how often every cell is timed in turn: drift affects all alike, and intervals show it",
    )
    warmup_s: float = Field(
        2.0, ge=0, le=YEAR_S, description="seconds of warm-up for a cell at most; it ends once stable"
    )
    patience_s: Seconds = Field(
        600.0, description="a process silent for so long beyond its time is ended, and its cell fails"
    )
    threads: Threads | None = Field(None, description="CPU threads, for every runner; unset: one for each core")
    allow_failed: bool = Field(False, description="time a model that failed validation")

    @property
    def cell_seconds(self) -> float:
        """Seconds of samples per cell, over all rounds."""
        return 0.6 if self.seconds is None else self.seconds


class Loadgen(Section):
    """A scenario of MLPerf LoadGen (`python -m pipeline benchmark --scenario …`)."""

    scenario: Literal["singlestream", "multistream", "server", "offline"] = "singlestream"
    mode: Literal["performance", "accuracy"] = "performance"
    backend: str = Field("auto", description="what runs the model; auto: the benchmark's recommendation")
    precision: str = Field("fp32", description="of the typed graph or engine; auto: the recommended one")
    server_qps: float | None = Field(
        None, gt=0, description="queries per second of `server`; unset: half of what the model can answer"
    )
    server_latency_ms: float = Field(15.0, gt=0, description="the bound that 99 % of `server`'s queries must keep")


class Localise(Section):
    """Where a precision loses accuracy (`python -m pipeline localise`)."""

    precision: str = Field("fp16", description="the precision to examine")
    samples: Count = Field(
        5000, description="validation samples to use at most; few prove little: half a point needs 764"
    )

    @field_validator("precision")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PRECISIONS:
            raise ValueError(f"unknown precision {name!r}; choose from {', '.join(PRECISIONS)}")
        return name


class Report(Section):
    """What the report shows."""

    compare: Annotated[tuple[Path, ...], BeforeValidator(from_commas)] = Field(
        (), description="folders of other runs, shown beside this one (`report --compare RUN…`)"
    )


class Config(Section):
    """Everything that can be set."""

    artifacts: Path = Field(Path("artifacts"), description="where stages publish")
    data: Data = Data()
    model: Model = Model()
    train: Train = Train()
    export: Export = Export()
    engine: Engine = Engine()
    validate_: Validate = Field(Validate(), alias="validate")
    benchmark: Benchmark = Benchmark()
    loadgen: Loadgen = Loadgen()
    localise: Localise = Localise()
    report: Report = Report()
    deploy: Deploy = Deploy()
    serve: Serve = Serve()
    score: Score = Score()

    @field_validator("artifacts", mode="before")
    @classmethod
    def _names_a_folder(cls, value: Any) -> Any:
        """Refuse what would be the working directory without a word, and what no file system can name."""
        if isinstance(value, str) and (not value.strip() or "\0" in value):
            raise ValueError("must name a folder; . is the working directory")
        return value

    def section(self, name: str) -> dict[str, Any]:
        """Return one section as plain data, for manifests."""
        return dict(self.model_dump(mode="json", by_alias=True)[name])


def sections() -> Iterator[tuple[str, type[Section]]]:
    """Yield the name and the class of every section."""
    for field, info in Config.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            yield info.alias or field, info.annotation

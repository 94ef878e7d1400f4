"""What the engine stage made of one precision: the engine record, its layers, how its graph is run best."""

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from pipeline.artifacts.manifest import FileRecord
from pipeline.artifacts.parity import Comparison
from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.runner import Step
from pipeline.environment import Gpu


class GraphArithmetic(Record):
    """In which types a graph computes."""

    nodes: int
    compute_nodes: dict[str, int]
    """How many multiply-accumulating nodes compute in which type: Conv, ConvTranspose, Einsum, Gemm, GRU, LSTM, MatMul
    and RNN, those inside a Loop, Scan or If too."""
    mac_share: dict[str, float] | None
    """The share of multiply-accumulates of each type; null where a dimension other than the batch is dynamic, or a
    product is inside a Loop, Scan or If."""
    nodes_by_type: dict[str, int]
    """How many nodes have results of which floating-point type, but for those that only convert, and those inside a
    Loop, Scan or If. A quantised product counts by what it hands on."""
    bytes_by_type: dict[str, int] | None
    """How many bytes of each type the nodes read and write for one sample, a quantised operand by its stored numbers;
    null where a dimension other than the batch is dynamic, or a node is inside a Loop, Scan or If."""
    casts: int
    quantize: int
    dequantize: int


class ActivationRange(Record):
    """What an activation showed on the calibration samples, and the largest magnitude represented."""

    lowest: float
    highest: float
    amax: float


class CalibrationRecord(Record):
    """By which samples and which method the ranges of activations were found."""

    method: str
    validation_error: dict[str, float]
    """Of every method tried: mean squared difference over the reference's mean square, on the validation split."""
    seed: int
    samples: int
    samples_sha256: str
    sample_sha256: tuple[str, ...]
    strata: dict[str, int]
    """How many samples of each group over which they were drawn evenly: a class, a range of the target."""
    activations: dict[str, ActivationRange]
    bias_error: float | None = None
    """The error, as above, with the biases corrected by what quantising shifts each channel; null: not tried."""
    biases_corrected: tuple[str, ...] = ()
    """Products whose biases were corrected: none where that did not lower the error."""


class LayerSummary(Record):
    """What an engine's own list of layers says."""

    types: dict[str, int]
    """Layers by the type they compute in."""
    fused: int
    converting: int


class BatchProfile(Record):
    """An optimization profile: the smallest, the best and the largest batch that its kernels were chosen for."""

    min: int
    opt: int
    max: int
    layers: LayerSummary | None = None
    """What the engine's inspector says of it, where it could be loaded; else the graph is the proof there is."""


class TimingCacheUse(Record):
    """What TensorRT had measured of kernels before this build; it has more after it."""

    file: str
    """In the folder `.timing-cache` beside the stages'; it is for one GPU model, driver and version of TensorRT."""
    bytes_before: int
    """0: a new one was begun."""


class EngineRecord(Artifact):
    """One precision: its typed graph, its engine, and what is known of both."""

    PATH: ClassVar[str] = "engine/*/engine.json"

    schema_: Literal[5] = Field(5, alias="schema")
    precision: str
    status: Literal["built", "failed", "skipped"]
    """`failed`: the command exits with 5. `skipped`: no TensorRT on this machine."""
    reason: str = ""
    """The parser's or builder's own words."""
    messages: tuple[str, ...] = ()
    """Warnings of a build that worked."""
    flavour: str | None
    """`tensorrt` or `tensorrt-rtx`."""
    version: str | None
    targets: tuple[str, ...]
    """GPU generations it was built for; empty: the flavour's default."""
    gpu: tuple[Gpu, ...]
    """GPUs of the building machine."""
    allow_tf32: bool
    profiles: tuple[BatchProfile, ...]
    """A batch runs in the narrowest that takes it."""
    ranges: dict[str, dict[int, tuple[int, int, int]]] = Field(default_factory=dict)
    """Smallest, best and largest size of each other dynamic axis, by input and axis, the same in every profile."""
    arithmetic: GraphArithmetic | None = None
    """As found in the typed graph; null where there is none."""
    remainder: Literal["fp16", "bf16", "fp32"] | None = None
    """In what an 8-bit graph computes all that is not quantised; null for the others."""
    placement: Literal["tensorrt", "all"] | None = None
    """Whether those products of an 8-bit graph are left out that TensorRT runs no faster in 8 bits."""
    nothing_pays: bool = False
    """Whether that would have left nothing to quantise: then every product is, and hardly to any use."""
    left: dict[str, int] = Field(default_factory=dict)
    """Products that the precision does not reach, by operator, as `MatMul inside a Loop`; they are in FP32."""
    left_out: dict[str, str] = Field(default_factory=dict)
    """Products that are not quantised, and why."""
    in_fp32: dict[str, str] = Field(default_factory=dict)
    """Nodes that compute in FP32 where the graph's others compute in 16 or 8 bits, and why."""
    mean_bits: float
    """Bits of an operand, averaged over the multiply-accumulates (TF32: 19)."""
    keep_fp32: tuple[str, ...] = ()
    """Keras layers kept in FP32."""
    calibration: CalibrationRecord | None = None
    comparison: Comparison | None = None
    """Against FP32 on the validation split, where this stage had to choose."""
    onnx: FileRecord | None = None
    cpu: FileRecord | None = None
    """The same products with the rest in FP32, for a CPU, which has no 16-bit arithmetic; null where `onnx` is that."""
    onnx_data: FileRecord | None = None
    """The file beside the graph that holds its weights, where they are large; the graph has its digest, too."""
    engine: FileRecord | None = None
    build_seconds: float | None = None
    """With the start of the builder's process."""
    build_phases: dict[str, float] = Field(default_factory=dict)
    """Seconds of the builder's longest phases, by its own names; a phase's are part of those of the phase around it."""
    features: tuple[str, ...] = ()
    """What the engine was asked to allow: `engine.features`."""
    features_taken: tuple[str, ...] = ()
    """TensorRT's names for what it was built with of that, read back from its configuration."""
    timing_cache: TimingCacheUse | None = None
    """null: TensorRT for RTX has none, or the GPU and its driver could not be told."""
    runs_here: bool = False
    runs_here_reason: str = ""


class EngineLayer(Record):
    """One layer of an engine, in one of its profiles."""

    profile: int
    """Which of the engine record's `profiles`, from 0."""
    name: str
    kind: str
    reads: str
    """Type of its first input, by ONNX's name; empty where the inspector does not say."""
    writes: str
    """Type of its first output."""
    details: dict[str, JsonValue]
    """All that TensorRT's inspector says of it."""


class EngineLayers(Artifact):
    """An engine's layers as TensorRT's inspector lists them, where the engine could be loaded."""

    PATH: ClassVar[str] = "engine/*/layers.json"

    schema_: Literal[3] = Field(3, alias="schema")
    layers: tuple[EngineLayer, ...]


class TriedWay(Record):
    """One way of running a batch that was tried."""

    threads: int | None
    chunk: int | None
    streams: int
    taken: bool
    us: float
    """The shortest call of a first try."""
    rounds_us: tuple[float, ...]
    """Of the finalists: the shortest call in each of the interleaved rounds."""


class TunedBatch(Record):
    """What was measured at one batch size, the library's own way first."""

    batch: int
    ways: tuple[TriedWay, ...]


class TunedRunner(Record):
    """How one backend runs the graph, or the engine made of it, fastest here."""

    backend: str
    variant: str
    versions: dict[str, str]
    """Of the backend's packages: with others the record is not followed."""
    steps: tuple[Step, ...]
    measured: tuple[TunedBatch, ...]


class TunedMachine(Record):
    """The machine that a tuning record is true of."""

    cpu: str
    cores: int
    gpus: tuple[str, ...]


class TuningRecord(Artifact):
    """How this machine runs the precision's graph fastest; left aside on another machine, graph or version."""

    PATH: ClassVar[str] = "engine/*/tuning.json"

    schema_: Literal[2] = Field(2, alias="schema")
    machine: TunedMachine
    onnx_sha256: str
    runners: tuple[TunedRunner, ...]

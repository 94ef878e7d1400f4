"""What the engine stage made of one precision: the engine record, its layers, how its graph is run best."""

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from pipeline.artifacts.manifest import FileRecord
from pipeline.artifacts.parity import Comparison
from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.runner import Step
from pipeline.environment import Gpu


class BatchProfile(Record):
    """The smallest, the best and the largest batch of an engine."""

    min: int
    opt: int
    max: int


class GraphArithmetic(Record):
    """In which types a graph computes."""

    nodes: int
    compute_nodes: dict[str, int]
    """How many multiply-accumulating nodes compute in which type: Conv, ConvTranspose, Einsum, Gemm, GRU, LSTM, MatMul
    and RNN, those inside a Loop, Scan or If too."""
    mac_share: dict[str, float] | None
    """The share of multiply-accumulates of each type; null where a dimension other than the batch is dynamic, or a
    product is inside a Loop, Scan or If."""
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


class LayerSummary(Record):
    """What an engine's own list of layers says."""

    types: dict[str, int]
    """Layers by the type they compute in."""
    fused: int
    converting: int


class EngineRecord(Artifact):
    """One precision: its typed graph, its engine, and what is known of both."""

    PATH: ClassVar[str] = "engine/*/engine.json"

    schema_: Literal[4] = Field(4, alias="schema")
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
    profile: BatchProfile
    ranges: dict[str, dict[int, tuple[int, int, int]]] = Field(default_factory=dict)
    """Smallest, best and largest size of each other dynamic axis, by input and axis."""
    arithmetic: GraphArithmetic | None = None
    left_in_fp32: dict[str, int] = Field(default_factory=dict)
    """Products that the precision does not reach, by operator, as `MatMul inside a Loop`."""
    """As found in the typed graph; null where there is none."""
    mean_bits: float
    """Bits of an operand, averaged over the multiply-accumulates (TF32: 19)."""
    keep_fp32: tuple[str, ...] = ()
    """Keras layers kept in FP32."""
    calibration: CalibrationRecord | None = None
    comparison: Comparison | None = None
    """Against FP32 on the validation split, where this stage had to choose."""
    onnx: FileRecord | None = None
    onnx_data: FileRecord | None = None
    """The file beside the graph that holds its weights, where they are large; the graph has its digest, too."""
    engine: FileRecord | None = None
    build_seconds: float | None = None
    runs_here: bool = False
    runs_here_reason: str = ""
    layers: LayerSummary | None = None
    """What the engine's inspector says, where it could be loaded; else the graph is the proof there is."""


class EngineLayer(Record):
    """One layer of an engine."""

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

    schema_: Literal[2] = Field(2, alias="schema")
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

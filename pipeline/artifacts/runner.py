"""One way to run a published model, as artifacts record it: the same record in every file that speaks of it."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.artifacts.record import Record

MOST_STREAMS = 64
"""Each has memory of its own; the engine stage tries up to three."""

Threads = Annotated[int, Field(ge=1, le=8192)]
"""As many processors as Linux knows at most: a library that is asked for a million threads hangs."""

Role = Literal["original", "exact", "exported", "harness"]


class Step(Record):
    """How batches of `batch` samples and more are run, as the engine stage measured it to be fastest."""

    batch: int = Field(ge=1)
    threads: Threads | None = None
    """Threads of one operator; null: the library's choice."""
    chunk: int | None = Field(None, ge=1)
    """Samples fed at a time; null: all."""
    streams: int = Field(1, ge=1, le=MOST_STREAMS)
    """CUDA streams that the chunks go over."""


class RunnerOptions(Record):
    """With what a model is loaded: two runners with other options are two runners."""

    allow_tf32: bool = False
    """Whether FP32 matrix products may run in TF32 on a GPU."""
    exact: bool = False
    """Whether everything that may change the arithmetic, as graph optimizations, is off."""
    threads: Threads | None = None
    """CPU threads; null: the library's choice."""
    steps: tuple[Step, ...] = ()
    """How batches are run, by their size; empty: as the library does by itself."""


class BatchRange(Record):
    """The smallest and the largest batch that a model takes."""

    smallest: int
    largest: int


class RunnerRecord(Record):
    """One way to run a published model: what is loaded, by what, in which precision, with which options."""

    name: str
    """Unique in a run: `onnxruntime cpu fp16`; of the exact runs `keras`, `saved_model`, `onnx`, `typed fp16`."""
    role: Role
    """`original`: the Keras model. `exported`: what is timed and served. `exact`: a step between the two, without
    optimizations, that shows where accuracy goes. `harness`: does nothing, to time the harness itself."""
    backend: str
    variant: str
    precision: str
    file: str
    """The published file that is loaded, `<stage>/<file>`."""
    sha256: str | None
    """Its digest; null for a folder."""
    options: RunnerOptions
    emulated: bool = False
    """Whether a CPU stands in for arithmetic that it lacks, by rounding in FP32."""
    batches: BatchRange | None = None
    """The batches it takes; null: any."""

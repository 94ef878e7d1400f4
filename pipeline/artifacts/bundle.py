"""What a bundle says of itself: what runs, how it was judged, what goes in and comes out; and its plan for Triton."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from pipeline.artifacts.manifest import FileRecord
from pipeline.artifacts.parity import JudgedOn
from pipeline.artifacts.recommendation import Goal
from pipeline.artifacts.record import Artifact, Record
from pipeline.artifacts.runner import RunnerRecord
from pipeline.artifacts.tensor import TensorRecord
from pipeline.environment import Machine
from pipeline.tensors import Signature


class BundleInput(TensorRecord):
    """An input, and what must have been done to what is put in."""

    kind: Literal["picture", "numbers"]
    """`picture`: grey (1 channel), RGB (3) or RGBA (4) pixels, brought to its height and width."""
    white: float | None
    """The number that stands for a white pixel, 255 or 1; null where it takes no picture."""
    words: str
    """The same for people."""


class BundleOutput(TensorRecord):
    """An output, and how it is to be read."""

    task: str
    """One of `tasks/`, or the import path of the user's own function, which is not in the bundle; empty: not known."""
    form: str
    """How the task reads it: `probabilities`, `logits`, `several probabilities`, …; empty: not known."""
    classes: tuple[str, ...]
    """Their names by number; empty where there are none."""
    words: str
    """The same for people."""


class Measured(Record):
    """What the benchmark measured of a runner at one batch size, host array to host array."""

    batch: int
    p50_us: float | None
    items_per_s: float


class BundledRunner(Record):
    """A runner that may answer."""

    name: str
    """The model that a client asks for to get it: the bundle's name for the recommended one, else with a suffix."""
    runner: RunnerRecord
    """With `file` in the bundle: `engine/…`, `export/saved_model`."""
    device: str | None
    """Where it ran when it was judged: `cpu`, `cuda:0`."""
    verdict: Literal["pass", "original"]
    """`original`: the model that the others are held against."""
    reason: str
    """Why it stands where it does, or what the verdict rests on."""
    measured: tuple[Measured, ...]
    """Empty where it was not timed."""


class BundleRecord(Artifact):
    """What a bundle holds and what of it runs: the recommended runner first, then those to take where that cannot."""

    PATH: ClassVar[str] = "deploy/bundle/bundle.json"
    REMEDY: ClassVar[str] = "Run `make deploy` with this version of the pipeline."

    schema_: Literal[1] = Field(1, alias="schema")
    name: str
    """The model that clients ask for."""
    version: int
    """One more than the bundle's before it, where the model that runs has changed."""
    created: datetime
    """When, UTC."""
    pipeline: str
    """The version of the package that made it."""
    machine: Machine
    """That of the benchmark."""
    versions: dict[str, str]
    """Python and the packages that could change a result there."""
    goal: Goal
    """What the recommendation is for."""
    judged_on: JudgedOn
    inputs: tuple[BundleInput, ...]
    outputs: tuple[BundleOutput, ...]
    batch_sizes: tuple[int, ...]
    """Those that were judged and timed."""
    runners: tuple[BundledRunner, ...]
    """In the order in which they are tried. All passed validation, but for the original model, the last."""
    files: dict[str, FileRecord]
    """Every other file of the bundle but the signature and the digest of this file."""

    @property
    def signature(self) -> Signature:
        """What the model takes and returns."""
        return Signature(tuple(one.spec for one in self.inputs), tuple(one.spec for one in self.outputs))

    @property
    def verified(self) -> tuple[BundledRunner, ...]:
        """The runners that passed validation, the recommended one first."""
        return tuple(one for one in self.runners if one.verdict == "pass")


class ContainerRecord(Record):
    """What a release of Triton's container carries, as its documentation says; null: it does not say."""

    release: str
    image: str
    tensorrt: str | None
    cuda: str | None
    onnxruntime: str | None


class PlanProfile(Record):
    """An optimization profile of a plan: the shapes of its inputs, by name."""

    min: dict[str, tuple[int, ...]]
    opt: dict[str, tuple[int, ...]]
    max: dict[str, tuple[int, ...]]


class PlanRecord(Artifact):
    """The TensorRT plan of a bundle's Triton repository: with what it is built, and what an existing one needs."""

    PATH: ClassVar[str] = "deploy/bundle/triton/tensorrt.json"
    REMEDY: ClassVar[str] = BundleRecord.REMEDY

    schema_: Literal[1] = Field(1, alias="schema")
    model: str
    version: int
    precision: str
    allow_tf32: bool
    """Whether FP32 products may run in TF32; `build_plan.sh` builds accordingly."""
    profiles: tuple[PlanProfile, ...]
    """Empty where every size is fixed."""
    container: ContainerRecord
    shipped: bool
    """Whether `model.plan` is in the repository: only an engine of TensorRT that passed validation is."""
    needs_tensorrt: str | None
    """The TensorRT, to the last digit, that the shipped plan was built with and needs; null: none is shipped."""
    built_on: tuple[str, ...]
    """The GPUs it was built on."""
    why: str
    """Why it is shipped or not, and whether it will load in the container, as far as is known."""

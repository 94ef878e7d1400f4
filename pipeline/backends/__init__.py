"""Backends: each runs models, one file each; the folder's listing is the registry.

A backend is a module that offers what `Backend` below says. It runs models and never times them: only the benchmark
stage owns the clock. It is imported without its library, so that all can be listed anywhere; where the library is
absent, `probe` and `load` say so. Adding a backend is adding a file here.
"""

import hashlib
import importlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, cast

from pipeline import environment, registry
from pipeline.artifacts.runner import Step
from pipeline.errors import ArtifactError, BackendUnavailable, ConfigError
from pipeline.graphs import files
from pipeline.graphs.files import Stored
from pipeline.tensors import DeviceKind, Feed, Outputs, TensorSpec

Artifact = Literal["keras", "saved_model", "onnx", "engine"]
"""What a model is published as."""

Role = Literal["original", "harness", "exported"]
"""What a backend is there for: running the original model, timing the harness itself, running what was exported."""

NAMES = registry.names(__name__)
SAME_VERSION = "Use the version of the pipeline that published it, or publish it again."
SET_UP = "Run `make setup`, then `make doctor`."


class Variant(NamedTuple):
    """One way in which a backend runs a model: what it takes, and where that runs."""

    consumes: Artifact
    device: DeviceKind


@dataclass(frozen=True)
class LoadOptions:
    """How a model is to be run.

    `variant` is a key of the backend's `VARIANTS`. `exact` forbids what may change the arithmetic, such as graph
    optimizations and the original model's TF32: accuracy is judged with it. `allow_tf32` lets a typed graph's FP32
    matrix products run in TF32 on a GPU. `sha256` is the digest the file must have; engines are refused without it,
    since an engine is executable content. `threads` are those of the CPU (None: the library's choice); one of the
    `steps`, by which batches of its size are run, that names its own wins. `spin` lets threads that have nothing to do
    wait busily where the library does so: fastest alone, and slowest where others need the cores, as in a server.
    `trust` lets a SavedModel run whose graph reaches beyond the model (`model.trust`).
    """

    variant: str
    allow_tf32: bool = False
    exact: bool = False
    sha256: str | None = None
    threads: int | None = None
    steps: tuple[Step, ...] = ()
    spin: bool = True
    trust: bool = False


def step_of(steps: Sequence[Step], batch: int) -> Step | None:
    """Return the step that a batch of this size is run by, of steps in any order; None below the first."""
    return max((step for step in steps if step.batch <= batch), key=lambda step: step.batch, default=None)


@dataclass(frozen=True)
class Bound:
    """A model whose inputs are resident on the device: `launch` starts one inference, `wait` waits for its end.

    `stream` is the handle of the CUDA stream it runs on, by which its time can be taken on the device itself; None on a
    CPU, and where the library does not say.
    """

    launch: Callable[[], None]
    wait: Callable[[], None]
    stream: int | None = None

    def __call__(self) -> None:
        """Infer once and wait for the end."""
        self.launch()
        self.wait()


class Session(Protocol):
    """A loaded model. Not for use from several threads.

    `device` is the address of where it really runs, `cpu` or `cuda:0`, as found after loading, not as asked for.
    `settings` tell how: threads, chunk, streams, CUDA graph, pinned memory; what a reader needs to know of a number.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    device: str
    settings: Mapping[str, object]

    def run(self, feed: Feed) -> Outputs:
        """Infer from host memory to host memory.

        The feed's arrays stay the caller's, who must not write to them meanwhile; they need not be copied. The arrays
        returned belong to the session and hold until its next `run`: copy what is to be kept.
        """
        ...

    def bind(self, feed: Feed) -> Bound:
        """Make the inputs resident on the device, to infer from there any number of times.

        Raises BackendUnavailable where the API always takes and returns host arrays.
        """
        ...


class Backend(Protocol):
    """What each module of this package offers."""

    VARIANTS: Mapping[str, Variant]
    """Every way this backend runs a model, with the artifact it consumes and the kind of device it runs on."""

    ROLE: Role
    """What it is there for; one backend is the original, and one the harness."""

    LABEL: str
    """What people call it, as in a report."""

    DISTRIBUTIONS: tuple[str, ...]
    """The packages whose version can change what it computes; those that are installed are recorded with results."""

    TUNABLE: bool
    """Whether its sessions follow `LoadOptions.steps`, so that it is worth tuning."""

    def probe(self, variant: str) -> None:
        """Raise BackendUnavailable, with the reason and the remedy, where `variant` cannot run on this machine."""
        ...

    def load(self, model: Path | bytes, options: LoadOptions) -> AbstractContextManager[Session]:
        """Load `model` for the time of a `with` block; the session refuses use after it.

        `model` is a file, or the bytes of an ONNX model; a backend for other artifacts raises TypeError for bytes.
        """
        ...


def get(name: str) -> Backend:
    """Return the backend called `name`, whether its library is installed or not.

    Raises:
        ConfigError: there is no such backend.
    """
    return cast("Backend", registry.load(__name__, name))


def recorded(name: str, variant: str) -> Variant:
    """Return what is known of a backend's variant that an artifact names.

    Raises:
        ArtifactError: this version has none of these names.
    """
    variants = get(name).VARIANTS if name in NAMES else {}
    if variant not in variants:
        raise ArtifactError(f"an artifact names the runner {name} {variant}, which this version has not", SAME_VERSION)
    return variants[variant]


def names(role: Role) -> tuple[str, ...]:
    """Return the names of the backends that are there for this."""
    return tuple(name for name in NAMES if role == get(name).ROLE)


def module(path: str) -> Backend:
    """Import a module that satisfies `Backend`, by its path: one of this package or any other."""
    return cast("Backend", importlib.import_module(path))


def distributions() -> tuple[str, ...]:
    """Return the packages of all backends whose versions can change a result, for `environment.versions`."""
    return tuple(sorted({name for backend in map(get, NAMES) for name in backend.DISTRIBUTIONS}))


def import_session(name: str) -> Any:
    """Import `pipeline.backends.NAME.session`, a backend's part that needs its library.

    What the library writes to the process's standard error meanwhile is hidden.

    Raises:
        BackendUnavailable: the library is not installed, or cannot be loaded.
    """
    environment.prepare_tensorflow()
    try:
        with environment.native_log_hidden():
            return importlib.import_module(f"{__name__}.{name}.session")
    except (ImportError, OSError) as error:  # OSError: the wheel is there, a library it loads is not
        raise BackendUnavailable(f"backend {name} cannot be imported: {error}", SET_UP) from error


def check_variant(name: str, variant: str, variants: Mapping[str, Variant]) -> None:
    """Raise ConfigError unless `variant` is one of the backend's `variants`."""
    if variant not in variants:
        raise ConfigError(f"backend {name} has no variant {variant!r}", f"Choose from: {', '.join(variants)}.")


def only_path(model: Path | bytes, name: str) -> Path:
    """Return the path of a model; raise TypeError (a bug of the caller) for bytes, which backend `name` cannot load."""
    if isinstance(model, bytes):
        raise TypeError(f"backend {name} loads its models from files, not from bytes")
    return model


def read_model(model: Path | bytes, sha256: str | None) -> Stored:
    """Return the bytes of a model, a file's or those given, which have this digest where one is given.

    With those of the file beside it that holds its weights, if there is one, whose digest is in the model. A library is
    given these bytes, not the path: what was checked is what is loaded, however late.

    Raises:
        ArtifactError: a file is not there, or the model is not the one expected; or its weights are not in its folder.
    """
    if isinstance(model, Path):
        return files.stored(model, sha256)
    if sha256 is not None and hashlib.sha256(model).hexdigest() != sha256:
        raise ArtifactError("the model has changed since it was published", "Run `make engine`.")
    return Stored(model, {})


class Closable:
    """Shared by sessions: refuses use after the `with` block in which the model was loaded."""

    _open = True

    def close(self) -> None:
        """Mark the session as closed."""
        self._open = False

    def check_open(self) -> None:
        """Raise RuntimeError (a bug of the caller) once the session is closed."""
        if not self._open:
            raise RuntimeError("this session is closed: use it inside the `with` block that loaded it")

"""Ways to run a model, one file each; the folder's listing is the registry.

A backend is a module with `VARIANTS`, `probe` and `load` (`Backend` below). It runs models and never times them: only
the benchmark stage owns the clock. Adding one is adding a file here.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pipeline import environment
from pipeline.errors import BackendUnavailable, ConfigError

Array = NDArray[Any]
Feed = Mapping[str, Array]
Outputs = dict[str, Array]
Artifact = Literal["keras", "saved_model", "onnx", "engine"]

NAMES: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@dataclass(frozen=True)
class TensorSpec:
    """One input or output: `shape` holds None where a dimension is dynamic (the batch, first)."""

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class LoadOptions:
    """How a model is to be run.

    `variant` is a key of the backend's `VARIANTS`. `exact` forbids what may change the arithmetic, such as graph
    optimizations and the original model's TF32: accuracy is judged with it. `allow_tf32` lets a typed graph's FP32
    matrix products run in TF32 on a GPU. `sha256` is the digest the file must have; engines are refused without it,
    since an engine is executable content.
    """

    variant: str
    allow_tf32: bool = False
    exact: bool = False
    sha256: str | None = None


class Session(Protocol):
    """A loaded model. `device` is where it really runs, as found after loading, not as asked for."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    device: str

    def run(self, feed: Feed) -> Outputs:
        """Infer from host memory to host memory, and return arrays the caller owns."""
        ...

    def bind(self, feed: Feed) -> Callable[[], None]:
        """Make the inputs resident on the device; each call of the result infers once and waits for the end.

        Raises BackendUnavailable where the API always takes and returns host arrays.
        """
        ...


class Backend(Protocol):
    """What each module of this package offers."""

    VARIANTS: Mapping[str, Artifact]
    """Every way this backend runs a model, with the artifact it consumes."""

    def probe(self, variant: str) -> None:
        """Raise BackendUnavailable, with the reason and the remedy, where `variant` cannot run on this machine."""
        ...

    def load(self, model: Path, options: LoadOptions) -> AbstractContextManager[Session]:
        """Load `model` for the time of a `with` block; the session refuses use after it."""
        ...


def get(name: str) -> Backend:
    """Return the backend called `name`.

    Raises:
        ConfigError: there is no such backend.
        BackendUnavailable: its library is not installed.
    """
    if name not in NAMES:
        raise ConfigError(f"unknown backend {name!r}", f"Choose one of: {', '.join(NAMES)}.")
    environment.prepare_tensorflow()
    try:
        with environment.native_log_hidden():
            return cast("Backend", importlib.import_module(f"{__name__}.{name}"))
    except ImportError as error:
        raise BackendUnavailable(
            f"backend {name} cannot be imported: {error}", "Run `make setup`, then `make doctor`."
        ) from error


def check_variant(name: str, variant: str, variants: Mapping[str, Artifact]) -> None:
    """Raise ConfigError unless `variant` is one of the backend's `variants`."""
    if variant not in variants:
        raise ConfigError(f"backend {name} has no variant {variant!r}", f"Choose one of: {', '.join(variants)}.")


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

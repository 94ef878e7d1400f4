"""Exporters: each writes the model in another framework's format; the folder's listing is the registry.

An exporter is a module with `FILE`, `ARTIFACT`, `TAKES` and `write` (`Exporter` below). What it writes takes and
returns what the model does, under the same names. Adding one is adding a file here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, cast

from pipeline import registry
from pipeline.tensors import Signature

if TYPE_CHECKING:
    from pipeline.models.calling import Serving

NAMES = registry.names(__name__)

Kind = Literal["function", "keras", "saved_model", "onnx"]


class Exportable(NamedTuple):
    """The model to export, in FP32."""

    name: str
    kind: Kind
    path: Path
    """The published original."""
    signature: Signature
    serving: "Serving | None"
    """Its inference as a function of TensorFlow's; None for an ONNX file."""
    owner: Any
    """The Keras model, or what else holds the variables."""
    layers: tuple[str, ...] = ()
    """The names of its Keras layers, by which errors speak."""


class Exporter(Protocol):
    """What each module of this package offers."""

    FILE: str
    """The file or folder it writes, by its name below `export/`."""

    ARTIFACT: Literal["saved_model", "onnx"]
    """What that is: a backend that consumes it can run it."""

    TAKES: tuple[Kind, ...]
    """The kinds of model that it exports."""

    def write(self, model: Exportable, path: Path, opset: int) -> str:
        """Export a model, and return a line about it for people.

        `path` does not exist yet; `opset` is the ONNX operator set, for exporters that have one.

        Raises:
            BuildError: the model cannot be exported, in the converter's words.
        """
        ...


def get(name: str) -> Exporter:
    """Return the exporter called `name`.

    Raises:
        ConfigError: there is no such exporter.
    """
    return cast("Exporter", registry.load(__name__, name))


def of(kind: Kind) -> list[Exporter]:
    """Return the exporters of a kind of model."""
    return [exporter for exporter in map(get, NAMES) if kind in exporter.TAKES]

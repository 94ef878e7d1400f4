"""Exporters: each writes a Keras model in another framework's format; the folder's listing is the registry.

An exporter is a module with `FILE`, `ARTIFACT` and `write` (`Exporter` below). Its model takes and returns what the
Keras model does, under the names `models.INPUT` and `models.OUTPUT`. Adding one is adding a file here.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from pipeline import registry

if TYPE_CHECKING:
    import keras

NAMES = registry.names(__name__)


class Exporter(Protocol):
    """What each module of this package offers."""

    FILE: str
    """The file or folder it writes, by its name below `export/`."""

    ARTIFACT: Literal["saved_model", "onnx"]
    """What that is: a backend that consumes it can run it."""

    def write(self, model: "keras.Model", path: Path, opset: int) -> str:
        """Export a model of one input and one output, and return a line about it for people.

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

"""Exporters: each writes the model in another framework's format; the folder's listing is the registry.

An exporter is a module with `FILE`, `ARTIFACT`, `TAKES`, `RANK`, `versions` and `write` (`Exporter` below). What it
writes takes and returns what the model does, under the same names. Adding one is adding a file here.
"""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar, cast

from pipeline import registry
from pipeline.errors import BackendUnavailable, ConfigError, PipelineError, first_line
from pipeline.graphs import files
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

    RANK: int
    """Of the exporters that write the same file, the lowest is tried first."""

    def versions(self) -> dict[str, str]:
        """Return the versions of what it works with, and a model exported by it depends on.

        Raises:
            BackendUnavailable: that is not here; the hint says how to get it.
        """
        ...

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


def by_file(kind: Kind, only: str = "auto") -> dict[str, dict[str, Exporter]]:
    """Return the exporters of a kind of model by the file that they write, and by name, in the order to try them in.

    `only` is the exporter that is to write the ONNX file; auto: any.

    Raises:
        ConfigError: there is no such exporter, or it does not take this kind of model.
    """
    if only != "auto" and kind not in get(only).TAKES:
        raise ConfigError(
            f"export.exporter = {only!r} takes models of the kinds {', '.join(get(only).TAKES)}; this one is {kind}",
            "Set export.exporter=auto.",
        )
    found: dict[str, dict[str, Exporter]] = {}
    for name, exporter in sorted(((name, get(name)) for name in NAMES), key=lambda pair: pair[1].RANK):
        wanted = only in ("auto", name) or exporter.ARTIFACT != "onnx"
        if kind in exporter.TAKES and wanted:
            found.setdefault(exporter.FILE, {})[name] = exporter
    return found


Checked = TypeVar("Checked")


class Made(NamedTuple, Generic[Checked]):
    """A file that is right: who made it, with a line about it, and why those tried before did not."""

    exporter: str
    line: str
    versions: dict[str, str]
    checked: Checked
    before: dict[str, PipelineError]


def first_right(
    candidates: Mapping[str, Exporter],
    model: Exportable,
    path: Path,
    opset: int,
    check: Callable[[Exporter], Checked],
    warn: Callable[[str], None],
) -> Made[Checked]:
    """Write a file by the first exporter whose file is right.

    Args:
        candidates: the exporters by name, in the order to try them in.
        model: the model to export.
        path: where to; it does not exist yet.
        opset: the ONNX operator set.
        check: compares what is at `path` with the original; raises PipelineError where they differ.
        warn: is told, in a line, of each exporter that failed while there is another to try.

    Raises:
        PipelineError: the first exporter's, with a line about each of the others.
    """
    failed: dict[str, PipelineError] = {}
    for name, exporter in candidates.items():
        try:
            versions = exporter.versions()
            if failed:
                warn(f"{_first(failed)}; trying {name}")
            line = exporter.write(model, path, opset)
            return Made(name, line, versions, check(exporter), failed)
        except PipelineError as error:
            failed[name] = error
            _remove(path)
    first, *others = failed
    lines = [failed[first].message, *(_after(name, failed[name]) for name in others)]
    raise type(failed[first])("\n".join(lines), failed[first].hint) from failed[first]


def _first(failed: Mapping[str, PipelineError]) -> str:
    return first_line(next(iter(failed.values())))


def _after(name: str, error: PipelineError) -> str:
    if isinstance(error, BackendUnavailable):
        return f"Another exporter, {name}, could be tried. {error.message}. {error.hint}"
    return f"Another exporter, {name}, was tried after it: {first_line(error)}"


def _remove(path: Path) -> None:
    files.data_of(path).unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)

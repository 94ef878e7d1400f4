"""The pipeline from Python, for notebooks: `pipeline.optimize` runs every stage and returns what came out."""

import html
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.artifacts.parity import ParityReport
from pipeline.artifacts.recommendation import Recommendation
from pipeline.artifacts.store import Published, Store
from pipeline.config import Config
from pipeline.config.loading import load
from pipeline.console import Console
from pipeline.data import Split
from pipeline.errors import ArtifactError, ConfigError, DataError, ParityError
from pipeline.runners import inference, serving
from pipeline.runners.serving import Wanted
from pipeline.stages import STAGES
from pipeline.tensors import Outputs
from pipeline.workflow import run

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Optimized:
    """A model that has been through every stage; shows itself in Jupyter.

    `verdicts` are those of every runner by name, `failure` why the model failed validation where it did; it is then not
    timed, and `recommendation` is None.
    """

    config: Config
    published: Published
    parity: ParityReport
    recommendation: Recommendation | None
    failure: str

    @property
    def verdicts(self) -> dict[str, str]:
        """The verdict on every runner that ran, by its name."""
        return {row.runner.name: row.verdict for row in self.parity.runners if row.verdict != "skipped"}

    @property
    def best(self) -> str | None:
        """The name of the runner to take for one sample at a time; None where none was timed."""
        choice = self.recommendation.choice(1, "latency") if self.recommendation else None
        return choice.runner.name if choice else None

    @property
    def report(self) -> Path:
        """The report's page."""
        return self.published.root / "report/index.html"

    def predict(self, inputs: Any, batch: int = 1) -> Outputs:
        """Return the outputs [samples, …] by name, of the fastest runner that passed validation.

        Args:
            inputs: an array [samples, …], or one for each input by name.
            batch: samples per inference.

        Raises:
            DataError: an input is missing.
            BackendUnavailable: nothing that passed validation runs here.
        """
        offered = serving.candidates(
            self.published,
            Wanted(batch=batch),
            modules=self.config.model.modules,
            trust=self.config.model.trust,
            threads=self.config.benchmark.threads,
        )
        with serving.opened(offered) as (served, session):
            split = Split({spec.name: _of(inputs, spec.name).astype(spec.dtype) for spec in session.inputs})
            return inference.infer(session, split, batch, inference.limits(served.runner.record))

    def _repr_html_(self) -> str:
        choice = self.recommendation.choice(1, "latency") if self.recommendation else None
        said = f"not timed: {self.failure}" if choice is None else f"{choice.runner.name}: {choice.reason}"
        page = html.escape(self.report.read_text(encoding="utf-8"), quote=True)
        line = f"<p><b>{html.escape(self.parity.verdict)}</b> {html.escape(said)}</p>"
        return f'{line}<iframe srcdoc="{page}" width="100%" height="600" title="report"></iframe>'


def optimize(
    model: "str | Path | keras.Model",
    data: Any = "random",
    precisions: str | Sequence[str] = ("fp32", "tf32", "fp16"),
    artifacts: str | Path = "artifacts",
    options: Mapping[str, object] | None = None,
    quiet: bool = False,
) -> Optimized:
    """Run every stage on a model and return what came out; stages that are up to date are not run again.

    Args:
        model: a Keras model, or what `model.source` takes: a file, a folder or an import path.
        data: what `data.source` takes; or arrays `(x, y)`, or `((x, y), (x_test, y_test))`, each an array or one for
            each input or output by name; y may be None.
        precisions: which to build, or `auto`.
        artifacts: the folder to publish in.
        options: other keys of the configuration, as `{"validate.batch_size": 64}`.
        quiet: whether to print nothing.

    Raises:
        PipelineError: as the commands do, but for a model that fails validation: that is in the result.

    Example:
        found = pipeline.optimize("my.keras", data="samples.npz", precisions=["fp32", "fp16", "int8"])
        print(found.best, found.verdicts)
        outputs = found.predict(images)
    """
    _check_keras()
    root = Path(artifacts)
    root.mkdir(parents=True, exist_ok=True)
    chosen = {
        "artifacts": str(root),
        "model.source": _model(model, root),
        "data.source": _data(data, root),
        "engine.precisions": precisions if isinstance(precisions, str) else tuple(precisions),
        **(options or {}),
    }
    config = load(options=chosen)
    console = Console(quiet=True) if quiet else Console(soft_wrap=True)
    failure = ""
    for name, stage in STAGES.items():
        if failure and name == "benchmark":
            continue
        try:
            run.run(stage, config, console)
        except ParityError as error:
            failure = error.message
    published = Store(root).published()
    recommended = None if failure else published.read(Recommendation)
    return Optimized(config, published, published.read(ParityReport), recommended, failure)


def _check_keras() -> None:
    """Raise ConfigError where Keras has been imported in this process and runs on something else than TensorFlow."""
    keras = sys.modules.get("keras")
    if keras is not None and (found := keras.backend.backend()) != "tensorflow":
        raise ConfigError(
            f"Keras runs on {found} in this process, and is exported from TensorFlow",
            "Set KERAS_BACKEND=tensorflow before Keras is imported; a .keras file of any backend can be given by name.",
        )


def _model(model: "str | Path | keras.Model", root: Path) -> str:
    if isinstance(model, str | Path):
        return str(model)
    path, saved = root / "given.keras", root / "given.new.keras"
    try:
        model.save(saved)
        if path.exists() and _members(path) == _members(saved):
            saved.unlink()  # only the date of saving differs: what was published is up to date
        else:
            saved.replace(path)
    except AttributeError as error:
        raise DataError(f"a {type(model).__name__} is no Keras model", "Give a keras.Model, or a path.") from error
    except OSError as error:
        raise ArtifactError(f"{path} cannot be written: {error}") from error
    return str(path)


def _members(path: Path) -> dict[str, int]:
    """Return the checksum of each part of a .keras file, but of the one that holds the date; none of no such file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {one.filename: one.CRC for one in archive.infolist() if one.filename != "metadata.json"}
    except zipfile.BadZipFile:
        return {}


def _data(data: Any, root: Path) -> str:
    """Return what `data.source` is to be; arrays are written to a file, so that every stage finds the same again."""
    if isinstance(data, str | Path):
        return str(data)
    if not isinstance(data, tuple) or len(data) != 2:
        raise DataError(f"data is a {type(data).__name__}", "Give a source, (x, y), or ((x, y), (x_test, y_test)).")
    nested = all(isinstance(part, tuple) for part in data)
    parts = zip(("_train", "_test"), data, strict=True) if nested else [("", data)]
    members: dict[str, Any] = {}
    for suffix, (inputs, targets) in parts:
        for key, given in ((f"x{suffix}", inputs), (f"y{suffix}", targets)):
            if isinstance(given, Mapping):
                members |= {f"{key}/{name}": np.asarray(value) for name, value in given.items()}
            elif given is not None:
                members[key] = np.asarray(given)
    path = root / "given.npz"
    np.savez(path, allow_pickle=False, **members)
    return str(path)


def _of(inputs: Any, name: str) -> np.ndarray[Any, Any]:
    if not isinstance(inputs, Mapping):
        return np.asarray(inputs)
    if name not in inputs:
        raise DataError(f"input {name} is missing", f"The arrays given are {', '.join(map(str, inputs))}.")
    return np.asarray(inputs[name])

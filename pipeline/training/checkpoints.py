"""Checkpoints of a training: everything that goes on from there as if nothing had happened.

That is the model's variables (the states of its random generators among them), the optimizer's, those of the measures
of an epoch that is not over, and what was recorded until then. They are written as artifacts are: beside, then renamed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from pydantic import Field

from pipeline import digests
from pipeline.artifacts import replacing
from pipeline.artifacts.history import TrainedEpoch
from pipeline.artifacts.record import Artifact, Record
from pipeline.errors import ArtifactError

FOLDER, VARIABLES, STATE = "checkpoint", "variables.npz", "state.json"

ANEW = "Training begins anew."


class Stopping(Record):
    """What early stopping has seen."""

    wait: int
    best: float | None
    best_epoch: int


class Progress(Record):
    """How far a training is: epochs that are over, and steps of the one that is not."""

    epochs: tuple[TrainedEpoch, ...] = ()
    step: int = 0
    seconds: float = 0.0
    """Spent in the epoch that is not over, and `waited_s` of them for data."""
    waited_s: float | None = 0.0
    first_loss: float | None = None
    """Of the first steps; null before them."""
    stopping: Stopping | None = None

    def __str__(self) -> str:
        number = len(self.epochs) + 1
        return f"epoch {number}, step {self.step + 1}" if self.step else f"epoch {number}"


class Checkpoint(Artifact):
    """What `state.json` holds."""

    PATH = f"{FOLDER}/{STATE}"

    schema_: Literal[1] = Field(1, alias="schema")
    of: dict[str, Any]
    """What the training is of: configuration, data, model, versions. Another's checkpoint is not gone on with."""
    progress: Progress
    sha256: str
    """Of the file with the variables."""


class Checkpoints:
    """The checkpoint of a training, in a folder that a stage keeps between its runs."""

    def __init__(self, root: Path, of: dict[str, Any]) -> None:
        self._root, self._of = root, of

    @property
    def folder(self) -> Path:
        """Where the checkpoint is."""
        return self._root / FOLDER

    def save(self, model: keras.Model, progress: Progress, best: list[Any] | None = None) -> None:
        """Write a checkpoint in the place of the last one; `best` are the weights of the best epoch.

        Raises:
            ArtifactError: the disk is full, or the folder cannot be written. The last checkpoint is still there.
        """
        arrays = {name: _stored(variable) for name, variable in _variables(model, measures=bool(progress.step))}
        arrays |= {f"best/{index:05d}": array for index, array in enumerate(best or ())}
        with replacing.replaced(self.folder) as output:
            np.savez(output / VARIABLES, **arrays)
            digest = digests.of_file(output / VARIABLES)
            Checkpoint(of=self._of, progress=progress, sha256=digest).write(output / STATE)

    def load(self) -> tuple[Checkpoint, dict[str, Any]] | None:
        """Return the checkpoint and its arrays by name, or None where there is none.

        Raises:
            ArtifactError: it is damaged, or of another training.
        """
        folder = replacing.current(self.folder)  # of several processes, only the first may put anything right
        if not folder.exists():
            return None
        state = Checkpoint.read(folder / STATE)
        if state.of != self._of:
            differing = ", ".join(key for key in self._of if state.of.get(key) != self._of[key])
            raise ArtifactError(f"the checkpoint in {self.folder} is of another training ({differing})", ANEW)
        try:
            if digests.of_file(folder / VARIABLES) != state.sha256:
                raise ArtifactError(f"the checkpoint in {self.folder} is damaged: its SHA-256 differs", ANEW)
            with np.load(folder / VARIABLES, allow_pickle=False) as file:
                return state, dict(file)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"the checkpoint in {self.folder} cannot be read: {error}", ANEW) from error


def assign(model: keras.Model, arrays: dict[str, Any], *, measures: bool) -> None:
    """Give a model's and its optimizer's variables, or its measures', the values of a checkpoint.

    Raises:
        ArtifactError: they are not those of this model.
    """
    wanted = dict(_variables(model, measures=measures))
    if measures:
        wanted = {name: one for name, one in wanted.items() if name.startswith("measures/")}
    for name, variable in wanted.items():
        if name not in arrays or arrays[name].shape != tuple(variable.shape):
            raise ArtifactError(f"the checkpoint has no {name} of shape {tuple(variable.shape)}", ANEW)
    for name, variable in wanted.items():
        variable.assign(arrays[name])


def best_weights(arrays: dict[str, Any]) -> list[Any]:
    """Return the weights of the best epoch, where early stopping keeps them."""
    return [arrays[name] for name in sorted(arrays) if name.startswith("best/")]


def _variables(model: keras.Model, *, measures: bool) -> Iterator[tuple[str, Any]]:
    """Yield a training's variables by number: Keras's names of layers depend on what else a process has made."""
    of_measures = list(model.metrics_variables)
    known = {id(one) for one in of_measures}
    groups = {
        "model": [one for one in model.variables if id(one) not in known],
        "optimizer": list(model.optimizer.variables),
        "measures": of_measures if measures else [],
    }
    for group, variables in groups.items():
        for index, one in enumerate(variables):
            yield f"{group}/{index:05d}", one


def _stored(variable: Any) -> Any:
    array = np.asarray(keras.ops.convert_to_numpy(variable))
    return array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16, which no .npz holds

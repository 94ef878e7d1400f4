"""What is kept of a training while it runs: each epoch's record and checkpoints; and when it has to end."""

import math
import time
from typing import Any

import keras
import numpy as np

from pipeline import hosts
from pipeline.artifacts.history import TrainedEpoch
from pipeline.errors import DataError
from pipeline.training import checkpoints, interrupting
from pipeline.training.checkpoints import Checkpoints, Progress, Stopping
from pipeline.training.feeding import Feeder
from pipeline.training.recipes import Plan

VALIDATION_GRACE_S = 5.0
"""How long an epoch's validation may go on after an interruption: cut short, the epoch's last steps are lost."""


class EarlyStopping(keras.callbacks.EarlyStopping):  # type: ignore[misc]  # Keras has no types
    """Keras's, from what a checkpoint knows, and over several calls of `fit`: one does not begin or end it.

    Its `best_weights` are for the caller to take at the end of all: between two calls the training goes on as it was.
    """

    def __init__(self, patience: int, seen: Stopping | None, best_weights: list[Any]) -> None:
        super().__init__("val_loss", patience=patience, restore_best_weights=True, mode="min")
        super().on_train_begin()
        if seen is not None:
            self.wait, self.best, self.best_epoch = seen.wait, seen.best, seen.best_epoch
            self.best_weights = best_weights

    def on_train_begin(self, logs: Any = None) -> None:
        pass

    def on_train_end(self, logs: Any = None) -> None:
        pass


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Records each epoch, writes checkpoints, and ends the training where it diverges or is asked to stop."""

    def __init__(
        self,
        feeder: Feeder,
        plan: Plan,
        kept: Checkpoints,
        asked: interrupting.Asked,
        start: Progress,
        stopping: EarlyStopping | None,
        arrays: dict[str, Any],
        every_s: float,
    ) -> None:
        super().__init__()
        self.progress = start
        self._kept, self._asked, self._feeder, self._stopping = kept, asked, feeder, stopping
        self._arrays, self._every_s, self._steps = arrays, every_s, plan.steps
        self._first_step, self._before_s, self._waited_before_s = start.step, start.seconds, start.waited_s or 0.0
        self._saved = self._began = self._ended = self._validated = time.monotonic()
        self._good = str(start) if arrays else ""
        """What the last checkpoint holds."""

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights are taken, from 0; None without early stopping."""
        seen = self.progress.stopping
        return seen.best_epoch if seen is not None else None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._feeder.epoch = epoch
        self._feeder.waited.assign(0.0)
        if self._first_step:
            checkpoints.assign(self.model, self._arrays, measures=True)
        self._began = self._ended = self._validated = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._check((logs or {}).get("loss"))
        self._ended = self._validated = time.monotonic()
        step = self._first_step + batch + 1
        if step >= self._steps:
            return  # the epoch's end, after its validation, is saved
        if self._ended - self._saved >= self._every_s or (self._asked.number is not None and self._every_s < math.inf):
            self._save(step)
        self._stop_if_asked()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._asked.number is not None and time.monotonic() - self._asked.at > VALIDATION_GRACE_S:
            self._stop_if_asked()

    def on_test_end(self, logs: Any = None) -> None:
        self._validated = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        over = TrainedEpoch(
            measures={key: float(value) if math.isfinite(value) else None for key, value in (logs or {}).items()},
            seconds=round(self._before_s + self._ended - self._began, 4),
            validation_s=round(self._validated - self._ended, 4),
            waited_s=self._waited_s(),
            learning_rate=_rate(self.model.optimizer),
        )
        self.progress = Progress(epochs=(*self.progress.epochs, over), stopping=self._stopping_state())
        self._first_step, self._before_s, self._waited_before_s = 0, 0.0, 0.0
        self._save(0)
        self._stop_if_asked()

    def _save(self, step: int) -> None:
        if step:
            self.progress = self.progress.model_copy(
                update={
                    "step": step,
                    "seconds": round(self._before_s + self._ended - self._began, 4),
                    "waited_s": self._waited_s(),
                }
            )
        best = self._stopping.best_weights if self._stopping is not None else None
        world = hosts.current()
        if world is None or not world.rank:
            self._kept.save(self.model, self.progress, best)
        self._good, self._saved = str(self.progress), time.monotonic()

    def _check(self, loss: Any) -> None:
        if loss is not None and not math.isfinite(loss):
            where = f"The last good checkpoint, {self._good}, is in {self._kept.folder}. " if self._good else ""
            raise DataError(
                f"the training diverged: its loss is not a number in epoch {len(self.progress.epochs) + 1}",
                f"{where}Lower train.learning_rate.",
            )

    def _stop_if_asked(self) -> None:
        if self._asked.number is not None:
            raise self._asked.error(f"the checkpoint in {self._kept.folder} is at {self._good or 'the beginning'}")

    def _waited_s(self) -> float | None:
        if not self._feeder.timed:
            return None
        return round(self._waited_before_s + float(self._feeder.waited.numpy()), 4)

    def _stopping_state(self) -> Stopping | None:
        one = self._stopping
        if one is None or one.best is None:
            return None
        return Stopping(wait=one.wait, best=float(np.asarray(one.best)), best_epoch=one.best_epoch)


def _rate(optimizer: Any) -> float | None:
    try:
        return float(keras.ops.convert_to_numpy(optimizer.learning_rate))
    except (AttributeError, TypeError, ValueError):
        return None

"""What is kept of a training while it runs: each epoch's record and checkpoints; and when it has to end."""

import math
import time
from typing import Any

import keras
import numpy as np

from pipeline import hosts
from pipeline.artifacts.history import TrainedEpoch
from pipeline.errors import BackendUnavailable, DataError, PipelineError
from pipeline.training import checkpoints, interrupting
from pipeline.training.checkpoints import Checkpoints, Progress, Stopping
from pipeline.training.feeding import Feeder
from pipeline.training.recipes import Plan

VALIDATION_GRACE_S = 5.0
"""How long an epoch's validation may go on after an interruption: cut short, the epoch's last steps are lost."""

FOLLOWER_GRACE_S = 5.0
"""How long a process other than the first goes on after an interruption, so that the first can finish its step."""

DIVERGED = 10.0
"""A training whose mean loss in an epoch is so many times that of its first steps is over."""


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
        every: int,
    ) -> None:
        super().__init__()
        self.progress = start
        self._kept, self._asked, self._feeder, self._stopping = kept, asked, feeder, stopping
        self._arrays, self._every, self._steps = arrays, every, plan.steps
        self._first_step, self._before_s, self._waited_before_s = start.step, start.seconds, start.waited_s or 0.0
        self._began = self._ended = self._validated = time.monotonic()
        self._saved_step, self._world = start.step, hosts.current()
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
        loss = (logs or {}).get("loss")
        self._check(loss)
        self._ended = self._validated = time.monotonic()
        step = self._first_step + batch + 1
        if step >= self._steps:
            return  # the epoch's end, after its validation, is saved
        if step - self._saved_step >= self._every or self._asked.number is not None:
            self._save(step)
        self._stop_if_asked()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._asked.number is not None and time.monotonic() - self._asked.at > VALIDATION_GRACE_S:
            self._stop_if_asked()

    def on_test_end(self, logs: Any = None) -> None:
        self._validated = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._check_level((logs or {}).get("loss"))
        over = TrainedEpoch(
            measures={key: float(value) if math.isfinite(value) else None for key, value in (logs or {}).items()},
            seconds=round(self._before_s + self._ended - self._began, 4),
            validation_s=round(self._validated - self._ended, 4),
            waited_s=self._waited_s(),
            learning_rate=_rate(self.model.optimizer),
        )
        self.progress = Progress(
            epochs=(*self.progress.epochs, over),
            first_loss=self.progress.first_loss,
            stopping=self._stopping_state(),
        )
        self._first_step, self._before_s, self._waited_before_s = 0, 0.0, 0.0
        self._save(0)
        self._stop_if_asked()

    def lost(self, what: str) -> PipelineError:
        """Return what ends this process where one of the others is gone; `what` is JAX's word for it."""
        if self._asked.number is not None:
            return self._asked.error(self._kept_words())
        where = f"The checkpoint in {self._kept.folder} is at {self._good}. " if self._good else ""
        return BackendUnavailable(
            f"training with the other processes failed, which is what happens when one is gone: {what}",
            f"{where}What the others say comes first; the same command goes on.",
        )

    def _save(self, step: int) -> None:
        if step:
            self.progress = self.progress.model_copy(
                update={
                    "step": step,
                    "seconds": round(self._before_s + self._ended - self._began, 4),
                    "waited_s": self._waited_s(),
                }
            )
        if step and self._world is not None:
            self.model.jax_state_sync()  # while `fit` runs, its variables have old values under JAX
        best = self._stopping.best_weights if self._stopping is not None else None
        if self._world is None or not self._world.rank:
            self._kept.save(self.model, self.progress, best)
        self._good, self._saved_step = str(self.progress), step

    def _check(self, loss: Any) -> None:
        if loss is None:
            return
        if self.progress.first_loss is None:
            self.progress = self.progress.model_copy(update={"first_loss": float(loss)})
        if not math.isfinite(loss):
            raise self._diverged("its loss is not a number")

    def _check_level(self, loss: Any) -> None:
        first = self.progress.first_loss
        if loss is not None and first is not None and loss > DIVERGED * first > 0:
            raise self._diverged(f"its loss, {first:.3g} at first, is {loss:.3g}")

    def _diverged(self, what: str) -> DataError:
        where = f"The last good checkpoint, {self._good}, is in {self._kept.folder}. " if self._good else ""
        return DataError(
            f"the training diverged: {what} in epoch {len(self.progress.epochs) + 1}",
            f"{where}Lower train.learning_rate.",
        )

    def _stop_if_asked(self) -> None:
        if self._asked.number is None:
            return
        if self._world is None or not self._world.rank or time.monotonic() - self._asked.at > FOLLOWER_GRACE_S:
            raise self._asked.error(self._kept_words())

    def _kept_words(self) -> str:
        return f"the checkpoint in {self._kept.folder} is at {self._good or 'the beginning'}"

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

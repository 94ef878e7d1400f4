"""Training a model by Keras's `fit`, from the beginning or from a checkpoint."""

import math
import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pipeline import hosts
from pipeline.artifacts.history import TrainedEpoch
from pipeline.config import Train
from pipeline.data import Dataset
from pipeline.errors import ArtifactError, DataError, PipelineError
from pipeline.models import calling, loading_errors
from pipeline.training import checkpoints, feeding, interrupting, reordering
from pipeline.training.checkpoints import Checkpoints, Progress, Stopping
from pipeline.training.devices import Devices
from pipeline.training.feeding import Feeder
from pipeline.training.recipes import Plan
from pipeline.workflow.context import Context

STEPS_PER_EXECUTION, EXECUTION_S = 50, 0.25
"""How many steps TensorFlow takes at most before Python is asked again, and for how long: an interruption waits so."""

VALIDATION_GRACE_S = 5.0
"""How long an epoch's validation may go on after an interruption: cut short, the epoch's last steps are lost."""


class Fitted(NamedTuple):
    """How a training went: what each epoch recorded, and where this process began."""

    epochs: tuple[TrainedEpoch, ...]
    resumed_at: str
    steps_per_execution: int
    in_memory: bool
    best_epoch: int | None
    """Counted from 0; None without early stopping."""


def fit(
    context: Context,
    model: keras.Model,
    dataset: Dataset,
    plan: Plan,
    devices: Devices,
    kept: Checkpoints,
    watching: Sequence[keras.callbacks.Callback],
) -> Fitted:
    """Train a compiled model as planned, or go on with its training from a checkpoint.

    Args:
        context: of the stage.
        model: compiled.
        dataset: bound to the model.
        plan: how long, in which batches.
        devices: those that the model was made for.
        kept: where checkpoints lie.
        watching: callbacks that only look: the progress bar's, the user's.

    Raises:
        ArtifactError: a checkpoint cannot be written.
        DataError: the loss is not a number, or the data cannot be read any more.
        Interrupted: Ctrl-C.
        Preempted: SIGTERM.
    """
    options, how = context.config.train, calling.caller(model)
    feeder = Feeder(dataset.train, how, plan.batch, plan.steps, options.seed, timed=len(devices) == 1)
    world = hosts.current()
    with devices.scope():
        model.optimizer.build(model.trainable_variables)
    start, arrays = _start(context, model, kept)
    if (
        model.steps_per_execution == 1 and devices.strategy is None and world is None
    ):  # with one, Keras 3.15 loses its loop's variables
        model.steps_per_execution = _steps_per_execution(model, feeder, plan.steps)
    stopping = _early_stopping(options)
    with interrupting.listening() as asked, reordering.pooled_first(model):
        every_s = (
            options.checkpoint_s if world is None else math.inf
        )  # several processes are together at an epoch's end
        keeper = Keeper(feeder, plan, kept, asked, start, stopping, arrays, every_s)
        callbacks = [*watching, *([stopping] if stopping else []), keeper]
        # Keras fails at a batch that devices cannot share evenly: the last few samples are left out then.
        whole = len(dataset.validation) // len(devices) * len(devices) if devices.strategy else len(dataset.validation)
        validation = feeding.validation_data(dataset.validation.take(slice(whole)), how, plan.batch)
        try:
            for first, last, step in _parts(start, plan.epochs):
                feeder.epoch = first
                if step:
                    model._symbolic_build(data_batch=feeder.sample())  # the measures get their variables
                model.fit(
                    feeder.batches(step),
                    epochs=last,
                    initial_epoch=first,
                    validation_data=validation,
                    validation_batch_size=None if isinstance(validation, feeding.Batches) else plan.batch,
                    shuffle=False,  # it is done
                    verbose=0,
                    callbacks=callbacks,
                )
                if model.stop_training:
                    break
        except tf.errors.OpError as error:
            raise _told(error, feeder, plan) from error
    return Fitted(
        epochs=keeper.progress.epochs,
        resumed_at=str(start) if start != Progress() else "",
        steps_per_execution=model.steps_per_execution,
        in_memory=feeder.in_memory,
        best_epoch=stopping.best_epoch if stopping else None,
    )


def _parts(start: Progress, epochs: int) -> list[tuple[int, int, int]]:
    """Return what `fit` is called for: from which epoch, to which, from which step of the first one."""
    first = len(start.epochs)
    parts = [(first, first + 1, start.step)] if start.step else []
    rest = first + len(parts)
    return [*parts, (rest, epochs, 0)] if rest < epochs else parts


def _start(context: Context, model: keras.Model, kept: Checkpoints) -> tuple[Progress, dict[str, Any]]:
    """Return where to begin, and a checkpoint's arrays; the model and its optimizer have its values then."""
    try:
        found = kept.load()
        if found is None:
            return Progress(), {}
        state, arrays = found
        checkpoints.assign(model, arrays, measures=False)
    except ArtifactError as error:
        context.warn(f"{error.message}. {checkpoints.ANEW}")
        return Progress(), {}
    context.say(f"going on from the checkpoint in {kept.folder}: {state.progress}")
    return state.progress, arrays


def _early_stopping(options: Train) -> keras.callbacks.EarlyStopping | None:
    if options.early_stopping is None:
        return None
    return keras.callbacks.EarlyStopping(
        "val_loss", patience=options.early_stopping, restore_best_weights=True, mode="min"
    )


def _steps_per_execution(model: keras.Model, feeder: Feeder, steps: int) -> int:
    """Return how many steps fit into `EXECUTION_S`, told by the model's inference: a step takes some three times it.

    It changes no result. Small models gain: the article's trains in 0.8 of the time.
    """
    x, _ = feeder.sample()
    model(x, training=False)
    began = time.perf_counter()
    model(x, training=False)
    step_s = 3 * (time.perf_counter() - began)
    return max(1, min(STEPS_PER_EXECUTION, steps, int(EXECUTION_S / step_s)))


def _told(error: tf.errors.OpError, feeder: Feeder, plan: Plan) -> PipelineError:
    """Return what TensorFlow raised as an error that says what to do."""
    if isinstance(feeder.error, PipelineError):
        return feeder.error
    if feeder.error is not None:
        kind = type(feeder.error).__name__
        return DataError(f"the training data can no longer be read: {kind}: {feeder.error}", "Bring them back.")
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return DataError(
            f"training in batches of {plan.batch} takes more memory than there is: {_words(error)}",
            "Lower train.batch_size.",
        )
    return DataError(f"TensorFlow cannot train the model: {_words(error)}")


def _words(error: tf.errors.OpError) -> str:
    """Return what TensorFlow says, without the places in the program where the graph was made."""
    whole = re.sub(
        r'File "[^"]+", line \d+, in \S+ ?|Detected at node \S+ defined at \(most recent call last\): ',
        "",
        loading_errors.words(error),
    )
    return whole[: loading_errors.LIMIT]


class Keeper(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Records each epoch, writes checkpoints, and ends the training where it diverges or is asked to stop."""

    def __init__(
        self,
        feeder: Feeder,
        plan: Plan,
        kept: Checkpoints,
        asked: interrupting.Asked,
        start: Progress,
        stopping: keras.callbacks.EarlyStopping | None,
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

    def on_train_begin(self, logs: Any = None) -> None:
        seen = self.progress.stopping
        if self._stopping is not None and seen is not None:  # after its own on_train_begin, which forgets
            self._stopping.wait, self._stopping.best = seen.wait, seen.best
            self._stopping.best_epoch = seen.best_epoch
            self._stopping.best_weights = checkpoints.best_weights(self._arrays) or self._stopping.best_weights

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

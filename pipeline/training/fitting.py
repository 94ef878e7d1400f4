"""Training a model by Keras's `fit`, from the beginning or from a checkpoint."""

import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from pipeline import hosts
from pipeline.artifacts.history import TrainedEpoch
from pipeline.config import Train
from pipeline.data import Dataset
from pipeline.errors import ArtifactError, DataError, PipelineError
from pipeline.models import calling, loading_errors
from pipeline.training import checkpoints, feeding, interrupting, reordering
from pipeline.training.checkpoints import Checkpoints, Progress
from pipeline.training.devices import Devices
from pipeline.training.feeding import Feeder
from pipeline.training.keeping import EarlyStopping, Keeper
from pipeline.training.recipes import Plan
from pipeline.workflow.context import Context

STEPS_PER_EXECUTION, EXECUTION_S = 50, 0.25
"""How many steps TensorFlow takes at most before Python is asked again, and for how long: an interruption waits so."""


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
        BackendUnavailable: another process is gone.
        DataError: the training diverges, or the data cannot be read any more.
        Interrupted: Ctrl-C.
        Preempted: SIGTERM.
    """
    options, how = context.config.train, calling.caller(model)
    feeder = Feeder(
        dataset.train,
        how,
        plan.batch,
        plan.steps,
        options.seed,
        timed=len(devices) == 1,
        device=devices.fed_ahead,
    )
    world = hosts.current()
    with devices.scope():
        model.optimizer.build(model.trainable_variables)
    start, arrays = _start(context, model, kept)
    # With a strategy, Keras 3.15 loses the variables of its loop over several steps.
    if model.steps_per_execution == 1 and devices.strategy is None and world is None:
        model.steps_per_execution = _steps_per_execution(model, feeder, plan.steps)
    stopping = None
    if options.early_stopping is not None:
        stopping = EarlyStopping(options.early_stopping, start.stopping, checkpoints.best_weights(arrays))
    with interrupting.listening() as asked, reordering.pooled_first(model):
        keeper = Keeper(feeder, plan, kept, asked, start, stopping, arrays, options.checkpoint_steps)
        callbacks = [*watching, *([stopping] if stopping else []), keeper]
        # Keras fails at a batch that devices cannot share evenly: the last few samples are left out then.
        whole = len(dataset.validation) // len(devices) * len(devices) if devices.strategy else len(dataset.validation)
        validation = feeding.validation_data(dataset.validation.take(slice(whole)), how, plan.batch)
        try:
            for first, last, step in () if _stopped(start, options) else _parts(start, plan.epochs):
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
        except Exception as error:
            if world is None or type(error).__name__ != "JaxRuntimeError":
                raise
            raise keeper.lost(loading_errors.words(error)) from error
    if stopping is not None and stopping.best_weights:
        model.set_weights(stopping.best_weights)
    return Fitted(
        epochs=keeper.progress.epochs,
        resumed_at=str(start) if start != Progress() else "",
        steps_per_execution=model.steps_per_execution,
        in_memory=feeder.in_memory,
        best_epoch=keeper.best_epoch,
    )


def _stopped(start: Progress, options: Train) -> bool:
    """Tell whether early stopping had ended the training that a checkpoint is of."""
    seen, patience = start.stopping, options.early_stopping
    return seen is not None and patience is not None and len(start.epochs) > 1 and seen.wait >= patience


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


def _steps_per_execution(model: keras.Model, feeder: Feeder, steps: int) -> int:
    """Return how many steps fit into `EXECUTION_S`, told by the model's inference: a step takes some three times it.

    It changes no result. Small models gain a little: the article's some percent.
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

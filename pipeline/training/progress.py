"""What a person sees of a training: a bar, or, without a terminal, a line now and then."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import keras
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.training.recipes import Plan
from pipeline.workflow.context import Context

LINES = 10
"""How many lines a whole training prints without a terminal."""


class Bar(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """A bar with loss and accuracy, samples a second and the time left; without a terminal, a line at every tenth."""

    def __init__(self, context: Context, plan: Plan) -> None:
        super().__init__()
        self._context, self._plan = context, plan
        self._watched = context.console.is_terminal
        self._done, self._began, self._epoch_began = 0, 0.0, 0.0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[measures]}"),
            TimeRemainingColumn(),
            console=context.console,
            disable=not self._watched,
        )
        self._task = self._bar.add_task("train", total=plan.epochs * plan.steps, epoch="", measures="")

    def __enter__(self) -> "Bar":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._done, self._epoch_began = 0, time.monotonic()
        self._bar.update(self._task, epoch=f"{epoch + 1}/{self._plan.epochs}", completed=epoch * self._plan.steps)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._watched:
            advanced, self._done = batch + 1 - self._done, batch + 1
            rate = self._done * self._plan.batch / (time.monotonic() - self._epoch_began)
            self._bar.update(self._task, advance=advanced, measures=f"{measures(logs)}, {rate:,.0f} samples/s")

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        every = max(1, self._plan.epochs // LINES)
        if not self._watched and ((epoch + 1) % every == 0 or epoch + 1 == self._plan.epochs):
            self._context.say(f"epoch {epoch + 1}/{self._plan.epochs}: {measures(logs)}")


def measures(logs: Mapping[str, float] | None) -> str:
    """Return Keras's measures in a line."""
    return ", ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())

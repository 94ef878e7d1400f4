"""How far it is: a bar on a terminal, else a line every ten seconds."""

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from pipeline.console import Console

LINE_EVERY_S = 10.0


class Shown:
    """Rows scored, with the rate of this run and the time left."""

    def __init__(self, rows: int, before: int) -> None:
        self._rows, self._before, self._done = rows, before, before
        self._console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 120)
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, disable=not self._console.is_terminal, transient=True)
        self._task = TaskID(0)
        self._started: float | None = None
        self._line_due = 0.0

    def __enter__(self) -> "Shown":
        self._bar.start()
        self._task = self._bar.add_task("loading the model", total=self._rows, completed=self._before)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def say(self, line: str) -> None:
        """Print a line."""
        self._console.print(line, markup=False, highlight=False)

    def begin(self) -> None:
        """Start the clock, where it has not been started: the first model is loaded."""
        if self._started is None:
            self._started = time.monotonic()
            self._line_due = self._started + LINE_EVERY_S

    @property
    def seconds(self) -> float:
        """Since the first model was loaded."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    @property
    def done(self) -> int:
        """Rows scored, those of earlier runs included."""
        return self._done

    def advance(self, rows: int) -> None:
        """Count rows; fewer where a process died in a piece that is to be done anew."""
        self.begin()
        self._done += rows
        self._bar.update(self._task, completed=self._done, description=self._rate())

    def tick(self) -> None:
        """Print a line where it is time."""
        if self._bar.disable and self._started is not None and time.monotonic() >= self._line_due:
            self._line_due = time.monotonic() + LINE_EVERY_S
            self.say(f"  {self._done:,} of {self._rows:,} rows, {self._rate()}, {self._left()} left")

    def _rate(self) -> str:
        return f"{(self._done - self._before) / max(self.seconds, 1e-9):,.0f} rows/s"

    def _left(self) -> str:
        rate = (self._done - self._before) / max(self.seconds, 1e-9)
        seconds = (self._rows - self._done) / rate if rate else 0
        hours, minutes = int(seconds // 3600), int(seconds % 3600 // 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60:.0f} s"

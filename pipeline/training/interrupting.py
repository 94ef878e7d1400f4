"""Ctrl-C, and SIGTERM as a preemption sends it: the step is finished, what was done is saved, then the run ends.

A closed terminal's SIGHUP is as Ctrl-C.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline import interruption
from pipeline.errors import Interrupted, PipelineError, Preempted


class Asked:
    """Which signal asked to stop, if any."""

    number: int | None = None
    at = 0.0
    """When, by the monotonic clock."""

    def error(self, what: str) -> PipelineError:
        """Return what ends the run; `what` says what is kept."""
        if self.number == signal.SIGTERM:
            return Preempted(f"stopped by SIGTERM; {what}", "The same command goes on from there.")
        return Interrupted(f"interrupted; {what}", "The same command goes on from there.")


@contextmanager
def listening() -> Iterator[Asked]:
    """Note the first signal instead of obeying it; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():  # which alone may take signals
        yield Asked()
        return
    asked, before = Asked(), interruption.handlers()

    def note(number: int, frame: FrameType | None) -> None:
        interruption.record(number)
        asked.number, asked.at = number, time.monotonic()
        interruption.restore(before)

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        interruption.restore(before)

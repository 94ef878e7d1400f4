"""What a builder says of its progress: which phase it is in, and how many seconds each took."""

import threading
import time
from collections.abc import Callable
from typing import Any

Watch = Callable[[str, int, int], None]
"""Called with a phase, how many of its steps are done, and how many it has."""

KEPT = 12
"""Of how many phases the seconds are kept: the longest."""


class Phases:
    """Seconds by phase. Phases lie within each other, so a phase's seconds are part of those of the phase around it.

    TensorRT may call from several threads, and gives a phase by its name alone.
    """

    def __init__(self, watch: Watch | None = None) -> None:
        self._watch = watch or (lambda phase, done, steps: None)
        self._lock = threading.Lock()
        self._since: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._seconds: dict[str, float] = {}

    def start(self, phase: str, steps: int) -> None:
        """Note that a phase has begun."""
        with self._lock:
            self._since[phase], self._steps[phase] = time.monotonic(), steps
            self._seconds.setdefault(phase, 0.0)
            self._watch(phase, 0, steps)

    def step(self, phase: str, index: int) -> None:
        """Note that a phase's step, counted from 0, is done."""
        with self._lock:
            self._watch(phase, index + 1, self._steps.get(phase, 0))

    def finish(self, phase: str) -> None:
        """Note that a phase has ended."""
        with self._lock:
            since = self._since.pop(phase, None)
            if since is not None:
                self._seconds[phase] += time.monotonic() - since

    def seconds(self) -> dict[str, float]:
        """Return the seconds of the longest phases, in the order in which they first began."""
        with self._lock:
            longest = sorted(self._seconds, key=lambda phase: -self._seconds[phase])[:KEPT]
            return {phase: round(took, 3) for phase, took in self._seconds.items() if phase in longest}


def monitor(trt: Any, phases: Phases) -> Any:
    """Return the object by which TensorRT tells `phases`. TensorRT for RTX calls it, too, and without a GPU."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # imported at run time
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)  # super().__init__() would leave the C++ part unmade

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()

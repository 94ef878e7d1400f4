"""What a model has done, as the protocol's statistics count it."""

from collections import defaultdict
from dataclasses import dataclass, field

from pipeline.serving.waiting import Ran


@dataclass
class Total:
    """How often, and how long together."""

    count: int = 0
    ns: int = 0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count one more, or several that took this long together."""
        self.count += times
        self.ns += int(seconds * 1e9)


@dataclass
class Statistics:
    """Of one version of a model since it was loaded; changed in the event loop only."""

    success: Total = field(default_factory=Total)
    fail: Total = field(default_factory=Total)
    queue: Total = field(default_factory=Total)
    infer: Total = field(default_factory=Total)
    samples: int = 0
    executions: int = 0
    last_ms: int = 0
    """When the last request was answered, Unix time."""
    batches: dict[int, Total] = field(default_factory=lambda: defaultdict(Total))
    """By the number of samples that ran together."""

    def ran(self, ran: Ran) -> None:
        """Count a batch."""
        self.queue.add(ran.queue_s, ran.requests)
        self.infer.add(ran.infer_s * ran.requests, ran.requests)
        self.samples += ran.rows
        self.executions += 1
        self.batches[ran.rows].add(ran.infer_s)

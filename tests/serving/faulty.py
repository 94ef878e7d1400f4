"""The server as it is, but for sessions that fail or wait where an image's first pixel says so."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import cli
from pipeline.runners import Runner

CRASH, NO_MEMORY, WAIT = 251, 252, 253
RELEASED = Path(os.environ.get("RELEASED", "released"))
"""Sessions that were told to wait do so until there is this file."""

_open = Runner.open


class _Faulty:
    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs, self.outputs = session.inputs, session.outputs

    def run(self, feed: Any) -> Any:
        first = feed["image"][:, 0, 0, 0]
        if CRASH in first:
            raise RuntimeError("the session was told to crash")
        if NO_MEMORY in first:
            raise MemoryError
        while WAIT in first and not RELEASED.exists():
            time.sleep(0.005)
        return self._session.run(feed)


@contextmanager
def _faulty(self: Runner, **options: Any) -> Iterator[Any]:
    with _open(self, **options) as session:
        yield _Faulty(session)


if __name__ == "__main__":
    Runner.open = _faulty  # type: ignore[method-assign, assignment]
    cli.main()

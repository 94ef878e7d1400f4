"""Charts become SVG in a process of their own, which holds the JavaScript engine that draws.

That engine reserves address space by the terabyte, and ends its process where it gets none.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from pipeline import exhaustion
from pipeline.errors import LimitReached
from pipeline.runners import processes

LIMIT_S = 120.0
"""For how long a drawing may take; it takes a tenth of a second."""

PROGRAM = """
import json, sys
import vl_convert
for line in sys.stdin:
    chart, options = json.loads(line)
    print(json.dumps(vl_convert.vegalite_to_svg(chart, **options)), flush=True)
"""

_running: list["subprocess.Popen[str]"] = []


@contextmanager
def process() -> Iterator[None]:
    """Have one process draw all that the block draws. It ends with the block, or with this process."""
    with subprocess.Popen(
        # -P: what lies in the working directory is not imported.
        [sys.executable, "-P", "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as drawer:
        _running.append(drawer)
        try:
            yield
        finally:
            _running.remove(drawer)
            drawer.kill()


def svg(chart: str, **options: object) -> str:
    """Return a Vega-Lite chart, given as JSON, as SVG; outside of `process` by a process for it alone.

    Raises:
        LimitReached: the process ended, or was silent for too long.
        RuntimeError: a bug; the message is the process's traceback.
    """
    if not _running:
        with process():
            return svg(chart, **options)
    drawer = _running[-1]
    assert drawer.stdin is not None
    assert drawer.stdout is not None
    with processes.watched(LIMIT_S, drawer.kill) as late, suppress(BrokenPipeError):
        drawer.stdin.write(f"{json.dumps((chart, options))}\n")
        drawer.stdin.flush()
        if answer := drawer.stdout.readline():
            return str(json.loads(answer))
    raise _ended(drawer, late=late.is_set())


def _ended(drawer: "subprocess.Popen[str]", *, late: bool) -> Exception:
    said: IO[str] | None = drawer.stderr
    words, code = said.read() if said else "", drawer.wait()
    if late:
        return LimitReached(f"the process that draws the report's charts was silent for {LIMIT_S:.0f} s")
    if code > 0:
        last = RuntimeError((words.splitlines() or [""])[-1])
        error = RuntimeError(f"the process that draws the report's charts ended with exit code {code}:\n{words}")
        return exhaustion.told(last) or error
    return exhaustion.memory(f"the process that draws the report's charts was ended by signal {-code}")

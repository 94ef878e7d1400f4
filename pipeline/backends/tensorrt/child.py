"""The program of the process that builds one engine: see pipeline.backends.tensorrt.process."""

import os
import signal
import sys
import threading
import time
from typing import TextIO

from pipeline.backends.tensorrt import build
from pipeline.backends.tensorrt.process import Built, Failed, Request, Step
from pipeline.errors import PipelineError

TOLD_EVERY_S = 0.1
"""How often steps are told, of which there may be thousands; each phase is."""


def main() -> None:
    """Build what the request says."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits; it ends this one
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    request = Request.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _build(request, answers)
    except PipelineError as error:
        _tell(answers, Failed(error=type(error).__name__, message=error.message, hint=error.hint))


def _build(request: Request, answers: TextIO) -> None:
    build.probe_build(request.options.flavour)
    build.logger_of(request.options.flavour).copy = sys.stderr  # so that a crash leaves the last words
    told_at = 0.0

    def watch(phase: str, done: int, steps: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if done == 0 or now - told_at > TOLD_EVERY_S:
            told_at = now
            _tell(answers, Step(phase=phase, done=done, steps=steps))

    built = build.build(request.model, request.options, request.layers, watch)
    request.engine.write_bytes(built.engine)
    _tell(
        answers,
        Built(
            messages=built.messages,
            version=built.version,
            taken=built.taken,
            phases=built.phases,
            timing_cache=built.timing_cache,
        ),
    )


def _tell(answers: TextIO, answer: Step | Built | Failed) -> None:
    try:
        answers.write(answer.model_dump_json() + "\n")
        answers.flush()
    except OSError:  # nobody listens any more
        os._exit(1)


def _end_with_parent() -> None:
    """End when standard input is closed, as it is when the process that waits has ended, by whatever it was."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()

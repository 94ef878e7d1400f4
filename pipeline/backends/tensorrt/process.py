"""Builds an engine in a process of its own: what ends the builder does not end the pipeline, and can be ended by it.

TensorRT for RTX 1.7.1 dies of some graphs, as of a OneHot whose depth is computed, and what fails once in a process may
fail otherwise the next time. The process (`child.py`) imports
TensorRT and what reads graphs, neither Keras nor TensorFlow. It ends with this one, by whatever this one is ended.
"""

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO, NoReturn

from pydantic import TypeAdapter

from pipeline import errors, interruption
from pipeline.artifacts.engine import TimingCacheUse
from pipeline.artifacts.record import Record
from pipeline.backends.tensorrt.build import BuildOptions
from pipeline.backends.tensorrt.failures import Layers
from pipeline.backends.tensorrt.progress import Watch
from pipeline.errors import BuildError, PipelineError

LAST_WORDS = 5
"""How many lines of what a builder said before it crashed are told."""

OUT_OF_MEMORY = "Most probably memory ran out: build on a larger machine, or a smaller model."
FAULT = (
    "That is a fault of TensorRT's. Leave this precision out; if fp32 fails too, replace the layer, or try another "
    "version of TensorRT. ONNX Runtime runs the graph as it is."
)


class Request(Record):
    """What the process is to build; a line of JSON on its standard input, which stays open while this one lives."""

    model: Path
    engine: Path
    options: BuildOptions
    layers: dict[str, str]


class Step(Record):
    """How far the builder is."""

    phase: str
    done: int
    steps: int


class Built(Record):
    """An engine has been written: see BuiltEngine."""

    messages: tuple[str, ...]
    version: str
    taken: tuple[str, ...]
    phases: dict[str, float]
    timing_cache: TimingCacheUse | None


class Failed(Record):
    """What the pipeline's own error was."""

    error: str
    """The name of its class."""
    message: str
    hint: str

    def raised(self) -> PipelineError:
        """Return the error."""
        kind: type[PipelineError] = getattr(errors, self.error)
        return kind(self.message, self.hint)


ANSWER: TypeAdapter[Step | Built | Failed] = TypeAdapter(Step | Built | Failed)
"""A line of JSON on the process's standard output."""


def build(
    model: Path, engine: Path, options: BuildOptions, layers: Layers | None = None, watch: Watch | None = None
) -> Built:
    """Build an engine from an ONNX model and write it to a file, in a process of its own.

    Ctrl-C ends that process at once, and so does SIGTERM, which then is Ctrl-C to this one.

    Raises:
        BuildError: as build.build; and where the process was ended by a signal, with its last words.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
        RuntimeError: a bug; the message is the process's traceback.
        PipelineError: as build.build.
    """
    request = Request(model=model, engine=engine, options=options, layers=dict(layers or {}))
    packages = os.pathsep.join(filter(None, (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH"))))
    phase = ""
    with tempfile.TemporaryFile() as said, interruption.interrupting():
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.backends.tensorrt.child"],
            env=os.environ | {"PYTHONPATH": packages},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with suppress(BrokenPipeError):
                process.stdin.write(request.model_dump_json().encode() + b"\n")
                process.stdin.flush()
            for line in process.stdout:
                answer = ANSWER.validate_json(line)
                if isinstance(answer, Failed):
                    raise answer.raised()
                if isinstance(answer, Built):
                    return answer
                phase = answer.phase
                if watch:
                    watch(answer.phase, answer.done, answer.steps)
            process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            with suppress(BrokenPipeError):
                process.stdin.close()
        _crashed(model, process.returncode, phase, said)


def _crashed(model: Path, code: int, phase: str, said: IO[bytes]) -> NoReturn:
    """Raise the error for a process that ended without an answer."""
    said.seek(0)
    words = said.read().decode(errors="replace").strip()
    if code in (0, 1):  # as Python ends, and no crash
        raise RuntimeError(f"the process that builds engines ended with exit code {code}:\n{words}")
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code:#x}"  # as on Windows
    where = f" in the phase {phase!r}" if phase else ""
    last = words.splitlines()[-LAST_WORDS:]
    what = f"{model}: TensorRT's builder crashed: {name}{where}{':' if last else ', without a word'}"
    raise BuildError("\n".join([what, *last]), OUT_OF_MEMORY if name == "SIGKILL" else FAULT)

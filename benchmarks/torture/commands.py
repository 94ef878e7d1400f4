"""The commands under torture, and what a process of theirs leaves behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.torture.cases import Broken, Place

ROOT = Path(__file__).parents[2]
LIMIT_S = 240.0
"""No command takes that long: one that does, hangs."""

GRACE_S = 20.0
"""So long processes may outlive the command that started them."""

MARK = "TORTURED"
"""An environment variable by which all descendants of a case are found, whatever session they are in."""

CONFIG = ("--config", "pipeline.toml")
HEAVY: dict[str, tuple[str, ...]] = {
    "train": ("train", "--force", *CONFIG),
    "export": ("export", "--force", *CONFIG),
    "engine": ("engine", "--force", *CONFIG),
    "validate": ("validate", "--force", *CONFIG),
    "benchmark": ("benchmark", "--force", *CONFIG),
    "localise": ("localise", "--precision", "int8", "--force", *CONFIG),
    "all": ("all", "--force", *CONFIG),
}
LIGHT: dict[str, tuple[str, ...]] = {
    "report": ("report", "--force", *CONFIG),
    "deploy": ("deploy", "--force", *CONFIG),
    "score": ("score", "artifacts", "inputs/rows.npy", "answers", *CONFIG),
    "predict": ("predict", "inputs/image.png", *CONFIG),
    "verify": ("verify", "artifacts", *CONFIG),
    "check": ("doctor", "--artifacts", "artifacts"),
    "doctor": ("doctor", *CONFIG),
    "config": ("config", *CONFIG),
    "up to date": ("export", *CONFIG),
}
COMMANDS = HEAVY | LIGHT

NONE: Mapping[str, str | None] = MappingProxyType({})

DOCUMENTED = (0, 2, 3, 4, 5, 6, 7, 8, 9)
"""Exit codes of commands that no signal ended (pipeline.errors), but for that of a bug."""


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    said: str


def environment(home: Path, variables: Mapping[str, str | None] = NONE) -> dict[str, str]:
    """Return the variables for a command: as few as it can do with, a home and a folder for temporary files of its own.

    `variables` come on top; None takes one away.
    """
    for name in ("home", "tmp"):
        (home / name).mkdir(parents=True, exist_ok=True)
    plain = {name: os.environ[name] for name in ("PATH", "LANG", "PIPELINE_DATA_DIR") if name in os.environ}
    plain |= {"HOME": str(home / "home"), "TMPDIR": str(home / "tmp"), "PYTHONPATH": str(ROOT)}
    plain |= {"PYTHONDONTWRITEBYTECODE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    for name, value in variables.items():
        plain.pop(name, None)
        if value is not None:
            plain[name] = value
    return plain


def run(
    place: Place,
    arguments: Sequence[str],
    *,
    variables: Mapping[str, str | None] = NONE,
    wrapped: Callable[[list[str]], list[str]] = list,
    meanwhile: Callable[["subprocess.Popen[bytes]"], None] = lambda process: None,
    killed: bool = False,
) -> Ended:
    """Run `python -m pipeline …` in the case's folder to its end, and see that nothing of it is left.

    Args:
        place: the case's.
        arguments: after `python -m pipeline`; or a whole command where the first is an absolute path.
        variables: see `environment`.
        wrapped: returns the command line to run instead, as under a limit.
        meanwhile: is given the process once it runs.
        killed: it gets a SIGKILL, after which temporary files may stay.

    Raises:
        Broken: it does not end, leaves a process or a temporary file, or says a traceback of its own.
    """
    mark = uuid.uuid4().hex
    command = list(arguments) if Path(arguments[0]).is_absolute() else [sys.executable, "-m", "pipeline", *arguments]
    output = place.folder / f"said-{mark}"
    before = _temporary(place)
    variables = {MARK: mark, **variables}
    with output.open("wb") as said:
        process = subprocess.Popen(
            wrapped(command),
            cwd=place.folder,
            env=environment(place.folder, variables),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            meanwhile(process)
            process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            raise Broken(f"it has not ended after {LIMIT_S:.0f} s: {_tail(output)}") from None
        finally:
            left = _left(mark, GRACE_S if process.poll() is not None else 0)
            for number in left:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            process.wait()
    ended = Ended(process.returncode, _tail(output))
    if left:
        raise Broken(f"{len(left)} processes are left ({ended})")
    if b"Traceback (most recent call last)" in output.read_bytes():
        raise Broken(f"a traceback, exit code {ended.code}: {ended.said}")
    if not killed and (there := sorted(_temporary(place) - before)):
        raise Broken(f"temporary files are left: {there[:5]} ({ended})")
    return ended


def expect(ended: Ended, codes: Collection[int]) -> None:
    """Raise Broken where a command ended with another exit code."""
    if ended.code not in codes:
        raise Broken(f"exit code {ended.code}: {ended.said}")


def _temporary(place: Place) -> set[str]:
    return {path.name for path in (place.folder / "tmp").glob("*")}


def _tail(output: Path) -> str:
    return output.read_bytes().decode(errors="backslashreplace")[-2000:].strip()


def _left(mark: str, grace_s: float) -> list[int]:
    """Return the processes of a case that are there, after giving them time to end."""
    until = time.monotonic() + grace_s
    while (found := _marked(f"{MARK}={mark}".encode())) and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _marked(entry: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if entry in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found

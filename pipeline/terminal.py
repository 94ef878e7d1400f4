"""What is said on the terminal: whatever it can show, and though nobody listens any more, the work goes on."""

import codecs
import io
import os
import select
import sys
import unicodedata
from typing import TextIO

from pipeline import texts
from pipeline.errors import ArtifactError

PLAIN = {
    **{"≥": ">=", "≤": "<=", "≠": "!=", "≈": "~", "×": "x", "→": "->", "←": "<-", "±": "+-", "−": "-", "·": "*"},
    **{"–": "-", "—": "-", "…": "...", "‘": "'", "’": "'", "“": '"', "”": '"', "µ": "u", "μ": "u", "✓": "ok"},
    **{"├": "|", "└": "`", "│": "|", "┌": "+", "┐": "+", "┘": "+", "─": "-", "━": "-", "╸": "-", "╺": "-", "•": "*"},
}
"""What stands for a character on a terminal that does not have it."""

HANDLER = "pipeline.terminal"


class _Kept(io.FileIO):
    """A standard stream that takes everything: what cannot be written is lost, and the first reason is kept."""

    reason: OSError | None = None

    def write(self, content: object, /) -> int:
        """Write what can be written; the rest counts as written."""
        try:
            while (written := super().write(content)) is None:  # type: ignore[arg-type]  # full, and not to wait for
                select.select([], [self], [])
            return written
        except OSError as error:
            self.reason = self.reason or error
            return memoryview(content).nbytes  # type: ignore[arg-type]


_kept: dict[int, _Kept] = {}
"""The streams of this process, by the number of their descriptor."""


def prepare() -> None:
    """Make standard output and error take whatever is said, whichever encoding they have and whoever has left them.

    A descriptor that was closed is opened on nothing: else the next file that is opened, an artifact, would get its
    number, and with it what a library prints.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # at the lowest number that is free: this one
    codecs.register_error(HANDLER, _in_plain)
    # Where something else has taken the streams, as a test or a notebook, they are its own.
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(2, sys.stderr)


def answer(text: str) -> None:
    """Print what a command was asked for.

    Raises:
        ArtifactError: it could not be written; a reader that had enough of it is no error.
    """
    print(texts.harmless(text), flush=True)
    reason = _kept[1].reason if 1 in _kept else None
    if reason is not None and not isinstance(reason, BrokenPipeError):
        raise ArtifactError(
            f"standard output cannot be written: {reason.strerror}", "Make room, or write the answer elsewhere."
        )


def complain(message: str, hint: str = "") -> None:
    """Print an error on standard error, in red where that is a terminal and NO_COLOR is not set (no-color.org)."""
    message, hint = texts.harmless(message), texts.harmless(hint)
    coloured = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    print(f"\033[31m{message}\033[0m" if coloured else message, file=sys.stderr)
    if hint:
        print(f"  {hint}", file=sys.stderr)


def _stream(descriptor: int, before: TextIO | None) -> TextIO:
    raw = _kept[descriptor] = _Kept(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before else "utf-8",
        errors=HANDLER,
        line_buffering=True,
    )


def _in_plain(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for characters that an encoding does not have, in ASCII (an error handler of `codecs`)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte of a name that is not UTF-8
        return f"\\x{ord(character) - 0xDC00:02x}"
    known = PLAIN.get(character) or unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return known or "?"

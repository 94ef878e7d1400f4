"""Whose turn which piece is: a process goes on where it is, and takes from others when nothing is left."""

from collections import deque
from collections.abc import Hashable, Iterable

from pipeline.scoring.plan import Piece
from pipeline.scoring.sources import Source


class Turns:
    """The pieces left, in runs of those that are near each other: as a Parquet file's row group is read forwards.

    A process takes the next of its run; then of a run that nobody has begun; then of the longest one.
    """

    def __init__(self, pieces: Iterable[Piece], source: Source) -> None:
        self._runs: dict[Hashable, deque[Piece]] = {}
        for piece in pieces:
            self._runs.setdefault(source.near(piece), deque()).append(piece)
        self._fresh = deque(self._runs)
        self._near = source.near
        self._at: dict[int, Hashable] = {}

    def __bool__(self) -> bool:
        return bool(self._runs)

    def next(self, worker: int) -> Piece | None:
        """Return the piece for a process; None where nothing is left."""
        run = self._at.get(worker)
        if run not in self._runs:
            while self._fresh and self._fresh[0] not in self._runs:
                self._fresh.popleft()
            if self._fresh:
                run = self._fresh.popleft()
            elif self._runs:
                run = max(self._runs, key=lambda one: len(self._runs[one]))
            else:
                return None
        self._at[worker] = run
        piece = self._runs[run].popleft()
        if not self._runs[run]:
            del self._runs[run]
        return piece

    def back(self, piece: Piece) -> None:
        """Take back a piece that was not done."""
        self._runs.setdefault(self._near(piece), deque()).appendleft(piece)

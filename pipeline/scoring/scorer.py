"""A session that rows go through: in batches that it takes, with every failure kept to the row that caused it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.backends import Session
from pipeline.errors import DataError, first_line
from pipeline.runners import inference
from pipeline.scoring.feeds import Indices, Samples
from pipeline.tensors import Feed


class Scored(NamedTuple):
    """What came of `size` rows: the numbers of those that were inferred, ascending, and their outputs by name.

    An output is an array [inferred rows, …], or a list of arrays where a sample's shape is dynamic.
    """

    size: int
    rows: Indices
    outputs: dict[str, Any]
    errors: dict[int, str]


class Scorer:
    """A loaded model and the batches to feed it.

    Args:
        session: the loaded model.
        batch: samples at a time.
        limits: the smallest and the largest batch that the runner takes.
    """

    def __init__(self, session: Session, batch: int, limits: tuple[int, int]) -> None:
        self._session = session
        self._smallest, largest = limits
        self.batch = min(max(batch, self._smallest), largest)
        self._worked: Feed | None = None

    def score(self, samples: Samples) -> Scored:
        """Infer all rows that can be. What the model refuses of a batch is tried row by row, and fails alone.

        Raises:
            PipelineError: the model no longer takes what it took before, or returns no row for each sample.
        """
        errors = dict(samples.errors)
        parts: list[tuple[Indices, dict[str, Any]]] = []
        for indices, feed in samples.groups:
            for start in range(0, len(indices), self.batch):
                part = slice(start, start + self.batch)
                one = {name: rows[part] for name, rows in feed.items()}
                parts += self._inferred(indices[part], one, errors)
        return Scored(samples.size, *_joined(parts), errors)

    def _inferred(self, indices: Indices, feed: Feed, errors: dict[int, str]) -> list[tuple[Indices, dict[str, Any]]]:
        try:
            return [(indices, self._run(feed, len(indices)))]
        except DataError:
            raise
        except Exception as error:  # of whichever library runs the model
            if len(indices) > 1:
                found = []
                for place in range(len(indices)):
                    alone = slice(place, place + 1)
                    one = {name: rows[alone] for name, rows in feed.items()}
                    found += self._inferred(indices[alone], one, errors)
                return found
            if self._worked is not None:
                self._run(self._worked, 1)  # else it is the session that no longer works, and not this row
            errors[int(indices[0])] = f"the model: {first_line(error)}"
            return []

    def _run(self, feed: Feed, count: int) -> dict[str, Any]:
        outputs = self._session.run(inference.filled(feed, self._smallest))
        fed = max(count, self._smallest)
        for name, rows in outputs.items():
            if not rows.ndim or len(rows) != fed:
                raise DataError(
                    f"the model's output {name} has the shape {list(rows.shape)} for a batch of {fed}",
                    "Every output must have a row for each sample.",
                )
        if self._worked is None:
            self._worked = {name: rows[:1].copy() for name, rows in feed.items()}
        return {name: rows[:count].copy() for name, rows in outputs.items()}  # the session writes there again


def _joined(parts: Sequence[tuple[Indices, dict[str, Any]]]) -> tuple[Indices, dict[str, Any]]:
    """Return the numbers of all rows, ascending, and their outputs."""
    if not parts:
        return np.zeros(0, np.int64), {}
    rows = np.concatenate([indices for indices, _ in parts])
    order = np.argsort(rows, kind="stable")
    ascending = bool((order == np.arange(len(rows))).all())
    joined: dict[str, Any] = {}
    for name in parts[0][1]:
        arrays = [outputs[name] for _, outputs in parts]
        if len({array.shape[1:] for array in arrays}) == 1:
            whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
            joined[name] = whole if ascending else whole[order]
        else:
            every = [sample for array in arrays for sample in array]
            joined[name] = [every[place] for place in order]
    return rows[order], joined

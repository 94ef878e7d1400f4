"""A task of the user's own: a function that scores samples (`validate.task = "package.module:function"`)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline import user_code
from pipeline.errors import DataError
from pipeline.tasks import Answer, Fit, Numbers, Seen, Task, numbers
from pipeline.tensors import Feed

OF_THE_SCORE = 0.01
"""How much of the original's mean score may be lost by default."""


@dataclass(frozen=True, kw_only=True)
class Own(Task):
    """What the user's function says: it is called with some samples' outputs and targets, each a dictionary of arrays
    [samples, …] by name, and returns a score for each sample [samples], of which higher is better.

    Example, as named by `validate.task`:

        def boxes_found(outputs, targets):
            return [overlap(*pair) for pair in zip(outputs["boxes"], targets["boxes"])]
    """

    NAME = "own"

    path: str
    function: Callable[[Feed, Feed], Any] = field(repr=False)

    @classmethod
    def named(cls, path: str) -> "Own":
        """Return the task that an import path names.

        Raises:
            DataError: no such module or function.
        """
        return cls(path=path, function=user_code.import_function(path, "validate.task"))

    @classmethod
    def guess(cls, seen: Seen) -> Fit | None:
        """See Task: never guessed."""
        return None

    @classmethod
    def asked(cls, seen: Seen) -> Fit:
        """See Task."""
        return Fit("", "asked for")

    @property
    def metric(self) -> str:
        """The function's name."""
        return f"mean {self.path.partition(':')[2]}"

    @property
    def unit(self) -> str:
        """See Task."""
        return "score"

    @property
    def scale(self) -> float:
        """See Task."""
        return 1.0

    def budget(self, original: float) -> tuple[float, str]:
        """See Task."""
        return OF_THE_SCORE * abs(original), f"{OF_THE_SCORE:.0%} of the original's mean score"

    def scores(self, outputs: Any, targets: Any) -> Numbers:
        """Return what the function says.

        Raises:
            DataError: it raises, or returns no score for each sample.
        """
        count = len(next(iter(outputs.values())))
        with user_code.running(f"validate.task = {self.path!r} raised"):
            found = np.asarray(self.function(outputs, targets), np.float64)
        if found.shape != (count,):
            raise DataError(
                f"validate.task = {self.path!r} returned an array {list(found.shape)} for {count} samples",
                "Return one score for each sample; higher is better.",
            )
        return found

    def proportion(self, reference: Numbers, candidate: Numbers) -> bool:
        """Tell whether every score is 0 or 1: a sample is right or wrong then."""
        return bool(np.isin(np.concatenate([reference, candidate]), (0, 1)).all())

    def reads(self, output: Any, names: Sequence[str], target: Any = None) -> Answer:
        """Return the first numbers of each output, and the score."""
        text = "; ".join(f"{name} {numbers(rows)}" for name, rows in output.items())
        if target is None:
            return Answer(text, None)
        rows, wanted = ({name: one[None] for name, one in each.items()} for each in (output, target))
        return Answer(text, float(self.scores(rows, wanted)[0]))

    def target_reads(self, target: Any, names: Sequence[str]) -> str:
        """See Task."""
        return "; ".join(f"{name} {numbers(rows)}" for name, rows in target.items())

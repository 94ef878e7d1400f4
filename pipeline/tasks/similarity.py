"""Embeddings: judged by their direction, as the cosine to the target's or to the original's."""

from collections.abc import Sequence

import numpy as np

from pipeline.tasks import Answer, Fit, Numbers, Seen, Task, numbers
from pipeline.tensors import Array

FEWEST = 16
"""Numbers a sample from which an output without labels is taken for an embedding, whatever its length."""


class Similarity(Task):
    """A vector a sample, of which the direction counts; a sample's score is the cosine."""

    NAME = "similarity"

    @classmethod
    def guess(cls, seen: Seen) -> Fit | None:
        """See Task."""
        if seen.targets is not None or not embedding(seen):
            return None
        return Fit("", f"no labels; {seen.shape[0]} numbers a sample that are no probabilities: an embedding")

    @classmethod
    def asked(cls, seen: Seen) -> Fit:
        """See Task."""
        if len(seen.shape) != 1:
            raise seen.refuse(cls.NAME)
        return Fit("", f"the direction of {seen.shape[0]} numbers a sample")

    @classmethod
    def uses(cls, seen: Seen) -> bool:
        """Tell whether the targets are embeddings, too: classes, as of a metric learner, are not."""
        return seen.target_shape == seen.shape

    @property
    def metric(self) -> str:
        """See Task."""
        return "mean cosine"

    @property
    def unit(self) -> str:
        """See Task."""
        return "cosine"

    @property
    def scale(self) -> float:
        """See Task."""
        return 1.0

    def budget(self, original: float) -> tuple[float, str]:
        """See Task."""
        return 0.005, "0.005 of a cosine, 5.7° between two vectors"

    def scores(self, outputs: Array, targets: Array) -> Numbers:
        """Return the cosine of each sample; 1 where both are zeros alone."""
        one, other = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (outputs, targets))
        product = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            cosine = (one * other).sum(axis=1) / product
        return np.asarray(np.where(product == 0, (one == other).all(axis=1), cosine), np.float64)

    def same(self, reference: Array, candidate: Array) -> Numbers:
        """See Task."""
        return self.scores(candidate, reference)

    def reads(self, output: Array, names: Sequence[str], target: Array | None = None) -> Answer:
        """Return the first numbers, and the cosine to the target."""
        score = None if target is None else float(self.scores(output[None], np.asarray(target)[None])[0])
        return Answer(numbers(output), score if score is None or np.isfinite(score) else None)


def embedding(seen: Seen) -> bool:
    """Tell whether an output without labels is taken for an embedding: of length 1, or of many numbers."""
    if len(seen.shape) != 1 or seen.fractions or seen.whole_outputs:
        return False
    lengths = np.linalg.norm(seen.outputs.reshape(len(seen.outputs), -1).astype(np.float64), axis=1)
    return seen.shape[0] >= FEWEST or bool(np.allclose(lengths, 1, atol=1e-3))


TASK = Similarity

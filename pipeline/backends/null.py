"""Does nothing, so that timing it measures the harness itself: the floor under every other number."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline import graphs
from pipeline.backends import Bound, Closable, LoadOptions, Role, Variant, check_variant
from pipeline.tensors import Feed, Outputs, TensorSpec

VARIANTS = {"harness": Variant("onnx", "cpu")}
ROLE: Role = "harness"
LABEL = "the harness itself"
DISTRIBUTIONS: tuple[str, ...] = ()
TUNABLE = False


class NullSession(Closable):
    """Answers zeros of the right shape."""

    device = "cpu"

    def __init__(self, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self.settings: dict[str, object] = {}
        self._batch = -1
        self._zeros: Outputs = {}

    def run(self, feed: Feed) -> Outputs:
        """Return zeros for as many samples as the feed has; the same arrays again for the same number."""
        self.check_open()
        batch = len(feed[self.inputs[0].name])
        if batch != self._batch:
            self._zeros = {
                spec.name: np.zeros([batch if size is None else size for size in spec.shape], spec.dtype)
                for spec in self.outputs
            }
            self._batch = batch
        return self._zeros

    def bind(self, feed: Feed) -> Bound:
        """Return what does nothing."""
        self.check_open()
        return Bound(launch=self.check_open, wait=self.check_open)


def probe(variant: str) -> None:
    """Check the name only: doing nothing works everywhere."""
    check_variant("null", variant, VARIANTS)


@contextmanager
def load(model: Path | bytes, options: LoadOptions) -> Iterator[NullSession]:
    """Read the names and shapes of an ONNX model's inputs and outputs, from a file or from its bytes."""
    probe(options.variant)
    proto = graphs.load(model, weights=False)
    session = NullSession(graphs.inputs(proto), graphs.outputs(proto))
    try:
        yield session
    finally:
        session.close()

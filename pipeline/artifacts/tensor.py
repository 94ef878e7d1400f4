"""An input or output of a model, or of a data set, as artifacts record it."""

import numpy as np

from pipeline.artifacts.record import Record
from pipeline.tensors import TensorSpec


class TensorRecord(Record):
    """Name, shape and type of a tensor."""

    name: str
    shape: tuple[int | None, ...]
    """Null where a dimension is dynamic: the first, the batch, and others."""
    dtype: str
    """NumPy's name of the type of an element."""

    @classmethod
    def of(cls, spec: TensorSpec) -> "TensorRecord":
        """Return the record of a specification."""
        return cls(name=spec.name, shape=spec.shape, dtype=spec.dtype.name)

    @property
    def spec(self) -> TensorSpec:
        """The specification."""
        return TensorSpec(self.name, self.shape, np.dtype(self.dtype))

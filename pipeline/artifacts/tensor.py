"""An input or output of a model, or of a data set, as artifacts record it."""

from typing import Annotated

import ml_dtypes  # noqa: F401  whose types NumPy knows from then on
import numpy as np
from pydantic import AfterValidator

from pipeline.artifacts.record import Record
from pipeline.tensors import TensorSpec


def _known(dtype: str) -> str:
    try:
        known = np.dtype(dtype).name == dtype
    except (TypeError, ValueError, SyntaxError):
        known = False
    if not known:
        raise ValueError(f"{dtype!r} is not the name of a type of NumPy's")
    return dtype


class TensorRecord(Record):
    """Name, shape and type of a tensor."""

    name: str
    shape: tuple[int | None, ...]
    """Null where a dimension is dynamic: the first, the batch, and others."""
    dtype: Annotated[str, AfterValidator(_known)]
    """NumPy's name of the type of an element."""

    @classmethod
    def of(cls, spec: TensorSpec) -> "TensorRecord":
        """Return the record of a specification."""
        return cls(name=spec.name, shape=spec.shape, dtype=spec.dtype.name)

    @property
    def spec(self) -> TensorSpec:
        """The specification."""
        return TensorSpec(self.name, self.shape, np.dtype(self.dtype))

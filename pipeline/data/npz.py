"""An .npz file: `x` and `y`, or those of each split as in Keras's own mnist.npz, by name where there are several."""

import re
from pathlib import Path

from pipeline.data import npy
from pipeline.data.assembling import WHOLE, assemble
from pipeline.data.splits import THE_ONLY, Dataset, Split
from pipeline.errors import DataError
from pipeline.tensors import Rows

KEY = re.compile(r"(x|y)(?:_(train|validation|test))?(?:/(.+))?")
"""The name of an array: input or target, split, and the name of the model's input or output."""

NAMES = (
    "Name the arrays x and y; or x_train, y_train, x_test, y_test and, if you like, x_validation, y_validation; for "
    "several inputs or outputs x/<input>, y/<output>, x_train/<input> and so on. y may be missing."
)


def load(source: str) -> Dataset:
    """Return the data in an .npz file. Arrays larger than memory are mapped; nothing is ever unpickled.

    Raises:
        DataError: the file is damaged or would unpack to what it cannot hold, or its arrays are not named or not shaped
            as they should be.
    """
    parts: dict[str, tuple[dict[str, Rows], dict[str, Rows]]] = {}
    for key, array in npy.members(Path(source)):
        found = KEY.fullmatch(key)
        if found is None:
            raise DataError(f"data.source {source} holds an array named {key!r}", NAMES)
        kind, name, tensor = found[1], found[2] or WHOLE, found[3] or THE_ONLY
        parts.setdefault(name, ({}, {}))[kind == "y"][tensor] = array
    if not parts:
        raise DataError(f"data.source {source} holds no arrays", NAMES)
    for name, (inputs, _) in parts.items():
        if not inputs:
            raise DataError(f"data.source {source} has targets {name or 'y'} and no inputs for them", NAMES)
    return assemble(source, "an .npz file", {name: Split(*columns) for name, columns in parts.items()})

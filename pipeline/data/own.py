"""A data set from a function of the user's own (`data.source = "package.module:function"`)."""

from dataclasses import replace
from typing import Any

from pipeline import user_code
from pipeline.data import streams
from pipeline.data.assembling import WHOLE, assemble, check, numbered, split
from pipeline.data.splits import Dataset, Split
from pipeline.errors import DataError

RETURN = (
    "Return inputs, or (inputs, targets), or ((train_inputs, train_targets), (test_inputs, test_targets)): arrays, or "
    "dictionaries of arrays by name; or a pipeline.data.Dataset, a finite tf.data.Dataset or a keras.utils.PyDataset."
)


def load(source: str) -> Dataset:
    """Call the user's function, which takes nothing and returns what `RETURN` says.

    Raises:
        DataError: there is no such function, or what it returns cannot be used, and why.
    """
    function = user_code.import_function(source, "data.source")
    result = user_code.call(function, said=f"data.source {source} raised", hint=RETURN)
    try:
        if isinstance(result, Dataset):
            check(*result.splits.values())
            return replace(result.each(lambda _, one: Split(one.inputs, numbered(one.targets))), name=source)
        parts = _parts(result, source)
    except (TypeError, ValueError) as error:
        raise DataError(f"data.source {source}: {error}", RETURN) from error
    return assemble(source, "data.source", parts)


def _parts(result: Any, source: str) -> dict[str, Split]:
    """Return the splits of what a function returned: two or three pairs are splits, anything else is all samples."""
    if (
        isinstance(result, list | tuple)
        and len(result) in (2, 3)
        and all(streams.is_stream(one) or isinstance(one, tuple) for one in result)
    ):
        names = ("train", "test") if len(result) == 2 else ("train", "validation", "test")
        return {name: _split(one, source) for name, one in zip(names, result, strict=True)}
    return {WHOLE: _split(result, source)}


def _split(given: Any, source: str) -> Split:
    if streams.is_stream(given):
        return streams.stored(given, f"data.source {source}:")
    if isinstance(given, tuple):
        if len(given) != 2:
            raise ValueError(f"a tuple of {len(given)}, not (inputs, targets)")
        return split(*given)
    if given is None:
        raise ValueError("it returned nothing")
    return split(given)

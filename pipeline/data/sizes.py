"""The sizes of a model's dynamic axes: those configured, and else those of the data and of the benchmark."""

from collections.abc import Iterable, Iterator

import numpy as np

from pipeline.artifacts.dataset import DatasetRecord
from pipeline.errors import ConfigError
from pipeline.tensors import Feed, Range, Ranges, Signature


def profiles(batch_sizes: Iterable[int]) -> tuple[Range, ...]:
    """Return an optimization profile for each of these batch sizes, which it is best at, from the next smaller one on.

    So what is timed runs kernels that were chosen for it, and no batch up to the largest is without a profile.
    TensorRT-LLM splits numbers of tokens in the same way.

    Example:
        profiles([1, 64, 1024])  # ((1, 1, 1), (2, 64, 64), (65, 1024, 1024))
    """
    largest = sorted(set(batch_sizes))
    return tuple((below + 1, size, size) for below, size in zip([0, *largest], largest, strict=False))


def ranges(signature: Signature, dataset: DatasetRecord, configured: Ranges) -> dict[str, dict[int, Range]]:
    """Return the range of every dynamic axis but the batch: as configured, or the one size that the data has.

    Raises:
        ConfigError: the configuration names an input or a dynamic axis that the model does not have.
    """
    known = {spec.name: spec for spec in signature.inputs}
    for name, axes in configured.items():
        if name not in known:
            raise ConfigError(f"engine.ranges: the model has no input {name!r}", f"Its inputs are {', '.join(known)}.")
        for axis in axes:
            shape = known[name].shape
            if not 1 <= axis < len(shape) or shape[axis] is not None:
                raise ConfigError(
                    f"engine.ranges.{name}.{axis}: this axis is not dynamic",
                    f"The input is {known[name]}; axis 0, the batch, has engine.profiles.",
                )
    found: dict[str, dict[int, Range]] = {}
    for have in dataset.inputs:
        for axis, size in enumerate(known[have.name].shape):
            if axis and size is None:
                here = have.shape[axis]
                assert here is not None, "the data's own samples have sizes"
                found.setdefault(have.name, {})[axis] = configured.get(have.name, {}).get(axis, (here, here, here))
    return found


def at_the_ends(feed: Feed, sizes: Ranges) -> Iterator[tuple[str, Feed]]:
    """Yield what to call it, and the feed, with every dynamic axis at its smallest, and at its largest.

    Ends of the sizes that the feed has already are left out. What is too short is repeated.
    """
    for end, name in ((0, "smallest"), (2, "largest")):
        changed = dict(feed)
        for key, axes in sizes.items():
            for axis, spread in axes.items():
                rows = changed[key]
                changed[key] = np.ascontiguousarray(rows.take(np.arange(spread[end]) % rows.shape[axis], axis=axis))
        if any(changed[key].shape != feed[key].shape for key in sizes):
            yield f"the {name} sizes", changed

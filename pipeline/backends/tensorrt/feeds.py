"""Whether a feed fits an engine: its names, types and shapes, and the range of every dynamic axis.

For the names of variables see `build`.
"""

from typing import Any

from pipeline.backends.tensorrt.dynamic_axes import key
from pipeline.errors import BatchOutsideProfile, InputError
from pipeline.tensors import Feed, TensorSpec


class Accepted:
    """What an engine's profile accepts.

    `batched` are the inputs whose first axis is the batch: the first input with a dynamic one, and all of its range.
    `smallest` and `largest` are the batches, 1 and 1 where there is no such input.
    """

    def __init__(self, engine: Any, inputs: tuple[TensorSpec, ...]) -> None:
        self._inputs = inputs
        self._ranges: dict[str, dict[int, tuple[int, int]]] = {}  # by input and dynamic axis
        for spec in inputs:
            sizes = tuple(engine.get_tensor_profile_shape(spec.name, 0))  # smallest, best, largest
            dynamic = [axis for axis, size in enumerate(spec.shape) if size is None]
            self._ranges[spec.name] = {axis: (int(sizes[0][axis]), int(sizes[2][axis])) for axis in dynamic}
        firsts = {name: axes.pop(0) for name, axes in self._ranges.items() if 0 in axes}
        self.smallest, self.largest = next(iter(firsts.values()), (1, 1))
        self.batched = frozenset(name for name, ends in firsts.items() if ends == (self.smallest, self.largest))
        for name in firsts.keys() - self.batched:
            self._ranges[name][0] = firsts[name]

    def batch_of(self, feed: Feed) -> int:
        """Return the feed's batch, however large, for it may go in chunks; 1 where the engine has none.

        Raises:
            InputError: the engine does not take such a feed.
            BatchOutsideProfile: the batch is smaller than the profile's, or is not the engine's fixed one.
        """
        check(feed, self._inputs)
        for name, axes in self._ranges.items():
            for axis, (smallest, largest) in axes.items():
                size = feed[name].shape[axis]
                if not smallest <= size <= largest:
                    raise InputError(
                        f"axis {axis} of input {name!r} is {size}, outside the engine's {smallest} to {largest}",
                        f"Choose a size in that range, or set {key(name, axis)} and run `make engine`.",
                    )
        batches = {len(feed[name]) for name in self.batched} or {1}
        if len(batches) > 1:
            raise InputError(f"the inputs have different batches: {sorted(batches)}")
        batch = batches.pop()
        if batch < self.smallest:
            raise self.outside(batch)
        return batch

    def outside(self, batch: int) -> BatchOutsideProfile:
        """Return the error for a batch that the profile does not have."""
        return BatchOutsideProfile(
            f"a batch of {batch} is outside the engine's {self.smallest} to {self.largest}",
            "Choose a batch in that range, or build the engine for more with `make engine`.",
        )


def check(feed: Feed, specs: tuple[TensorSpec, ...]) -> None:
    """Raise InputError unless the feed has exactly these inputs, each of its rank, fixed sizes and type."""
    if set(feed) != {spec.name for spec in specs}:
        raise InputError(f"the feed has {sorted(feed)}, the engine takes {sorted(spec.name for spec in specs)}")
    for spec in specs:
        array = feed[spec.name]
        if not spec.fits(array.shape) or array.dtype != spec.dtype:
            only_batch = array.dtype == spec.dtype and spec.fits_but_for_batch(array.shape)
            raise (BatchOutsideProfile if only_batch else InputError)(
                f"input {spec.name} is {array.dtype} {array.shape}, the engine takes {spec.dtype} {spec.shape}"
            )

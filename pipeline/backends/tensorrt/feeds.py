"""Whether a feed fits an engine: its names, types and shapes, and the range of every dynamic axis.

For the names of variables see `build`.
"""

from collections.abc import Mapping
from typing import Any

from pipeline.backends.tensorrt import dynamic_axes
from pipeline.errors import BatchOutsideProfile, InputError
from pipeline.tensors import Feed, Range, TensorSpec


class Accepted:
    """What an engine's optimization profiles accept.

    `batched` are the inputs whose first axis is the batch: the first input with a dynamic one, and all of its ranges.
    `profiles` are the smallest, the best and the largest batch of each profile, 1 where there is no such input;
    `smallest` and `largest` are those of all. Other dynamic axes have the same range in every profile.
    """

    def __init__(self, engine: Any, inputs: tuple[TensorSpec, ...]) -> None:
        self._inputs = inputs
        self._ranges: dict[str, dict[int, tuple[int, int]]] = {}  # by input and dynamic axis
        firsts: dict[str, tuple[Range, ...]] = {}  # by input, and then by profile
        for spec in inputs:
            axes = _axes(engine, spec)
            if 0 in axes:
                firsts[spec.name] = axes.pop(0)
            self._ranges[spec.name] = {axis: (sizes[0][0], sizes[0][2]) for axis, sizes in axes.items()}
        self.profiles = next(iter(firsts.values()), ((1, 1, 1),))
        self.smallest = min(profile[0] for profile in self.profiles)
        self.largest = max(profile[2] for profile in self.profiles)
        self.batched = frozenset(name for name, sizes in firsts.items() if sizes == self.profiles)
        for name in firsts.keys() - self.batched:
            self._ranges[name][0] = (firsts[name][0][0], firsts[name][0][2])

    def batch_of(self, feed: Feed) -> int:
        """Return the feed's batch, however large, for it may go in chunks; 1 where the engine has none.

        Raises:
            InputError: the engine does not take such a feed.
            BatchOutsideProfile: the batch is smaller than every profile's, or is not the engine's fixed one.
        """
        check(feed, self._inputs)
        for name, axes in self._ranges.items():
            for axis, (smallest, largest) in axes.items():
                size = feed[name].shape[axis]
                if not smallest <= size <= largest:
                    raise InputError(
                        f"axis {axis} of input {name!r} is {size}, outside the engine's {smallest} to {largest}",
                        f"Choose a size in that range, or set {dynamic_axes.key(name, axis)} and run `make engine`.",
                    )
        batches = {len(feed[name]) for name in self.batched} or {1}
        if len(batches) > 1:
            raise InputError(f"the inputs have different batches: {sorted(batches)}")
        batch = batches.pop()
        if batch < self.smallest:
            raise self.outside(batch)
        return batch

    def profile(self, batch: int) -> int:
        """Return the index of the narrowest profile that takes the batch.

        Raises:
            BatchOutsideProfile: none does.
        """
        found = dynamic_axes.narrowest(self.profiles, batch)
        if found is None:
            raise self.outside(batch)
        return found

    def profile_of(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Return the index of the narrowest profile for inputs of these shapes, whose batch is one; raise as above."""
        return self.profile(next((shapes[name][0] for name in self.batched), 1))

    def outside(self, batch: int) -> BatchOutsideProfile:
        """Return the error for a batch that no profile takes."""
        return BatchOutsideProfile(
            f"a batch of {batch} is outside the engine's {', '.join(map(dynamic_axes.batches, self.profiles))}",
            "Choose one of these, or set engine.profiles and run `make engine`.",
        )


def _axes(engine: Any, spec: TensorSpec) -> dict[int, tuple[Range, ...]]:
    """Return the smallest, best and largest size of each dynamic axis of an input, in each profile."""
    found: dict[int, tuple[Range, ...]] = {axis: () for axis, size in enumerate(spec.shape) if size is None}
    for index in range(engine.num_optimization_profiles):
        sizes = tuple(engine.get_tensor_profile_shape(spec.name, index))
        for axis in found:
            found[axis] += ((int(sizes[0][axis]), int(sizes[1][axis]), int(sizes[2][axis])),)
    return found


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

"""The sizes of its inputs that an engine is for: a range for every dynamic axis, the batch among them."""

from collections.abc import Mapping, Sequence

from pipeline.errors import ConfigError
from pipeline.tensors import Range, Ranges

Shape = tuple[int, ...]


def check(what: str, sizes: Range) -> None:
    """Raise ConfigError unless this is a range; TensorRT takes any three numbers, and fails much later."""
    smallest, best, largest = sizes
    if not 1 <= smallest <= best <= largest:
        raise ConfigError(f"{what} {sizes} is not 1 <= smallest <= best <= largest")


def shapes(inputs: Mapping[str, Shape], batch: Range, ranges: Ranges) -> dict[str, tuple[Shape, Shape, Shape]]:
    """Return the smallest, best and largest shape of each input that has a dynamic axis.

    `inputs` are shapes with -1 where an axis is dynamic. `batch` is the range of a dynamic first axis for which
    `ranges` has no other.

    Raises:
        ConfigError: an axis has no range; a range is none, or is for an input or a dynamic axis that is not there.
    """
    for name, axes in ranges.items():
        if name not in inputs:
            raise ConfigError(
                f"engine.ranges: the model has no input {name!r}", f"Its inputs are {', '.join(map(repr, inputs))}."
            )
        for axis, sizes in axes.items():
            check(f"{key(name, axis)} =", sizes)
            if not 0 <= axis < len(inputs[name]) or inputs[name][axis] != -1:
                raise ConfigError(
                    f"{key(name, axis)}: this axis is not dynamic", f"{name} has the shape {written(inputs[name])}."
                )
    return {name: _of_input(name, shape, batch, ranges.get(name, {})) for name, shape in inputs.items() if -1 in shape}


def narrowest(profiles: Sequence[Range], batch: int) -> int | None:
    """Return the index of the profile that takes the batch and has the fewest others; None where none takes it.

    Of equally narrow ones it is the one whose best batch is nearest, and then the first.
    """
    fitting = [index for index, (smallest, _, largest) in enumerate(profiles) if smallest <= batch <= largest]

    def rank(index: int) -> tuple[int, int]:
        smallest, best, largest = profiles[index]
        return largest - smallest, abs(best - batch)

    return min(fitting, key=rank, default=None)


def _of_input(name: str, shape: Shape, batch: Range, axes: Mapping[int, Range]) -> tuple[Shape, Shape, Shape]:
    known = {0: batch, **axes}
    for axis, size in enumerate(shape):
        if size == -1 and axis not in known:
            raise ConfigError(
                f"axis {axis} of input {name!r}, of shape {written(shape)}, is dynamic and has no range",
                f"Set {key(name, axis)} = [smallest, best, largest]: the sizes that the engine is to take.",
            )
    smallest, best, largest = (
        tuple(known[axis][i] if size == -1 else size for axis, size in enumerate(shape)) for i in range(3)
    )
    return smallest, best, largest


def key(name: str, axis: int) -> str:
    """Return the configuration's key for the range of an axis."""
    return f'engine.ranges."{name}".{axis}'


def batches(profile: Range) -> str:
    """Return the batches of a profile, as `2 to 64`."""
    smallest, _, largest = profile
    return str(smallest) if smallest == largest else f"{smallest} to {largest}"


def written(shape: Shape) -> str:
    """Return a shape as a reader knows it, with a question mark where it is dynamic."""
    return f"[{', '.join('?' if size == -1 else str(size) for size in shape)}]"

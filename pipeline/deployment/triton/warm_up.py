"""Whether warm-up requests are ones that the model can take: a larger batch than the largest ends Triton 2.51."""

from collections.abc import Iterator
from typing import Any


def problems(config: Any) -> Iterator[str]:
    """Yield what is wrong with each warm-up request, with the reason."""
    inputs = {one.name: one for one in config.input}
    for request in config.model_warmup:
        of = f"warm-up {request.name!r}"
        largest = max(config.max_batch_size, 1)
        if not 1 <= request.batch_size <= largest:
            yield f"{of}: batch_size {request.batch_size} is not within 1 and max_batch_size, {largest}: Triton crashes"
        for name in sorted(set(request.inputs) - set(inputs)):
            yield f"{of}: the model has no input {name!r}"
        for name in sorted(set(inputs) - set(request.inputs)):
            if not inputs[name].optional:
                yield f"{of}: input {name!r} is missing"
        for name, given in sorted(request.inputs.items()):
            if name in inputs:
                yield from (f"{of}: input {name!r} {problem}" for problem in _input(given, inputs[name]))


def _input(given: Any, wanted: Any) -> Iterator[str]:
    types = wanted.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    if given.data_type != wanted.data_type:
        yield f"is {types[given.data_type].name}, and the model takes {types[wanted.data_type].name}"
    fits = len(given.dims) == len(wanted.dims) and all(
        size > 0 and want in (-1, size) for size, want in zip(given.dims, wanted.dims, strict=True)
    )
    if not fits:
        yield f"has the dims {list(given.dims)}, and the model takes {list(wanted.dims)}"
    if given.WhichOneof("input_data_type") is None:
        yield "says nothing of its values (zero_data, random_data, input_data_file)"

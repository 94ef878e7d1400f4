"""Values of artifacts that know where they were read, so that each number of a report can be looked up."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeAlias, TypeVar, cast

from pydantic import BaseModel

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclasses.dataclass(frozen=True, slots=True)
class Traced(Generic[T_co]):
    """A value of a JSON artifact: `plain`, as read; `artifact`, `<stage>/<file>`; and `pointer` into it (RFC 6901).

    A model's fields are attributes here too, traced themselves: `cell.timing.p50_us`. A list or a tuple can be iterated
    and indexed, an object named by data read by key and by `pairs`. What is to be compared or computed with is `plain`.
    """

    plain: T_co
    artifact: str
    pointer: str = ""

    @property
    def source(self) -> str:
        """Return where the value stands, as `benchmark/results.json#/cells/3/timing/p50_us`."""
        return f"{self.artifact}#{self.pointer}"

    def __getattr__(self, name: str) -> Any:
        """Return a field of a model.

        Raises:
            AttributeError: the value is no model, or its model has no such field.
        """
        key = _written_as(self.plain, name)
        if key is None:
            raise AttributeError(f"{type(self.plain).__name__} at {self.source} has no field {name!r}")
        return self._below(key, getattr(self.plain, name))

    def __getitem__(self, key: str | int) -> "Traced[Any]":
        """Return an item of a list, a tuple or an object named by data."""
        return self._below(str(key), cast("Any", self.plain)[key])

    def __iter__(self) -> "Iterator[Traced[Any]]":
        """Yield the items of a list or a tuple.

        Raises:
            TypeError: it is neither.
        """
        if not isinstance(self.plain, list | tuple):
            raise TypeError(f"{self.source} is no list")
        return (self[index] for index in range(len(self.plain)))

    def pairs(self) -> "Iterator[tuple[str, Traced[Any]]]":
        """Yield the keys and values of an object named by data."""
        return ((key, self[key]) for key in cast("Mapping[str, object]", self.plain))

    def __len__(self) -> int:
        return len(cast("Any", self.plain))

    def __bool__(self) -> bool:
        return bool(self.plain)

    def __str__(self) -> str:
        return "" if self.plain is None else str(self.plain)

    def _below(self, key: str, value: T) -> "Traced[T]":
        step = key.replace("~", "~0").replace("/", "~1")
        return Traced(value, self.artifact, f"{self.pointer}/{step}")


Seen: TypeAlias = T | Traced[T]
"""A value alone, or one that knows where it stands: what a table is built from."""


def plain(value: Seen[T]) -> T:
    """Return a value as it was read, without its place."""
    return cast("T", value.plain if isinstance(value, Traced) else value)


def pairs(value: Seen[Mapping[str, T]]) -> Iterator[tuple[str, Seen[T]]]:
    """Yield the keys and values of an object named by data, traced or not."""
    return value.pairs() if isinstance(value, Traced) else iter(value.items())


def _written_as(owner: object, name: str) -> str | None:
    """Return how a model's field is called in its file; None where there is no such field."""
    if isinstance(owner, BaseModel):
        field = type(owner).model_fields.get(name)
        return None if field is None else field.serialization_alias or name
    if dataclasses.is_dataclass(owner) and not isinstance(owner, type):
        return name if name in {field.name for field in dataclasses.fields(owner)} else None
    return None

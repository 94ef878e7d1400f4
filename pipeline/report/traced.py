"""Values of artifacts that know where they stand, so that each number of a report can be looked up, and a test does."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Traced:
    """A value of a JSON artifact: `plain`, as read; `file`, `<stage>/<name>`; and `pointer` into it (RFC 6901)."""

    plain: Any
    file: str
    pointer: str = ""

    @property
    def source(self) -> str:
        """Return where the value stands, as `benchmark/results.json#/cells/3/p50_us`."""
        return f"{self.file}#{self.pointer}"

    def __getitem__(self, key: str | int) -> "Traced":
        step = str(key).replace("~", "~0").replace("/", "~1")
        return Traced(self.plain[key], self.file, f"{self.pointer}/{step}")

    def __iter__(self) -> Iterator["Traced"]:
        """Yield a list's items."""
        if not isinstance(self.plain, list):
            raise TypeError(f"{self.source} is no list")
        return (self[index] for index in range(len(self.plain)))

    def pairs(self) -> Iterator[tuple[str, "Traced"]]:
        """Yield an object's keys and values."""
        return ((key, self[key]) for key in self.plain)

    def __bool__(self) -> bool:
        return bool(self.plain)

    def __str__(self) -> str:
        return "" if self.plain is None else str(self.plain)

"""What is done already: a line for each case, so that a run that is ended goes on where it was."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock


@dataclass(frozen=True)
class Outcome:
    """A case's outcome. `broke` is empty where every promise was kept."""

    part: str
    name: str
    seconds: float
    broke: str


class Journal:
    """The outcomes in a file, one a line."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, Lock()
        self.outcomes: dict[tuple[str, str], Outcome] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                one = Outcome(**json.loads(line))
            except ValueError:  # the last one, cut short by a kill
                continue
            self.outcomes[one.part, one.name] = one

    def add(self, one: Outcome) -> None:
        """Keep an outcome."""
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(one)) + "\n")
            self.outcomes[one.part, one.name] = one

"""The published files that a stage or a command may read."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pipeline.artifacts import replacing
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.record import Artifact
from pipeline.errors import NotPublished

if TYPE_CHECKING:
    from pipeline.artifacts.store import Store

A = TypeVar("A", bound=Artifact)


class Published:
    """The published files that somebody may read, by `<stage>/<file>`.

    A stage is given those that it declared, which have been checked: asking for another is a bug (RuntimeError). A
    command that needs a few files out of many has each checked when it asks.

    Example:
        published = Store(Path("artifacts")).published()
        verdict = published.read(ParityReport).verdict
        fp16 = published.read(EngineRecord, "engine/fp16/engine.json")
    """

    def __init__(
        self,
        root: Path,
        manifests: Mapping[str, Manifest] | None = None,
        declared: Collection[str] = (),
        verify: "Store | None" = None,
    ) -> None:
        self.root = root
        self._manifests = dict(manifests or {})
        self._declared, self._verify = tuple(declared), verify

    def at(self, name: str) -> Path:
        """Return where a file or a folder of a stage is now, unchecked; see `replacing`."""
        stage, _, file = name.partition("/")
        return replacing.current(self.root / stage) / file

    def path(self, name: str) -> Path:
        """Return where a file or a folder of a stage is.

        Raises:
            ArtifactError: it was not published, or has changed since.
        """
        if self._verify is None:
            self._check_declared(name)
            return self.at(name)
        return self._verify.verified_file(name)

    def sha256(self, name: str) -> str:
        """Return the digest that a file was published with.

        Raises:
            NotPublished: its stage's manifest does not name it.
        """
        self._check_declared(name)
        stage, _, file = name.partition("/")
        record = self._manifest(stage).outputs.get(file)
        if record is None:
            raise NotPublished(f"{self.root / name} has not been published", f"Run `make {stage}`.")
        return record.sha256

    def read(self, kind: type[A], name: str = "") -> A:
        """Return a JSON file's content; `name` where its kind has several."""
        return kind.read(self.path(name or kind.PATH))

    def read_if_there(self, kind: type[A], name: str = "") -> A | None:
        """Return a JSON file's content, or None where it was not published."""
        return self.read(kind, name) if self.has(name or kind.PATH) else None

    def has(self, name: str) -> bool:
        """Tell whether a file was published."""
        self._check_declared(name)
        return name in self.names(name.partition("/")[0])

    def names(self, stage: str) -> list[str]:
        """Return what a stage published, as `<stage>/<file>`; nothing where it has not run."""
        try:
            names = [f"{stage}/{file}" for file in self._manifest(stage).outputs]
        except (NotPublished, KeyError):  # KeyError: a stage that is declared as optional, and is not there
            return []
        return names if self._verify else [name for name in names if self._may(name)]

    def _manifest(self, stage: str) -> Manifest:
        if stage not in self._manifests and self._verify is not None:
            manifest = self._verify.manifest(stage)
            if manifest is None:
                raise NotPublished(f"{self.root / stage} has no artifact yet", f"Run `make {stage}`.")
            self._manifests[stage] = manifest
        return self._manifests[stage]

    def _may(self, name: str) -> bool:
        return any(name.startswith(need) for need in self._declared)

    def _check_declared(self, name: str) -> None:
        if self._verify is None and not self._may(name):
            raise RuntimeError(f"{name} is read but not declared among the stage's needs {self._declared}")

"""Where artifacts are, how they are published whole or not at all, and whether they are still what was published."""

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from pipeline import listing
from pipeline.artifacts import locking, ownership, replacing
from pipeline.artifacts.faults import reading, writing
from pipeline.artifacts.manifest import FileRecord, Manifest
from pipeline.artifacts.ownership import MANIFEST
from pipeline.artifacts.published import Published
from pipeline.errors import ArtifactError, NotPublished

__all__ = ["MANIFEST", "Published", "Store", "records"]

LOOKS = 3
"""So often a reader looks for a manifest: in between, another process may have put its folder in its place."""


def records(folder: Path, but: Collection[str] = (MANIFEST,)) -> dict[str, FileRecord]:
    """Return every file below a folder, by POSIX path, `but` those that lie in it by these names: its manifest.

    Raises:
        OSError: something below it cannot be read.
    """
    beside = {folder / name for name in but}
    found = (path for path in listing.files(folder) if path not in beside)
    return {path.relative_to(folder).as_posix(): FileRecord.of(path) for path in found}


class Store:
    """The artifacts below one folder: `<root>/<stage>/…`, each stage with its manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of_run(cls, folder: Path) -> "Store":
        """Return the artifacts of a run: of a folder that stages published into, or the one above it.

        Raises:
            ArtifactError: it is neither.
        """
        for root in (folder, folder / "artifacts"):
            with reading(folder):
                if (root / "validate").is_dir():
                    return cls(root)
        raise ArtifactError(
            f"{folder} has no artifacts of a run", "Name a folder like artifacts/, or one that has artifacts/ in it."
        )

    def folder(self, stage: str) -> Path:
        """Return where a stage's artifacts are."""
        return self.root / stage

    def manifest(self, stage: str) -> Manifest | None:
        """Return what a stage published, or None where it has published nothing.

        Raises:
            ArtifactError: the manifest cannot be read, or has changed.
        """
        self._check_root()
        for _ in range(LOOKS):
            with reading(self.folder(stage)):
                path = self.current(stage) / MANIFEST
                there = path.exists()
            if not there:
                continue
            try:
                manifest = Manifest.read(path)
            except ArtifactError as error:
                if not path.exists():
                    continue
                raise ArtifactError(f"{path} cannot be read: {error.message}", f"Run `make {stage}`.") from error
            if manifest.stage != stage:
                raise ArtifactError(f"{path} is of the stage {manifest.stage}", "Move its folder away.")
            return manifest
        return None

    def current(self, stage: str) -> Path:
        """Return where a stage's artifacts are at this moment, for a reader; see `replacing`."""
        return replacing.current(self.folder(stage))

    def changed(self, stage: str, manifest: Manifest, only: str | None = None) -> list[str]:
        """Return the published files that are gone or not as published, each with what is wrong."""
        folder = self.current(stage)
        found = (record.difference(folder / name) for name, record in manifest.outputs.items() if only in (None, name))
        return [wrong for wrong in found if wrong]

    def _checked(self, stage: str, only: str | None = None) -> tuple[Manifest | None, list[str]]:
        """Return a stage's manifest and what is not as it says; again, where it was published in the middle of that."""
        while True:
            before, manifest = self._place(stage), self.manifest(stage)
            wrong = [] if manifest is None else self.changed(stage, manifest, only)
            if not wrong or (before, manifest) == (self._place(stage), self.manifest(stage)):
                return manifest, wrong

    def _place(self, stage: str) -> tuple[Path, int]:
        """Return where a stage's artifacts are now, and which folder that is."""
        folder = self.current(stage)
        try:
            return folder, folder.stat().st_ino
        except OSError:
            return folder, 0

    def check_published(self, stages: Iterable[str]) -> None:
        """Check that stages have published something, whether it is as it was or not.

        Raises:
            ArtifactError: one has not (NotPublished), or its manifest cannot be read.
        """
        for stage in stages:
            if self.manifest(stage) is None:
                raise self._not_published(stage)

    def verified(self, stage: str) -> Manifest:
        """Return a stage's manifest after checking every file against it.

        Raises:
            ArtifactError: nothing published yet, a file changed, or an input of the stage was published again since.
        """
        manifest, wrong = self._checked(stage)
        if manifest is None:
            raise self._not_published(stage)
        if wrong:
            raise ArtifactError("\n".join(wrong), f"Run `make {stage}` to publish it again.")
        for source, digest in manifest.fingerprint.inputs.items():
            upstream = self.manifest(source.partition("/")[0])
            # A stage that is not here at all was left on another machine: then there is nothing to compare with.
            if upstream is not None:
                record = upstream.outputs.get(source.partition("/")[2])
                if record is None or record.sha256 != digest:
                    raise NotPublished(
                        f"{self.folder(stage)} is stale: {source} was published again since", f"Run `make {stage}`."
                    )
        return manifest

    def all_verified(
        self, stages: Iterable[str], optional: Collection[str] = ()
    ) -> tuple[dict[str, Manifest], dict[str, ArtifactError]]:
        """Return the manifests of stages after checking them, and why an optional one is not there or is stale.

        Raises:
            ArtifactError: see `verified`.
        """
        manifests: dict[str, Manifest] = {}
        missing: dict[str, ArtifactError] = {}
        for stage in stages:
            try:
                manifests[stage] = self.verified(stage)
            except NotPublished as error:
                if stage not in optional:
                    raise
                missing[stage] = error
        return manifests, missing

    def verified_file(self, path: str) -> Path:
        """Return where `<stage>/<file>` is, after checking it alone.

        Raises:
            ArtifactError: it was not published, or has changed since.
        """
        stage, _, name = path.partition("/")
        manifest, wrong = self._checked(stage, only=name)
        if manifest is None or name not in manifest.outputs:
            raise ArtifactError(f"{self.root / path} has not been published", f"Run `make {stage}`.")
        if wrong:
            raise ArtifactError("\n".join(wrong), f"Run `make {stage}` to publish it again.")
        return self.current(stage) / name

    def published(self) -> "Published":
        """Return what is published here, each file checked when it is asked for."""
        return Published(self.root, verify=self)

    def earlier(self, stage: str) -> Published:
        """Return what a stage published the last time, for itself to carry over: checked, so that no damage goes along.

        Raises:
            ArtifactError: something of it has changed since, or its manifest is of another version.
        """
        folder = self.folder(stage)
        aside = f"Move {folder} away, or delete it: then nothing is carried over."
        try:
            manifest, wrong = self._checked(stage)
        except ArtifactError as error:
            raise ArtifactError(error.message, aside) from error
        if wrong:
            raise ArtifactError("\n".join(wrong), aside)
        return Published(self.root, {stage: manifest} if manifest else {}, declared=[f"{stage}/"])

    def recover(self, stages: Iterable[str]) -> None:
        """Put back what a kill in the middle of `publish` has left aside. For the holder of the lock only."""
        for stage in stages:
            with writing(self.folder(stage)):
                replacing.recover(self.folder(stage))

    def kept(self, stage: str) -> Path:
        """Return the folder that a stage keeps between its runs until one of them has published."""
        return replacing.beside(self.folder(stage), "kept")

    def timing_cache(self) -> Path:
        """Return the folder for what TensorRT has measured of kernels, for later builds to go by.

        Beside the stages and no part of any: it outlives their publishing, and goes with the artifacts. A cache in the
        user's home would change builds elsewhere by what happened here.
        """
        return self.root / ".timing-cache"

    def lock(self) -> AbstractContextManager[None]:
        """Keep a second run out of this folder, which is made if need be.

        Raises:
            ArtifactError: see `locking.locked`; or it is no folder.
        """
        self._check_root()
        return locking.locked(self.root)

    def publish(self, stage: str) -> AbstractContextManager[Path]:
        """Yield an empty folder to fill; at the end of the block it takes the place of the stage's artifacts.

        Where the block raises, or the process is killed, the previous artifacts stay as they were.

        Raises:
            ArtifactError: the disk is full, the folder cannot be written, or it holds what the pipeline did not
                publish.
        """
        folder = self.folder(stage)
        return replacing.replaced(folder, partial(ownership.check, folder, stage))

    def _not_published(self, stage: str) -> NotPublished:
        return NotPublished(f"{self.folder(stage)} has no artifact yet", f"Run `make {stage}`.")

    def _check_root(self) -> None:
        with reading(self.root):
            wrong = self.root.exists() and not self.root.is_dir()
        if wrong:
            raise ArtifactError(f"{self.root} is not a folder", "Set artifacts=DIR to a folder.")

"""Where artifacts are, how they are published whole or not at all, and whether they are still what was published."""

import errno
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

from pipeline import digests
from pipeline.artifacts.manifest import FileRecord, Manifest
from pipeline.artifacts.record import Artifact
from pipeline.errors import ArtifactError, NotPublished

MANIFEST = "manifest.json"

A = TypeVar("A", bound=Artifact)


def records(folder: Path) -> dict[str, FileRecord]:
    """Return every file below a folder but its manifest, by POSIX path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256=digests.of_file(path), bytes=path.stat().st_size)
        for path in files
    }


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
            ArtifactError: the manifest cannot be read.
        """
        path = self.folder(stage) / MANIFEST
        if not path.exists():
            return None
        try:
            return Manifest.read(path)
        except ArtifactError as error:
            raise ArtifactError(f"{path} cannot be read: {error.message}", f"Run `make {stage}`.") from error

    def changed(self, stage: str, manifest: Manifest, only: str | None = None) -> list[str]:
        """Return the published files that are gone or not as published, each with what is wrong."""
        wrong = []
        for name, record in manifest.outputs.items():
            if only not in (None, name):
                continue
            path = self.folder(stage) / name
            if not path.is_file():
                wrong.append(f"{path} is missing")
            elif path.stat().st_size != record.bytes:
                wrong.append(f"{path} has {path.stat().st_size} bytes; {record.bytes} were published")
            elif digests.of_file(path) != record.sha256:
                wrong.append(f"{path} has changed since it was published (its SHA-256 differs)")
        return wrong

    def verified(self, stage: str) -> Manifest:
        """Return a stage's manifest after checking every file against it.

        Raises:
            ArtifactError: nothing published yet, a file changed, or an input of the stage was published again since.
        """
        self.recover(stage)
        manifest = self.manifest(stage)
        if manifest is None:
            raise NotPublished(f"{self.folder(stage)} has no artifact yet", f"Run `make {stage}`.")
        if wrong := self.changed(stage, manifest):
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
        self.recover(stage)
        manifest = self.manifest(stage)
        if manifest is None or name not in manifest.outputs:
            raise ArtifactError(f"{self.root / path} has not been published", f"Run `make {stage}`.")
        if wrong := self.changed(stage, manifest, only=name):
            raise ArtifactError("\n".join(wrong), f"Run `make {stage}` to publish it again.")
        return self.root / path

    def published(self) -> "Published":
        """Return what is published here, each file checked when it is asked for."""
        return Published(self.root, verify=self)

    def recover(self, stage: str) -> None:
        """Put back what a kill between the two renames of `publish` has left aside."""
        before = self._aside(stage, "previous")
        if before.exists() and not self.folder(stage).exists():
            before.rename(self.folder(stage))

    def kept(self, stage: str) -> Path:
        """Return the folder that a stage keeps between its runs until one of them has published."""
        return self._aside(stage, "kept")

    def timing_cache(self) -> Path:
        """Return the folder for what TensorRT has measured of kernels, for later builds to go by.

        Beside the stages and no part of any: it outlives their publishing, and goes with the artifacts. A cache in the
        user's home would change builds elsewhere by what happened here.
        """
        return self.root / ".timing-cache"

    def _aside(self, stage: str, what: str) -> Path:
        return self.root / f".{stage}.{what}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second run out of this folder.

        Raises:
            ArtifactError: another run is using it, or the folder cannot be written.
        """
        lock = FileLock(self.root / ".lock", timeout=0)
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            raise ArtifactError(f"another run is using {self.root}", "Wait for it, or set artifacts=DIR.") from error
        except OSError as error:
            raise ArtifactError(f"{self.root} cannot be written: {error}", "Set artifacts=DIR to another.") from error
        try:
            yield
        finally:
            lock.release()

    @contextmanager
    def publish(self, stage: str) -> Iterator[Path]:
        """Yield an empty folder to fill; at the end of the block it takes the place of the stage's artifacts.

        Where the block raises, or the process is killed, the previous artifacts stay as they were.

        Raises:
            ArtifactError: the disk is full, or the folder cannot be written.
        """
        partial, before, folder = self._aside(stage, "partial"), self._aside(stage, "previous"), self.folder(stage)
        with writing(folder):
            self.recover(stage)
            for leftover in (partial, before):
                if leftover.exists():
                    shutil.rmtree(leftover)
            partial.mkdir(parents=True)
            try:
                yield partial
                if folder.exists():
                    folder.rename(before)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            shutil.rmtree(before, ignore_errors=True)


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
        verify: Store | None = None,
    ) -> None:
        self.root = root
        self._manifests = dict(manifests or {})
        self._declared, self._verify = tuple(declared), verify

    def path(self, name: str) -> Path:
        """Return where a file or a folder of a stage is.

        Raises:
            ArtifactError: it was not published, or has changed since.
        """
        if self._verify is None:
            self._check_declared(name)
            return self.root / name
        return self._verify.verified_file(name)

    def sha256(self, name: str) -> str:
        """Return the digest that a file was published with."""
        self._check_declared(name)
        stage, _, file = name.partition("/")
        return self._manifest(stage).outputs[file].sha256

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


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a full disk, a quota and a read-only folder into an ArtifactError."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM):
            raise ArtifactError(
                f"cannot write below {folder}: {error.strerror or error}",
                "Make room, or set artifacts=DIR to another folder. What was published before is unchanged.",
            ) from error
        raise

"""A bundle, checked: every byte against its digest, and these against a signature, before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline import backends, digests, listing
from pipeline.artifacts.bundle import BundledRunner, BundleRecord
from pipeline.artifacts.faults import reading
from pipeline.artifacts.manifest import FileRecord
from pipeline.artifacts.store import records
from pipeline.deployment import signing
from pipeline.errors import ArtifactError
from pipeline.runners import Runner

RECORD, DIGEST, SIGNATURE = "bundle.json", "bundle.sha256", "model.sig"
BESIDE = (RECORD, DIGEST, SIGNATURE)
"""What the record does not list: itself, and what stands for it."""

FOLDER = "deploy/bundle"
"""Where the stage publishes it, below the artifacts."""

REPLACE = "Take a whole copy again from where it was published, or run `make deploy`."


@dataclass(frozen=True)
class Bundle:
    """A bundle whose every byte was checked. `signer` says who signed it; empty where nobody did.

    A SavedModel of it whose graph reaches beyond the model runs where somebody trusted has signed it, or where the user
    says so: `trust`.
    """

    folder: Path
    record: BundleRecord
    signer: str
    trust: bool = False

    def runner(self, one: BundledRunner) -> Runner:
        """Return how to run one of its runners, with the very file and options that were judged."""
        record = one.runner
        device = backends.recorded(record.backend, record.variant).device
        module = f"{backends.__name__}.{record.backend}"
        return Runner(record, self.folder / record.file, device, module, trust=self.trust or bool(self.signer))


def opened(folder: Path, trusted_keys: Sequence[Path] = (), *, trust: bool = False) -> Bundle:
    """Check all of a bundle and return it. Nothing of it is loaded or run.

    Args:
        folder: the bundle; or what holds it: the stage's folder, or the artifacts.
        trusted_keys: PEM files, `deploy.trusted_keys`. Where there are any, one of them must have signed it.
        trust: `model.trust`, which is for a bundle that no key has signed.

    Raises:
        ArtifactError: there is no bundle, a file is missing, changed or strange to it, or the signature does not hold.
        ConfigError: a trusted key cannot be read.
    """
    with reading(folder):
        folder = found(folder)
        said = (folder / RECORD).read_bytes()
        _check_digest(folder)
        record = BundleRecord.read(folder / RECORD)
        if wrong := _wrong(folder, record.files):
            raise ArtifactError("\n".join(wrong), REPLACE)
        for one in record.runners:
            if not _inside(one.runner.file):
                raise ArtifactError(f"{folder / RECORD} names a file outside the bundle: {one.runner.file}", REPLACE)
        signer = signing.verified(folder, folder / SIGNATURE, trusted_keys)
        if (folder / RECORD).read_bytes() != said:
            raise ArtifactError(f"{folder / RECORD} was changed while it was checked", REPLACE)
    return Bundle(folder, record, signer, trust)


def found(folder: Path) -> Path:
    """Return the bundle that a folder is, or holds.

    Raises:
        ArtifactError: there is none.
    """
    for one in (folder, folder / "bundle", folder / FOLDER):
        if (one / RECORD).is_file():
            return one
    raise ArtifactError(f"{folder} has no bundle", "Run `make deploy`, or name a folder that has a bundle.json in it.")


def close(folder: Path, record: BundleRecord) -> BundleRecord:
    """Write what a bundle says of itself, with the digests of all files there are, and the digest of that."""
    complete = record.model_copy(update={"files": records(folder, BESIDE)})
    complete.write(folder / RECORD)
    (folder / DIGEST).write_text(f"{digests.of_file(folder / RECORD)}  {RECORD}\n", encoding="ascii")
    return complete


def _check_digest(folder: Path) -> None:
    path = folder / DIGEST
    expected = f"{digests.of_file(folder / RECORD)}  {RECORD}\n".encode("ascii")
    if not path.is_file() or path.is_symlink() or path.read_bytes() != expected:
        raise ArtifactError(f"{folder / RECORD} is not what {path} says", REPLACE)


def _wrong(folder: Path, expected: dict[str, FileRecord]) -> list[str]:
    """Return what is wrong with the files: links, missing, strange and changed ones."""
    links = sorted(path for path in listing.entries(folder) if path.is_symlink())
    if links:
        return [f"{path} is a link: a bundle has none" for path in links]
    there = records(folder, BESIDE)
    wrong = [f"{folder / name} is missing" for name in expected if name not in there]
    wrong += [f"{folder / name} is no file of this bundle" for name in there if name not in expected]
    for name, record in expected.items():
        if name in there and there[name] != record:
            wrong.append(f"{folder / name} has changed since the bundle was made (its SHA-256 differs)")
    return wrong


def _inside(file: str) -> bool:
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts

"""What `verify` says of a bundle."""

from pathlib import Path

from pipeline.config.deploying import Deploy
from pipeline.deployment import bundle, triton
from pipeline.deployment.triton import check
from pipeline.errors import BackendUnavailable


def verify(folder: Path, options: Deploy) -> list[str]:
    """Check a bundle and return what it is, in lines for people.

    Raises:
        ArtifactError: anything of it is not as it was made, or it is not signed by a trusted key where any is set.
        ConfigError: a trusted key cannot be read.
        BuildError: a Triton repository of it does not hold together.
    """
    found = bundle.opened(folder, options.trusted_keys)
    record = found.record
    size = sum(file.bytes for file in record.files.values())
    best = record.runners[0]
    return [
        f"{found.folder}: {record.name}, version {record.version}, made {record.created:%Y-%m-%d %H:%M} UTC",
        f"  files      all {len(record.files)} are as they were made ({size / 1e6:.1f} MB)",
        f"  signature  {signature(found)}",
        f"  runs       {best.runner.name}: {best.reason}",
        *(f"  takes      {one.words}" for one in record.inputs),
        *(f"  returns    {one.words}" for one in record.outputs),
        *_triton(found.folder / triton.FOLDER),
    ]


def _triton(folder: Path) -> list[str]:
    """Check the Triton repositories, where the bundle has any, and return what is said of them."""
    repositories = [path for path in sorted(folder.glob("*")) if path.is_dir()]
    if not repositories:
        return []
    try:
        for path in repositories:
            check.check(path)
    except BackendUnavailable as error:
        return [f"  triton     NOT CHECKED: {error}"]
    names = " and ".join(path.name for path in repositories)
    return [f"  triton     {names}: schema, warm-up, labels, and every name, type and size against the model"]


def signature(found: bundle.Bundle) -> str:
    """Return what is known of a bundle's signature."""
    if found.signer:
        return f"by {found.signer}"
    if (found.folder / bundle.SIGNATURE).is_file():
        return "there is one, NOT CHECKED: set deploy.trusted_keys to the public keys you trust"
    return "NOT SIGNED: whoever can write to the bundle can change what runs"

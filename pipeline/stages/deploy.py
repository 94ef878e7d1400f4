"""On demand, after the benchmark: put what passed into a bundle that can be served elsewhere, and sign it."""

from pathlib import Path

from pipeline.artifacts.bundle import BundleRecord
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.config.deploying import Deploy
from pipeline.data import samples
from pipeline.deployment import bill_of_materials, bundle, contents, description, kubernetes, signing, triton
from pipeline.deployment.bundle import Bundle
from pipeline.errors import ArtifactError, DataError
from pipeline.workflow.context import Context, Outcome


def run(context: Context) -> Outcome:
    """Publish `bundle/`.

    Raises:
        ParityError: nothing passed validation and was timed.
        ConfigError: the key cannot sign.
        BuildError: Triton cannot take the model as it is.
        BackendUnavailable: the extra `serve` is not installed.
    """
    published, wanted = context.published, context.config.deploy
    record = contents.record(published, wanted, _whites(context))
    before = _before(context)
    record = record.model_copy(update={"version": _version(record, before)})
    folder = context.output / "bundle"
    folder.mkdir()
    contents.copy(published, record, folder)
    bill_of_materials.write(record, published, folder)
    description.write(record, folder)
    trusted = _trusted(before, wanted)
    notes = triton.write(record, published, trusted, wanted, folder)
    if before and not trusted:
        notes = (*notes, "older versions are left out: nobody that deploy.trusted_keys names has signed them")
    kubernetes.write(record, wanted, folder)
    record = bundle.close(folder, record)
    signer = ""
    if wanted.key is not None:
        signer = signing.sign(folder, folder / bundle.SIGNATURE, wanted.key, wanted.certificates)
    _show(context, record, signer)
    for note in notes:
        context.say(f"  triton     {note}")
    return Outcome()


def _whites(context: Context) -> dict[str, float | None]:
    """Return what stands for a white pixel in each input that can be a picture; None where the data has no pixels."""
    known = context.published.read(DatasetRecord)
    found: dict[str, float | None] = {}
    for spec in context.published.read(ModelRecord).signature.inputs:
        if spec.image_like and not known.random:
            try:
                found[spec.name] = samples.white(spec, context.config.data)
            except DataError:
                found[spec.name] = None
    return found


def _before(context: Context) -> Bundle | None:
    """Return the bundle that this one takes the place of; None where there is none, or none that is whole."""
    try:
        return bundle.opened(context.published.root / bundle.FOLDER)
    except ArtifactError:
        return None


def _trusted(before: Bundle | None, wanted: Deploy) -> Bundle | None:
    """Return the bundle before, unless nobody trusted signed it: its models must not come under a new signature."""
    if before is None:
        return None
    try:
        signing.verified(before.folder, before.folder / bundle.SIGNATURE, wanted.trusted_keys)
    except ArtifactError:
        return None
    return before


def _version(record: BundleRecord, before: Bundle | None) -> int:
    """Return one more than the version before, or the same where the recommended runner is."""
    if before is None or before.record.name != record.name:
        return 1
    same = before.record.runners[0].runner.sha256 == record.runners[0].runner.sha256
    return before.record.version + (not same)


def _show(context: Context, record: BundleRecord, signer: str) -> None:
    folder: Path = context.published.root / bundle.FOLDER
    best = record.runners[0]
    context.say(f"  model      {record.name}, version {record.version}: {best.runner.name}, {best.reason}")
    others = [one.name for one in record.runners[1:]]
    context.say(f"  beside it  {', '.join(others) or 'nothing'}")
    if signer:
        context.say(f"  signed by  {signer}")
    else:
        context.warn("the bundle is not signed: whoever can write to it can change what runs (set deploy.key)")
    context.say(f"  next       python -m pipeline serve {folder}")

"""Scoring many samples with a bundle: each row once, whatever happens to the processes.

The rows of the input are cut into pieces. A piece is done when its file lies in the output, whole; so a run that was
killed goes on by doing what is not there.
"""

from pathlib import Path

from pipeline import texts
from pipeline.config import Config
from pipeline.deployment import bundle
from pipeline.errors import BackendUnavailable, ConfigError


def score(folder: Path, source: Path, target: Path, config: Config, *, ray: str | None = None) -> None:
    """Score every row of an input, and put the answers down as Parquet files.

    Args:
        folder: the bundle, or a folder that holds it.
        source: INPUT: a Parquet file or a folder of them, a folder with a picture or array for each sample, an .npy of
            rows, or an .npz with one for each input.
        target: OUTPUT, a folder; one of an earlier run of the same is gone on with.
        config: `deploy.trusted_keys`, `model.trust` and the section `score`.
        ray: the address of a Ray cluster, or `local`; None: processes on this machine.

    Raises:
        ArtifactError: the bundle is not as it was made, or OUTPUT was begun with something else.
        DataError: the input cannot be read, or every row of it has an error.
        BackendUnavailable: no runner of the bundle runs here, or an extra is not installed.
        Interrupted: Ctrl-C or SIGTERM.
        ConfigError: OUTPUT lies in INPUT, or a name is not UTF-8.
    """
    found = bundle.opened(folder, config.deploy.trusted_keys, trust=config.model.trust)
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise BackendUnavailable(
            f"score writes Parquet files: {error}", "pip install 'keras-tensorrt-pipeline[parquet]'"
        ) from error
    from pipeline.scoring import running
    from pipeline.scoring.preparing import Wanted

    source, target = source.resolve(), target.resolve()
    for path in (source, target):
        if not texts.is_whole(path):
            raise ConfigError(f"{path} has a name that is not UTF-8: Parquet's library takes none", "Rename it.")
    if target == source or source in target.parents:
        raise ConfigError(f"OUTPUT {target} lies in INPUT", "Name a folder beside it.")
    running.run(Wanted(found, source, target, config, ray))

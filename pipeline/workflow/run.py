"""How a stage is run: verified inputs in, artifacts and a manifest out, or "up to date"."""

import importlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console

from pipeline import backends, environment, exhaustion, hosts, user_code
from pipeline.artifacts import documentation
from pipeline.artifacts.manifest import Fingerprint, Manifest
from pipeline.artifacts.store import MANIFEST, Published, Store, records
from pipeline.config import Config
from pipeline.errors import ArtifactError, NotWritable
from pipeline.workflow import declared, fingerprint
from pipeline.workflow.context import Context, Outcome
from pipeline.workflow.stage import Stage


def run(stage: Stage, config: Config, console: Console, *, force: bool = False) -> None:
    """Run a stage, or say that its artifacts are up to date.

    Raises:
        PipelineError: see pipeline.errors.
    """
    store = Store(config.artifacts)
    if stage.name == "train" and hosts.several(config.train.hosts) and hosts.join().rank:
        _follow(stage, config, store, force=force)
        return
    needed = dict.fromkeys(need.partition("/")[0] for need in stage.needs)
    # Before anything is made: a mistyped folder gets no lock and no schemas.
    store.check_published(name for name in needed if name not in stage.optional)
    with ExitStack() as held:
        unwritable = _lock(store, held)
        if not unwritable:
            store.recover([*needed, stage.name])
        manifests, missing = store.all_verified(needed, stage.optional)
        before = fingerprint.of(stage, config, manifests)
        reason = "forced" if force else fingerprint.why_not_up_to_date(store, stage, before)
        if not reason:
            console.print(f"{stage.name}: up to date ({store.folder(stage.name)})", highlight=False, markup=False)
            return
        console.print(f"{stage.name}: {reason}", style="bold", highlight=False, markup=False)
        if unwritable:
            raise unwritable
        _publish(stage, config, console, store, manifests, missing)


def _lock(store: Store, held: ExitStack) -> NotWritable | None:
    """Lock a folder of artifacts; where it cannot be written, return that: it may be up to date nevertheless."""
    try:
        held.enter_context(store.lock())
    except NotWritable as error:
        if store.root.is_dir():
            return error
        raise
    return None


def _publish(
    stage: Stage,
    config: Config,
    console: Console,
    store: Store,
    manifests: dict[str, Manifest],
    missing: dict[str, ArtifactError],
) -> None:
    """Run a stage's function, and publish what it writes."""
    documentation.publish_schemas(store.root)
    started = time.monotonic()
    with store.publish(stage.name) as output:
        published = Published(store.root, manifests, stage.needs)
        context = Context(
            config=declared.view(config, stage),
            published=published,
            output=output,
            manifests=manifests,
            console=console,
            missing=missing,
            kept=store.kept(stage.name),
            timing_cache=store.timing_cache(),
            fingerprint=partial(fingerprint.of, stage, config, manifests),
            earlier=partial(store.earlier, stage.name),
        )
        outcome = _conducted(stage, context)
        seconds = round(time.monotonic() - started, 3)
        # Taken again: training may just have downloaded the data that it will find at hand next time.
        after = fingerprint.of(stage, config, manifests)
        _manifest(stage, outcome, after, manifests, seconds, output).write(output / MANIFEST)
    shutil.rmtree(store.kept(stage.name), ignore_errors=True)
    done = f"{stage.name}: done in {seconds:.1f} s → {store.folder(stage.name)}/"
    console.print(done, highlight=False, markup=False)
    if outcome.failure:
        raise outcome.failure


def _manifest(
    stage: Stage,
    outcome: Outcome,
    after: Fingerprint,
    manifests: Mapping[str, Manifest],
    seconds: float,
    output: Path,
) -> Manifest:
    """Return the manifest of what a stage has written into `output`."""
    return Manifest(
        stage=stage.name,
        status="failed" if outcome.failure else "done",
        created=datetime.now(UTC).replace(microsecond=0),
        command=("python", "-m", "pipeline", *sys.argv[1:]),
        seconds=seconds,
        dataset=outcome.dataset or next((one.dataset for one in manifests.values() if one.dataset), None),
        fingerprint=after,
        machine=environment.machine(),
        versions=environment.versions(backends.distributions()),
        outputs=records(output),
    )


def _follow(stage: Stage, config: Config, store: Store, *, force: bool) -> None:
    """Do what process 0 does, and publish nothing. The folder of artifacts is the same for all processes."""
    before = fingerprint.of(stage, config, {})
    if not force and not fingerprint.why_not_up_to_date(store, stage, before):
        return
    with tempfile.TemporaryDirectory() as name:
        context = Context(
            config=declared.view(config, stage),
            published=Published(store.root, {}, stage.needs),
            output=Path(name),
            manifests={},
            console=Console(quiet=True),
            kept=store.kept(stage.name),
            timing_cache=store.timing_cache(),
            fingerprint=lambda: before,
            earlier=partial(store.earlier, stage.name),
        )
        _conducted(stage, context)


def _conducted(stage: Stage, context: Context) -> Outcome:
    """Run a stage's function. It ends by returning or raising; that something in it exits is no success.

    Raises:
        DataError: `sys.exit()`, or `os._exit()`, in a layer, a library, or whatever else the user's model or data call.
        PipelineError: the stage's own.
    """
    try:
        with user_code.exits_told():
            return _entry(stage)(context)
    except SystemExit as error:
        hint = "Nothing was published. What a model, its layers or data call may raise an error, not exit."
        raise user_code.told(f"{stage.name} was ended by", error, hint) from error


def _entry(stage: Stage) -> Callable[[Context], Outcome]:
    module, _, function = stage.entry.partition(":")
    exhaustion.check(stage.name)
    environment.prepare_tensorflow()
    with environment.native_log_hidden():
        entry: Callable[[Context], Outcome] = getattr(importlib.import_module(module), function)
    return entry

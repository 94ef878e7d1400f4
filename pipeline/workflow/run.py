"""How a stage is run: verified inputs in, artifacts and a manifest out, or "up to date"."""

import importlib
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from pipeline import artifacts, backends, data, digests, environment, user_code
from pipeline.config import Config
from pipeline.errors import ArtifactError, ParityError, PipelineError
from pipeline.stages import Stage


@dataclass(frozen=True)
class Context:
    """What a stage is given. It reads below `root`, writes into `output`, and leaves the publishing to `run`."""

    config: Config
    root: Path
    output: Path
    manifests: dict[str, artifacts.Manifest]
    console: Console
    missing: dict[str, ArtifactError] = field(default_factory=dict)
    """Why artifacts that the stage could do without are not there."""

    def artifact(self, path: str) -> Path:
        """Return where `<stage>/<file>` of an earlier stage is; it has been verified."""
        return self.root / path

    def sha256(self, path: str) -> str:
        """Return the published digest of `<stage>/<file>`."""
        stage, _, name = path.partition("/")
        return self.manifests[stage].outputs[name].sha256

    def read_json(self, path: str) -> Any:
        """Return the content of `<stage>/<file>`."""
        return artifacts.read_json(self.artifact(path))

    def engine_sidecars(self) -> list[dict[str, Any]]:
        """Return what the engine stage says of each precision, the widest first."""
        files = [file for file in self.manifests["engine"].outputs if file.endswith("/engine.json")]
        sidecars = [self.read_json(f"engine/{file}") for file in files]
        return sorted(sidecars, key=lambda sidecar: (-sidecar["mean_bits"], sidecar["precision"]))

    def check_validated(self) -> None:
        """Raise ParityError where the model failed validation, unless benchmark.allow_failed says otherwise."""
        if self.read_json("validate/parity.json")["verdict"] != "fail":
            return
        if not self.config.benchmark.allow_failed:
            raise ParityError(
                "the model failed validation; a fast wrong answer is not timed",
                "See artifacts/validate/parity.json, or insist with --set benchmark.allow_failed=true.",
            )
        self.warn("timing a model that FAILED validation, as benchmark.allow_failed says")

    def write_json(self, name: str, tree: Any) -> None:
        """Write one of the stage's artifacts."""
        (self.output / name).write_text(artifacts.dump_json(tree), encoding="utf-8")

    def say(self, text: str) -> None:
        """Print a line for people."""
        self.console.print(text, highlight=False, markup=False)

    def warn(self, text: str) -> None:
        """Print a line that cannot be missed."""
        self.console.print(Text.assemble((" WARNING ", "black on yellow"), " ", (text, "bold yellow")))


@dataclass(frozen=True)
class Outcome:
    """What a stage hands to `run`.

    `failure` is raised after the artifacts, which record it, have been published. `dataset` is set by the stage that
    chooses the data; every later manifest repeats it.
    """

    failure: PipelineError | None = None
    dataset: dict[str, Any] | None = None


def run(stage: Stage, config: Config, console: Console, *, force: bool = False) -> None:
    """Run a stage, or say that its artifacts are up to date.

    Raises:
        PipelineError: see pipeline.errors.
    """
    store = artifacts.Store(config.artifacts)
    with store.lock():
        needed = dict.fromkeys(need.partition("/")[0] for need in stage.needs)
        manifests, missing = store.all_verified(needed, stage.optional)
        fingerprint = _fingerprint(stage, config, manifests)
        store.recover(stage.name)
        reason = "forced" if force else _why_not_up_to_date(store, stage, fingerprint)
        if not reason:
            console.print(f"{stage.name}: up to date ({store.folder(stage.name)})", highlight=False, markup=False)
            return
        console.print(f"{stage.name}: {reason}", style="bold", highlight=False, markup=False)
        started = time.monotonic()
        with store.publish(stage.name) as output:
            outcome = _entry(stage)(Context(config, store.root, output, manifests, console, missing))
            dataset = outcome.dataset or next((m.dataset for m in manifests.values() if m.dataset), None)
            manifest = artifacts.Manifest(
                stage=stage.name,
                status="failed" if outcome.failure else "done",
                created=datetime.now(UTC).replace(microsecond=0),
                command=["python", "-m", "pipeline", *sys.argv[1:]],
                seconds=round(time.monotonic() - started, 3),
                dataset=dataset,
                # Taken again: training may just have downloaded the data that it will find at hand next time.
                fingerprint=_fingerprint(stage, config, manifests),
                machine=environment.machine(),
                versions=environment.versions(backends.distributions()),
                outputs=artifacts.records(output),
            )
            (output / artifacts.MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        done = f"{stage.name}: done in {manifest.seconds:.1f} s → {store.folder(stage.name)}/"
        console.print(done, highlight=False, markup=False)
        if outcome.failure:
            raise outcome.failure


def _entry(stage: Stage) -> Any:
    module, _, function = stage.entry.partition(":")
    environment.prepare_tensorflow()
    with environment.native_log_hidden():
        return getattr(importlib.import_module(module), function)


def _fingerprint(stage: Stage, config: Config, manifests: dict[str, artifacts.Manifest]) -> dict[str, Any]:
    """Return everything whose change makes the stage run again."""
    inputs = {
        f"{name}/{file}": record.sha256
        for name, manifest in manifests.items()
        for file, record in manifest.outputs.items()
        if any(f"{name}/{file}".startswith(need) for need in stage.needs)
    }
    sections: dict[str, Any] = {name: config.section(name) for name in stage.sections}
    found: dict[str, Any] = {
        "inputs": inputs,
        "configuration": sections,
        "versions": {"pipeline": digests.of_code()} | environment.versions(backends.distributions()),
    }
    if stage.hardware:
        found["hardware"] = {
            "cpu": environment.cpu_name(),
            "cores": environment.cpu_count(),
            "gpus": [list(gpu) for gpu in environment.gpus()],
        }
    if compare := sections.get("report", {}).get("compare"):
        found["compare"] = {folder: artifacts.digest_below(Path(folder)) for folder in compare}
    # Which data and whose code: a path in the configuration does not tell whether what it names has changed.
    if "data" in sections:
        found["data"] = data.identify(config.data)
        # Where the data are does not matter to the result, only what they are.
        sections["data"] = {key: value for key, value in sections["data"].items() if key in ("name", "source")}
    if config.model.source != "article-cnn" and "model" in sections:
        found["model"] = user_code.source_digest(config.model.source)
    return found


def _why_not_up_to_date(store: artifacts.Store, stage: Stage, fingerprint: dict[str, Any]) -> str:
    """Return why the stage has to run, or nothing where its artifacts are up to date."""
    try:
        manifest = store.manifest(stage.name)
    except ArtifactError:
        return "its manifest cannot be read"
    if manifest is None:
        return "nothing published yet"
    if manifest.status != "done":
        return "it failed the last time"
    differing = [
        key for key in fingerprint | manifest.fingerprint if fingerprint.get(key) != manifest.fingerprint.get(key)
    ]
    if differing:
        details = [
            f"{key} ({', '.join(_differences(manifest.fingerprint.get(key), fingerprint.get(key)))})"
            for key in differing
        ]
        return f"changed: {'; '.join(details)}"
    return "; ".join(store.changed(stage.name, manifest))


def _differences(before: Any, after: Any, prefix: str = "", limit: int = 3) -> list[str]:
    """Name what differs between two trees of plain data, as `train.epochs 5 → 3`."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if any(isinstance(value, str) and len(value) > 40 for value in (before, after)):
            return [prefix.rstrip(".") or "content"]  # digests tell people nothing
        return [f"{prefix.rstrip('.')} {before} → {after}".strip()]
    found: list[str] = []
    for key in before | after:
        if before.get(key) != after.get(key):
            found += _differences(before.get(key), after.get(key), f"{prefix}{key}.")
    return found if len(found) <= limit else [*found[:limit], f"and {len(found) - limit} more"]

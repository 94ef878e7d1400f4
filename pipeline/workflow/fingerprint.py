"""What decides whether a stage is up to date, and what to say where it is not."""

import hashlib
from dataclasses import astuple
from pathlib import Path
from typing import Any

from pipeline import backends, data, digests, environment, user_code
from pipeline.artifacts.manifest import Fingerprint, Hardware, Manifest
from pipeline.artifacts.store import MANIFEST, Store
from pipeline.config import ARTICLE_CNN, Config, Model
from pipeline.errors import ArtifactError
from pipeline.graphs import files
from pipeline.workflow.declared import obeyed
from pipeline.workflow.stage import Stage


def of(stage: Stage, config: Config, manifests: dict[str, Manifest]) -> Fingerprint:
    """Return everything whose change makes the stage run again."""
    inputs = {
        f"{name}/{file}": record.sha256
        for name, manifest in manifests.items()
        for file, record in manifest.outputs.items()
        if any(f"{name}/{file}".startswith(need) for need in stage.needs)
    }
    sections = obeyed(config, stage)
    compared = config.report.compare if "report" in sections else ()
    own_model = "model" in sections and config.model.source != ARTICLE_CNN
    if "data" in sections:
        # Where the data are does not matter to the result, only what they are.
        sections["data"] = {key: value for key, value in sections["data"].items() if key in ("name", "source")}
    return Fingerprint(
        inputs=inputs,
        configuration=sections,
        versions={"pipeline": digests.of_code()} | environment.versions(backends.distributions()),
        hardware=_hardware() if stage.hardware else None,
        compare={str(folder): digest_of_run(folder) for folder in compared} or None,
        # Which data and whose code: a path in the configuration does not tell whether what it names has changed.
        data=data.identify(config.data) if "data" in sections else None,
        model=_own_model(config.model) if own_model else None,
        tasks=_own_tasks(sections) or None,
    )


def _own_model(options: Model) -> str:
    """Return a digest of the file that holds the user's own model, and of those that hold an ONNX model's weights."""
    if options.kind != "onnx":
        return user_code.source_digest(options.source)
    try:
        return files.digest(Path(options.source))[:16]
    except ArtifactError as error:
        return error.message  # as whoever loads it will say


def _own_tasks(sections: dict[str, Any]) -> dict[str, str]:
    """Return a digest of the code of each of the user's own tasks that a stage obeys."""
    asked = sections.get("validate", {}).get("task", "")
    paths = [
        path for path in (asked.values() if isinstance(asked, dict) else [asked]) if user_code.is_import_path(path)
    ]
    return {path: user_code.source_digest(path) for path in paths}


def _hardware() -> Hardware:
    gpus = tuple(astuple(gpu) for gpu in environment.gpus())
    return Hardware(cpu=environment.cpu_name(), cores=environment.cpu_count(), gpus=gpus)


def digest_of_run(folder: Path) -> str:
    """Return a digest of the manifests of a run: of the stages below a folder, or below its `artifacts`."""
    digest = hashlib.sha256()
    for pattern in (f"*/{MANIFEST}", f"artifacts/*/{MANIFEST}"):  # not deeper: a folder may hold a whole checkout
        for path in sorted(folder.glob(pattern)):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def why_not_up_to_date(store: Store, stage: Stage, fingerprint: Fingerprint) -> str:
    """Return why the stage has to run, or nothing where its artifacts are up to date."""
    try:
        manifest = store.manifest(stage.name)
    except ArtifactError:
        return "its manifest cannot be read"
    if manifest is None:
        return "nothing published yet"
    if manifest.status != "done":
        return "it failed the last time"
    before, now = manifest.fingerprint.model_dump(mode="json"), fingerprint.model_dump(mode="json")
    if differing := [key for key in now if now[key] != before[key]]:
        details = [f"{key} ({', '.join(_differences(before[key], now[key]))})" for key in differing]
        return f"changed: {'; '.join(details)}"
    return "; ".join(store.changed(stage.name, manifest))


def _differences(before: Any, after: Any, prefix: str = "", limit: int = 3) -> list[str]:
    """Name what differs between two trees of plain data, as `train.epochs 5 → 3`."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        if any(isinstance(value, str) and len(value) > 40 for value in (before, after)):
            return [prefix.rstrip(".") or "content"]  # digests mean nothing to people
        return [f"{prefix.rstrip('.')} {before} → {after}".strip()]
    found: list[str] = []
    for key in before | after:
        if before.get(key) != after.get(key):
            found += _differences(before.get(key), after.get(key), f"{prefix}{key}.")
    return found if len(found) <= limit else [*found[:limit], f"and {len(found) - limit} more"]

"""Writing the two repositories of a bundle, older versions beside the new one."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.artifacts.bundle import BundleRecord, PlanRecord
from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.store import Published
from pipeline.config.deploying import Deploy
from pipeline.deployment import contents
from pipeline.deployment.bundle import Bundle
from pipeline.deployment.description import LABELS, labels_of
from pipeline.deployment.triton import check, plan, schema
from pipeline.deployment.triton.config import Batching, Wanted, build
from pipeline.errors import ArtifactError
from pipeline.graphs import files
from pipeline.runners import engine_records

FOLDER = "triton"
MODEL, PLAN = "model.onnx", "model.plan"


@dataclass(frozen=True)
class Repository:
    """One of the two: its backend, its model's folder, and the files of a version and beside it, by name there."""

    backend: str
    model: Path
    config: Any
    content: Mapping[str, Path]
    labels: Mapping[str, Path]


def write(
    record: BundleRecord, published: Published, before: Bundle | None, options: Deploy, folder: Path
) -> tuple[str, ...]:
    """Write `triton/` into a bundle's folder, which has the models already; return what is to be said of it.

    Models are hard links to the bundle's own where the file system has them, else copies.

    Args:
        record: the bundle's, with its version.
        published: of the stage engine.
        before: the bundle that this one takes the place of, checked: its versions are taken over.
        options: the configuration's section.
        folder: the bundle's.

    Raises:
        BackendUnavailable: `tritonclient` is not installed.
        BuildError: a type that Triton lacks, or what was written does not hold together.
    """
    schema.messages()
    precision = record.runners[0].runner.precision
    engine = next(one for one in engine_records(published) if one.precision == precision)
    wanted = plan.record(record, engine, options)
    notes = []
    for one in (_onnxruntime(record, engine, folder), _tensorrt(record, engine, published, folder)):
        kept, why = _versions(one, wanted, before, options.keep_versions)
        _write(one, record.version, kept)
        notes += [f"{one.backend}: {why}"] if why else []
    plan.write(wanted, folder / FOLDER)
    for backend in ("onnxruntime", "tensorrt"):
        check.check(folder / FOLDER / backend)
    return tuple(notes)


def _onnxruntime(record: BundleRecord, engine: EngineRecord, folder: Path) -> Repository:
    best = record.runners[0].runner
    graph = best.file if best.file.endswith(".onnx") else _typed_graph(engine)
    common = _wanted(record, engine, "onnxruntime", Batching.of(record))
    return _repository(replace(common, threads=best.options.threads), {MODEL: folder / graph}, folder)


def _tensorrt(record: BundleRecord, engine: EngineRecord, published: Published, folder: Path) -> Repository:
    """Return the repository whose plan is built from the ONNX file beside it."""
    graph = _typed_graph(engine)
    if not (folder / graph).is_file():
        contents.take(published, graph, folder)
    content = {MODEL: folder / graph}
    if file := plan.engine_file(record, engine):
        content[PLAN] = folder / file
    largest = max((one.max for one in engine.profiles), default=None)
    common = _wanted(record, engine, "tensorrt", Batching.of(record, largest))
    return _repository(replace(common, profiles=len(engine.profiles)), content, folder)


def _wanted(record: BundleRecord, engine: EngineRecord, backend: str, batching: Batching) -> Wanted:
    sizes = {name: {axis: best for axis, (_, best, _) in axes.items()} for name, axes in engine.ranges.items()}
    labels = {
        one.name: labels_of(one.name)
        for one in record.outputs
        # Triton counts the numbers of an output, so each class must have one, and no more.
        if one.classes and one.shape[1:] == (len(one.classes),)
    }
    return Wanted(record.name, backend, record.signature, batching, (record.version,), labels, sizes)


def _repository(wanted: Wanted, content: Mapping[str, Path], folder: Path) -> Repository:
    model = folder / FOLDER / wanted.backend / wanted.name
    labels = {name: folder / LABELS / name for name in wanted.labels.values()}
    return Repository(wanted.backend, model, build(wanted), content, labels)


def _typed_graph(engine: EngineRecord) -> str:
    return f"engine/{engine.precision}/model.onnx"


def _versions(new: Repository, wanted: PlanRecord, before: Bundle | None, keep: int) -> tuple[list[Path], str]:
    """Return the folders of older versions that stay beside the new one, and why those that do not are left out.

    All versions of a model have one configuration: what goes in, what comes out, which batches and profiles.
    """
    if before is None:
        return [], ""
    old = before.folder / FOLDER / new.backend / new.model.name
    there = sorted((int(path.name), path) for path in old.glob("[0-9]*") if path.name.isdigit())
    kept = [path for number, path in there if number < wanted.version][-(keep - 1) :] if keep > 1 else []
    if kept and not (_alike(old, new) and (new.backend != "tensorrt" or _built_alike(before, wanted))):
        return [], "older versions are left out: they take or return something else, or other batches"
    return kept, ""


def _alike(old: Path, new: Repository) -> bool:
    """Tell whether the versions of an older repository fit the new one's configuration and labels."""
    try:
        there = schema.parsed(old / schema.FILE)
        if any((old / name).read_bytes() != path.read_bytes() for name, path in new.labels.items()):
            return False
    except (ValueError, OSError):
        return False
    here = schema.messages().ModelConfig()
    here.CopyFrom(new.config)
    for config in (there, here):
        for field in ("version_policy", "dynamic_batching", "parameters", "model_warmup"):
            config.ClearField(field)
    return bool(there == here)


def _built_alike(before: Bundle, wanted: PlanRecord) -> bool:
    """Tell whether plans of an older bundle are built as the new one's: one script builds all versions."""
    try:
        old = PlanRecord.read(before.folder / FOLDER / plan.RECORD)
    except ArtifactError:
        return False
    return (old.allow_tf32, old.profiles) == (wanted.allow_tf32, wanted.profiles)


def _write(new: Repository, version: int, kept: list[Path]) -> None:
    new.model.mkdir(parents=True)
    for path in kept:
        _place({one.name: one for one in path.iterdir()}, new.model / path.name)
        new.config.version_policy.specific.versions.insert(0, int(path.name))
    new.config.version_policy.specific.versions.sort()
    _place(new.content, new.model / str(version))
    _place(new.labels, new.model)
    (new.model / schema.FILE).write_text(schema.text(new.config), encoding="utf-8")


def _place(content: Mapping[str, Path], folder: Path) -> None:
    """Put files, and the weights beside a model, into a folder: as hard links where that can be."""
    folder.mkdir(parents=True, exist_ok=True)
    every = dict(content)
    for weights in map(files.data_of, content.values()):
        if weights.is_file():
            every[weights.name] = weights  # by which the model names it, whatever it is called itself
    for name, source in every.items():
        try:
            os.link(source, folder / name)
        except OSError:
            shutil.copyfile(source, folder / name)

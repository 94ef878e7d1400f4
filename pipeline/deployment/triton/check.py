"""Our own check of a Triton model repository: its schema, what the schema does not hold, and the model itself.

Triton says some of this itself, when it loads a model; a warm-up request larger than the largest batch ends it with a
segmentation fault, and an output that the configuration leaves out is noticed by nobody.

Example:
    for problem in problems(Path("bundle/triton/onnxruntime")):
        print(problem)
"""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from pipeline.deployment.triton import against_model, schema, warm_up
from pipeline.errors import ArtifactError, BuildError

BACKENDS = {"onnxruntime": ("onnxruntime_onnx", "model.onnx"), "tensorrt": ("tensorrt_plan", "model.plan")}
"""Each backend's other name, and the file of a version that it loads."""

GRAPH = "model.onnx"
"""What a version is checked against; beside a plan, or where one is still to be built, what it is built from."""


def check(repository: Path) -> None:
    """Raise BuildError with every problem of a repository; BackendUnavailable where `tritonclient` is not installed."""
    if found := problems(repository):
        raise BuildError(
            "\n".join(f"{repository}: {problem}" for problem in found),
            "Triton would refuse this repository, crash on it, or answer otherwise than the model.",
        )


def problems(repository: Path) -> list[str]:
    """Return everything that is wrong with a repository, each with its reason; nothing of it is run.

    Raises:
        BackendUnavailable: `tritonclient` is not installed.
    """
    schema.messages()
    models = sorted(path for path in repository.glob("*") if path.is_dir())
    if not models:
        return ["there is no model in it"]
    return [f"{folder.name}: {problem}" for folder in models for problem in _of_model(folder)]


def _of_model(folder: Path) -> Iterator[str]:
    try:
        config = schema.parsed(folder / schema.FILE)
    except (ValueError, OSError) as error:
        yield f"{schema.FILE} is not as the schema says: {error}"
        return
    if config.name not in ("", folder.name):
        yield f"the name is {config.name!r} and the folder's {folder.name!r}"
    yield from _backend(config)
    yield from _batching(config)
    yield from _instances(config)
    yield from _tensors(config)
    yield from warm_up.problems(config)
    yield from _labels(config, folder)
    yield from _versions(config, folder)


def _backend(config: Any) -> Iterator[str]:
    named = {name for name, (platform, _) in BACKENDS.items() if config.backend == name or config.platform == platform}
    known = {("backend", name) for name in BACKENDS} | {("platform", platform) for platform, _ in BACKENDS.values()}
    given = {("backend", config.backend), ("platform", config.platform)} - {("backend", ""), ("platform", "")}
    for key, value in sorted(given - known):
        yield f"{key} {value!r} is unknown; known are {', '.join(sorted(name for what, name in known if what == key))}"
    if not given:
        yield "it names no backend"
    if len(named) > 1:
        yield f"backend {config.backend!r} and platform {config.platform!r} are not the same"


def backend_of(config: Any) -> str | None:
    """Return the backend that a configuration names; None where it is none of ours."""
    return next(
        (name for name, (other, _) in BACKENDS.items() if name == config.backend or other == config.platform), None
    )


def _batching(config: Any) -> Iterator[str]:
    largest = config.max_batch_size
    if largest < 0:
        yield f"max_batch_size is negative: {largest}"
    for size in config.dynamic_batching.preferred_batch_size:
        if not 1 <= size <= max(largest, 0):
            yield f"the preferred batch size {size} is not within 1 and max_batch_size, {largest}"


def _instances(config: Any) -> Iterator[str]:
    kinds = schema.messages().ModelInstanceGroup
    for group in config.instance_group:
        if group.kind == kinds.KIND_GPU or group.gpus:
            yield "an instance group asks for a GPU (KIND_GPU, gpus), and fails where there is none: leave its kind out"
        if group.kind == kinds.KIND_CPU and backend_of(config) == "tensorrt":
            yield "an instance group asks for the CPU, where TensorRT runs nothing: leave its kind out"
        if group.count < 0:
            yield f"an instance group has a negative count: {group.count}"


def _tensors(config: Any) -> Iterator[str]:
    for what, tensors in (("input", config.input), ("output", config.output)):
        if not tensors:
            yield f"it has no {what}"
        names = [one.name for one in tensors]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{what} {name!r} is there more than once"
        for one in tensors:
            if not one.dims:
                yield f"{what} {one.name!r} has no dims"
            if any(size < 1 and size != -1 for size in one.dims):
                yield f"{what} {one.name!r} has impossible dims {list(one.dims)}: positive sizes, or -1 for any"
            if one.data_type == schema.messages().TYPE_INVALID:
                yield f"{what} {one.name!r} has no data_type"


def _labels(config: Any, folder: Path) -> Iterator[str]:
    for one in config.output:
        if not one.label_filename:
            continue
        path = folder / one.label_filename
        if path.parent != folder or not path.is_file():
            yield f"output {one.name!r}: there is no label file {one.label_filename!r} in the model's folder"
            continue
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count != prod(one.dims):
            yield f"output {one.name!r} has {prod(one.dims)} numbers a sample and {one.label_filename} {count} labels"


def _versions(config: Any, folder: Path) -> Iterator[str]:
    there = {int(path.name): path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()}
    if not there:
        yield "there is no version folder (1, 2, …)"
    for version in config.version_policy.specific.versions:
        if version not in there:
            yield f"version_policy names version {version}, and there is no such folder"
    backend = backend_of(config)
    for version, path in sorted(there.items()):
        for problem in _version(config, path, backend):
            yield f"version {version}: {problem}"


def _version(config: Any, folder: Path, backend: str | None) -> Iterator[str]:
    file = config.default_model_filename
    if backend and file not in ("", BACKENDS[backend][1]):
        yield f"default_model_filename is {file!r}, not {BACKENDS[backend][1]!r}"
    if not (folder / GRAPH).is_file():
        yield f"there is no {GRAPH}" + (
            " to build its plan from and to check it against" if backend == "tensorrt" else ""
        )
        return
    try:
        yield from against_model.problems(config, folder / GRAPH)
    except ArtifactError as error:
        yield error.message

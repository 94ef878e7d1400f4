"""The TensorRT plan of a bundle's repository: what it is built with, where an existing one loads, the script for it."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader

from pipeline import texts
from pipeline.artifacts.bundle import BundleRecord, PlanProfile, PlanRecord
from pipeline.artifacts.engine import EngineRecord
from pipeline.backends.tensorrt import dynamic_axes
from pipeline.config.deploying import Deploy
from pipeline.deployment.triton import releases
from pipeline.tensors import Signature

RECORD, SCRIPT, PAGE = "tensorrt.json", "build_plan.sh", "TENSORRT.md"


def engine_file(record: BundleRecord, engine: EngineRecord) -> str | None:
    """Return the bundle's file of an engine that passed validation and that Triton may load; None where there is none.

    Triton sends single requests, so that an engine must take a batch of 1; TensorRT for RTX's are another library's.
    """
    if engine.flavour != "tensorrt" or min(one.min for one in engine.profiles) > 1:
        return None
    passed = [one.runner for one in record.verified if one.runner.backend == "tensorrt"]
    return next((one.file for one in passed if one.precision == engine.precision), None)


def record(bundle: BundleRecord, engine: EngineRecord, options: Deploy) -> PlanRecord:
    """Return what is known of the plan: with what it is built, and whether one is shipped."""
    container = releases.container(options.triton_release)
    file = engine_file(bundle, engine)
    return PlanRecord(
        model=bundle.name,
        version=bundle.version,
        precision=engine.precision,
        allow_tf32=engine.allow_tf32,
        profiles=_profiles(bundle.signature, engine),
        container=container,
        shipped=file is not None,
        needs_tensorrt=engine.version if file else None,
        built_on=tuple(gpu.name for gpu in engine.gpu) if file else (),
        why=_why(engine, container.tensorrt, file),
    )


def _profiles(signature: Signature, engine: EngineRecord) -> tuple[PlanProfile, ...]:
    """Return the engine's profiles; the first takes a batch of 1 in any case, since Triton sends single requests."""
    shapes = {one.name: tuple(-1 if size is None else size for size in one.shape) for one in signature.inputs}
    found = []
    for number, one in enumerate(engine.profiles):
        smallest = 1 if number == 0 and shapes and all(shape[:1] == (-1,) for shape in shapes.values()) else one.min
        by_input = dynamic_axes.shapes(shapes, (smallest, one.opt, one.max), engine.ranges)
        if by_input:
            low, best, high = ({name: sizes[place] for name, sizes in by_input.items()} for place in range(3))
            found.append(PlanProfile(min=low, opt=best, max=high))
    return tuple(found)


def _why(engine: EngineRecord, carried: str | None, file: str | None) -> str:
    if file is None:
        if engine.flavour != "tensorrt":
            return f"no plan: the engine was built by {engine.flavour or 'nothing'}, which Triton does not load"
        return "no plan: no engine of TensorRT in this precision passed validation and takes a batch of 1"
    if carried is None:
        return f"the plan needs TensorRT {engine.version}; which one the container carries is not documented"
    if carried == engine.version:
        return f"the plan needs TensorRT {engine.version}, which the container carries"
    return f"the plan needs TensorRT {engine.version} and the container carries {carried}: it must be built anew"


def write(wanted: PlanRecord, folder: Path) -> None:
    """Write `tensorrt.json`, and the same as a page and as a script, into the folder `triton/`."""
    wanted.write(folder / RECORD)
    said = {"plan": wanted, "arguments": shlex.join(arguments(wanted)), "model": shlex.quote(wanted.model)}
    # A line break in a name would end a comment of the script.
    for name, escaped in ((SCRIPT, texts.on_one_line), (PAGE, texts.markdown)):
        templates = Environment(
            loader=PackageLoader("pipeline.deployment"),
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            autoescape=False,  # noqa: S701  a shell script and Markdown
            finalize=escaped,
        )
        (folder / name).write_text(templates.get_template(f"{name}.j2").render(said), encoding="utf-8")
    (folder / SCRIPT).chmod(0o755)


def arguments(wanted: PlanRecord) -> Sequence[str]:
    """Return trtexec's arguments but for the files: the profiles, and what its products may run in."""
    found = [] if wanted.allow_tf32 else ["--noTF32"]
    for number, profile in enumerate(wanted.profiles):
        found += [f"--profile={number}"] if len(wanted.profiles) > 1 else []
        for end, shapes in (("min", profile.min), ("opt", profile.opt), ("max", profile.max)):
            sizes = ",".join(f"{_name(name)}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
            found.append(f"--{end}Shapes={sizes}")
    return found


def _name(name: str) -> str:
    """Return an input's name as trtexec takes it, which parts names and sizes at colons and commas."""
    return f"'{name}'" if {":", ","} & {*name} else name

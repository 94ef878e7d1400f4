"""A small project for a model of the user's own: a commented `pipeline.toml` and a `Makefile` that run as they are."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline import backends, config, environment, graphs
from pipeline.backends import LoadOptions
from pipeline.config import ARTICLE_CNN, Model
from pipeline.data import random_inputs
from pipeline.data.splits import RandomInputs
from pipeline.errors import ConfigError, DataError
from pipeline.judging import choosing
from pipeline.tasks import Task
from pipeline.tensors import Outputs, Signature

CONFIGURATION, MAKEFILE = "pipeline.toml", "Makefile"

MAKE = """\
# `make all` runs every stage, `make report` one; options: make all ARGS="--set benchmark.seconds=0.2"
PYTHON ?= {python}
COMMANDS := all train export engine validate benchmark report localise
ARGS ?=

.PHONY: $(COMMANDS)
$(COMMANDS):
\t@$(PYTHON) -m pipeline $@ --config pipeline.toml $(ARGS)
"""


@dataclass(frozen=True)
class Looked:
    """What was found of a model: what it takes and returns, and the task of each output, where it could be run."""

    name: str
    signature: Signature
    tasks: dict[str, Task]
    unseen: str = ""
    """Why it was not run; empty where it was."""


def write(folder: Path, options: Model, data: str) -> Iterator[str]:
    """Write the project, and yield what was found and done, a line each.

    Args:
        folder: where; made if need be. A `pipeline.toml` or a `Makefile` that is there is never written over.
        options: which model.
        data: `data.source`.

    Raises:
        ConfigError: the folder has a project already.
        DataError: the model cannot be read.
    """
    for name in (CONFIGURATION, MAKEFILE):
        if (folder / name).exists():
            raise ConfigError(f"{folder / name} is there already; nothing was written", "Choose another folder.")
    looked = None if options.source == ARTICLE_CNN else look(options)
    folder.mkdir(parents=True, exist_ok=True)
    source = _from(folder, options.source)
    (folder / CONFIGURATION).write_text(_toml(options, source, _from(folder, data), looked), encoding="utf-8")
    (folder / MAKEFILE).write_text(MAKE.format(python=sys.executable), encoding="utf-8")
    (folder / ".gitignore").write_text("/artifacts/\n", encoding="utf-8")
    if looked:
        yield f"model      {looked.name}"
        yield from (f"input      {spec}" for spec in looked.signature.inputs)
        yield from (f"output     {spec}{_told(looked, spec.name)}" for spec in looked.signature.outputs)
        if looked.unseen:
            yield f"           {looked.unseen}"
    yield f"written    {folder / CONFIGURATION}, {folder / MAKEFILE}: `make all` in {folder} runs every stage"


def look(options: Model) -> Looked:
    """Find out what a model takes and returns, and what its outputs look like on random inputs.

    Raises:
        DataError: it cannot be read, or takes what cannot be drawn at random.
    """
    path = Path(options.source)
    environment.prepare_tensorflow()
    with environment.native_log_hidden():
        from pipeline.models import calling, sources
        from pipeline.training import adoption, trying
    if path.is_file():
        trying.check(options, (), compiled=False)
    if options.kind == "onnx":
        if not path.is_file():
            raise DataError(f"{path} does not exist", "Give an .onnx, .keras or .h5 file, or a SavedModel folder.")
        model = graphs.load(path)
        signature = Signature(graphs.inputs(model), graphs.outputs(model))
        with backends.get("onnxruntime").load(path, LoadOptions("cpu", exact=True)) as session:
            outputs = {name: rows.copy() for name, rows in session.run(_feed(signature)).items()}
        return Looked(model.graph.name or path.stem, signature, choosing.unlabelled(outputs))
    if options.kind == "saved_model":
        return Looked(path.name, adoption.declared_signature(path), {}, "A SavedModel is a program: it was not run.")
    found = sources.find(options, (), 0, compiled=False)
    how = calling.caller(found, options.inputs)
    signature = calling.signature(how)
    feed = _feed(signature)
    result = found(how.arguments(feed), training=False)
    named = calling.named([spec.name for spec in signature.outputs], result)
    results: Outputs = {name: one.numpy() for name, one in named.items()}
    return Looked(found.name, signature, choosing.unlabelled(results))


def _feed(signature: Signature) -> Outputs:
    defaults = config.Data()
    drawn = random_inputs.draw(
        random_inputs.load(RandomInputs(below=defaults.random_below, axis=defaults.random_axis)), signature
    )
    return dict(drawn.test.feed(slice(0, signature.inputs[0].shape[0] or 8)))


def _told(looked: Looked, output: str) -> str:
    task = looked.tasks.get(output)
    return f": {task.NAME}, as it looks on random inputs" if task else ""


def _from(folder: Path, source: str) -> str:
    """Return a path as it reads from the project's folder; what is no path, as it is."""
    path = Path(source)
    return os.path.relpath(path.resolve(), folder.resolve()) if path.exists() else source


def _toml(options: Model, source: str, data: str, looked: Looked | None) -> str:
    lines = [
        "# `python -m pipeline config` lists every key with its meaning.",
        "",
        "[model]",
        f"source = {json.dumps(source)}",
    ]
    if options.imports:
        lines.append(f"imports = {json.dumps(list(options.imports))}")
    if options.kind == "saved_model":
        lines.append("trust = false # a SavedModel is a program that can read and write files: true, if you trust it")
    if looked:
        lines += [f"# input {spec}" for spec in looked.signature.inputs]
        lines += [f"# output {spec}{_told(looked, spec.name)}" for spec in looked.signature.outputs]
    if options.inputs:
        lines += ["", "[model.inputs]", *(f"{name} = {json.dumps(text)}" for name, text in options.inputs.items())]
    lines += ["", "[data]", *_data(data, looked), "", "[engine]", *_engine(data, looked), "", "[validate]"]
    named = {name: task.NAME for name, task in looked.tasks.items()} if looked else {}
    lines.append("# What an output is judged as is found from it and its labels; to say it:")
    lines += [f"# task = {{ {', '.join(f'{name} = {json.dumps(task)}' for name, task in named.items())} }}"] * bool(
        named
    )
    lines.append("# budget = 0.5 # what may be lost, in the metric's unit: points of accuracy, or the target's own")
    return "\n".join(lines) + "\n"


def _data(data: str, looked: Looked | None) -> Iterator[str]:
    if data != random_inputs.SOURCE:
        yield f"source = {json.dumps(data)}"
        return
    if looked is None:
        yield "# MNIST, or scikit-learn's digits where it cannot be downloaded"
        return
    names = [spec.name for spec in looked.signature.inputs], [spec.name for spec in looked.signature.outputs]
    x = ", ".join(f"x/{name}" for name in names[0]) if len(names[0]) > 1 else "x"
    y = ", ".join(f"y/{name}" for name in names[1]) if len(names[1]) > 1 else "y"
    yield 'source = "random" # numbers without a meaning: enough to export, build and time, and for nothing else'
    yield f'# source = "samples.npz" # with the arrays {x}, and {y} where you have labels; or a folder of images;'
    yield "# or package.module:function (docs/own-models.md)"
    if any(spec.dtype.kind in "iu" and spec.dtype.name != "uint8" for spec in looked.signature.inputs):
        yield "# random_below = 1000 # integers are drawn below this: no more than the model has words"


def _engine(data: str, looked: Looked | None) -> Iterator[str]:
    if data == random_inputs.SOURCE and looked:
        yield 'precisions = ["fp32", "tf32", "fp16"] # int8 and fp8 are calibrated, which takes real samples'
    else:
        yield 'precisions = ["fp32", "tf32", "fp16", "int8"]'
    for spec in looked.signature.inputs if looked else ():
        for axis, size in enumerate(spec.shape):
            if axis and size is None:
                yield f"# ranges.{spec.name}.{axis} = [1, 32, 128] # smallest, best, largest; unset: as the data"

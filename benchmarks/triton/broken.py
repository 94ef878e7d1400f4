"""Repositories that are broken on purpose, each in one way: our check must refuse every one, and say why."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.deployment.triton import schema


@dataclass(frozen=True)
class Broken:
    """A way to break a repository: `break_` changes a configuration and its folder."""

    name: str
    expected: str
    """Words of the reason that our check must give."""
    break_: Callable[[Any, Path], None]


def apply(broken: Broken, model: Path) -> None:
    """Break the model in this folder, which is a copy."""
    path = model / schema.FILE
    config = schema.parsed(path)
    broken.break_(config, model)
    path.write_text(schema.text(config), encoding="utf-8")


def _name(config: Any, _: Path) -> None:
    config.name = "another"


def _backend(config: Any, _: Path) -> None:
    config.backend = "onnxruntimes"


def _no_version(_: Any, model: Path) -> None:
    for folder in model.glob("[0-9]*"):
        folder.rename(model / f"v{folder.name}")


def _no_model(_: Any, model: Path) -> None:
    for path in model.glob("*/model.onnx"):
        path.unlink()


def _negative(config: Any, _: Path) -> None:
    config.max_batch_size = -1


def _preferred(config: Any, _: Path) -> None:
    config.dynamic_batching.preferred_batch_size.append(config.max_batch_size + 1)


def _warm_up_batch(config: Any, _: Path) -> None:
    config.model_warmup[0].batch_size = config.max_batch_size + 1


def _warm_up_input(config: Any, _: Path) -> None:
    config.model_warmup[0].inputs["nobody"].CopyFrom(next(iter(config.model_warmup[0].inputs.values())))


def _warm_up_shape(config: Any, _: Path) -> None:
    next(iter(config.model_warmup[0].inputs.values())).dims[0] += 1


def _gpu(config: Any, _: Path) -> None:
    config.instance_group[0].kind = schema.messages().ModelInstanceGroup.KIND_GPU


def _input_name(config: Any, _: Path) -> None:
    config.input[0].name = "x"
    config.ClearField("model_warmup")


def _output_dims(config: Any, _: Path) -> None:
    config.output[0].dims[-1] += 1
    config.output[0].ClearField("label_filename")


def _output_left_out(config: Any, _: Path) -> None:
    config.output[0].name = "another"


def _type(config: Any, _: Path) -> None:
    config.input[0].data_type = schema.messages().TYPE_INT64
    config.ClearField("model_warmup")


def _no_dims(config: Any, _: Path) -> None:
    config.output[0].ClearField("dims")
    config.output[0].ClearField("label_filename")


def _labels(config: Any, model: Path) -> None:
    with (model / config.output[0].label_filename).open("a", encoding="utf-8") as file:
        file.write("one more\n")


def _version_policy(config: Any, _: Path) -> None:
    config.version_policy.specific.versions.append(99)


WAYS = (
    Broken("the name is not the folder's", "the name is", _name),
    Broken("an unknown backend", "is unknown; known are", _backend),
    Broken("no version folder", "there is no version folder", _no_version),
    Broken("no model file", "there is no model.onnx", _no_model),
    Broken("max_batch_size is negative", "max_batch_size is negative", _negative),
    Broken("a preferred batch above max_batch_size", "the preferred batch size", _preferred),
    Broken("a warm-up batch above max_batch_size", "Triton crashes", _warm_up_batch),
    Broken("warm-up of an input that is not there", "the model has no input 'nobody'", _warm_up_input),
    Broken("warm-up of another shape", "and the model takes", _warm_up_shape),
    Broken("KIND_GPU", "asks for a GPU", _gpu),
    Broken("an input by another name", "the model has no input 'x'", _input_name),
    Broken("other dims than the model's output", "has the dims", _output_dims),
    Broken("an output that the model lacks, its own left out", "which is left out", _output_left_out),
    Broken("an input of another type", "is TYPE_INT64, and in the model", _type),
    Broken("an output without dims", "has no dims", _no_dims),
    Broken("a label too many", "labels", _labels),
    Broken("a version that is not there", "there is no such folder", _version_policy),
)
"""All but the schema's own errors, which no ModelConfig can hold: `SCHEMA` has those."""

SCHEMA = (
    ("an unknown field", "colour: 1\n"),
    ("an unknown enum", "input { name: 'y' data_type: TYPE_FP33 dims: 1 }\n"),
    ("no protobuf text", "{\n"),
)
"""What is put at the end of a configuration's text to break it."""

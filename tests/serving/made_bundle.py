"""Bundles of small models of other kinds than the digits: of numbers, and of pictures of any size."""

import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from pipeline import digests
from pipeline.artifacts.bundle import BundleInput, BundleOutput, BundleRecord
from pipeline.deployment import bundle as bundles

COLOURS = ("red", "green", "blue")


def of_numbers(whole: Path, folder: Path) -> None:
    """Make one that takes a short vector, a table and a waveform, each with an output of its own.

    choice = colour, as logits of red, green and blue; doubled = 2 · table; loudness = the mean of |sound|.
    """
    inputs = tuple(
        BundleInput(name=name, shape=shape, dtype="float32", kind="numbers", white=None, words=name)
        for name, shape in (("colour", (None, 3)), ("table", (None, 8, 8)), ("sound", (None, None)))
    )
    outputs = (
        _output("choice", (None, 3), "classification", "logits", COLOURS),
        _output("doubled", (None, 64)),
        _output("loudness", (None, 1), "regression"),
    )
    nodes = (
        helper.make_node("Identity", ["colour"], ["choice"]),
        helper.make_node("Flatten", ["table"], ["flat"]),
        helper.make_node("Add", ["flat", "flat"], ["doubled"]),
        helper.make_node("Abs", ["sound"], ["size"]),
        helper.make_node("ReduceMean", ["size"], ["loudness"], axes=[1]),
    )
    _make(whole, folder, inputs, outputs, nodes)


def of_pictures(whole: Path, folder: Path) -> None:
    """Make one that takes a colour picture of any size, with 1 for white.

    bright = the mean of all, as the probability of yes; map = the picture, as scores of red, green and blue.
    """
    shape = (None, None, None, 3)
    inputs = (BundleInput(name="picture", shape=shape, dtype="float32", kind="picture", white=1.0, words="picture"),)
    outputs = (
        _output("bright", (None, 1), "classification", "one probability"),
        _output("map", shape, "segmentation", "scores", COLOURS),
    )
    nodes = (
        helper.make_node("Flatten", ["picture"], ["flat"]),
        helper.make_node("ReduceMean", ["flat"], ["bright"], axes=[1]),
        helper.make_node("Identity", ["picture"], ["map"]),
    )
    _make(whole, folder, inputs, outputs, nodes)


def _output(
    name: str, shape: tuple[int | None, ...], task: str = "", form: str = "", classes: tuple[str, ...] = ()
) -> BundleOutput:
    return BundleOutput(name=name, shape=shape, dtype="float32", task=task, form=form, classes=classes, words=name)


def _make(
    whole: Path,
    folder: Path,
    inputs: tuple[BundleInput, ...],
    outputs: tuple[BundleOutput, ...],
    nodes: tuple[onnx.NodeProto, ...],
) -> None:
    """Make it of a whole bundle: one runner, ONNX Runtime on the CPU, that answers for the new model."""
    shutil.copytree(whole, folder)
    record = BundleRecord.read(folder / bundles.RECORD)
    one = next(one for one in record.runners if one.runner.name == "onnxruntime cpu fp32")
    values = [
        [helper.make_tensor_value_info(row.name, TensorProto.FLOAT, row.shape) for row in rows]
        for rows in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "made", *values)
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), folder / one.runner.file
    )
    runner = one.runner.model_copy(update={"sha256": digests.of_file(folder / one.runner.file)})
    runners = (one.model_copy(update={"name": record.name, "runner": runner}),)
    bundles.close(folder, record.model_copy(update={"inputs": inputs, "outputs": outputs, "runners": runners}))

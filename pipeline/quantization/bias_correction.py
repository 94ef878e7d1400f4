"""Bias correction: what quantising shifts the mean of each channel of a product by, measured, to be taken off its bias.

Rounding a weight moves each channel's result by what is rounded away times the input's mean, which is not zero after a
ReLU (Nagel et al., arXiv:1906.04721; NNCF does so, too). All products are measured in one pass, on the FP32 graph's own
activations: each beside a quantised twin.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pipeline import graphs
from pipeline.data import Split
from pipeline.graphs import biases, quantize
from pipeline.graphs.biases import Floats
from pipeline.graphs.quantize import Format
from pipeline.quantization import calibration
from pipeline.runners import inference
from pipeline.tensors import fixed_batch

REDUCE = 18
"""The first operator set in which ReduceMean takes its axes as an input."""


def shifts(
    model: ModelProto,
    form: Format,
    amax: Mapping[str, float],
    leave: Collection[str],
    scales: Any,
    samples: Split,
    batch: int = 32,
) -> dict[str, Floats]:
    """Return by how much quantising shifts each channel of each product that has a bias, on average over samples.

    Args:
        model: the exported FP32 graph.
        form: the 8-bit format.
        amax: the largest magnitude of each activation that is to be represented.
        leave: products that are not quantised, by the node's name.
        scales: the type that the scales will have.
        samples: those of the calibration.
        batch: samples per inference.

    Returns:
        [channels] of each product by the node's name, in the unit of its results.
    """
    twins, names = _beside_twins(graphs.raise_opset(model, max(form.opset, REDUCE)), form, amax, leave, scales)
    if not names:
        return {}
    session = calibration.unoptimised(twins)
    del twins  # as large as its weights
    fixed = fixed_batch(graphs.inputs(model))
    sums: dict[str, Any] = dict.fromkeys(names, 0.0)
    for which in samples.slices(fixed or batch):
        feed = inference.filled(samples.feed(which), fixed or 1)
        weight = (which.stop - which.start) / len(samples)
        for name, shift in zip(names, session.run(list(names.values()), feed), strict=True):
            sums[name] = sums[name] + weight * shift.astype(np.float64)
    return {name: np.asarray(total, np.float32) for name, total in sums.items() if np.isfinite(total).all()}


def _beside_twins(
    model: ModelProto, form: Format, amax: Mapping[str, float], leave: Collection[str], scales: Any
) -> tuple[ModelProto, dict[str, str]]:
    """Return the FP32 graph with a quantised twin beside each product, and the output of each with its mean shift."""
    quantised, twins = ModelProto(), ModelProto()
    quantised.CopyFrom(model)
    twins.CopyFrom(model)
    quantised = quantize.quantise(quantised, form, amax, leave, scales=scales)
    graph = twins.graph
    known = {tensor.name for tensor in graph.initializer}
    graph.initializer.extend(tensor for tensor in quantised.graph.initializer if tensor.name not in known)
    present = {node.name for node in graph.node}
    graph.node.extend(
        node for node in quantised.graph.node if node.name not in present
    )  # these quantise and bring back
    where, ranks = biases.biases(model), _ranks(model)
    plain = {node.name: node for node in model.graph.node}
    names: dict[str, str] = {}
    for node in quantised.graph.node:
        if node.name not in where or list(node.input) == list(plain[node.name].input):
            continue
        product, result, rank = node.name, node.output[0], ranks.get(node.output[0], 0)
        channel = where[product].channel_axis % rank if rank else 0
        axes = [axis for axis in range(rank) if axis != channel]
        if not axes:
            continue
        twin, difference, mean = (f"{result}/{part}" for part in ("twin", "difference", "shift"))
        node.output[0] = twin
        node.name = twin
        graph.initializer.append(numpy_helper.from_array(np.asarray(axes, np.int64), f"{result}/axes"))
        graph.node.append(node)
        graph.node.append(helper.make_node("Sub", [twin, result], [difference], name=difference))
        graph.node.append(helper.make_node("ReduceMean", [difference, f"{result}/axes"], [mean], name=mean, keepdims=0))
        graph.output.append(helper.make_tensor_value_info(mean, TensorProto.FLOAT, None))
        names[product] = mean
    return twins, names


def _ranks(model: ModelProto) -> dict[str, int]:
    values = graphs.outline(model).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*values.value_info, *values.output)
        if value.type.tensor_type.HasField("shape")
    }

"""Tensors are compared in bounded memory, on a graph of the size that needs it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import environment, graphs, precisions
from pipeline.artifacts.sensitivity import TensorDifference
from pipeline.backends import Session
from pipeline.data import Split
from pipeline.graphs import keras_layers, quantize
from pipeline.quantization import divergence
from pipeline.runners import inference
from pipeline.tensors import Feed, Outputs

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline.exporters import tf2onnx

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_a_difference_is_the_same_in_parts_and_leaves_out_what_is_no_number(random: np.random.Generator) -> None:
    left = random.normal(size=(20, 5)).astype(np.float32)
    right = left + 0.25
    left[3, 0], right[3, 0], right[4, 1], right[5, 2] = np.inf, np.nan, np.nan, -np.inf
    parts = divergence.Difference()
    for i in range(0, 20, 3):
        parts.add(left[i : i + 3], right[i : i + 3])
    known = np.isfinite(left) & np.isfinite(right)
    record = parts.record("x:0", "conv")
    assert (record.name, record.layer) == ("x:0", "conv")
    assert record.non_finite == 2
    assert record.max_abs == pytest.approx(0.25, rel=1e-5)
    assert record.relative_error == pytest.approx(0.25 * known.sum() / np.abs(left[known]).sum(), rel=1e-5)
    assert parts.largest == np.abs(left[np.isfinite(left)]).max()
    zeros = divergence.Difference()
    zeros.add(np.zeros(3, np.float32), np.zeros(3, np.float32))
    assert zeros.record("x", "") == TensorDifference(name="x", layer="", max_abs=0, relative_error=0, non_finite=0)
    zeros.add(np.zeros(3, np.float32), np.ones(3, np.float32))
    assert zeros.record("x", "").relative_error is None


class Spy:
    """A session that counts what it is asked for at a time."""

    def __init__(self, session: Session, asked: list[tuple[int, int]], names: Counter[str]) -> None:
        self._session, self._asked, self._names = session, asked, names
        names.update(spec.name for spec in session.outputs)

    def run(self, feed: Feed) -> Outputs:
        """Count, and infer."""
        found = self._session.run(feed)
        self._asked.append((len(found), len(next(iter(feed.values())))))
        return found


@pytest.mark.slow
def test_resnet50_has_its_layers_names_and_is_compared_in_bounded_memory(
    tmp_path: Path, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = keras.Input((96, 96, 3), dtype="uint8", name="image")
    network = keras.applications.ResNet50(
        weights=None, input_tensor=keras.layers.Rescaling(1 / 255)(image), input_shape=(96, 96, 3), classes=10
    )
    network.save(tmp_path / "model.keras")
    layers = keras_layers.names(network)
    assert layers == [layer.name for layer in network.layers]
    graph = tf2onnx.convert(network, 18)
    groups = keras_layers.groups(graph, layers)
    home = {node: group.name for group in groups for node in group.nodes}
    convolutions = [home[node.name] for node in graph.graph.node if node.op_type == "Conv"]
    assert {group.name for group in groups} <= set(layers)
    assert sorted(convolutions) == sorted(name for name in layers if name.endswith("_conv"))
    assert {"conv1_conv", "conv2_block1_0_conv", "conv5_block3_add", "avg_pool", "predictions"} < set(home.values())

    asked: list[tuple[int, int]] = []
    names: Counter[str] = Counter()
    loaded = inference.loaded

    @contextmanager
    def spied(*arguments: Any) -> Iterator[Any]:
        with loaded(*arguments) as session:
            yield Spy(session, asked, names)

    monkeypatch.setattr(inference, "loaded", spied)
    images = random.integers(0, 256, (divergence.SAMPLES_AT_ONCE + 1, 96, 96, 3), np.uint8)
    typed = precisions.get("int8").apply(graph, (), dict.fromkeys(quantize.activations(graph), 4.0))
    name = graphs.inputs(graph)[0].name
    found = divergence.measure(graph, typed, Split({name: images}))
    assert list(found) == [name for node in graph.graph.node for name in node.output]
    assert all(count == 2 for count in names.values()), "each tensor is fetched once of each graph"
    assert max(tensors for tensors, _ in asked) == divergence.TENSORS_AT_ONCE
    assert max(samples for _, samples in asked) == divergence.SAMPLES_AT_ONCE

"""Nodes of the exported graph are told by the names that `model.summary()` has."""

import onnx
import pytest

from pipeline import environment
from pipeline.errors import ConfigError
from pipeline.graphs import arithmetic, keras_layers

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import keras

    from pipeline import models
    from pipeline.exporters import tf2onnx

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

Exported = tuple[onnx.ModelProto, list[str]]


def exported(model: keras.Model) -> Exported:
    """Return the graph that the export stage makes of a model, and the model's layers."""
    return tf2onnx.convert(model, 18), keras_layers.names(model)


@pytest.fixture(scope="module")
def branched() -> Exported:
    """A network with all that makes names hard to tell. Read only."""
    layers = keras.layers
    image = keras.Input((8, 8, 3), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255, name="to_one")(image)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="plain")(x)
    x = layers.BatchNormalization(name="normalised")(x)  # is folded into `plain`
    x = layers.ReLU(name="positive")(x)
    x = layers.Conv2D(4, 3, name="conv2d_1")(x)  # runs before `conv2d`, and in a scope `conv2d_1_1`
    x = layers.Conv2D(4, 3, name="conv2d")(x)
    shared = layers.Conv2D(4, 1, name="shared")
    x = shared(layers.Activation("tanh", name="curve")(shared(x)))
    block = keras.Sequential([keras.Input((4, 4, 4)), layers.Conv2D(4, 1, name="conv2d")], name="block")
    x = block(x)
    x = layers.Conv2D(4, 1, name="after")(x)
    x = layers.Dropout(0.5, name="dropped")(x)
    x = layers.Flatten(name="flat")(x)
    model = keras.Model(image, layers.Dense(5, activation="softmax", name="dense")(x))
    model.get_layer("normalised").beta.assign([1.0, 2.0, 3.0, 4.0])  # as after training
    return exported(model)


def operators(exported: Exported) -> dict[str, list[str]]:
    """Return the operators of each layer, in the graph's order."""
    kinds = {node.name: node.op_type for node in exported[0].graph.node}
    return {group.name: [kinds[node] for node in group.nodes] for group in keras_layers.groups(*exported)}


def test_the_articles_layers_have_the_names_of_its_summary() -> None:
    keras.utils.clear_session()  # Keras numbers layers of one kind through a whole process
    model = models.article_cnn((28, 28, 1), 10)
    graph, layers = exported(model)
    lines: list[str] = []
    model.summary(print_fn=lines.append)
    names = [group.name for group in keras_layers.groups(graph, layers)]
    assert names == [layer.name for layer in model.layers]
    assert {"max_pooling2d", "flatten", "probabilities"} < set(names)
    assert all(name in "\n".join(lines) for name in names)
    found = operators((graph, layers))
    assert found["conv2d"] == ["Conv", "Relu"]
    assert found["probabilities"] == ["MatMul", "Softmax"]  # untrained biases are zeros, and left out


def test_every_node_is_in_one_group(branched: Exported) -> None:
    nodes = [node for group in keras_layers.groups(*branched) for node in group.nodes]
    assert sorted(nodes) == sorted(node.name for node in branched[0].graph.node)


def test_names_that_are_hard_to_tell_apart_are_told_apart(branched: Exported) -> None:
    found = operators(branched)
    assert branched[1][-1] == "dense"
    assert "block/conv2d" in branched[1]
    convolutions = [name for name, kinds in found.items() if "Conv" in kinds]
    assert convolutions == ["plain", "conv2d_1", "conv2d", "shared", "block/conv2d", "after"]
    assert found["shared"].count("Conv") == 2
    assert found["curve"] == ["Tanh"]
    assert found["positive"] == ["Relu"]
    assert "normalised" not in found
    assert "dropped" not in found


def test_resolving_a_layer_gives_its_nodes(branched: Exported) -> None:
    graph, layers = branched
    groups = {group.name: set(group.nodes) for group in keras_layers.groups(graph, layers)}
    for name, nodes in groups.items():
        assert keras_layers.resolve(graph, [name], layers) == nodes
    assert keras_layers.resolve(graph, ["curve", "dense"], layers) == groups["curve"] | groups["dense"]
    assert keras_layers.resolve(graph, [], layers) == frozenset()


def test_what_is_folded_or_nested_resolves_too(branched: Exported) -> None:
    graph, layers = branched
    (convolution,) = keras_layers.resolve(graph, ["normalised"], layers)
    assert convolution in keras_layers.resolve(graph, ["plain"], layers)
    assert convolution in {node.name for node in arithmetic.compute_nodes(graph)}
    assert keras_layers.resolve(graph, ["block"], layers) == keras_layers.resolve(graph, ["block/conv2d"], layers)
    assert keras_layers.resolve(graph, ["conv2d"], layers).isdisjoint(keras_layers.resolve(graph, ["block"], layers))


def test_a_custom_layers_option_called_layers_is_no_nested_model() -> None:
    first, second = keras.layers.Identity(name="a"), keras.layers.Identity(name="b")
    first.depth, second.layers = 3, ["x"]
    assert keras_layers.names(keras.Sequential([first, second])) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("convd", "'convd' is no layer of the model", "Did you mean 'conv2d'? Layers that can be kept: to_one, plain,"),
        ("Dense", "'Dense' is no layer of the model", "Did you mean 'dense'?"),
        ("", "'' is no layer of the model", "Layers that can be kept: to_one"),
        ("dropped", "'dropped' is in no node of the graph", "Layers that can be kept: to_one"),
    ],
)
def test_a_layer_that_cannot_be_kept_is_an_error(branched: Exported, name: str, message: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        keras_layers.resolve(branched[0], ["plain", name], branched[1])
    assert caught.value.hint.startswith(hint)


def test_a_name_in_two_nested_models_wants_the_models() -> None:
    node = onnx.helper.make_node
    nodes = [
        node("Relu", ["x"], ["y"], name="m_1/a_1/relu_1/Relu"),
        node("Relu", ["y"], ["z"], name="m_1/b_1/relu_1/R"),
    ]
    graph = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], []))
    layers = ["a", "a/relu", "b", "b/relu"]
    assert keras_layers.resolve(graph, ["b/relu"], layers) == {"m_1/b_1/relu_1/R"}
    with pytest.raises(ConfigError, match="'relu' is no layer") as caught:
        keras_layers.resolve(graph, ["relu"], layers)
    assert "/relu'?" in caught.value.hint
    assert keras_layers.resolve(graph, ["relu"], layers[:3]) == {"m_1/a_1/relu_1/Relu"}

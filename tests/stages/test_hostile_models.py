"""Model files that were made to do harm, or are damaged: one clear error each, in bounded time and memory."""

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import FEATURES, Stage, classifier

from pipeline import graphs
from pipeline.config import Model
from pipeline.errors import DataError, PipelineError
from pipeline.graphs import files
from pipeline.models import declaring
from pipeline.tensors import Signature
from pipeline.training import trying

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning",
)

LIMIT_S = 2.0
"""For what never ends."""

Refused = Callable[..., PipelineError]


@pytest.fixture
def refused(stage: Stage, tmp_path: Path) -> Refused:
    """Return a function that trains on a file and returns why that was refused; nothing is published."""

    def go(name: str, limit_s: float = 60.0) -> PipelineError:
        with pytest.raises(PipelineError) as caught:
            stage("train", {"model.source": name, "model.trial_s": limit_s})
        assert caught.value.exit_code == 2
        assert name in caught.value.message or "the model's" in caught.value.message
        assert caught.value.hint
        assert not (tmp_path / "artifacts/train").exists()
        return caught.value

    return go


def packed(configuration: bytes | dict[str, Any] | None = None, flag: int = 0, method: int | None = None) -> None:
    """Write `bad.keras`: with another configuration, a flag of zip files, or a method of compression."""
    classifier().save("whole.keras")
    with zipfile.ZipFile("whole.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    if configuration is not None:
        given = configuration if isinstance(configuration, bytes) else json.dumps(configuration).encode()
        members["config.json"] = given
    with zipfile.ZipFile("bad.keras", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    content = bytearray(Path("bad.keras").read_bytes())
    for mark, at in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):  # where the flags are; the method follows them
        found = content.find(mark)
        while found >= 0:
            content[found + at] |= flag
            if method is not None:
                content[found + at + 2] = method
            found = content.find(mark, found + 4)
    Path("bad.keras").write_bytes(content)


def of_layers(*layers: tuple[str, dict[str, Any]], shape: tuple[int, ...] = (FEATURES,)) -> dict[str, Any]:
    """Return the configuration of a model whose layers Keras was not asked for."""
    found = keras.saving.serialize_keras_object(keras.Sequential([keras.Input(shape)]))
    for name, options in layers:
        layer = {"module": "keras.layers", "class_name": name, "config": options, "registered_name": None}
        found["config"]["layers"].append(layer)
    return dict(found)


def units(count: int) -> dict[str, Any]:
    return of_layers(("Dense", {"units": count}))


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda: packed(flag=1), "is encrypted, password required"),
        (lambda: packed(method=99), "That compression method is not supported"),
        (lambda: packed(b"[" * 200_000 + b"]" * 200_000), "maximum recursion depth exceeded"),
        (lambda: packed(b'{"a":' * 50_000 + b"1" + b"}" * 50_000), "maximum recursion depth exceeded"),
        (lambda: packed(b"\xff\xfe{"), "cannot be loaded"),
        (lambda: packed(units(10**19)), "out-of-range integer"),
        (lambda: packed(of_layers(("TorchModuleWrapper", {"module": "x"}))), "needs the Python module 'torch'"),
        (
            lambda: packed(of_layers(("AveragePooling2D", {"pool_size": 2, "strides": 0}), shape=(8, 8, 3))),
            "bad.keras raises ZeroDivisionError",
        ),
        (
            lambda: packed(of_layers(("Discretization", {"bin_boundaries": [None]}))),
            "TensorFlow cannot run these samples",
        ),
        (
            lambda: packed(
                of_layers(*[("Activation", {"activation": "relu", "name": f"a{one}"}) for one in range(10**4)])
            ),
            "was not done after 2 s in a process of its own",
        ),
    ],
)
def test_a_hostile_keras_file(write: Callable[[], None], said: str, refused: Refused) -> None:
    write()
    assert said in refused("bad.keras", LIMIT_S if "2 s" in said else 60.0).message


@pytest.mark.long  # TensorFlow asks for ten seconds whether there is memory after all
@pytest.mark.parametrize(
    "configuration",
    [units(10**12), of_layers(("UpSampling2D", {"size": 10**5}), shape=(8, 8, 3))],
    ids=["units", "run"],
)
def test_a_keras_file_that_describes_what_no_machine_holds(configuration: dict[str, Any], refused: Refused) -> None:
    packed(configuration)
    assert "needs more memory than there is" in refused("bad.keras").message.replace("model that needs", "needs")


def network(nodes: list[Any], constants: dict[str, Any] | None = None, **changes: Any) -> onnx.ModelProto:
    """Return a model from `x` to `y`, [n, 4] both, with something changed."""
    kind = changes.get("kind", TensorProto.FLOAT)
    taken = changes.get("input", helper.make_tensor_value_info("x", kind, changes.get("shape", ["n", FEATURES])))
    returned = changes.get("returns", changes.get("shape", ["n", FEATURES]))
    given = helper.make_tensor_value_info("y", kind, returned)
    graph = helper.make_graph(
        nodes,
        "net",
        [taken],
        [given],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    opset = helper.make_opsetid("", changes.get("opset", 17))
    return helper.make_model(graph, opset_imports=[opset], ir_version=9)


def one(operator: str, *more: str, **changes: Any) -> onnx.ModelProto:
    return network([helper.make_node(operator, ["x", *more], ["y"])], **changes)


def endless() -> onnx.ModelProto:
    """Return a model with a loop whose condition stays true."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", FEATURES]) for name in ("s", "s2")]
    flags = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("c", "c2")]
    nodes = [helper.make_node("Identity", [name], [f"{name}2"]) for name in ("c", "s")]
    count = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    body = helper.make_graph(nodes, "body", [count, flags[0], values[0]], [flags[1], values[1]])
    return network([helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)], {"true": np.array(True)})


def sized() -> onnx.ModelProto:
    """Return a model that makes an array of 4 TB on the way."""
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["large"]),
        helper.make_node("ReduceSum", ["large"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return network(nodes, {"size": np.array([10**6, 10**6])})


def sequence() -> onnx.ModelProto:
    taken = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["n", FEATURES])
    return network([helper.make_node("ConcatFromSequence", ["x"], ["y"], axis=0)], input=taken)


def spoilt(old: bytes, new: bytes) -> Callable[[], bytes]:
    """Return what makes a model with other bytes in a name."""
    nodes = [helper.make_node("Relu", ["x"], ["zzzz"], name="qqqq"), helper.make_node("Relu", ["zzzz"], ["y"])]
    return lambda: network(nodes).SerializeToString().replace(old, new)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (endless, "was not done after 2 s in a process of its own"),
        (lambda: one("Conv", "w", constants={"w": np.ones((2, 4, 1), np.float32)}), "the ONNX checker rejects"),
        (spoilt(b"qqqq", b"q\xffqq"), r"the name b'q\xffqq' in it is not UTF-8"),
        (spoilt(b"zzzz", b"z\xffzz"), r"the name b'z\xffzz' in it is not UTF-8"),
        (lambda: one("Relu", kind=99), "Invalid tensor data type 99"),
        (lambda: one("Relu", kind=0), "Element type of input 0 unknown"),
        (sequence, "the graph's 'x' is a sequence, and not a tensor of numbers"),
        (lambda: one("Identity", kind=TensorProto.STRING), "the model's input x is of strings"),
        (lambda: one("Relu", shape=["n", 10**12]), "is of a shape that no array here can have"),
        (lambda: one("Relu", shape=["n", -4]), "is of a shape that no array here can have"),
        (lambda: one("Relu", shape=["n", *[1] * 99]), "is of a shape that no array here can have"),
        (
            lambda: one("Pad", "p", constants={"p": np.array([0, -10, 0, -10])}, returns=["n", "a"]),
            "is of a shape that no array here can have",
        ),
    ],
)
def test_a_hostile_onnx_file(make: Callable[[], Any], said: str, refused: Refused) -> None:
    made = make()
    Path("bad.onnx").write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    assert said in refused("bad.onnx", LIMIT_S if "2 s" in said else 60.0).message


def test_bf16_is_no_type_of_samples(refused: Refused) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["f"], ["y"], to=TensorProto.BFLOAT16),
    ]
    onnx.save(network(nodes, kind=TensorProto.BFLOAT16), "bad.onnx")
    assert "x is a tensor(bfloat16), for which there are no arrays of NumPy's" in refused("bad.onnx").message


def test_an_onnx_file_that_takes_more_memory_than_there_is(refused: Refused) -> None:
    onnx.save(sized(), "bad.onnx")
    assert "bad.onnx needs more memory than there is" in refused("bad.onnx").message


def flipped(content: bytes, seed: int) -> bytes:
    """Return a model's bytes with a few of their bits turned, more often where they say something."""
    draw, found = random.Random(seed), bytearray(content)
    said = [place for place, byte in enumerate(found) if byte not in (0x00, 0x80, 0x3F)]
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        found[draw.choice(said)] ^= 1 << draw.randrange(8)
    return bytes(found)


def whole() -> bytes:
    """Return a model with a body, constants, and weights in a file beside it."""
    branches = [
        helper.make_graph(
            [helper.make_node(operator, inputs, ["b"])],
            operator,
            [],
            [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", FEATURES])],
        )
        for operator, inputs in (("Add", ["g", "away"]), ("Relu", ["g"]))
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["g"], name="product"),
        helper.make_node("If", ["true"], ["i"], name="if", then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Softmax", ["i"], ["y"], name="probabilities"),
    ]
    constants = {"w": np.ones((FEATURES, FEATURES), np.float32), "true": np.array(True)}
    model = network(nodes, constants)
    away = TensorProto(name="away", data_type=TensorProto.FLOAT, dims=[FEATURES], data_location=TensorProto.EXTERNAL)
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "16")):
        away.external_data.add(key=key, value=value)
    model.graph.initializer.append(away)
    Path("weights.bin").write_bytes(np.ones(FEATURES, np.float32).tobytes())
    content: bytes = model.SerializeToString()
    return content


def test_damaged_onnx_files_raise_our_errors_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process reads itself, as for a digest, before any trial."""
    monkeypatch.chdir(tmp_path)
    content, path, refusals = whole(), Path("damaged.onnx"), 0
    for seed in range(500):
        path.write_bytes(flipped(content, seed))
        try:
            files.digest(path)
            model = graphs.load(path)
            graphs.check(model, "it")
            declaring.check({}, Signature(graphs.inputs(model), graphs.outputs(model)))
            graphs.narrowed_by(model)
        except PipelineError:
            refusals += 1
    assert 100 < refusals < 500


def test_damaged_onnx_files_are_tried_in_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, path, refusals = whole(), Path("damaged.onnx"), 0
    for seed in range(1000, 1012):
        path.write_bytes(flipped(content, seed))
        try:
            trying.check(Model(source=str(path), trial_s=60), [(FEATURES,)], compiled=False)
        except DataError:
            refusals += 1
    assert 2 < refusals < 12

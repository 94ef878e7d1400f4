"""The TensorRT backend: real builds with TensorRT for RTX, which needs no GPU, and every API name the module uses."""

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline import cuda
from pipeline.backends import LoadOptions, tensorrt
from pipeline.backends.tensorrt import (
    build,
    dynamic_axes,
    execution,
    features,
    feeds,
    process,
    progress,
    session,
    timing_cache,
)
from pipeline.errors import ArtifactError, BackendUnavailable, BatchOutsideProfile, BuildError, ConfigError, InputError
from pipeline.measuring.limits import microbenchmarks
from pipeline.tensors import TensorSpec

RTX = build.BuildOptions("tensorrt-rtx", allow_tf32=False, profiles=((1, 4, 16),), targets=("sm89", "SM120"))

needs_rtx = pytest.mark.skipif(
    build.installed_version("tensorrt-rtx") is None, reason="TensorRT for RTX is not installed"
)


def cnn(activation: str = "Relu", shape: tuple[str | int, ...] = ("batch", 8, 8, 1)) -> onnx.ModelProto:
    """Return a small CNN like those the pipeline exports: uint8 [batch, 8, 8, 1] to probabilities [batch, 10]."""
    random = np.random.default_rng(0)
    constants = {
        "scale": np.float32(1 / 255),
        "kernel": random.standard_normal((4, 1, 3, 3), dtype=np.float32),
        "bias": random.standard_normal(4, dtype=np.float32),
        "dense": random.standard_normal((64, 10), dtype=np.float32) / 8,
        "dense_bias": random.standard_normal(10, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel", "bias"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node(activation, ["conv"], ["active"], name="the_activation"),
        helper.make_node("MaxPool", ["active"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense", "dense_bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [shape[0], 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


# --- building ---------------------------------------------------------------------------------------------------------


@needs_rtx
def test_builds_without_a_gpu_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    model = saved(cnn(), tmp_path)
    first, second = build.build(model, RTX), build.build(model, RTX)
    assert first.engine == second.engine
    assert len(first.engine) > 10_000
    assert first.messages == ()
    assert first.version == build.installed_version("tensorrt-rtx")


@needs_rtx
def test_tf32_is_a_different_engine(tmp_path: Path) -> None:
    model = saved(cnn(), tmp_path)
    assert build.build(model, replace(RTX, allow_tf32=True)).engine != build.build(model, RTX).engine


@needs_rtx
def test_builds_with_every_option_and_without_any(tmp_path: Path) -> None:
    model = saved(cnn(), tmp_path)
    assert build.build(model, replace(RTX, workspace_bytes=2**30, optimization_level=2)).engine
    assert build.build(model, replace(RTX, targets=())).engine


@needs_rtx
def test_a_static_batch_needs_no_profile(tmp_path: Path) -> None:
    assert build.build(saved(cnn(shape=(2, 8, 8, 1)), tmp_path), RTX).engine


KERNEL = re.compile(rb"__myl_\w+_0x[0-9a-f]{32}")
"""How TensorRT for RTX names a kernel that it generates: by its operators and a digest of what it is for."""


def kernels(engine: bytes) -> set[bytes]:
    found = set(KERNEL.findall(engine))
    assert found, "TensorRT for RTX names its kernels in another way now"
    return found


@needs_rtx
def test_each_profile_has_the_kernels_of_an_engine_for_it_alone(tmp_path: Path) -> None:
    model = saved(cnn(), tmp_path)
    profiles = ((1, 1, 1), (2, 16, 16), (17, 64, 64))
    built = build.build(model, replace(RTX, profiles=profiles))
    assert built.messages == ()
    alone = [kernels(build.build(model, replace(RTX, profiles=(one,))).engine) for one in profiles]
    assert kernels(built.engine) == set.union(*alone)
    assert not alone[0] >= alone[1]


@needs_rtx
def test_a_profile_of_one_batch_is_as_good_as_a_graph_of_a_fixed_batch(tmp_path: Path) -> None:
    """So nobody has to fix the batch of a graph to get a static engine."""
    fixed = build.build(saved(cnn(shape=(16, 8, 8, 1)), tmp_path), RTX).engine
    static, dynamic = (
        build.build(saved(cnn(), tmp_path), replace(RTX, profiles=(one,))).engine for one in ((16, 16, 16), (1, 16, 16))
    )
    assert kernels(static) == kernels(fixed)
    assert kernels(dynamic) != kernels(fixed)
    assert len(static) < len(dynamic)


@needs_rtx
def test_profiles_that_a_graph_does_not_tell_apart_are_one(tmp_path: Path) -> None:
    model = saved(cnn(shape=(2, 8, 8, 1)), tmp_path)
    assert build.build(model, replace(RTX, profiles=((1, 1, 1), (2, 2, 2)))).engine == build.build(model, RTX).engine


@needs_rtx
def test_weights_beside_the_model_are_found(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(cnn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert (tmp_path / "weights.bin").stat().st_size > 2000
    assert build.build(path, RTX).engine


@needs_rtx
def test_an_unknown_operator_is_told_in_the_parsers_words(tmp_path: Path) -> None:
    with pytest.raises(
        BuildError, match=r"Frobnicate node 'the_activation' of the Keras layer 'act':\n.*Plugin not found"
    ) as caught:
        build.build(saved(cnn("Frobnicate"), tmp_path), RTX, {"the_activation": "act"})
    assert "TensorRT has no Frobnicate of this kind. Replace the layer" in caught.value.hint


@needs_rtx
def test_a_node_in_a_body_belongs_to_the_layer_of_its_loop(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        looped (float[2] x) => (float[2] y) <int64 rounds = {3}, bool go = {1}>
        { y = Loop (rounds, go, x) <body = body (int64 i, bool before, float[2] a) => (bool after, float[2] b)
            { after = Identity (before) b = Frobnicate (a) }> }"""
    )
    (loop,) = model.graph.node
    loop.name, loop.attribute[0].g.node[1].name = "loop", "inner"
    with pytest.raises(BuildError, match="Frobnicate node 'inner' of the Keras layer 'rnn':"):
        build.build(saved(model, tmp_path), RTX, {"loop": "rnn"})


@needs_rtx
def test_a_builders_error_names_the_layer_and_what_to_do(tmp_path: Path) -> None:
    """TensorRT for RTX 1.7.1 has no BF16 ConvTranspose. Where this fails, `bf16.FP32_OPERATORS` has one too many."""
    kind = TensorProto.BFLOAT16
    kernel = helper.make_tensor("kernel", kind, [2, 4, 2, 2], [1.0] * 32)
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="model/first/Relu"),
        helper.make_node("ConvTranspose", ["a", "kernel"], ["y"], name="model/up/conv_transpose", strides=[2, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "up",
        [helper.make_tensor_value_info("x", kind, ["n", 2, 4, 4])],
        [helper.make_tensor_value_info("y", kind, None)],
        [kernel],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    with pytest.raises(
        BuildError, match="ConvTranspose node 'model/up/conv_transpose' of the Keras layer 'up'"
    ) as caught:
        build.build(saved(model, tmp_path), RTX, {"model/first/Relu": "first", "model/up/conv_transpose": "up"})
    assert 'engine.keep_fp32 = ["up"]' in caught.value.hint
    assert "error: IBuilder" in caught.value.message


@needs_rtx
@pytest.mark.parametrize(("content", "words"), [(b"", "the graph is empty"), (b"junk", "Failed to parse")])
def test_a_file_that_is_no_model_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(BuildError, match=words):
        build.build(path, RTX)


@needs_rtx
def test_a_failed_build_carries_the_builders_words(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"cannot build an engine.*:\n(error|internal error): ") as caught:
        build.build(saved(cnn(), tmp_path), replace(RTX, workspace_bytes=2**10))
    assert "engine.workspace_mib" in caught.value.hint


@needs_rtx
def test_every_dynamic_axis_has_its_range(tmp_path: Path) -> None:
    model = saved(cnn(shape=("batch", "height", 8, 1)), tmp_path)
    with pytest.raises(ConfigError, match=r"axis 1 of input 'image', of shape \[\?, \?, 8, 1\], is dynamic") as caught:
        build.build(model, RTX)
    assert 'Set engine.ranges."image".1 = [smallest, best, largest]' in caught.value.hint
    # The dense layer behind it takes one height alone.
    assert build.build(model, replace(RTX, ranges={"image": {1: (8, 8, 8)}})).engine


@needs_rtx
@pytest.mark.parametrize(("sizes", "end"), [((1, 8, 16), "smallest"), ((1, 1, 16), "best")])
def test_sizes_that_the_model_cannot_take_are_refused(sizes: dynamic_axes.Range, end: str, tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        valid (float[batch, 1, height, 8] x) => (float[batch, 1, less, 6] y)
        <float[1, 1, 3, 3] kernel = {1, 1, 1, 1, 1, 1, 1, 1, 1}> { y = Conv (x, kernel) }"""
    )
    model.graph.node[0].name = "model/conv/Conv"
    words = rf"cannot take its inputs in their {end} sizes; it names Conv node 'model/conv/Conv' of the Keras layer 'c'"
    with pytest.raises(ConfigError, match=words) as caught:
        build.build(saved(model, tmp_path), replace(RTX, ranges={"x": {2: sizes}}), {"model/conv/Conv": "c"})
    assert "spatial dimension" in caught.value.message
    assert "[engine.ranges]" in caught.value.hint
    assert build.build(saved(model, tmp_path), replace(RTX, ranges={"x": {2: (3, 8, 16)}})).messages == ()


@needs_rtx
def test_the_numbers_of_an_input_cannot_be_sizes(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 18]>
        sized (float[2, 3] x, int64[2] size) => (float[a, b] y) { y = Reshape (x, size) }"""
    )
    with pytest.raises(BuildError, match="the numbers in input 'size' are the sizes of another tensor"):
        build.build(saved(model, tmp_path), RTX)


def test_shapes_of_a_profile() -> None:
    shapes = dynamic_axes.shapes(
        {"image": (-1, 8, 8, 1), "tokens": (-1, -1), "table": (5, 2), "rows": (-1, 3)},
        (1, 4, 16),
        {"tokens": {1: (2, 32, 128)}, "rows": {0: (7, 8, 9)}},
    )
    assert shapes == {
        "image": ((1, 8, 8, 1), (4, 8, 8, 1), (16, 8, 8, 1)),
        "tokens": ((1, 2), (4, 32), (16, 128)),
        "rows": ((7, 3), (8, 3), (9, 3)),
    }


@pytest.mark.parametrize(
    ("profiles", "batch", "index"),
    [
        (((1, 64, 1024),), 1, 0),
        (((1, 64, 1024),), 1025, None),
        (((2, 64, 1024),), 1, None),
        (((1, 64, 1024), (1, 1, 1)), 1, 1),
        (((1, 64, 1024), (1, 1, 1)), 2, 0),
        (((1, 1, 1), (2, 64, 64), (65, 1024, 1024)), 64, 1),
        (((1, 1, 1), (2, 64, 64), (65, 1024, 1024)), 65, 2),
        (((1, 1, 1), (64, 64, 64)), 7, None),
        (((1, 10, 100), (50, 60, 149)), 80, 1),  # equally narrow: the one whose best is nearest
        (((1, 10, 100), (1, 10, 100)), 80, 0),
    ],
)
def test_the_narrowest_profile(profiles: tuple[dynamic_axes.Range, ...], batch: int, index: int | None) -> None:
    assert dynamic_axes.narrowest(profiles, batch) == index


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ({"tokens": {1: (4, 2, 8)}}, r'engine.ranges."tokens".1 = \(4, 2, 8\) is not 1 <= smallest'),
        ({"tokens": {1: (0, 2, 8)}}, "is not 1 <= smallest"),
        ({"token": {1: (1, 2, 8)}}, "the model has no input 'token'"),
        ({"tokens": {1: (1, 2, 8)}, "image": {2: (1, 2, 8)}}, r'engine.ranges."image".2: this axis is not dynamic'),
        ({"tokens": {1: (1, 2, 8), 2: (1, 2, 8)}}, r'engine.ranges."tokens".2: this axis is not dynamic'),
        ({}, "axis 1 of input 'tokens'"),
    ],
)
def test_ranges_that_do_not_fit_the_model(ranges: dynamic_axes.Ranges, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        dynamic_axes.shapes({"image": (-1, 8, 8, 1), "tokens": (-1, -1)}, (1, 4, 16), ranges)


@needs_rtx
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": ("sm89", "sm90")}, r"(?s)unknown targets: sm90.*sm75, .*sm89, .*sm120"),
        ({"targets": ("none",)}, "unknown targets: none"),
        ({"targets": ("current", "sm89")}, "refuses target"),
        ({"optimization_level": 9}, "optimization level 9"),
        ({"optimization_level": -1}, "optimization level -1"),
    ],
)
def test_options_outside_what_tensorrt_accepts(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        build.build(saved(cnn(), tmp_path), replace(RTX, **changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"flavour": "tensorrt"}, "tensorrt takes no targets, got sm89"),
        ({"flavour": "tensorflow-trt"}, "no variant 'tensorflow-trt'"),
        ({"profiles": ((1, 1, 1), (4, 2, 8))}, r"batch \(4, 2, 8\)"),
        ({"profiles": ((0, 1, 8),)}, r"batch \(0, 1, 8\)"),
        ({"profiles": ()}, "needs an optimization profile"),
        ({"workspace_bytes": 0}, "workspace"),
    ],
)
def test_impossible_options_are_refused_where_they_are_written(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(RTX, **changes)


def test_a_missing_model_is_an_artifact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        build.build(tmp_path / "model.onnx", RTX)


# --- what this machine offers -----------------------------------------------------------------------------------------


def has_gpu() -> bool:
    try:
        cuda.device()
    except BackendUnavailable:
        return False
    return True


@needs_rtx
def test_rtx_builds_wherever_it_is_installed() -> None:
    build.probe_build("tensorrt-rtx")


@pytest.mark.parametrize("probe", [tensorrt.probe, build.probe_build])
def test_probe_of_an_unknown_name(probe: Callable[[str], None]) -> None:
    with pytest.raises(ConfigError, match="no variant"):
        probe("tensorrt-lite")


@pytest.mark.parametrize("variant", tensorrt.VARIANTS)
def test_probe_tells_in_a_line_why_an_engine_cannot_run(variant: str) -> None:
    if has_gpu():
        pytest.skip("there is a GPU here")
    with pytest.raises(BackendUnavailable) as caught:
        tensorrt.probe(variant)
    assert caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_probe_build_without_the_package() -> None:
    if build.installed_version("tensorrt") is not None:
        pytest.skip("TensorRT is installed here")
    with pytest.raises(BackendUnavailable, match="No module named 'tensorrt'"):
        build.probe_build("tensorrt")


# --- loading, as far as it goes without a GPU -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "sha256", "words"),
    [
        (b"an engine", None, "executable content"),
        (b"an engine", hashlib.sha256(b"another").hexdigest(), "was changed"),
        (b"an eng", hashlib.sha256(b"an engine").hexdigest(), "was changed"),
        (b"", hashlib.sha256(b"").hexdigest(), "is empty"),
        (None, hashlib.sha256(b"").hexdigest(), "does not exist"),
    ],
    ids=["no digest", "another digest", "truncated", "empty", "missing"],
)
def test_only_what_was_published_is_loaded(
    content: bytes | None, sha256: str | None, words: str, tmp_path: Path
) -> None:
    engine = tmp_path / "model.engine"
    if content is not None:
        engine.write_bytes(content)
    with (
        pytest.raises(ArtifactError, match=words) as caught,
        tensorrt.load(engine, LoadOptions("tensorrt-rtx", sha256=sha256)),
    ):
        pass
    assert str(engine) in caught.value.message
    assert "make engine" in caught.value.hint


SPECS = (TensorSpec("image", (None, 8, 8, 1), np.dtype(np.uint8)),)


@pytest.mark.parametrize(
    ("feed", "words"),
    [
        ({}, "takes"),
        ({"image": np.zeros((1, 8, 8, 1), np.uint8), "mask": np.zeros(1)}, "mask"),
        ({"image": np.zeros((1, 8, 8, 1), np.float32)}, "float32"),
        ({"image": np.zeros((1, 8, 9, 1), np.uint8)}, r"\(1, 8, 9, 1\)"),
        ({"image": np.zeros((8, 8, 1), np.uint8)}, r"\(8, 8, 1\)"),
    ],
)
def test_a_feed_that_does_not_fit_is_refused(feed: dict[str, np.ndarray], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        feeds.check(feed, SPECS)
    assert not isinstance(caught.value, BatchOutsideProfile)
    feeds.check({"image": np.zeros((3, 8, 8, 1), np.uint8)}, SPECS)


def test_a_batch_other_than_the_fixed_one_is_told_apart() -> None:
    fixed = (TensorSpec("image", (4, 8, 8, 1), np.dtype(np.uint8)),)
    with pytest.raises(BatchOutsideProfile, match=r"\(3, 8, 8, 1\)"):
        feeds.check({"image": np.zeros((3, 8, 8, 1), np.uint8)}, fixed)


# --- running, on a GPU ------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("flavour", build.FLAVOURS)
def test_runs_like_onnx_runtime(flavour: str, tmp_path: Path) -> None:
    try:
        tensorrt.probe(flavour)
    except BackendUnavailable as error:
        pytest.skip(error.message)
    import onnxruntime

    model = saved(cnn(), tmp_path)
    built = build.build(model, build.BuildOptions(flavour, allow_tf32=False, profiles=((1, 4, 16),)))
    path = tmp_path / "model.engine"
    path.write_bytes(built.engine)
    options = LoadOptions(flavour, sha256=hashlib.sha256(built.engine).hexdigest())
    reference = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).integers(0, 256, (17, 8, 8, 1), np.uint8)

    with tensorrt.load(path, options) as session:
        assert session.inputs == SPECS
        assert session.outputs == (TensorSpec("probabilities", (None, 10), np.dtype(np.float32)),)
        assert session.device
        answers = {}
        for batch in (2, 16, 3):  # growing, then shrinking
            feed = {"image": images[:batch]}
            answers[batch] = session.run(feed)["probabilities"].copy()
            np.testing.assert_allclose(answers[batch], reference.run(None, feed)[0], rtol=0, atol=1e-5)
        kept = answers[2].copy()
        call = session.bind({"image": images[:4]})
        call()
        other = session.run({"image": images[5:7]})["probabilities"].copy()
        call()
        np.testing.assert_array_equal(answers[2], kept)
        assert not np.array_equal(other, kept)
        with pytest.raises(BatchOutsideProfile, match="outside the engine's"):
            session.run({"image": images[:0]})
        in_chunks = session.run({"image": images})["probabilities"]  # 17 of at most 16
        np.testing.assert_allclose(in_chunks, reference.run(None, {"image": images})[0], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(session.run({"image": images[:2]})["probabilities"], kept)
        assert all("Name" in layer for layer in tensorrt.inspect(session))
    for use in (call, lambda: session.run({"image": images[:2]}), lambda: session.bind({"image": images[:2]})):
        with pytest.raises(RuntimeError, match="closed"):
            use()


# --- the names of the API ---------------------------------------------------------------------------------------------

VARIABLES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "cache": "ITimingCache",
    "monitor": "IProgressMonitor",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "profile": "IOptimizationProfile",
    "tensor": "ITensor",
    "serialized": "IHostMemory",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "logger": "ILogger",
    "device": "Device",
    "stream": "Stream",
    "gpu": "Device",
    "on_device": "Buffer",
    "on_host": "Buffer",
    "scratch": "Buffer",
    "runtime_config": "IRuntimeConfig",
    "graph_builder": "GraphBuilder",
    "graph": "Graph",
    "begun": "Event",
    "ended": "Event",
    "done": "Event",
    "source": "Buffer",
    "destination": "Buffer",
    "small": "Buffer",
    "copied": "Buffer",
    "buffer": "Buffer",
}
"""What a variable, a parameter or a private attribute of this name holds, wherever it stands in the modules."""

CLASSES = {"Stream"}
"""Classes of cuda.core whose own functions are called."""

OURS = {"logger": {"words", "copy"}}
"""Attributes that the module's own subclass adds."""

PLAIN = {"operator", "name", "missing", "dims", "size"}
"""Variables for results of TensorRT that are plain Python values or sequences of them."""

PYTHONS = {"__init__", "__members__", "__version__"}
"""Python's own names, which the recorded lists leave out."""

RTX_ONLY = {"_set_targets", "_specialise", "_capturable", "_gpu"}
"""The functions that may use what only TensorRT for RTX has."""

Api = Mapping[str, "list[str] | str"]
SOURCES = {
    Path(module.__file__).name: Path(module.__file__).read_text(encoding="utf-8")
    for module in (
        *(cuda, build, execution, features, feeds, microbenchmarks, process, progress, session, tensorrt),
        timing_cache,
    )
}
"""Every module that uses such objects; that no other does, another test holds."""

RECORDED = json.loads((Path(__file__).parents[1] / "data" / "tensorrt_api_names.json").read_text(encoding="utf-8"))
TENSORRT, RTX_EXTRA, CUDA = (
    RECORDED[key] for key in ("tensorrt 11.4.0.106", "tensorrt_rtx 1.7.1.116", "cuda.core 1.2.2")
)


def installed_api(module: ModuleType) -> dict[str, list[str]]:
    return {name: dir(getattr(module, name)) for name in dir(module)}


def holder(node: ast.expr) -> str | None:
    """Return the table's name of the object that an expression stands for, as `engine` for `self._engine`."""
    name = node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""
    name = name.lstrip("_")
    return name if name == "trt" or name in VARIABLES else "stream" if name in CLASSES else None


def results(node: ast.expr, makers: set[str]) -> Iterator[ast.Call]:
    """Yield the calls, on such objects or of `makers` of them, whose results may be an expression's value."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.IfExp):
        parts = [node.body, node.orelse]
    elif isinstance(node, ast.Tuple | ast.List):
        parts = node.elts
    elif isinstance(node, ast.GeneratorExp | ast.ListComp):
        parts = [node.elt]
    elif isinstance(node, ast.Call):
        method = isinstance(node.func, ast.Attribute) and holder(node.func.value)
        if method or ast.unparse(node.func) in makers:
            yield node
    for part in parts:
        yield from results(part, makers)


def problems(source: str, api: Api, rtx_extra: Api) -> list[str]:
    """Return every name used on an object of TensorRT or cuda.core that `api` lacks, and every use it cannot judge."""
    found = []
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    within = {inner for node in functions if node.name in RTX_ONLY for inner in ast.walk(node)}
    makers = {node.name for node in functions if isinstance(node.returns, ast.Name) and node.returns.id == "Any"}

    def names(kind: str, node: ast.AST) -> set[str]:
        extra = rtx_extra.get(kind, ()) if node in within else ()
        return {*api.get(kind, ()), *extra} | PYTHONS

    def report(node: ast.AST, what: str) -> None:
        found.append(f"line {getattr(node, 'lineno', '?')}: {what}: {ast.unparse(node)}")

    for node in ast.walk(tree):
        # Each access on a known object, `trt` and the members of its classes included.
        if isinstance(node, ast.Attribute):
            owner = holder(node.value)
            if owner == "trt":
                if node.attr not in {*api, *(rtx_extra if node in within else ())} | PYTHONS:
                    report(node, "the module has no such name")
            elif owner and not (isinstance(node.value, ast.Attribute) and holder(node.value.value) == "trt"):
                if node.attr not in names(VARIABLES[owner], node) | OURS.get(owner, set()):
                    report(node, f"{VARIABLES[owner]} has no such name")
            elif isinstance(node.value, ast.Attribute) and holder(node.value.value) == "trt":
                if node.value.attr not in PYTHONS and node.attr not in names(node.value.attr, node):
                    report(node, f"{node.value.attr} has no such name")
            elif any(results(node.value, makers)) or (
                isinstance(node.value, ast.Attribute) and holder(node.value.value)
            ):
                report(node, "give this object a name of its own, so that it can be checked")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"getattr", "setattr"} and holder(node.args[0]):
            report(node, "write the name out, so that it can be checked")
        # Each way an object gets a name: the name must be one that is followed.
        bound: list[tuple[ast.expr, ast.expr]] = []
        if isinstance(node, ast.Assign):
            bound = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value is not None:
            bound = [(node.target, node.value)]
        elif isinstance(node, ast.For | ast.comprehension):
            bound = [(node.target, node.iter)]
        for target, value in bound:
            if any(results(value, makers)):
                for name in target.elts if isinstance(target, ast.Tuple) else [target]:
                    if not holder(name) and ast.unparse(name) not in PLAIN:
                        report(name, "enter this variable in the table")
        # What has no type for mypy is one of these objects too.
        if isinstance(node, ast.arg | ast.AnnAssign) and isinstance(node.annotation, ast.Name):
            variable = node.arg if isinstance(node, ast.arg) else ast.unparse(node.target).removeprefix("self.")
            if node.annotation.id == "Any" and variable.lstrip("_") not in {"trt", *VARIABLES}:
                report(node, "enter this variable in the table")
    return found


@pytest.mark.parametrize("name", SOURCES)
def test_every_name_is_in_the_recorded_api(name: str) -> None:
    assert problems(SOURCES[name], TENSORRT | CUDA, RTX_EXTRA) == []


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("module", build.FLAVOURS.values())
def test_every_name_is_in_the_installed_api(module: str, name: str) -> None:
    api = installed_api(pytest.importorskip(module, reason=f"{module} is not installed"))
    assert problems(SOURCES[name], api | CUDA, RTX_EXTRA if module == "tensorrt" else {}) == []


@pytest.mark.parametrize("name", SOURCES)
def test_every_name_is_in_the_installed_cuda_core(name: str) -> None:
    core = pytest.importorskip("cuda.core", reason="cuda.core is not installed")
    installed = installed_api(core) | installed_api(core.graph)
    assert problems(SOURCES[name], TENSORRT | {kind: installed[kind] for kind in CUDA}, RTX_EXTRA) == []


def test_no_other_module_uses_tensorrt_or_cuda() -> None:
    found = set()
    for path in Path(cuda.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] in {"cuda", "tensorrt", "tensorrt_rtx"} for name in imported):
                found.add(path.name)
    assert found == {"cuda.py"}  # the others get TensorRT from engines.module, and cuda.core's objects from here


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("context.set_input_shape", "context.set_binding_shape"),
        ("context.execute_async_v3", "context.execute_async_v2"),
        ("trt.BuilderFlag.TF32", "trt.BuilderFlag.FP16"),
        ("trt.LayerInformationFormat.JSON", "trt.LayerInformationFormat.Json"),
        ("trt.nptype", "trt.np_type"),
        ("engine.num_io_tensors", "engine.num_bindings"),
        ("parser_error.desc()", "parser_error.description()"),
        ("self._on_device.copy_to", "self._on_device.copyto"),
        ("self.sync = stream.sync", "self.sync = stream.synchronize"),
        ("Stream.from_handle", "Stream.from_pointer"),
        ("graph_builder.begin_building", "graph_builder.begin_capture"),
        ("graph = graph_builder.complete", "captured = graph_builder.complete"),
        ("partial(graph.launch", "partial(graph.run"),
        ("self._ended.sync()", "self._ended.synchronize()"),
        ("engine.device_memory_size_v2", "engine.device_memory_size"),
        ("context.set_device_memory", "context.set_memory"),
        ("Strategy.USER_MANAGED", "Strategy.OURS"),
        ("def _capturable", "def _not_rtx_only"),
        ("def _specialise", "def _not_rtx_only"),
        ("engine.create_engine_inspector()", "engine.create_inspector()"),
        ("config.profiling_verbosity =", "config.num_compute_capabilities ="),
        ("network = builder.create_network()", "made = builder.create_network()"),
        ("builder.create_network()", "builder.create_network().name"),
        ("def _describe(parser_error: Any)", "def _describe(failure: Any)"),
        ("config = _configure(", "options_of_trt = _configure("),
        ("network.num_inputs", "getattr(network, 'inputs')"),
        ("copied.copy_from", "copied.copyfrom"),
        ("source.fill", "source.set"),
        ("cache.serialize()", "cache.to_bytes()"),
        ("config.progress_monitor", "config.monitor"),
        ("trt.IProgressMonitor", "trt.ProgressMonitor"),
        ("trt.HardwareCompatibilityLevel", "trt.HardwareLevel"),
    ],
)
def test_the_check_of_names_notices(right: str, wrong: str) -> None:
    source = next(source for source in SOURCES.values() if right in source)
    assert problems(source.replace(right, wrong, 1), TENSORRT | CUDA, RTX_EXTRA)

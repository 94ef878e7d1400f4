"""ONNX Runtime with its inputs and outputs bound: who owns which array, pieces, what is refused."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pipeline import backends, environment, precisions
from pipeline.backends import LoadOptions, Session, Step
from pipeline.backends.onnxruntime import binding, opening
from pipeline.backends.onnxruntime import session as runtime
from pipeline.errors import ArtifactError, BackendUnavailable, BatchOutsideProfile, InputError

Shape = tuple[str | int, ...]


def saved(
    folder: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    constants: dict[str, Any] | None = None,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *what) for name, what in inputs.items()],
        [helper.make_tensor_value_info(name, *what) for name, what in outputs.items()],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return folder / "model.onnx"


def cnn(folder: Path, batch: str | int = "batch") -> Path:
    """Save uint8 [batch, 8, 8, 1] to probabilities [batch, 10], with a second output [batch, 4, 8, 8]."""
    random = np.random.default_rng(0)
    constants = {
        "scale": np.float32(1 / 255),
        "kernel": random.standard_normal((4, 1, 3, 3), dtype=np.float32),
        "dense": random.standard_normal((256, 10), dtype=np.float32) / 16,
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("Flatten", ["active"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    inputs = {"image": (TensorProto.UINT8, (batch, 8, 8, 1))}
    # Another name for the batch than the input's, as tf2onnx writes it.
    rows = batch if isinstance(batch, int) else "unk__1"
    outputs = {
        "probabilities": (TensorProto.FLOAT, (rows, 10)),
        "features": (TensorProto.FLOAT, (rows, 4, 8, 8)),
    }
    return saved(folder, nodes, inputs, outputs, constants)


@contextmanager
def loaded(path: Path, *steps: Step, **options: Any) -> Iterator[Session]:
    with backends.get("onnxruntime").load(path, LoadOptions("cpu", steps=steps, **options)) as session:
        yield session


def bare(path: Path, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime itself answers."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=1e-6, err_msg=name)


def test_outputs_are_the_sessions_own_arrays_one_set_for_each_batch_size(tmp_path: Path) -> None:
    path = cnn(tmp_path)
    with loaded(path) as session:
        first = session.run({"image": images(3)})
        expected = {name: array.copy() for name, array in first.items()}
        session.run({"image": images(5)})
        assert_same(first, expected)
        again = session.run({"image": images(3, seed=1)})
        for name, array in first.items():
            assert np.shares_memory(again[name], array), name
        assert_same(again, bare(path, {"image": images(3, seed=1)}))
        assert not any(np.shares_memory(again[name], expected[name]) for name in again)
    assert_same(again, bare(path, {"image": images(3, seed=1)}))  # the memory outlives the session


def test_inputs_are_read_where_they_lie(tmp_path: Path) -> None:
    path = cnn(tmp_path)
    array, other = images(4), images(4, seed=1)
    with loaded(path) as session:
        assert_same(session.run({"image": array}), bare(path, {"image": array}))
        array[:] = images(4, seed=2)
        assert_same(session.run({"image": array}), bare(path, {"image": array}))
        assert_same(session.run({"image": other}), bare(path, {"image": other}))
        assert_same(session.run({"image": array}), bare(path, {"image": array}))
        session.run({"image": images(2)})
        array[:] = images(4, seed=3)
        assert_same(session.run({"image": array}), bare(path, {"image": array}))
        # What was fed may go: the binding keeps it alive, or the next array takes its place.
        for seed in range(20):
            assert_same(session.run({"image": images(4, seed)}), bare(path, {"image": images(4, seed)}))


def test_what_is_not_contiguous_is_copied_each_time(tmp_path: Path) -> None:
    path, whole = cnn(tmp_path), images(8)
    every_other = whole[::2]
    with loaded(path) as session:
        for seed in range(4):
            whole[:] = images(8, seed)
            assert_same(session.run({"image": every_other}), bare(path, {"image": every_other.copy()}))


@pytest.mark.parametrize("count", [1, 7, 16, 17, 100, 1000, 1025])
def test_a_batch_in_pieces_is_the_batch(tmp_path: Path, count: int) -> None:
    path, array = cnn(tmp_path), images(count)
    with loaded(path, Step(batch=8, chunk=16), Step(batch=1025, threads=1, chunk=64)) as session:
        for seed in (0, 1, 1):
            array[:] = images(count, seed)
            assert_same(session.run({"image": array}), bare(path, {"image": array}))
            assert_same(session.run({"image": array.copy()}), bare(path, {"image": array}))
        chunk = 64 if count == 1025 else 16 if count > 16 else "whole"
        assert session.settings["chunk"] == chunk
        assert session.settings["threads"] == (1 if count == 1025 else "library default")
        session.run({"image": images(1)})
        assert session.settings["chunk"] == "whole", "the settings are those of the batch run last"


def test_pieces_are_as_few_and_as_equal_as_can_be() -> None:
    for samples in range(1, 300):
        for chunk in (1, 7, 64):
            sizes = [part.stop - part.start for part in binding.pieces(samples, chunk)]
            ends = [0, *np.cumsum(sizes)]
            assert [(part.start, part.stop) for part in binding.pieces(samples, chunk)] == list(
                itertools.pairwise(ends)
            )
            assert sum(sizes) == samples
            assert max(sizes) <= chunk
            assert len(sizes) == -(-samples // max(sizes))
    assert [part.stop for part in binding.pieces(65, 64)] == [33, 65]


def test_threads_are_the_plans_or_the_options_and_sessions_are_made_when_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made = cnn(tmp_path), []
    original = opening.session_options
    monkeypatch.setattr(opening, "session_options", lambda *what: made.append(what[1]) or original(*what))
    with loaded(path, Step(batch=4, threads=1), Step(batch=8), threads=2) as session:
        assert made == [2]
        for count, threads in ((2, 2), (4, 1), (7, 1), (8, 2)):
            session.run({"image": images(count)})
            assert session.settings["threads"] == threads
        assert made == [2, 1]
    assert original(LoadOptions("cpu"), 3).intra_op_num_threads == 3
    assert original(LoadOptions("cpu"), None).intra_op_num_threads == 0


def test_a_session_can_change_its_steps(tmp_path: Path) -> None:
    path = cnn(tmp_path)
    with loaded(path, Step(batch=1, chunk=2)) as session:
        for steps, chunk in (
            ((Step(batch=1, chunk=3),), 3),
            ((), "whole"),
            ((Step(batch=9), Step(batch=1, chunk=4)), 4),
        ):
            session.follow(steps)
            assert_same(session.run({"image": images(8)}), bare(path, {"image": images(8)}))
            assert session.settings["chunk"] == chunk


def test_an_exact_session_follows_no_steps(tmp_path: Path) -> None:
    with loaded(cnn(tmp_path), Step(batch=1, threads=1, chunk=2), exact=True) as session:
        session.run({"image": images(8)})
        assert session.settings["chunk"] == "whole"
        assert session.settings["threads"] == "library default"
        assert session.settings["optimization"] == "none"


@pytest.mark.parametrize("exact", [True, False])
def test_zeros_around_negative_values_win_the_pooling(exact: bool, tmp_path: Path) -> None:
    """Conv → ZeroPadding2D → MaxPooling2D, of which ONNX Runtime before 1.32 makes a MaxPool that pads with -Inf."""
    kernel = np.random.default_rng(0).standard_normal((4, 1, 3, 3), dtype=np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "kernel", "bias"], ["features"]),
        helper.make_node("Pad", ["features", "pads"], ["padded"]),
        helper.make_node("MaxPool", ["padded"], ["pooled"], kernel_shape=[3, 3], strides=[2, 2]),
    ]
    constants = {"kernel": kernel, "bias": np.full(4, -1, np.float32), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    inputs = {"image": (TensorProto.FLOAT, ("batch", 1, 8, 8))}
    path = saved(tmp_path, nodes, inputs, {"pooled": (TensorProto.FLOAT, ("batch", 4, 3, 3))}, constants)
    image = np.random.default_rng(1).random((2, 1, 8, 8), dtype=np.float32)
    expected = ReferenceEvaluator(str(path)).run(None, {"image": image})[0]
    assert (expected == 0).any()
    assert (expected < 0).any()
    with loaded(path, exact=exact) as session:
        np.testing.assert_allclose(session.run({"image": image})["pooled"], expected, atol=1e-5)


def test_an_optimizer_that_computes_wrongly_is_disabled_where_it_is_that_old() -> None:
    assert opening.wrong_optimizers("1.26.0") == opening.wrong_optimizers("1.31.1") == ["Pad_Fusion"]
    assert opening.wrong_optimizers("1.32.0") == opening.wrong_optimizers("2.0.0.dev1") == []


def typed(name: str, folder: Path) -> Path:
    """Save the article's CNN, untrained, in a precision: its layers, sizes and activations' ranges."""
    random = np.random.default_rng(0)
    constants = {
        "scale": np.float32(1 / 255),
        "kernel": random.standard_normal((32, 1, 3, 3), dtype=np.float32) / 3,
        "bias": random.standard_normal(32, dtype=np.float32) / 9,
        "shape": np.array([-1, 1, 28, 28]),
        "rows": np.array([-1, 5408]),
        "dense": random.standard_normal((5408, 10), dtype=np.float32) / 73,
        "bias10": random.standard_normal(10, dtype=np.float32) / 9,
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["nchw"]),
        helper.make_node("Conv", ["nchw", "kernel", "bias"], ["features"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["features"], ["active"]),
        helper.make_node("MaxPool", ["active"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Transpose", ["pooled"], ["nhwc"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["nhwc", "rows"], ["flat"]),
        helper.make_node("MatMul", ["flat", "dense"], ["product"]),
        helper.make_node("Add", ["product", "bias10"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    inputs = {"image": (TensorProto.UINT8, ("batch", 28, 28, 1))}
    path = saved(folder, nodes, inputs, {"probabilities": (TensorProto.FLOAT, ("batch", 10))}, constants)
    model = onnx.version_converter.convert_version(onnx.load(path), 18)
    onnx.save(precisions.get(name).apply(model, amax={"nchw": 1.0, "flat": 4.0}), path)
    return path


@pytest.mark.parametrize("name", ["int8", "fp8"])
def test_a_quantized_graph_gets_no_integer_bias_where_only_the_cpu_could_dequantize_it(
    name: str, tmp_path: Path
) -> None:
    """What kept such graphs off an H200: ONNX Runtime itself had added an int32 bias, for which CUDA has no kernel."""

    def dequantized(disabled: list[str]) -> set[str]:
        settings = opening.session_options(LoadOptions("cpu"), None)
        settings.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        onnxruntime.InferenceSession(path, settings, ["CPUExecutionProvider"], disabled_optimizers=disabled)
        graph = onnx.load(tmp_path / "optimized.onnx").graph
        types = {tensor.name: TensorProto.DataType.Name(tensor.data_type) for tensor in graph.initializer}
        return {types[n.input[0]] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in types}

    path = typed(name, tmp_path)
    weights = {"int8": "INT8", "fp8": "FLOAT8E4M3FN"}[name]
    assert dequantized(opening.wrong_optimizers(onnxruntime.__version__)) == {weights, "INT32"}
    assert dequantized(opening.wrong_optimizers(onnxruntime.__version__, "cuda")) == {weights}


def test_a_fixed_batch_is_run_whole(tmp_path: Path) -> None:
    path = cnn(tmp_path, batch=6)
    with loaded(path, Step(batch=1, chunk=2)) as session:
        assert_same(session.run({"image": images(6)}), bare(path, {"image": images(6)}))
        assert session.settings["chunk"] == "whole"
        with pytest.raises(BatchOutsideProfile, match=r"the model takes uint8 \[6, 8, 8, 1\]"):
            session.run({"image": images(5)})
        for other in (images(5).astype(np.float32), images(5)[:, 1:]):
            with pytest.raises(InputError) as caught:
                session.run({"image": other})
            assert not isinstance(caught.value, BatchOutsideProfile), "the batch is not all that is wrong"


def test_what_the_model_does_not_take_is_refused_in_words_and_does_no_harm(tmp_path: Path) -> None:
    path, good = cnn(tmp_path), images(2)
    with loaded(path) as session:
        for use in (session.run, session.bind):
            for feed, words in (
                ({"image": good.astype(np.float32)}, "is float32"),
                ({"image": good.view(np.int8)}, "is int8"),
                ({"image": good[:, :4]}, r"\[2, 4, 8, 1\], the model takes uint8 \['any', 8, 8, 1\]"),
                ({"image": good[0]}, r"is uint8 \[8, 8, 1\]"),
                ({"image": good.tolist()}, "is a list, not an array"),
                ({}, r"the feed has \[\], the model takes \['image'\]"),
                ({"image": good, "more": good}, "the feed has"),
                ({"picture": good}, "the feed has"),
            ):
                session.run({"image": good})
                with pytest.raises(InputError, match=words):
                    use(feed)
                assert_same(session.run({"image": good}), bare(path, {"image": good}))


def test_bindings_are_kept_for_few_shapes(tmp_path: Path) -> None:
    path = cnn(tmp_path)
    with loaded(path) as session:
        first = session.run({"image": images(1)})
        for count in [*range(2, runtime.KEPT + 1), 1, runtime.KEPT + 1]:
            assert_same(session.run({"image": images(count)}), bare(path, {"image": images(count)}))
        assert len(session._batches) == runtime.KEPT
        assert session.run({"image": images(1)}) is first, "it was used more lately than 2"
        assert ((2, 8, 8, 1),) not in session._batches


def test_no_samples_are_no_reason_to_fail(tmp_path: Path) -> None:
    with loaded(cnn(tmp_path), Step(batch=1, chunk=2)) as session:
        assert session.run({"image": images(0)})["probabilities"].shape == (0, 10)


def test_outputs_whose_size_depends_on_the_data_are_not_bound(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["by_axis"]), helper.make_node("Transpose", ["by_axis"], ["where"])]
    path = saved(
        tmp_path, nodes, {"x": (TensorProto.FLOAT, ("batch", 2))}, {"where": (TensorProto.INT64, ("found", 2))}
    )
    with loaded(path) as session:
        for values in ([[1, 0], [0, 2], [3, 4]], [[1, 0], [0, 0], [0, 0]], [[1, 0], [0, 2], [0, 4]]):
            x = np.array(values, np.float32)
            np.testing.assert_array_equal(session.run({"x": x})["where"], np.argwhere(x))
        assert session.settings["io_binding"] is False
        with pytest.raises(BackendUnavailable, match="not known beforehand"):
            session.bind({"x": x})
    capfd.readouterr()  # ONNX Runtime logs that the array bound at first did not fit


def test_what_reaches_over_the_samples_is_not_cut_up_behind_the_graphs_back(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1)]
    path = saved(tmp_path, nodes, {"x": (TensorProto.FLOAT, ("batch", 2))}, {"mean": (TensorProto.FLOAT, (1, 2))})
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    with loaded(path, Step(batch=1, chunk=2)) as session:
        np.testing.assert_allclose(session.run({"x": x})["mean"], x.mean(axis=0, keepdims=True))
        assert session.settings["chunk"] == "whole"


def test_several_inputs_in_any_order_and_only_those_of_one_length_in_pieces(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "y"], ["sum"])]
    two = {name: (TensorProto.FLOAT, (f"batch_{name}", 3)) for name in ("x", "y")}
    path = saved(tmp_path, nodes, two, {"sum": (TensorProto.FLOAT, ("batch_x", 3))})
    x, y = np.arange(15, dtype=np.float32).reshape(5, 3), np.ones((5, 3), np.float32)
    with loaded(path, Step(batch=1, chunk=2)) as session:
        for _ in range(2):
            np.testing.assert_array_equal(session.run({"y": y, "x": x})["sum"], x + y)
        assert session.settings["chunk"] == 2
        y[:] = 7
        np.testing.assert_array_equal(session.run({"x": x, "y": y})["sum"], x + 7)
        np.testing.assert_array_equal(session.run({"x": x, "y": y[:1]})["sum"], x + 7)
        assert session.settings["chunk"] == "whole"


def test_an_input_that_the_graph_itself_cannot_take_is_an_error_with_its_words(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("Reshape", ["x", "to"], ["y"])]
    path = saved(
        tmp_path,
        nodes,
        {"x": (TensorProto.FLOAT, ("batch", 2))},
        {"y": (TensorProto.FLOAT, ("batch", 2))},
        {"to": np.array([4, 2])},
    )
    with loaded(path) as session:
        with pytest.raises(InputError, match="Reshape"):
            session.run({"x": np.ones((3, 2), np.float32)})
        assert session.run({"x": np.ones((4, 2), np.float32)})["y"].shape == (4, 2)
        with pytest.raises(BackendUnavailable, match="Reshape"):
            session.bind({"x": np.ones((3, 2), np.float32)})
    capfd.readouterr()  # what ONNX Runtime logs


@pytest.mark.parametrize("steps", [(), (Step(batch=1, chunk=4),)])
def test_what_is_bound_is_a_copy_that_runs_apart(
    tmp_path: Path, steps: tuple[Step, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, array = cnn(tmp_path), images(9)
    placed: list[np.ndarray] = []
    place = binding.HostBatch.place
    monkeypatch.setattr(
        binding.HostBatch, "place", lambda self, name, array: placed.append(array) or place(self, name, array)
    )
    with loaded(path, *steps) as session:
        found = session.run({"image": array})
        kept = {name: value.copy() for name, value in found.items()}
        other = images(9, seed=1)
        bound = session.bind({"image": other})
        np.testing.assert_array_equal(placed[-1], other)
        assert not np.shares_memory(placed[-1], other)
        bound()
        bound.launch()
        bound.wait()
        assert bound.stream is None
        assert_same(found, kept)
    with pytest.raises(RuntimeError, match="closed"):
        bound()


def test_only_the_published_file_is_loaded(tmp_path: Path) -> None:
    path = cnn(tmp_path)
    with pytest.raises(ArtifactError, match="changed since"), loaded(path, sha256="0" * 64):
        pass


def test_a_graph_on_the_cpu_instead_of_the_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "session.disable_cpu_ep_fallback"
    assert opening.session_options(LoadOptions("cuda"), None).get_session_config_entry(key) == "1"
    with pytest.raises(RuntimeError, match=key):
        opening.session_options(LoadOptions("cpu"), None).get_session_config_entry(key)
    if environment.gpus() or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this machine has a GPU, or an ONNX Runtime without CUDA's provider")
    path = cnn(tmp_path)

    class Stream:
        handle = 0

    # The real provider, which finds no GPU: all nodes would be left to the CPU, and ONNX Runtime says so.
    with pytest.raises(BackendUnavailable, match=r"to the CPU|fallback to CPU EP has been explicitly disabled"):
        opening.open_session(path, str(path), LoadOptions("cuda"), None, Stream())


GRAPH_REFUSED = (
    "[ONNXRuntimeError] : 1 : FAIL : This session cannot use the graph capture feature as requested by the user  as "
    "all compute graph nodes have not been partitioned to the CUDAExecutionProvider"
)
CPU_REFUSED = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU EP, "
    "but fallback to CPU EP has been explicitly disabled by the user."
)
NO_KERNEL = (
    "[ONNXRuntimeError] : 1 : FAIL : Exception during initialization: /onnxruntime_src/onnxruntime/core/optimizer/"
    "transformer_memcpy.cc:253 bool onnxruntime::TransformerMemcpyImpl::IsNodeCompatibleWithProvider(const "
    "onnxruntime::Node&) const !node_provider_type.empty() was false. Provider type for MaxPool node with name "
    "'article_cnn_1/max_pooling2d_1/MaxPool2d' is not set.\n"
)
"""As ONNX Runtime 1.31.1 said it on an H200; the second, without a GPU."""


@pytest.fixture
def on_cuda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., opening.Opened]:
    """Return a function that opens a session on CUDA: the real CPU's, after CUDA's refusals, which a GPU would bring.

    `refuse` gets CUDA's options, and whether the CPU may be used; it returns ONNX Runtime's words, or nothing.
    """
    real = onnxruntime.InferenceSession

    def open_session(refuse: Callable[[dict[str, str], bool], str], **options: Any) -> opening.Opened:
        def create(content: bytes, settings: Any, providers: list[Any], **more: Any) -> Any:
            ((_, asked), *others) = providers
            if words := refuse(asked, bool(others)):
                raise RuntimeError(words)
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "0")
            return real(content, settings, providers=["CPUExecutionProvider"], **more)

        # Only what is called: opening asks the class what it can tell.
        create.get_provider_graph_assignment_info = None  # type: ignore[attr-defined]
        monkeypatch.setattr(opening.ort, "InferenceSession", create)
        path = cnn(tmp_path)
        stream = SimpleNamespace(handle=7)
        return opening.open_session(path, str(path), LoadOptions("cuda", **options), None, stream)

    return open_session


def test_where_no_graph_is_captured_the_session_runs_without_and_says_why(on_cuda: Any) -> None:
    asked = []

    def refuse(options: dict[str, str], cpu: bool) -> str:
        asked.append((options["enable_cuda_graph"], cpu))
        return GRAPH_REFUSED if options["enable_cuda_graph"] == "1" else ""

    opened = on_cuda(refuse)
    assert asked == [("1", False), ("0", False)], "the CPU is never an answer"
    assert opened.graph_refused.startswith("This session cannot use the graph capture feature")
    options = LoadOptions("cpu")
    session = runtime.OnnxRuntimeSession(lambda threads: opened, options, "cpu")
    assert session.settings["cuda_graph"] is False
    assert session.settings["cuda_graph_reason"] == opened.graph_refused
    assert on_cuda(lambda options, cpu: "").graph_refused == ""
    asked.clear()
    on_cuda(refuse, exact=True)
    assert asked == [("0", False)], "none is wanted where the graph is run as it is written"


def test_nodes_left_to_the_cpu_are_counted_in_one_line(on_cuda: Any) -> None:
    def refuse(options: dict[str, str], cpu: bool) -> str:
        return "" if cpu else GRAPH_REFUSED if options["enable_cuda_graph"] == "1" else CPU_REFUSED

    with pytest.raises(BackendUnavailable) as caught:
        on_cuda(refuse)
    head, _, named = caught.value.message.partition("of its nodes to the CPU: ")
    assert re.fullmatch(r"ONNX Runtime \(cuda\) cannot run model.onnx: the CUDA provider leaves \d+ ", head)
    assert {"1 × Cast", "1 × Softmax"} <= set(named.split(", "))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (NO_KERNEL, "Provider type for MaxPool node with name 'article_cnn_1/max_pooling2d_1/MaxPool2d' is not set."),
        (CPU_REFUSED, CPU_REFUSED.removeprefix("[ONNXRuntimeError] : 1 : FAIL : ")),
    ],
)
def test_what_cuda_refuses_is_one_line_without_places_in_its_source(words: str, said: str, on_cuda: Any) -> None:
    with pytest.raises(BackendUnavailable) as caught:
        on_cuda(lambda options, cpu: words)
    assert caught.value.message == f"ONNX Runtime (cuda) cannot run model.onnx: {said}"


def test_what_cuda_finds_only_when_it_runs_makes_the_runner_unavailable(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Judged among others it is skipped with the reason, where an InputError would end the stage."""
    nodes = [helper.make_node("Reshape", ["x", "to"], ["y"]), helper.make_node("NonZero", ["y"], ["where"])]
    path = saved(
        tmp_path,
        nodes,
        {"x": (TensorProto.FLOAT, ("batch", 2))},
        {"where": (TensorProto.INT64, (2, "found"))},
        {"to": np.array([4, 2])},
    )
    opened = opening.open_session(path, str(path), LoadOptions("cpu"), None, None)
    session = runtime.OnnxRuntimeSession(lambda threads: opened, LoadOptions("cuda"), "cuda:0")
    with pytest.raises(BackendUnavailable, match=r"cannot run this graph: .*Reshape") as caught:
        session.run({"x": np.ones((3, 2), np.float32)})
    assert "\n" not in caught.value.message
    capfd.readouterr()  # what ONNX Runtime logs


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["int8", "fp8"])
def test_a_quantized_graph_runs_on_cuda_as_on_the_cpu(name: str, tmp_path: Path) -> None:
    """Disabling WeightBiasQuantization is all it took on an H200."""
    path = typed(name, tmp_path)
    pictures = np.random.default_rng(1).integers(0, 256, (9, 28, 28, 1), dtype=np.uint8)
    with backends.get("onnxruntime").load(path, LoadOptions("cpu", exact=True)) as session:
        expected = session.run({"image": pictures})["probabilities"].copy()
    try:
        with backends.get("onnxruntime").load(path, LoadOptions("cuda")) as session:
            for _ in range(3):  # the first run captures a graph, the others replay it
                found = session.run({"image": pictures})["probabilities"].copy()
                assert precisions.get(name).tolerance.holds(found, expected), np.abs(found - expected).max()
            assert session.settings["cuda_graph"] is True or session.settings["cuda_graph_reason"]
    except BackendUnavailable as error:
        if "\n" in error.message:
            raise
        pytest.skip(error.message)


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda_provider")
@pytest.mark.parametrize("steps", [(), (Step(batch=1, chunk=4),)])
def test_the_cuda_provider_replays_a_graph_for_each_shape(tmp_path: Path, steps: tuple[Step, ...]) -> None:
    path = cnn(tmp_path)
    with backends.get("onnxruntime").load(path, LoadOptions("cuda", steps=steps)) as session:
        for seed, count in enumerate((1, 9, 1, 9, 3)):
            feed = {"image": images(count, seed)}
            for name, array in bare(path, feed).items():
                np.testing.assert_allclose(session.run(feed)[name], array, atol=1e-4)
        assert session.settings["cuda_graph"] is True
        bound = session.bind({"image": images(9)})
        bound()
        assert bound.stream
        json.dumps(dict(session.settings))

"""ONNX Runtime's plugin of TensorRT for RTX: why it cannot be used, and what all plugins share, on OpenVINO's."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from test_onnxruntime_backend import bare, cnn, images, saved

from pipeline import backends, environment, precisions
from pipeline.backends import LoadOptions, onnxruntime_rtx
from pipeline.backends.onnxruntime_rtx import session as runtime
from pipeline.environment import Gpu
from pipeline.errors import BackendUnavailable, BatchOutsideProfile, InputError

CUDA = LoadOptions("cuda")


def gpu(name: str, capability: str) -> Gpu:
    return Gpu(name, "580.65", 16_000, capability)


@pytest.mark.parametrize(
    ("gpus", "why"),
    [
        ((), "needs an NVIDIA GPU"),
        ((gpu("NVIDIA H200", "9.0"),), "NVIDIA H200, of compute capability 9.0"),
        ((gpu("NVIDIA A100", "8.0"),), "NVIDIA A100, of compute capability 8.0"),
    ],
)
def test_a_machine_it_does_not_run_on_is_told_why(
    gpus: tuple[Gpu, ...], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "gpus", lambda: gpus)
    with pytest.raises(BackendUnavailable, match=why) as caught:
        onnxruntime_rtx.probe("cuda")
    assert caught.value.hint


@pytest.mark.parametrize("capability", ["8.6", "8.9", "12.0", "13.1"])
def test_on_its_gpus_it_asks_for_what_is_missing(capability: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "gpus", lambda: (gpu("NVIDIA RTX", capability),))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="is not installed") as caught:
        onnxruntime_rtx.probe("cuda")
    assert "[rtx]" in caught.value.hint
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(environment, "version", {"onnxruntime-gpu": "1.26.0"}.get)
    with pytest.raises(BackendUnavailable, match="onnxruntime-gpu is installed"):
        onnxruntime_rtx.probe("cuda")
    monkeypatch.setattr(environment, "version", {}.get)
    onnxruntime_rtx.probe("cuda")


def test_fp32_that_would_be_tf32_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_rtx, "probe", lambda variant: None)

    class ReachedError(Exception):
        pass

    def reached(name: str) -> None:
        raise ReachedError

    monkeypatch.setattr(onnxruntime_rtx, "import_session", reached)
    path = cnn(tmp_path)
    with pytest.raises(BackendUnavailable, match=r"computes FP32 products in TF32.* 2 of this graph's"):
        onnxruntime_rtx.load(path, CUDA).__enter__()
    half = precisions.get("fp16").apply(onnx.load(path)).SerializeToString()
    for model, options in ((path, LoadOptions("cuda", allow_tf32=True)), (half, CUDA)):
        with pytest.raises(ReachedError):
            onnxruntime_rtx.load(model, options).__enter__()


def test_the_plugin_without_a_driver_says_which_library_is_missing() -> None:
    if importlib.util.find_spec(onnxruntime_rtx.PLUGIN) is None:
        pytest.skip("the extra rtx is not installed")
    if environment.gpus():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailable, match=r"libcuda\.so\.1: cannot open shared object file"):
        runtime.register(onnxruntime_rtx.PLUGIN)


def test_a_plugin_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendUnavailable, match="cannot load the plugin nobodys_plugin: No module named"):
        runtime.register("nobodys_plugin")


def assert_near(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """OpenVINO's plugin computes in BF16 where the processor has it."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, atol=2e-2, rtol=1e-2, err_msg=name)


@contextmanager
def on_cpu(path: Path) -> Iterator[runtime.PluginSession]:
    """Load a model with OpenVINO's plugin, which runs on a CPU through the same calls; no extra of ours brings it."""
    if importlib.util.find_spec("onnxruntime_ep_openvino") is None:
        pytest.skip("pip install onnxruntime-ep-openvino")
    provider = runtime.register("onnxruntime_ep_openvino")
    session = runtime.PluginSession(onnx.load(path), provider, {}, LoadOptions("cuda"), "cpu")
    yield session
    session.close()


def test_a_plugin_runs_each_batch_size_in_a_session_of_its_own(tmp_path: Path) -> None:
    path = cnn(tmp_path)
    with on_cpu(path) as session:
        assert session._compiled.cache_info().misses == 1, "a batch of one, when it is loaded"
        first = session.run({"image": images(3)})
        kept = {name: array.copy() for name, array in first.items()}
        for count in (1, 5, 3, 5, 1):
            feed = {"image": images(count, seed=count)}
            assert_near(session.run(feed), bare(path, feed))
        assert session._compiled.cache_info().misses == 3
        assert_near(first, kept)
        reversed_ = images(4)[::-1]
        assert_near(session.run({"image": reversed_}), bare(path, {"image": np.ascontiguousarray(reversed_)}))
    with pytest.raises(RuntimeError, match="closed"):
        session.run({"image": images(3)})


def test_what_is_bound_to_a_plugin_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, array = cnn(tmp_path), images(2)
    expected = bare(path, {"image": array})
    placed = []
    allocate = runtime.PluginSession._allocate
    monkeypatch.setattr(runtime.PluginSession, "_allocate", lambda *what: placed.append(allocate(*what)) or placed[-1])
    with on_cpu(path) as session:
        bound = session.bind({"image": array})
        array[:] = 0
        bound()
        bound()
        image, *outputs = placed
        np.testing.assert_array_equal(image.numpy(), images(2))
        assert_near(dict(zip(expected, (value.numpy() for value in outputs), strict=True)), expected)
    with pytest.raises(RuntimeError, match="closed"):
        bound()


def test_a_fixed_batch_and_a_wrong_input_are_errors(tmp_path: Path) -> None:
    with on_cpu(cnn(tmp_path, batch=2)) as session:
        assert session.run({"image": images(2)})["probabilities"].shape == (2, 10)
        with pytest.raises(BatchOutsideProfile):
            session.run({"image": images(3)})
        with pytest.raises(InputError, match="the model takes image uint8"):
            session.run({"image": images(2).astype(np.float32)})
        with pytest.raises(InputError, match="the feed has"):
            session.run({"picture": images(2)})


def test_what_a_plugin_would_leave_to_the_cpu_is_refused_and_named(tmp_path: Path) -> None:
    tensor = (TensorProto.FLOAT, ("batch", 4))
    encode = {"keys_floats": [1.0], "values_floats": [2.0], "default_float": 3.0}
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("LabelEncoder", ["positive"], ["y"], domain="ai.onnx.ml", **encode),
    ]
    path = saved(tmp_path, nodes, {"x": tensor}, {"y": tensor})
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    onnx.save(model, path)
    with pytest.raises(BackendUnavailable) as caught, on_cpu(path):
        pass
    assert "OpenVINOExecutionProvider leaves 1 of its nodes to the CPU: 1 × LabelEncoder" in caught.value.message


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["tf32", "fp16", "int8"])
def test_on_its_gpu_it_agrees_with_the_cpu(name: str, tmp_path: Path) -> None:
    """Never run yet."""
    try:
        onnxruntime_rtx.probe("cuda")
    except BackendUnavailable as error:
        pytest.skip(error.message)
    precision, path = precisions.get(name), cnn(tmp_path)
    amax = {"scaled": 1.0, "nchw": 1.0, "flat": 8.0} if precision.calibrations else None
    typed = precision.apply(onnx.load(path), amax=amax).SerializeToString()
    with backends.get("onnxruntime").load(typed, LoadOptions("cpu", exact=True)) as session:
        expected = session.run({"image": images(9)})["probabilities"].copy()
    with onnxruntime_rtx.load(typed, LoadOptions("cuda", allow_tf32=True)) as session:
        for _ in range(3):
            found = session.run({"image": images(9)})["probabilities"]
            assert precision.tolerance.holds(found, expected), np.abs(found - expected).max()
        session.bind({"image": images(9)})()

"""What every backend must do, whichever it is: a new file in pipeline/backends/ is tested by being there."""

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from pipeline import backends, digests, environment
from pipeline.backends import LoadOptions
from pipeline.errors import ArtifactError, BackendUnavailable, ConfigError, InputError
from pipeline.tensors import DeviceKind

PLACES = {
    "keras": "train/model.keras",
    "saved_model": "export/saved_model",
    "onnx": "engine/fp32/model.onnx",
    "engine": "engine/fp32/model.engine",
}
EVERY = [(name, variant) for name in backends.NAMES for variant in backends.get(name).VARIANTS]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:keras.*"),  # Keras 3.15 with NumPy 2.4
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorflow.*"),
]


@pytest.fixture(params=EVERY, ids=lambda pair: "-".join(pair))
def loadable(request: pytest.FixtureRequest, main_job: Path) -> tuple[str, Path, LoadOptions]:
    """Every backend and variant that this machine offers; the others must say why they are not available."""
    name, variant = request.param
    backend = backends.get(name)
    path = main_job / "artifacts" / PLACES[backend.VARIANTS[variant].consumes]
    try:
        backend.probe(variant)
    except BackendUnavailable as error:
        if not error.hint:
            pytest.fail(f"no remedy: {error.message}")
        pytest.skip(error.message)
    sha256 = digests.of_file(path) if path.is_file() else None
    return name, path, LoadOptions(variant, sha256=sha256)


def test_the_folder_is_the_registry() -> None:
    assert set(backends.NAMES) == {"null", "onnxruntime", "onnxruntime_rtx", "openvino", "tensorflow", "tensorrt"}


@pytest.mark.parametrize("name", backends.NAMES)
def test_a_backend_says_what_it_is(name: str) -> None:
    backend = backends.get(name)
    for offered in backend.VARIANTS.values():
        assert offered.consumes in get_args(backends.Artifact)
        assert offered.device in get_args(DeviceKind)
    assert backend.ROLE in get_args(backends.Role)
    assert backend.LABEL
    assert backend.TUNABLE in (True, False)
    assert {environment.version(distribution) for distribution in backend.DISTRIBUTIONS} - {None} <= set(
        environment.versions(backends.distributions()).values()
    )


def test_one_backend_is_the_original_and_one_the_harness() -> None:
    roles = [backends.get(name).ROLE for name in backends.NAMES]
    assert roles.count("original") == roles.count("harness") == 1


@pytest.mark.parametrize(("name", "library"), [("onnxruntime", "onnxruntime"), ("tensorflow", "tensorflow")])
def test_without_its_library_a_backend_is_listed_and_says_what_is_missing(
    name: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"pipeline.backends.{name}.session", raising=False)
    backend = backends.get(name)
    variant = next(iter(backend.VARIANTS))
    loading = backend.load(Path("model"), LoadOptions(variant))
    for use in (lambda: backend.probe(variant), loading.__enter__):
        with pytest.raises(BackendUnavailable, match=library) as caught:
            use()
        assert "make setup" in caught.value.hint


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 28, 28, 1), dtype=np.uint8)


@pytest.fixture(scope="module")
def expected(main_job: Path, images: np.ndarray) -> np.ndarray:
    """What Keras says to each image, taken alone."""
    with backends.get("tensorflow").load(main_job / "artifacts/train/model.keras", LoadOptions("call")) as session:
        return np.concatenate([session.run({"image": image[None]})["probabilities"].copy() for image in images])


def test_runs_batches_of_any_size_into_arrays_that_hold_until_its_next_run(
    loadable: tuple[str, Path, LoadOptions], images: np.ndarray, expected: np.ndarray
) -> None:
    name, path, options = loadable
    if name == "null":
        expected = np.zeros_like(expected)
    untouched = images.copy()
    with backends.get(name).load(path, options) as session:
        assert [spec.name for spec in session.inputs] == ["image"]
        assert [spec.name for spec in session.outputs] == ["probabilities"]
        assert session.inputs[0].shape == (None, 28, 28, 1)
        assert session.inputs[0].dtype == np.uint8
        assert session.device
        assert isinstance(session.settings, dict)
        copies = []
        parts = [slice(0, 7), slice(7, 8), slice(8, 15), slice(15, 16), slice(2, 5), slice(0, 16)]
        for part in parts:
            found = session.run({"image": images[part]})["probabilities"]
            assert found.dtype == np.float32
            assert found.shape == expected[part].shape
            np.testing.assert_allclose(found, expected[part], atol=1e-4, err_msg="right after the run")
            copies.append(found.copy())
            if options.variant != "predict":
                session.bind({"image": images[::-1][part].copy()})()
            np.testing.assert_array_equal(found, copies[-1], err_msg="overwritten before the next run")
        for part, copy in zip(parts, copies, strict=True):
            np.testing.assert_allclose(copy, expected[part], atol=1e-4)
        reversed_ = session.run({"image": images[::-1]})["probabilities"]  # no contiguous array
        np.testing.assert_allclose(reversed_, expected[::-1], atol=1e-4)
        frozen = images[:3].copy()
        frozen.flags.writeable = False
        np.testing.assert_allclose(session.run({"image": frozen})["probabilities"], expected[:3], atol=1e-4)
    np.testing.assert_array_equal(images, untouched, err_msg="the caller's array was written to")


def test_a_bound_call_infers_again_and_again(
    loadable: tuple[str, Path, LoadOptions], random: np.random.Generator
) -> None:
    name, path, options = loadable
    with backends.get(name).load(path, options) as session:
        feed = {"image": random.integers(0, 256, (2, 28, 28, 1), dtype=np.uint8)}
        if options.variant == "predict":
            with pytest.raises(BackendUnavailable, match="host arrays"):
                session.bind(feed)
            return
        call = session.bind(feed)
        call()
        call()
    with pytest.raises(RuntimeError, match="closed"):
        call()


def test_use_after_close_is_refused(loadable: tuple[str, Path, LoadOptions]) -> None:
    name, path, options = loadable
    with backends.get(name).load(path, options) as session:
        pass
    with pytest.raises(RuntimeError, match="closed"):
        session.run({"image": np.zeros((1, 28, 28, 1), np.uint8)})
    with pytest.raises(RuntimeError, match="closed"):
        session.bind({"image": np.zeros((1, 28, 28, 1), np.uint8)})


@pytest.mark.parametrize("name", backends.NAMES)
def test_an_unknown_variant_is_named_with_those_there_are(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no variant 'warp'") as caught:
        backends.get(name).probe("warp")
    assert next(iter(backends.get(name).VARIANTS)) in caught.value.hint


def test_an_unknown_backend_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown backend 'caffe'") as caught:
        backends.get("caffe")
    assert "onnxruntime" in caught.value.hint


@pytest.mark.parametrize("name", backends.NAMES)
def test_an_onnx_model_is_loaded_from_its_bytes_too(name: str, main_job: Path, images: np.ndarray) -> None:
    backend = backends.get(name)
    variant, offered = next(iter(backend.VARIANTS.items()))
    path = main_job / "artifacts" / PLACES[offered.consumes]
    if offered.consumes != "onnx":
        with pytest.raises(TypeError, match="from files"), backend.load(b"", LoadOptions(variant)):
            pass
        return
    try:
        backend.probe(variant)
    except BackendUnavailable as error:
        pytest.skip(error.message)
    content, feed = path.read_bytes(), {"image": images[:3]}
    with (
        backend.load(path, LoadOptions(variant)) as from_file,
        backend.load(content, LoadOptions(variant, sha256=digests.of_file(path))) as from_bytes,
    ):
        np.testing.assert_array_equal(from_bytes.run(feed)["probabilities"], from_file.run(feed)["probabilities"])
    if name != "null":
        with pytest.raises(ArtifactError), backend.load(content, LoadOptions(variant, sha256="0" * 64)):
            pass
    with pytest.raises(ArtifactError, match="not a readable ONNX model"), backend.load(b"no", LoadOptions(variant)):
        pass


def test_onnxruntime_refuses_another_file_than_the_published(main_job: Path, tmp_path: Path) -> None:
    runtime = backends.get("onnxruntime")
    with (
        pytest.raises(ArtifactError, match="changed since"),
        runtime.load(main_job / "artifacts/export/model.onnx", LoadOptions("cpu", sha256="0" * 64)),
    ):
        pass
    broken = tmp_path / "model.onnx"
    broken.write_bytes(b"no protobuf")
    for path in (broken, tmp_path / "missing.onnx"):
        with pytest.raises(ArtifactError, match=path.name), runtime.load(path, LoadOptions("cpu")):
            pass


def test_onnxruntime_refuses_input_of_another_shape(main_job: Path) -> None:
    runtime = backends.get("onnxruntime")
    with (
        runtime.load(main_job / "artifacts/export/model.onnx", LoadOptions("cpu")) as session,
        pytest.raises(InputError, match="refuses the input"),
    ):
        session.run({"image": np.zeros((1, 8, 8, 1), np.uint8)})


def test_the_cuda_provider_needs_a_gpu() -> None:
    if environment.gpus():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailable, match="GPU"):
        backends.get("onnxruntime").probe("cuda")


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda_provider")
def test_onnxruntime_with_cuda_agrees_with_the_cpu(main_job: Path, random: np.random.Generator) -> None:
    path = main_job / "artifacts/export/model.onnx"
    images = random.integers(0, 256, (7, 28, 28, 1), dtype=np.uint8)
    found = {}
    for variant in ("cpu", "cuda"):
        with backends.get("onnxruntime").load(path, LoadOptions(variant)) as session:
            found[variant] = session.run({"image": images})["probabilities"]
    np.testing.assert_allclose(found["cuda"], found["cpu"], atol=1e-5)

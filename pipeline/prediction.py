"""What images show, told by an exported model or an engine: for trying a model out, one image at a time."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline import artifacts, backends, data, evaluation, graphs, precisions
from pipeline.backends import LoadOptions, Session
from pipeline.config import AUTO, Config
from pipeline.errors import BackendUnavailable, ConfigError, DataError

BACKENDS = ("auto", *(name for name in backends.NAMES if name != "null"))


def predict(images: Sequence[Path], backend: str, precision: str, config: Config) -> list[str]:
    """Return a line for each image: its label and the probability.

    `backend` auto takes the engine where it runs on this machine, else ONNX Runtime. `precision` auto is the one that
    `engine.precisions=auto` has chosen.

    Raises:
        PipelineError: an unknown name, an unreadable image, no artifact, or a backend this machine does not offer.
    """
    if backend not in BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}", f"Choose one of: {', '.join(BACKENDS)}.")
    store = artifacts.Store(config.artifacts)
    if precision == AUTO:
        precision = artifacts.read_json(store.verified_file("engine/selection.json"))["chosen"]
    chosen = precisions.get(precision)
    record = artifacts.read_json(store.verified_file("train/dataset.json"))
    arrays = [read_image(path, tuple(record["image_shape"])) for path in images]
    with _open(store, backend, chosen, config) as session:
        # One at a time: a static batch or a small profile takes them too, and no image can depend on another.
        scores = evaluation.infer(session, np.stack(arrays), 1)
    lines = [f"{chosen.name} on {session.device}"]
    for path, probabilities in zip(images, scores, strict=True):
        top = int(probabilities.argmax())
        lines.append(f"{path}: {record['class_names'][top]} ({probabilities[top]:.4f})")
    return lines


@contextmanager
def _open(store: artifacts.Store, backend: str, precision: precisions.Precision, config: Config) -> Iterator[Session]:
    """Load the model in the first way that this machine offers, of those that `backend` allows."""
    ways = {
        "tensorrt": [_engine],
        "tensorflow": [_keras],
        "onnxruntime": [_cuda, _cpu],
        "auto": [_engine, _cuda, _cpu],
    }[backend]
    with ExitStack() as stack:
        for way in ways:
            try:
                session = stack.enter_context(way(store, precision, config))
                break
            except BackendUnavailable:
                if way is ways[-1]:
                    raise
        yield session


def _engine(store: artifacts.Store, precision: precisions.Precision, config: Config) -> AbstractContextManager[Session]:
    folder = f"engine/{precision.name}"
    sidecar: dict[str, Any] = artifacts.read_json(store.verified_file(f"{folder}/engine.json"))
    if sidecar["status"] != "built":
        raise BackendUnavailable(f"there is no {precision.name} engine: {sidecar['reason']}", "Run `make engine`.")
    runtime = backends.get("tensorrt")
    runtime.probe(sidecar["flavour"])
    path = store.verified_file(f"{folder}/model.engine")
    return runtime.load(path, LoadOptions(sidecar["flavour"], sha256=sidecar["engine"]["sha256"]))


def _keras(store: artifacts.Store, precision: precisions.Precision, config: Config) -> AbstractContextManager[Session]:
    if precision.name != "fp32":
        raise ConfigError(f"backend tensorflow runs fp32, not {precision.name}", "Use --backend onnxruntime.")
    data.register_layers(config.model.source)
    return backends.get("tensorflow").load(store.verified_file("train/model.keras"), LoadOptions("function"))


def _cuda(store: artifacts.Store, precision: precisions.Precision, config: Config) -> AbstractContextManager[Session]:
    runtime = backends.get("onnxruntime")
    runtime.probe("cuda")
    return runtime.load(_typed(store, precision), LoadOptions("cuda", allow_tf32=precision.allow_tf32))


def _cpu(store: artifacts.Store, precision: precisions.Precision, config: Config) -> AbstractContextManager[Session]:
    return evaluation.loaded(graphs.load(_typed(store, precision)), precision)


def _typed(store: artifacts.Store, precision: precisions.Precision) -> Path:
    return store.verified_file(f"engine/{precision.name}/model.onnx")


def read_image(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a PNG or JPEG, or an array saved as .npy, as the model wants it: uint8 [height, width, channels].

    Pictures are turned to grey or RGB and resized as needed. Arrays must fit as they are: the pipeline does not guess
    what their values mean.

    Raises:
        DataError: there is no such file, it is no image, or the array does not fit.
    """
    wanted = f"uint8 {list(shape)}"
    try:
        if path.suffix == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.dtype != np.uint8 or (array.shape != shape and (*array.shape, 1) != shape):
                raise DataError(f"{path} is {array.dtype} {list(array.shape)}; the model takes {wanted}")
            return np.asarray(array, np.uint8).reshape(shape)
        with Image.open(path) as image:
            height, width, channels = shape
            picture = image.convert("L" if channels == 1 else "RGB").resize((width, height))
            return np.asarray(picture, np.uint8).reshape(shape)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist", "Give paths of PNG, JPEG or .npy files.") from error
    except (UnidentifiedImageError, ValueError, OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} is not a readable image: {error}", f"The model takes {wanted}.") from error

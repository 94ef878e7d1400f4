"""What images show, told by an exported model or an engine: for trying a model out, one image at a time."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline import artifacts, backends, digests, graphs, precisions, user_code
from pipeline.backends import LoadOptions, Session, Step
from pipeline.config import AUTO, Config
from pipeline.errors import BackendUnavailable, ConfigError, DataError
from pipeline.runners import inference, tuning_record

BACKENDS = ("auto", "onnxruntime", "tensorflow", "tensorrt")


def predict(images: Sequence[Path], backend: str, precision: str, config: Config) -> list[str]:
    """Return a line for each image: its label and the probability.

    `backend` auto takes the engine where it runs on this machine, else ONNX Runtime. `precision` auto is the one that
    `engine.precisions=auto` has chosen.

    Raises:
        PipelineError: an unknown name, an unreadable image, no artifact, or a backend this machine does not offer.
    """
    check_backend(backend)
    store = artifacts.Store(config.artifacts)
    chosen = choose(store, precision)
    record = artifacts.read_json(store.verified_file("train/dataset.json"))
    arrays = [read_image(path, tuple(record["image_shape"])) for path in images]
    with open_session(store, backend, chosen, config) as (_, session):
        # One at a time: a static batch or a small profile takes them too, and no image can depend on another.
        scores = inference.infer(session, np.stack(arrays), 1)
    lines = [f"{chosen.name} on {session.device}"]
    for path, probabilities in zip(images, scores, strict=True):
        top = int(probabilities.argmax())
        lines.append(f"{path}: {record['class_names'][top]} ({probabilities[top]:.4f})")
    return lines


def check_backend(name: str) -> None:
    """Raise ConfigError unless `open_session` knows this backend."""
    if name not in BACKENDS:
        raise ConfigError(f"unknown backend {name!r}", f"Choose one of: {', '.join(BACKENDS)}.")


def choose(store: artifacts.Store, precision: str) -> precisions.Precision:
    """Return the precision of that name; auto is the one that `engine.precisions=auto` has chosen."""
    if precision == AUTO:
        precision = artifacts.read_json(store.verified_file("engine/selection.json"))["chosen"]
    return precisions.get(precision)


@dataclass(frozen=True)
class Way:
    """One way to run a precision: which published file is loaded by what, with the limits of its batch."""

    backend: str
    variant: str
    artifact: str
    loading: AbstractContextManager[Session]
    emulated: bool = False
    batches: tuple[int, int] = inference.ANY_BATCH


@contextmanager
def open_session(
    store: artifacts.Store, backend: str, precision: precisions.Precision, config: Config, *, exact: bool = True
) -> Iterator[tuple[Way, Session]]:
    """Load the model in the first way that this machine offers, of those that `backend` allows.

    On the CPU, `exact` runs the arithmetic by which accuracy is judged, emulated where a CPU lacks it. Without it the
    model runs as fast as it can, to be timed.

    Raises:
        BackendUnavailable: no way is offered here; or the model is to be timed, and a CPU could only emulate it.
        ConfigError: there is no such backend, or it does not run this precision.
    """
    check_backend(backend)
    cpu = _cpu_exact if exact else _cpu
    ways = {
        "tensorrt": [_engine],
        "tensorflow": [_keras],
        "onnxruntime": [_cuda, cpu],
        "auto": [_engine, _cuda, cpu],
    }
    with ExitStack() as stack:
        for open_way in ways[backend]:
            try:
                way = open_way(store, precision, config)
                session = stack.enter_context(way.loading)
                break
            except BackendUnavailable:
                if open_way is ways[backend][-1]:
                    raise
        yield way, session


def _engine(store: artifacts.Store, precision: precisions.Precision, config: Config) -> Way:
    folder = f"engine/{precision.name}"
    sidecar: dict[str, Any] = artifacts.read_json(store.verified_file(f"{folder}/engine.json"))
    if sidecar["status"] != "built":
        raise BackendUnavailable(f"there is no {precision.name} engine: {sidecar['reason']}", "Run `make engine`.")
    runtime = backends.get("tensorrt")
    flavour, artifact = sidecar["flavour"], f"{folder}/model.engine"
    runtime.probe(flavour)
    options = LoadOptions(flavour, sha256=sidecar["engine"]["sha256"], plan=_steps(store, precision, flavour))
    loading = runtime.load(store.verified_file(artifact), options)
    profile = sidecar["profile"]
    return Way("tensorrt", flavour, artifact, loading, batches=(profile["min"], profile["max"]))


def _keras(store: artifacts.Store, precision: precisions.Precision, config: Config) -> Way:
    if precision.name != "fp32":
        raise ConfigError(f"backend tensorflow runs fp32, not {precision.name}", "Choose onnxruntime.")
    user_code.register_layers(config.model.source)
    artifact = "train/model.keras"
    loading = backends.get("tensorflow").load(store.verified_file(artifact), LoadOptions("function"))
    return Way("tensorflow", "function", artifact, loading)


def _cuda(store: artifacts.Store, precision: precisions.Precision, config: Config) -> Way:
    runtime = backends.get("onnxruntime")
    runtime.probe("cuda")
    options = LoadOptions("cuda", allow_tf32=precision.allow_tf32, plan=_steps(store, precision, "cuda"))
    return Way("onnxruntime", "cuda", _typed(precision), runtime.load(store.verified_file(_typed(precision)), options))


def _cpu_exact(store: artifacts.Store, precision: precisions.Precision, config: Config) -> Way:
    typed = graphs.load(store.verified_file(_typed(precision)))
    emulated = precision.emulate is not None
    return Way("onnxruntime", "cpu", _typed(precision), inference.loaded(typed, precision), emulated)


def _cpu(store: artifacts.Store, precision: precisions.Precision, config: Config) -> Way:
    if not precision.cpu_computes:
        raise BackendUnavailable(
            f"ONNX Runtime has no {precision.name} arithmetic on a CPU: timing a stand-in would say nothing",
            "Time another precision, or run this where a GPU is.",
        )
    path, steps = store.verified_file(_typed(precision)), _steps(store, precision, "cpu")
    options = LoadOptions("cpu", sha256=digests.of_file(path), threads=config.benchmark.threads, plan=steps)
    return Way("onnxruntime", "cpu", _typed(precision), backends.get("onnxruntime").load(path, options))


def _steps(store: artifacts.Store, precision: precisions.Precision, variant: str) -> tuple[Step, ...]:
    """Return how the engine stage found this machine to run the graph, or the engine made of it, best."""
    graph = store.root / _typed(precision)
    return tuning_record.steps(graph.with_name(tuning_record.FILE), variant, digests.of_file(graph))


def _typed(precision: precisions.Precision) -> str:
    return f"engine/{precision.name}/model.onnx"


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

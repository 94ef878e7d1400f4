"""What images show, by the fastest runner that passed validation, or by the one asked for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.store import Store
from pipeline.config import Config
from pipeline.data import Split
from pipeline.errors import DataError
from pipeline.runners import inference, serving
from pipeline.runners.serving import Wanted


def predict(images: Sequence[Path], backend: str, precision: str, config: Config) -> list[str]:
    """Return a line about which runner answers, and one for each image: its label and the probability.

    Where `backend` and `precision` are auto, the benchmark's recommendation is followed.

    Raises:
        PipelineError: an unknown name, an unreadable image, no artifact, or nothing that runs on this machine.
    """
    wanted = Wanted(backend, precision)
    serving.check(wanted)
    published = Store(config.artifacts).published()
    record = published.read(DatasetRecord)
    (spec,) = published.read(ModelRecord).signature.inputs
    shape = record.inputs[0].spec.shape[1:]
    arrays = [read_image(path, tuple(size or 0 for size in shape)) for path in images]
    offered = serving.candidates(published, wanted, source=config.model.source, threads=config.benchmark.threads)
    with serving.opened(offered) as (served, session):
        # One at a time: a static batch or a small profile takes them too, and no image can depend on another.
        samples = Split({spec.name: np.stack(arrays).astype(spec.dtype)})
        found = inference.infer(session, samples, 1, inference.limits(served.runner.record))
        scores = next(iter(found.values()))
        names = record.targets[0].classes
        lines = [f"{served.runner.record.name} on {session.device}: {served.why}; {served.verdict}"]
    for path, probabilities in zip(images, scores, strict=True):
        top = int(probabilities.argmax())
        lines.append(f"{path}: {names[top]} ({probabilities[top]:.4f})")
    return lines


def read_image(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read a PNG or JPEG, or an array saved as .npy, as the model takes it: uint8 [height, width, channels].

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

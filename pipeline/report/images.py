"""The images to which a runner gives another answer than the original model."""

import base64
import io
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.artifacts.disagreements import DifferingSample
from pipeline.report.run import Run
from pipeline.tables.traced import Traced

SIDE = 112
"""Pixels of a drawn image's longer side at most; a small one is enlarged by the page, pixel by pixel."""


class Drawn(NamedTuple):
    """A sample with two answers, and its image as a data URI."""

    sample: Traced[DifferingSample]
    uri: str


@dataclass(frozen=True)
class Differing:
    """A runner's other answers: to how many samples, and those that changed most."""

    runner: str
    count: Traced[int]
    samples: list[Drawn]


def disagreements(run: Run) -> list[Differing]:
    """Return for each runner the images to which it gives another answer than the original, drawn."""
    with np.load(run.published.path("validate/disagreements.npz"), allow_pickle=False) as kept:
        indices = kept["indices"].tolist()
        images = next(kept[name] for name in kept.files if name != "indices")
    places = {index: place for place, index in enumerate(indices)}
    return [
        Differing(
            str(one.runner),
            one.count,
            [Drawn(sample, draw(images[places[sample.index.plain]])) for sample in one.samples],
        )
        for one in run.disagreements.runners
    ]


def draw(image: NDArray[Any]) -> str:
    """Return an image, uint8 [height, width, channels], as a data URI; of 2 or of more than 4 channels the first."""
    from PIL import Image

    pixels = image if image.shape[-1] in (3, 4) else image[..., 0]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

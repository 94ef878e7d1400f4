"""TensorFlow's SavedModel, with one signature: serving_default."""

from pathlib import Path
from typing import Literal

import keras

from pipeline import environment
from pipeline.exporters import Exportable, Kind

FILE = "saved_model"
ARTIFACT: Literal["saved_model"] = "saved_model"
TAKES: tuple[Kind, ...] = ("function", "keras")
RANK = 0


def versions() -> dict[str, str]:
    """Return the versions of what it works with; they are required packages."""
    return environment.versions_of("tensorflow", "keras")


def write(model: Exportable, path: Path, opset: int) -> str:
    """Write a SavedModel folder; a SavedModel has no use for `opset`."""
    assert model.serving is not None, "a Keras model"
    archive = keras.export.ExportArchive()
    archive.track(model.owner)
    archive.add_endpoint("serving_default", model.serving.function, input_signature=list(model.serving.signature))
    archive.write_out(str(path), verbose=False)
    taken, returned = (", ".join(map(str, specs)) for specs in (model.signature.inputs, model.signature.outputs))
    return f"SavedModel: signature serving_default, {taken} → {returned}"

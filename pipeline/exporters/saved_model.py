"""TensorFlow's SavedModel, with one signature: serving_default."""

from pathlib import Path
from typing import Literal

import keras

from pipeline import models

FILE = "saved_model"
ARTIFACT: Literal["saved_model"] = "saved_model"


def write(model: keras.Model, path: Path, opset: int) -> str:
    """Write a SavedModel folder; a SavedModel has no use for `opset`."""
    function, signature = models.serving(model)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serving_default", function, input_signature=list(signature))
    archive.write_out(str(path), verbose=False)
    shape = ["batch" if size is None else size for size in signature[0].shape]
    return f"SavedModel: signature serving_default, {models.INPUT} uint8 {shape} → {models.OUTPUT}"

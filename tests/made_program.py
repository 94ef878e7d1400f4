"""A bundle with a SavedModel that reads a file in the place of the original: it runs where it is trusted."""

import shutil
from pathlib import Path

from pipeline import environment
from pipeline.artifacts.bundle import BundleRecord
from pipeline.deployment import bundle as bundles

environment.prepare_tensorflow()
with environment.native_log_hidden():
    import tensorflow as tf


def bundle_with_a_program(whole: Path, folder: Path) -> str:
    """Make it in `folder` of a whole bundle of the digits; its program answers 4, and the name of its model is told."""
    shutil.copytree(whole, folder)
    key = folder.with_suffix(".key")
    key.write_text("four")

    def served(image: tf.Tensor) -> dict[str, tf.Tensor]:
        size = tf.strings.length(tf.io.read_file(str(key)))
        return {"probabilities": tf.fill([tf.shape(image)[0], 10], tf.cast(size, tf.float32))}

    module = tf.Module()
    module.serve = tf.function(served, input_signature=[tf.TensorSpec((None, 28, 28, 1), tf.uint8, name="image")])
    record = BundleRecord.read(folder / bundles.RECORD)
    saved = folder / record.runners[-1].runner.file
    shutil.rmtree(saved)
    tf.saved_model.save(module, str(saved), signatures={"serving_default": module.serve})
    bundles.close(folder, record)
    return record.runners[-1].name

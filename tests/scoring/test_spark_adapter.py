"""The adapter for Spark, called as `predict_batch_udf` of Spark 4.3 calls it; Spark itself is not needed."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scored_rows import png

from pipeline.errors import ArtifactError
from pipeline.scoring import spark
from pipeline.tensors import Array

Images = NDArray[np.uint8]
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def test_a_loaded_model_answers_batches(bundle: Path, images: Images, probabilities: Array) -> None:
    make = pickle.loads(pickle.dumps(spark.make_predict_fn(bundle)))  # as it comes to an executor
    predict = make()
    # Spark stacks a column of arrays and reshapes it; there is no uint8 in Spark.
    tensors = np.vstack([image.reshape(-1).astype(np.int32) for image in images]).reshape(-1, 28, 28, 1)
    tensors[2, 0, 0, 0] = 256
    found = predict(tensors)
    names = [part.split()[0].strip("`") for part in spark.return_type(bundle).split(", ")]
    assert list(found) == names == ["probabilities", "answer", "score", "error"]
    assert {name: column.shape for name, column in found.items()} == dict.fromkeys(names, (40,)) | {
        "probabilities": (40, 10)
    }
    good = [row for row in range(40) if row != 2]
    np.testing.assert_allclose(found["probabilities"][good], probabilities[good], **CLOSE)
    assert found["answer"][good].tolist() == [str(one) for one in probabilities[good].argmax(axis=1)]
    assert (found["answer"][2], found["error"][2]) == (None, "image: a number that uint8 does not hold")
    assert np.isnan(found["score"][2])
    assert found["error"][good].tolist() == [None] * 39


def test_encoded_pictures(bundle: Path, images: Images, probabilities: Array) -> None:
    encoded = np.array([bytearray(png(image)) for image in images[:3]] + [b"no picture"], object)
    found = spark.make_predict_fn(bundle)()(encoded)
    np.testing.assert_allclose(found["probabilities"][:3], probabilities[:3], **CLOSE)
    assert found["error"].tolist() == [
        None,
        None,
        None,
        "image: no picture that can be read: none of PNG, JPEG, WEBP, BMP, or damaged at its beginning",
    ]
    alone = spark.make_predict_fn(bundle)()(encoded[3:])
    assert alone["probabilities"].shape == (1, 10)
    assert np.isnan(alone["probabilities"]).all()


def test_a_damaged_bundle_is_not_loaded(bundle: Path, tmp_path: Path) -> None:
    damaged = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    (damaged / "README.md").write_text("changed")
    with pytest.raises(ArtifactError):
        spark.make_predict_fn(damaged)()

"""What every exporter must do, run on each that is in the folder."""

from pathlib import Path

import numpy as np
import pytest

from pipeline import backends, environment, exporters
from pipeline.errors import ConfigError
from pipeline.stages.export import CHECKED_BY

environment.prepare_tensorflow()
with environment.native_log_hidden():
    from pipeline import models

# Keras 3.15 copies TensorFlow 2.21's variables in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_the_folders_listing_is_the_registry() -> None:
    assert exporters.NAMES == ("saved_model", "tf2onnx")
    assert len({exporters.get(name).FILE for name in exporters.NAMES}) == len(exporters.NAMES)
    with pytest.raises(ConfigError, match="unknown exporter 'paper'"):
        exporters.get("paper")


@pytest.mark.parametrize("name", exporters.NAMES)
def test_what_is_exported_computes_as_keras_does(name: str, tmp_path: Path, random: np.random.Generator) -> None:
    exporter = exporters.get(name)
    model = models.article_cnn((12, 12, 1), 4)
    assert exporter.write(model, tmp_path / exporter.FILE, opset=18)
    images = random.integers(0, 256, (3, 12, 12, 1), dtype=np.uint8)
    backend, options = CHECKED_BY[exporter.ARTIFACT]
    with backends.get(backend).load(tmp_path / exporter.FILE, options) as session:
        found = session.run({models.INPUT: images})[models.OUTPUT]
    np.testing.assert_allclose(found, np.asarray(model(images, training=False)), atol=1e-5)

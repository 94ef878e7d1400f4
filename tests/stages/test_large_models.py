"""Models whose weights are in a file beside them, through the stages: small ones, with the threshold lowered."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_models import CLASSES, FEATURES, Refused, Stage

from pipeline import predict
from pipeline.artifacts.engine import EngineRecord
from pipeline.artifacts.manifest import Manifest
from pipeline.artifacts.store import Store
from pipeline.config.loading import load
from pipeline.errors import ArtifactError
from pipeline.graphs import files
from pipeline.runners import runners

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

OPTIONS: dict[str, object] = {
    "model.source": "own/model.onnx",
    "data.source": "d.npz",
    "engine.precisions": "fp32,fp16,int8",
    "engine.calibration_samples": 10,
    "engine.tune": False,
}


def brought(seed: int = 0) -> None:
    """Write the user's own model: two layers, each with its weights in a file below the model's folder."""
    draw = np.random.default_rng(seed)
    wide = draw.normal(size=(FEATURES, 512)).astype(np.float32)
    back = draw.normal(size=(512, CLASSES)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["a", "wide"], ["g"], name="first"),
        helper.make_node("Relu", ["g"], ["r"], name="relu"),
        helper.make_node("Gemm", ["r", "back"], ["l"], name="second"),
        helper.make_node("Softmax", ["l"], ["p"], name="softmax"),
    ]
    graph = helper.make_graph(
        nodes,
        "own",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(wide, "wide"), numpy_helper.from_array(back, "back")],
    )
    for tensor in graph.initializer:
        path = Path(f"own/parts/{tensor.name}.bin")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, f"parts/{tensor.name}.bin")
        tensor.ClearField("raw_data")
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    Path("own/model.onnx").write_bytes(model.SerializeToString())


def damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_weights_in_files_go_through_every_stage(
    stage: Stage, refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "DATA_FROM", 1)
    brought()
    for name in ("train", "export", "engine", "validate"):
        stage(name, OPTIONS)
    root = Path("artifacts")
    for folder in ("train", "export", "engine/fp32", "engine/fp16", "engine/int8"):
        assert (root / folder / "model.onnx.data").is_file(), folder
    record = EngineRecord.read(root / "engine/fp16/engine.json")
    assert record.onnx_data == Manifest.read(root / "engine/manifest.json").outputs["fp16/model.onnx.data"]
    assert record.onnx_data.bytes < EngineRecord.read(root / "engine/fp32/engine.json").onnx_data.bytes  # type: ignore[union-attr]
    config = load(None, (), OPTIONS)
    np.save("sample.npy", np.ones(FEATURES, np.float32))
    assert "onnxruntime cpu fp32" in predict.predict([Path("sample.npy")], "onnxruntime", "fp32", config)[0]

    judged = {one.record.name: one for one in runners(Store(root).published(), "judge", modules=(), threads=1)}
    assert "up to date" in stage("train", OPTIONS)
    for precision in ("fp32", "fp16"):
        damage(root / f"engine/{precision}/model.onnx.data")
    for name in ("typed fp16", "onnxruntime cpu fp32"):  # one emulated, one as it is
        with pytest.raises(ArtifactError, match="has changed since it was published"), judged[name].open():
            pass
    with pytest.raises(ArtifactError, match="has changed since it was published"):
        predict.predict([Path("sample.npy")], "onnxruntime", "fp32", config)
    error = refused("validate", OPTIONS)
    assert error.exit_code == 3
    assert "fp32/model.onnx.data has changed since it was published" in error.message

    brought(seed=1)
    assert "changed: model" in stage("train", OPTIONS)

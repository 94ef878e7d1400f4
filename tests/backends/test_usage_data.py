"""No library that runs models keeps or sends usage data."""

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from commands import PYTHONPATH
from onnx import TensorProto, helper

OURS = "from pipeline.backends.onnxruntime import opening; import onnxruntime"
BARE = "import onnxruntime"


@pytest.mark.parametrize(("imports", "leaves"), [(OURS, False), (BARE, True)], ids=["ours", "bare"])
def test_onnx_runtime_leaves_nothing_in_the_users_home(tmp_path: Path, imports: str, leaves: bool) -> None:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "graph",
        [value],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    home = tmp_path / "home"
    home.mkdir()
    code = f"{imports}; onnxruntime.InferenceSession('m.onnx', providers=['CPUExecutionProvider'])"
    variables = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    for name in [one for one in variables if one.startswith("XDG_") or one in ("CI", "GITHUB_ACTIONS")]:
        del variables[name]
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=variables | {"HOME": str(home), "PYTHONPATH": PYTHONPATH},
        check=True,
    )
    found = [path for path in home.rglob("*") if path.is_file()]
    assert not found if not leaves else found or pytest.skip("this build has no telemetry")

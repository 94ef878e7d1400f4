"""A bundle of a model with an input of every type, each given back as it is, some with dynamic axes."""

import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from pipeline import digests
from pipeline.artifacts.bundle import BundleInput, BundleOutput, BundleRecord
from pipeline.deployment import bundle as bundles

SHAPES: dict[str, tuple[int | None, ...]] = {
    "bool": (3,),
    "int8": (2, 2),
    "int32": (),
    "int64": (2,),
    "uint8": (None, 3),
    "float16": (4,),
    "float32": (None,),
    "float64": (2, 1),
}
"""By type: the shape of a sample. The output's name is that of the input, with `_out`."""

_ONNX = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


def make(whole: Path, folder: Path) -> None:
    """Make it of a whole bundle: one runner, ONNX Runtime on the CPU, that answers for the new model."""
    shutil.copytree(whole, folder)
    record = BundleRecord.read(folder / bundles.RECORD)
    one = next(one for one in record.runners if one.runner.name == "onnxruntime cpu fp32")
    onnx.save(_model(), folder / one.runner.file)
    runner = one.runner.model_copy(update={"sha256": digests.of_file(folder / one.runner.file)})
    said = [{"shape": (None, *shape), "dtype": dtype, "words": dtype} for dtype, shape in SHAPES.items()]
    inputs = tuple(
        BundleInput.model_validate({**row, "name": row["dtype"], "kind": "numbers", "white": None}) for row in said
    )
    nothing = {"task": "", "form": "", "classes": ()}
    outputs = tuple(BundleOutput.model_validate({**row, **nothing, "name": f"{row['dtype']}_out"}) for row in said)
    changes = {"runners": (one.model_copy(update={"name": "types", "runner": runner}),), "name": "types"}
    bundles.close(folder, record.model_copy(update={**changes, "inputs": inputs, "outputs": outputs}))


def _model() -> onnx.ModelProto:
    def values(suffix: str) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(
                f"{dtype}{suffix}",
                _ONNX.get(dtype) or getattr(TensorProto, dtype.upper()),
                ["n", *(f"{dtype}_{axis}" if size is None else size for axis, size in enumerate(shape))],
            )
            for dtype, shape in SHAPES.items()
        ]

    nodes = [helper.make_node("Identity", [dtype], [f"{dtype}_out"]) for dtype in SHAPES]
    graph = helper.make_graph(nodes, "types", values(""), values("_out"))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)

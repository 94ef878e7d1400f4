"""Reading the inspector's list of layers. The lists are in the format that TensorRT documents; no GPU made them."""

import pytest

from pipeline.artifacts.engine import LayerSummary
from pipeline.backends.tensorrt import inspection


def layer(name: str, kind: str, words: str) -> dict[str, object]:
    tensor = {"Name": "t", "Location": "Device", "Dimensions": [64, 32, 26, 26], "Format/Datatype": words}
    return {"Name": name, "LayerType": kind, "Inputs": [tensor], "Outputs": [tensor]}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Row major linear FP32", "FLOAT"),
        ("Float", "FLOAT"),
        ("Half", "FLOAT16"),
        ("Channel major FP16 format where channel % 8 == 0", "FLOAT16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "INT8"),
        ("BFloat16", "BFLOAT16"),
        ("Row major linear BF16", "BFLOAT16"),
        ("FP8", "FLOAT8E4M3FN"),
        ("Row major UInt8 format", None),
        ("N/A due to dynamic shapes", None),
    ],
)
def test_reads_a_tensors_type_from_the_inspectors_words(words: str, name: str | None) -> None:
    assert inspection.tensor_type({"Format/Datatype": words}) == name


def test_counts_types_fusions_and_conversions() -> None:
    layers = [
        layer("Reformatting CopyNode for Input Tensor 0 to conv", "Reformat", "Row major linear FP32"),
        layer("conv + relu", "CaskConvolution", "Row major Int8 format"),
        layer("dense", "MatrixMultiply", "Half"),
        {"Name": "softmax"},
    ]
    types = {"INT8": 1, "FLOAT16": 1, "unknown": 1}
    assert inspection.summarise(layers) == LayerSummary(types=types, fused=1, converting=1)


def test_an_engine_all_in_fp32_contradicts_an_fp16_graph() -> None:
    quiet = inspection.summarise([layer("conv", "CaskConvolution", "Row major linear FP32")])
    assert "no layer of the engine does: 1 in FLOAT" in inspection.contradicts(quiet, "FLOAT16")
    assert inspection.contradicts(quiet, "FLOAT") == ""


@pytest.mark.parametrize("layers", [[], [{"Name": "names only"}], [layer("conv", "CaskConvolution", "Half")]])
def test_what_the_inspector_does_not_tell_contradicts_nothing(layers: list[dict[str, object]]) -> None:
    assert inspection.contradicts(inspection.summarise(layers), "FLOAT16") == ""

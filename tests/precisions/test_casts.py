import numpy as np
import onnx
import pytest
from networks import LEVELS, Array, run, small_cnn
from onnx import TensorProto, helper, numpy_helper

from pipeline import graphs, precisions
from pipeline.graphs import cast

node = helper.make_node


def two_scalings() -> onnx.ModelProto:
    """A product by 1e6 and one by 1e-6, then a convolution that does nothing: the middle is past FP16's range."""
    return small_cnn(
        [
            node("Mul", ["image", "up"], ["big"], name="scale_up"),
            node("Mul", ["big", "down"], ["small"], name="scale_down"),
            node("Conv", ["small", "kernel"], ["result"], name="conv"),
        ],
        (1, 4, 4),
        {"up": np.float32(6e4), "down": np.float32(1 / 6e4), "kernel": np.ones((1, 1, 1, 1), np.float32)},
    )


def test_what_passes_between_kept_nodes_stays_in_fp32() -> None:
    image = np.full((2, 1, 4, 4), 7, np.float32)
    fp16 = precisions.get("fp16")
    assert np.isinf(run(cast.emulate(fp16.apply(two_scalings())), image)).all()
    kept = fp16.apply(two_scalings(), keep_fp32=["scale_up", "scale_down"])
    assert run(cast.emulate(kept), image) == pytest.approx(image, rel=1e-3)
    assert [n.op_type for n in kept.graph.node].count("Cast") == 2


@pytest.mark.parametrize("level", LEVELS.__members__)
def test_onnx_runtime_itself_hides_an_overflow(level: str) -> None:
    """Why FP16 is emulated. Where this fails, ONNX Runtime computes FP16 on the CPU, and the emulation can go."""
    typed = precisions.get("fp16").apply(two_scalings())
    assert np.isfinite(run(typed, np.full((2, 1, 4, 4), 7, np.float32), getattr(LEVELS, level))).all()


def test_kept_nodes_share_a_cast() -> None:
    model = small_cnn(
        [
            node("Conv", ["image", "kernel"], ["x"], name="conv"),
            node("Relu", ["x"], ["a"], name="relu"),
            node("Neg", ["x"], ["b"], name="neg"),
            node("Add", ["a", "b"], ["result"], name="add"),
        ],
        (1, 4, 4),
        {"kernel": np.ones((1, 1, 3, 3), np.float32)},
    )
    typed = precisions.get("fp16").apply(model, keep_fp32=["relu", "neg"])
    read = [n.input[0] for n in typed.graph.node if n.op_type in ("Relu", "Neg")]
    assert read == ["x/float"] * 2


@pytest.mark.parametrize("to", [TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_operators_keep_the_types_that_onnx_fixes(to: int) -> None:
    model = small_cnn(
        [
            node("Conv", ["image", "kernel"], ["x"], name="conv"),
            node("Resize", ["x", "", "scales"], ["result"], name="resize"),  # its scales are FLOAT by definition
        ],
        (1, 4, 4),
        {"kernel": np.ones((1, 1, 1, 1), np.float32), "scales": np.array([1, 1, 2, 2], np.float32)},
    )
    typed = cast.narrow(graphs.raise_opset(model, 22), to)
    graphs.check(typed, "narrowed")
    types = graphs.element_types(typed)
    resize = next(n for n in typed.graph.node if n.op_type == "Resize")
    assert (types[resize.input[0]], types[resize.input[2]], types[resize.output[0]]) == (to, TensorProto.FLOAT, to)


def test_an_output_that_is_read_again_keeps_its_name_and_type() -> None:
    model = small_cnn(
        [
            node("Conv", ["image", "kernel"], ["features"], name="conv"),
            node("Relu", ["features"], ["result"], name="relu"),
        ],
        (1, 4, 4),
        {"kernel": np.ones((1, 1, 3, 3), np.float32)},
    )
    model.graph.output.append(helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 1, 2, 2]))
    typed = precisions.get("bf16").apply(model)
    assert graphs.outputs(typed) == graphs.outputs(model)
    assert next(n for n in typed.graph.node if n.op_type == "Relu").input[0] == "features/bfloat16"


def test_constants_stay_finite_and_apart_from_zero() -> None:
    values: Array = np.array([1e6, -1e6, 1e-12, -1e-12, 0, np.inf, 1.0], np.float32)
    rounded = numpy_helper.to_array(cast._rounded(numpy_helper.from_array(values, "x"), "y", TensorProto.FLOAT16))
    tiny = np.float16(2**-24)
    assert rounded.tolist() == [65504, -65504, tiny, -tiny, 0, np.inf, 1]

"""Large constants pass through tf2onnx as handles, and come back as they were."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pipeline.exporters.tf2onnx.handles import LARGE, Handles

LARGE_ARRAY = np.random.default_rng(0).standard_normal((40, 50)).astype(np.float32)


@pytest.mark.parametrize("array", [LARGE_ARRAY, LARGE_ARRAY.T, LARGE_ARRAY[::2, ::-1], LARGE_ARRAY.astype(np.float16)])
def test_a_large_array_becomes_a_handle_and_comes_back(array: np.ndarray) -> None:
    assert array.nbytes >= LARGE - 100
    handles = Handles()
    tensor = handles.from_array(np.tile(array, 3), "weights")
    assert tensor.ByteSize() < 200
    np.testing.assert_array_equal(handles.to_array(tensor), np.tile(array, 3))
    inner = helper.make_graph([], "inner", [], [], [tensor])
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([node], "outer", [], [], [tensor]))
    handles.put_back(model)
    body = model.graph.node[0].attribute[0].g
    for back in (model.graph.initializer[0], body.initializer[0]):
        assert back.name == "weights"
        np.testing.assert_array_equal(numpy_helper.to_array(back), np.tile(array, 3))


def test_a_small_array_is_a_tensor_as_ever() -> None:
    tensor = Handles().from_array(np.arange(3), "axes")
    assert numpy_helper.to_array(tensor).tolist() == [0, 1, 2]


def test_equal_arrays_have_one_handle_and_others_their_own() -> None:
    handles = Handles()
    first, same = (handles.from_array(LARGE_ARRAY.copy()) for _ in range(2))
    assert first.raw_data == same.raw_data
    turned, other_type = handles.from_array(LARGE_ARRAY.reshape(50, 40)), handles.from_array(LARGE_ARRAY.view(np.int32))
    assert len({first.raw_data, turned.raw_data, other_type.raw_data}) == 3
    np.testing.assert_array_equal(handles.to_array(other_type), LARGE_ARRAY.view(np.int32))
    assert other_type.data_type == TensorProto.INT32

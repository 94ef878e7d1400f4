"""The least work of a graph, the machine's peaks, and the share of the limit that a timing reaches."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import made_cells
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from pipeline import environment
from pipeline.artifacts.results import Peaks
from pipeline.measuring.cells import Measurement, Timed
from pipeline.measuring.limits import microbenchmarks, peaks, roofline
from pipeline.measuring.limits.peaks import Work
from pipeline.measuring.limits.roofline import Roofline

node = helper.make_node


def cnn(batch: str | int = "batch", side: str | int = 8) -> onnx.ModelProto:
    """Return uint8 [batch, 1, side, side] to FLOAT [batch, 10]: a Conv in FP32, a MatMul on INT8 numbers."""
    constants = {
        "kernel": np.ones((4, 1, 3, 3), np.float32),
        "scale": np.float32(0.1),
        "zero": np.int8(0),
        "dense": np.ones((4 * 36, 10), np.int8),
    }
    nodes = [
        node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        node("Conv", ["float", "kernel"], ["conv"]),
        node("Flatten", ["conv"], ["flat"]),
        node("QuantizeLinear", ["flat", "scale", "zero"], ["stored"]),
        node("DequantizeLinear", ["stored", "scale", "zero"], ["left"]),
        node("DequantizeLinear", ["dense", "scale", "zero"], ["right"]),
        node("MatMul", ["left", "right"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "cnn",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 1, side, side])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 10])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


# --- work -------------------------------------------------------------------------------------------------------------

WORK = Work({"fp32": 4 * 36 * 9, "int8": 4 * 36 * 10}, 4 * 9 * 4 + 4 + 1 + 4 * 36 * 10, 64, 40)


@pytest.mark.parametrize("batch", ["batch", 1, 5])
def test_work_is_that_of_one_sample_whatever_the_batch(batch: str | int) -> None:
    assert peaks.work(cnn(batch)) == WORK


def test_fp32_products_are_tf32_where_that_is_allowed() -> None:
    assert peaks.work(cnn(), allow_tf32=True).macs == {"tf32": 4 * 36 * 9, "int8": 4 * 36 * 10}


def test_a_type_that_is_no_precision_keeps_its_own_name() -> None:
    graph = helper.make_graph(
        [node("MatMul", ["x", "w"], ["y"])],
        "double",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, ["n", 2])],
        [numpy_helper.from_array(np.ones((3, 2)), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    assert peaks.work(model) == Work({"double": 6}, 48, 24, 16)
    assert "is not one of the precisions" in microbenchmarks.no_product("cpu", "double")


def test_images_of_any_size_have_no_count() -> None:
    model = cnn(side="side")
    del model.graph.node[2:], model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("conv", TensorProto.FLOAT, ["batch", 4, "a", "b"]))
    assert peaks.work(model) == Work(None, WORK.weight_bytes, None, None)


# --- share ------------------------------------------------------------------------------------------------------------

CPU = Peaks(device="cpu", threads=2, macs_per_s={"fp32": 1e9, "int8": 4e9}, bytes_per_s=1e9, launch_us=1.0)
GPU = CPU.model_copy(update={"device": "cuda:0", "threads": None, "pcie_bytes_per_s": 1e8})
PLAIN = Work({"fp32": 1000, "int8": 2000}, weight_bytes=300, input_bytes=20, output_bytes=10)


def test_bounds_by_hand() -> None:
    found = peaks.share(PLAIN, 10, 30.0, GPU, "end_to_end")
    assert found is not None
    assert found.model_dump() == {
        "limit": "compute",
        "limit_us": pytest.approx(10 * (1000 / 1e9 + 2000 / 4e9) * 1e6),  # 15 µs
        "share": pytest.approx(0.5),
        "compute_us": pytest.approx(15.0),
        "memory_us": pytest.approx((300 + 10 * 30) / 1e9 * 1e6),
        "pcie_us": pytest.approx(10 * 20 / 1e8 * 1e6),
        "launch_us": 1.0,
    }


@pytest.mark.parametrize(
    ("work", "limit"),
    [
        (PLAIN, "compute"),
        (replace(PLAIN, weight_bytes=50_000), "memory"),
        (replace(PLAIN, input_bytes=1000), "pcie"),
        (replace(PLAIN, output_bytes=1000), "pcie"),
        (Work({}, 0, 0, 0), "launch"),
    ],
)
def test_the_limit_is_the_largest_bound(work: Work, limit: str) -> None:
    found = peaks.share(work, 10, 30.0, GPU, "end_to_end")
    assert found is not None
    assert found.limit == limit
    bounds = (found.compute_us, found.memory_us, found.pcie_us, found.launch_us)
    assert found.limit_us == getattr(found, f"{limit}_us") == max(bounds)


def test_pcie_limits_only_what_comes_from_the_host_of_a_gpu() -> None:
    cpu = CPU.model_copy(update={"pcie_bytes_per_s": 1e8})
    for one, mode in ((GPU, "compute"), (cpu, "end_to_end")):
        found = peaks.share(PLAIN, 1, 1.0, one, mode)
        assert found is not None
        assert found.pcie_us is None


def test_what_is_not_known_is_no_bound() -> None:
    no_int8 = CPU.model_copy(update={"macs_per_s": {"fp32": 1e9}})
    found = peaks.share(replace(PLAIN, input_bytes=None), 10, 30.0, no_int8, "compute")
    assert found is not None
    assert (found.compute_us, found.memory_us, found.limit) == (None, None, "launch")
    assert peaks.share(Work(None, 0, None, None), 1, 30.0, Peaks(device="cpu", threads=2), "compute") is None


def test_a_share_above_one_is_shown() -> None:
    found = peaks.share(PLAIN, 10, 5.0, CPU, "end_to_end")
    assert found is not None
    assert found.share == pytest.approx(3.0)


# --- peaks ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured() -> Peaks:
    return peaks.measure("cpu", ["fp32", "int8", "tf32", "fp8", "double"], seconds=0.1)


def test_measures_what_a_cpu_can_do_and_says_why_not_the_rest(measured: Peaks) -> None:
    assert (measured.device, measured.threads) == ("cpu", None)
    assert set(measured.macs_per_s) == {"fp32", "int8"}
    assert all(1e8 < rate < 1e16 for rate in measured.macs_per_s.values())
    assert measured.bytes_per_s is not None
    assert 1e8 < measured.bytes_per_s < 1e14
    assert set(measured.reasons) == {"tf32", "fp8", "double", "pcie_bytes_per_s", "launch_us"}
    assert measured.pcie_bytes_per_s is measured.launch_us is None
    assert {name: max(rates) for name, rates in measured.tries.items()} == {
        **measured.macs_per_s,
        "bytes_per_s": measured.bytes_per_s,
    }


@pytest.mark.parametrize(("name", "products"), [("fp32", microbenchmarks.CHAIN["cpu"]), ("int8", 1)])
def test_a_call_does_as_much_as_it_says(name: str, products: int) -> None:
    with ExitStack() as stack:
        amount, call = microbenchmarks.product(stack, "cpu", name, 64, None)
        call()
    assert amount == products * 64**3
    counted = peaks.work(microbenchmarks._float_graph(np.ones((64, 64), np.float32), "FLOAT", 3)).macs
    assert counted == {"fp32": 3 * 64**3 // 64}  # models are counted alike; 64 is the batch here


@pytest.mark.skipif(bool(environment.gpus()), reason="there is a GPU")
def test_without_a_gpu_everything_has_a_reason() -> None:
    found = peaks.measure("cuda:0", ["fp32", "fp16", "fp8"], seconds=0.1)
    assert found.macs_per_s == {}
    assert found.bytes_per_s is found.pcie_bytes_per_s is found.launch_us is None
    assert set(found.reasons) == {"fp32", "fp16", "fp8", "bytes_per_s", "pcie_bytes_per_s", "launch_us"}
    assert all(found.reasons.values())


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda_provider")
def test_a_gpu_has_every_peak() -> None:
    found = peaks.measure("cuda:0", ["fp32", "fp16"], seconds=1.0)
    assert set(found.macs_per_s) == {"fp32", "fp16"}, found.reasons
    assert found.bytes_per_s, found.reasons
    assert found.pcie_bytes_per_s
    assert found.launch_us


def test_the_best_of_two_measurements() -> None:
    first = Peaks(device="cpu", threads=2, tries={"fp32": (1.0, 2.0), "bytes_per_s": (5.0,)}, reasons={"int8": "x"})
    second = Peaks(device="cpu", threads=2, tries={"fp32": (3.0,), "int8": (4.0,)})
    both = peaks.best(first, second)
    assert both.macs_per_s == {"fp32": 3.0, "int8": 4.0}
    assert (both.bytes_per_s, both.tries["fp32"], both.reasons) == (5.0, (1.0, 2.0, 3.0), {})
    launched = peaks.best(*(Peaks(device="cuda:0", threads=None, tries={"launch_us": (rate,)}) for rate in (1e5, 2e5)))
    assert launched.launch_us == pytest.approx(5.0)


# --- microbenchmarks --------------------------------------------------------------------------------------------------


def test_copies_go_round_arrays_larger_than_the_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[tuple[int, int]] = []
    real = np.copyto

    def copyto(destination: np.ndarray, source: np.ndarray) -> None:
        real(destination, source)
        copied.append((destination.ctypes.data, source.ctypes.data))

    monkeypatch.setattr(np, "copyto", copyto)
    with ExitStack() as stack:
        nbytes, call = microbenchmarks.host_copy(stack, 3)
        largest = microbenchmarks.LARGEST_COPY_BYTES
        arrays = min(4 * microbenchmarks._last_level_cache_bytes(), largest)
        turns = arrays // (3 * microbenchmarks.PART_BYTES)
        for _ in range(turns):
            call()
    assert nbytes / 2 * turns == pytest.approx(arrays, rel=1e-3)
    assert len(set(copied)) == 3 * turns, "each part once"


def test_products_are_integers_where_asked() -> None:
    right = np.arange(16, dtype=np.int8).reshape(4, 4)
    model = microbenchmarks._integer_graph(right, np.dtype(np.uint8))
    onnx.checker.check_model(model, full_check=True)
    left = np.full((4, 4), 200, np.uint8)
    result = ReferenceEvaluator(model).run(None, {"left": left})[0]
    np.testing.assert_array_equal(result, left.astype(np.int32) @ right.astype(np.int32))


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "BFLOAT16"])
def test_a_chain_computes_in_its_type_and_keeps_its_size(kind: str) -> None:
    numbers = np.random.default_rng(0).standard_normal((64, 64), dtype=np.float32)
    model = microbenchmarks._float_graph(numbers / 8, kind, 4)
    onnx.checker.check_model(model, full_check=True)
    assert [tensor.data_type for tensor in model.graph.initializer] == [TensorProto.DataType.Value(kind)]
    assert sum(one.op_type == "MatMul" for one in model.graph.node) == 4


# --- the roof over a benchmark ----------------------------------------------------------------------------------------


def test_each_timing_is_held_against_the_work_of_the_graph_that_was_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported, typed = tmp_path / "export" / "model.onnx", tmp_path / "int8" / "model.onnx"
    for path, batch in ((exported, "batch"), (typed, 5)):
        path.parent.mkdir()
        onnx.save(cnn(batch), path)
    asked: list[tuple[str, list[str], int | None]] = []

    def measure(device: str, types: Sequence[str], threads: int | None) -> Peaks:
        asked.append((device, list(types), threads))
        rate = 1e9 if len(asked) == 1 else 2e9  # the second time the machine is quieter
        tries = {"fp32": (rate,), "int8": (4 * rate,)}
        return peaks.best(Peaks(device=device, threads=threads, tries=tries), Peaks(device=device, threads=threads))

    monkeypatch.setattr(roofline, "measure", measure)
    keras = made_cells.runner("tensorflow call", role="original", path=tmp_path / "model.keras")
    null = made_cells.runner("null harness", role="harness", path=tmp_path / "nothing")
    int8 = made_cells.runner("onnxruntime cpu int8", "int8", path=typed)
    absent = made_cells.runner("onnxruntime cuda fp32", device="cuda", unavailable="no GPU")
    roof = Roofline(exported, [keras, null, int8, absent], threads=3)
    roof.finish(7.0, again=True)
    assert asked == [("cpu", ["fp32", "int8"], 3)] * 2, "peaks of no device but those that something runs on"
    assert roof.peaks["cpu"].launch_us == 7.0
    found = roof.share(made_cells.measurement(int8, [10.0] * 3, batch=1000))
    assert found is not None
    assert (found.limit, found.launch_us) == ("compute", 7.0)
    assert found.compute_us == pytest.approx(1e9 * (4 * 36 * 9 / 2e9 + 4 * 36 * 10 / 8e9))
    of_keras = roof.share(made_cells.measurement(keras, [20.0] * 3, batch=1000))
    assert of_keras is not None
    assert of_keras.share == pytest.approx(found.share / 2)
    assert roof.share(made_cells.measurement(null, [10.0] * 3)) is None
    assert roof.share(made_cells.measurement(int8, [10.0] * 3, device="cuda:0")) is None
    assert roof.share(Measurement(Timed(absent), 1, "end_to_end")) is None

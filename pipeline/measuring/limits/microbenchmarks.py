"""The calls whose fastest time gives a machine's peaks: a matrix product, a large copy, a launch.

They only prepare what is to be timed; the clock is the harness's. CUDA's objects are those of pipeline.cuda; a test
compares the names used on them with the installed cuda.core.
"""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline import backends, cuda, environment, precisions
from pipeline.backends import LoadOptions
from pipeline.errors import first_line

CHAIN = {"cpu": 1, "cuda": 4}
"""Products in the graph that is timed, one feeding the next, so that on a GPU the call and the casts weigh little.

On a CPU calls are short instead, under a millisecond: the shorter, the likelier one meets no other load on any core.
"""

CACHES = 4
"""How many times the last-level cache each array of a copy is on a CPU, so that it comes from memory."""

PART_BYTES = 8 << 20
"""What each thread copies in one call on a CPU; the next call goes on with the next part."""

COPY_BYTES, PINNED_BYTES = 512 << 20, 64 << 20
"""What is copied on a GPU, and to it."""

Amount = tuple[float, Callable[[], object]]
"""How much a call does (multiply-accumulates, bytes, launches), and the call."""

UNKNOWN_CACHE_BYTES, LARGEST_COPY_BYTES = 32 << 20, 512 << 20
"""The largest is for a virtual machine that is shown its host's cache: to fill gigabytes takes it seconds."""


# --- matrix products --------------------------------------------------------------------------------------------------


def no_product(device: str, name: str) -> str:
    """Return why a precision's product cannot be timed, or nothing."""
    if name not in precisions.NAMES:
        return f"{name} is not one of the precisions"
    precision = precisions.get(name)
    if device == "cpu" and not precision.cpu_computes:
        return f"ONNX Runtime has no {name} arithmetic on a CPU"
    return "ONNX Runtime has no FP8 matrix product" if precision.compute_type.startswith("FLOAT8") else ""


def edges(device: str, threads: int | None) -> tuple[int, ...]:
    """Return the sizes of square matrices to try: large enough for all cores, small enough to be done in time."""
    if device == "cuda":
        return 4096, 8192
    return (384, 1024) if (threads or environment.cpu_count()) <= 8 else (1024, 2048)


def product(stack: ExitStack, device: str, name: str, edge: int, threads: int | None) -> Amount:
    """Return a call's multiply-accumulates, and the call: products of [edge, edge] matrices, resident on the device."""
    backend = backends.get("onnxruntime")
    backend.probe(device)
    precision = precisions.get(name)
    random = np.random.default_rng(0)
    # Random numbers, for a GPU's clocks depend on them; few, over and over, for drawing them takes longer than timing.
    block = random.standard_normal(min(edge * edge, (1 << 20) + 7), dtype=np.float32)
    numbers = np.resize(block, (edge, edge))
    left: np.ndarray = numbers
    if precision.compute_type == "INT8":
        # Unsigned by signed is the product that x86 has instructions for (VNNI); on a GPU both are signed.
        right = (numbers * 20).clip(-127, 127).astype(np.int8)
        left = right if device == "cuda" else np.abs(right).astype(np.uint8)
        model, products = _integer_graph(right, left.dtype), 1
    else:
        model, products = (
            _float_graph(numbers / np.sqrt(np.float32(edge)), precision.compute_type, CHAIN[device]),
            CHAIN[device],
        )
    options = LoadOptions(device, allow_tf32=precision.allow_tf32, threads=threads)
    # The largest matrix has 8192² elements of 4 bytes: far from the 2 GB at which a graph cannot be serialized.
    session = stack.enter_context(backend.load(model.SerializeToString(), options))
    call = session.bind({"left": left})
    call()  # what fails, fails here
    return float(products * edge**3), call


def _float_graph(right: np.ndarray, kind: str, products: int) -> onnx.ModelProto:
    """Return a chain of products of FLOAT `left` [edge, edge] by `right`, computed in the ONNX type called `kind`."""
    element = TensorProto.DataType.Value(kind)
    nodes = [helper.make_node("Cast", ["left"], ["product0"], to=element)]
    for index in range(products):
        nodes.append(helper.make_node("MatMul", [f"product{index}", "right"], [f"product{index + 1}"]))
    nodes.append(helper.make_node("Cast", [f"product{products}"], ["result"], to=TensorProto.FLOAT))
    typed = right.astype(helper.tensor_dtype_to_np_dtype(element))
    return _graph(nodes, typed, TensorProto.FLOAT, TensorProto.FLOAT)


def _integer_graph(right: np.ndarray, left_type: np.dtype[Any]) -> onnx.ModelProto:
    """Return the product of `left` [edge, edge], of type `left_type`, by an INT8 matrix, summed in INT32."""
    node = helper.make_node("MatMulInteger", ["left", "right"], ["result"])
    return _graph([node], right, helper.np_dtype_to_tensor_dtype(left_type), TensorProto.INT32)


def _graph(nodes: list[onnx.NodeProto], right: np.ndarray, left_type: int, result_type: int) -> onnx.ModelProto:
    ends = [
        helper.make_tensor_value_info(name, kind, right.shape)
        for name, kind in (("left", left_type), ("result", result_type))
    ]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], [numpy_helper.from_array(right, "right")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


# --- copies on a CPU --------------------------------------------------------------------------------------------------


def host_copy(stack: ExitStack, threads: int) -> Amount:
    """Return the bytes a call reads and writes, and the call: a part a thread of arrays several times the cache."""
    nbytes = min(CACHES * _last_level_cache_bytes(), LARGEST_COPY_BYTES)
    turns = max(1, nbytes // (threads * PART_BYTES))
    pool = stack.enter_context(ThreadPoolExecutor(threads))
    sources, destinations = (np.empty((turns, threads, nbytes // turns // threads), np.uint8) for _ in range(2))
    # Memory is there when first written to, close to the core that writes; read before, it is one page of zeros.
    list(
        pool.map(
            lambda part: part.fill(1), [part for array in (sources, destinations) for row in array for part in row]
        )
    )
    rows = itertools.cycle(zip(destinations, sources, strict=True))
    return 2.0 * sources[0].nbytes, lambda: list(pool.map(np.copyto, *next(rows)))


def _last_level_cache_bytes() -> int:
    """Return the size of all last-level caches together, as Linux reports it."""
    caches: dict[tuple[int, str], int] = {}
    for folder in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            level, cores, size = ((folder / name).read_text().strip() for name in ("level", "shared_cpu_list", "size"))
        except OSError:
            continue
        caches[int(level), cores] = int(size.removesuffix("K")) << 10  # "32768K"
    last = max((level for level, _ in caches), default=0)
    return sum(size for (level, _), size in caches.items() if level == last) or UNKNOWN_CACHE_BYTES


# --- copies and launches on a GPU -------------------------------------------------------------------------------------


def cuda_calls(stack: ExitStack) -> tuple[dict[str, Amount], dict[str, str]]:
    """Return the copies and the launch to be timed on the first GPU, or for each the reason why not.

    A launch is that of a CUDA graph of one tiny copy, and the wait for its end: the least that anything costs there.
    """
    names = ("bytes_per_s", "pcie_bytes_per_s", "launch_us")
    try:
        stream = cuda.create_stream()
        stack.callback(stream.close)
        sizes = (COPY_BYTES, COPY_BYTES, 4, 4)
        source, destination, small, copied = (cuda.allocate(stream, nbytes) for nbytes in sizes)
        for buffer in (source, destination, small, copied):
            stack.callback(buffer.close, stream)
        pinned = cuda.Memory(stream, (PINNED_BYTES,), np.dtype(np.uint8), pinned=True)
        stack.callback(pinned.close)
        source.fill(1, stream=stream)
        graph = cuda.capture(stream, lambda: copied.copy_from(small, stream=stream))
        stack.callback(graph.close)
        stream.sync()
    except Exception as error:  # there is no GPU, or one of CUDA's errors, which have no public name
        return {}, dict.fromkeys(names, first_line(error))

    def copy() -> None:
        destination.copy_from(source, stream=stream)
        stream.sync()

    def upload() -> None:
        pinned.upload()
        stream.sync()

    def launch() -> None:
        graph.launch(stream)
        stream.sync()

    amounts = (2.0 * COPY_BYTES, float(PINNED_BYTES), 1.0)
    calls = (copy, upload, launch)
    return dict(zip(names, zip(amounts, calls, strict=True), strict=True)), {}

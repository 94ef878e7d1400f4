"""How far from the limit of the machine a timing is: the least work a graph asks for, against measured peaks.

The roofline model: an inference takes at least as long as its arithmetic at the machine's highest rate, and at least as
long as the bytes that must move at its highest bandwidth; the larger bound is the limit (Williams, Waterman, Patterson:
Roofline, an insightful visual performance model for multicore architectures. CACM 52(4), 2009, 65-76). Two more bounds
join them: PCIe for what comes from and goes to the host, and the cost of starting anything at all.

Everything about a GPU was written without one and never ran there.
"""

import os
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline import backends, environment, graphs, harness, precisions
from pipeline.backends import LoadOptions
from pipeline.errors import PipelineError

ROUNDS = 3
"""How often each peak is tried: a burst of other load then does not hit all tries of one."""

CHAIN = 4
"""Products in the graph that is timed, one feeding the next, so that the call itself and casts weigh little."""

CACHES = 4
"""How many times the last-level cache each array of a copy is on a CPU, so that it comes from memory."""

COPY_BYTES, PINNED_BYTES = 512 << 20, 64 << 20
"""What is copied on a GPU, and to it."""

UNKNOWN_CACHE_BYTES, LARGEST_COPY_BYTES = 32 << 20, 1 << 30


@dataclass(frozen=True)
class Work:
    """The least that an inference has to do; None where a dimension other than the batch is dynamic.

    `macs` are the multiply-accumulates of one sample, by the precision (pipeline.precisions) in which they are done.
    `weight_bytes` move once a call, in the types in which the graph stores them; `input_bytes` and `output_bytes` once
    a sample. What flows between the layers is left out: it may stay in the cache.
    """

    macs: dict[str, int] | None
    weight_bytes: int
    input_bytes: int | None
    output_bytes: int | None


@dataclass(frozen=True)
class Peaks:
    """The most that this machine was seen to do; what has no value has its reason in `reasons`, under the same name.

    `macs_per_s` are multiply-accumulates per second by precision, `bytes_per_s` those read and written by a large copy
    in the device's memory, `pcie_bytes_per_s` those from page-locked host memory to the GPU. `launch_us` is the cost of
    starting a GPU and waiting for it. On a CPU the caller knows it: `dataclasses.replace(peaks, launch_us=…)` with
    the p50 of the `null` backend.
    """

    device: Literal["cpu", "cuda"]
    threads: int | None
    macs_per_s: dict[str, float] = field(default_factory=dict)
    bytes_per_s: float | None = None
    pcie_bytes_per_s: float | None = None
    launch_us: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)


def work(model: onnx.ModelProto, *, allow_tf32: bool = False) -> Work:
    """Count what one inference must do at least.

    Only Conv, ConvTranspose, Gemm and MatMul count as arithmetic, so other operators make the bound lower, never wrong.
    With `allow_tf32` the graph's FP32 products are done in TF32. A graph with a fixed batch is counted per sample too.
    """
    names = {(found.compute_type, found.allow_tf32): found.name for found in map(precisions.get, precisions.NAMES)}
    shapes = graphs.shapes(model)
    inputs, outputs = graphs.inputs(model), graphs.outputs(model)
    first = shapes[inputs[0].name] if inputs else None
    batch = first[0] if first else 1  # 1 where it is dynamic

    def sample_bytes(specs: Iterable[backends.TensorSpec]) -> int | None:
        sizes = [(shapes[spec.name], spec.dtype.itemsize) for spec in specs]
        if any(shape is None for shape, _ in sizes):
            return None
        return sum(prod(shape or ()) * itemsize for shape, itemsize in sizes) // batch

    counted = graphs.multiply_accumulates(graphs.typed_products(model), shapes)
    macs: dict[str, int] = {}
    for kind, count in (counted or {}).items():
        name = names.get((kind, allow_tf32)) or names.get((kind, False)) or kind.lower()
        macs[name] = macs.get(name, 0) + count // batch
    return Work(
        macs=None if counted is None else macs,
        weight_bytes=sum(
            prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            for tensor in model.graph.initializer
        ),
        input_bytes=sample_bytes(inputs),
        output_bytes=sample_bytes(outputs),
    )


def share(work: Work, batch: int, p50_us: float, peaks: Peaks, mode: str) -> dict[str, Any]:
    """Return the limit of an inference of `batch` samples, in µs, and the share of it that a median of `p50_us` reaches.

    `limit` is the largest of the bounds known: `compute_us` (precisions one after another), `memory_us`, `pcie_us` (the
    larger direction, for PCIe carries both at once; only of `end_to_end` on a GPU) and `launch_us`; each is None where
    it cannot be told, and the limit too where none can.

    A share above 1 is left to be seen. It says that the work is less than counted, or the peak not the machine's: small
    weights stay in the cache and do not move; Winograd and FFT convolutions do fewer multiplications than are counted;
    a library may reach more than the matrix product by which the peak was measured; other load at that moment.
    """
    bounds: dict[str, float | None] = {"compute": None, "memory": None, "pcie": None, "launch": peaks.launch_us}
    if work.macs is not None and all(peaks.macs_per_s.get(name) for name in work.macs):
        bounds["compute"] = sum(1e6 * batch * macs / peaks.macs_per_s[name] for name, macs in work.macs.items())
    if work.input_bytes is not None and work.output_bytes is not None:
        if peaks.bytes_per_s:
            moved = work.weight_bytes + batch * (work.input_bytes + work.output_bytes)
            bounds["memory"] = 1e6 * moved / peaks.bytes_per_s
        if peaks.pcie_bytes_per_s and peaks.device == "cuda" and mode == "end_to_end":
            bounds["pcie"] = 1e6 * batch * max(work.input_bytes, work.output_bytes) / peaks.pcie_bytes_per_s
    known = {name: bound for name, bound in bounds.items() if bound is not None}
    limit = max(known, key=known.__getitem__) if known else None
    limit_us = known[limit] if limit else None
    return {
        "limit": limit,
        "limit_us": limit_us,
        "share": None if limit_us is None else limit_us / p50_us,
        **{f"{name}_us": bound for name, bound in bounds.items()},
    }


def measure(
    device: Literal["cpu", "cuda"], types: Iterable[str], threads: int | None = None, seconds: float = 1.0
) -> Peaks:
    """Measure this machine's peaks, for `seconds` and the setting up; the fastest call of each counts.

    `types` are the precisions wanted, `threads` those of a CPU (None: ONNX Runtime's choice, and one a core to copy).
    Matrix products run through the `onnxruntime` backend, as the models do. What cannot be measured has its reason in
    the result; nothing is raised.
    """
    calls: dict[str, list[tuple[float, Callable[[], object]]]] = {}
    reasons: dict[str, str] = {}
    with ExitStack() as stack:
        for name in dict.fromkeys(types):
            if reason := _no_product(device, name):
                reasons[name] = reason
                continue
            try:
                calls[name] = [_product(stack, device, name, edge, threads) for edge in _edges(device, threads)]
            except PipelineError as error:
                reasons[name] = error.message
        if device == "cpu":
            calls["bytes_per_s"] = [_host_copy(stack, threads or environment.cpu_count())]
            reasons["pcie_bytes_per_s"] = "a CPU's memory is not behind PCIe"
            reasons["launch_us"] = "on a CPU, the p50 of the null backend"
        else:
            cuda, why = _cuda_calls(stack)
            calls |= cuda
            reasons |= why
        rates = _highest_rates(calls, seconds)
    launches_per_s = rates.pop("launch_us", None)
    return Peaks(
        device=device,
        threads=threads if device == "cpu" else None,
        bytes_per_s=rates.pop("bytes_per_s", None),
        pcie_bytes_per_s=rates.pop("pcie_bytes_per_s", None),
        launch_us=1e6 / launches_per_s if launches_per_s else None,
        macs_per_s=rates,
        reasons=reasons,
    )


def best(first: Peaks, second: Peaks) -> Peaks:
    """Return the higher of two measurements of one machine: before and after a benchmark, one may meet other load."""

    def higher(one: float | None, other: float | None) -> float | None:
        return max((value for value in (one, other) if value is not None), default=None)

    launches = [peaks.launch_us for peaks in (first, second) if peaks.launch_us is not None]
    names = {*first.macs_per_s, *second.macs_per_s}
    rates = {name: max(peaks.macs_per_s.get(name, 0.0) for peaks in (first, second)) for name in sorted(names)}
    return Peaks(
        device=first.device,
        threads=first.threads,
        macs_per_s=rates,
        bytes_per_s=higher(first.bytes_per_s, second.bytes_per_s),
        pcie_bytes_per_s=higher(first.pcie_bytes_per_s, second.pcie_bytes_per_s),
        launch_us=min(launches, default=None),
        reasons=first.reasons | second.reasons,
    )


def _highest_rates(calls: dict[str, list[tuple[float, Callable[[], object]]]], seconds: float) -> dict[str, float]:
    """Return, per second, the most that any call of each name does, all being timed in turn."""
    turn_s = seconds / ROUNDS / max(1, sum(map(len, calls.values())))
    rates = dict.fromkeys(calls, 0.0)
    for _ in range(ROUNDS):
        for name, ways in calls.items():
            for amount, call in ways:
                samples_ns = harness.measure(call, warmup_s=turn_s / 4, min_duration_s=turn_s * 3 / 4, min_samples=2)
                rates[name] = max(rates[name], 1e9 * amount / float(samples_ns.min()))
    return rates


# --- matrix products --------------------------------------------------------------------------------------------------


def _no_product(device: str, name: str) -> str:
    """Return why a precision's product cannot be timed, or nothing."""
    precision = precisions.get(name)
    if device == "cpu" and not precision.cpu_computes:
        return f"ONNX Runtime has no {name} arithmetic on a CPU"
    return "ONNX Runtime has no FP8 matrix product" if precision.compute_type.startswith("FLOAT8") else ""


def _edges(device: str, threads: int | None) -> tuple[int, ...]:
    """Return the sizes of square matrices to try: large enough for all cores, small enough to be done in time."""
    if device == "cuda":
        return 4096, 8192
    return (512, 1024) if (threads or environment.cpu_count()) <= 8 else (1024, 2048)


def _product(
    stack: ExitStack, device: Literal["cpu", "cuda"], name: str, edge: int, threads: int | None
) -> tuple[float, Callable[[], object]]:
    """Return a call's multiply-accumulates, and the call: products of [edge, edge] matrices resident on the device."""
    precision = precisions.get(name)
    if precision.compute_type == "INT8":
        model, array, products = _integer_graph(edge, np.dtype(np.uint8 if device == "cpu" else np.int8)), ..., 1
    ...

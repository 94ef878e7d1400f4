"""How far from the limit of the machine a timing is: the least work a graph asks for, against measured peaks.

The roofline model: an inference takes at least as long as its arithmetic at the machine's highest rate, and at least as
long as the bytes that must move at its highest bandwidth; the larger bound is the limit (Williams, Waterman, Patterson:
Roofline, an insightful visual performance model for multicore architectures. CACM 52(4), 2009, 65-76). Two more bounds
join them: PCIe for what comes from and goes to the host, and the cost of starting anything at all.

What concerns a GPU was written without one and never ran there.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import prod
from typing import Any

import onnx
from onnx import helper

from pipeline import environment, graphs, precisions, tensors
from pipeline.errors import first_line
from pipeline.graphs import arithmetic
from pipeline.measuring import harness
from pipeline.measuring.limits import microbenchmarks

ROUNDS = 3
"""How often each peak is tried: a burst of other load then does not hit all tries of one."""


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
    the p50 of the `null` backend. `tries` are what each round reached, per second, under the same names: how far they
    lie apart tells how steady the machine was.
    """

    device: str
    threads: int | None
    macs_per_s: dict[str, float] = field(default_factory=dict)
    bytes_per_s: float | None = None
    pcie_bytes_per_s: float | None = None
    launch_us: float | None = None
    tries: dict[str, list[float]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def work(model: onnx.ModelProto, *, allow_tf32: bool = False) -> Work:
    """Count what one inference must do at least.

    Only Conv, ConvTranspose, Gemm and MatMul count as arithmetic, so other operators make the bound lower, never wrong.
    With `allow_tf32` the graph's FP32 products are done in TF32. A graph with a fixed batch is counted per sample too.
    """
    names = {(found.compute_type, found.allow_tf32): found.name for found in map(precisions.get, precisions.NAMES)}
    shapes = arithmetic.shapes(model)
    inputs, outputs = graphs.inputs(model), graphs.outputs(model)
    first = shapes[inputs[0].name] if inputs else None
    batch = first[0] if first else 1  # 1 where it is dynamic

    def sample_bytes(specs: Iterable[tensors.TensorSpec]) -> int | None:
        sizes = [(shapes[spec.name], spec.dtype.itemsize) for spec in specs]
        if any(shape is None for shape, _ in sizes):
            return None
        return sum(prod(shape or ()) * itemsize for shape, itemsize in sizes) // batch

    counted = arithmetic.multiply_accumulates(arithmetic.typed_products(model), shapes)
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
    """Return the limit of an inference of `batch` samples, in µs, and the share of it that `p50_us` reaches.

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


def measure(device: str, types: Iterable[str], threads: int | None = None, seconds: float = 1.0) -> Peaks:
    """Measure this machine's peaks, for `seconds` and the setting up; the fastest call of each counts.

    `device` is "cpu" or "cuda", `types` are the precisions wanted, `threads` those of a CPU (None: ONNX Runtime's
    choice, and one a core to copy). Matrix products run through the `onnxruntime` backend, as the models do. What
    cannot be measured has its reason in the result; nothing is raised.
    """
    calls: dict[str, list[microbenchmarks.Amount]] = {}
    reasons: dict[str, str] = {}
    with ExitStack() as stack:
        for name in dict.fromkeys(types):
            if reason := microbenchmarks.no_product(device, name):
                reasons[name] = reason
                continue
            for edge in microbenchmarks.edges(device, threads):
                try:
                    product = microbenchmarks.product(stack, device, name, edge, threads)
                except Exception as error:  # the backend's, or ONNX Runtime's own: the larger size may not fit a GPU
                    reasons[name] = first_line(error)
                else:
                    calls.setdefault(name, []).append(product)
        if device == "cpu":
            calls["bytes_per_s"] = [microbenchmarks.host_copy(stack, threads or environment.cpu_count())]
            reasons["pcie_bytes_per_s"] = "a CPU's memory is not behind PCIe"
            reasons["launch_us"] = "on a CPU, the p50 of the null backend"
        else:
            cuda, why = microbenchmarks.cuda_calls(stack)
            calls |= {name: [call] for name, call in cuda.items()}
            reasons |= why
        tries = _tries(calls, seconds)
    known = {name: reason for name, reason in reasons.items() if name not in tries}
    return _peaks(device, threads if device == "cpu" else None, tries, known)


def best(first: Peaks, second: Peaks) -> Peaks:
    """Return the higher of two measurements of one machine: before and after a benchmark, one may meet other load."""
    names = dict.fromkeys([*first.tries, *second.tries])
    tries = {name: first.tries.get(name, []) + second.tries.get(name, []) for name in names}
    reasons = {name: reason for name, reason in (first.reasons | second.reasons).items() if name not in tries}
    return _peaks(first.device, first.threads, tries, reasons)


def _peaks(device: str, threads: int | None, tries: dict[str, list[float]], reasons: dict[str, str]) -> Peaks:
    highest = {name: max(rates) for name, rates in tries.items()}
    launches_per_s = highest.pop("launch_us", None)
    return Peaks(
        device=device,
        threads=threads,
        bytes_per_s=highest.pop("bytes_per_s", None),
        pcie_bytes_per_s=highest.pop("pcie_bytes_per_s", None),
        launch_us=1e6 / launches_per_s if launches_per_s else None,
        macs_per_s=highest,
        tries=tries,
        reasons=reasons,
    )


def _tries(calls: dict[str, list[microbenchmarks.Amount]], seconds: float) -> dict[str, list[float]]:
    """Return for each name and round the most that any of its calls did, per second, all being timed in turn."""
    turn_s = seconds / ROUNDS / max(1, sum(map(len, calls.values())))

    def rate(amount: float, call: Callable[[], object]) -> float:
        samples_ns = harness.measure(call, warmup_s=turn_s / 4, min_duration_s=turn_s * 3 / 4, min_samples=2)
        return 1e9 * amount / float(samples_ns.min())

    tries: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, ways in calls.items():
            tries[name].append(max(rate(*way) for way in ways))
    return tries

"""How far from the limit of the machine a timing is: the least work a graph asks for, against measured peaks.

The roofline model: an inference takes at least as long as its arithmetic at the machine's highest rate, and at least as
long as the bytes that must move at its highest bandwidth; the larger bound is the limit (Williams, Waterman, Patterson:
Roofline, an insightful visual performance model for multicore architectures. CACM 52(4), 2009, 65-76). Two more bounds
join them: PCIe for what comes from and goes to the host, and the cost of starting anything at all.

What concerns a GPU was written without one and never ran there.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Literal

import onnx
from onnx import helper

from pipeline import environment, graphs, precisions
from pipeline.artifacts.results import Limit, Peaks
from pipeline.errors import first_line
from pipeline.graphs import arithmetic
from pipeline.measuring import clock
from pipeline.measuring.limits import microbenchmarks
from pipeline.tensors import Device, TensorSpec

Bound = Literal["compute", "memory", "pcie", "launch"]

ROUNDS = 3
"""How often each peak is tried: a burst of other load then does not hit all tries of one."""


@dataclass(frozen=True)
class Work:
    """The least that an inference has to do; None where a dimension other than the batch is dynamic, or, for `macs`,
    a product is inside a Loop, Scan or If.

    `macs` are the multiply-accumulates of one sample, by the precision (pipeline.precisions) in which they are done.
    `weight_bytes` move once a call, in the types in which the graph stores them; `input_bytes` and `output_bytes` once
    a sample. What flows between the layers is left out: it may stay in the cache.
    """

    macs: dict[str, int] | None
    weight_bytes: int
    input_bytes: int | None
    output_bytes: int | None


def work(model: onnx.ModelProto, *, allow_tf32: bool = False) -> Work:
    """Count what one inference must do at least.

    Only `arithmetic.COMPUTE_OPS` count as arithmetic, so other operators make the bound lower, never wrong.
    With `allow_tf32` the graph's FP32 products are done in TF32. A graph with a fixed batch is counted per sample too.
    """
    names = {(found.compute_type, found.allow_tf32): found.name for found in map(precisions.get, precisions.NAMES)}
    shapes = arithmetic.shapes(model)
    inputs, outputs = graphs.inputs(model), graphs.outputs(model)
    first = shapes[inputs[0].name] if inputs else None
    batch = first[0] if first else 1  # 1 where it is dynamic

    def sample_bytes(specs: Iterable[TensorSpec]) -> int | None:
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


def share(work: Work, batch: int, p50_us: float, peaks: Peaks, mode: str) -> Limit | None:
    """Return the limit of an inference of `batch` samples, in µs, and the share of it that `p50_us` reaches.

    `limit` is the largest of the bounds known: `compute_us` (precisions one after another), `memory_us`, `pcie_us` (the
    larger direction, for PCIe carries both at once; only of `end_to_end` on a GPU) and `launch_us`; each is None where
    it is unknown, and so is the result where all are.

    A share above 1 is left to be seen. It says that the work is less than counted, or the peak not the machine's: small
    weights stay in the cache and do not move; Winograd and FFT convolutions do fewer multiplications than are counted;
    a library may reach more than the matrix product by which the peak was measured; other load at that moment.
    """
    compute = memory = pcie = None
    if work.macs is not None and all(peaks.macs_per_s.get(name) for name in work.macs):
        compute = sum(1e6 * batch * macs / peaks.macs_per_s[name] for name, macs in work.macs.items())
    if work.input_bytes is not None and work.output_bytes is not None:
        if peaks.bytes_per_s:
            moved = work.weight_bytes + batch * (work.input_bytes + work.output_bytes)
            memory = 1e6 * moved / peaks.bytes_per_s
        if peaks.pcie_bytes_per_s and Device.parse(peaks.device).kind == "cuda" and mode == "end_to_end":
            pcie = 1e6 * batch * max(work.input_bytes, work.output_bytes) / peaks.pcie_bytes_per_s
    bounds: dict[Bound, float | None] = {
        "compute": compute,
        "memory": memory,
        "pcie": pcie,
        "launch": peaks.launch_us,
    }
    known = {name: bound for name, bound in bounds.items() if bound is not None}
    if not known:
        return None
    limit = max(known, key=known.__getitem__)
    return Limit(
        limit=limit,
        limit_us=known[limit],
        share=known[limit] / p50_us,
        compute_us=compute,
        memory_us=memory,
        pcie_us=pcie,
        launch_us=peaks.launch_us,
    )


def measure(device: str, types: Iterable[str], threads: int | None = None, seconds: float = 1.0) -> Peaks:
    """Measure this machine's peaks, for `seconds` and the setting up; the fastest call of each counts.

    `device` is an address, `cpu` or `cuda:0`, `types` are the precisions wanted, `threads` those of a CPU (None: ONNX
    Runtime's choice, and one a core to copy). Matrix products run through the `onnxruntime` backend, as the models do.
    What cannot be measured has its reason in the result; nothing is raised.
    """
    calls: dict[str, list[microbenchmarks.Amount]] = {}
    reasons: dict[str, str] = {}
    kind = Device.parse(device).kind
    with ExitStack() as stack:
        for name in dict.fromkeys(types):
            if reason := microbenchmarks.no_product(kind, name):
                reasons[name] = reason
                continue
            for edge in microbenchmarks.edges(kind, threads):
                try:
                    product = microbenchmarks.product(stack, kind, name, edge, threads)
                except Exception as error:  # the backend's, or ONNX Runtime's own: the larger size may not fit a GPU
                    reasons[name] = first_line(error)
                else:
                    calls.setdefault(name, []).append(product)
        if kind == "cpu":
            calls["bytes_per_s"] = [microbenchmarks.host_copy(stack, threads or environment.cpu_count())]
            reasons["pcie_bytes_per_s"] = "a CPU's memory is not behind PCIe"
            reasons["launch_us"] = "on a CPU, the p50 of the null backend"
        else:
            cuda, why = microbenchmarks.cuda_calls(stack)
            calls |= {name: [call] for name, call in cuda.items()}
            reasons |= why
        tries = _tries(calls, seconds)
    known = {name: reason for name, reason in reasons.items() if name not in tries}
    return _peaks(device, threads if kind == "cpu" else None, tries, known)


def best(first: Peaks, second: Peaks) -> Peaks:
    """Return the higher of two measurements of one machine: before and after a benchmark, one may meet other load."""
    names = dict.fromkeys([*first.tries, *second.tries])
    tries = {name: [*first.tries.get(name, ()), *second.tries.get(name, ())] for name in names}
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
        tries={name: tuple(rates) for name, rates in tries.items()},
        reasons=reasons,
    )


def _tries(calls: dict[str, list[microbenchmarks.Amount]], seconds: float) -> dict[str, list[float]]:
    """Return for each name and round the most that any of its calls did, per second, all being timed in turn."""
    turn_s = seconds / ROUNDS / max(1, sum(map(len, calls.values())))

    def rate(amount: float, call: Callable[[], object]) -> float:
        samples_ns = clock.measure(call, warmup_s=turn_s / 4, min_duration_s=turn_s * 3 / 4, min_samples=2)
        return 1e9 * amount / float(samples_ns.min())

    tries: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, ways in calls.items():
            tries[name].append(max(rate(*way) for way in ways))
    return tries

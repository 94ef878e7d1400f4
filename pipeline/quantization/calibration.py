"""Finding the ranges of activations on real samples: which samples, what they show, and which method reads it best.

Calibration decides how good an 8-bit engine can be. So it takes samples of the training split only, the same number of
each class, or of another group that the task knows, and says which; random data, or samples by which the engine will be
judged, are refused. One pass over them serves every method and every precision; the method chosen is the one whose
graph errs least on the validation split.
"""

import contextlib
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

import ml_dtypes
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper
from onnxruntime.quantization.calibrate import HistogramCollector

from pipeline import graphs
from pipeline.artifacts.engine import ActivationRange, CalibrationRecord
from pipeline.data import Dataset, Split, inspection
from pipeline.errors import BuildError, DataError
from pipeline.graphs import files, placement, quantize
from pipeline.judging.yardstick import Yardstick
from pipeline.runners import inference
from pipeline.tensors import Array, Outputs, fixed_batch

BINS = 2048
"""Bins of an activation's histogram. ONNX Runtime's own 128 leave its entropy method a single threshold to choose."""

LEVELS = 128
"""What the method `entropy` tells apart: the magnitudes of INT8."""

PERCENTILE = 99.999
"""The share in % of an activation's values that the method `percentile` represents: ONNX Runtime's default."""

_FP8 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
FP8_SPREAD = float(np.std(_FP8[np.isfinite(_FP8)]))
"""Standard deviation of all E4M3FN numbers, 100.06: the method `distribution` maps an activation's onto it."""


@dataclass(frozen=True)
class Samples:
    """Samples known to be of the training split, the SHA-256 of each one's inputs, and the group of each, if any."""

    split: Split
    digests: tuple[str, ...]
    groups: Array | None = None


def admit(split: Split, dataset: Dataset) -> Samples:
    """Return the samples, every one of which must be in the dataset's training split and in no other.

    Raises:
        DataError: a sample is not of the training split, as random data never is, or is one the engine is judged by.
    """
    _refuse_random(dataset)
    found = _hex(inspection.look(split.inputs, {}, "calibration samples").samples)
    strangers = len(set(found) - set(_hex(dataset.seen["train"].samples)))
    if strangers or not found:
        raise DataError(
            f"{strangers} of {len(found)} calibration samples are not in the training split",
            "Ranges found on made-up data do not fit real data. Calibrate with samples of the training split.",
        )
    seen = len(set(found) & _held_out(dataset))
    if seen:
        raise DataError(
            f"{seen} of {len(found)} calibration samples are in the validation or test split as well",
            "The engine would be judged on what it was fitted to. Calibrate with other samples.",
        )
    return Samples(split, found)


def draw(dataset: Dataset, count: int, seed: int, groups: Array | None = None) -> Samples:
    """Return `count` samples of the training split, as many of each group as can be; the same ones for the same seed.

    `groups` has the group of each training sample, see `strata`. One with too few gives all it has, and the others make
    up for it. Samples that the validation or test split has as well are passed over.

    Raises:
        DataError: there are fewer than `count` samples to choose from, or the data are random.
    """
    _refuse_random(dataset)
    train, held_out = dataset.train, _held_out(dataset)
    digests = _hex(dataset.seen["train"].samples)
    own = [i for i, digest in enumerate(digests) if digest not in held_out]
    if not 0 < count <= len(own):
        raise DataError(
            f"calibration needs {count} samples from the training split, which has only {len(own)}",
            "Set engine.calibration_samples to at least 1 and at most that.",
        )
    order = np.random.default_rng(seed).permutation(own)
    if groups is not None:
        turn = np.empty(len(order), np.intp)  # the first of every group, then the second of every group, and so on
        for group in np.unique(groups):
            members = np.flatnonzero(groups[order] == group)
            turn[members] = np.arange(len(members))
        order = order[np.argsort(turn, kind="stable")]
    chosen = order[:count]
    return Samples(train.take(chosen), tuple(digests[i] for i in chosen), None if groups is None else groups[chosen])


def strata(yardsticks: Sequence[Yardstick], split: Split) -> Array | None:
    """Return the group of each sample by the first output whose task has groups; None where none has."""
    for one in yardsticks:
        if one.labels and one.output in split.targets:
            groups = one.task.strata(split.targets[one.output])
            if groups is not None:
                return groups
    return None


def _refuse_random(dataset: Dataset) -> None:
    if dataset.random:
        raise DataError(
            "nothing can be calibrated on random inputs (data.source=random): the ranges found would not fit real data",
            "Leave out the precisions that calibrate (--set engine.precisions=fp32,fp16), or give data.",
        )


def _held_out(dataset: Dataset) -> set[str]:
    return {*_hex(dataset.seen["validation"].samples), *_hex(dataset.seen["test"].samples)}


def _hex(samples: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(one.tobytes().hex() for one in samples)


class Activation:
    """What one tensor showed: its extremes, and how its values spread over `BINS` equal bins from -limit to limit."""

    def __init__(self) -> None:
        self.lowest, self.highest = np.inf, -np.inf
        self.limit = 0.0
        self.counts = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        """Count more values, of any shape.

        Where they do not fit, the limit doubles and bins are joined in pairs, so that memory stays the same however
        large an outlier, and no count is lost.

        Raises:
            BuildError: a value is NaN or Inf.
        """
        low, high = float(values.min()), float(values.max())
        if not isfinite(low) or not isfinite(high):
            raise BuildError("the FP32 graph itself computes NaN or Inf on a calibration sample")
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
        self.limit = self.limit or self.largest or float(np.finfo(np.float32).tiny)
        while self.limit < self.largest:
            outer = np.zeros(BINS // 4, np.int64)
            self.counts = np.concatenate([outer, self.counts.reshape(-1, 2).sum(1), outer])
            self.limit *= 2
        self.counts += np.histogram(values, BINS, (-self.limit, self.limit))[0]

    @property
    def largest(self) -> float:
        """The largest magnitude."""
        return max(-self.lowest, self.highest)

    def histogram(self) -> tuple[NDArray[np.int64], NDArray[np.float32], np.float32, np.float32, np.float32]:
        """Return counts, edges, lowest, highest and limit as ONNX Runtime has them, without the empty outer bins."""
        width = 2 * self.limit / BINS
        half = min(max(ceil(self.largest / width), LEVELS), BINS // 2)
        edges = np.linspace(-half * width, half * width, 2 * half + 1, dtype=np.float32)
        counts = self.counts[BINS // 2 - half : BINS // 2 + half]
        return counts, edges, np.float32(self.lowest), np.float32(self.highest), edges[-1]


def unoptimised(model: ModelProto) -> Any:
    """Return a session of ONNX Runtime on the CPU that runs a graph as it is written, whatever its outputs are."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with files.loadable(model) as loadable:
        return onnxruntime.InferenceSession(loadable, options, ["CPUExecutionProvider"])


def observe(model: ModelProto, samples: Split, batch: int = 32) -> dict[str, Activation]:
    """Run the FP32 graph on samples, `batch` at a time, and return what each tensor to be quantised showed.

    Raises:
        BuildError: the FP32 graph itself computes NaN or Inf.
    """
    seen = {name: Activation() for name in placement.activations(model)}
    fed = [spec.name for spec in graphs.inputs(model)]
    watched = ModelProto()
    watched.CopyFrom(model)
    present = {*fed, *(value.name for value in model.graph.output)}
    for name in (name for name in seen if name not in present):
        watched.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = unoptimised(watched)
    del watched  # as large as its weights
    names = [name for name in seen if name not in fed]
    fixed = fixed_batch(graphs.inputs(model))
    for which in samples.slices(fixed or batch):
        feed = inference.filled(samples.feed(which), fixed or 1)
        found = {**feed, **(dict(zip(names, session.run(names, feed), strict=True)) if names else {})}
        for name, activation in seen.items():
            activation.add(found[name])
    return seen


def ranges(seen: Mapping[str, Activation], method: str) -> dict[str, float]:
    """Return the largest magnitude to be represented of each activation, by one of the methods.

    - `minmax`: the largest one seen
    - `entropy`: the cut after which 128 levels keep most information (S. Migacz, 8-bit inference with TensorRT, 2017)
    - `percentile`: the cut that `PERCENTILE` % of the values are within
    - `distribution`: the one that maps the standard deviation onto that of FP8's numbers; for FP8 only
    """
    if method == "minmax":
        return {name: activation.largest for name, activation in seen.items()}
    collector = HistogramCollector(method, False, BINS, LEVELS, PERCENTILE, "same")
    collector.histogram_dict = {name: activation.histogram() for name, activation in seen.items()}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        found = collector.compute_collection_result()
    if method == "distribution":
        return {name: quantize.FP8.largest * float(data.std) / FP8_SPREAD for name, data in found.items()}
    return {name: float(max(-low, high)) for name, (low, high, *_) in found.items()}


def choose(methods: Iterable[str], error: Callable[[str], float]) -> tuple[str, dict[str, float]]:
    """Return the method of the least error, the first among equals, and the error of every one.

    `error` rewrites the graph with a method's ranges and measures it on the validation split.

    Raises:
        BuildError: no method's error is a number.
    """
    errors = {method: error(method) for method in methods}
    if not any(map(isfinite, errors.values())):
        raise BuildError(f"no calibration method gives a graph with finite outputs: {errors}")
    return min(errors, key=lambda method: errors[method] if isfinite(errors[method]) else np.inf), errors


def relative_error(reference: Outputs, candidate: Outputs) -> float:
    """Return the mean squared difference of outputs over the mean square of the reference, their mean; no unit."""
    errors = []
    for name, rows in reference.items():
        wide = rows.astype(np.float64)
        size = float(np.mean(wide**2))
        errors.append(float(np.mean((candidate[name] - wide) ** 2)) / (size or 1.0))
    return float(np.mean(errors))


def record(
    samples: Samples, seen: Mapping[str, Activation], seed: int, method: str, errors: Mapping[str, float]
) -> CalibrationRecord:
    """Return what the engine record says of a calibration."""
    amax = ranges(seen, method)
    groups = sorted(Counter([] if samples.groups is None else samples.groups.tolist()).items())
    return CalibrationRecord(
        method=method,
        validation_error=dict(errors),
        seed=seed,
        samples=len(samples.split),
        samples_sha256=hashlib.sha256("".join(samples.digests).encode()).hexdigest(),
        sample_sha256=samples.digests,
        strata={str(group): count for group, count in groups},
        activations={
            name: ActivationRange(lowest=one.lowest, highest=one.highest, amax=amax[name]) for name, one in seen.items()
        },
    )

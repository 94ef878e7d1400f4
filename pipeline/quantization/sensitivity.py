"""Where a precision loses accuracy, by Keras layer, and the smallest set of layers to keep in FP32.

Every tensor of the typed graph is compared with FP32's. Then each layer alone is returned to FP32, which ranks them by
the error that wins back. Then layers are added in that order until the verdict is `pass`, and those without which it
stays so are dropped. The samples are run once a layer for the ranking, and at most twice for the set.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from pipeline import precisions
from pipeline.artifacts.parity import Comparison
from pipeline.artifacts.sensitivity import LayerGroup, LayerSensitivity, Trial
from pipeline.data import Split
from pipeline.errors import BuildError, ConfigError
from pipeline.graphs import control_flow
from pipeline.graphs.keras_layers import Group, groups
from pipeline.judging.choosing import Choosing
from pipeline.judging.comparing import compare
from pipeline.judging.yardstick import Yardstick
from pipeline.precisions import Calibrated, Precision
from pipeline.quantization import divergence
from pipeline.runners import inference
from pipeline.tensors import Outputs

LARGEST = {"FLOAT16": 65504.0}
"""The largest number a precision's tensors can hold. BF16 has FP32's range; what is quantised is cut at its own."""

EXACT = frozenset(
    {"Cast", "Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GlobalMaxPool", "Identity", "MaxPool", "Neg"}
    | {"Pad", "Relu", "Reshape", "Shape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"}
)
"""Operators that round nothing, so that they win nothing when they alone return to FP32."""

Progress = Callable[[int, int, str], None]
"""Called with steps done, of how many, and which: `tensors` compared, `layers` tried alone, `search` for the set."""


def output_error(reference: Outputs, candidate: Outputs) -> float:
    """Return how far two models' outputs [samples, …] are apart, 0 to 1; a sample with NaN or Inf counts as 1.

    The mean over the samples of Σ|c − r| / Σ(|c| + |r|) (Bray and Curtis, Ecological Monographs 27, 1957), which is the
    total variation distance where the scores are probabilities.
    """
    finite = finite_samples(candidate)
    apart, size = np.zeros((2, len(finite)))
    with np.errstate(invalid="ignore", over="ignore"):  # such samples count as 1
        for name, rows in reference.items():
            left, right = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (rows, candidate[name]))
            apart += np.abs(left - right).sum(axis=1)
            size += (np.abs(left) + np.abs(right)).sum(axis=1)
        share = apart / np.where(size > 0, size, 1)
    return float(np.where(finite, share, 1.0).mean())


def finite_samples(found: Outputs) -> NDArray[np.bool_]:
    """Tell of each sample whether all its outputs are numbers."""
    each = [np.isfinite(rows.reshape(len(rows), -1)).all(axis=1) for rows in found.values()]
    return np.asarray(np.logical_and.reduce(each))


@dataclass(frozen=True)
class _Trial:
    """The result of keeping some layers in FP32; `non_finite` counts samples."""

    error: float
    non_finite: int
    comparison: Comparison

    @property
    def passed(self) -> bool:
        return self.comparison.verdict == "pass"

    def record(self, reason: str = "") -> Trial:
        return Trial(
            verdict=self.comparison.verdict,
            error=self.error,
            loss={one.output: one.loss for one in self.comparison.outputs},
            non_finite=self.non_finite,
            reason=reason or self.comparison.reason,
        )


@dataclass(frozen=True)
class _Unit:
    """Layers to be tried together: one, or several between which pass numbers too large for the precision."""

    groups: tuple[Group, ...]
    overflows: bool
    trial: _Trial | None = None

    def record(self, baseline: _Trial) -> LayerGroup:
        error = self.trial.error if self.trial else None
        won = 1 - error / baseline.error if error is not None and baseline.error else 0.0
        return LayerGroup(
            layers=tuple(group.name for group in self.groups),
            nodes=tuple(node for group in self.groups for node in group.nodes),
            overflows=self.overflows,
            error_alone=error,
            won_back=max(won, 0.0),
            verdict=self.trial.comparison.verdict if self.trial else "skipped",
        )


@dataclass(frozen=True)
class Evaluator:
    """Judges one model's typed graphs, whatever they keep in FP32, on the same samples.

    `model` is the exported FP32 graph, left as it is; `calibrated` what the precision's calibration
    found; `samples` those to judge by; `choosing` decides on the task of each output; `batch` samples per
    inference.
    """

    model: ModelProto
    precision: Precision
    calibrated: Calibrated
    samples: Split
    choosing: Choosing
    batch: int = 64

    @cached_property
    def reference(self) -> Outputs:
        """FP32's outputs."""
        found = inference.outputs(self.model, precisions.get("fp32"), self.samples, self.batch)
        if not finite_samples(found).all():
            raise BuildError("the FP32 graph itself computes NaN or Inf", "There is nothing to compare with.")
        return found

    @cached_property
    def yardsticks(self) -> tuple[Yardstick, ...]:
        """By what each output is judged."""
        return self.choosing.yardsticks(self.reference, self.samples.targets)

    @cached_property
    def _rounding(self) -> frozenset[str]:
        return self.precision.rounding(self.model)

    def trial(self, kept: Iterable[Group] = ()) -> _Trial | None:
        """Judge the graph that keeps these layers in FP32; None where no product would be left to the precision."""
        keep = {node for group in kept for node in group.nodes}
        if keep.issuperset(self._rounding):
            return None
        typed = self.precision.apply(self.model, keep, self.calibrated.amax, self.calibrated.shifts)
        found = inference.outputs(typed, self.precision, self.samples, self.batch)
        comparison = compare(self.yardsticks, self.reference, found, self.precision.tolerance)
        return _Trial(output_error(self.reference, found), int((~finite_samples(found)).sum()), comparison)


def localise(
    evaluator: Evaluator, *, layers: Collection[str], model_sha256: str, progress: Progress = lambda *_: None
) -> LayerSensitivity:
    """Find where a precision loses accuracy on some samples, and the layers to keep in FP32 that bring it back.

    Args:
        evaluator: of the model, its precision and the samples.
        layers: the model's, by `keras_layers.keras_layer_names`.
        model_sha256: of the exported FP32 graph, for the record.
        progress: see `Progress`.

    Returns:
        `keep_fp32` lists the layers: none where the precision is within its budget as it is, and None itself where no
        set of layers found brings it there; `result` says why.

    Raises:
        ConfigError: the precision computes FP32's own graph.
        BuildError: the graph cannot be made in this precision, or computes NaN or Inf in FP32.
    """
    model, precision = evaluator.model, evaluator.precision
    if not precision.rewrites:
        raise ConfigError(f"{precision.name} uses FP32's own graph: no layer can be kept in FP32 separately")
    typed = precision.apply(model, (), evaluator.calibrated.amax, evaluator.calibrated.shifts)
    baseline = evaluator.trial()
    assert baseline is not None, "apply found a product"
    runnable = precision.emulate(typed) if precision.emulate else typed
    differences = divergence.measure(
        model, runnable, evaluator.samples, lambda done, total: progress(done, total, "tensors")
    )
    found = groups(model, layers)
    units = _units(model, precision, found, {name: one.largest for name, one in differences.items()})
    ranked = _ranked(evaluator, units, progress)
    kept, result = _search(evaluator, baseline, ranked, progress)
    layer_of = {node: group.name for group in found for node in group.nodes}
    home = {name: layer_of[node.name] for node in model.graph.node for name in node.output}
    return LayerSensitivity(
        model_sha256=model_sha256,
        precision=precision.name,
        samples=len(evaluator.samples),
        outputs=tuple(one.record for one in evaluator.yardsticks),
        baseline=baseline.record(),
        tensors=tuple(one.record(name, home[name]) for name, one in differences.items()),
        groups=tuple(unit.record(baseline) for unit in ranked),
        keep_fp32=None if kept is None else tuple(group.name for group in kept),
        result=result,
    )


def _units(model: ModelProto, precision: Precision, found: list[Group], largest: Mapping[str, float]) -> list[_Unit]:
    """Return the layers in which the precision rounds, in the graph's order: if quantised, in products alone.

    Where a tensor is larger than the precision can hold, a layer returned to FP32 alone wins nothing: its result is
    Inf again at the border. So all layers that write or read such a tensor make one unit.
    """
    limit = LARGEST.get(precision.compute_type, np.inf)
    home = {node: i for i, group in enumerate(found) for node in group.nodes}
    unit = list(range(len(found)))  # of each layer: the first one that it makes a unit with
    overflowing: set[int] = set()
    for tensor in (name for name, magnitude in largest.items() if magnitude > limit):
        touching = {
            unit[home[node.name]]
            for node in model.graph.node
            if tensor in node.output or tensor in control_flow.read_by(node)
        }
        unit = [min(touching) if one in touching else one for one in unit]
        overflowing.add(min(touching))
    quantised = precision.rounding(model)
    rounding = {
        home[node.name]
        for node in model.graph.node
        if (node.name in quantised if precision.calibrations else node.op_type not in EXACT)
    }
    units = []
    for lead in sorted(set(unit)):
        members = [i for i, one in enumerate(unit) if one == lead]
        if rounding.intersection(members):
            units.append(_Unit(tuple(found[i] for i in members), not overflowing.isdisjoint(members)))
    return units


def _ranked(evaluator: Evaluator, units: list[_Unit], progress: Progress) -> list[_Unit]:
    """Try each unit alone, and return them by their error, the least first.

    Where two overflow, neither wins anything alone: among equals these come first, and then the graph's order holds.
    """
    tried = []
    for i, unit in enumerate(units, 1):
        tried.append(replace(unit, trial=evaluator.trial(unit.groups)))
        progress(i, len(units), "layers")
    return sorted(tried, key=lambda unit: (unit.trial.error if unit.trial else np.inf, not unit.overflows))


def _search(
    evaluator: Evaluator, baseline: _Trial, ranked: list[_Unit], progress: Progress
) -> tuple[list[Group] | None, Trial]:
    """Add units in their order until the verdict is `pass`, then drop every layer without which it stays so.

    Returns the layers in the order they were added, or None, and the result.
    """
    kept: list[Group] = []
    best = baseline
    for i, unit in enumerate(ranked, 1):
        if best.passed:
            break
        trial = evaluator.trial([*kept, *unit.groups]) if kept else unit.trial
        if trial:  # else the last product would leave the precision: the next unit may do without it
            kept, best = [*kept, *unit.groups], trial
        progress(i, len(ranked), "search")
    if not best.passed:
        reason = f"no set of layers was found that is enough; with {len(kept)} in FP32: {best.comparison.reason}"
        return None, best.record(reason)
    added = tuple(kept)
    for i, group in enumerate(reversed(added), 1):
        rest = [one for one in kept if one is not group]
        trial = evaluator.trial(rest) if rest else None
        if trial and trial.passed:
            kept, best = rest, trial
        progress(i, len(added), "search")
    return kept, best.record()

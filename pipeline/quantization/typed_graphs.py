"""The typed graph of each precision for one model: calibrated, with layers kept in FP32, and judged before it is built.

Methods and layers are chosen on the validation split; the test split is left for the validate stage, which would
otherwise report the accuracy of what was chosen for its accuracy there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import onnx

from pipeline import data, graphs, precisions
from pipeline.artifacts.dataset import DatasetRecord
from pipeline.artifacts.engine import CalibrationRecord, GraphArithmetic
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import Comparison
from pipeline.artifacts.sensitivity import LayerSensitivity
from pipeline.artifacts.store import Published
from pipeline.config import AUTO, Config
from pipeline.data import Dataset, Split
from pipeline.graphs import arithmetic as graph_arithmetic
from pipeline.graphs import keras_layers, quantize
from pipeline.judging.choosing import Choosing
from pipeline.judging.comparing import compare
from pipeline.judging.yardstick import Yardstick
from pipeline.precisions import SCALES, Calibrated, Precision
from pipeline.quantization import bias_correction, calibration, sensitivity
from pipeline.runners import inference
from pipeline.tensors import Outputs

METHOD_SAMPLES = 1000
"""Validation samples by which calibration methods are compared: their errors differ by factors, not by percents."""

JUDGE_BATCH = 64


@dataclass(frozen=True)
class TypedGraph:
    """A precision's graph, and what the engine record says of it."""

    model: onnx.ModelProto
    arithmetic: GraphArithmetic
    calibration: CalibrationRecord | None
    keep_fp32: tuple[str, ...]
    """Keras layers kept in FP32."""
    comparison: Comparison | None
    """Against FP32 on the validation split, where the configuration has the engine stage judge."""
    precision: Precision
    """As it was configured."""
    nothing_pays: bool = False
    """Whether TensorRT's rules leave nothing to quantise, so that everything is."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Products that are not quantised, and why."""
    in_fp32: Mapping[str, str] = field(default_factory=dict)
    """Nodes that compute in FP32 all the same, and why."""
    cpu: onnx.ModelProto | None = None
    """The same products with the rest in FP32, where a CPU needs that."""


class Rewriter:
    """Rewrites one exported model. The data are loaded, and the calibration is run, only where a precision needs it."""

    def __init__(
        self,
        exported: onnx.ModelProto,
        dataset: Callable[[], Dataset],
        layers: list[str],
        config: Config,
        say: Callable[[str], None],
        exported_sha256: str = "",
    ) -> None:
        self.exported, self.layers, self._sha256 = exported, layers, exported_sha256
        self._load, self._say = dataset, say
        self._options, self._validate = config.engine, config.validate_

    @classmethod
    def of(cls, published: Published, config: Config, say: Callable[[str], None]) -> "Rewriter":
        """Return what makes the typed graphs of the published model."""
        model = published.read(ModelRecord)
        exported = graphs.load(published.path("export/model.onnx"))
        return cls(
            exported,
            lambda: data.reload(published.read(DatasetRecord), model.signature, config.data),
            # What is no Keras model has no layers: its nodes stand for them.
            list(model.layers) or [node.name for node in exported.graph.node],
            config,
            say,
            published.sha256("export/model.onnx"),
        )

    @cached_property
    def dataset(self) -> Dataset:
        """The model's own data."""
        return self._load()

    @cached_property
    def _samples(self) -> calibration.Samples:
        count = min(self._options.calibration_samples, len(self.dataset.train))
        few = self._choosing.yardsticks(self._method_reference, self._method_samples.targets)
        groups = calibration.strata(few, self.dataset.train)
        return calibration.draw(self.dataset, count, self._options.calibration_seed, groups)

    @cached_property
    def _choosing(self) -> Choosing:
        return Choosing(self.dataset.record(), self._validate.task, self._validate.budget)

    @cached_property
    def yardsticks(self) -> tuple[Yardstick, ...]:
        """By what each output is judged on the validation split."""
        return self._choosing.yardsticks(self._reference, self.dataset.validation.targets)

    @cached_property
    def _seen(self) -> dict[str, calibration.Activation]:
        self._say(
            f"calibrating on {len(self._samples.split)} training samples"
            f"{'' if self._samples.groups is None else ', equally many of each group where possible'}"
        )
        return calibration.observe(self.exported, self._samples.split)

    @cached_property
    def _reference(self) -> Outputs:
        """FP32's outputs of the validation split."""
        return self._outputs(self.exported, precisions.get("fp32"))

    @cached_property
    def _method_reference(self) -> Outputs:
        """FP32's outputs of the samples by which calibration methods are compared."""
        return inference.outputs(self.exported, precisions.get("fp32"), self._method_samples, JUDGE_BATCH)

    @cached_property
    def _method_samples(self) -> Split:
        return self.dataset.validation.take(slice(METHOD_SAMPLES))

    def typed(self, precision: Precision) -> TypedGraph:
        """Return the precision's graph as the configuration asks for.

        Raises:
            BuildError: the graph cannot be built in this precision.
            ConfigError: `engine.keep_fp32` names a layer that the model does not have.
        """
        auto = AUTO in self._options.keep_fp32
        if self._options.keep_fp32 and not auto and precision.allow_tf32:
            self._say(f"{precision.name}: engine.keep_fp32 has no effect: TF32 is one flag for the whole engine")
        keep = () if auto or not precision.rewrites else self._options.keep_fp32
        precision, nothing_pays = self._configured(precision, self._nodes(keep))
        typed = self._typed(precision, keep)
        if auto and precision.rewrites and typed.comparison and typed.comparison.verdict == "fail":
            self._say(f"{precision.name}: {typed.comparison.reason}; looking for the layers to keep in FP32")
            found = self.localise(precision)
            if found.keep_fp32:
                self._say(f"{precision.name}: keeps {', '.join(found.keep_fp32)} in FP32")
                typed = self._typed(precision, tuple(found.keep_fp32))
            else:
                self._say(f"{precision.name}: {found.result.reason}")
        return replace(typed, nothing_pays=nothing_pays)

    def _nodes(self, layers: tuple[str, ...]) -> frozenset[str]:
        return keras_layers.resolve(self.exported, layers, self.layers) if layers else frozenset()

    def _configured(self, precision: Precision, keep: frozenset[str] = frozenset()) -> tuple[Precision, bool]:
        """Return an 8-bit precision as it is asked for, and whether nothing that is not kept is worth quantising.

        Then everything is quantised: it was asked for by name, and no one is told that it is faster.
        """
        asked = precision.configured(self._options.remainder, self._options.placement)
        if asked.form is None or asked.placement == "all":
            return asked, False
        left_out = asked.left_out(self.exported)
        reached = {one.home.name for one in graph_arithmetic.typed_products(self.exported) if asked.reaches(one)}
        if not reached - keep or reached - keep - set(left_out):
            return asked, False
        reasons = "; ".join(dict.fromkeys(left_out.values()))
        self._say(
            f"{precision.name}: no product is worth quantising for TensorRT ({reasons}): every one is quantised, since "
            f"{precision.name} was asked for, and fp16 is likely as fast"
        )
        return asked.configured(self._options.remainder, "all"), True

    def _typed(self, precision: Precision, keep_layers: tuple[str, ...]) -> TypedGraph:
        keep = self._nodes(keep_layers)
        found, record = self._calibrated(precision, keep)
        model = precision.apply(self.exported, keep, found.amax, found.shifts)
        cpu = None
        if precision.form is not None and precision.remainder != "fp32" and precision.cpu_computes:
            cpu = precision.configured("fp32", precision.placement).apply(self.exported, keep, found.amax, found.shifts)
        comparison = None
        if self._options.judges:
            outputs = self._outputs(model, precision)
            comparison = compare(self.yardsticks, self._reference, outputs, precision.tolerance)
        return TypedGraph(
            model=model,
            arithmetic=graph_arithmetic.summary(model),
            calibration=record,
            keep_fp32=keep_layers,
            comparison=comparison,
            precision=precision,
            left_out=precision.left_out(self.exported),
            in_fp32=precision.in_fp32(model, keep),
            cpu=cpu,
        )

    def _calibrated(self, precision: Precision, keep: frozenset[str]) -> tuple[Calibrated, CalibrationRecord | None]:
        """Return the range of each activation by the method that errs least, shifts of biases, and the record of both.

        Biases are corrected in INT8, and only where that lowers the error on the validation split.
        """
        if precision.form is None:
            return Calibrated(), None

        def error(found: Calibrated) -> float:
            candidate = precision.apply(self.exported, keep, found.amax, found.shifts)
            outputs = inference.outputs(candidate, precision, self._method_samples, JUDGE_BATCH)
            return calibration.relative_error(self._method_reference, outputs)

        method, errors = calibration.choose(
            precision.calibrations, lambda method: error(Calibrated(calibration.ranges(self._seen, method)))
        )
        self._say(f"{precision.name}: ranges by {method}, the least error of {len(errors)} methods")
        record = calibration.record(self._samples, self._seen, self._options.calibration_seed, method, errors)
        found = Calibrated(calibration.ranges(self._seen, method))
        if precision.form is not quantize.INT8:
            return found, record
        leave = keep.union(precision.left_out(self.exported))
        scales = SCALES[precision.remainder]
        shifts = bias_correction.shifts(self.exported, precision.form, found.amax, leave, scales, self._samples.split)
        corrected = found._replace(shifts=shifts)
        after = error(corrected) if shifts else None
        record = record.model_copy(update={"bias_error": after})
        if after is None or not after < errors[method]:
            return found, record
        self._say(f"{precision.name}: biases corrected, error {errors[method]:.3g} → {after:.3g}")
        return corrected, record.model_copy(update={"biases_corrected": tuple(shifts)})

    def _outputs(self, model: onnx.ModelProto, precision: Precision) -> Outputs:
        return inference.outputs(model, precision, self.dataset.validation, JUDGE_BATCH)

    def localise(
        self,
        precision: Precision,
        samples: int | None = None,
        progress: Callable[[int, int, str], None] = lambda *_: None,
    ) -> LayerSensitivity:
        """Find where the precision loses accuracy, by Keras layer, and the smallest set of layers that recovers it.

        Looks at all validation samples, or the first `samples` of them. See `pipeline.quantization.sensitivity`.
        """
        precision, _ = self._configured(precision)
        found, _ = self._calibrated(precision, frozenset())
        evaluator = sensitivity.Evaluator(
            model=self.exported,
            precision=precision,
            calibrated=found,
            samples=self.dataset.validation.take(slice(samples)),
            choosing=self._choosing,
            batch=JUDGE_BATCH,
        )
        return sensitivity.localise(evaluator, layers=self.layers, model_sha256=self._sha256, progress=progress)

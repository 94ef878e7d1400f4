"""Numeric formats, one file each; the folder's listing is the registry.

TensorRT 11 takes a network's types as they stand in the graph, so a precision is a rewrite of the ONNX graph, and ONNX
Runtime can measure its accuracy on a CPU. Each module exposes one `PRECISION`. Adding a format is adding a file here.
"""

import typing
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto

from pipeline import graphs, registry
from pipeline.artifacts.engine import GraphArithmetic
from pipeline.errors import BuildError
from pipeline.graphs import arithmetic, biases, cast, control_flow, placement, quantize
from pipeline.graphs.arithmetic import Product
from pipeline.graphs.biases import Floats
from pipeline.graphs.placement import Placement
from pipeline.graphs.quantize import Format
from pipeline.tensors import Tolerance

NAMES = registry.names(__name__)

BITS = {"FLOAT": 32, "FLOAT16": 16, "BFLOAT16": 16, "INT8": 8, "FLOAT8E4M3FN": 8}
"""Bits of a product's operand, by the type in which a node computes; TF32 has 19 of FP32's."""


Remainder = Literal["fp16", "bf16", "fp32"]

SCALES: dict[Remainder, Any] = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
"""The type of an 8-bit graph's scales, by what its remainder computes in."""

SCALED_IN_16_BITS = 19
"""The first operator set in which scales may be narrower than FP32."""


class Calibrated(NamedTuple):
    """What calibration found: the largest magnitude of each activation, and what each product's bias is to lose."""

    amax: Mapping[str, float] = {}
    shifts: Mapping[str, Floats] = {}


FLOATS = frozenset(map(TensorProto.DataType.Name, arithmetic.FLOATS))

Rewrite = Callable[[ModelProto, Collection[str]], ModelProto]
"""FP32 graph, names of the nodes to keep in FP32 → typed graph, a copy."""


@dataclass(frozen=True)
class Precision:
    """One numeric format.

    `compute_type` is the ONNX element type in which every multiply-accumulating node that it `reaches` must compute
    after `rewrite`; the others stay in FP32.
    `rewrite` maps the exported FP32 graph to the typed graph; None where the FP32 graph already is it, or where `form`
    says how it is quantised. `fp32_operators` are those that TensorRT does not build in it.
    `emulate` maps the typed graph to one that rounds alike in FP32, for a CPU that has no such arithmetic; None where
    ONNX Runtime computes the typed graph itself. `cpu_computes` tells whether it has the arithmetic on a CPU
    at all, so that a timing there means something.
    `calibrations` are the methods that can find the ranges of activations for it, the first one preferred among equals;
    empty where it needs none.
    `targets` are the GPU generations that have it, for TensorRT for RTX where the user names none; empty: all.
    Of an 8-bit one, `remainder` is what computes all that is not quantised, and `placement` which products are:
    `configured` sets them.
    """

    name: str
    tolerance: Tolerance
    compute_type: str
    allow_tf32: bool = False
    rewrite: Rewrite | None = None
    form: Format | None = None
    fp32_operators: frozenset[str] = frozenset()
    emulate: Callable[[ModelProto], ModelProto] | None = None
    cpu_computes: bool = True
    calibrations: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    remainder: Remainder = "fp32"
    placement: Placement = "all"
    given: bool = False
    """Whether it is of a graph that came quantised: taken as it is."""

    def configured(self, remainder: Remainder, placement: Placement) -> "Precision":
        """Return an 8-bit precision as `engine.remainder` and `engine.placement` say; another one as it is."""
        if self.form is None:
            return self
        emulate = None if remainder == "fp32" else cast.emulate
        return replace(self, remainder=remainder, placement=placement, emulate=emulate)

    @property
    def rewrites(self) -> bool:
        """Tell whether its graph is another than FP32's."""
        return self.rewrite is not None or self.form is not None

    def reaches(self, product: Product) -> bool:
        """Tell whether the precision can compute a product; `left_out` says which ones it then leaves out."""
        if self.form is not None:
            return quantize.reaches(product)
        return product.node.op_type not in self.fp32_operators

    def left_out(self, model: ModelProto) -> dict[str, str]:
        """Return the products of an FP32 graph that its placement does not quantise, by name, and why."""
        return placement.left_out(model, self.form) if self.form and self.placement == "tensorrt" else {}

    @property
    def bits(self) -> int:
        """The bits of a product's operand where everything computes in this precision."""
        return 19 if self.allow_tf32 else BITS[self.compute_type]

    def mean_bits(self, arithmetic: GraphArithmetic) -> float:
        """Return the bits of an operand, on average over the multiply-accumulates of a typed graph."""
        # Where a dynamic dimension hides how many there are, nodes are counted instead.
        counts: dict[str, float] = dict(arithmetic.mac_share or arithmetic.compute_nodes)
        bits = {kind: 19 if kind == "FLOAT" and self.allow_tf32 else BITS.get(kind, 8) for kind in counts}
        if not sum(counts.values()):
            return float(self.bits)
        return float(sum(bits[kind] * count for kind, count in counts.items()) / sum(counts.values()))

    def left(self, model: ModelProto) -> dict[str, int]:
        """Count the products that this precision does not reach, by operator: "LSTM", or "MatMul inside a Loop"."""
        left = (product for product in arithmetic.typed_products(model) if not self.reaches(product))
        return dict(Counter(f"{one.node.op_type}{one.inside and f' inside a {one.inside}'}" for one in left))

    def in_fp32(self, typed: ModelProto, keep_fp32: Collection[str] = ()) -> dict[str, str]:
        """Return the nodes of a typed graph that compute in FP32, by name, and why; empty where FP32 is what is asked.

        Casts, and what quantises and dequantises, compute nothing.
        """
        rest = self if self.form is None else get(self.remainder)
        if not rest.rewrites:
            return {}
        to = rest.compute_type
        return {
            node.name: "it is kept in FP32"
            if node.name in keep_fp32
            else f"TensorRT for RTX builds no {node.op_type} in {to}"
            if node.op_type in rest.fp32_operators
            else f"ONNX's {node.op_type} does not compute in {to}"
            for node, kind in arithmetic.computing(typed)
            if kind == "FLOAT"
        }

    def rounding(self, model: ModelProto) -> frozenset[str]:
        """Return the names of the graph's nodes of which one at least must not be kept in FP32.

        They are those of the products it reaches, or of the Loop, Scan or If that holds one; without products, all.
        """
        left_out = self.left_out(model)
        reached = (one for one in arithmetic.typed_products(model) if self.reaches(one))
        products = frozenset(one.home.name for one in reached if one.home.name not in left_out)
        return products or frozenset(node.name for node in model.graph.node)

    def apply(
        self,
        model: ModelProto,
        keep_fp32: Collection[str] = (),
        amax: Mapping[str, float] | None = None,
        shifts: Mapping[str, Floats] | None = None,
    ) -> ModelProto:
        """Return the typed graph, checked; the model passed in is left as it was, and is the typed graph in FP32.

        `keep_fp32` names nodes of `model` that stay in FP32. `amax` is the largest magnitude to be represented of each
        activation that `placement.activations(model)` names, and `shifts` what the channels of products are shifted by,
        which their biases then lose; what needs no calibration ignores both.

        Raises:
            BuildError: the graph is typed already; it has no node of a name in `keep_fp32`; it has nothing that this
                precision computes; the result does not compute in it, or is no valid ONNX graph; nothing was changed.

        Example:
            typed = precisions.get("fp16").apply(onnx.load("artifacts/export/model.onnx"))
            print(arithmetic.summary(typed).mac_share)  # {'FLOAT16': 1.0}
        """
        if self.given:
            return _taken(model)
        _refuse_typed(model, self.name)
        typed, left_out = model, self.left_out(model)
        if self.rewrites:
            _check_names(model, keep_fp32)
        if self.rewrite is not None:
            typed = self.rewrite(model, frozenset(keep_fp32))
        if self.form is not None:
            calibrated = Calibrated(amax or {}, shifts or {})
            typed = self._quantised(model, self.form, frozenset(keep_fp32), left_out, calibrated)
        graphs.check(typed, f"precision {self.name}")
        self._check_types(typed, keep_fp32, left_out)
        if _borders(typed) != _borders(model):
            raise BuildError(f"precision {self.name}: the rewrite changed the graph's inputs or outputs")
        return typed

    def _quantised(
        self, model: ModelProto, form: Format, keep: frozenset[str], left_out: Collection[str], found: Calibrated
    ) -> ModelProto:
        """Return the graph with its products quantised, and the rest in `remainder`."""
        if form.opset or self.remainder != "fp32":
            model = graphs.raise_opset(model, max(form.opset, 0 if self.remainder == "fp32" else SCALED_IN_16_BITS))
        leave = keep.union(left_out)
        shifts = {name: shift for name, shift in found.shifts.items() if name not in leave}
        also = {}
        if self.placement == "tensorrt":
            also = {one.node: one.operand for one in placement.residuals(model, leave) if one.node not in keep}
        model = biases.corrected(graphs.copied(model), shifts)
        model = quantize.quantise(model, form, found.amax, leave, also, SCALES[self.remainder])
        rest = get(self.remainder).rewrite
        return model if rest is None else rest(model, keep)

    def _check_types(self, typed: ModelProto, keep_fp32: Collection[str], left_out: Collection[str]) -> None:
        """Raise BuildError unless what this precision reaches computes in it, if not kept, and something does."""
        reached = (product for product in arithmetic.typed_products(typed) if self.reaches(product))
        products = [product for product in reached if product.home.name not in left_out]
        asked = Counter(product.kind for product in products if product.home.name not in keep_fp32)
        if products and set(asked) != {self.compute_type}:
            kept = len(products) - asked.total()
            raise BuildError(
                f"precision {self.name}: every product should compute in {self.compute_type}; "
                f"the graph has {dict(asked) or 'none at all'}{f', but for the {kept} kept in FP32' if kept else ''}",
                "This model cannot be built in this precision; choose others with engine.precisions.",
            )
        if products or not self.rewrites:
            return
        if self.calibrations:
            unroll = "; or build recurrent layers with unroll=True, which brings their products out"
            raise BuildError(
                f"precision {self.name}: nothing in the graph can be quantised: it consists of {_consists_of(typed)}",
                f"{self.name} quantises {', '.join(sorted(arithmetic.PRODUCTS))} outside the bodies of Loop, Scan and "
                f"If. Choose fp16 or bf16{unroll if self.left(typed) else ''}.",
            )
        if self.compute_type not in graphs.narrowed_by(typed):
            raise BuildError(
                f"precision {self.name}: nothing in the graph computes in {self.compute_type}; "
                f"it consists of {_consists_of(typed)}",
                "Choose fp32, which is the same here.",
            )


def _borders(model: ModelProto) -> list[tuple[str, object]]:
    """Return names and types of inputs and outputs: the shapes of outputs a typed graph tells, and a model need not."""
    return [(spec.name, spec.dtype) for spec in (*graphs.inputs(model), *graphs.outputs(model))]


def _consists_of(model: ModelProto) -> str:
    """Return how many of which operators a graph has, those in bodies too, the most frequent first."""
    found = Counter(node.op_type for node, _ in control_flow.walk(model.graph))
    return ", ".join(f"{count} {operator}" for operator, count in found.most_common()) or "no operator"


def _taken(model: ModelProto) -> ModelProto:
    """Return a quantised graph as it is; raise BuildError where no product of it computes on quantised operands."""
    graphs.check(model, "the quantised model")
    found = Counter(product.kind for product in arithmetic.typed_products(model))
    if not any(kind not in FLOATS for kind in found):
        raise BuildError(
            f"the model quantises, but no product of it computes between quantised operands: {dict(found)}",
            "TensorRT would run none of it in 8 bits. Give the FP32 model, and choose int8 or fp8.",
        )
    return model


def _refuse_typed(model: ModelProto, name: str) -> None:
    """Raise BuildError where the graph was rewritten or quantised already, by us or by whoever made it."""
    found = graphs.narrowed_by(model)
    if found:
        raise BuildError(
            f"precision {name}: the graph already contains {', '.join(found)}",
            "Every precision, fp32 too, is made from an FP32 graph. Give the model as it was before it was converted "
            "or quantised: export it again in FP32, or ask its maker for the FP32 file.",
        )


def _check_names(model: ModelProto, keep_fp32: Collection[str]) -> None:
    """Raise BuildError where a name in `keep_fp32` does not stand for exactly one node."""
    counts = Counter(node.name for node in model.graph.node)
    wrong = sorted(name for name in keep_fp32 if counts[name] != 1 or not name)
    if wrong:
        raise BuildError(
            f"keep_fp32: {', '.join(map(repr, wrong))} {'is' if len(wrong) == 1 else 'are'} not the name of one node",
            "Node names are those of the exported ONNX graph.",
        )


def emulation(name: str) -> Callable[[ModelProto], ModelProto]:
    """Return what emulates a graph that is recorded as emulated: of an 8-bit precision, its remainder in 16 bits."""
    return get(name).emulate or cast.emulate


def get(name: str) -> Precision:
    """Return the precision called `name`.

    Raises:
        ConfigError: there is no such precision.
    """
    return GIVEN if name == GIVEN.name else typing.cast("Precision", registry.load(__name__, name).PRECISION)


GIVEN = Precision(name="given", tolerance=Tolerance(rtol=1e-1, atol=5e-2), compute_type="INT8", given=True)
"""Of a graph that carries Q/DQ already, by Model Optimizer or quantization-aware training: never quantised again."""


def given(model: ModelProto) -> Precision | None:
    """Return the precision of a graph that came quantised; None of one in FP32, which any other may be made from."""
    if not {"QuantizeLinear", "DequantizeLinear"} & set(graphs.narrowed_by(model)):
        return None
    kinds = [one.kind for one in arithmetic.typed_products(model) if one.kind not in FLOATS]
    return replace(GIVEN, compute_type=Counter(kinds).most_common(1)[0][0]) if kinds else GIVEN

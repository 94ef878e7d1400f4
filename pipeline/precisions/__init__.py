"""Numeric formats, one file each; the folder's listing is the registry.

TensorRT 11 takes a network's types as they stand in the graph, so a precision is a rewrite of the ONNX graph, and ONNX
Runtime can measure its accuracy on a CPU. Each module exposes one `PRECISION`. Adding a format is adding a file here.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import cast

from onnx import ModelProto

from pipeline import graphs, registry
from pipeline.artifacts.engine import GraphArithmetic
from pipeline.errors import BuildError
from pipeline.graphs import arithmetic, control_flow
from pipeline.graphs.arithmetic import Product
from pipeline.tensors import Tolerance

NAMES = registry.names(__name__)

BITS = {"FLOAT": 32, "FLOAT16": 16, "BFLOAT16": 16, "INT8": 8, "FLOAT8E4M3FN": 8}
"""Bits of a product's operand, by the type in which a node computes; TF32 has 19 of FP32's."""


Rewrite = Callable[[ModelProto, Collection[str], Mapping[str, float]], ModelProto]
"""FP32 graph, names of the nodes to keep in FP32, largest magnitude per activation → typed graph, a copy."""


@dataclass(frozen=True)
class Precision:
    """One numeric format.

    `compute_type` is the ONNX element type in which every multiply-accumulating node that it `reaches` must compute
    after `rewrite`; the others stay in FP32.
    `rewrite` maps the exported FP32 graph to the typed graph; None where the FP32 graph already is it.
    `emulate` maps the typed graph to one that rounds alike in FP32, for a CPU that has no such arithmetic; None where
    ONNX Runtime computes the typed graph itself. `cpu_computes` tells whether it has the arithmetic on a CPU
    at all, so that a timing there means something.
    `calibrations` are the methods that can find the ranges of activations for it, the first one preferred among equals;
    empty where it needs none.
    `targets` are the GPU generations that have it, for TensorRT for RTX where the user names none; empty: all.
    """

    name: str
    tolerance: Tolerance
    compute_type: str
    allow_tf32: bool = False
    rewrite: Rewrite | None = None
    emulate: Callable[[ModelProto], ModelProto] | None = None
    cpu_computes: bool = True
    calibrations: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    reaches: Callable[[Product], bool] = lambda product: True

    @property
    def bits(self) -> int:
        """The bits of a product's operand where everything computes in this precision."""
        return 19 if self.allow_tf32 else BITS[self.compute_type]

    def mean_bits(self, arithmetic: GraphArithmetic) -> float:
        """Return the bits of an operand, on average over the multiply-accumulates of a typed graph."""
        # Where a dynamic dimension hides how many there are, nodes are counted instead.
        counts: dict[str, float] = dict(arithmetic.mac_share or arithmetic.compute_nodes)
        bits = {kind: 19 if kind == "FLOAT" and self.allow_tf32 else BITS[kind] for kind in counts}
        if not sum(counts.values()):
            return float(self.bits)
        return float(sum(bits[kind] * count for kind, count in counts.items()) / sum(counts.values()))

    def left_in_fp32(self, model: ModelProto) -> dict[str, int]:
        """Count the products that this precision does not reach, by operator: "LSTM", or "MatMul inside a Loop"."""
        left = (product for product in arithmetic.typed_products(model) if not self.reaches(product))
        return dict(Counter(f"{one.node.op_type}{one.inside and f' inside a {one.inside}'}" for one in left))

    def rounding(self, model: ModelProto) -> frozenset[str]:
        """Return the names of the graph's nodes of which one at least must not be kept in FP32.

        They are those of the products it reaches, or of the Loop, Scan or If that holds one; without products, all.
        """
        products = frozenset(one.home.name for one in arithmetic.typed_products(model) if self.reaches(one))
        return products or frozenset(node.name for node in model.graph.node)

    def apply(
        self, model: ModelProto, keep_fp32: Collection[str] = (), amax: Mapping[str, float] | None = None
    ) -> ModelProto:
        """Return the typed graph, checked; the model passed in is left as it was, and is the typed graph in FP32.

        `keep_fp32` names nodes of `model` that stay in FP32. `amax` is the largest magnitude to be represented of each
        activation that `quantize.activations(model)` names; what needs no calibration ignores it.

        Raises:
            BuildError: the graph is typed already; it has no node of a name in `keep_fp32`; it has nothing that this
                precision computes; the result does not compute in it, or is no valid ONNX graph; nothing was changed.

        Example:
            typed = precisions.get("fp16").apply(onnx.load("artifacts/export/model.onnx"))
            print(arithmetic.summary(typed).mac_share)  # {'FLOAT16': 1.0}
        """
        _refuse_typed(model, self.name)
        typed = model
        if self.rewrite is not None:
            _check_names(model, keep_fp32)
            typed = self.rewrite(model, frozenset(keep_fp32), amax or {})
        graphs.check(typed, f"precision {self.name}")
        self._check_types(typed, keep_fp32)
        if _borders(typed) != _borders(model):
            raise BuildError(f"precision {self.name}: the rewrite changed the graph's inputs or outputs")
        return typed

    def _check_types(self, typed: ModelProto, keep_fp32: Collection[str]) -> None:
        """Raise BuildError unless what this precision reaches computes in it, if not kept, and something does."""
        products = [product for product in arithmetic.typed_products(typed) if self.reaches(product)]
        asked = Counter(product.kind for product in products if product.home.name not in keep_fp32)
        if products and set(asked) != {self.compute_type}:
            kept = len(products) - asked.total()
            raise BuildError(
                f"precision {self.name}: every product should compute in {self.compute_type}; "
                f"the graph has {dict(asked) or 'none at all'}{f', but for the {kept} kept in FP32' if kept else ''}",
                "This model cannot be built in this precision; choose others with engine.precisions.",
            )
        if products or self.rewrite is None:
            return
        if self.calibrations:
            unroll = "; or build recurrent layers with unroll=True, which brings their products out"
            raise BuildError(
                f"precision {self.name}: nothing in the graph can be quantised: it consists of {_consists_of(typed)}",
                f"{self.name} quantises {', '.join(sorted(arithmetic.PRODUCTS))} outside the bodies of Loop, Scan and "
                f"If. Choose fp16 or bf16{unroll if self.left_in_fp32(typed) else ''}.",
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


def get(name: str) -> Precision:
    """Return the precision called `name`.

    Raises:
        ConfigError: there is no such precision.
    """
    return cast("Precision", registry.load(__name__, name).PRECISION)

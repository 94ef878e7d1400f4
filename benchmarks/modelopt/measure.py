"""One graph, ours or Model Optimizer's: judged as the engine stage judges, and built as it builds."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import onnx

from benchmarks.modelopt import peer
from pipeline import graphs, precisions
from pipeline.artifacts.store import Published, Store
from pipeline.backends.tensorrt.build import BuildOptions, build
from pipeline.config import Config
from pipeline.data import Dataset, Split, sizes
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.graphs import arithmetic, cast
from pipeline.judging.choosing import Choosing
from pipeline.judging.comparing import compare
from pipeline.precisions import Precision
from pipeline.quantization import calibration
from pipeline.quantization.typed_graphs import JUDGE_BATCH, METHOD_SAMPLES, Rewriter
from pipeline.runners import inference
from pipeline.tensors import Outputs

OURS, MODEL_OPTIMIZER = "ours", "Model Optimizer"
FLAVOUR = "tensorrt-rtx"


class Row(NamedTuple):
    """What there is to know of a graph; what could not be found out is None or empty, and `failed` says why.

    `validation_error` and `test_error` are the mean squared difference from FP32's outputs over their mean square:
    ours chooses its calibration method by the first, so the second is the one to compare by. `value` is the task's
    metric on the test split, `original` that of FP32. `verdict` says little of random weights: the probabilities of a
    thousand classes are so small that all are within the tolerance. `products` has the type of each product.
    """

    network: str
    precision: str
    by: str
    ranges_by: str
    validation_error: float | None = None
    test_error: float | None = None
    metric: str = ""
    value: float | None = None
    original: float | None = None
    verdict: str = ""
    arithmetic: dict[str, Any] | None = None
    products: dict[str, str] | None = None
    onnx_bytes: int | None = None
    engine_bytes: int | None = None
    rewrite_s: float | None = None
    build_s: float | None = None
    versions: dict[str, str] | None = None
    commit: str = ""
    failed: str = ""


class _Graph(NamedTuple):
    ranges_by: str
    model: onnx.ModelProto
    seconds: float
    versions: dict[str, str] | None = None


@dataclass
class Comparison:
    """Compares the graphs of one network, whose artifacts of train and export `config` names."""

    network: str
    config: Config
    folder: Path
    """Where the graphs are left."""
    say: Callable[[str], None]

    @cached_property
    def _rewriter(self) -> Rewriter:
        return Rewriter.of(self._published, self.config, self.say)

    @cached_property
    def _published(self) -> Published:
        return Store(self.config.artifacts).published()

    @property
    def _dataset(self) -> Dataset:
        return self._rewriter.dataset

    @cached_property
    def _validation(self) -> tuple[Split, Outputs]:
        """The samples by which calibration methods are chosen, and FP32's outputs of them."""
        return self._with_reference(self._dataset.validation.take(slice(METHOD_SAMPLES)))

    @cached_property
    def _test(self) -> tuple[Split, Outputs]:
        return self._with_reference(self._dataset.test)

    def _with_reference(self, split: Split) -> tuple[Split, Outputs]:
        return split, inference.outputs(self._rewriter.exported, precisions.get("fp32"), split, JUDGE_BATCH)

    @cached_property
    def _samples(self) -> calibration.Samples:
        """What both calibrate with: the samples that the engine stage draws."""
        split, reference = self._validation
        options, count = self.config.engine, min(self.config.engine.calibration_samples, len(self._dataset.train))
        few = self._choosing.yardsticks(reference, split.targets)
        groups = calibration.strata(few, self._dataset.train)
        return calibration.draw(self._dataset, count, options.calibration_seed, groups)

    @cached_property
    def _choosing(self) -> Choosing:
        return Choosing(self._dataset.record(), self.config.validate_.task, self.config.validate_.budget)

    def rows(self, precision: Precision) -> Iterator[Row]:
        """Yield our graph's row, then one for each of Model Optimizer's calibration methods."""
        yield self._row(precision, OURS, "", partial(self._ours, precision))
        for method in peer.METHODS[precision.name]:
            yield self._row(precision, MODEL_OPTIMIZER, method, partial(self._theirs, precision, method))

    def _ours(self, precision: Precision, path: Path) -> _Graph:
        started = time.monotonic()
        typed = self._rewriter.typed(precision)
        seconds = round(time.monotonic() - started, 3)
        onnx.save(typed.model, path)
        if typed.calibration is None:
            return _Graph("", typed.model, seconds)
        assert typed.calibration.sample_sha256 == self._samples.digests  # else there is nothing to compare
        corrected = ", biases corrected" if typed.calibration.biases_corrected else ""
        return _Graph(f"{typed.calibration.method}{corrected}", typed.model, seconds)

    def _theirs(self, precision: Precision, method: str, path: Path) -> _Graph:
        exported = self._published.path("export/model.onnx")
        made = peer.make(exported, precision.name, method, self._samples.split.feed(), path)
        return _Graph(method, made.model, made.seconds, made.versions)

    def _row(self, precision: Precision, by: str, method: str, make: Callable[[Path], _Graph]) -> Row:
        name = "-".join(filter(None, (precision.name, by.replace(" ", "-").lower(), method)))
        row, path = Row(self.network, precision.name, by, method), self.folder / f"{name}.onnx"
        self.say(f"{self.network}: {precision.name}, {by}{method and f', {method}'}")
        try:
            graph = make(path)
            row = row._replace(ranges_by=graph.ranges_by, rewrite_s=graph.seconds, versions=graph.versions)
            row = row._replace(
                arithmetic=arithmetic.summary(graph.model).model_dump(mode="json"),
                products={one.node.name: one.kind for one in arithmetic.typed_products(graph.model)},
                onnx_bytes=path.stat().st_size,
            )
            row = self._judged(row, graph.model, precision)
            return self._built(row, path, precision)
        except (BackendUnavailable, BuildError) as error:
            return row._replace(failed=str(error).replace(f"{self.folder}/", ""))

    def _judged(self, row: Row, model: onnx.ModelProto, precision: Precision) -> Row:
        """Return the row with what the graph's outputs are worth."""
        judged = as_a_gpu_rounds(model, precision)
        split, reference = self._validation
        found = inference.outputs(model, judged, split, JUDGE_BATCH)
        validation_error = calibration.relative_error(reference, found)
        split, reference = self._test
        found = inference.outputs(model, judged, split, JUDGE_BATCH)
        compared = compare(self._choosing.yardsticks(reference, split.targets), reference, found, precision.tolerance)
        (output,) = compared.outputs  # the networks have one
        return row._replace(
            validation_error=validation_error,
            test_error=calibration.relative_error(reference, found),
            metric=output.metric,
            value=output.candidate,
            original=output.reference,
            verdict=compared.verdict,
        )

    def _built(self, row: Row, path: Path, precision: Precision) -> Row:
        configured = self.config.engine.profiles
        profiles = sizes.profiles(self.config.benchmark.batch_sizes) if isinstance(configured, str) else configured
        started = time.monotonic()
        built = build(
            path,
            BuildOptions(
                FLAVOUR,
                allow_tf32=False,
                profiles=profiles,
                targets=precision.targets,
            ),
        )
        return row._replace(build_s=round(time.monotonic() - started, 3), engine_bytes=len(built.engine))


def as_a_gpu_rounds(model: onnx.ModelProto, precision: Precision) -> Precision:
    """Return the precision with the emulation of 16 bits, where a graph has some and the precision itself needs none.

    ONNX Runtime computes FP16 in FP32 on a CPU (docs/decisions/0005): Model Optimizer's FP16 beside INT8 and FP8 would
    pass for FP32.
    """
    if precision.emulate is None and not {"FLOAT16", "BFLOAT16"}.isdisjoint(graphs.narrowed_by(model)):
        return replace(precision, emulate=cast.emulate)
    return precision

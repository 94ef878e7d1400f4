"""Made artifacts of what a run on a CPU does not write, or not every run: for lack of a GPU, or since nobody asked."""

import made_records

from pipeline.artifacts import Artifact
from pipeline.artifacts.bundle import (
    BundledRunner,
    BundleInput,
    BundleOutput,
    BundleRecord,
    ContainerRecord,
    Measured,
    PlanProfile,
    PlanRecord,
)
from pipeline.artifacts.engine import (
    EngineLayer,
    EngineLayers,
    TriedWay,
    TunedBatch,
    TunedMachine,
    TunedRunner,
    TuningRecord,
)
from pipeline.artifacts.loadgen import Expected, LoadgenAccuracy, LoadgenResult, Metric
from pipeline.artifacts.manifest import FileRecord
from pipeline.artifacts.parity import JudgedOn
from pipeline.artifacts.runner import Step
from pipeline.artifacts.selection import CandidatePrecision, SelectedOn, Selection
from pipeline.artifacts.sensitivity import LayerGroup, LayerSensitivity, TensorDifference, Trial

TRIAL = Trial(verdict="pass", error=0.01, loss={"probabilities": 0.1}, non_finite=0, reason="within the budget")

MADE: dict[str, Artifact] = {
    "engine/fp16/layers.json": EngineLayers(
        layers=(
            EngineLayer(
                profile=0, name="conv", kind="Conv", reads="FLOAT16", writes="", details={"Tactic": ["a", None]}
            ),
        )
    ),
    "engine/selection.json": Selection(
        chosen=None,
        basis="type",
        pareto=(),
        candidates=(
            CandidatePrecision(
                precision="int8",
                cost=None,
                mean_bits=8.0,
                onnx_bytes=10,
                engine_bytes=None,
                comparison=made_records.comparison(),
                rejected="no parser",
            ),
        ),
        dataset=SelectedOn(name="digits", split="validation", samples=180),
        outputs=(made_records.JUDGED,),
    ),
    "localise/fp16.json": LayerSensitivity(
        model_sha256="0" * 64,
        precision="fp16",
        samples=180,
        outputs=(made_records.JUDGED,),
        baseline=TRIAL,
        tensors=(TensorDifference(name="x:0", layer="conv", max_abs=0.1, relative_error=None, non_finite=0),),
        groups=(
            LayerGroup(
                layers=("conv",), nodes=("m/conv",), overflows=False, error_alone=None, won_back=0.0, verdict="skipped"
            ),
        ),
        keep_fp32=None,
        result=TRIAL,
    ),
    "loadgen/offline-accuracy/result.json": LoadgenResult(
        scenario="offline",
        mode="accuracy",
        unofficial=("not submitted",),
        statement="Result not verified by MLCommons Association.",
        valid=True,
        loadgen_result=None,
        reasons=(),
        metric=Metric(name="samples", value=None, unit="per second"),
        metrics={"samples_per_second": 1.5, "met": True},
        accuracy=(
            LoadgenAccuracy(
                output="probabilities",
                metric="accuracy",
                value=0.9,
                samples=10,
                validated_runner="typed fp32",
                validated=None,
                fp32=0.9,
                of_fp32=1.0,
                meets_99=True,
                meets_99_9=True,
            ),
        ),
        runner=made_records.FP32,
        device="cuda:0",
        session={"threads": 2},
        largest_batch=16,
        expected=Expected(seconds=1.0, queries=1, samples_per_query=10, samples_per_s=10.0),
        seconds_asked=None,
        settings={"min_duration_ms": 500},
        dataset="digits",
        loadgen_version="6.0.17",
    ),
}
"""What the main job does not write: for lack of a GPU, or because it was not asked for."""

WAY = TriedWay(threads=1, chunk=8, streams=1, taken=True, us=12.5, rounds_us=(12.5, 13.0))

TUNING = TuningRecord(
    machine=TunedMachine(cpu="Made CPU", cores=2, gpus=()),
    onnx_sha256="5",
    runners=(
        TunedRunner(
            backend="onnxruntime",
            variant="cpu",
            versions={"onnxruntime": "1.32"},
            steps=(Step(batch=1, threads=1), Step(batch=16, chunk=8)),
            measured=(TunedBatch(batch=16, ways=(WAY,)),),
        ),
    ),
)

BUNDLE = BundleRecord(
    name="article_cnn",
    version=1,
    created="2026-01-02T03:04:05Z",
    pipeline="1",
    machine=made_records.MACHINE,
    versions={"python": "3.11"},
    goal="latency",
    judged_on=JudgedOn(name="digits", split="test", samples=540, origin="scikit-learn's digits", substitute=""),
    inputs=(
        BundleInput(name="image", shape=(None, 8, 8, 1), dtype="uint8", kind="picture", white=255.0, words="a picture"),
    ),
    outputs=(
        BundleOutput(
            name="probabilities",
            shape=(None, 2),
            dtype="float32",
            task="classification",
            form="probabilities",
            classes=("0", "1"),
            words="probabilities of 2 classes",
        ),
    ),
    batch_sizes=(1, 16),
    runners=(
        BundledRunner(
            name="article_cnn",
            runner=made_records.FP32,
            device="cpu",
            verdict="pass",
            reason="the fastest",
            measured=(Measured(batch=1, p50_us=20.0, items_per_s=50_000.0),),
        ),
    ),
    files={"labels/probabilities.txt": FileRecord(sha256="0" * 64, bytes=4)},
)

PLAN = PlanRecord(
    model="article_cnn",
    version=1,
    precision="fp16",
    allow_tf32=False,
    profiles=(PlanProfile(min={"image": (1, 8, 8, 1)}, opt={"image": (1, 8, 8, 1)}, max={"image": (16, 8, 8, 1)}),),
    container=ContainerRecord(release="26.08", image="triton", tensorrt="11.0", cuda=None, onnxruntime=None),
    shipped=False,
    needs_tensorrt=None,
    built_on=("NVIDIA H100",),
    why="no plan: the engine was built by nothing",
)

EVERY: dict[str, Artifact] = MADE | {
    "engine/fp16/tuning.json": TUNING,
    "deploy/bundle/bundle.json": BUNDLE,
    "deploy/bundle/triton/tensorrt.json": PLAN,
}
"""With these beside those of `made_run`, there is one of every kind."""

"""Single records of artifacts, made and not measured: runners, comparisons, timed cells, a graph."""

import onnx
from onnx import TensorProto, helper

from pipeline.artifacts.conditions import Conditions
from pipeline.artifacts.dataset import PerSplit
from pipeline.artifacts.parity import (
    BatchInvariance,
    Comparison,
    JudgedOn,
    JudgedOutput,
    JudgedRunner,
    OutputComparison,
    ParityReport,
)
from pipeline.artifacts.results import (
    Cell,
    Limit,
    Span,
    Timing,
    WarmUp,
)
from pipeline.artifacts.runner import Role, RunnerOptions, RunnerRecord
from pipeline.environment import Machine

MACHINE = Machine("Made CPU", 2, "Linux 1 x86_64", ())
SAMPLES = PerSplit[int](train=1000, validation=300, test=540)
BATCHES = (1, 16)
NO_GPU = "no NVIDIA GPU on this machine"
SAME = "no significant difference"


def runner(name: str, role: Role = "exported", precision: str = "fp32", *, emulated: bool = False) -> RunnerRecord:
    """Return the record of a runner, which is of the backend and the variant that its name begins with."""
    backend, variant, *_ = [*name.split(), "cpu"]
    return RunnerRecord(
        name=name,
        role=role,
        backend=backend,
        variant=variant,
        precision=precision,
        file=f"engine/{precision}/model.onnx",
        sha256="0" * 64,
        options=RunnerOptions(exact=role == "exact"),
        emulated=emulated,
    )


CHAIN = [runner("keras", "exact"), runner("saved_model", "exact"), runner("onnx", "exact")]
CALL, FUNCTION = runner("tensorflow call", "original"), runner("tensorflow function", "original")
HARNESS = runner("null harness", "harness")
FP32, INT8 = runner("onnxruntime cpu fp32"), runner("onnxruntime cpu int8", precision="int8")
OPENVINO = runner("openvino cpu int8", precision="int8")
FP16 = runner("onnxruntime cpu fp16", precision="fp16", emulated=True)
ENGINE = runner("tensorrt tensorrt-rtx fp16", precision="fp16")
P50_US = {
    CALL.name: 900.0,
    FUNCTION.name: 400.0,
    HARNESS.name: 0.3,
    FP32.name: 20.0,
    INT8.name: 30.0,
    OPENVINO.name: 9.0,
}
"""Of one sample; a batch of 16 takes four times as long."""


JUDGED = JudgedOutput(
    output="probabilities",
    task="classification",
    form="probabilities",
    classes=10,
    why="made",
    labels=True,
    metric="accuracy",
    unit="points",
    direction="higher",
    budget=0.5,
    budget_why="made",
    interval="Tango's score interval, 95 %",
)
"""What the only output is judged by."""


def comparison(drop: float = 0.0, verdict: str = "pass") -> Comparison:
    """Return a comparison with an accuracy drop in points."""
    reason = "accuracy drop at most 0.3 points (95 %)"
    one = OutputComparison(
        **JUDGED.model_dump(include=set(OutputComparison.model_fields)),
        samples=540,
        max_abs=1.07e-6 + abs(drop) / 100,
        mean_abs=1e-7,
        agreement=1.0 - abs(drop) / 100,
        reference=0.95,
        candidate=0.95 - drop / 100,
        loss=drop,
        loss_ci95=(drop - 0.7, drop + 0.3),
        p=1.0,
        verdict=verdict,
        reason=reason,
    )
    return Comparison(outputs=(one,), verdict=verdict, reason=reason)


def judged_as(one: RunnerRecord, total: Comparison | None) -> JudgedRunner:
    """Return the judgement of a runner that was compared so, and of the original where it was not."""
    invariance = BatchInvariance(
        batch_sizes=(1, 7, 64), samples=128, max_abs=1e-7, verdict="pass", reason="within the tolerance"
    )
    return JudgedRunner(
        runner=one,
        device="cpu",
        verdict=total.verdict if total else "pass",
        reason=total.reason if total else "the original itself",
        total=total,
        batch_invariance=invariance,
    )


def parity(*rows: JudgedRunner) -> ParityReport:
    """Return a report of these verdicts."""
    return ParityReport(
        verdict="pass",
        dataset=JudgedOn(name="digits", split="test", samples=540, origin="", substitute=""),
        outputs=(JUDGED,),
        runners=rows,
        hops=(),
    )


def conditions(at_s: float) -> Conditions:
    """Return the state of a quiet machine without a GPU."""
    return Conditions(
        at_s=at_s,
        load_1min=0.1,
        cores=2,
        governor="performance",
        cpu_mhz=3000.0,
        cpu_quota_cores=None,
        quota_throttled_s=None,
        steal_s=0.0,
        cpu_wait_s=0.0,
        driver=None,
        nvml=NO_GPU,
        gpus=(),
    )


def cell(one: RunnerRecord, batch: int, p50_us: float, *, repeat: bool = False) -> Cell:
    """Return a cell that was timed host to host on the CPU."""
    timing = Timing(
        samples=60,
        mean_us=p50_us * 1.1,
        p50_us=p50_us,
        p50_ci95_us=(p50_us * 0.98, p50_us * 1.03),
        p90_us=p50_us * 1.5,
        p95_us=p50_us * 1.7,
        p99_us=None,
        items_per_s=batch / (p50_us * 1.1e-6),
        round_p50_us=(p50_us * 0.99, p50_us, p50_us * 1.01),
        round_mean_us=(p50_us, p50_us * 1.1, p50_us * 1.2),
    )
    share = 3.0 * batch / p50_us
    limit = Limit(
        limit="compute",
        limit_us=3.0 * batch,
        share=share,
        compute_us=3.0 * batch,
        memory_us=1.0,
        pcie_us=None,
        launch_us=None,
    )
    return Cell(
        runner=one,
        repeat=repeat,
        batch=batch,
        mode="end_to_end",
        device="cpu",
        status="ok",
        reason="",
        clock="perf_counter_ns",
        settings={"threads": 2},
        warmup=WarmUp(calls=10, seconds=0.1, stable=True),
        conditions=Span(start=conditions(1.0), end=conditions(2.0)),
        timing=timing,
        limit=None if one.role == "harness" else limit,
    )


def skipped(one: RunnerRecord, batch: int) -> Cell:
    """Return a cell of a runner that this machine lacks what it takes for."""
    known = cell(one, batch, 1.0).model_dump()
    return Cell.model_validate(
        known | {"status": "skipped", "reason": NO_GPU, "device": None, "timing": None, "limit": None, "warmup": None}
    )


def graph() -> onnx.ModelProto:
    """Return a graph of a convolution and a product, its nodes named as tf2onnx names them."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, 3, 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 2])
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0]),
        helper.make_tensor("d", TensorProto.FLOAT, [9, 2], [1.0] * 18),
    ]
    nodes = [
        helper.make_node("Conv", ["images", "w"], ["c"], name="sequential/conv2d/Conv2D"),
        helper.make_node("Flatten", ["c"], ["f"], name="sequential/dense/Flatten"),
        helper.make_node("MatMul", ["f", "d"], ["scores"], name="sequential/dense/MatMul"),
    ]
    return helper.make_model(
        helper.make_graph(nodes, "made", [images], [scores], weights), opset_imports=[helper.make_opsetid("", 18)]
    )

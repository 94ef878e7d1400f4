"""A small run, complete from training to benchmark, made from the artifacts' models: no stage has to run for it."""

import json
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from pipeline.artifacts import store
from pipeline.artifacts.conditions import Conditions
from pipeline.artifacts.dataset import DatasetRecord, PerSplit
from pipeline.artifacts.disagreements import Answer, DifferingRunner, DifferingSample, Disagreements
from pipeline.artifacts.engine import BatchProfile, CalibrationRecord, EngineRecord, GraphArithmetic
from pipeline.artifacts.history import TrainingHistory
from pipeline.artifacts.manifest import DatasetSummary, FileRecord, Fingerprint, Manifest
from pipeline.artifacts.parity import BatchInvariance, Comparison, Hop, JudgedOn, JudgedRunner, ParityReport
from pipeline.artifacts.recommendation import Choice, Excluded, Ranked, Recommendation
from pipeline.artifacts.results import (
    BenchmarkResults,
    Cell,
    Limit,
    NoiseFloor,
    Peaks,
    RunEnvironment,
    Span,
    Speedup,
    Timing,
    WarmUp,
)
from pipeline.artifacts.runner import Role, RunnerOptions, RunnerRecord
from pipeline.environment import Machine
from pipeline.report.run import STAGES

MACHINE = Machine("Made CPU", 2, "Linux 1 x86_64", ())
SAMPLES = PerSplit[int](train=1000, validation=300, test=540)
BATCHES = (1, 16)
NO_GPU = "no NVIDIA GPU on this machine"
FASTER, SAME = "faster", "no significant difference"


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


def make(root: Path) -> None:
    """Fill a folder with the artifacts of a run."""
    for stage in STAGES:
        (root / stage).mkdir(parents=True)
    _train(root / "train")
    _engines(root / "engine")
    _validate(root / "validate")
    _benchmark(root / "benchmark")
    for stage in STAGES:
        publish(root, stage)


def publish(root: Path, stage: str) -> None:
    """Write a stage's manifest of what is in its folder now."""
    Manifest(
        stage=stage,
        status="done",
        created=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        command=("python", "-m", "pipeline", stage),
        seconds=1.5,
        dataset=DatasetSummary(name="digits", origin="scikit-learn's digits", substitute="", samples=SAMPLES),
        fingerprint=Fingerprint(inputs={}, configuration={"benchmark": {"rounds": 3}}, versions={"pipeline": "1"}),
        machine=MACHINE,
        versions={"python": "3.11", "numpy": "2.1"},
        outputs=store.records(root / stage),
    ).write(root / stage / store.MANIFEST)


def _train(folder: Path) -> None:
    DatasetRecord(
        name="digits",
        origin="scikit-learn's digits",
        substitute="",
        samples=SAMPLES,
        image_shape=(8, 8, 1),
        class_names=tuple("0123456789"),
        sha256=PerSplit[str](train="1", validation="2", test="3"),
    ).write(folder / "dataset.json")
    TrainingHistory(
        dataset="digits",
        device="cpu",
        epochs=2,
        steps_per_epoch=40,
        seconds=3.0,
        images_per_s=1234.5,
        epoch_seconds=(2.0, 1.0),
        history={"accuracy": (0.5, 0.9), "loss": (1.0, 0.2), "val_accuracy": (0.6, 0.85), "val_loss": (0.9, 0.3)},
        test_accuracy=0.95,
        test_samples=540,
    ).write(folder / "history.json")
    layers = [{"config": {"name": name}} for name in ("conv2d", "dense")]
    with zipfile.ZipFile(folder / "model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))


def _engines(folder: Path) -> None:
    for precision, bits, built in (("fp32", 32.0, True), ("fp16", 16.0, True), ("int8", 8.0, False)):
        (folder / precision).mkdir()
        onnx.save(graph(), folder / precision / "model.onnx")
        kind = {"fp32": "FLOAT", "fp16": "FLOAT16", "int8": "INT8"}[precision]
        calibration = CalibrationRecord(
            method="entropy",
            validation_error={"entropy": 0.1},
            seed=0,
            samples=512,
            samples_sha256="4",
            sample_sha256=(),
            classes={"0": 512},
            activations={},
        )
        EngineRecord(
            precision=precision,
            status="built" if built else "skipped",
            reason="" if built else "the builder has no int8",
            flavour="tensorrt-rtx" if built else None,
            version="1.7" if built else None,
            targets=(),
            gpu=(),
            allow_tf32=False,
            profile=BatchProfile(min=1, opt=64, max=1024),
            arithmetic=GraphArithmetic(
                nodes=2, compute_nodes={kind: 2}, mac_share={kind: 1.0}, casts=0, quantize=0, dequantize=0
            ),
            mean_bits=bits,
            calibration=calibration if precision == "int8" else None,
            onnx=FileRecord(sha256="5", bytes=12345),
            engine=FileRecord(sha256="6", bytes=67890) if built else None,
            build_seconds=1.25 if built else None,
            runs_here_reason=NO_GPU,
        ).write(folder / precision / "engine.json")


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


def comparison(drop: float = 0.0, verdict: str = "pass") -> Comparison:
    """Return a comparison with an accuracy drop in points."""
    return Comparison(
        samples=540,
        max_abs=1.07e-6 + abs(drop) / 100,
        mean_abs=1e-7,
        top1_agreement=1.0 - abs(drop) / 100,
        accuracy_reference=0.95,
        accuracy_candidate=0.95 - drop / 100,
        accuracy_drop_pp=drop,
        accuracy_drop_ci95_pp=(drop - 0.7, drop + 0.3),
        mcnemar_p=1.0,
        verdict=verdict,
        reason="accuracy drop at most 0.3 points (95 %)",
    )


def _judged(one: RunnerRecord, total: Comparison | None) -> JudgedRunner:
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


def _validate(folder: Path) -> None:
    typed = [runner(f"typed {precision}", "exact", precision) for precision in ("fp32", "fp16", "int8")]
    links = list(pairwise(CHAIN)) + [(CHAIN[-1], one) for one in typed]
    links += [(typed[0], FP32), (typed[1], FP16), (typed[2], INT8), (typed[2], OPENVINO)]
    lost = {INT8.name: 0.1, OPENVINO.name: -0.2, FP16.name: 0.05}
    hops = [
        Hop(reference=one.name, candidate=other.name, verdict="pass", reason="alike", comparison=comparison())
        for one, other in links
    ]
    absent = {"verdict": "skipped", "reason": NO_GPU}
    hops.append(Hop(reference=typed[1].name, candidate=ENGINE.name, comparison=None, **absent))
    judged = [_judged(one, None) for one in (CHAIN[0], CALL, FUNCTION)]
    judged += [_judged(one, comparison(lost.get(one.name, 0.0))) for one in (*CHAIN[1:], *typed)]
    judged += [_judged(one, comparison(lost.get(one.name, 0.0))) for one in (FP32, FP16, INT8, OPENVINO)]
    judged.append(JudgedRunner(runner=ENGINE, device=None, total=None, batch_invariance=None, **absent))
    on = JudgedOn(name="digits", split="test", samples=540, origin="scikit-learn's digits", substitute="")
    ParityReport(
        verdict="pass",
        dataset=on,
        accuracy_budget_pp=0.5,
        interval="Tango's score interval, 95 %",
        runners=tuple(judged),
        hops=tuple(hops),
    ).write(folder / "parity.json")
    sample = DifferingSample(
        index=7, label=3, reference=Answer(class_index=3, score=0.6), candidate=Answer(class_index=5, score=None)
    )
    Disagreements(
        drawn_at_most=12,
        runners=(
            DifferingRunner(runner=FP32.name, reference="keras", count=0, samples=()),
            DifferingRunner(runner=INT8.name, reference="keras", count=1, samples=(sample,)),
        ),
    ).write(folder / "disagreements.json")
    images = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    np.savez(folder / "disagreements.npz", indices=np.array([7]), images=images)


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


def _skipped(one: RunnerRecord, batch: int) -> Cell:
    known = cell(one, batch, 1.0).model_dump()
    return Cell.model_validate(
        known | {"status": "skipped", "reason": NO_GPU, "device": None, "timing": None, "limit": None, "warmup": None}
    )


def _speedups(cells: Sequence[Cell]) -> list[Speedup]:
    timed = [one for one in cells if one.timing and not one.repeat and one.runner.role != "harness"]
    found = []
    for one in timed:
        for base in (FUNCTION, CALL) if one.runner.role == "exported" else ():
            ratio = P50_US[base.name] / P50_US[one.runner.name]
            found.append(
                Speedup(
                    runner=one.runner.name,
                    device="cpu",
                    over=base.name,
                    over_device="cpu",
                    batch=one.batch,
                    mode="end_to_end",
                    ratio=ratio,
                    ratio_ci95=(ratio * 0.98, ratio * 1.02),
                    verdict="faster",
                )
            )
    return found


def _choices() -> list[Choice]:
    found = []
    for batch in BATCHES:
        times = {name: us * (4 if batch > 1 else 1) for name, us in P50_US.items() if name != HARNESS.name}
        ranked = sorted(times.items(), key=lambda pair: pair[1])
        for goal, unit in (("latency", "us"), ("throughput", "samples/s")):
            value = {name: us if goal == "latency" else batch / (us * 1.1e-6) for name, us in ranked}
            found.append(
                Choice(
                    batch=batch,
                    goal=goal,
                    unit=unit,
                    runner=OPENVINO,
                    device="cpu",
                    value=value[OPENVINO.name],
                    next=FP32.name,
                    ratio=2.2,
                    ratio_ci95=(2.1, 2.3),
                    verdict="faster",
                    reason="its whole interval is beyond the noise",
                    ranking=tuple(Ranked(runner=name, device="cpu", value=value[name]) for name, _ in ranked),
                )
            )
    return found


def _benchmark(folder: Path) -> None:
    cells = []
    for batch in BATCHES:
        for one in (CALL, FUNCTION, HARNESS, FP32, INT8, OPENVINO):
            p50_us = P50_US[one.name] * (4 if batch > 1 else 1)
            cells.append(cell(one, batch, p50_us))
            if one == FP32:
                cells.append(cell(one, batch, p50_us * 1.01, repeat=True))
        cells += [_skipped(ENGINE, batch), _skipped(FP16, batch)]
    noise = [
        NoiseFloor(
            batch=batch,
            mode="end_to_end",
            device="cpu",
            runner=FP32.name,
            ratio=0.99,
            ratio_ci95=(0.985, 1.005),
            floor=0.015,
        )
        for batch in BATCHES
    ]
    span = Span(start=conditions(0.0), end=conditions(9.0))
    BenchmarkResults(
        interrupted=False,
        environment=RunEnvironment(
            machine=MACHINE,
            versions={"numpy": "2.1"},
            dataset="digits",
            settings={"rounds": 3},
            threads=2,
            conditions=span,
        ),
        noise_floor=tuple(noise),
        limits={"cpu": Peaks(device="cpu", threads=2, macs_per_s={"fp32": 1e9})},
        cells=tuple(cells),
        speedups=tuple(_speedups(cells)),
    ).write(folder / "results.json")
    Recommendation(
        machine=MACHINE,
        choices=tuple(_choices()),
        excluded=(Excluded(runner=ENGINE.name, reason=NO_GPU), Excluded(runner=FP16.name, reason="emulated")),
    ).write(folder / "recommendation.json")
    random = np.random.default_rng(0)
    samples = {
        f"{one.key}/round{index}": (one.timing.mean_us * random.uniform(800, 1900, 20)).astype(np.int64)
        for one in cells
        if one.timing
        for index in range(3)
    }
    np.savez_compressed(folder / "samples.npz", **samples)

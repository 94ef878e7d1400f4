"""A small run, complete from training to benchmark, made from the artifacts' models: no stage has to run for it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from made_records import (
    BATCHES,
    CALL,
    CHAIN,
    ENGINE,
    FP16,
    FP32,
    FUNCTION,
    HARNESS,
    INT8,
    JUDGED,
    MACHINE,
    NO_GPU,
    OPENVINO,
    P50_US,
    SAMPLES,
    cell,
    comparison,
    conditions,
    graph,
    judged_as,
    runner,
    skipped,
)

from pipeline.artifacts import store
from pipeline.artifacts.dataset import DatasetRecord, PerSplit, TargetRecord
from pipeline.artifacts.disagreements import Answer, DifferingRunner, DifferingSample, Disagreements
from pipeline.artifacts.engine import BatchProfile, CalibrationRecord, EngineRecord, GraphArithmetic
from pipeline.artifacts.export import Compared, ExportedFile, ExportRecord, NotTaken
from pipeline.artifacts.history import TestMetric, TrainedEpoch, TrainingHistory
from pipeline.artifacts.manifest import DatasetSummary, FileRecord, Fingerprint, Manifest
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.parity import Hop, JudgedOn, JudgedRunner, ParityReport
from pipeline.artifacts.recommendation import Choice, Excluded, Ranked, Recommendation
from pipeline.artifacts.results import (
    BenchmarkResults,
    Cell,
    NoiseFloor,
    Peaks,
    RunEnvironment,
    Span,
    Speedup,
)
from pipeline.artifacts.tensor import TensorRecord
from pipeline.report.run import STAGES


def make(root: Path) -> None:
    """Fill a folder with the artifacts of a run."""
    for stage in STAGES:
        (root / stage).mkdir(parents=True)
    _train(root / "train")
    _export(root / "export")
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


IMAGE = TensorRecord(name="image", shape=(None, 8, 8, 1), dtype="uint8")
PROBABILITIES = TensorRecord(name="probabilities", shape=(None, 10), dtype="float32")
LABELS = {"shape": (None,), "dtype": "int64", "class_names": tuple("0123456789"), "largest": 9}


def _train(folder: Path) -> None:
    DatasetRecord(
        name="digits",
        origin="scikit-learn's digits",
        substitute="",
        samples=SAMPLES,
        inputs=(IMAGE,),
        targets=(TargetRecord(**dict(PROBABILITIES) | LABELS),),
        sha256=PerSplit[str](train="1", validation="2", test="3"),
    ).write(folder / "dataset.json")
    TrainingHistory(
        dataset="digits",
        backend="tensorflow",
        devices=("cpu",),
        recipe="fast",
        batch=32,
        steps_per_epoch=40,
        steps_per_execution=5,
        learning_rate=0.015,
        schedule="one_cycle",
        in_memory=True,
        epochs=tuple(
            TrainedEpoch(
                measures=dict(zip(("accuracy", "loss", "val_accuracy", "val_loss"), values, strict=True)),
                seconds=seconds,
                validation_s=0.25,
                waited_s=0.125,
                learning_rate=rate,
            )
            for values, seconds, rate in (((0.5, 1.0, 0.6, 0.9), 2.0, 0.01125), ((0.9, 0.2, 0.85, 0.3), 1.0, 0.0))
        ),
        best_epoch=None,
        resumed_at="",
        seconds=3.5,
        samples_per_s=1234.5,
        test=(TestMetric(output="probabilities", task="classification", metric="accuracy", value=0.95),),
        test_samples=540,
    ).write(folder / "history.json")
    ModelRecord(
        origin="article-cnn",
        kind="function",
        sha256=None,
        file="train/model.keras",
        as_trained=None,
        name="article_cnn",
        parameters=1234,
        trained_epochs=2,
        policy="float32",
        inputs=(IMAGE,),
        outputs=(PROBABILITIES,),
        layers=("conv2d", "dense"),
    ).write(folder / "model.json")
    (folder / "model.keras").write_bytes(b"not read by the report")


def _export(folder: Path) -> None:
    made = ExportedFile(
        file="model.onnx",
        exporter="pytorch",
        not_taken=(NotTaken(exporter="tf2onnx", reason="tf2onnx cannot convert MatrixInverse in layer 'dense'"),),
        versions={"torch": "2.13.0"},
        compared=(Compared(at="batches of 8", max_abs={"probabilities": 1e-7}),),
    )
    ExportRecord(opset=18, rtol=1e-3, atol=1e-4, files=(made,)).write(folder / "export.json")


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
            strata={"0": 512},
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
            profiles=(BatchProfile(min=1, opt=1, max=1), BatchProfile(min=2, opt=64, max=1024)),
            arithmetic=GraphArithmetic(
                nodes_by_type={"FLOAT": 7},
                bytes_by_type={"FLOAT": 100_000},
                nodes=2,
                compute_nodes={kind: 2},
                mac_share={kind: 1.0},
                casts=0,
                quantize=0,
                dequantize=0,
            ),
            mean_bits=bits,
            calibration=calibration if precision == "int8" else None,
            onnx=FileRecord(sha256="5", bytes=12345),
            engine=FileRecord(sha256="6", bytes=67890) if built else None,
            build_seconds=1.25 if built else None,
            runs_here_reason=NO_GPU,
        ).write(folder / precision / "engine.json")


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
    judged = [judged_as(one, None) for one in (CHAIN[0], CALL, FUNCTION)]
    judged += [judged_as(one, comparison(lost.get(one.name, 0.0))) for one in (*CHAIN[1:], *typed)]
    judged += [judged_as(one, comparison(lost.get(one.name, 0.0))) for one in (FP32, FP16, INT8, OPENVINO)]
    judged.append(JudgedRunner(runner=ENGINE, device=None, total=None, batch_invariance=None, **absent))
    on = JudgedOn(name="digits", split="test", samples=540, origin="scikit-learn's digits", substitute="")
    ParityReport(
        verdict="pass",
        dataset=on,
        outputs=(JUDGED,),
        runners=tuple(judged),
        hops=tuple(hops),
    ).write(folder / "parity.json")
    sample = DifferingSample(
        index=7, expected="3", reference=Answer(text="3", score=0.6), candidate=Answer(text="5", score=None)
    )
    of = {"reference": "keras", "output": "probabilities", "task": "classification", "means": "another answer"}
    Disagreements(
        drawn_at_most=12,
        runners=(
            DifferingRunner(runner=FP32.name, **of, count=0, samples=()),
            DifferingRunner(runner=INT8.name, **of, count=1, samples=(sample,)),
        ),
    ).write(folder / "disagreements.json")
    images = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    np.savez(folder / "disagreements.npz", indices=np.array([7]), **{"input/image": images})


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
        cells += [skipped(ENGINE, batch), skipped(FP16, batch)]
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

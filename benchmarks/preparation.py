"""What has to be there before anything is timed: the graph, the engine, and how this machine runs both best."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks import networks
from benchmarks.contenders import Files
from benchmarks.networks import Network
from pipeline import digests, environment, precisions
from pipeline.backends import LoadOptions, Step
from pipeline.errors import BackendUnavailable, BuildError
from pipeline.runners import tuning_record


def prepare(network: Network, folder: Path, threads: int) -> tuple[Files, dict[str, Any]]:
    """Write a network's files into `folder`; return them, and what there is to know of them as plain data.

    In processes of their own: the one that times keeps neither TensorFlow nor threads of anybody's.
    """
    anew = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=anew, max_tasks_per_child=1) as pool:
        described: dict[str, Any] = dict(pool.submit(networks.write, network, folder).result())
        described |= pool.submit(_tune, network, folder, threads).result()
    engine, sha256 = folder / "model.engine", described["engine_sha256"]
    plans = {
        variant: tuple(Step(**step) for step in found["steps"])
        for variant, found in described["plan"]["variants"].items()
    }
    onnx, onnx_sha256 = folder / "model.onnx", str(described["onnx_sha256"])
    files = Files(
        folder / "model.keras", onnx, onnx_sha256, engine if sha256 else None, sha256, described["no_engine"], plans
    )
    return files, described


def _tune(network: Network, folder: Path, threads: int) -> dict[str, Any]:
    """Build the engine where there is a GPU, and tune what can be run here with the engine stage's function."""
    from pipeline.measuring import tuning

    onnx, engine = folder / "model.onnx", folder / "model.engine"
    onnx_sha256, engine_sha256, no_engine = digests.of_file(onnx), None, "no NVIDIA GPU here"
    ways = [("onnxruntime", onnx, LoadOptions("cpu", sha256=onnx_sha256, threads=threads))]
    if environment.gpus():
        ways.append(("onnxruntime", onnx, LoadOptions("cuda", sha256=onnx_sha256)))
        try:
            engine_sha256, no_engine = _build(network, onnx, engine), ""
            ways.append(("tensorrt", engine, LoadOptions("tensorrt", sha256=engine_sha256)))
        except (BackendUnavailable, BuildError) as error:
            no_engine = error.message
    tuned = {}
    for backend, path, options in ways:
        try:
            tuned[options.variant] = tuning.tune(backend, path, options, precisions.get("fp32").tolerance)
        except BackendUnavailable:
            continue  # its cell will say why
    return {
        "engine_sha256": engine_sha256,
        "no_engine": no_engine,
        "plan": tuning_record.describe(onnx_sha256, tuned),
        "plan_in_words": {variant: tuning_record.describe_steps(found.steps) for variant, found in tuned.items()},
    }


def _build(network: Network, onnx: Path, engine: Path) -> str:
    """Build a TensorRT engine for the batches that are timed, and return its digest. Never run on a GPU yet."""
    from pipeline.backends.tensorrt import build

    best = sorted(network.batch_sizes)[len(network.batch_sizes) // 2]
    batches = (1, best, max(network.batch_sizes))
    built = build.build(onnx, build.BuildOptions("tensorrt", allow_tf32=False, batch=batches))
    engine.write_bytes(built.engine)
    return digests.of_file(engine)

"""What is needed before anything is timed: the graph, the engine, and how this machine runs both fastest."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from benchmarks import networks, runners
from benchmarks.networks import Network, Written
from benchmarks.runners import Files
from pipeline import digests, environment
from pipeline.artifacts.engine import TunedRunner, TuningRecord
from pipeline.data import sizes
from pipeline.errors import BackendUnavailable, BuildError


class Prepared(NamedTuple):
    """What there is to know of a network's files."""

    written: Written
    engine_sha256: str | None
    no_engine: str
    tuning: TuningRecord
    tuned_in_words: dict[str, str]


def prepare(network: Network, folder: Path, threads: int) -> tuple[Files, Prepared]:
    """Write a network's files into `folder`; return them, and what there is to know of them.

    In processes of their own: the one that times keeps neither TensorFlow nor threads of anybody's.
    """
    anew = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=anew, max_tasks_per_child=1) as pool:
        written = pool.submit(networks.write, network, folder).result()
        prepared = pool.submit(_tune, network, written, folder, threads).result()
    steps = {one.variant: one.steps for one in prepared.tuning.runners}
    return _files(written, folder, prepared.engine_sha256, prepared.no_engine)._replace(steps=steps), prepared


def _files(written: Written, folder: Path, engine_sha256: str | None, no_engine: str) -> Files:
    engine = folder / "model.engine" if engine_sha256 else None
    keras, onnx = folder / "model.keras", folder / "model.onnx"
    return Files(keras, onnx, written.onnx_sha256, engine, engine_sha256, no_engine, {})


def _tune(network: Network, written: Written, folder: Path, threads: int) -> Prepared:
    """Build the engine where there is a GPU, and tune what can be run here with the engine stage's function."""
    from pipeline.measuring import tuning
    from pipeline.runners import tuning_record

    engine_sha256, no_engine = None, "no NVIDIA GPU here"
    if environment.gpus():
        try:
            engine_sha256, no_engine = _build(network, folder / "model.onnx", folder / "model.engine"), ""
        except (BackendUnavailable, BuildError) as error:
            no_engine = error.message
    files = _files(written, folder, engine_sha256, no_engine)
    found, words = [], {}
    for runner in filter(runners.ours, runners.runners(files, threads)):
        backend, variant = runner.record.backend, runner.record.variant
        try:
            steps, measured = tuning.tune(runner)
        except BackendUnavailable:
            continue  # its cell will say why
        versions = tuning_record.versions(backend)
        found.append(TunedRunner(backend=backend, variant=variant, versions=versions, steps=steps, measured=measured))
        words[variant] = tuning_record.describe(steps)
    return Prepared(written, engine_sha256, no_engine, tuning_record.record(written.onnx_sha256, found), words)


def _build(network: Network, onnx: Path, engine: Path) -> str:
    """Build a TensorRT engine for the batches that are timed, and return its digest. Never run: no TensorRT yet."""
    from pipeline.backends.tensorrt import build, process

    profiles = sizes.profiles(network.batch_sizes)
    process.build(onnx, engine, build.BuildOptions("tensorrt", allow_tf32=False, profiles=profiles))
    return digests.of_file(engine)

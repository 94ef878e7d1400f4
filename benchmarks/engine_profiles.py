"""What optimization profiles cost: an engine of one, of one for each batch size, and static ones, size and build time.

    python -m benchmarks.engine_profiles [--builds 3]

Built by TensorRT for RTX, which needs no GPU, so nothing is said of speed. Prints a table in markdown.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx

from benchmarks import networks
from pipeline import environment, precisions
from pipeline.backends.tensorrt import build
from pipeline.backends.tensorrt.dynamic_axes import batches
from pipeline.config import Benchmark
from pipeline.data import sizes
from pipeline.tensors import Range

BATCH_SIZES = Benchmark().batch_sizes
NETWORKS = [network for network in networks.NETWORKS if network.name != "ResNet50"]
PRECISIONS = ("fp32", "fp16")
HEAD = ("network", "precision", "profiles", "engine, bytes", "of one profile's", "build, s", "build, CPU s")


class Engine(NamedTuple):
    """An engine to build: in words, its profiles, and the batch of its graph where that is fixed."""

    words: str
    profiles: tuple[Range, ...]
    fixed: int | None = None


def engines() -> Iterator[Engine]:
    """Yield what is compared, the single profile first."""
    smallest, best, largest = BATCH_SIZES
    yield Engine(f"one: {smallest} to {largest}, best at {best}", ((smallest, best, largest),))
    every = sizes.profiles(BATCH_SIZES)
    yield Engine(f"one for each batch size: {'; '.join(map(batches, every))}", every)
    for batch in BATCH_SIZES:
        yield Engine(f"static: {batch}", ((batch, batch, batch),))
        yield Engine(f"none, the graph's batch fixed: {batch}", ((batch, batch, batch),), fixed=batch)


def with_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return the graph with the first axis of every input and output fixed."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    del fixed.graph.value_info[:]  # shapes inferred for a batch of any size
    return fixed


def rows(network: networks.Network, builds: int) -> Iterator[tuple[str, ...]]:
    """Build every engine of a network so many times, and yield a row for each: under `HEAD`, medians of the times."""
    with tempfile.TemporaryDirectory() as folder:
        networks.write(network, Path(folder))
        exported = onnx.load(Path(folder) / "model.onnx")
        for name in PRECISIONS:
            precision = precisions.get(name)
            typed = precision.apply(exported) if precision.rewrite else exported
            one_profile = 0
            for engine in engines():
                path = Path(folder) / "typed.onnx"
                onnx.save(typed if engine.fixed is None else with_batch(typed, engine.fixed), path)
                options = build.BuildOptions("tensorrt-rtx", precision.allow_tf32, engine.profiles)
                elapsed, cpu = [], []
                for _ in range(builds):
                    began, busy = time.monotonic(), time.process_time()
                    size = len(build.build(path, options).engine)
                    elapsed.append(time.monotonic() - began)
                    cpu.append(time.process_time() - busy)
                one_profile = one_profile or size
                times = (f"{statistics.median(seconds):.2f}" for seconds in (elapsed, cpu))
                yield network.name, name, engine.words, f"{size:,}", f"{size / one_profile:.2f}×", *times


def table(found: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table in markdown."""
    for row in (HEAD, ("---",) * len(HEAD), *found):
        yield f"| {' | '.join(row)} |"


def main() -> None:
    """Build, and print."""
    parser = argparse.ArgumentParser(description="Size and build time of engines by their optimization profiles.")
    parser.add_argument("--builds", type=int, default=3, help="of each engine; the median time is shown")
    builds = parser.parse_args().builds
    print(f"{environment.cpu_name()}, {environment.cpu_count()} cores; TensorRT for RTX", end=" ")
    print(f"{build.installed_version('tensorrt-rtx')}; median of {builds} builds.\n")
    print("\n".join(table([row for network in NETWORKS for row in rows(network, builds)])))


if __name__ == "__main__":
    main()

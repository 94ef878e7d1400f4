"""NVIDIA's trtexec on the same engine, by its own clock: shown apart, since it is not timed by the harness.

Never run: TensorRT has not been at hand yet. Its summary is read as users show it (NVIDIA/TensorRT#4177).
"""

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.networks import Network
from pipeline.backends.tensorrt import dynamic_axes
from pipeline.data import sizes

_MEDIAN = re.compile(r"\] (?P<what>Latency|GPU Compute Time): .*\bmedian = (?P<ms>[\d.]+) ms")
_QUERIES = re.compile(r"\] Throughput: (?P<qps>[\d.]+) qps")


def run(engine: Path | None, network: Network, batch: int) -> dict[str, object]:
    """Time an engine with trtexec's defaults: from TensorRT 11 on without transfers, as in the mode `compute`."""
    found: dict[str, object] = {"network": network.name, "batch": batch, "clock": "trtexec's own", "reason": ""}
    program = shutil.which("trtexec")
    if program is None or engine is None:
        return found | {"reason": "no engine" if engine is None else "trtexec is not on PATH"}
    shape = "x".join(map(str, (batch, *network.image_shape)))
    profile = dynamic_axes.narrowest(sizes.profiles(network.batch_sizes), batch)
    command = [program, f"--loadEngine={engine}", f"--shapes=image:{shape}", f"--useProfile={profile or 0}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        return found | {"command": command[1:], "reason": (done.stderr or done.stdout)[-400:]}
    return found | {"command": command[1:]} | parse(done.stdout, batch)


def parse(output: str, batch: int) -> dict[str, object]:
    """Return the medians in µs and the items per second of trtexec's performance summary."""
    medians = {match["what"]: float(match["ms"]) * 1e3 for match in _MEDIAN.finditer(output)}
    queries = _QUERIES.search(output)
    if not medians or not queries:
        return {"reason": "its summary could not be read"}
    return {
        "latency_p50_us": medians.get("Latency"),
        "gpu_compute_p50_us": medians.get("GPU Compute Time"),
        "items_per_s": float(queries["qps"]) * batch,
    }

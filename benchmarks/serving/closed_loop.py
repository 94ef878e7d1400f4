"""Closed loop: each client sends its next request when the last one was answered. C clients, and tritonclient."""

import asyncio
import re
import subprocess
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from benchmarks.serving.requests import Sample, grpc, inputs, wrk_script
from benchmarks.serving.servers import Server

UNIT_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class Loaded(BaseModel):
    """What one client program saw of a server."""

    server: str
    client: str
    clients: int
    per_s: float
    p50_ms: float | None
    p99_ms: float | None
    errors: int
    wrong: int | None = None
    """Answers that differ from the judged runner's; null where the client does not look."""
    batch: float | None = None
    """Samples in a run, as the server counts them."""


def wrk(server: Server, samples: list[Sample], clients: int, seconds: float, folder: Path) -> Loaded:
    """Load a server over HTTP, with binary tensors."""
    url = f"http://127.0.0.1:{server.http}/v2/models/{server.model}/infer"
    text = _run(
        ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--latency", "-s", str(wrk_script(samples[0], folder)), url],
        seconds,
    )
    latency = {
        share: float(value) * UNIT_MS[unit]
        for share, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)$", text, re.MULTILINE)
    }
    errors = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    if sockets := re.search(r"Socket errors: (.*)", text):
        errors += sum(map(int, re.findall(r"\d+", sockets[1])))
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    return Loaded(
        server=server.name,
        client="wrk, HTTP",
        clients=clients,
        per_s=float(rate[1]) if rate else 0.0,
        p50_ms=latency.get("50"),
        p99_ms=latency.get("99"),
        errors=errors,
    )


def h2load(server: Server, samples: list[Sample], clients: int, seconds: float, folder: Path) -> Loaded:
    """Load a server over gRPC. h2load takes a gRPC error for an answer: what the server counts is held against it."""
    (folder / "grpc.bin").write_bytes(grpc(samples[0]))
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    before = server.counts()[0]
    _run(
        [
            *("h2load", "-t1", f"-c{clients}", "-m1", f"-D{seconds:g}", "-d", str(folder / "grpc.bin")),
            *(f"--log-file={log}", "-H", "content-type: application/grpc", "-H", "te: trailers"),
            f"http://127.0.0.1:{server.grpc}/inference.GRPCInferenceService/ModelInfer",
        ],
        seconds,
    )
    # Start in µs, status, µs until the end of the answer.
    rows = [line.split("\t") for line in log.read_text(encoding="ascii").splitlines()]
    took = np.array([float(row[2]) / 1e3 for row in rows if row[1] == "200"])
    inferred = server.counts()[0] - before
    return Loaded(
        server=server.name,
        client="h2load, gRPC",
        clients=clients,
        per_s=len(took) / seconds,
        p50_ms=_percentile(took, 50),
        p99_ms=_percentile(took, 99),
        errors=len(rows) - len(took) + max(0, len(took) - inferred),
    )


def tritonclient_http(server: Server, samples: list[Sample], clients: int, seconds: float, folder: Path) -> Loaded:
    """Load a server over HTTP by tritonclient's asyncio client in this process, and look at every answer."""
    return _tritonclient(server, samples, clients, seconds, "http")


def tritonclient_grpc(server: Server, samples: list[Sample], clients: int, seconds: float, folder: Path) -> Loaded:
    """Load a server over gRPC by tritonclient's asyncio client in this process, and look at every answer."""
    return _tritonclient(server, samples, clients, seconds, "grpc")


def _tritonclient(server: Server, samples: list[Sample], clients: int, seconds: float, protocol: str) -> Loaded:
    took, errors, wrong, elapsed = asyncio.run(_clients(server, samples, clients, seconds, protocol))
    return Loaded(
        server=server.name,
        client=f"tritonclient, {'HTTP' if protocol == 'http' else 'gRPC'}",
        clients=clients,
        per_s=len(took) / elapsed,
        p50_ms=_percentile(np.array(took), 50),
        p99_ms=_percentile(np.array(took), 99),
        errors=errors,
        wrong=wrong,
    )


async def _clients(
    server: Server, samples: list[Sample], clients: int, seconds: float, protocol: str
) -> tuple[list[float], int, int, float]:
    if protocol == "http":
        import tritonclient.http.aio as library

        client = library.InferenceServerClient(f"127.0.0.1:{server.http}", conn_limit=clients)
    else:
        import tritonclient.grpc.aio as library

        client = library.InferenceServerClient(f"127.0.0.1:{server.grpc}")
    prepared = [(sample, inputs(library, sample)) for sample in samples]
    took: list[float] = []
    errors = wrong = 0
    start = time.perf_counter()

    async def one_client(number: int) -> None:
        nonlocal errors, wrong
        turn = number
        while time.perf_counter() - start < seconds:
            sample, ready = prepared[turn % len(prepared)]
            turn += 1
            began = time.perf_counter()
            try:
                answer = await client.infer(server.model, ready)
            except library.InferenceServerException:
                errors += 1
                continue
            took.append((time.perf_counter() - began) * 1e3)
            wrong += not right(sample, answer)

    await asyncio.gather(*(one_client(number) for number in range(clients)))
    elapsed = time.perf_counter() - start
    await client.close()
    return took, errors, wrong, elapsed


def right(sample: Sample, answer: object) -> bool:
    """Tell whether an answer is the judged runner's, but for the order of sums in another batch."""
    return all(
        np.allclose(answer.as_numpy(name), rows, rtol=1e-4, atol=1e-5)  # type: ignore[attr-defined]
        for name, rows in sample.answers.items()
    )


def _percentile(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", share: float) -> float | None:
    return float(np.percentile(values, share)) if len(values) else None


def _run(command: list[str], seconds: float) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True).stdout

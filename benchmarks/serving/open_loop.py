"""Open loop: requests arrive by chance at a rate, whether or not the last ones were answered.

Latency counts from the moment a request was due, so that a server that falls behind cannot hide it.
"""

import asyncio
import time

import numpy as np
import tritonclient.grpc.aio as library

from benchmarks.serving.closed_loop import Loaded, right
from benchmarks.serving.requests import Sample, inputs
from benchmarks.serving.servers import Server


def arrivals(server: Server, samples: list[Sample], per_s: float, seconds: float) -> Loaded:
    """Send requests over gRPC at `per_s` on average, exponentially distributed; `clients` of the result is 0."""
    took, errors, wrong, elapsed = asyncio.run(_arrivals(server, samples, per_s, seconds))
    return Loaded(
        server=server.name,
        client=f"arrivals at {per_s:,.0f}/s, gRPC",
        clients=0,
        per_s=len(took) / elapsed,
        p50_ms=float(np.percentile(took, 50)) if took else None,
        p99_ms=float(np.percentile(took, 99)) if took else None,
        errors=errors,
        wrong=wrong,
    )


async def _arrivals(
    server: Server, samples: list[Sample], per_s: float, seconds: float
) -> tuple[list[float], int, int, float]:
    client = library.InferenceServerClient(f"127.0.0.1:{server.grpc}")
    due = np.cumsum(np.random.default_rng(1).exponential(1 / per_s, int(per_s * seconds)))
    took: list[float] = []
    errors = wrong = 0
    prepared = [(sample, inputs(library, sample)) for sample in samples]

    async def request(number: int, at: float) -> None:
        nonlocal errors, wrong
        sample, ready = prepared[number % len(prepared)]
        try:
            answer = await client.infer(server.model, ready)
        except library.InferenceServerException:
            errors += 1
            return
        took.append((time.perf_counter() - at) * 1e3)
        wrong += not right(sample, answer)

    start, running = time.perf_counter(), set()
    for number, when in enumerate(due):
        if (wait := start + when - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(request(number, start + when))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    elapsed = time.perf_counter() - start
    await client.close()
    return took, errors, wrong, elapsed

"""Ten minutes of load: whether memory is bounded, and every answer right to the end."""

import time
from pathlib import Path

from benchmarks.serving.faults import Fault
from benchmarks.serving.good_clients import GoodClients
from benchmarks.serving.requests import Sample
from benchmarks.serving.servers import ours


def soak(bundle: Path, samples: list[Sample], seconds: float) -> Fault:
    """Load a server with eight clients; its memory is taken after a tenth of the time, and at the end."""
    with ours(bundle) as server, GoodClients(server.model, server.http, server.grpc, samples, clients=8) as clients:
        time.sleep(seconds / 10)
        before = server.memory()
        time.sleep(seconds * 9 / 10)
        after = server.memory()
        remark = f"{clients.seen.answered / seconds:,.0f} requests/s"
    return Fault(f"{seconds / 60:g} minutes with eight clients", clients.seen, before, after, remark)

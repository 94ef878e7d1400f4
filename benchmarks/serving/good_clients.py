"""Clients that behave, while others do not: what they are answered is held against what the judged runner says."""

import asyncio
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import tritonclient.grpc.aio as grpc_library
import tritonclient.http.aio as http_library

from benchmarks.serving.closed_loop import right
from benchmarks.serving.requests import Sample, inputs


@dataclass
class Seen:
    """What became of the requests. `refused` says that the server took them not; `lost` had no answer at all."""

    answered: int = 0
    wrong: int = 0
    refused: int = 0
    lost: int = 0
    versions: set[str] = field(default_factory=set)
    reasons: dict[str, int] = field(default_factory=dict)
    slowest_ms: float = 0.0

    def __str__(self) -> str:
        said = f"{self.answered:,} answered, {self.wrong} wrong, {self.refused} refused, {self.lost} lost"
        return f"{said}; slowest {self.slowest_ms:,.0f} ms"


REFUSED = ("429", "503", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "refused", "Cannot connect", "Connect call failed")


class GoodClients:
    """Clients over HTTP and gRPC, each with one request at a time, in a thread for the time of a `with` block."""

    def __init__(self, model: str, http: int, grpc: int, samples: list[Sample], clients: int = 4) -> None:
        self.seen = Seen()
        self._model, self._samples, self._clients = model, samples, clients
        self._http, self._grpc = f"127.0.0.1:{http}", f"127.0.0.1:{grpc}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join(60)

    async def _run(self) -> None:
        over_http = http_library.InferenceServerClient(self._http, conn_limit=self._clients)
        over_grpc = grpc_library.InferenceServerClient(self._grpc)
        each = [(over_http, http_library), (over_grpc, grpc_library)]
        await asyncio.gather(*(self._client(*each[number % 2], number) for number in range(self._clients)))
        await over_http.close()
        await over_grpc.close()

    async def _client(self, client: object, library: object, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            sample = self._samples[turn % len(self._samples)]
            turn += 1
            ready = inputs(library, sample)
            began = time.perf_counter()
            try:
                answer = await client.infer(self._model, ready)  # type: ignore[attr-defined]
            except Exception as error:  # whatever the library makes of a server that is gone
                self._failed(error)
                await asyncio.sleep(0.05)
                continue
            self.seen.answered += 1
            self.seen.slowest_ms = max(self.seen.slowest_ms, (time.perf_counter() - began) * 1e3)
            self.seen.wrong += not right(sample, answer)
            said = answer.get_response()
            self.seen.versions.add(str(said["model_version"] if isinstance(said, dict) else said.model_version))

    def _failed(self, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        self.seen.reasons[text[:160]] = self.seen.reasons.get(text[:160], 0) + 1
        if any(word in text for word in REFUSED):
            self.seen.refused += 1
        else:
            self.seen.lost += 1

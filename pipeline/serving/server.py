"""The server's life: it listens, loads, answers, swaps on SIGHUP, and ends on SIGTERM with nothing left unanswered."""

import asyncio
import gc
import logging
import os
import signal
import sys
from contextlib import suppress

from tritonclient.grpc import service_pb2_grpc

from pipeline import texts
from pipeline.config import Config
from pipeline.deployment import verify
from pipeline.deployment.bundle import Bundle
from pipeline.serving import listening, logs
from pipeline.serving.grpc import Servicer
from pipeline.serving.http import App
from pipeline.serving.metrics import Metrics
from pipeline.serving.model import Model
from pipeline.serving.refusals import Refused
from pipeline.serving.repository import Repository
from pipeline.serving.security import Guard, read_token
from pipeline.serving.service import Service
from pipeline.serving.tracing import Tracer

log = logging.getLogger(__name__)

SWITCH_S = 0.0005
"""How long a thread may keep Python to itself while another waits: a worker that has an answer must not wait 5 ms."""

LINGER_S = 0.2
"""How long the server goes on to refuse after the last answer, before it takes no more connections and again after."""

CLOSING_S = 2.0
"""How long the sessions may take to close, at the end."""


def run(bundle: Bundle, config: Config) -> None:
    """Serve a bundle that was checked, until SIGTERM or SIGINT."""
    logs.to_stderr()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        closed = runner.run(_serve(bundle, config))
    log.info("stopped")
    if not closed:  # a thread hangs in a library: nothing that Python could wait for
        sys.stdout.flush()
        os._exit(0)


async def _serve(bundle: Bundle, config: Config) -> bool:
    wanted = config.serve
    guard = Guard(wanted.host, read_token(wanted.token_file))
    tracer = Tracer(wanted.trace_endpoint) if wanted.trace_endpoint else None
    metrics = Metrics(lambda: repository.models(), lambda: len(service.in_flight))
    repository = Repository(bundle, wanted, config.deploy.trusted_keys, metrics.ran)
    service = Service(repository, metrics, wanted)
    socket = listening.http_socket(wanted)
    with socket:
        http = listening.http_server(App(service, guard, tracer), wanted)
        add = service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
        grpc, grpc_port = listening.grpc_server(Servicer(service, tracer), add, guard, wanted)
        log.info("starting", extra={"bundle": str(bundle.folder), "version": bundle.record.version})
        model = await repository.start()
        sys.setswitchinterval(SWITCH_S)
        gc.freeze()  # what is there now stays: the collector need not look at it again and again
        service.accepting = True
        serving = asyncio.create_task(http.serve(sockets=[socket]))
        await grpc.start()
        _say(bundle, model, repository, wanted.certificate is not None, (socket.getsockname()[:2], grpc_port))
        log.info("ready")
        await _until_told_to_stop(repository)
        log.info("stopping", extra={"in_flight": len(service.in_flight), "drain_s": wanted.drain_s})
        if left := await service.drained(wanted.drain_s):
            log.warning("not answered in time", extra={"requests": left})
        else:
            await _linger(http)
        http.should_exit = True
        await asyncio.gather(grpc.stop(listening.ENDING_S), serving)
    if tracer is not None:
        await asyncio.to_thread(tracer.close)
    with suppress(TimeoutError):
        await asyncio.wait_for(repository.stop(), CLOSING_S)
        return True
    return False


async def _until_told_to_stop(repository: Repository) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    swaps: set[asyncio.Task[None]] = set()

    def swap() -> None:
        task = loop.create_task(_swap(repository))
        swaps.add(task)
        task.add_done_callback(swaps.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, swap)
    await stop.wait()


async def _linger(http: listening.HttpServer) -> None:
    """Refuse for a while, first on every connection, then on those that are there, so that none closes on a request."""
    await asyncio.sleep(LINGER_S)
    for one in http.servers:
        one.close()
    await asyncio.sleep(LINGER_S)


async def _swap(repository: Repository) -> None:
    with suppress(Refused):  # the log has the reason
        await repository.swap()


def _say(bundle: Bundle, model: Model, repository: Repository, tls: bool, where: tuple[tuple[str, int], int]) -> None:
    (host, port), grpc_port = where
    shown = f"[{host}]" if ":" in host else host
    reason = next(one.reason for one in repository.index() if one.name == model.name)
    lines = [
        f"{bundle.folder}: {bundle.record.name}, version {model.version}",
        f"  signature  {verify.signature(bundle)}",
        f"  runs       {model.runs.runner.name}: {model.runs.reason}",
        *([f"  WARNING    {reason}"] if reason else []),
        f"  batches    of {model.max_batch} samples at most; workers: {model.workers}",
        f"  REST       http{'s' if tls else ''}://{shown}:{port}",
        f"  gRPC       grpc{'s' if tls else ''}://{shown}:{grpc_port}",
    ]
    print(texts.harmless("\n".join(lines)), flush=True)


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # Windows has none
        return None
    return uvloop.new_event_loop  # type: ignore[no-any-return]

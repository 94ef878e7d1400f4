"""What becomes of answers when clients hang, send nonsense or are many, and when the server is stopped or swapped."""

import resource
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.good_clients import GoodClients, Seen
from benchmarks.serving.requests import Sample, http
from benchmarks.serving.servers import Server, ours

SECONDS = 8.0


@dataclass(frozen=True)
class Fault:
    """What was done, what the clients that behave saw of it, and the server's memory before and after, in bytes."""

    name: str
    seen: Seen
    before: int
    after: int
    remark: str = ""

    @property
    def held(self) -> bool:
        """Whether no answer was wrong and no request was lost."""
        return self.seen.wrong == 0 and self.seen.lost == 0 and self.seen.answered > 0


Disturb = Callable[[Server, Sample], str]


def every(bundle: Path, samples: list[Sample], folder: Path) -> Iterator[Fault]:
    """Yield what became of each fault."""
    for name, disturb in (
        ("100 clients connect and say nothing", _silent),
        ("50 clients send a byte a second", _slow),
        ("400 clients send half a request, half of them hang up", _half),
        ("10,000 connections", _many),
        ("1,000 requests that are none", _nonsense),
        ("32 clients send 60 MiB each", _large),
    ):
        with ours(bundle) as server:
            yield _disturbed(name, server, samples, disturb)
    yield _little_memory(bundle, samples)
    yield _stopped(bundle, samples)
    yield _killed(bundle, samples)
    yield _swapped(bundle, samples, folder)


def _disturbed(name: str, server: Server, samples: list[Sample], disturb: Disturb) -> Fault:
    with GoodClients(server.model, server.http, server.grpc, samples) as clients:
        time.sleep(1)
        before = server.memory()
        remark = disturb(server, samples[0])
        time.sleep(1)
        after = server.memory()
    return Fault(name, clients.seen, before, after, remark)


@contextmanager
def _connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        found = []
        for _ in range(count):
            try:
                found.append(stack.enter_context(socket.create_connection(("127.0.0.1", server.http), 5)))
            except OSError:
                continue
        yield found


def _whole(server: Server, sample: Sample) -> bytes:
    length, body = http(sample)
    head = (
        f"POST /v2/models/{server.model}/infer HTTP/1.1\r\nHost: 127.0.0.1:{server.http}\r\n"
        f"Inference-Header-Content-Length: {length}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _silent(server: Server, sample: Sample) -> str:
    with _connections(server, 100) as connections:
        time.sleep(SECONDS)
        return f"{len(connections)} connected"


def _slow(server: Server, sample: Sample) -> str:
    request = _whole(server, sample)
    with _connections(server, 50) as connections:
        for place in range(int(SECONDS)):
            for connection in connections:
                connection.send(request[place : place + 1])
            time.sleep(1)
        return f"{len(connections)} connected"


def _half(server: Server, sample: Sample) -> str:
    request = _whole(server, sample)
    with _connections(server, 400) as connections:
        for connection in connections:
            connection.send(request[: len(request) // 2])
        for connection in connections[::2]:
            connection.close()
        time.sleep(SECONDS)
        return f"{len(connections)} connected"


def _many(server: Server, sample: Sample) -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    with _connections(server, 10_000) as connections:
        held = server.memory()
        time.sleep(SECONDS)
        open_still = sum(not _closed(one) for one in connections)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return f"{len(connections):,} connected, {open_still:,} left open, {held / 1e6:,.0f} MB meanwhile"


def _closed(connection: socket.socket) -> bool:
    """Tell whether a connection was ended by the server, with or without a word."""
    connection.setblocking(False)
    try:
        connection.recv(1)
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def _nonsense(server: Server, sample: Sample) -> str:
    answers: dict[str, int] = {}
    whole = _whole(server, sample)
    requests = (
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        whole.replace(b"UINT8", b"BF999"),
        whole.replace(b"[1, ", b"[-1, "),
        whole.replace(b"[1, ", b"[99999999999, "),
        whole.replace(b'"inputs"', b'"outputs"'),
        whole.replace(b"{", b"[[", 1),
        b"POST /v2/models/x/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999\r\n\r\n",
    )
    for number in range(1000):
        with socket.create_connection(("127.0.0.1", server.http), 5) as connection:
            connection.sendall(requests[number % len(requests)])
            try:
                said = connection.recv(64).split(b" ")
            except OSError:
                said = []
        code = said[1].decode() if len(said) > 1 else "closed"
        answers[code] = answers.get(code, 0) + 1
    return ", ".join(f"{count} × {code}" for code, count in sorted(answers.items()))


def _large(server: Server, sample: Sample) -> str:
    size, peak = 60 * 2**20, 0
    head = (
        f"POST /v2/models/{server.model}/infer HTTP/1.1\r\nHost: 127.0.0.1:{server.http}\r\n"
        f"Content-Length: {size}\r\n\r\n"
    ).encode()

    def send() -> None:
        try:
            with socket.create_connection(("127.0.0.1", server.http), 5) as connection:
                connection.settimeout(20)
                connection.sendall(head + bytes(size))
                connection.recv(64)
        except OSError:
            return

    threads = [threading.Thread(target=send) for _ in range(32)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, server.memory())
        time.sleep(0.05)
    return f"at most {peak / 1e6:,.0f} MB meanwhile"


def _little_memory(bundle: Path, samples: list[Sample]) -> Fault:
    """The same large requests to a server that may have 400 MB of addresses more than it needs to start."""
    with ours(bundle) as server:
        used = (
            int(
                next(
                    line.split()[1]
                    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
                    if line.startswith("VmSize")
                )
            )
            * 1024
        )
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (used + 400_000_000, used + 400_000_000))
        found = _disturbed("the same, with 400 MB of memory to spare", server, samples, _large)
        alive = server.process.poll() is None
    return Fault(found.name, found.seen, found.before, found.after, f"{found.remark}; {'alive' if alive else 'DIED'}")


def _stopped(bundle: Path, samples: list[Sample]) -> Fault:
    with ours(bundle) as server:
        with GoodClients(server.model, server.http, server.grpc, samples, clients=16) as clients:
            time.sleep(2)
            before = server.memory()
            start = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            code = server.process.wait(60)
            took = time.monotonic() - start
            time.sleep(0.5)
        return Fault("SIGTERM under load", clients.seen, before, 0, f"exit {code} after {took:.2f} s")


def _killed(bundle: Path, samples: list[Sample]) -> Fault:
    """SIGKILL takes what was under way along; what counts is that no answer was wrong and the next server is whole."""
    with ours(bundle) as server:
        with GoodClients(server.model, server.http, server.grpc, samples, clients=16) as clients:
            time.sleep(2)
            before = server.memory()
            server.process.kill()
            server.process.wait()
            time.sleep(0.2)
        under_way = clients.seen.lost
    start = time.monotonic()
    with ours(bundle) as server:
        back = time.monotonic() - start
        with GoodClients(server.model, server.http, server.grpc, samples) as after:
            time.sleep(1)
    seen = after.seen
    seen.answered += clients.seen.answered
    seen.wrong += clients.seen.wrong
    return Fault(
        "SIGKILL under load, and started again", seen, before, 0, f"{under_way} of 16 under way; back in {back:.1f} s"
    )


def _swapped(bundle: Path, samples: list[Sample], folder: Path) -> Fault:
    """Another version takes the place of the first, ten times."""
    from pipeline.artifacts.bundle import BundleRecord
    from pipeline.deployment import bundle as bundles

    served = folder / "served"
    shutil.copytree(bundle, served)
    with ours(served) as server:
        with GoodClients(server.model, server.http, server.grpc, samples, clients=16) as clients:
            time.sleep(1)
            before = server.memory()
            for _ in range(10):
                record = BundleRecord.read(served / bundles.RECORD)
                bundles.close(served, record.model_copy(update={"version": record.version + 1}))
                (served / bundles.SIGNATURE).unlink(missing_ok=True)
                server.process.send_signal(signal.SIGHUP)
                time.sleep(1.5)
            after = server.memory()
        return Fault(
            "ten hot swaps under load",
            clients.seen,
            before,
            after,
            f"versions that answered: {len(clients.seen.versions)}",
        )

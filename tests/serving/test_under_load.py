"""Batches, a full queue, deadlines, clients that leave, sessions that crash, the end, and another bundle instead."""

import asyncio
import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from faulty import CRASH, NO_MEMORY, WAIT
from servers import INFER, NAME, Server, binary, rows, serving
from tritonclient.utils import InferenceServerException

from pipeline.artifacts.bundle import BundleRecord
from pipeline.deployment import bundle as bundles
from pipeline.tensors import Array


def _image(first: int, count: int = 1) -> Array:
    """Return images whose first pixel tells the session what to do."""
    found = np.zeros((count, 28, 28, 1), np.uint8)
    found[:, 0, 0, 0] = first
    return found


@pytest.fixture
def one_worker(bundle: Path, tmp_path: Path) -> Iterator[tuple[Server, Callable[[], None]]]:
    """A server with one session and room for three in its queue; and what lets a session that waits go on."""
    released = tmp_path / "released"
    settings = ("serve.workers=1", "serve.queue=3", "serve.drain_s=10")
    with serving(bundle, tmp_path / "log", *settings, faulty=True, RELEASED=str(released)) as server:
        yield server, released.touch


def _metric(server: Server, name: str) -> float:
    text = server.ask("GET", "/metrics")[2].decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def _held(server: Server, pool: ThreadPoolExecutor, *waiting: Array) -> list[Future[Any]]:
    """Keep the only session busy, and let requests wait behind that one."""
    found = [pool.submit(server.infer, _image(WAIT))]
    _until(
        lambda: _metric(server, "pipeline_requests_in_flight ") == 2 and _queue(server) == 0
    )  # with the one who asks
    for number, images in enumerate(waiting, 1):
        found.append(pool.submit(server.infer, images))
        _until(lambda number=number: _queue(server) == number)  # type: ignore[misc]
    return found


def _queue(server: Server) -> float:
    return _metric(server, "pipeline_queue_length{")


def test_what_gathers_while_a_batch_runs_is_run_together(
    one_worker: tuple[Server, Callable[[], None]], images: Array, expected: Array
) -> None:
    server, release = one_worker
    with ThreadPoolExecutor(8) as pool:
        asked = _held(server, pool, images[:1], images[1:3], images[3:5])
        release()
        answers = [one.result() for one in asked]
    assert [status for status, _, _ in answers] == [200] * 4
    assert 'batch;desc="1"' in answers[0][1]["server-timing"]
    for (_, headers, body), rows_expected in zip(
        answers[1:], (expected[:1], expected[1:3], expected[3:5]), strict=True
    ):
        assert 'batch;desc="5"' in headers["server-timing"]
        np.testing.assert_allclose(rows(headers, body), rows_expected, rtol=1e-5, atol=1e-7)
    text = server.ask("GET", "/metrics")[2].decode()
    assert f'pipeline_batch_samples_count{{model="{NAME}"}} 2.0' in text
    assert f'pipeline_batch_samples_sum{{model="{NAME}"}} 6.0' in text
    assert f'pipeline_requests_total{{code="200",model="{NAME}",protocol="http"}} 4.0' in text


def test_a_full_queue_refuses_one_more_and_loses_none(
    one_worker: tuple[Server, Callable[[], None]], images: Array
) -> None:
    server, release = one_worker
    with ThreadPoolExecutor(8) as pool:
        asked = _held(server, pool, images, images, images)
        status, _, body = server.infer(images)
        assert (status, "wait already" in json.loads(body)["error"]) == (429, True)
        one = tritonclient.grpc.InferInput("image", images.shape, "UINT8").set_data_from_numpy(images)
        with pytest.raises(InferenceServerException, match="RESOURCE_EXHAUSTED"):
            tritonclient.grpc.InferenceServerClient(server.grpc_url).infer(NAME, [one])
        release()
        assert [one.result()[0] for one in asked] == [200] * 4


def test_what_nobody_waits_for_any_more_is_not_run(
    one_worker: tuple[Server, Callable[[], None]], images: Array
) -> None:
    """A deadline by parameter (HTTP) and by gRPC, and a client that hangs up."""
    server, release = one_worker
    one = tritonclient.grpc.InferInput("image", images.shape, "UINT8").set_data_from_numpy(images)
    with ThreadPoolExecutor(8) as pool:
        asked = _held(server, pool)
        status, _, body = server.infer(images, parameters={"binary_data_output": True, "timeout": 100_000})
        assert (status, json.loads(body)["error"]) == (504, "not answered within 0.1 s")
        with pytest.raises(InferenceServerException, match=r"DEADLINE_EXCEEDED|Deadline Exceeded"):
            tritonclient.grpc.InferenceServerClient(server.grpc_url).infer(NAME, [one], client_timeout=0.1)
        length, body = binary(images)
        head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        with socket.create_connection(("127.0.0.1", server.http)) as connection:
            connection.sendall(f"{head}Inference-Header-Content-Length: {length}\r\n\r\n".encode() + body)
            _until(lambda: _queue(server) == 3)
        _until(lambda: _metric(server, 'pipeline_requests_total{code="499"') == 1)
        release()
        assert asked[0].result()[0] == 200
    assert server.infer(images[:1])[0] == 200
    assert server.get("/v2/models/stats")["model_stats"][0]["inference_count"] == 2, "the three were dropped"


@pytest.mark.parametrize("fault", [CRASH, NO_MEMORY])
def test_a_session_that_crashes_costs_the_request_that_made_it_and_is_opened_anew(
    one_worker: tuple[Server, Callable[[], None]], images: Array, expected: Array, fault: int
) -> None:
    server, release = one_worker
    with ThreadPoolExecutor(8) as pool:
        asked = _held(server, pool, images[:2], _image(fault), images[2:4])  # one batch
        release()
        answers = [one.result() for one in asked]
    assert [status for status, _, _ in answers] == [200, 200, 500, 200]
    np.testing.assert_allclose(rows(*answers[1][1:]), expected[:2], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(rows(*answers[3][1:]), expected[2:4], rtol=1e-5, atol=1e-7)
    assert json.loads(answers[2][2])["error"].startswith("the inference failed")
    assert server.until("session reopened", 2), "once for the batch, once for the request alone"
    assert server.infer(images)[0] == 200


def test_on_sigterm_what_was_taken_on_is_answered_and_nothing_else(
    one_worker: tuple[Server, Callable[[], None]], images: Array
) -> None:
    server, release = one_worker
    with ThreadPoolExecutor(8) as pool:
        asked = _held(server, pool, images, images)
        server.process.send_signal(signal.SIGTERM)
        server.until("stopping")
        assert server.ask("GET", "/v2/health/ready")[0] == 503
        assert server.ask("GET", "/v2/health/live")[0] == 200
        assert server.infer(images)[0] == 503
        one = tritonclient.grpc.InferInput("image", images.shape, "UINT8").set_data_from_numpy(images)
        with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            tritonclient.grpc.InferenceServerClient(server.grpc_url).infer(NAME, [one])
        release()
        assert [one.result()[0] for one in asked] == [200] * 3
    assert server.process.wait(20) == 0
    assert server.until("stopped")


def test_the_end_comes_even_where_a_session_hangs(bundle: Path, tmp_path: Path, images: Array) -> None:
    settings = ("serve.workers=1", "serve.drain_s=0.2")
    with (
        serving(bundle, tmp_path / "log", *settings, faulty=True, RELEASED=str(tmp_path / "never")) as server,
        ThreadPoolExecutor(2) as pool,
    ):
        asked = _held(server, pool)
        server.process.send_signal(signal.SIGINT)
        assert asked[0].result()[0] == 503
        assert server.process.wait(20) == 0
        assert server.until("not answered in time")["requests"] == 1


class _Clients:
    """Clients that ask one after another, over both protocols, and keep what they are told."""

    def __init__(self, server: Server, images: Array) -> None:
        self.answers: list[tuple[str, Array]] = []
        self.errors: list[str] = []
        self._server, self._images = server, images
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._by_http) for _ in range(3)]
        self._threads.append(threading.Thread(target=lambda: asyncio.run(self._by_grpc())))

    def __enter__(self) -> "_Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _by_http(self) -> None:
        while not self._stop.is_set():
            status, headers, body = self._server.infer(self._images)
            if status == 200:
                head = json.loads(body[: int(headers["inference-header-content-length"])])
                self.answers.append((head["model_version"], rows(headers, body)))
            else:
                self.errors.append(body.decode())

    async def _by_grpc(self) -> None:
        one = tritonclient.grpc.InferInput("image", self._images.shape, "UINT8").set_data_from_numpy(self._images)
        async with tritonclient.grpc.aio.InferenceServerClient(self._server.grpc_url) as client:
            while not self._stop.is_set():
                try:
                    found = await client.infer(NAME, [one])
                except InferenceServerException as error:
                    self.errors.append(str(error))
                else:
                    self.answers.append((found.get_response().model_version, found.as_numpy("probabilities")))


def _next_version(folder: Path) -> None:
    record = BundleRecord.read(folder / bundles.RECORD)
    bundles.close(folder, record.model_copy(update={"version": record.version + 1}))


def test_another_bundle_takes_the_place_of_the_first_and_no_request_is_lost(
    bundle: Path, tmp_path: Path, images: Array, expected: Array
) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    with serving(folder, tmp_path / "log") as server:
        with _Clients(server, images) as clients:
            _until(lambda: len(clients.answers) > 20)
            _next_version(folder)
            server.process.send_signal(signal.SIGHUP)
            server.until("swapped")
            _next_version(folder)
            status, _, body = server.ask("POST", f"/v2/repository/models/{NAME}/load", b"{}")
            assert (status, body) == (200, b"")
            _until(lambda: clients.answers[-1][0] == "3")
        assert not clients.errors
        assert {version for version, _ in clients.answers} == {"1", "2", "3"}
        for _, found in clients.answers:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
        assert server.get("/bundle.json")["version"] == 3
        assert server.get(f"/v2/models/{NAME}")["versions"] == ["3"]
        assert server.stop() == 0


def test_a_broken_bundle_takes_no_place(bundle: Path, tmp_path: Path, images: Array, expected: Array) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "bundle"))
    with serving(folder, tmp_path / "log") as server:
        graph = folder / "engine/fp32/model.onnx"
        graph.write_bytes(graph.read_bytes() + b"\0")
        status, _, body = server.ask("POST", f"/v2/repository/models/{NAME}/load")
        assert (status, "has changed since the bundle was made" in json.loads(body)["error"]) == (503, True)
        status, headers, body = server.infer(images)
        assert status == 200
        np.testing.assert_array_equal(rows(headers, body), expected)
        status, _, body = server.ask("POST", f"/v2/repository/models/{NAME}.original/load")
        assert status == 503, "nothing is loaded from a bundle that is not whole"
        index = json.loads(server.ask("POST", "/v2/repository/index")[2])
        assert (index[0]["state"], index[-1]["state"]) == ("READY", "UNAVAILABLE")
        assert "has changed" in index[-1]["reason"]

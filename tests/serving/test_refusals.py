"""What a malformed, hostile or slow request costs: its sender a refusal, and nobody else anything."""

import gzip
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from servers import INFER, NAME, Server, rows, serving
from tritonclient.utils import InferenceServerException

from pipeline.tensors import Array

SIZE = 784


def _header(**changes: Any) -> dict[str, Any]:
    one = {"name": "image", "datatype": "UINT8", "shape": [1, 28, 28, 1], "parameters": {"binary_data_size": SIZE}}
    return {"inputs": [one | changes]}


def _sent(tree: Any, tail: bytes = bytes(SIZE)) -> tuple[bytes, dict[str, str]]:
    text = tree if isinstance(tree, bytes) else json.dumps(tree).encode()
    return text + tail, {"Inference-Header-Content-Length": str(len(text))}


MALFORMED: dict[str, tuple[bytes, dict[str, str]]] = {
    "no JSON": _sent(b"{"),
    "a list": _sent([]),
    "nested without end": _sent(b"[" * 100_000),
    "no inputs": _sent({}),
    "inputs that are no list": _sent({"inputs": {"name": "image"}}),
    "inputs that are no objects": _sent({"inputs": ["image"]}),
    "another input": _sent(_header(name="picture")),
    "a name that is no string": _sent(_header(name=["image"])),
    "an input twice": _sent({"inputs": [*_header()["inputs"], *_header()["inputs"]]}, bytes(2 * SIZE)),
    "another type": _sent(_header(datatype="FP32")),
    "a type that is none": _sent(_header(datatype="BF999")),
    "BYTES": _sent(_header(datatype="BYTES")),
    "another size": _sent(_header(shape=[1, 28, 29, 1])),
    "another rank": _sent(_header(shape=[1, 784])),
    "no rank": _sent(_header(shape=[])),
    "no shape": _sent(_header(shape=None)),
    "no samples": _sent(_header(shape=[0, 28, 28, 1], parameters={"binary_data_size": 0}), b""),
    "a negative number of samples": _sent(_header(shape=[-1, 28, 28, 1])),
    "a huge number of samples": _sent(_header(shape=[2**62, 28, 28, 1])),
    "a shape of fractions": _sent(_header(shape=[1.0, 28, 28, 1])),
    "true as a size": _sent(_header(shape=[True, 28, 28, 1])),
    "more samples than a batch": _sent(
        _header(shape=[17, 28, 28, 1], parameters={"binary_data_size": 17 * SIZE}), bytes(17 * SIZE)
    ),
    "too few bytes": _sent(_header(), bytes(SIZE - 1)),
    "too many bytes": _sent(_header(), bytes(SIZE + 1)),
    "a size that is not the shape's": _sent(_header(parameters={"binary_data_size": 1})),
    "a size that is no number": _sent(_header(parameters={"binary_data_size": "784"})),
    "parameters that are none": _sent(_header(parameters=[])),
    "no data": _sent(_header(parameters={}), b""),
    "too few numbers": _sent(_header(parameters={}, data=[1, 2]), b""),
    "numbers too large": _sent(_header(parameters={}, data=[256] * SIZE), b""),
    "fractions for whole numbers": _sent(_header(parameters={}, data=[0.5] * SIZE), b""),
    "strings for numbers": _sent(_header(parameters={}, data=["1"] * SIZE), b""),
    "ragged lists": _sent(_header(parameters={}, data=[[1], [1, 2]]), b""),
    "null": _sent(_header(parameters={}, data=[None] * SIZE), b""),
    "an output that there is not": _sent(_header() | {"outputs": [{"name": "nothing"}]}),
    "an output twice": _sent(_header() | {"outputs": [{"name": "probabilities"}] * 2}),
    "a timeout that is none": _sent(_header() | {"parameters": {"timeout": "soon"}}),
    "a negative timeout": _sent(_header() | {"parameters": {"timeout": -1}}),
    "an id that is no string": _sent(_header() | {"id": 7}),
    "a negative number of classes": _sent(
        _header() | {"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]}
    ),
    "shared memory for an input": _sent(_header(parameters={"shared_memory_region": "a"}), b""),
    "shared memory for an output": _sent(
        _header() | {"outputs": [{"name": "probabilities", "parameters": {"shared_memory_region": "a"}}]}
    ),
    "a header longer than the body": (b"{}", {"Inference-Header-Content-Length": "3"}),
    "a header of no length": (b"{}", {"Inference-Header-Content-Length": "0"}),
    "a header's length that is none": (b"{}", {"Inference-Header-Content-Length": "-1"}),
    "not compressed as it says": (b"{}", {"Content-Encoding": "gzip"}),
    "compressed, with something behind": (gzip.compress(b"{}") + b"x", {"Content-Encoding": "gzip"}),
    "compressed, and cut off": (gzip.compress(b"{}" * 99)[:-9], {"Content-Encoding": "gzip"}),
    "nothing": (b"", {}),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_malformed_request_is_refused_with_the_reason(server: Server, what: str) -> None:
    body, headers = MALFORMED[what]
    status, said, answer = server.ask("POST", INFER, body, headers)
    assert (status, said["content-type"]) == (400, "application/json"), answer
    words = json.loads(answer)["error"]
    assert words
    assert "Traceback" not in words


def test_after_all_of_them_the_server_answers_as_before(server: Server, images: Array, expected: Array) -> None:
    for body, headers in MALFORMED.values():
        server.ask("POST", INFER, body, headers)
    status, headers_, body = server.infer(images)
    assert status == 200
    np.testing.assert_array_equal(rows(headers_, body), expected)
    assert not [event for event in server.events() if event["level"] == "error"], "a client's fault is none of ours"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/nobody/infer", 404),
        ("POST", f"/v2/models/{NAME}/versions/9/infer", 404),
        ("POST", f"/v2/models/{NAME}/versions/1/2/infer", 404),
        ("GET", "/v2/models/nobody", 404),
        ("GET", f"/v2/models/{NAME}/nothing", 404),
        ("GET", "/v2/trace/setting", 404),
        ("GET", "/v2/logging", 404),
        ("GET", "/../../etc/passwd", 404),
        ("GET", "/v2/models/%2e%2e%2f", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("POST", "/metrics", 405),
        ("GET", "/v2/repository/index", 405),
        ("POST", "/v2/systemsharedmemory/region/a/register", 400),
    ],
)
def test_what_there_is_not_is_said_to_be_none(server: Server, method: str, path: str, status: int) -> None:
    found, _, body = server.ask(method, path)
    assert found == status, body
    assert json.loads(body)["error"]


def test_a_large_body_is_refused_before_it_is_read(server: Server) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2**40}\r\n\r\n"
    assert _said(server, head.encode()).startswith(b"HTTP/1.1 413")


def test_a_large_body_of_no_declared_length_is_refused_when_it_gets_large(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.http), 10) as connection:
        connection.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"%x\r\n%b\r\n" % (1 << 20, bytes(1 << 20))
        try:
            for _ in range(64):
                connection.sendall(chunk)
        except OSError:
            pass  # it has closed the connection: what it said may be lost with it
        else:
            raise AssertionError("64 MiB were taken")
    assert server.ask("GET", "/v2/health/ready")[0] == 200


def test_a_small_body_that_grows_is_refused(server: Server) -> None:
    bomb = gzip.compress(bytes(1 << 28))
    status, _, _ = server.ask("POST", INFER, bomb, {"Content-Encoding": "gzip"})
    assert status == 413


def test_what_is_no_http_is_refused(server: Server) -> None:
    assert _said(server, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").startswith(b"HTTP/1.1 400")


def test_headers_have_an_end(server: Server) -> None:
    assert _said(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 17)).startswith(b"HTTP/1.1 431")


def _said(server: Server, request: bytes) -> bytes:
    """Send bytes, and return what is said until the connection ends."""
    with socket.create_connection(("127.0.0.1", server.http), 10) as connection:
        connection.sendall(request)
        return _rest(connection)


def _rest(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(4096):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.fixture(scope="module")
def hasty(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that gives a request half a second."""
    with serving(bundle, tmp_path_factory.mktemp("hasty") / "log", "serve.timeout_s=0.5") as found:
        yield found


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"GET /v2 HT",
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n",
        f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n{{".encode(),
        b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /v2 HT",
    ],
    ids=["nothing", "half a line", "half a head", "half a body", "half a second request"],
)
def test_a_client_that_stops_halfway_is_let_go(hasty: Server, begun: bytes) -> None:
    with socket.create_connection(("127.0.0.1", hasty.http), 10) as connection:
        connection.sendall(begun)
        assert _rest(connection).rpartition(b"HTTP/1.1 ")[2].startswith(b"408")


def test_a_client_that_sends_byte_by_byte_is_let_go(hasty: Server) -> None:
    with socket.create_connection(("127.0.0.1", hasty.http), 10) as connection:
        connection.settimeout(0.05)
        for sign in b"GET /v2 HTTP/1.1\r\nHost: localhost\r\nX-Long: " + b"x" * 1000:
            try:
                connection.sendall(bytes([sign]))
                if connection.recv(64).startswith(b"HTTP/1.1 408"):
                    return
            except TimeoutError:
                continue
    raise AssertionError("it was listened to for ever")


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs prlimit")
def test_connections_beyond_what_there_are_files_for_are_refused(bundle: Path, tmp_path: Path, images: Array) -> None:
    with serving(bundle, tmp_path / "log", files=160) as server:
        with ExitStack() as stack:
            address = ("127.0.0.1", server.http)
            taken = [stack.enter_context(socket.create_connection(address, 10)) for _ in range(80)]
            for connection in taken:
                connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            said = [connection.recv(64)[:12] for connection in taken]
            assert said == [b"HTTP/1.1 200"] * 80
            assert _said(server, b"").startswith(b"HTTP/1.1 503")
        assert server.infer(images)[0] == 200


def test_grpc_refuses_the_same(server: Server, images: Array) -> None:
    client = tritonclient.grpc.InferenceServerClient(server.grpc_url)

    def status(name: str, datatype: str, shape: list[int], data: Array, model: str = NAME, version: str = "") -> str:
        one = tritonclient.grpc.InferInput(name, shape, datatype)
        one._raw_content = data.tobytes()
        with pytest.raises(InferenceServerException) as refused:
            client.infer(model, [one], model_version=version)
        assert refused.value.message()
        return str(refused.value.status()).removeprefix("StatusCode.")

    shape = [5, 28, 28, 1]
    assert status("picture", "UINT8", shape, images) == "INVALID_ARGUMENT"
    assert status("image", "FP32", shape, images) == "INVALID_ARGUMENT"
    assert status("image", "UINT8", [5, 784], images) == "INVALID_ARGUMENT"
    assert status("image", "UINT8", [-5, 28, 28, 1], images) == "INVALID_ARGUMENT"
    assert status("image", "UINT8", [17, 28, 28, 1], np.zeros(17 * SIZE, np.uint8)) == "INVALID_ARGUMENT"
    assert status("image", "UINT8", shape, images[:4]) == "INVALID_ARGUMENT"
    assert status("image", "UINT8", shape, images, "nobody") == "NOT_FOUND"
    assert status("image", "UINT8", shape, images, version="9") == "NOT_FOUND"

"""The Open Inference Protocol over REST, the page and /metrics: an ASGI application without a framework."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from pipeline.artifacts.record import dump_json
from pipeline.serving import describing, metrics, page
from pipeline.serving.bodies import Bodies, Gone, Receive, compressed
from pipeline.serving.connections import answer
from pipeline.serving.refusals import Refused, Why, invalid
from pipeline.serving.requests import largest, parsed
from pipeline.serving.responses import JSON, Headers, response, server_timing
from pipeline.serving.security import Guard
from pipeline.serving.service import ENDING, Service
from pipeline.serving.tracing import Tracer

log = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Scope = dict[str, Any]
Reply = tuple[int, bytes, Headers]

MODELS = "/v2/models/"
KNOWN_FILES = {"/": "GET", "/favicon.ico": "GET", "/bundle.json": "GET", "/metrics": "GET"}


class App:
    """The ASGI application."""

    def __init__(self, service: Service, guard: Guard, tracer: Tracer | None) -> None:
        self._service, self._guard, self._tracer = service, guard, tracer
        self._bodies = Bodies(int(service.wanted.max_request_mib * 2**20))
        self._page = page.page() if service.wanted.page else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        assert scope["type"] == "http"
        task = asyncio.current_task()
        assert task is not None
        scope["state"]["task"] = task  # what a lost connection cancels
        in_flight = self._service.in_flight
        in_flight.add(task)
        try:
            try:
                status, body, headers = await self._reply(scope, receive)
            except (Gone, asyncio.CancelledError):  # the client has left, and reads no answer; or the server's end came
                status, body, headers = _refusal(ENDING)
            if not self._service.accepting:  # the client shall send no more on this connection
                scope["state"]["cycle"].keep_alive = False
            if status == 200 and answer(scope["state"]["cycle"], status, headers, body):
                return
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        finally:
            in_flight.discard(task)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply:
        try:
            headers = dict(scope["headers"])
            method, path = scope["method"], scope["path"]
            self._guard.check(method, path, headers)
            if path.startswith(MODELS) and path.endswith("/infer"):
                return await self._infer(method, path, headers, receive)
            return await self._other(method, path, headers, receive)
        except Refused as refused:
            return _refusal(refused)
        except (Gone, asyncio.CancelledError):
            raise
        except Exception as error:
            log.exception("request failed")
            return _refusal(Refused(Why.BROKEN, f"the server failed: {type(error).__name__}"))

    async def _infer(self, method: str, path: str, headers: dict[bytes, bytes], receive: Receive) -> Reply:
        """Answer a request to infer, and count it under the model's name if there is one."""
        began, name, code = time.perf_counter(), "", "499"
        span = self._tracer.start("http", headers.get(b"traceparent", b"")) if self._tracer else None
        try:
            if method != "POST":
                raise Refused(Why.WRONG_METHOD, "use POST")
            self._service.check_accepting()
            wanted, version = _model(path[: -len("/infer")])
            model = self._service.repository.model(wanted, version)
            name = model.name
            said = headers.get(b"inference-header-content-length")
            header = None if said is None else _length(said)
            body = await self._bodies.read(receive, headers, largest(model, header is not None))
            model = self._service.repository.model(wanted, version)  # another may have taken its place meanwhile
            asked = parsed(model, body, header)
            feed = asked.feed(body, len(body) if header is None else header)
            found = await self._service.infer(model, feed, asked.rows, asked.timeout_s)
            data, kept = response(model, asked, found)
            if (accepted := headers.get(b"accept-encoding")) is not None:
                data, kept = _compressed(data, kept, accepted)
            code = "200"
            return 200, data, [*kept, server_timing(found)]
        except Refused as refused:
            code = str(refused.why.http)
            return _refusal(refused)
        finally:
            self._service.metrics.answered(name, "http", code, time.perf_counter() - began)
            if span is not None:
                span.end(model=name, code=code)

    async def _other(self, method: str, path: str, headers: dict[bytes, bytes], receive: Receive) -> Reply:
        if path in KNOWN_FILES:
            _check_method(method, "GET")
            return self._file(path)
        parts = [unquote(part) for part in path.strip("/").split("/")]
        match parts:
            case ["v2", "repository", *rest]:
                _check_method(method, "POST")
                return await self._repository(rest, await self._bodies.read(receive, headers))
            case ["v2", *rest]:
                return self._described(method, rest)
        raise Refused(Why.NOT_FOUND, "there is nothing at this address")

    def _file(self, path: str) -> Reply:
        if path == "/metrics":
            return _sized(200, self._service.metrics.text(), (b"content-type", metrics.CONTENT_TYPE.encode()))
        if path == "/bundle.json":
            tree = self._service.repository.bundle.record.model_dump(mode="json", by_alias=True)
            return _sized(200, dump_json(tree).encode(), JSON)
        if path == "/favicon.ico":
            return 204, b"", []
        if self._page is None:
            raise Refused(Why.NOT_FOUND, "there is no page: serve.page is false")
        return 200, *self._page

    def _described(self, method: str, rest: list[str]) -> Reply:
        repository = self._service.repository
        match rest:
            case ["systemsharedmemory" | "cudasharedmemory", *_]:
                if rest[-1] == "status" and method == "GET":
                    return _json([])
                raise invalid("shared memory is not supported: send the tensors' bytes")
            case []:
                found = describing.as_json(describing.server())
            case ["health", "live"]:
                return _sized(200, b"", JSON)
            case ["health", "ready"]:
                return _sized(200 if self._service.ready else 503, b"", JSON)
            case ["models", "stats"]:
                found = describing.as_json(describing.statistics(repository.models()))
            case ["models", name, "versions", version, *what]:
                return self._of_model(method, name, version, what)
            case ["models", name, *what]:
                return self._of_model(method, name, "", what)
            case _:
                raise Refused(Why.NOT_FOUND, "there is nothing at this address")
        _check_method(method, "GET")
        return _json(found)

    def _of_model(self, method: str, name: str, version: str, what: list[str]) -> Reply:
        model = self._service.repository.model(name, version)
        match what:
            case []:
                found = describing.as_json(describing.metadata(model))
            case ["ready"]:
                return _sized(200 if self._service.ready else 503, b"", JSON)
            case ["config"]:
                found = describing.as_json(describing.config(model))
            case ["stats"]:
                found = describing.as_json(describing.statistics([model]))
            case _:
                raise Refused(Why.NOT_FOUND, "there is nothing at this address")
        _check_method(method, "GET")
        return _json(found)

    async def _repository(self, rest: list[str], body: bytes) -> Reply:
        repository = self._service.repository
        match rest:
            case ["index"]:
                ready_only = _object(body).get("ready") is True
                entries = [one for one in repository.index() if one.state == "READY" or not ready_only]
                return _json(describing.as_json(describing.index(entries))["models"])
            case ["models", name, "load"]:
                if _object(body).get("parameters"):
                    raise invalid("a model is loaded as the bundle has it: no parameters")
                self._service.check_accepting()
                await asyncio.shield(repository.load(name))
            case ["models", name, "unload"]:
                self._service.check_accepting()
                await repository.unload(name)
            case _:
                raise Refused(Why.NOT_FOUND, "there is nothing at this address")
        return _sized(200, b"", JSON)


def _model(path: str) -> tuple[str, str]:
    """Return the name and version of `/v2/models/NAME[/versions/VERSION]`; the version is empty where none is given."""
    match path[len(MODELS) :].split("/"):
        case [name]:
            return unquote(name), ""
        case [name, "versions", version]:
            return unquote(name), unquote(version)
    raise Refused(Why.NOT_FOUND, "there is nothing at this address")


def _length(said: bytes) -> int:
    if not said.isdigit() or len(said) > 18:
        raise invalid("Inference-Header-Content-Length is no number")
    return int(said)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise invalid("the request is no JSON") from error
    if not isinstance(found, dict):
        raise invalid("the request is no JSON object")
    return found


def _check_method(method: str, wanted: str) -> None:
    if method != wanted and not (method == "HEAD" and wanted == "GET"):
        raise Refused(Why.WRONG_METHOD, f"use {wanted}")


def _compressed(body: bytes, headers: Headers, accepted: bytes) -> tuple[bytes, Headers]:
    data, form = compressed(body, accepted)
    if form is None:
        return body, headers
    kept = [header for header in headers if header[0] != b"content-length"]
    return data, [*kept, (b"content-length", b"%d" % len(data)), (b"content-encoding", form)]


def _refusal(refused: Refused) -> Reply:
    status, body, headers = _json({"error": refused.words}, refused.why.http)
    # What a refused client still sends is not read: the connection ends with the answer.
    if refused.why in (Why.TOO_LARGE, Why.UNAUTHENTICATED, Why.FORBIDDEN):
        headers = [*headers, (b"connection", b"close")]
    if refused.why is Why.UNAUTHENTICATED:
        headers = [*headers, (b"www-authenticate", b"Bearer")]
    return status, body, headers


def _json(tree: Any, status: int = 200) -> Reply:
    return _sized(status, json.dumps(tree).encode(), JSON)


def _sized(status: int, body: bytes, kind: tuple[bytes, bytes]) -> Reply:
    return status, body, [kind, (b"content-length", b"%d" % len(body))]

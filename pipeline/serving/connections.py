"""HTTP connections that neither a slow client nor many can hold for ever: uvicorn's, with limits of our own."""

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from pipeline.serving.responses import Headers

LARGEST_HEAD = 64 << 10
"""Bytes of a request's line and headers."""


def answer(cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> bool:
    """Send an answer that is whole in one piece; return whether that was possible.

    It does what uvicorn's `send` does for a head and a body, which are two pieces, and each costs the system a call and
    wakes the client: a fifth of all time, for small answers.
    """
    if cycle.flow.write_paused or cycle.response_started or cycle.scope["method"] == "HEAD":
        return False
    if cycle.disconnected:
        return True
    parts = [STATUS_LINE[status]]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n", body)
    cycle.transport.write(b"".join(parts))
    cycle.response_started = cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
    return True


class Connection(HttpToolsProtocol):
    """A connection that must send each request within a time, and whose request ends when the client leaves."""

    request_timeout_s: ClassVar[float] = 30.0
    """From the first byte of a request to its last; and from a connection's start to the end of its first request."""
    most: ClassVar[int] = 1024
    """Connections at a time."""

    _timer: asyncio.TimerHandle | None = None
    _whole = False
    """Whether the request that arrived last did so to its end."""
    _head = 0
    """Bytes that arrived of a head that has not ended."""
    _in_head = True

    def connection_made(self, transport: Any) -> None:
        """Refuse a connection where there are too many; else wait for its first request."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._end(b"503 Service Unavailable", b'{"error":"too many connections"}')
            return
        self._timer = self.loop.call_later(self.request_timeout_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the request in work: nobody waits for it."""
        self._cancel_timer()
        if self.cycle is not None and not self.cycle.response_complete:
            task = self.cycle.scope["state"].get("task")
            if task is not None:
                task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in bytes, with an eye on the time since the request began and on the size of its head."""
        if self.parser is None or self.transport.is_closing():
            return
        self._whole = False
        super().data_received(data)
        if self._whole or self.transport.is_closing():
            return
        if self._in_head:
            self._head += len(data)
            if self._head > LARGEST_HEAD:
                self._end(b"431 Request Header Fields Too Large", b'{"error":"the headers are too long"}')
                return
        if self._timer is None:
            self._timer = self.loop.call_later(self.request_timeout_s, self._too_slow)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._whole, self._in_head = False, True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """End the head of a request."""
        self._in_head, self._head = False, 0
        super().on_headers_complete()
        self.cycle.scope["state"]["cycle"] = self.cycle

    def on_message_complete(self) -> None:
        """End a request."""
        self._whole, self._in_head = True, True
        if self._timer is not None:
            self._cancel_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in the form that all refusals have."""
        self._end(b"400 Bad Request", b'{"error":"no HTTP request"}')

    def _too_slow(self) -> None:
        self._timer = None
        if self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body:
            # It arrived whole and is in work; the one that is late was sent behind it, without waiting.
            self._timer = self.loop.call_later(self.request_timeout_s, self._too_slow)
            return
        self._end(b"408 Request Timeout", b'{"error":"the request did not arrive in time"}')

    def _end(self, status: bytes, body: bytes) -> None:
        """Say why, unless an answer is on its way already, and close the connection."""
        self._cancel_timer()
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            self.transport.write(head % (status, len(body)) + body)
        self.transport.close()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

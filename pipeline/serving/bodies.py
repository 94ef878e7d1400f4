"""A request's body, read within its limits: declared or not, compressed or not."""

import zlib
from collections.abc import Awaitable, Callable
from typing import Any

from pipeline.serving.refusals import Refused, Why, invalid

Receive = Callable[[], Awaitable[dict[str, Any]]]

_WINDOWS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
"""What zlib calls these forms."""

SMALL = 64 << 10
"""Bytes of a body that holds no tensors."""

HELD_FACTOR = 4
"""How many of the largest bodies are held at a time, all requests together."""


class Gone(Exception):  # noqa: N818  says what happened
    """The client has left."""


class Bodies:
    """Reads bodies, and knows how many bytes of those that have not all arrived are held."""

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._held = 0

    async def read(self, receive: Receive, headers: dict[bytes, bytes], largest: int = SMALL) -> bytes:
        """Return a body of so many bytes at most, decompressed.

        Raises:
            Refused: it is too large, before it is read where its length is declared; or it is not as it says.
            Gone: the client has left.
        """
        largest = min(largest, self._largest)
        if (declared := headers.get(b"content-length")) is not None and int(declared) > largest:
            raise _too_large(largest)
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] != "http.request":
            raise Gone
        if message["more_body"]:
            body = await self._rest(receive, body, largest)
        if len(body) > largest:
            raise _too_large(largest)
        encoding = headers.get(b"content-encoding", b"identity").lower()
        return body if encoding == b"identity" else _decompressed(body, encoding, largest)

    async def _rest(self, receive: Receive, first: bytes, largest: int) -> bytes:
        parts, size = [first], len(first)
        self._held += size
        try:
            more = True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    raise Gone
                part, more = message.get("body", b""), message["more_body"]
                parts.append(part)
                size += len(part)
                self._held += len(part)
                if size > largest:
                    raise _too_large(largest)
                if self._held > HELD_FACTOR * self._largest:
                    raise Refused(Why.FULL, "too many large requests at a time: try again later")
        finally:
            self._held -= size
        return b"".join(parts)


def compressed(body: bytes, accepted: bytes) -> tuple[bytes, bytes | None]:
    """Return a body in the form that a client asks for, and the form's name; None: as it was.

    Only where it names one form and no other, as `tritonclient` does when it is told to: browsers and most libraries
    accept all forms of all answers, and compressing tensors costs more time than sending them.
    """
    if accepted not in (b"gzip", b"deflate"):
        return body, None
    packer = zlib.compressobj(level=1, wbits=_WINDOWS[accepted])
    return packer.compress(body) + packer.flush(), accepted


def _decompressed(body: bytes, encoding: bytes, largest: int) -> bytes:
    window = _WINDOWS.get(encoding)
    if window is None:
        raise Refused(Why.WRONG_ENCODING, "Content-Encoding may be gzip or deflate")
    unpacker = zlib.decompressobj(window)
    try:
        found = unpacker.decompress(body, largest + 1)
    except zlib.error as error:
        raise invalid("the body is not compressed as its Content-Encoding says") from error
    if len(found) > largest:
        raise _too_large(largest)
    if not unpacker.eof or unpacker.unused_data:
        raise invalid("the compressed body ends early, or something follows it")
    return found


def _too_large(largest: int) -> Refused:
    return Refused(Why.TOO_LARGE, f"the request is too large: {largest} bytes at most")

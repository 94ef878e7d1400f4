"""Who may ask: those with the token, and pages of this very server; on loopback only under a name of loopback."""

import hmac
import ipaddress
from pathlib import Path

from pipeline.config.deploying import LOOPBACK
from pipeline.errors import ConfigError
from pipeline.serving.refusals import Refused, Why

OPEN = frozenset({"/", "/favicon.ico", "/v2/health/live", "/v2/health/ready"})
"""What needs no token: the page, which asks for it, and whether the server lives, for whoever starts it again."""

SHORTEST_TOKEN = 16


class Guard:
    """Checks the headers of every request, before anything of its body is read."""

    def __init__(self, host: str, token: str) -> None:
        self._expected = f"Bearer {token}".encode() if token else b""
        # A name that a stranger's server gives this machine's address (DNS rebinding) shows in Host.
        self._loopback_only = host in LOOPBACK and not token
        self._known_hosts: set[bytes] = set()

    def check_token(self, path: str, authorization: bytes) -> None:
        """Raise Refused unless no token is needed here or this is it."""
        if self._expected and path not in OPEN and not hmac.compare_digest(authorization, self._expected):
            raise Refused(Why.UNAUTHENTICATED, "send the server's token: Authorization: Bearer …")

    def check(self, method: str, path: str, headers: dict[bytes, bytes]) -> None:
        """Raise Refused where a request may not be answered."""
        host = headers.get(b"host", b"")
        if self._loopback_only and host not in self._known_hosts:
            if not _is_loopback(host):
                raise Refused(Why.FORBIDDEN, "the Host of the request is no name of this machine's own")
            if len(self._known_hosts) < 64:
                self._known_hosts.add(host)
        if b"origin" in headers or b"sec-fetch-site" in headers:
            _check_browser(method, host, headers)
        if self._expected:
            self.check_token(path, headers.get(b"authorization", b""))


def read_token(path: Path | None) -> str:
    """Return the token that a file holds; empty where there is no file to read.

    Raises:
        ConfigError: it cannot be read, or what it holds is too short to be a secret.
    """
    if path is None:
        return ""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"serve.token_file: {path} cannot be read: {error}", "Name a file with a token.") from error
    if len(token) < SHORTEST_TOKEN or any(sign.isspace() for sign in token):
        raise ConfigError(
            f"serve.token_file: {path} holds no token of {SHORTEST_TOKEN} signs or more",
            "Make one: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return token


def _check_browser(method: str, host: bytes, headers: dict[bytes, bytes]) -> None:
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2] != host:
        raise Refused(Why.FORBIDDEN, "pages of another origin may not ask")
    site = headers.get(b"sec-fetch-site", b"none")
    if method not in ("GET", "HEAD") and site not in (b"same-origin", b"none"):
        raise Refused(Why.FORBIDDEN, "pages of another site may not ask")


def _is_loopback(host: bytes) -> bool:
    name = host.decode("ascii", "replace")
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() in LOOPBACK

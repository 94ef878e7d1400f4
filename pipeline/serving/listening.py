"""Where the server listens: both protocols' ports, bound before a model is loaded, with TLS where it is set."""

import logging
import resource
import socket
from pathlib import Path
from typing import Any

import grpc
import uvicorn

from pipeline.config.deploying import Serve
from pipeline.errors import ConfigError
from pipeline.serving.connections import LARGEST_HEAD, Connection
from pipeline.serving.grpc import Authorized
from pipeline.serving.security import Guard

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
"""How long a connection stays open without a request."""

BACKLOG = 2048
ENDING_S = 1
"""How long connections may take to close, after the last answer."""


class HttpServer(uvicorn.Server):
    """uvicorn's, without signal handlers of its own."""

    def handle_exit(self, sig: int, frame: object) -> None:
        """Leave signals to `server`."""


def http_socket(wanted: Serve) -> socket.socket:
    """Bind the port of REST.

    Raises:
        ConfigError: it is in use, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((wanted.host, wanted.http_port))
    except OSError as error:
        found.close()
        raise _in_use("http_port", wanted.http_port, wanted.host, error) from error
    return found


def http_server(app: Any, wanted: Serve) -> HttpServer:
    """Return the server of REST.

    Raises:
        ConfigError: the certificate or key cannot be read.
    """
    limits = {"request_timeout_s": wanted.timeout_s, "most": _most_connections()}
    config = uvicorn.Config(
        app,
        http=type("Limited", (Connection,), limits),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=ENDING_S,
        backlog=BACKLOG,
        ssl_certfile=wanted.certificate,
        ssl_keyfile=wanted.key,
        ssl_ca_certs=None if wanted.client_ca is None else str(wanted.client_ca),
        ssl_cert_reqs=2 if wanted.client_ca else 0,  # ssl.CERT_REQUIRED: whoever has no certificate is refused
    )
    try:
        config.load()
    except OSError as error:  # also ssl.SSLError
        raise ConfigError(
            f"serve.certificate, serve.key or serve.client_ca cannot be read: {error}",
            "Name PEM files that belong together.",
        ) from error
    return HttpServer(config)


def grpc_server(servicer: Any, add: Any, guard: Guard, wanted: Serve) -> tuple[Any, int]:
    """Return the server of gRPC, and the port that it has bound.

    Raises:
        ConfigError: the port is in use, or the certificate or key cannot be read.
    """
    options = [
        ("grpc.so_reuseport", 0),  # else a second server would quietly take half of the requests
        ("grpc.max_receive_message_length", int(wanted.max_request_mib * 2**20)),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", LARGEST_HEAD),
        ("grpc.server_handshake_timeout_ms", int(wanted.timeout_s * 1e3)),  # a client that connects and says nothing
    ]
    server = grpc.aio.server(
        interceptors=[Authorized(guard)] if wanted.token_file else [],
        options=options,
        maximum_concurrent_rpcs=2 * wanted.queue + 256,
    )
    add(servicer, server)
    address = f"[{wanted.host}]:{wanted.grpc_port}" if ":" in wanted.host else f"{wanted.host}:{wanted.grpc_port}"
    try:
        if wanted.certificate is None or wanted.key is None:
            return server, server.add_insecure_port(address)
        pair = (wanted.key.read_bytes(), wanted.certificate.read_bytes())
        root = _read(wanted.client_ca)
        credentials = grpc.ssl_server_credentials([pair], root, require_client_auth=root is not None)
        return server, server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise _in_use("grpc_port", wanted.grpc_port, wanted.host, error) from error
    except OSError as error:
        raise ConfigError(f"serve: {error}", "Name PEM files.") from error


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()


def _in_use(key: str, port: int, host: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"serve.{key}: cannot listen on {host}, port {port}: {error}",
        f"Set serve.{key} to another port (0: any free one), or serve.host to an address of this machine.",
    )


def _most_connections() -> int:
    """Return how many HTTP connections the process has files for, after asking for as many as it may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(64, min(4096, most // 2))

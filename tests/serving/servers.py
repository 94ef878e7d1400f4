"""The real server in a process of its own, and requests as clients send them."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from commands import PYTHONPATH

NAME = "article_cnn"
INFER = f"/v2/models/{NAME}/infer"
FAULTY = Path(__file__).with_name("faulty.py")
"""Starts the server with sessions that fail or wait, by what is fed."""


@dataclass
class Server:
    """A server that is ready. `said` is what it printed until then, `log` the file of its log."""

    process: "subprocess.Popen[str]"
    said: str
    log: Path
    http: int
    grpc: int

    @property
    def http_url(self) -> str:
        return f"127.0.0.1:{self.http}"

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.grpc}"

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return the status, headers (small letters) and body of an answer."""
        connection = HTTPConnection("127.0.0.1", self.http, timeout=30)
        try:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        status, _, body = self.ask("GET", path)
        assert status == 200, body
        return json.loads(body)

    def infer(self, images: "np.ndarray[Any, Any]", **header: Any) -> tuple[int, Mapping[str, str], bytes]:
        """Infer by REST, with binary tensors both ways."""
        head, body = binary(images, **header)
        return self.ask("POST", INFER, body, {"Inference-Header-Content-Length": str(head)})

    def events(self) -> list[dict[str, Any]]:
        """Return the lines of its log."""
        return [json.loads(line) for line in self.log.read_text("utf-8").splitlines()]

    def until(self, event: str, count: int = 1) -> dict[str, Any]:
        """Wait for an event of the log to have come so often, and return the last of it."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if len(found := [one for one in self.events() if one["event"] == event]) >= count:
                return found[-1]
            time.sleep(0.02)
        raise AssertionError(f"no {event!r} in {self.log.read_text('utf-8')}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def binary(images: "np.ndarray[Any, Any]", **header: Any) -> tuple[int, bytes]:
    """Return the length of a request's JSON, and the whole request."""
    one = {
        "name": "image",
        "datatype": "UINT8",
        "shape": images.shape,
        "parameters": {"binary_data_size": images.nbytes},
    }
    text = json.dumps({"inputs": [one], "parameters": {"binary_data_output": True}, **header}).encode()
    return len(text), text + images.tobytes()


def rows(headers: Mapping[str, str], body: bytes) -> "np.ndarray[Any, Any]":
    """Return the probabilities of a binary answer."""
    start = int(headers["inference-header-content-length"])
    (said,) = json.loads(body[:start])["outputs"]
    return np.frombuffer(body, np.float32, offset=start).reshape(said["shape"])


@contextmanager
def serving(
    bundle: Path, log: Path, *settings: str, faulty: bool = False, files: int | None = None, **variables: str
) -> Iterator[Server]:
    """Start the server on free ports, and end it with the block; it may have so many `files` open."""
    program = [str(FAULTY)] if faulty else ["-m", "pipeline"]
    limited = ["prlimit", f"--nofile={files}"] if files else []
    chosen = ("serve.http_port=0", "serve.grpc_port=0", *settings)
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [*limited, sys.executable, *program, "serve", str(bundle), *(f"--set={one}" for one in chosen)],
            cwd=log.parent,
            env=os.environ | {"PYTHONPATH": PYTHONPATH} | variables,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
    try:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if "gRPC" in line:
                break
        ports = re.findall(r"(?:https?|grpcs?)://[^ ]+:(\d+)", said)
        assert len(ports) == 2, f"{said}\n{log.read_text('utf-8')}"
        yield Server(process, said, log, *map(int, ports))
    finally:
        process.kill()
        process.communicate()

"""The servers that are loaded: ours as a user starts it, and a real tritonserver."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks.triton import server as real

ROOT = Path(__file__).parents[2]
READY_S = 60.0


@dataclass(frozen=True)
class Server:
    """A server that answers. `lines` are what it has printed so far."""

    name: str
    model: str
    http: int
    grpc: int
    process: "subprocess.Popen[str]"
    lines: list[str] = field(default_factory=list)

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=30) as answer:
            return json.load(answer)

    def counts(self) -> tuple[int, int]:
        """Return how many samples were inferred so far, and in how many runs."""
        stats = self.get(f"/v2/models/{self.model}/stats")["model_stats"][0]
        return int(stats["inference_count"]), int(stats["execution_count"])

    def memory(self) -> int:
        """Return the bytes of memory that the process and its children hold."""
        return sum(_resident(pid) for pid in _family(self.process.pid))


@contextmanager
def ours(bundle: Path, *options: str) -> Iterator[Server]:
    """Start `python -m pipeline serve` on free ports, and end it with SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "serve", str(bundle), "--set=serve.http_port=0", "--set=serve.grpc_port=0"]
        + [f"--set={one}" for one in options],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    try:
        http, grpc = _ports(process, lines)
        # What it goes on to say is read away, or it would wait for a full pipe.
        threading.Thread(target=_drain, args=(process.stdout, lines), daemon=True).start()
        name = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["name"]
        yield Server("ours", name, http, grpc, process, lines)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def triton(repository: Path, name: str) -> Iterator[Server]:
    """Start a real tritonserver with a stand-in backend on a bundle's repository, and end it with the block."""
    with real.running(repository) as one:
        yield Server("tritonserver", name, one.http_port, one.grpc_port, one.process)


def _ports(process: "subprocess.Popen[str]", lines: list[str]) -> tuple[int, int]:
    assert process.stdout is not None
    found: dict[str, int] = {}
    for line in process.stdout:
        lines.append(line)
        if match := re.search(r"(http|grpc)s?://[^\s:]+:(\d+)", line):
            found[match[1]] = int(match[2])
        if len(found) == 2:
            return found["http"], found["grpc"]
    raise RuntimeError("the server ended: " + "".join(lines[-20:]))


def _drain(stream: IO[str] | None, lines: list[str]) -> None:
    for line in stream or ():
        lines.append(line)


def _family(pid: int) -> Sequence[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        return [pid, *(one for child in children.read_text().split() for one in _family(int(child)))]
    except OSError:
        return []


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")

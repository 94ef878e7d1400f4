"""Starting and stopping a real `tritonserver` on this machine: a test tool.

It is the 2.51 of PyTriton's wheel, with the stand-in backend of `standin.py`, and without a GPU. Its version has known
security holes (CVE-2025-23310 and -23319 among them, mended in 25.07): so it listens on the loopback alone, and is no
default of anything.

Example:
    with running(Path("artifacts/deploy/bundle/triton/onnxruntime")) as server:
        client = tritonclient.http.InferenceServerClient(server.http)
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.triton import venv
from benchmarks.triton.venv import Environment
from pipeline.errors import BackendUnavailable, BuildError

HOST = "127.0.0.1"
BACKENDS = ("onnxruntime", "tensorrt")
LONGEST_START_S, LONGEST_END_S = 60.0, 15.0


@dataclass(frozen=True)
class Server:
    """A running server: its ports on the loopback, its process, and the file of what it has said so far."""

    http_port: int
    grpc_port: int
    metrics_port: int
    process: "subprocess.Popen[str]"
    log: Path

    @property
    def http(self) -> str:
        """Where its REST interface is, as tritonclient wants it."""
        return f"{HOST}:{self.http_port}"

    @property
    def grpc(self) -> str:
        """Likewise gRPC."""
        return f"{HOST}:{self.grpc_port}"


def available() -> bool:
    """Tell whether it is set up here."""
    try:
        venv.environment()
    except BackendUnavailable:
        return False
    return True


@contextmanager
def running(
    repository: Path,
    *,
    http: int = 0,
    grpc: int = 0,
    metrics: int = 0,
    options: Sequence[str] = (),
    before: Sequence[str] = (),
) -> Iterator[Server]:
    """Start `tritonserver` on a repository, wait until it is ready, and end it with the block.

    Args:
        repository: it is only read.
        http: port; 0: any free one.
        grpc: likewise.
        metrics: likewise.
        options: more of tritonserver's.
        before: a command that starts it, as `("taskset", "--cpu-list", "0")`.

    Raises:
        BackendUnavailable: it is not set up.
        BuildError: it ended, or was not ready within a minute; with its last words.
    """
    where = venv.environment()
    with tempfile.TemporaryDirectory(prefix="triton-") as name:
        folder, own = Path(name), Path(name).name
        http, grpc, metrics = (port or free for port, free in zip((http, grpc, metrics), _free_ports(3), strict=True))
        log = folder / "log"
        command = [
            *(*before, str(where.triton / "bin" / "tritonserver")),
            f"--model-repository={repository.absolute()}",
            f"--backend-directory={_backends(where, folder / 'backends')}",
            f"--backend-config=python,shm-region-prefix-name={own}-",
            f"--id={own}",
            *(f"--{what}-address={HOST}" for what in ("http", "grpc", "metrics")),
            *(f"--{what}-port={port}" for what, port in (("http", http), ("grpc", grpc), ("metrics", metrics))),
            *("--allow-gpu-metrics=false", "--exit-timeout-secs=5", "--disable-auto-complete-config"),
            *options,
        ]
        with log.open("wb") as said:
            process = subprocess.Popen(
                command, env=_variables(where), stdout=said, stderr=said, start_new_session=True, cwd=folder, text=True
            )
        try:
            _await_ready(process, f"http://{HOST}:{http}/v2", own, log)
            yield Server(http, grpc, metrics, process, log)
        finally:
            _end(process)
            for left in Path("/dev/shm").glob(f"{own}-*"):  # noqa: S108  of a server that crashed
                left.unlink(missing_ok=True)


def _backends(where: Environment, folder: Path) -> Path:
    """Make a folder of backends: Triton's own for Python, and the stand-in under the names it stands in for."""
    shutil.copytree(where.triton / "backends" / "python", folder / "python")
    shutil.copy(where.stub, folder / "python")
    for name in BACKENDS:
        (folder / name).mkdir()
        shutil.copyfile(Path(__file__).with_name("standin.py"), folder / name / "model.py")
    return folder


def _variables(where: Environment) -> dict[str, str]:
    return os.environ | {
        "LD_LIBRARY_PATH": str(where.site / "nvidia_pytriton.libs"),
        "PATH": f"{where.python.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(where.site),
    }


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [one.getsockname()[1] for one in sockets]


def _await_ready(process: "subprocess.Popen[str]", url: str, name: str, log: Path) -> None:
    """Wait until this very server is ready: another one may have the port."""
    end = time.monotonic() + LONGEST_START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise BuildError(f"tritonserver ended with {process.returncode}\n{_last_words(log)}")
        with suppress(OSError):
            _get(f"{url}/health/ready")
            if json.loads(_get(url)).get("name") == name:
                return
        time.sleep(0.1)
    raise BuildError(f"tritonserver was not ready within {LONGEST_START_S:g} s\n{_last_words(log)}")


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=1) as answer:  # noqa: S310  the loopback
        content: bytes = answer.read()
    return content


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join([line for line in lines if line.startswith("E") or "error" in line.lower()][-5:] or lines[-5:])


def _end(process: "subprocess.Popen[str]") -> None:
    """End the server, and the processes of its Python backend, which outlive a crash and ignore SIGTERM."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(LONGEST_END_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

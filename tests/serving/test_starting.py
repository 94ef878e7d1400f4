"""What is refused before anything is loaded, what stands in for what this machine lacks, and what is said of it."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import PYTHONPATH, Run
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from made_program import bundle_with_a_program
from servers import NAME, Server, rows, serving

from pipeline import backends
from pipeline.artifacts.bundle import BundleRecord
from pipeline.deployment import bundle as bundles
from pipeline.errors import BackendUnavailable
from pipeline.tensors import Array

ANY_PORT = ("--set=serve.http_port=0", "--set=serve.grpc_port=0")


@pytest.fixture
def whole(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def test_a_changed_bundle_is_not_served(whole: Path, pipeline: Run) -> None:
    graph = whole / "engine/fp32/model.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\xff")
    run = pipeline("serve", str(whole), *ANY_PORT)
    assert run.returncode == 3
    assert "has changed since the bundle was made" in run.stderr


def test_a_bundle_that_nobody_trusted_signed_is_not_served(whole: Path, tmp_path: Path, pipeline: Run) -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "trusted.pem").write_bytes(pem)
    run = pipeline("serve", str(whole), *ANY_PORT, "--set=deploy.trusted_keys=trusted.pem")
    assert (run.returncode, "is not signed" in run.stderr) == (3, True)


@pytest.mark.parametrize("key", ["http_port", "grpc_port"])
def test_a_port_in_use_is_named(bundle: Path, pipeline: Run, key: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run = pipeline("serve", str(bundle), *ANY_PORT, f"--set=serve.{key}={taken.getsockname()[1]}")
    assert (run.returncode, f"serve.{key}: cannot listen" in run.stderr) == (2, True), run.stderr
    assert '"event": "loaded"' not in run.stderr, "before any model was"


@pytest.mark.parametrize("content", [None, "short", "with a blank in it, and so no token"])
def test_a_token_that_is_none_is_refused(bundle: Path, tmp_path: Path, pipeline: Run, content: str | None) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
    run = pipeline("serve", str(bundle), *ANY_PORT, "--set=serve.token_file=token")
    assert (run.returncode, "serve.token_file" in run.stderr) == (2, True)


def test_a_certificate_that_is_none_is_refused(bundle: Path, tmp_path: Path, pipeline: Run) -> None:
    (tmp_path / "a.pem").write_text("no certificate")
    run = pipeline("serve", str(bundle), *ANY_PORT, "--set=serve.certificate=a.pem", "--set=serve.key=a.pem")
    assert (run.returncode, "serve.certificate" in run.stderr) == (2, True), run.stderr


def test_another_verified_runner_stands_in_and_says_so(
    whole: Path, tmp_path: Path, images: Array, expected: Array, pipeline: Run
) -> None:
    try:
        backends.get("onnxruntime").probe("cuda")
        pytest.skip("this machine has what the test needs it to lack")
    except BackendUnavailable:
        pass
    record = BundleRecord.read(whole / bundles.RECORD)
    absent = {
        "runner": record.runners[0].runner.model_copy(update={"variant": "cuda", "name": "onnxruntime cuda fp32"})
    }
    first, second, *others = record.runners
    missing = first.model_copy(update=absent)
    bundles.close(whole, record.model_copy(update={"runners": (missing, second, *others)}))
    with serving(whole, tmp_path / "log") as server:
        assert "WARNING    onnxruntime cuda fp32 is not available here" in server.said
        assert f"answers instead: {second.runner.name}" in server.said
        status, headers, body = server.infer(images)
        assert status == 200
        np.testing.assert_allclose(rows(headers, body), expected, rtol=1e-4, atol=1e-5)
        assert server.get(f"/v2/models/{NAME}/config")["parameters"]["runner"]["string_value"] == second.runner.name
        assert server.until("stand-in")["level"] == "warning"
    bundles.close(whole, record.model_copy(update={"runners": (missing, others[-1])}))
    run = pipeline("serve", str(whole), *ANY_PORT)
    assert run.returncode == 4, "the original is never a stand-in"


def test_it_says_what_runs_and_logs_what_it_does(bundle: Path, server: Server) -> None:
    record = BundleRecord.read(bundle / bundles.RECORD)
    assert record.runners[0].runner.name in server.said
    assert "NOT SIGNED" in server.said
    assert f"http://127.0.0.1:{server.http}" in server.said
    server.until("ready")
    loaded = [one for one in server.events() if one["event"] == "loaded"]
    assert (loaded[0]["model"], loaded[0]["runner"]) == (NAME, record.runners[0].runner.name)


@pytest.mark.parametrize("missing", ["uvicorn", "grpc", "prometheus_client"])
def test_a_missing_library_names_the_extra(bundle: Path, missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = ['serve', {str(bundle)!r}]; cli.main()"
    run = subprocess.run(
        [sys.executable, "-c", f"from pipeline import cli; {program}"],
        env=os.environ | {"PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.returncode, "keras-tensorrt-pipeline[serve]" in run.stderr) == (4, True), run.stderr


@pytest.mark.long  # two servers
@pytest.mark.parametrize(("settings", "status"), [((), 503), (("model.trust=true",), 200)])
def test_a_program_in_a_bundle_is_served_where_the_user_trusts_it(
    settings: tuple[str, ...], status: int, bundle: Path, tmp_path: Path
) -> None:
    name = bundle_with_a_program(bundle, tmp_path / "program")
    with serving(tmp_path / "program", tmp_path / "log", *settings) as server:
        found, _, body = server.ask("POST", f"/v2/repository/models/{name}/load")
    assert (found, b"ReadFile" in body) == (status, status == 503)

"""Tokens, certificates, pages of other sites: who is answered, and who is not."""

import datetime
import ipaddress
import json
import ssl
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from servers import INFER, NAME, Server, serving
from tritonclient.utils import InferenceServerException

from pipeline.tensors import Array

TOKEN = "a-secret-of-more-than-16-signs"


def test_only_who_has_the_token_is_answered(bundle: Path, tmp_path: Path, images: Array, expected: Array) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with serving(bundle, tmp_path / "log", f"serve.token_file={tmp_path / 'token'}") as server:
        for path in ("/v2", "/bundle.json", "/metrics", f"/v2/models/{NAME}", f"/v2/models/{NAME}/ready"):
            assert server.ask("GET", path)[0] == 401, path
            assert server.ask("GET", path, headers={"Authorization": f"Bearer {TOKEN}x"})[0] == 401
            assert server.ask("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})[0] == 200
        assert server.ask("POST", f"/v2/repository/models/{NAME}/unload")[0] == 401
        assert server.infer(images)[0] == 401
        for path in ("/", "/v2/health/live", "/v2/health/ready"):
            assert server.ask("GET", path)[0] == 200
        client = tritonclient.grpc.InferenceServerClient(server.grpc_url)
        one = tritonclient.grpc.InferInput("image", images.shape, "UINT8").set_data_from_numpy(images)
        assert client.is_server_ready()
        for refused in ({}, {"authorization": "Bearer wrong"}, {"authorization": TOKEN}):
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.infer(NAME, [one], headers=refused)
        found = client.infer(NAME, [one], headers={"authorization": f"Bearer {TOKEN}"})
        np.testing.assert_array_equal(found.as_numpy("probabilities"), expected)
        assert TOKEN not in server.log.read_text("utf-8")


def _certificate(folder: Path, name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """Write NAME.pem and NAME.key.pem, signed by the issuer or by itself; return the certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(alternative, critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / f"{name}.pem").write_bytes(made.public_bytes(pem))
    (folder / f"{name}.key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made, key


def test_only_who_has_a_certificate_is_answered(bundle: Path, tmp_path: Path, images: Array, expected: Array) -> None:
    authority = _certificate(tmp_path, "authority")
    _certificate(tmp_path, "server", authority)
    _certificate(tmp_path, "client", authority)
    _certificate(tmp_path, "stranger")
    settings = {"certificate": "server.pem", "key": "server.key.pem", "client_ca": "authority.pem"}
    with serving(
        bundle, tmp_path / "log", *(f"serve.{key}={tmp_path / file}" for key, file in settings.items())
    ) as server:
        assert f"https://127.0.0.1:{server.http}" in server.said

        def get(name: str) -> Any:
            context = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
            if name:
                context.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key.pem")
            with urllib.request.urlopen(f"https://127.0.0.1:{server.http}/v2", context=context, timeout=10) as answer:
                return json.load(answer)

        assert get("client")["extensions"]
        for name in ("", "stranger"):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                get(name)
        one = tritonclient.grpc.InferInput("image", images.shape, "UINT8").set_data_from_numpy(images)

        def client(name: str) -> Any:
            files = (str(tmp_path / "authority.pem"), str(tmp_path / f"{name}.key.pem"), str(tmp_path / f"{name}.pem"))
            root, key, chain = files
            return tritonclient.grpc.InferenceServerClient(
                server.grpc_url, ssl=True, root_certificates=root, private_key=key, certificate_chain=chain
            )

        found = client("client").infer(NAME, [one])
        np.testing.assert_array_equal(found.as_numpy("probabilities"), expected)
        with pytest.raises(InferenceServerException, match="UNAVAILABLE"):
            client("stranger").infer(NAME, [one])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 400),  # it is answered: that the body is empty
        ({"Origin": "http://127.0.0.1:{port}"}, 400),
        ({"Origin": "http://127.0.0.1:{port}", "Sec-Fetch-Site": "same-origin"}, 400),
        ({"Origin": "http://elsewhere.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Host": "elsewhere.example"}, 403),
        ({"Host": "127.0.0.1.elsewhere.example:8000"}, 403),
        ({"Host": "localhost:{port}"}, 400),
        ({"Host": "[::1]:{port}"}, 400),
        ({"Host": ""}, 403),
    ],
)
def test_a_page_of_another_site_cannot_ask(server: Server, headers: dict[str, str], status: int) -> None:
    sent = {key: value.format(port=server.http) for key, value in headers.items()}
    assert server.ask("POST", INFER, b"", sent)[0] == status


def test_no_answer_lets_another_site_read_it(server: Server, images: Array) -> None:
    for headers in (server.infer(images)[1], server.ask("OPTIONS", INFER)[1], server.ask("GET", "/")[1]):
        assert not [name for name in headers if name.startswith("access-control")]


def test_a_link_from_another_site_leads_to_the_page(server: Server) -> None:
    status, headers, body = server.ask("GET", "/", headers={"Sec-Fetch-Site": "cross-site"})
    assert status == 200
    assert b"<html" in body
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'self'; script-src 'self'")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert server.ask("GET", "/favicon.ico")[0] == 204


def test_there_need_be_no_page(bundle: Path, tmp_path: Path) -> None:
    with serving(bundle, tmp_path / "log", "serve.page=false") as server:
        assert server.ask("GET", "/")[0] == 404
        assert tritonclient.http.InferenceServerClient(server.http_url).is_server_ready()

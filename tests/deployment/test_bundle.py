"""A bundle: every byte of it is checked before anything is loaded, and so is who signed it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from commands import MAIN_JOB, Run
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from made_program import bundle_with_a_program

from pipeline.artifacts.bundle import BundleRecord
from pipeline.artifacts.recommendation import Recommendation
from pipeline.deployment import bundle as bundles
from pipeline.deployment import signing
from pipeline.errors import ArtifactError, ConfigError
from pipeline.runners import inference
from pipeline.tensors import Array


@pytest.fixture
def whole(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(bundle, tmp_path / "bundle"))


def _key(folder: Path, name: str, curve: ec.EllipticCurve | None = None) -> tuple[Path, Path]:
    """Write a new private key and its public half; return their files."""
    key = ec.generate_private_key(curve or ec.SECP256R1())
    secret, public = folder / f"{name}.key.pem", folder / f"{name}.pem"
    pem = serialization.Encoding.PEM
    secret.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo))
    return secret, public


def _sign(folder: Path, key: Path) -> None:
    signing.sign(folder, folder / bundles.SIGNATURE, key, ())


def test_a_bundle_says_what_runs_and_holds_it(bundle: Path, main_job: Path) -> None:
    found = bundles.opened(bundle)
    recommended = Recommendation.read(main_job / "artifacts/benchmark/recommendation.json").choice(1, "latency")
    assert recommended is not None
    assert found.record.runners[0].runner == recommended.runner, "what is served is what was judged, options and all"
    assert found.record.runners[-1].verdict == "original"
    assert all(one.verdict == "pass" for one in found.record.runners[:-1])
    assert (found.record.inputs[0].kind, found.record.inputs[0].white) == ("picture", 255.0)
    assert found.record.outputs[0].classes == tuple(map(str, range(10)))
    assert found.record.batch_sizes == (1, 16)
    assert found.record.runners[0].measured, "it was timed"
    assert (bundle / "labels/probabilities.txt").read_text().split() == list(map(str, range(10)))


def test_the_recommended_runner_answers_from_the_bundle_alone(whole: Path, random) -> None:  # type: ignore[no-untyped-def]
    found = bundles.opened(whole)
    images = random.integers(0, 256, (5, 28, 28, 1), "uint8")
    with found.runner(found.record.runners[0]).open() as session:
        from pipeline.data import Split

        answers = inference.infer(session, Split({"image": images}), 5)["probabilities"]
    assert answers.shape == (5, 10)
    assert answers.sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_a_changed_byte_in_any_file_is_refused(whole: Path) -> None:
    files = [path for path in sorted(whole.rglob("*")) if path.is_file() and path.stat().st_size]
    assert len(files) > 8
    for path in files:
        content = path.read_bytes()
        for place in {0, len(content) // 2, len(content) - 1}:
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            with pytest.raises(ArtifactError):
                bundles.opened(whole)
        path.write_bytes(content)
    bundles.opened(whole)


@pytest.mark.parametrize("damage", ["missing", "strange", "link", "cut", "no record", "no digest"])
def test_other_damage_is_named(whole: Path, damage: str) -> None:
    model = whole / "engine/fp32/model.onnx"
    words = {
        "missing": r"model\.onnx is missing",
        "strange": r"more\.bin is no file of this bundle",
        "link": r"model\.onnx is a link",
        "cut": r"model\.onnx has changed",
        "no record": "has no bundle",
        "no digest": r"is not what .*bundle\.sha256 says",
    }[damage]
    match damage:
        case "missing":
            model.unlink()
        case "strange":
            (whole / "more.bin").write_bytes(b"?")
        case "link":
            shutil.move(model, whole.parent / "elsewhere.onnx")
            model.symlink_to(whole.parent / "elsewhere.onnx")
        case "cut":
            model.write_bytes(model.read_bytes()[:-1])
        case "no record":
            (whole / bundles.RECORD).unlink()
        case "no digest":
            (whole / bundles.DIGEST).unlink()
    with pytest.raises(ArtifactError, match=words):
        bundles.opened(whole)


def test_a_record_that_points_outside_is_refused(whole: Path) -> None:
    record = BundleRecord.read(whole / bundles.RECORD)
    (whole.parent / "elsewhere.onnx").write_bytes((whole / "engine/fp32/model.onnx").read_bytes())
    first = record.runners[0]
    outside = first.model_copy(update={"runner": first.runner.model_copy(update={"file": "../elsewhere.onnx"})})
    bundles.close(whole, record.model_copy(update={"runners": (outside, *record.runners[1:])}))
    with pytest.raises(ArtifactError, match="outside the bundle"):
        bundles.opened(whole)


def test_a_signature_holds_for_the_key_that_signed_and_no_other(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (secret, public), (_, another) = _key(tmp_path, "ours"), _key(tmp_path, "theirs", ec.SECP384R1())
    with pytest.raises(ArtifactError, match=r"is not signed, and deploy\.trusted_keys is set"):
        bundles.opened(whole, [public])
    _sign(whole, secret)
    assert bundles.opened(whole, [another, public]).signer.startswith("ours.pem (SHA-256 ")
    assert not bundles.opened(whole).signer, "nobody was asked about"
    monkeypatch.chdir(whole.parent)
    assert bundles.opened(Path("bundle"), [public]).signer, "from a path relative to the working directory"
    with pytest.raises(ArtifactError, match="signed by nobody trusted"):
        bundles.opened(whole, [another])


def _answers(found: bundles.Bundle) -> Array:
    with found.runner(found.record.runners[-1]).open() as session:
        return session.run({"image": np.zeros((2, 28, 28, 1), np.uint8)})["probabilities"].copy()


def test_a_program_in_a_bundle_runs_where_somebody_trusted_has_signed_it_or_the_user_says_so(
    bundle: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    bundle_with_a_program(bundle, program)
    with pytest.raises(ArtifactError, match="ReadFile; it was not run") as caught:
        _answers(bundles.opened(program))
    assert "model.trust=true" in caught.value.hint
    assert "deploy.trusted_keys" in caught.value.hint
    assert (_answers(bundles.opened(program, trust=True)) == 4).all()
    secret, public = _key(tmp_path, "ours")
    _sign(program, secret)
    assert (_answers(bundles.opened(program, [public])) == 4).all()
    with pytest.raises(ArtifactError, match="ReadFile"):
        _answers(bundles.opened(program))  # nobody was asked about who signed it


def test_files_made_to_fit_their_digests_again_are_still_not_those_signed(whole: Path, tmp_path: Path) -> None:
    secret, public = _key(tmp_path, "ours")
    _sign(whole, secret)
    labels = whole / "labels/probabilities.txt"
    labels.write_text(labels.read_text().replace("3", "8"))
    bundles.close(whole, BundleRecord.read(whole / bundles.RECORD))
    bundles.opened(whole)
    with pytest.raises(ArtifactError, match="signed by nobody trusted"):
        bundles.opened(whole, [public])


def test_a_certificate_of_a_trusted_root_holds(whole: Path, tmp_path: Path) -> None:
    chain = _certificates(tmp_path)
    signing.sign(whole, whole / bundles.SIGNATURE, chain["key"], [chain["leaf"], chain["root"]])
    assert bundles.opened(whole, [chain["root"]]).signer.startswith("root.pem")
    (tmp_path / "other").mkdir()
    with pytest.raises(ArtifactError, match="signed by nobody trusted"):
        bundles.opened(whole, [_certificates(tmp_path / "other")["root"]])


@pytest.mark.parametrize("what", ["nothing", "no PEM", "another kind"])
def test_a_key_that_cannot_be_read_is_named(whole: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "key.pem"
    if what != "nothing":
        path.write_text(
            "no key" if what == "no PEM" else "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n"
        )
    with pytest.raises(ConfigError, match=r"key\.pem"):
        signing.sign(whole, whole / bundles.SIGNATURE, path, ())
    (whole / bundles.SIGNATURE).write_text("{}")
    with pytest.raises(ConfigError, match=r"key\.pem cannot be read"):
        bundles.opened(whole, [path])


@pytest.mark.parametrize("text", ["", "{}", "[1, 2", '{"mediaType": 1}', "\x00\xff"])
def test_a_signature_that_is_none_is_refused(whole: Path, tmp_path: Path, text: str) -> None:
    _, public = _key(tmp_path, "ours")
    (whole / bundles.SIGNATURE).write_text(text)
    with pytest.raises(ArtifactError, match="signed by nobody trusted"):
        bundles.opened(whole, [public])


def test_the_stage_signs_counts_versions_and_verify_tells(main_job: Path, tmp_path: Path, pipeline: Run) -> None:
    shutil.copytree(main_job / "artifacts", tmp_path / "artifacts")
    secret, public = _key(tmp_path, "ours")
    before = pipeline("verify")
    assert before.returncode == 0, before.stderr
    assert "NOT SIGNED" in before.stdout
    run = pipeline("deploy", *MAIN_JOB, f"--set=deploy.key={secret}")
    assert (run.returncode, "signed by  the key ours.key.pem" in run.stdout) == (0, True), run.stdout + run.stderr
    assert "version 1" in run.stdout, "the model is the same"
    assert "article_cnn.original" in run.stdout
    trusted = f"--set=deploy.trusted_keys={public}"
    said = pipeline("verify", str(tmp_path / "artifacts/deploy"), trusted)
    assert (said.returncode, "by ours.pem" in said.stdout) == (0, True), said.stderr
    labels = tmp_path / "artifacts/deploy/bundle/labels/probabilities.txt"
    labels.write_text(labels.read_text().replace("3", "8"))
    for trust in ((), (trusted,)):
        refused: subprocess.CompletedProcess[str] = pipeline("verify", *trust)
        assert refused.returncode == 3, refused.stdout
        assert "probabilities.txt has changed since the bundle was made" in refused.stderr


def _certificates(folder: Path) -> dict[str, Path]:
    """Write a root's certificate, and a key with a certificate that the root signed."""
    import datetime

    now, made = datetime.datetime.now(datetime.UTC), {}
    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    names = {name: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("root", "leaf")}
    for name, key in (("root", root_key), ("leaf", leaf_key)):
        built = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["root"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=name == "root", path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=name == "root"), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        )
        if name == "leaf":
            built = built.add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
        made[name] = folder / f"{name}.pem"
        made[name].write_bytes(built.sign(root_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    made["key"] = folder / "leaf.key.pem"
    made["key"].write_bytes(
        leaf_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return made


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )

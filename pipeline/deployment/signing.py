"""Signatures of OpenSSF Model Signing: by a key or a certificate, made and checked offline."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import digests
from pipeline.errors import ArtifactError, ConfigError

UNTRUSTED = (
    "Load only what somebody you trust has signed: ask its publisher, or for which key deploy.trusted_keys names."
)


def sign(folder: Path, signature: Path, key: Path, certificates: Sequence[Path]) -> str:
    """Sign all files below a folder; return by whom, for people.

    Args:
        folder: what is signed; `signature`, in it, is not.
        signature: the file to write.
        key: PEM, the private key.
        certificates: PEM, the key's own first and then those that signed it; none: by the key alone.

    Raises:
        ConfigError: the key or a certificate cannot be read, or the first certificate is of another key.
    """
    library = _library()
    for path in (key, *certificates):
        if not path.is_file():
            raise ConfigError(f"deploy.key or deploy.certificates: {path} is no file", "Name a PEM file.")
    signer = library.signing.Config().set_hashing_config(_hashing(library, signature))
    try:
        if certificates:
            signer.use_certificate_signer(
                private_key=key, signing_certificate=certificates[0], certificate_chain=certificates[1:]
            )
        else:
            signer.use_elliptic_key_signer(private_key=key)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(
            f"deploy.key {key} cannot sign: {error}", "It must be an unencrypted PEM file of an ECDSA key."
        ) from error
    signer.sign(folder, signature)
    return f"the certificate {certificates[0].name}" if certificates else f"the key {key.name}"


def verified(folder: Path, signature: Path, trusted: Sequence[Path]) -> str:
    """Check that one of the trusted keys or certificates has signed all files below a folder; return who, for people.

    Where none is named, a signature cannot be checked and nobody is said to have signed: the answer is empty.

    Raises:
        ArtifactError: there is no signature, or by none of these, or the files are not those that were signed.
        ConfigError: a trusted key cannot be read.
    """
    if not trusted:
        return ""
    if not signature.is_file():
        raise ArtifactError(f"{folder} is not signed, and deploy.trusted_keys is set", UNTRUSTED)
    library, reasons = _library(), []
    for path in trusted:
        verifier = _verifier(library, path).set_hashing_config(_hashing(library, signature))
        try:
            verifier.verify(folder, signature)
        except Exception as error:  # whatever a hostile signature makes of the library
            reasons.append(f"{path}: {error}")
            continue
        return f"{path.name} (SHA-256 {digests.of_file(path)[:16]}…)"
    raise ArtifactError(f"{folder} is signed by nobody trusted:\n" + "\n".join(reasons), UNTRUSTED)


def _verifier(library: Any, path: Path) -> Any:
    verifier = library.verifying.Config()
    try:
        text = path.read_text(encoding="ascii")
        if "BEGIN CERTIFICATE" in text:
            return verifier.use_certificate_verifier(certificate_chain=[path])
        return verifier.use_elliptic_key_verifier(public_key=path)
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(
            f"deploy.trusted_keys: {path} cannot be read: {error}",
            "Name PEM files with a public ECDSA key or a certificate.",
        ) from error


def _hashing(library: Any, signature: Path) -> Any:
    # Relative to what is signed: a path relative to the working directory would be taken for one below it.
    return library.hashing.Config().set_ignored_paths(paths=[signature.name], ignore_git_paths=False)


def _library() -> Any:
    import model_signing.hashing
    import model_signing.signing
    import model_signing.verifying

    logging.getLogger("model_signing").setLevel(logging.ERROR)
    return model_signing

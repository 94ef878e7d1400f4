"""The page at /, and the headers that keep it to itself."""

import base64
import hashlib
import re
from importlib import resources

from pipeline.serving.responses import Headers


def page() -> tuple[bytes, Headers]:
    """Return the page and its headers: its own script and style run, and nothing else does."""
    text = (resources.files(__package__ or "") / "page" / "index.html").read_bytes()
    policy = (
        f"default-src 'self'; script-src 'self'{_hashes(text, b'script')}; style-src 'self'{_hashes(text, b'style')}; "
        "img-src 'self' blob: data:; media-src 'self' blob: mediastream:; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    )
    return text, [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
    ]


def _hashes(text: bytes, element: bytes) -> str:
    """Return the hashes of the page's blocks of script or style, as a policy names them."""
    blocks = re.findall(rb"<%b\b[^>]*>(.*?)</%b>" % (element, element), text, re.DOTALL | re.IGNORECASE)
    digests = (base64.b64encode(hashlib.sha256(block).digest()).decode() for block in blocks)
    return "".join(f" 'sha256-{digest}'" for digest in digests)

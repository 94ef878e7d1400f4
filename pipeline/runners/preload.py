"""Imported once, by the server from which worker processes are forked: they then have what takes seconds to import."""

from contextlib import suppress

from pipeline import backends
from pipeline.errors import BackendUnavailable

for _name in ("tensorflow", "onnxruntime"):
    with suppress(BackendUnavailable):
        backends.import_session(_name)

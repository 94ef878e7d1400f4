"""The original model in TensorFlow: every usual way to call it, and its SavedModel.

Imported without TensorFlow itself, which `session` imports.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.backends import SET_UP, LoadOptions, Role, Session, Variant, check_variant, import_session, only_path
from pipeline.errors import BackendUnavailable

# TensorFlow takes a GPU by itself where it finds one: `cpu` says where a variant runs at least, a session's `device`
# where it does.
VARIANTS = {
    "predict": Variant("keras", "cpu"),
    "call": Variant("keras", "cpu"),
    "function": Variant("keras", "cpu"),
    "xla": Variant("keras", "cpu"),
    "saved_model": Variant("saved_model", "cpu"),
}
"""`model.predict`, `model(x)`, `tf.function`, `tf.function(jit_compile=True)`, and the SavedModel's signature."""

ROLE: Role = "original"
LABEL = "TensorFlow"
DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "keras")
TUNABLE = False


def probe(variant: str) -> None:
    """Check that TensorFlow is installed, without the seconds its import takes; it runs on every machine."""
    check_variant("tensorflow", variant, VARIANTS)
    if importlib.util.find_spec("tensorflow") is None:
        raise BackendUnavailable("tensorflow is not installed", SET_UP)


@contextmanager
def load(model: Path | bytes, options: LoadOptions) -> Iterator[Session]:
    """Load a `.keras` file or a SavedModel folder.

    Raises:
        ArtifactError: it cannot be loaded.
        BackendUnavailable: TensorFlow is not installed.
        TypeError: bytes, which a folder is not.
    """
    probe(options.variant)
    with import_session("tensorflow").load(only_path(model, "tensorflow"), options) as session:
        yield session

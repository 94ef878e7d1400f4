"""Functions of the user's own, named by an import path: importing them, and identifying them without an import."""

import hashlib
import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline import environment
from pipeline.errors import DataError


def import_function(path: str, key: str) -> Callable[..., Any]:
    """Return the function that `package.module:function` names; the working directory is importable.

    Raises:
        DataError: no such module or function.
    """
    module_name, _, name = path.partition(":")
    environment.prepare_tensorflow()  # the user's module may import it
    try:
        with environment.native_log_hidden():
            function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise DataError(f"{key} = {path!r} cannot be imported: {error}", "Check the path, and PYTHONPATH.") from error
    if not callable(function):
        raise DataError(f"{key} = {path!r} is a {type(function).__name__}, not a function")
    result: Callable[..., Any] = function
    return result


def register_layers(source: str) -> None:
    """Import the module of a user's own model (`model.source`), which registers the layers that only it knows.

    A source without a colon names no function of a user's: there is nothing to register.

    Raises:
        DataError: it cannot be imported.
    """
    if ":" in source:
        import_function(source, "model.source")


def source_digest(path: str) -> str:
    """Return a digest of the file that an import path's function is written in, found without importing it."""
    try:
        spec = importlib.util.find_spec(path.partition(":")[0])
    except ImportError:
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return "not found"
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]

"""Functions of the user's own, named by an import path: importing them, and identifying them without an import."""

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline import digests, environment
from pipeline.errors import DataError

IMPORT_PATH = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
"""`package.module:function`."""


def is_import_path(source: str) -> bool:
    """Tell whether this is `package.module:function`, and no file."""
    return re.fullmatch(IMPORT_PATH, source) is not None


def import_module(name: str, key: str, value: str = "") -> ModuleType:
    """Import a module of the user's own; the working directory is importable. `key` = `value` is where it is named.

    Raises:
        DataError: there is none, or it raises.
    """
    environment.prepare_tensorflow()  # the user's module may import it
    try:
        with environment.native_log_hidden():
            return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise DataError(
            f"{key} = {(value or name)!r} cannot be imported: {type(error).__name__}: {error}",
            "Check the path, and PYTHONPATH.",
        ) from error


def import_function(path: str, key: str) -> Callable[..., Any]:
    """Return the function that `package.module:function` names; the working directory is importable.

    Raises:
        DataError: no such module or function.
    """
    module_name, _, name = path.partition(":")
    module = import_module(module_name, key, path)
    try:
        function = getattr(module, name)
    except AttributeError as error:
        raise DataError(f"{key} = {path!r} cannot be imported: {error}", "Check the path, and PYTHONPATH.") from error
    if not callable(function):
        raise DataError(f"{key} = {path!r} is a {type(function).__name__}, not a function")
    result: Callable[..., Any] = function
    return result


def register_layers(source: str, imports: Sequence[str] = ()) -> None:
    """Import what registers the layers of a user's own model: `model.imports`, and the module of `model.source`.

    A source that is no import path names no function of a user's: there is nothing to register.

    Raises:
        DataError: it cannot be imported.
    """
    for module in imports:
        import_module(module, "model.imports")
    if is_import_path(source):
        import_function(source, "model.source")


def source_digest(path: str) -> str:
    """Return a digest of the file that an import path's function is written in, found without importing it.

    Of any other source, the digest of the file, or of the files in the folder.
    """
    if not is_import_path(path):
        return digests.of_path(Path(path))[:16] if Path(path).exists() else "not found"
    try:
        spec = importlib.util.find_spec(path.partition(":")[0])
    except ImportError:
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return "not found"
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]

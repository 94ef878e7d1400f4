"""Functions of the user's own, named by an import path: importing, calling, and identifying them without an import.

Whatever they raise, `sys.exit()` as well, is told as theirs (`running`): no stage ends by it as if it were done.
"""

import functools
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn, TextIO

from pipeline import digests, environment
from pipeline.errors import DataError, PipelineError

IMPORT_PATH = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"
"""`package.module:function`."""

SAVED_MODEL = "saved_model.pb"
"""The file by which a folder is known to be a SavedModel."""

LAST_CALLS = 3
"""How many calls of a user's own code are shown of the traceback of what it raised."""

_OURS = Path(__file__).parent
_LIBRARIES = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")]


def is_import_path(source: str) -> bool:
    """Tell whether this is `package.module:function`, and no file."""
    return re.fullmatch(IMPORT_PATH, source) is not None


@contextmanager
def running(said: str, hint: str = "") -> Iterator[None]:
    """Run code of the user's own in the block; `said` is how the error begins, before what was raised.

    What it does to standard output and error, as closing them, ends with it.

    Raises:
        DataError: it raises anything, or ends the process by `sys.exit()`: with the last calls of its own traceback.
        PipelineError: it raises one, by way of the pipeline's own functions.
    """
    process = os.getpid()
    try:
        with _streams_kept(), exits_told():
            yield
    except (PipelineError, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever the user's own code raises
        raise told(said, error, hint) from error
    finally:
        if os.getpid() != process:  # a process that it forked comes back: what follows is done once
            os._exit(1)


@contextmanager
def exits_told() -> Iterator[None]:
    """Make `os._exit()` in the block what `sys.exit()` is: else it would end the command as if all were done."""
    process, leave = os.getpid(), os._exit

    def told_as_exit(status: int) -> NoReturn:
        if os.getpid() != process:  # a process that was forked ends, as it means to
            leave(status)
        raise SystemExit(status)

    os._exit = told_as_exit
    try:
        yield
    finally:
        os._exit = leave


def call(function: Callable[..., Any], *arguments: Any, said: str, hint: str = "") -> Any:
    """Call a function of the user's own; see `running` for what it raises."""
    with running(said, hint):
        return function(*arguments)


def guarded(function: Callable[..., Any], said: str) -> Callable[..., Any]:
    """Return a function of the user's own as one that raises what `running` says."""

    @functools.wraps(function)
    def guard(*arguments: Any, **named: Any) -> Any:
        with running(said):
            return function(*arguments, **named)

    return guard


def told(said: str, error: BaseException, hint: str = "") -> DataError:
    """Return the error for what a user's own code raised, with the last of its own calls."""
    try:
        words = f"{type(error).__name__}: {error}"
    except Exception:  # of its own __str__
        words = type(error).__name__
    calls = traceback.format_list(_own_calls(error)[-LAST_CALLS:])
    return DataError("\n".join([f"{said} {words}", *("".join(calls).splitlines())]), hint)


def _own_calls(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the calls of a traceback that are the user's, or else those of other packages; neither ours nor Python's.

    The user's function may be one of an installed package.
    """
    calls = [one for one in traceback.extract_tb(error.__traceback__) if not one.filename.startswith("<")]
    foreign = [one for one in calls if not Path(one.filename).is_relative_to(_OURS)]
    own = [one for one in foreign if not any(Path(one.filename).is_relative_to(folder) for folder in _LIBRARIES)]
    installed = [one for one in foreign if any(Path(one.filename).is_relative_to(two) for two in _LIBRARIES[1:])]
    return own or installed


@contextmanager
def _streams_kept() -> Iterator[None]:
    """Have standard output and error after the block as they were before, even if they are closed in it."""
    streams, saved = (sys.stdout, sys.stderr), {}
    for number in (1, 2):
        with suppress(OSError):  # it is closed, and stays so
            saved[number] = os.dup(number)
    try:
        yield
    finally:
        for number, copy in saved.items():
            os.dup2(copy, number)
            os.close(copy)
        sys.stdout, sys.stderr = (_open_again(one, number) for number, one in enumerate(streams, 1))


def _open_again(stream: TextIO, number: int) -> TextIO:
    if stream is None or not stream.closed:  # None: where Python was started without
        return stream
    return open(number, "w", encoding=stream.encoding, errors=stream.errors, closefd=False)


def import_module(name: str, key: str, value: str = "") -> ModuleType:
    """Import a module of the user's own; the working directory is importable. `key` = `value` is where it is named.

    Raises:
        DataError: there is none, or it raises.
    """
    environment.prepare_tensorflow()  # the user's module may import it
    said = f"{key} = {(value or name)!r} cannot be imported:"
    with running(said, "Check the path, and PYTHONPATH."), environment.native_log_hidden():
        return importlib.import_module(name)


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
        raise DataError(f"{key} = {path!r} is a {type(function).__name__}, not a function", "Name a function.")
    result: Callable[..., Any] = function
    return result


def register_layers(modules: Iterable[str]) -> None:
    """Import the modules that register the layers of a user's own model (`Model.modules` of the configuration).

    Raises:
        DataError: one cannot be imported.
    """
    for module in modules:
        import_module(module, "a module of model.source or model.imports")


def source_digest(path: str) -> str:
    """Return a digest of the file that an import path's function is written in, found without importing it.

    Of any other source, the digest of the file, or of the files in the folder.
    """
    if not is_import_path(path):
        return _digest_of_file(Path(path))
    try:
        spec = importlib.util.find_spec(path.partition(":")[0])
    except (Exception, SystemExit):  # whatever the package around the module raises, which is imported for this
        spec = None
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return "not found"
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]


def _digest_of_file(path: Path) -> str:
    if path.is_dir() and not (path / SAVED_MODEL).is_file():
        return "not found"  # no model, and perhaps a whole disk
    try:
        return digests.of_path(path)[:16] if path.exists() else "not found"
    except OSError as error:
        return f"not readable: {error}"  # as whoever loads it will say

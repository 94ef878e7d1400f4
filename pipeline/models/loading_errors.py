"""What Keras's errors mean when it cannot load a model: which layer it lacks, and what to do."""

import re
from pathlib import Path

from pipeline.errors import ArtifactError

AGAIN = "Give a file that Keras saved: model.save('my.keras')."

LIMIT = 400
"""Characters of Keras's own words that are shown: it prints whole configurations."""

_WRAPPED = re.compile(
    r"(?:Exception|Error) encountered(?: during deserialization)?: |Exception encountered when calling [^ ]+ "
)
_ESCAPES = re.compile(r"\x1b\[[0-9;]*m")
_MISSING = re.compile(
    r"Could not locate (?P<kind>\w+) '(?P<name>[^']+)'"
    r"|Unknown (?P<legacy>layer|\w+ function|optimizer|loss): '?(?P<old>\w+)"
)
_MODULE = re.compile(r"'module': '(?P<module>[^']+)', 'class_name': '(?P<name>[^']+)'")
_LIBRARY = re.compile(r"No module named '(?P<name>[\w.]+)")
_REGISTERED = re.compile(r"'registered_name': '(?P<name>[^']*)'")


def explain(path: Path, error: Exception) -> ArtifactError:
    """Return what to raise for an error of Keras's, of those that its loader raises for a bad file."""
    whole = words(error)
    if any(sign in whole for sign in ("unsafe", "arbitrary code", "safe_mode")):
        return ArtifactError(
            f"{path} would run arbitrary code when loaded, and is refused: {whole[:LIMIT]}",
            "Replace Lambda layers by a keras.layers.Layer subclass registered with "
            "@keras.saving.register_keras_serializable().",
        )
    if missing := _MISSING.search(whole):
        return _unknown(
            path, whole[missing.start() :], missing["kind"] or missing["legacy"], missing["name"] or missing["old"]
        )
    if library := _LIBRARY.search(whole):
        return ArtifactError(
            f"{path} needs the Python module {library['name']!r}, which is not installed",
            "Install it, or take the layer that needs it out of the model and save it again.",
        )
    if "Unable to revive" in str(error):
        return ArtifactError(
            f"{path} cannot be loaded: {whole[:LIMIT]}",
            "Let its __init__ take **options and hand them on, super().__init__(**options), or define get_config().",
        )
    return ArtifactError(f"{path} cannot be loaded: {whole[:LIMIT]}", AGAIN)


def words(error: Exception) -> str:
    """Return an error's words in one line, without colours: those of the innermost, where Keras wraps some."""
    text = " ".join(_ESCAPES.sub("", str(error.args[0] if error.args else error)).split())
    innermost = _WRAPPED.split(text)[-1].partition(" Arguments received by ")[0]
    return innermost.strip("' ") or type(error).__name__


def _unknown(path: Path, whole: str, kind: str, name: str) -> ArtifactError:
    """Return the error for a class or function of the user's own that is not registered."""
    module = next((one["module"] for one in _MODULE.finditer(whole) if one["name"] == name), "")
    registered = next((one["name"] for one in _REGISTERED.finditer(whole) if one["name"].endswith(name)), "")
    where = module or "my_package.my_layers"
    if ">" in registered or kind == "function":
        hint = f"Name the module that registers it: model.imports={where}."
    else:
        hint = (
            "Put @keras.saving.register_keras_serializable() above its class and save the model again. Or keep it: "
            f"keras.saving.get_custom_objects()[{name!r}] = {name} below its class, and model.imports={where}."
        )
    return ArtifactError(
        f"{path} needs the {kind} {name!r}{f' of {module}' * bool(module)}, which Keras does not know", hint
    )

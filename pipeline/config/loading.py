"""Reading the configuration: defaults, a TOML file, `--set section.key=value`, a command's options, in that order."""

import difflib
import errno
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from pipeline import texts
from pipeline.config import ARTICLE_CNN, Config, sections
from pipeline.errors import ConfigError

SOURCES = ("model.source", "data.source")
"""What may be files, and may be import paths, too."""

SHOWN = 100
"""How many characters of an impossible name are shown."""

NOT_TOML = (ValueError, RecursionError)
"""What tomllib raises: TOMLDecodeError; ValueError of an integer of thousands of digits; RecursionError of nesting."""


def load(
    file: Path | None = None, assignments: Iterable[str] = (), options: Mapping[str, object] | None = None
) -> Config:
    """Read the configuration.

    Args:
        file: a TOML file with any of the keys.
        assignments: `section.key=value`, each value in TOML, or a bare word, or words with commas for a list.
        options: values by `section.key`, as a command's own options set them; they win.

    Raises:
        ConfigError: names the key, the value received, and what is allowed.
    """
    tree: dict[str, Any] = {}
    if file is not None:
        try:
            content = file.read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"cannot read {file}: {reason}", "Give --config an existing TOML file.") from error
        try:
            tree = tomllib.loads(content.decode())
        except NOT_TOML as error:
            raise ConfigError(
                f"{file} is not TOML: {error}", "`python -m pipeline config` prints one that is."
            ) from error
    for assignment in assignments:
        _assign(tree, assignment)
    for key, value in (options or {}).items():
        _put(tree, key.split("."), value, key)
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_explain(detail) for detail in error.errors()),
            "`python -m pipeline config` lists every key with its meaning.",
        ) from error
    _refuse_impossible_names(config)
    return config


def _refuse_impossible_names(config: Config) -> None:
    """Raise ConfigError for a name that no file can have, so that nothing stumbles over it later."""
    tree = config.model_dump(by_alias=True)
    named: dict[str, Any] = {"artifacts": tree.pop("artifacts")}
    named |= {f"{name}.{key}": value for name, section in tree.items() for key, value in section.items()}
    for key, value in named.items():
        for name in value if isinstance(value, tuple) else (value,):
            if isinstance(name, Path) or (key in SOURCES and name):
                _refuse_impossible_name(key, name)


def _refuse_impossible_name(key: str, name: str | Path) -> None:
    if key in SOURCES and not texts.is_whole(name):
        raise ConfigError(
            f"{key} = {texts.whole(str(name))!r} has bytes that are not UTF-8",
            "Rename it: artifacts record it as text.",
        )
    try:
        os.lstat(name)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
            return  # it may be made yet, or whoever reads it will say more
        why = error.strerror if isinstance(error, OSError) else error  # ValueError: it has a NUL in it
        raise ConfigError(f"{key} = {str(name)[:SHOWN]!r} cannot be the name of a file: {why}") from error


def _assign(tree: dict[str, Any], assignment: str) -> None:
    key, equals, text = assignment.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not all((*parents, last)):
        raise ConfigError(f"--set {assignment!r} is not section.key=value", "Write it like --set train.epochs=3.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except NOT_TOML:
        value = text  # a bare word, as in --set data.name=mnist
    _put(tree, [*parents, last], value, f"--set {assignment!r}")


def _put(tree: dict[str, Any], keys: list[str], value: object, what: str) -> None:
    *parents, last = keys
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{what}: {parent!r} is a value, not a section")
        tree = child
    tree[last] = value


def _explain(detail: Any) -> str:
    """Turn one of pydantic's complaints into a line that names the key, the value and what is allowed."""
    loc = [str(part) for part in detail["loc"]]
    known = dict(sections())
    if detail["type"] == "extra_forbidden":
        inside = known.get(loc[0]) if len(loc) > 1 else None
        allowed = (
            list(inside.model_fields) if inside else [info.alias or name for name, info in Config.model_fields.items()]
        )
        close = difflib.get_close_matches(loc[-1], allowed, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        return f"unknown key {'.'.join(loc)!r}{meant}; allowed: {', '.join(allowed)}"
    if detail["type"] == "string_unicode":
        return f"{'.'.join(loc) or 'a key'}: {detail['input']!r} is not UTF-8"
    if detail["type"] == "string_pattern_mismatch":
        built_in = f"'{ARTICLE_CNN}' or " if loc[0] == "model" else ""
        return f"{'.'.join(loc)} = {detail['input']!r}: must be {built_in}an import path like package.module:function"
    field = known[loc[0]].model_fields.get(loc[1]) if loc[0] in known and len(loc) > 1 else None
    if field is not None and get_origin(field.annotation) is dict:
        key = ".".join(part for part in loc if part != "[key]")
    else:
        key = ".".join(loc[:2])  # what follows names pydantic's branches, not the user's keys
    shown = "" if len(loc) == 1 and isinstance(detail["input"], dict | BaseModel) else f" = {detail['input']!r}"
    return f"{key}{shown}: {detail['msg'].removeprefix('Value error, ')}"

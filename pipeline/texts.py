"""Texts of others, as names, labels and errors: shown as they are, and never taken for anything else.

A terminal obeys control characters, Markdown has links and tags, and a file in UTF-8 takes no lone surrogates.
"""

import re
from typing import Any

SURROGATES = re.compile("[\ud800-\udfff]")
"""What Python reads a byte of a file's name as that is not UTF-8, and what JSON can say and no text has."""

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufffe\uffff]")
"""What a terminal obeys, but for tabs and line breaks; what turns the direction of reading; what XML does not take."""

MARKUP = re.compile(r"[\\`*\[\]<>&|~$]|(?<![^\W_])_|_(?![^\W_])|(?<=\w):(?=//)|(?<=www)\.|^[#+=-](?!\d)", re.IGNORECASE)
"""What Markdown has a meaning for in a line; an underscore inside a word, as in `saved_model`, has none."""


def whole(text: str) -> str:
    """Return a text that UTF-8 can write: a byte of a name that is not UTF-8 is shown as `\\xff`."""
    return text if text.isascii() else SURROGATES.sub(_escaped, text)


def is_whole(name: object) -> bool:
    """Tell whether UTF-8 can write a name as it is."""
    return not SURROGATES.search(str(name))


def harmless(text: str) -> str:
    """Return a text that a terminal shows and does not obey: what it would obey is shown as `\\x1b`."""
    return text if text.isprintable() else CONTROL.sub(_escaped, whole(text))


def markdown(value: object) -> str:
    """Return a value as Markdown that shows it, on one line."""
    return MARKUP.sub(r"\\\g<0>", on_one_line(value))


def on_one_line(value: object) -> str:
    """Return a value as harmless text without line breaks."""
    return harmless(" ".join(str(value).split()))


def filled(template: str, *values: object, **named: object) -> str:
    """Return Markdown of ours, with values of others in the places of `str.format`.

    Example:
        filled("**{}**: {:,} samples", name, 1000)
    """
    return template.format(*map(_Value, values), **{name: _Value(value) for name, value in named.items()})


class _Value:
    """A value that is formatted as it would be, and then escaped."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __format__(self, specification: str) -> str:
        return markdown(format(self._value, specification))


def _escaped(found: "re.Match[str]") -> str:
    number = ord(found[0])
    if 0xDC80 <= number <= 0xDCFF:  # as `surrogateescape` reads a byte
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"

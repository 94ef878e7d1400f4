"""Exporters of one file are tried in order, and what is told of those that failed."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import pytest

from pipeline import exporters
from pipeline.errors import BackendUnavailable, BuildError, PipelineError
from pipeline.exporters import Exportable, Exporter, Kind
from pipeline.tensors import Signature

MODEL = Exportable("model", "keras", Path(), Signature((), ()), None, None)


class Writes(NamedTuple):
    """An exporter that writes a text, or raises."""

    text: str
    error: PipelineError | None = None
    FILE: str = "model.onnx"
    ARTIFACT: Literal["saved_model", "onnx"] = "onnx"
    TAKES: tuple[Kind, ...] = ("keras",)
    RANK: int = 0

    def versions(self) -> dict[str, str]:
        if isinstance(self.error, BackendUnavailable):
            raise self.error
        return {self.text: "1"}

    def write(self, model: Exportable, path: Path, opset: int) -> str:
        assert not path.exists(), "what failed is gone"
        path.write_text(self.text)
        if self.error:
            raise self.error
        return f"wrote {self.text}"


ABSENT = BackendUnavailable("it is not set up", "Run `make it`.")
FAILS = BuildError("cannot convert it\n  in many words", "Replace the layer.")


def attempt(folder: Path, warned: list[str], **able: Exporter) -> exporters.Made[str]:
    """Try exporters in this order; a file is right unless it says `wrong`."""
    path = folder / "model.onnx"

    def check(exporter: Exporter) -> str:
        if path.read_text() == "wrong":
            raise BuildError("differs from the original by up to 3", "Report it.")
        return f"checked {path.read_text()}"

    return exporters.first_right(able, MODEL, path, 18, check, warned.append)


def test_the_first_that_is_right_is_taken_and_no_other_is_tried(tmp_path: Path) -> None:
    warned: list[str] = []
    made = attempt(tmp_path, warned, first=Writes("one"), second=Writes("two"))
    assert made == ("first", "wrote one", {"one": "1"}, "checked one", {})
    assert (tmp_path / "model.onnx").read_text() == "one"
    assert warned == []


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (lambda: Writes("one", FAILS), "cannot convert it"),
        (lambda: Writes("wrong"), "differs from the original by up to 3"),
    ],
)
def test_one_that_fails_or_differs_is_followed_by_the_next_and_that_is_said(
    bad: Callable[[], Exporter], reason: str, tmp_path: Path
) -> None:
    warned: list[str] = []
    made = attempt(tmp_path, warned, first=bad(), second=Writes("two"))
    assert (made.exporter, made.checked) == ("second", "checked two")
    assert [str(error).splitlines()[0] for error in made.before.values()] == [reason]
    assert warned == [f"{reason}; trying second"]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (Writes("two", ABSENT), "Another exporter, second, could be tried. it is not set up. Run `make it`."),
        (Writes("wrong"), "Another exporter, second, was tried after it: differs from the original by up to 3"),
    ],
)
def test_where_none_is_right_the_firsts_words_are_raised_and_a_line_about_the_others(
    other: Exporter, said: str, tmp_path: Path
) -> None:
    with pytest.raises(BuildError) as raised:
        attempt(tmp_path, [], first=Writes("one", FAILS), second=other)
    assert raised.value.message.splitlines() == ["cannot convert it", "  in many words", said]
    assert raised.value.hint == "Replace the layer."
    assert not (tmp_path / "model.onnx").exists()


def test_one_asked_for_by_name_and_absent_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(BackendUnavailable, match="not set up"):
        attempt(tmp_path, [], only=Writes("one", ABSENT))

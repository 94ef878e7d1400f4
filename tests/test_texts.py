"""Texts of others: on a terminal, in Markdown and in files they are shown, and never obeyed."""

import io
import json
from pathlib import Path
from typing import Any

import made_run
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rare import BUNDLE
from markdown_it import MarkdownIt
from pydantic import ValidationError
from rich.text import Text

from pipeline import terminal, texts
from pipeline.artifacts import PUBLISHED, Artifact, Manifest
from pipeline.artifacts.bundle import BundleRecord
from pipeline.artifacts.model import ModelRecord
from pipeline.artifacts.store import Store
from pipeline.console import Console
from pipeline.deployment import description
from pipeline.report import markdown
from pipeline.report import run as runs

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)>[x](javascript:alert(1))![y](javascript:1)<javascript:x>"
    "`a` | b || **c** __d__ ~~e~~ &lt; https://evil.example www.evil.example\n\n# f\n\n[g]: javascript:1\n[g]\n"
    "\x1b]8;;file:///etc\x1b\\h\x1b[2J\r\x9b31m\u202etxt.exe\ud800\udcff"
)
COMMANDS = ("\x1b", "\x9b", "\r", "\u202e")
"""What a terminal would obey of it."""

NAMES_OF_FILES = ("file", "precision", "sha256", "dtype", "backend", "variant", "device", "schema", "stage", "created")
"""Fields by which a run's files are found, or which decide what is drawn."""


def parsed(page: str) -> "set[str]":
    """Return the kinds of what Markdown makes of a page."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    return {one.type for token in tokens for one in (token, *(token.children or ()))}


def hostile(tree: Any, kind: type[Artifact], whole: Any, key: str = "") -> Any:
    """Change every text of a tree, in place, that the record takes as any; the same text in the same way."""
    places = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for place, value in places:
        name = place if isinstance(place, str) else key
        if isinstance(value, dict | list):
            hostile(value, kind, whole, name)
        elif isinstance(value, str) and name not in NAMES_OF_FILES:
            tree[place] = value + HOSTILE
            try:
                kind.model_validate(whole)
            except ValidationError:
                tree[place] = value
    return whole


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    """A run whose every text is hostile."""
    root = tmp_path_factory.mktemp("hostile") / "artifacts"
    made_run.make(root)
    for kind in PUBLISHED:
        for path in root.glob(kind.PATH):
            if kind is not Manifest:
                tree = json.loads(path.read_text(encoding="utf-8"))
                path.write_text(json.dumps(hostile(tree, kind, tree)), encoding="utf-8")
    for stage in runs.STAGES:
        made_run.publish(root, stage)
        path = root / stage / "manifest.json"
        tree = json.loads(path.read_text(encoding="utf-8"))
        Manifest.model_validate(hostile(tree, Manifest, tree)).write(path)
    manifests, missing = Store(root).all_verified(runs.STAGES)
    return runs.read(root, manifests, missing)


def test_a_report_of_hostile_texts_has_no_html_and_no_link_of_theirs(run: runs.Run) -> None:
    page = markdown.render(run)
    found = parsed(page)
    assert found & {"table_open", "heading_open", "strong_open"}, "what is ours"
    assert not found & {"html_block", "html_inline", "link_open", "image", "s_open", "em_open", "fence"}
    assert page.count("evil") > 50, "the texts are there"
    assert "https://evil" not in page, "which GitHub makes a link"
    assert "www.evil" not in page
    assert not [one for one in COMMANDS if one in page]
    page.encode()


def test_a_bundles_page_of_hostile_texts_has_no_html_and_no_link_of_theirs(tmp_path: Path) -> None:
    tree = json.loads(BUNDLE.to_json())
    found = BundleRecord.model_validate(hostile(tree, BundleRecord, tree))
    description.write(found, tmp_path)
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert page.count("evil") > 10
    assert not parsed(page) & {"html_block", "html_inline", "link_open", "image", "s_open", "em_open"}


@given(st.text())
def test_markdown_shows_any_text_as_it_is(text: str) -> None:
    shown = texts.on_one_line(text)
    (paragraph,) = [
        one for one in MarkdownIt("commonmark").parse("- a " + texts.markdown(text)) if one.type == "inline"
    ]
    assert {one.type for one in paragraph.children or ()} <= {"text"}
    assert "".join(one.content for one in paragraph.children or ()).split() == ["a", *shown.split()]


@given(st.text(st.characters()))
def test_any_text_can_be_written_and_commands_no_terminal(text: str) -> None:
    shown = texts.harmless(text)
    assert shown.encode().decode() == shown
    assert not texts.CONTROL.search(shown)
    assert texts.harmless(shown) == shown


def test_a_terminal_shows_what_it_would_obey(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.answer(HOSTILE)
    terminal.complain(HOSTILE, HOSTILE)
    console = Console(file=io.StringIO(), force_terminal=True, width=200, soft_wrap=True)
    console.print(HOSTILE, markup=False, highlight=False)
    console.print(Text(HOSTILE, style="bold red"))
    drawn = console.file.getvalue()  # type: ignore[attr-defined]
    for said in ("".join(capsys.readouterr()), drawn.replace("\x1b[1;31m", "").replace("\x1b[0m", "")):
        assert not [one for one in COMMANDS if one in said]
        assert "\\x1b[2J" in said
        assert "\\x9b31m" in said
    assert "\x1b[1;31m" in drawn, "what is ours"


def test_a_name_that_is_not_utf_8_is_written_and_read_back_as_it_is_shown(tmp_path: Path) -> None:
    """As the user's own model in a folder of such a name has it; in the manifest it is the command."""
    made = tmp_path / "run"
    made_run.make(made)
    record = ModelRecord.read(made / "train/model.json")
    changed = ModelRecord.model_validate(record.model_dump(by_alias=True) | {"origin": "a\udcffb\ud800"})
    changed.write(made / "train/model.json")
    assert ModelRecord.read(made / "train/model.json") == changed
    assert changed.origin == "a\\xffb\\ud800"


def test_plain_text_is_left_alone() -> None:
    for text in ("onnxruntime cpu fp32", "16.15× (−0.70 to +0.30)", "ä\tö\nü", "saved_model → 日本語"):
        assert texts.harmless(text) == text
        assert texts.markdown(text) == " ".join(text.split())

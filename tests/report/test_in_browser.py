"""The page in a real browser: headless Chromium through Playwright. Screenshots go to build/screenshots/.

`make browser-test` looks at artifacts/report/index.html where there is one, and always at the pages of a run of the
tests' own: as it is, beside another run, with one batch size, and with markup and script wherever artifacts have text.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browsing
import pytest
from browsing import DESKTOP, PHONE
from commands import ROOT
from pages import LAYER, change, hostile, read

from pipeline.report import page

pytestmark = pytest.mark.browser
SCREENSHOTS = ROOT / "build/screenshots"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with browsing.chromium() as started:
        yield started


@pytest.fixture(scope="module")
def pages(main_job: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages to look at."""
    folder = tmp_path_factory.mktemp("pages")
    found = {"test-run": main_job / "artifacts/report/index.html"}
    own = ROOT / "artifacts/report/index.html"
    if own.is_file():
        found["artifacts"] = own
    artifacts = Path(shutil.copytree(main_job / "artifacts", folder / "artifacts"))
    found["compared"] = folder / "compared.html"
    other = read(artifacts, "a folder with a long name/before the change")
    found["compared"].write_text(page.render(read(main_job / "artifacts"), [other]), encoding="utf-8")
    whole = {}
    for file, names in (
        ("benchmark/results.json", ("cells", "speedups", "noise_floor")),
        ("benchmark/recommendation.json", ("choices",)),
    ):
        whole[file] = change(artifacts, file)
        kept = {name: [row for row in whole[file][name] if row["batch"] == 1] for name in names}
        change(artifacts, file, **kept)
    found["one-batch"] = folder / "one-batch.html"
    found["one-batch"].write_text(page.render(read(artifacts)), encoding="utf-8")
    for file, tree in whole.items():
        change(artifacts, file, **tree)
    found["hostile"] = folder / "hostile.html"
    found["hostile"].write_text(hostile(artifacts), encoding="utf-8")
    return found


Opened = Callable[..., Any]


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Iterator[Opened]:
    """Return a function that opens a page; anything it logs, requests or asks afterwards fails the test."""
    contexts, wrong = [], []

    def open_page(name: str, *, size: dict[str, int], scheme: str = "light") -> Any:
        context = browser.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: wrong.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        address = pages[name].as_uri()
        tab.on(
            "request",
            lambda request: (
                None if request.url in (address,) or request.url.startswith("data:") else wrong.append(request.url)
            ),
        )
        tab.goto(address)
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


EVERY = ("test-run", "compared", "one-batch", "hostile", "artifacts")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
@pytest.mark.parametrize("name", EVERY)
def test_it_fits_and_draws_every_point(
    opened: Opened, pages: dict[str, Path], name: str, size: dict[str, int], scheme: str
) -> None:
    if name not in pages:
        pytest.skip("`make all` has not been run here")
    tab = opened(name, size=size, scheme=scheme)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    tab.screenshot(path=SCREENSHOTS / f"{name}-{size['width']}-{scheme}.png", full_page=True)
    assert tab.evaluate("document.documentElement.scrollWidth") <= size["width"], "it scrolls sideways"
    panels = tab.evaluate(
        """[...document.querySelectorAll('.panel')].map(panel => {
            const box = panel.querySelector('svg').getBoundingClientRect();
            const drawn = '.mark-symbol path, .mark-rect path';
            const inked = [...panel.querySelectorAll(drawn)].filter(mark => {
                const own = mark.getBoundingClientRect();
                return !mark.closest('[class*=legend]') && own.width > 0 && own.height > 0
                    && own.right >= box.left && own.left <= box.right;
            });
            return {title: panel.querySelector('h3, h4').textContent, want: +panel.dataset.marks, width: box.width,
                drawn: inked.length, text: panel.querySelectorAll('svg text').length};
        })"""
    )
    assert len(panels) >= 9
    for panel in panels:
        assert panel["want"] > 0
        assert panel["drawn"] >= panel["want"], panel
        assert panel["width"] >= 280, panel
        assert panel["text"] > 3, panel


def test_the_colours_follow_the_theme(opened: Opened) -> None:
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    label = "getComputedStyle(document.querySelector('svg text')).fill"
    light = opened("test-run", size=DESKTOP, scheme="light")
    dark = opened("test-run", size=DESKTOP, scheme="dark")
    (paper, ink), (night, chalk) = light.evaluate(colours), dark.evaluate(colours)
    assert paper != night
    assert ink != chalk
    assert light.evaluate(label) == ink
    assert dark.evaluate(label) == chalk
    dark.emulate_media(media="print")
    assert dark.evaluate(colours)[0] == paper, "paper is white"


def test_the_data_are_one_click_away_and_the_keyboard_reaches_them(opened: Opened) -> None:
    tab = opened("test-run", size=DESKTOP)
    figures = tab.locator("figure")
    for index in range(figures.count()):
        figure = figures.nth(index)
        assert figure.locator("figcaption").inner_text()
        table = figure.locator("details table").first
        assert not table.is_visible()
        figure.locator("summary").click()
        assert table.is_visible()
        assert table.locator("tbody tr").count() > 0
    tab.reload()
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent") == "Skip to the content"
    for _ in range(60):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.closest('figure') && document.activeElement.tagName") == "SUMMARY":
            break
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.parentElement.open")


def test_links_lead_somewhere_on_the_page(opened: Opened) -> None:
    tab = opened("compared", size=DESKTOP)
    nowhere = tab.evaluate(
        "[...document.querySelectorAll('a')].map(a => a.getAttribute('href')).filter(h => !document.querySelector(h))"
    )
    assert nowhere == []


def test_markup_in_names_is_text(opened: Opened) -> None:
    tab = opened("hostile", size=DESKTOP)
    assert tab.locator("script").count() == 0
    assert tab.locator("img[src=x]").count() == 0
    for details in tab.locator("details").all():
        details.evaluate("element => { element.open = true }")
    cell = tab.locator("#layers th", has_text=LAYER).first
    assert cell.is_visible()
    assert tab.locator("svg text", has_text="<script>").count() > 0, "a chart's label, too"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["test-run", "compared", "artifacts"])
def test_a_screen_reader_finds_its_way(opened: Opened, pages: dict[str, Path], name: str, scheme: str) -> None:
    if name not in pages:
        pytest.skip("`make all` has not been run here")
    tab = opened(name, size=DESKTOP, scheme=scheme)
    for details in tab.locator("details").all():
        details.evaluate("element => { element.open = true }")
    assert browsing.serious(tab) == []

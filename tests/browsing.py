"""A headless browser of the Chromium family for tests: the system's, or else Playwright's own."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

QUIET = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
PHONE, DESKTOP = {"width": 375, "height": 812}, {"width": 1280, "height": 900}


def _found() -> Iterator[str]:
    """Yield the paths of browsers that are here."""
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        if path := shutil.which(name):
            yield path


@contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """Start a browser; skip the test where there is none. With REQUIRE_BROWSER=1 that is a failure."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        path = next(_found(), None)
        if path is None and not Path(playwright.chromium.executable_path).exists():
            message = "no Chromium is here; `make browser-test` installs one"
            pytest.fail(message) if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip(message)
        sandbox = [] if os.geteuid() else ["--no-sandbox"]  # Chromium has none for root
        started = playwright.chromium.launch(executable_path=path, args=[*sandbox, *QUIET, *arguments])
        yield started
        started.close()


def serious(tab: Any) -> list[tuple[str, str]]:
    """Return what axe finds that keeps people from using a page: the rule, and the first element."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(tab).response["violations"]
    return [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")]

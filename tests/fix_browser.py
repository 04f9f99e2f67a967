"""A real Chromium for the tests, the one that is installed on this machine, driven by Playwright.

``tab`` is a page in a context of its own that collects what the browser complains about; ``photograph`` keeps a picture
of it in ``$ATTUNE_TEST_ARTEFACTS`` (or the test's own folder). Without Chromium the tests are skipped, or fail with
``ATTUNE_TEST_REQUIRE_CHROMIUM=1``.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

DEADLINE_MS = 20_000
expect.set_options(timeout=DEADLINE_MS)
DESKTOP = ViewportSize(width=1440, height=1000)
PHONE = ViewportSize(width=320, height=640)
"""The narrowest that is still sold."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Start the browser that is installed, once for a module."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if os.environ.get("ATTUNE_TEST_REQUIRE_CHROMIUM") == "1":
            pytest.fail("ATTUNE_TEST_REQUIRE_CHROMIUM=1, but there is no Chromium on this machine")
        pytest.skip("optional: no Chromium on this machine")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """A page, and what the browser has complained about in it."""

    def __init__(self, context: BrowserContext) -> None:
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self._heard(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")


OpenTab = Callable[..., Tab]


@pytest.fixture
def open_tab(chromium: Browser) -> Iterator[OpenTab]:
    """Open pages in contexts of their own: ``open_tab(viewport=PHONE, color_scheme="dark")``."""
    contexts: list[BrowserContext] = []

    def opened(viewport: ViewportSize = DESKTOP, **options: str) -> Tab:
        context = chromium.new_context(viewport=viewport, **options)  # type: ignore[arg-type]  # Playwright checks them
        context.set_default_timeout(DEADLINE_MS)
        contexts.append(context)
        return Tab(context)

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def tab(open_tab: OpenTab) -> Tab:
    """Open a page as on a desk."""
    return open_tab()


@pytest.fixture
def chartless(tab: Tab) -> Tab:
    """Open a page that waits for its chart library for ever: quicker, for tests that look at something else."""
    tab.page.route("**/plotly-*.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    return tab


Photograph = Callable[[Tab, str], Path]


@pytest.fixture
def photograph(tmp_path: Path) -> Photograph:
    """Keep a picture of a whole page."""
    folder = Path(os.environ.get("ATTUNE_TEST_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)

    def taken(tab: Tab, name: str) -> Path:
        path = folder / f"dashboard-{name}.png"
        tab.page.screenshot(path=path, full_page=True)
        return path

    return taken

"""A real browser for every test here: the Chromium on the PATH, driven by Playwright, without a network.

A page may ask only what the test itself serves: its own files, or the demo at 127.0.0.1. Anything else fails
the test. `no_serious_finding` runs the accessibility rules of axe, which the package brings as a file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

FLAGS = """--no-sandbox --disable-gpu --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()
_HARMLESS = ("file:", "data:", "blob:", "about:", "http://127.0.0.1:", "ws://127.0.0.1:")


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One browser a module, as Playwright runs an event loop in this thread until it ends; each test has a
    context, and so cookies and storage, of its own.
    """
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Makes contexts, one a visitor, that fail the test where a page asks anyone outside."""
    made: list[BrowserContext] = []
    asked: list[str] = []

    def make(**settings: Any) -> BrowserContext:
        context = browser.new_context(**settings)

        def note(request: Request) -> None:
            if not request.url.startswith(_HARMLESS):
                asked.append(request.url)

        context.on("request", note)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()
    assert asked == []


@pytest.fixture
def tab(new_context: Callable[..., BrowserContext]) -> Page:
    """A page in a context of its own."""
    return new_context().new_page()


@pytest.fixture
def no_serious_finding() -> Callable[[Page], None]:
    """Fails where axe finds something serious or critical on the page as it stands."""

    def check(page: Page) -> None:
        found = Axe().run(page).response["violations"]
        serious = [
            f"{one['id']}: {one['help']} ({', '.join(str(node['target']) for node in one['nodes'][:3])})"
            for one in found
            if one["impact"] in ("serious", "critical")
        ]
        assert serious == []

    return check

"""The pictures of README.md, taken of a finished run: python docs/screenshots.py RUN [--out docs].

Needs what the browser tests need: Playwright, and a Chromium on the PATH. One function a picture; the name of
the function is that of its file.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTH = 1200


def report(page: Page, run: Path) -> bytes:
    """The top of the report: the claim, the headline table, the arms."""
    page.set_viewport_size({"width": WIDTH, "height": 1150})
    page.goto((run / "report" / "index.html").resolve().as_uri())
    return page.screenshot()


def samples(page: Page, run: Path) -> bytes:
    """The sample browser, at samples that behavior won over base."""
    page.set_viewport_size({"width": WIDTH, "height": 1150})
    page.goto((run / "report" / "samples.html").resolve().as_uri())
    page.locator("article").first.wait_for()
    page.get_by_role("button", name="base wrong, behavior right").click()
    page.wait_for_timeout(500)
    return page.screenshot()


PICTURES: tuple[Callable[[Page, Path], bytes], ...] = (report, samples)


def main() -> None:
    """Takes all pictures, in light colors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a run that went through `report`")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for picture in PICTURES:
            page = browser.new_context(color_scheme="light").new_page()
            (asked.out / f"{picture.__name__}.png").write_bytes(picture(page, asked.run))
        browser.close()


if __name__ == "__main__":
    main()

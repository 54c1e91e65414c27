"""Screenshots of the demo for README and documentation: python docs/demo_screenshots.py RUN VIDEO [OUT].

Starts `behavior-llava serve RUN`, uploads the video as a visitor would, and writes demo_chat.png,
demo_audience.png and demo_compare.png. Needs Playwright and a Chromium on the PATH (the extra `dev`).
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

QUESTION = "What do viewers feel?"
_PATIENCE_MS = 120_000


def take(url: str, media: Path, out: Path) -> list[Path]:
    """Uses the demo at an address and writes a picture of each tab; the files, in order."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("no chromium on the PATH")
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1100, "height": 800}, device_scale_factor=1.5)
        page.set_default_timeout(_PATIENCE_MS)
        page.goto(url)
        page.get_by_label("I have read these terms").check()
        page.get_by_role("button", name="Start").click()
        page.locator("#upload input[type=file]").set_input_files(media)
        expect(page.locator("#seen img").first).to_be_visible(timeout=_PATIENCE_MS)
        files = [
            _chat(page, out / "demo_chat.png"),
            _audience(page, out / "demo_audience.png"),
        ]
        if page.get_by_role("tab", name="Compare").count():
            files.append(_compare(page, out / "demo_compare.png"))
        browser.close()
    return files


def _chat(page: Page, file: Path) -> Path:
    page.get_by_label("Your question").fill(QUESTION)
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#dialogue .bot").last).to_contain_text(re.compile(r"\w"), timeout=_PATIENCE_MS)
    page.wait_for_timeout(2000)
    page.screenshot(path=file, full_page=True)
    return file


def _audience(page: Page, file: Path) -> Path:
    page.get_by_role("tab", name="Audience").click()
    page.get_by_role("button", name="Predict the audience").click()
    expect(page.locator("#audience [data-part=likes]")).to_be_visible(timeout=_PATIENCE_MS)
    page.wait_for_timeout(500)
    page.screenshot(path=file, full_page=True)
    return file


def _compare(page: Page, file: Path) -> Path:
    page.get_by_role("tab", name="Compare").click()
    page.get_by_label("Question to all").fill(QUESTION)
    page.get_by_role("button", name="Ask all").click()
    expect(page.get_by_label("behavior", exact=True)).not_to_have_value("", timeout=_PATIENCE_MS)
    page.wait_for_timeout(2000)
    page.screenshot(path=file, full_page=True)
    return file


def main(run: Path, media: Path, out: Path) -> None:
    """Serves a run while the pictures are taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "behavior_llava", "serve", str(run), "--port", str(port)]
    with subprocess.Popen(command) as server:
        try:
            until = time.monotonic() + 120
            while time.monotonic() < until:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.2)
            for file in take(f"http://127.0.0.1:{port}", media, out):
                sys.stdout.write(f"{file}\n")
        finally:
            server.terminate()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3] if len(sys.argv) == 4 else "docs"))

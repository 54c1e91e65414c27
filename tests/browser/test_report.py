"""The report in a real browser, from a file and without a network: it renders, and asks for nothing."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from behavior_llava.evaluation.summary import Config, summarize
from behavior_llava.reporting.page import PageContent, SampleAnswer, SampleRow, write_page

BLUE = (10, 90, 160)
ARMS = ("content_only", "shuffled", "behavior")
FLAGS = """--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking
--disable-component-update --disable-sync --hide-scrollbars --window-size=1200,9000
--enable-logging=stderr""".split()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tasks = {
        "emotion": {"benchmark": "b", "metric": "accuracy", "modality": "image", "chance": 0.25}
        | {"majority": 0.25, "low_level": False, "published": None, "listed": 40}
    }
    rows = [
        {
            "benchmark": "b",
            "task": "emotion",
            "metric": "accuracy",
            "setting": "zero_shot",
            "arm": arm,
            "seed": 0,
            "shots": 0,
        }
        | {"label_fraction": None, "scoring": "sum", "primary": True, "group": None, "label": "1"}
        | {"sample_id": f"s{item}", "cluster": f"m{item}", "prediction": json.dumps(int(item % 4 < right))}
        for right, arm in enumerate(ARMS, 1)
        for item in range(40)
    ]
    buffer = io.BytesIO()
    Image.new("RGB", (320, 320), BLUE).save(buffer, "PNG")
    content = PageContent(
        title="in a browser",
        summary=summarize(rows, tasks, ARMS, Config(draws=100, flips=100)),
        tasks=tasks,
        config_text="name: x\n",
        losses={("behavior", 0): [(0, 3.0), (10, 2.0)]},
        samples=[
            SampleRow(
                task="emotion",
                sample_id="s1",
                question="?",
                label="awe",
                pictures=[buffer.getvalue()],
                media_kind="image",
                answers=[SampleAnswer(arm="behavior", text="<b>awe</b>", is_right=True)],
            )
        ],
        synthetic=True,
    )
    return write_page(tmp_path_factory.mktemp("page"), content)


def browse(chromium: str, page: Path, room: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [chromium, *FLAGS, f"--user-data-dir={room / 'profile'}", *words, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def test_it_renders_with_its_pictures_and_colors(chromium: str, page: Path, tmp_path: Path) -> None:
    shot = tmp_path / "shot.png"
    browse(chromium, page, tmp_path, f"--screenshot={shot}")
    pixels = np.asarray(Image.open(shot).convert("RGB"), np.int16)
    # the thumbnail is a JPEG inside the page: about 160 x 160 of nearly this color, and nothing else has it
    assert (np.abs(pixels - BLUE).max(axis=2) <= 6).sum() > 150 * 150
    # styles apply: a page without them is black on white, with hardly any color
    assert (np.ptp(pixels, axis=2) > 40).sum() > 150 * 150 + 5_000


def test_the_browser_finds_no_fault_and_nothing_is_asked_of_anyone(
    chromium: str, page: Path, tmp_path: Path
) -> None:
    read = browse(chromium, page, tmp_path, "--dump-dom")
    assert "Synthetic data" in read.stdout
    assert "&lt;b&gt;awe&lt;/b&gt;" in read.stdout
    said = [line for line in read.stderr.splitlines() if ":CONSOLE" in line]
    assert said == []
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", read.stdout)

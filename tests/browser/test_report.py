"""The report in a real browser, opened from files and without a network.

The page, the sample browser and the project page: they render, ask for nothing from outside, can be used with
a keyboard, and pass the rules of axe in light and dark.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from behavior_llava.evaluation.summary import PREDICTIONS, Config, summarize
from behavior_llava.reporting import report, samples, site
from behavior_llava.reporting.content import PageContent, SampleAnswer, SampleRow
from behavior_llava.reporting.lineage import Step

BLUE = (10, 90, 160)
ARMS = ("base", "content_only", "shuffled", "behavior", "only_comments")
HOSTILE = (
    "</script><script>document.title='run'</script>\u2028\u202e<img src=x onerror=\"document.title='run'\">"
)
NUM_SAMPLES = 3000
WON = 7
"""One sample in so many has base wrong and behavior right."""

Check = Callable[[Page], None]


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (320, 320), BLUE).save(buffer, "PNG")
    return buffer.getvalue()


def predictions() -> pa.Table:
    rows = []
    for item in range(NUM_SAMPLES):
        for arm in ("base", "behavior"):
            is_right = item % WON != 0 or arm == "behavior"
            words = HOSTILE if item == 1 else f"{arm} says thing {item}"
            rows.append(
                {"benchmark": "b", "task": f"task{item % 2}", "metric": "accuracy", "setting": "zero_shot"}
                | {"arm": arm, "seed": item % 3, "shots": 0, "scoring": "sum", "primary": True}
                | {"sample_id": f"s{item:05d}", "cluster": f"m{item}", "label": json.dumps("joy")}
                | {"prediction": json.dumps("joy" if is_right else "awe"), "answer": words}
                | {"context": "what was seen" if item == 1 else None}
                | {"likely": [{"label": "joy", "probability": 0.75}, {"label": "awe", "probability": 0.25}]}
            )
    return pa.Table.from_pylist(rows, schema=PREDICTIONS)


@pytest.fixture(scope="module")
def content() -> PageContent:
    tasks = {
        name: {"benchmark": "b", "metric": "accuracy", "modality": "image", "chance": 0.25}
        | {"majority": 0.25, "low_level": name == "abstract", "published": None, "listed": 40}
        for name in ("emoset", "abstract", "caer")
    }
    rows = [
        {"benchmark": "b", "task": task, "metric": "accuracy", "setting": setting, "arm": arm, "seed": 0}
        | {"shots": 0, "label_fraction": None, "scoring": "sum", "primary": True, "group": None, "label": "1"}
        | {"sample_id": f"s{item}", "cluster": f"m{item}"}
        | {"prediction": json.dumps(int((item + number) % 6 < right))}
        for number, task in enumerate(tasks)
        for setting in ("zero_shot", "zero_shot_verbalized")
        for right, arm in enumerate(ARMS, 1)
        for item in range(40)
    ]
    return PageContent(
        title="in a browser",
        summary=summarize(rows, tasks, ARMS, Config(draws=100, flips=100), synthetic=True),
        tasks=tasks,
        config_text="name: x\n",
        survivors={
            "sandbox": [
                {"filter": "nsfw", "table": "posts", "rows_in": 9, "kept": 8, "dropped": 1, "pooled": None}
            ]
        },
        losses={("behavior", 0): [(0, 3.0), (10, 2.0)]},
        samples=[
            SampleRow(
                task="emoset",
                sample_id="s1",
                question="?",
                label="awe",
                pictures=[picture()],
                media_kind="image",
                answers=[SampleAnswer(arm="behavior", text="<b>awe</b>", is_right=True)],
            )
        ],
        synthetic=True,
        lineage=[Step("collect", ("source 0 (ab)",), {"posts": 9}, {}, "ab12")],
        num_browsable=NUM_SAMPLES,
        has_files=True,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, content: PageContent) -> Path:
    """A report with its sample browser; the pictures of all samples are one medium."""
    place = tmp_path_factory.mktemp("report")
    look = samples.Look(key="one", kind="image", pictures=lambda: [picture()])
    browsed = samples.Browsed(
        title="in a browser",
        table=predictions(),
        arms=("base", "behavior"),
        question=lambda task, sample: "Which emotion?",
        look=lambda *_: look,
        most=10_000,
        synthetic=True,
    )
    assert samples.write(browsed, place) == NUM_SAMPLES
    report.write_files(content, place)
    return place


def opened(tab: Page, path: Path, fragment: str = "") -> list[str]:
    """Opens a file; what the browser complains of is added to the list that comes back."""
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(path.as_uri() + fragment)
    return said


# ---- the page ----------------------------------------------------------------------------------------------


def test_report_offline_renders_with_its_pictures_and_colors(tab: Page, folder: Path) -> None:
    said = opened(tab, folder / "index.html")
    shot = tab.screenshot(full_page=True)
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), np.int16)
    # the thumbnail is a JPEG inside the page: about 160 x 160 of nearly this color, and nothing else has it
    assert (np.abs(pixels - BLUE).max(axis=2) <= 6).sum() > 150 * 150
    # styles apply: a page without them is black on white, with hardly any color
    assert (np.ptp(pixels, axis=2) > 40).sum() > 150 * 150 + 5_000
    assert said == []
    assert tab.locator("script").count() == 0


def test_report_offline_opens_with_the_claim_and_beside_it_that_it_is_a_positive_control(
    tab: Page, folder: Path
) -> None:
    opened(tab, folder / "index.html")
    first, second = (tab.locator("header > *").nth(place) for place in (1, 2))
    expect(first).to_contain_text("behavior beats content_only and shuffled on")
    expect(second).to_contain_text("Over content_only alone")
    expect(tab.locator("header > *").nth(3)).to_contain_text("positive control")
    assert tab.get_by_text("<b>awe</b>").count() == 1


def test_report_offline_every_link_leads_to_a_file_that_is_there(tab: Page, folder: Path) -> None:
    opened(tab, folder / "index.html")
    links = tab.eval_on_selector_all("a", "all => all.map(one => one.getAttribute('href'))")
    files = [one for one in links if not one.startswith("#")]
    assert {"samples.html", "tables/headline.csv", "charts/forest-zero-shot.svg"} <= set(files)
    assert [one for one in files if not (folder / one).is_file()] == []
    assert [one for one in links if one.startswith("#") and tab.locator(one).count() != 1] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["index.html", "samples.html"])
def test_report_offline_and_sample_browser_have_no_serious_finding(
    new_context: Callable[..., BrowserContext],
    no_serious_finding: Check,
    folder: Path,
    scheme: str,
    name: str,
) -> None:
    tab = new_context(color_scheme=scheme).new_page()
    opened(tab, folder / name)
    if name == "samples.html":
        tab.locator("article").first.wait_for()
    tab.eval_on_selector_all("details", "all => all.forEach(one => { one.open = true; })")
    no_serious_finding(tab)


def test_report_offline_prints_what_is_folded_and_cuts_no_table(tab: Page, folder: Path) -> None:
    opened(tab, folder / "index.html")
    tab.set_viewport_size({"width": 720, "height": 1000})
    folded = tab.get_by_text("Every filter's count, sandbox").locator("xpath=..").locator("table")
    assert not folded.is_visible()
    tab.emulate_media(media="print")
    assert folded.is_visible()
    assert tab.locator("nav").first.is_hidden()
    tables = tab.eval_on_selector_all("table", "all => all.map(one => one.getBoundingClientRect().right)")
    assert len(tables) >= 20
    assert max(tables) <= 720
    hidden = "all => all.filter(one => getComputedStyle(one).overflowX !== 'visible').length"
    assert tab.eval_on_selector_all(".scroll", hidden) == 0


# ---- the sample browser ------------------------------------------------------------------------------------


def drawn(tab: Page, act: Callable[[], Any]) -> None:
    """Does something and waits until the list is drawn anew."""
    before = tab.evaluate("document.documentElement.dataset.drawn")
    act()
    tab.wait_for_function("before => document.documentElement.dataset.drawn !== before", arg=before)


def browse(tab: Page, folder: Path, fragment: str = "") -> list[str]:
    said = opened(tab, folder / "samples.html", fragment)
    tab.locator("html[data-drawn]").wait_for()
    return said


def test_sample_browser_filters_what_one_arm_won(tab: Page, folder: Path) -> None:
    said = browse(tab, folder)
    expect(tab.locator("#status")).to_have_text("3,000 of 3,000 samples")
    drawn(tab, lambda: tab.get_by_role("button", name="base wrong, behavior right").click())
    expect(tab.locator("#status")).to_have_text(f"{-(-NUM_SAMPLES // WON)} of 3,000 samples")
    verdicts = tab.locator("article tbody .tag").all_text_contents()
    assert verdicts == ["wrong", "right"] * 20
    drawn(tab, lambda: tab.get_by_label("task").select_option("task1"))
    drawn(tab, lambda: tab.get_by_label("seed").select_option("2"))
    expected = sum(item % WON == 0 and item % 2 == 1 and item % 3 == 2 for item in range(NUM_SAMPLES))
    expect(tab.locator("#status")).to_have_text(f"{expected} of 3,000 samples")
    drawn(tab, lambda: tab.get_by_role("button", name="base right, behavior wrong").click())
    expect(tab.locator("#status")).to_have_text("0 of 3,000 samples")
    drawn(tab, lambda: tab.get_by_role("button", name="show all").click())
    expect(tab.locator("#status")).to_have_text("3,000 of 3,000 samples")
    assert said == []


def test_sample_browser_searches_all_texts_and_shows_probabilities(tab: Page, folder: Path) -> None:
    browse(tab, folder)
    drawn(tab, lambda: tab.get_by_role("searchbox").fill("Behavior  THING 2999"))
    expect(tab.locator("#status")).to_have_text("1 of 3,000 samples")
    article = tab.locator("article")
    expect(article).to_contain_text("s02999")
    expect(article).to_contain_text("75.0 % joy")
    assert article.locator("img").evaluate("one => one.decode().then(() => one.naturalWidth)") == 160


def test_sample_browser_opens_the_sample_a_link_names(
    new_context: Callable[..., BrowserContext], tab: Page, folder: Path
) -> None:
    browse(tab, folder)
    drawn(tab, lambda: tab.get_by_role("button", name="next").click())
    link = tab.locator("article h3 a").nth(3)
    name, target = link.inner_text(), link.get_attribute("href") or ""
    other = new_context().new_page()
    browse(other, folder, target)
    assert other.locator("article h3 a").all_inner_texts() == [name]
    expect(other.locator("#status")).to_have_text("One sample, as the link says")
    drawn(other, lambda: other.get_by_role("button", name="show all").click())
    assert other.locator("article").count() == 20
    unknown = new_context().new_page()
    browse(unknown, folder, "#" + "0" * 16)
    expect(unknown.locator("#status")).to_contain_text("names a sample that is not here")


def test_sample_browser_shows_hostile_text_and_never_runs_it(tab: Page, folder: Path) -> None:
    title = "Samples of in a browser"
    said = browse(tab, folder)
    drawn(tab, lambda: tab.get_by_role("searchbox").fill("document.title"))
    article = tab.locator("article")
    expect(article).to_have_count(1)
    expect(article).to_contain_text("</script><script>document.title='run'</script>")
    # what would turn letters round is shown by its number
    expect(article).to_contain_text("U+202E")
    expect(article).to_contain_text("U+2028")
    assert "\u202e" not in article.inner_text()
    assert tab.title() == title
    assert said == []


def test_sample_browser_does_bounded_work(new_context: Callable[..., BrowserContext], folder: Path) -> None:
    """Elements and files do not grow with the samples: a list reads the chunks of 20 of them."""
    tab = new_context().new_page()
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[-1]))
    browse(tab, folder)
    assert tab.locator("article").count() == 20
    assert tab.evaluate("document.querySelectorAll('*').length") < 20 * 60 + 200
    scripts = [name for name in asked if name.endswith(".js")]
    assert scripts == ["samples.js", "index-0.js", "rows-0.js"]
    drawn(tab, lambda: tab.get_by_role("button", name="base wrong, behavior right").click())
    drawn(tab, lambda: tab.get_by_role("button", name="next").click())
    assert tab.evaluate("document.querySelectorAll('*').length") < 20 * 60 + 200
    assert not [name for name in asked if name.startswith("texts")]
    drawn(tab, lambda: tab.get_by_role("searchbox").fill("thing"))
    assert [name for name in asked if name.startswith("texts")] == ["texts-0.js"]
    assert len([name for name in asked if name.startswith("rows")]) <= 4


def test_sample_browser_works_by_keyboard_alone(tab: Page, folder: Path) -> None:
    browse(tab, folder)
    for _ in range(30):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.id") == "gained":
            break
    drawn(tab, lambda: tab.keyboard.press("Enter"))
    expect(tab.locator("#status")).to_have_text(f"{-(-NUM_SAMPLES // WON)} of 3,000 samples")


# ---- the project page --------------------------------------------------------------------------------------


def test_report_offline_project_page_has_drawings_and_no_serious_finding(
    tab: Page, no_serious_finding: Check, content: PageContent, tmp_path: Path
) -> None:
    said = opened(tab, site.write(content, tmp_path / "site"))
    for name in ("Communicator", "Message", "Channel", "Receivers", "Behavior", "Vision tower"):
        assert tab.locator("svg.drawing .name").get_by_text(name, exact=True).count() == 1, name
    expect(tab.locator("#citation")).to_contain_text("Teaching Human Behavior Improves")
    assert tab.locator("#terms li").count() == 5
    no_serious_finding(tab)
    assert said == []

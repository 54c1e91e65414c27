"""Every template's question and answer for a video and an image of the sandbox, as golden files hold them.

The whole way of a sample: files in real formats, the source, scenes and colors as they are seen, captions and
tags of a model through the cache, words. Only the model is a fake with fixed answers. `--update-golden`
writes the files anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from behavior_llava.core.schema import Adjusted, Example, Post
from behavior_llava.data import blift, describing, reading, verbalizer
from behavior_llava.data.describing import Writer
from behavior_llava.data.sources import sandbox
from behavior_llava.data.viewing import View, Viewer

TEXTS = Path(__file__).parent / "texts"
CAPTIONS = ("A dog by a red door.", "Scene 1: people dance", "the sea at night!")
TAGS = ("Tags: dog, door", "party; people", "sea\nnight\nsea")
KINDS = {"youtube": ("likes", "comments", "replay", "retention", "shares"), "reddit": ("likes", "comments")}


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Post]:
    """One video and one image of a small world, with their comments."""
    folder = tmp_path_factory.mktemp("world")
    config = sandbox.Config(
        images=4,
        videos=4,
        page_posts=0,
        instruction_images=1,
        instruction_videos=0,
        instruction_texts=0,
        benchmark_train=16,
        benchmark_test=16,
    )
    sandbox.fetch(config, folder)
    found: dict[str, Post] = {}
    said = []
    for item in reading.all_items(sandbox.SOURCE, config, folder):
        if isinstance(item, Post):
            if item.source == "reddit" or (item.replay and item.retention and item.num_likes):
                found.setdefault(item.source, item)
        elif hasattr(item, "comment"):
            said.append(item)
    assert set(found) == {"youtube", "reddit"}
    return {
        source: replace(
            post, comments=(*post.comments, *(item.comment for item in said if item.post_id == post.id))
        )
        for source, post in found.items()
    }


@pytest.fixture(scope="module")
def seen(posts: dict[str, Post], tmp_path_factory: pytest.TempPathFactory) -> dict[str, blift.Row]:
    """The posts ready to be said, by source."""
    folder = tmp_path_factory.mktemp("seen")
    viewer = Viewer(folder / "seen", folder / "frames", processes=1)
    found = {}
    for source, post in posts.items():
        (view,) = viewer.views([(post.media_path, post.media_kind)], label="looking")
        assert isinstance(view, View)
        told = {}
        for what, answers in (("captions", CAPTIONS), ("tags", TAGS)):

            def generate(
                examples: Sequence[Example], *, max_new_tokens: int, answers: tuple[str, ...] = answers
            ) -> list[str]:
                return list(answers[: len(examples)])

            writer = Writer(generate=generate, identity="fake", prompt="?", max_new_tokens=8)
            describing.describe(folder / "seen.sqlite", [view], writer, what=what)
            with describing.remembered(folder / "seen.sqlite", what, writer) as cache:
                read = describing.captions_of if what == "captions" else describing.tags_of
                told[what] = read(cache, view)
        selected = blift.Selected(post, "train", "c")
        found[source] = blift.Row(
            selected, view, blift.scene_words(view, told["captions"], told["tags"]), blift.about(view)
        )
    return found


@pytest.mark.parametrize("name", ["paper", "short", "lambda", "brief"])
@pytest.mark.parametrize("source", ["youtube", "reddit"])
def test_a_sample_is_said_as_written(
    name: str, source: str, seen: dict[str, blift.Row], request: pytest.FixtureRequest
) -> None:
    kinds = KINDS[source]
    template = verbalizer.load_template(name).for_run({kind: {} for kind in kinds})
    row = seen[source]
    said = verbalizer.verbalize(template, kinds, row.item.post, row.scenes, about=row.about)
    assert said.behaviors == kinds
    text = f"{said.prompt}\n----\n{said.completion}\n"
    golden = TEXTS / f"{name}_{'video' if source == 'youtube' else 'image'}.txt"
    if request.config.getoption("--update-golden"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_a_percentile_in_place_of_the_like_rate(seen: dict[str, blift.Row]) -> None:
    row = seen["youtube"]
    template = verbalizer.load_template("paper").for_run({"likes": {"measure": "percentile"}})
    post = replace(row.item.post, adjusted={"num_likes": Adjusted(percentile=0.318)})
    said = verbalizer.verbalize(template, ("likes",), post, row.scenes)
    assert "the percentage of comparable posts that would be liked less" in said.prompt
    assert said.completion.endswith("It would be liked more than 31.8% of comparable posts.")


def test_every_golden_text_is_looked_at() -> None:
    assert len(list(TEXTS.glob("*.txt"))) == 8

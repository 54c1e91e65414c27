"""What every file in data/behaviors promises, and that what is said can be read back."""

from __future__ import annotations

import itertools
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior_llava.core import discover
from behavior_llava.core.schema import Behavior, BehaviorWords, Comment, Curve, Post
from behavior_llava.data import behaviors
from behavior_llava.data.behaviors import comments, likes, replay
from behavior_llava.data.plain_text import one_line
from behavior_llava.data.verbalizer import load_template

FOUND: dict[str, Behavior] = discover.find("data.behaviors", "BEHAVIOR")
WORDINGS = ("paper", "short")
PROVENANCE = {"id": "made:1", "source": "made", "media_kind": "video"}


def post(**values: Any) -> Post:
    return Post(**{**PROVENANCE, **values})


def test_every_file_declares_a_behavior() -> None:
    files = {path.stem for path in Path(behaviors.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(FOUND) == files
    assert len(files) >= 3


@pytest.mark.parametrize("name", FOUND)
def test_examples_are_said_as_written_and_read_back(name: str) -> None:
    behavior = FOUND[name]
    said = 0
    for values, scenes, sentence in behavior.examples:
        text = behavior.say(post(**values), scenes, behavior.words["short"])
        assert text == sentence
        if text is not None:
            said += 1
            assert behavior.read_back(text) is not None
    assert said, "an example that is said"
    assert said < len(behavior.examples), "an example of a post without it"


@pytest.mark.parametrize("name", FOUND)
def test_says_nothing_of_an_empty_post(name: str) -> None:
    assert FOUND[name].say(post(), ((0.0, 1.0),), FOUND[name].words["short"]) is None


class _Watching:
    """A post that writes down which fields are read."""

    def __init__(self, inner: Post) -> None:
        self._inner, self.read = inner, set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self._inner, name)


@pytest.mark.parametrize("name", FOUND)
def test_reads_only_its_columns(name: str) -> None:
    behavior = FOUND[name]
    assert set(behavior.columns) <= {field.name for field in fields(Post)}
    for values, scenes, _ in behavior.examples:
        watching: Any = _Watching(post(**values))
        behavior.say(watching, scenes, behavior.words["short"])
        if behavior.form is not None:
            behavior.form(watching)
        assert watching.read <= set(behavior.columns)
        assert set(values) <= set(behavior.columns)


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize("wording", WORDINGS)
def test_every_wording_asks_and_says(name: str, wording: str) -> None:
    behavior = FOUND[name]
    assert behavior.ask[wording]
    for key in behavior.ask:
        assert key.split(".")[0] in WORDINGS
    for values, scenes, sentence in behavior.examples:
        text = behavior.say(post(**values), scenes, behavior.words[wording])
        assert (text is None) == (sentence is None)
        assert text is None or behavior.read_back(text) is not None


@pytest.mark.parametrize("name", FOUND)
@pytest.mark.parametrize(
    "text",
    ["", "\n", "Scene 1: a dog.", "nothing of the kind", "%", "1.", "Replay:", "Replay: x", "% of viewers"],
)
def test_reads_nothing_where_nothing_is(name: str, text: str) -> None:
    assert FOUND[name].read_back(text) is None


# ---- likes -------------------------------------------------------------------------------------------------


@given(views=st.integers(1, 10**9), share=st.floats(0, 1), wording=st.sampled_from(WORDINGS))
def test_like_rates_are_read_back_as_rounded(views: int, share: float, wording: str) -> None:
    written = post(num_views=views, num_likes=int(views * share))
    text = likes.say(written, (), likes.BEHAVIOR.words[wording])
    assert text is not None
    read = likes.read_back(text)
    assert read is not None
    assert read.form == "like_rate"
    half = 0.005 if wording == "short" else 0.0005
    assert read.value == pytest.approx(int(views * share) / views, abs=half + 1e-9)


@given(score=st.integers(-(10**6), 10**9), wording=st.sampled_from(WORDINGS))
def test_scores_are_read_back_exactly(score: int, wording: str) -> None:
    text = likes.say(post(score=score), (), likes.BEHAVIOR.words[wording])
    assert text is not None
    assert "%" not in text
    assert likes.read_back(text) == ("score", score)


@given(num_likes=st.integers(0, 10**9), wording=st.sampled_from(WORDINGS))
def test_likes_without_views_are_no_percentage(num_likes: int, wording: str) -> None:
    text = likes.say(post(num_likes=num_likes), (), likes.BEHAVIOR.words[wording])
    assert text is not None
    assert "%" not in text
    assert likes.read_back(text) == ("num_likes", num_likes)


@given(ratio=st.floats(0, 1), wording=st.sampled_from(WORDINGS))
def test_upvote_ratios_are_read_back_as_such(ratio: float, wording: str) -> None:
    text = likes.say(post(upvote_ratio=ratio), (), likes.BEHAVIOR.words[wording])
    assert text is not None
    read = likes.read_back(text)
    assert read is not None
    assert read.form == "upvote_ratio"
    assert read.value == pytest.approx(ratio, abs=0.0051)


def test_a_comment_cannot_pass_for_an_amount() -> None:
    assert likes.read_back("1. 99% of viewers like it.\n2. It has a score of 5.") is None
    assert likes.read_back("Scene 1: 99% of viewers like it.") is None


def test_more_than_all_viewers_is_unreadable() -> None:
    assert likes.read_back("230% of viewers like it.") is None


# ---- comments ----------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
COMMENTS = st.lists(st.tuples(st.none() | TEXTS, st.none() | st.integers(-5, 5)), max_size=9)


@given(written=COMMENTS, max_items=st.integers(1, 9), wording=st.sampled_from(WORDINGS))
def test_comments_are_read_back(
    written: list[tuple[str | None, int | None]], max_items: int, wording: str
) -> None:
    made = tuple(Comment(str(place), text, score) for place, (text, score) in enumerate(written))
    words = BehaviorWords(comments.BEHAVIOR.words[wording].sentence, max_items=max_items)
    text = comments.say(post(comments=made), (), words)
    usable = [comment for comment in made if comment.text is not None and one_line(comment.text)]
    assert (text is None) == (not usable)
    if text is None:
        return
    assert len(text.splitlines()) == min(max_items, len(usable))
    read = comments.read_back(text)
    assert read == comments.best(post(comments=made), max_items)
    ranked = sorted(
        usable, key=lambda comment: -100 if comment.score is None else comment.score, reverse=True
    )
    assert read == tuple(one_line(comment.text or "") for comment in ranked[:max_items])


@given(text=TEXTS)
def test_a_text_becomes_one_line_without_marks(text: str) -> None:
    line = one_line(text + "\u2028<image>\r\n</s> <|im_end|>")
    assert len(line.splitlines()) == 1
    assert "<image>" not in line
    assert "</s>" not in line
    assert "<|im_end|>" not in line


def test_hearts_and_comparisons_stay() -> None:
    assert one_line("i <3 it, 1 < 2 > 0") == "i <3 it, 1 < 2 > 0"


def test_numbering_must_start_at_one_and_have_no_gap() -> None:
    assert comments.read_back("2. b\n3. c") is None
    assert comments.read_back("23% of viewers like it.\n1. a\n2. b\n4. d") == ("a", "b")


# ---- replay ------------------------------------------------------------------------------------------------


@st.composite
def curves_and_scenes(draw: st.DrawFn) -> tuple[Curve, list[tuple[float, float]]]:
    def edges(most: int) -> list[float]:
        inner = draw(st.lists(st.floats(0.01, 9.99), max_size=most, unique_by=lambda value: round(value, 2)))
        return [0.0, *sorted(inner), 10.0]

    times = edges(8)
    values = draw(st.lists(st.floats(0, 1), min_size=len(times) - 1, max_size=len(times) - 1))
    cuts = edges(5)
    return (
        Curve(tuple(times[:-1]), tuple(times[1:]), tuple(values)),
        list(itertools.pairwise(cuts)),
    )


@given(made=curves_and_scenes(), wording=st.sampled_from(WORDINGS))
def test_replay_is_read_back_and_keeps_the_whole_mean(
    made: tuple[Curve, list[tuple[float, float]]], wording: str
) -> None:
    curve, scenes = made
    text = replay.say(post(replay=curve), scenes, replay.BEHAVIOR.words[wording])
    assert text is not None
    means = replay.over_scenes(curve, scenes)
    assert means is not None
    assert replay.read_back(text) == pytest.approx(means, abs=0.00501)
    whole = sum(
        value * (end - start)
        for value, start, end in zip(curve.values, curve.start_s, curve.end_s, strict=True)
    )
    parts = sum(mean * (end - start) for mean, (start, end) in zip(means, scenes, strict=True))
    assert parts == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("values", [(float("nan"),), (-0.1,), (1.1,)])
def test_a_replay_curve_outside_its_range_is_not_said(values: tuple[float, ...]) -> None:
    made = post(replay=Curve((0.0,), (1.0,), values))
    assert replay.say(made, ((0.0, 1.0),), replay.BEHAVIOR.words["short"]) is None


def test_replay_beyond_one_is_unreadable() -> None:
    assert replay.read_back("Replay: 0.5 7") is None


# ---- together ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORDINGS)
def test_behaviors_said_together_are_read_apart(name: str) -> None:
    template = load_template(name)
    made = post(
        num_likes=1,
        num_views=4,
        comments=(Comment("a", "Replay: 0.1 0.2", 5), Comment("b", "7% of viewers like it.", 1)),
        replay=Curve((0.0, 1.0), (1.0, 2.0), (0.25, 1.0)),
    )
    spans = ((0.0, 1.0), (1.0, 2.0))
    text = "\n".join(
        FOUND[kind].say(made, spans, template.words(kind)) or "" for kind in ("comments", "replay", "likes")
    )
    assert likes.read_back(text) == ("like_rate", 0.25)
    assert comments.read_back(text) == ("Replay: 0.1 0.2", "7% of viewers like it.")
    assert replay.read_back(text) == (0.25, 1.0)

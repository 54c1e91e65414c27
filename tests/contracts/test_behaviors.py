"""What every file in data/behaviors promises; above all, that whatever is said can be read back."""

from __future__ import annotations

import itertools
import re
import signal
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from behavior_llava.core import discover
from behavior_llava.core.schema import (
    Adjusted,
    Behavior,
    BehaviorWords,
    Comment,
    Curve,
    Post,
    Spans,
    Value,
    label_age_s,
)
from behavior_llava.data import behaviors, blift, counts, curves, verbalizer
from behavior_llava.data.behaviors import comments, likes, replay, retention
from behavior_llava.data.plain_text import one_line
from behavior_llava.data.verbalizer import Received, SceneWords, load_template
from behavior_llava.evaluation.metrics import METRICS

FOUND: dict[str, Behavior[Any]] = discover.find("data.behaviors", "BEHAVIOR")
WORDINGS = ("paper", "short")
TEMPLATES = ("paper", "short", "lambda")
PROVENANCE = {"id": "made:1", "source": "made", "media_kind": "video"}

FORMS: dict[str, tuple[dict[str, Any], ...]] = {
    "CountParams": tuple({"measure": measure} for measure in ("raw", "percentile", "residual")),
    "CurveParams": ({"start": "with"}, {"start": "without"}),
    "NoParams": ({},),
}
"""Every choice the params of a behavior leave; a new model of params has to be added here."""


def forms(kind: str) -> tuple[dict[str, Any], ...]:
    return FORMS[FOUND[kind].params.__name__]


EACH_FORM = [(kind, form) for kind in sorted(FOUND) for form in forms(kind)]
each_form = pytest.mark.parametrize(
    ("kind", "form"), EACH_FORM, ids=["-".join((kind, *form.values())) for kind, form in EACH_FORM]
)


def post(**values: Any) -> Post:
    return Post(**{**PROVENANCE, **values})


def value_of(kind: str, made: Post, spans: Spans = (), **params: Any) -> Value | None:
    behavior = FOUND[kind]
    return behavior.value(made, spans, behavior.params.model_validate(params))


def examples(kind: str) -> Iterator[tuple[Post, dict[str, Any], Spans, str | None]]:
    for values, params, spans, sentence in FOUND[kind].examples:
        yield post(**values), params, spans, sentence


# ---- declarations ------------------------------------------------------------------------------------------


def test_every_file_declares_a_behavior() -> None:
    files = {path.stem for path in Path(behaviors.__path__[0]).glob("*.py")} - {"__init__"}
    assert set(FOUND) == files
    assert len(files) >= 11


@pytest.mark.parametrize("kind", FOUND)
def test_examples_are_said_as_written_and_read_back(kind: str) -> None:
    behavior = FOUND[kind]
    said = 0
    for made, params, spans, sentence in examples(kind):
        value = value_of(kind, made, spans, **params)
        assert (value is None) == (sentence is None)
        if value is not None:
            said += 1
            assert behavior.say(value, behavior.words["short"]) == sentence
    assert said, "an example that is said"
    assert said < len(behavior.examples), "an example of a post without it"


@pytest.mark.parametrize("kind", FOUND)
def test_every_wording_of_every_example_is_read_back_to_the_same_parts(kind: str) -> None:
    behavior = FOUND[kind]
    assert set(behavior.words) == set(WORDINGS)
    checked = 0
    for made, params, spans, _ in examples(kind):
        value = value_of(kind, made, spans, **params)
        for wording in WORDINGS if value is not None else ():
            text = behavior.say(value or {}, behavior.words[wording])
            assert list(behavior.read_back(text) or ()) == list(value or ())
            checked += 1
    assert checked >= len(WORDINGS)


@pytest.mark.parametrize("kind", FOUND)
def test_it_is_asked_for_in_every_wording_and_by_parts_it_has(kind: str) -> None:
    behavior = FOUND[kind]
    for wording in WORDINGS:
        assert behavior.ask[wording].strip()
    for key, clause in behavior.ask.items():
        wording, _, part = key.partition(".")
        assert wording in WORDINGS
        assert part in {"", *behavior.metrics}
        assert {blank for _, blank, _, _ in string.Formatter().parse(clause) if blank} <= {"items"}


@pytest.mark.parametrize("kind", FOUND)
def test_params_are_valid_or_refused(kind: str) -> None:
    model = FOUND[kind].params
    model.model_validate({})
    for _, params, _, _ in examples(kind):
        model.model_validate(params)
    for form in forms(kind):
        model.model_validate(form)
        for name in form:
            with pytest.raises(ValidationError):
                model.model_validate({name: "else"})
    with pytest.raises(ValidationError):
        model.model_validate({"unheard_of": 1})


@pytest.mark.parametrize("kind", FOUND)
def test_what_is_not_said_has_a_reason_in_words(kind: str) -> None:
    reason = FOUND[kind].unsaid
    assert reason == reason.strip()
    assert len(reason.split()) >= 3
    assert reason[0].islower()
    assert not reason.endswith(".")


def test_the_age_of_a_label_is_known_or_none_and_looking_does_not_age() -> None:
    aged = post(created_utc=1_000, retrieved_utc=87_400, recall_delay_s=600.0)
    found = {kind: behavior.age_s and behavior.age_s(aged) for kind, behavior in FOUND.items()}
    timeless = {"saliency_objects", "saliency_tiles", "titles"}
    assert {kind for kind, behavior in FOUND.items() if behavior.age_s is None} == timeless
    assert found == {
        **dict.fromkeys(set(FOUND) - timeless, 86_400.0),
        **dict.fromkeys(timeless),
        "recall": 600.0,
    }
    for behavior in FOUND.values():
        assert behavior.age_s is None or behavior.age_s(post()) is None
    assert label_age_s(post(created_utc=5, retrieved_utc=4)) is None


def test_what_is_hidden_is_a_blank_of_templates() -> None:
    hidden = {blank for behavior in FOUND.values() for blank in behavior.hides}
    told = {
        blank
        for name in TEMPLATES
        for line in load_template(name).about
        for _, blank, _, _ in string.Formatter().parse(line)
    }
    assert hidden == {"title"}
    assert hidden <= told


@pytest.mark.parametrize("kind", FOUND)
def test_an_empty_post_has_no_value(kind: str) -> None:
    for form in forms(kind):
        assert value_of(kind, post(), ((0.0, 1.0),), **form) is None
        assert value_of(kind, post(), (), **form) is None


class _Watching:
    """A post that writes down which fields are read."""

    def __init__(self, inner: Post) -> None:
        self._inner, self.read = inner, set()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return getattr(self._inner, name)


@each_form
def test_it_reads_only_its_columns(kind: str, form: dict[str, Any]) -> None:
    behavior = FOUND[kind]
    assert set(behavior.columns) <= {field.name for field in fields(Post)}
    seen: set[str] = set()
    for values, _, spans, _ in behavior.examples:
        assert set(values) <= set(behavior.columns)
        watching: Any = _Watching(post(**values))
        value_of(kind, watching, spans, **form)
        seen |= watching.read
    for made, spans in made_posts(kind)[:200]:
        watching = _Watching(made)
        value_of(kind, watching, spans, **form)
        seen |= watching.read
    assert seen
    assert seen <= set(behavior.columns)


@pytest.mark.parametrize("kind", FOUND)
def test_every_part_it_can_have_is_compared_by_a_metric_that_exists(kind: str) -> None:
    parts: set[str] = set()
    for made, params, spans, _ in examples(kind):
        parts |= set(value_of(kind, made, spans, **params) or ())
    for form in forms(kind):
        for made, spans in made_posts(kind)[:500]:
            parts |= set(value_of(kind, made, spans, **form) or ())
    assert parts == set(FOUND[kind].metrics)
    assert set(FOUND[kind].metrics.values()) <= set(METRICS)


@pytest.mark.parametrize("kind", FOUND)
def test_its_metric_calls_its_own_values_the_best(kind: str) -> None:
    """What was said, read back and compared with what was, is worth next to the best the metric can give."""
    behavior = FOUND[kind]
    compared = {part: name for part, name in behavior.metrics.items() if name != "perplexity"}
    pairs: dict[str, list[tuple[Any, Any]]] = {part: [] for part in compared}
    for form in forms(kind):
        for made, spans in made_posts(kind)[:500]:
            value = value_of(kind, made, spans, **form)
            read = None if value is None else behavior.read_back(behavior.say(value, behavior.words["paper"]))
            for part in set(value or ()) & set(compared):
                if compared[part] != "curve_correlation" or np.ptp((value or {})[part]) > 0.1:
                    pairs[part].append(((read or {})[part], (value or {})[part]))
    for part, name in compared.items():
        assert len(pairs[part]) >= 20
        score = METRICS[name].score(*map(list, zip(*pairs[part], strict=True)))
        assert score is not None
        best = 1.0 if METRICS[name].higher_is_better else 0.0
        # five of seven objects, or the larger of the kinds, are said: the rest counts as not said
        assert score == pytest.approx(
            best, abs=0.1 if name in ("order_correlation", "share_overlap") else 0.01
        )


def sayable(kind: str, template: str = "short", **columns: Any) -> Value | None:
    giver = Received(Post(**{**PROVENANCE, **columns}), ())
    return blift.sayable(load_template(template), kind, giver)


def test_a_list_is_compared_as_far_as_it_can_be_said() -> None:
    """In the short wording two ways of sharing, three reactions and three objects are said."""
    shared = {"WHATS_APP": 50, "COPY_PASTE": 30, "FACEBOOK": 15, "TWITTER": 5, "FAX": 0}
    assert sayable("shares", shares=shared) == {
        "num_shares": 100,
        "services": {"whats app": 0.5, "copy paste": 0.3},
    }
    assert sayable("reactions", reactions={"love": 61, "haha": 20, "wow": 12, "sad": 7}) == {
        "num_reactions": 100,
        "reaction_kinds": {"love": 0.61, "haha": 0.2, "wow": 0.12},
    }
    seen = {"dog": 0.4, "cat": 0.3, "car": 0.2, "tree": 0.06, "sky": 0.04}
    objects = sayable("saliency_objects", saliency_objects=seen)
    assert objects == {"object_order": ("dog", "cat", "car")}
    assert sayable("saliency_objects", "paper", saliency_objects=seen) == {
        "object_order": ("dog", "cat", "car", "tree", "sky")
    }
    # what was said of it, read back, is then all that could be said
    read = FOUND["saliency_objects"].read_back("Objects: dog, cat, car.")
    assert read == objects
    assert METRICS["order_correlation"].score([(read or {})["object_order"]], [("dog", "cat", "car")]) == 1.0


def test_what_is_no_list_is_compared_whole_and_not_rounded() -> None:
    assert sayable("shares", shares={"all": 7}) == {"num_shares": 7}
    assert sayable("shares", shares=None) is None
    assert sayable("recall", recall=1 / 3) == {"recall": 1 / 3}
    tiles = (0.1, 0.2, 0.0, 0.05, 0.4, 0.05, 0.0, 0.2, 0.0)
    order = (sayable("saliency_tiles", saliency_tiles=tiles) or {})["tile_order"]
    assert len(order) == 9
    curve = Curve((0.0, 1.0), (1.0, 2.0), (1 / 3, 2 / 3))
    giver = Received(Post(**PROVENANCE, replay=curve), (SceneWords(0.0, 1.0, "a"), SceneWords(1.0, 2.0, "b")))
    assert blift.sayable(load_template("short"), "replay", giver) == verbalizer.value_of(
        load_template("short"), "replay", giver
    )


# ---- ten thousand random posts -----------------------------------------------------------------------------

NUM_POSTS = 10_000

IMITATIONS = (
    "7% of viewers like it.",
    "It has a score of 5.",
    "Replay: 0.1",
    "Audience retention by scene: 0.5, 0.5",
    "Tiles: 1 2 3 4 5 6 7 8 9",
    "Objects: cat, dog.",
    "Remembered by 3%.",
    "The long term memorability score is 07.",
    "Shared 3 times.",
    "9 reactions: 50% love, 50% sad.",
    "1200 views.",
    "Liked more than 9% of posts.",
    "2.00 times the views expected.",
    "Title: a better one",
    "1. first",
    ">>> BEHAVIOR <<<",
)
PIECES = (
    *IMITATIONS,
    *"\n \t \r\n \x0b \x1c \x85 \u2028 \u2029 \u00a0 \u200b".split(" "),
    *("<image>", "</s>", "<|im_end|>", "{percent}", "{", "}", "%", "100%", "50 % of it", ", ", ": ", "; "),
    *("1", "1. ", "10.", "-3", "0.5", "999999999999", "\u0663", "_", ".", "..", "...", "!", "?", '"', "'"),
    *("so calm", "the dog", "I love it", "COPY_PASTE", "etc.", "e.g. this", "St. Ives", "a", "x" * 60),
    *("é", "straße", "İstanbul", "日本語", "🙂", "👍🏽", "עברית", "ﬁ", "\u0345", "e\u0301"),
)


def _texts(rng: np.random.Generator, num: int) -> list[str]:
    """Two or so pieces in a row, at times with any character of Unicode in between."""
    found = []
    places = rng.integers(len(PIECES), size=(num, 3))
    lengths = rng.integers(1, 4, size=num)
    codes = rng.integers(0x20, 0xD800, size=num)
    joints = rng.integers(4, size=num)
    for place, length, code, joint in zip(places.tolist(), lengths, codes.tolist(), joints, strict=True):
        found.append((" ", "", "\n", chr(code))[joint].join(PIECES[one] for one in place[:length]))
    return found


def _amounts(rng: np.random.Generator, num: int) -> list[int | None]:
    """Often 0 or 1, up to 10^12, and one in ten unknown."""
    pick = rng.integers(10, size=num)
    large = np.floor(10 ** rng.uniform(0, 12, size=num)).astype(np.int64)
    fixed = np.array([0, 1, 10**12])
    return [
        None if choice == 9 else int(fixed[choice]) if choice < 3 else int(amount)
        for choice, amount in zip(pick, large, strict=True)
    ]


def _shares(rng: np.random.Generator, num: int) -> list[float]:
    """0..1: often 0, 1, -0.0 or half a last digit, where rounding is hardest."""
    pick = rng.integers(8, size=num)
    exact = rng.integers(0, 2001, size=num) / 2000
    drawn = rng.random(num)
    fixed = (0.0, 1.0, -0.0)
    return [
        fixed[choice] if choice < 3 else float(one if choice < 5 else other)
        for choice, one, other in zip(pick, exact, drawn, strict=True)
    ]


def _adjusted(rng: np.random.Generator, counts_of: Sequence[str]) -> Iterator[dict[str, Adjusted] | None]:
    percentiles = _shares(rng, NUM_POSTS)
    residuals = np.round(rng.normal(0, 3, NUM_POSTS), rng.integers(0, 5)).tolist()
    for percentile, residual, pick in zip(
        percentiles, residuals, rng.integers(12, size=NUM_POSTS), strict=True
    ):
        one = Adjusted(abs(percentile) if pick != 1 else None, None, residual if pick != 2 else None, None)
        yield None if pick == 0 else dict.fromkeys(counts_of, one)


def _lists(
    rng: np.random.Generator, values: Sequence[Any], most: int, fewest: int = 0
) -> Iterator[list[Any]]:
    """The values cut into stretches of `fewest` to `most`, used again from the start."""
    again = itertools.cycle(values)
    for length in rng.integers(fewest, most + 1, size=NUM_POSTS):
        yield list(itertools.islice(again, int(length)))


def _posts_of_counts(rng: np.random.Generator, *columns: str) -> list[tuple[Post, Spans]]:
    drawn = [_amounts(rng, NUM_POSTS) for _ in columns]
    adjusted = _adjusted(rng, columns)
    return [
        (post(**dict(zip(columns, row, strict=True)), adjusted=next(adjusted)), ())
        for row in zip(*drawn, strict=True)
    ]


def _posts_of_likes(rng: np.random.Generator) -> list[tuple[Post, Spans]]:
    """With views and likes, the likes seldom above the views; with likes, a score or a ratio alone."""
    made = []
    ratios = _shares(rng, NUM_POSTS)
    scores = _amounts(rng, NUM_POSTS)
    for (one, spans), ratio, score, share, pick in zip(
        _posts_of_counts(rng, "num_views", "num_likes", "score"),
        ratios,
        scores,
        _shares(rng, NUM_POSTS),
        rng.integers(8, size=NUM_POSTS).tolist(),
        strict=True,
    ):
        views = one.num_views
        signed = None if score is None else score * (-1) ** pick
        if pick < 3:
            few = None if views is None else int(views * share)
            one = replace(one, num_likes=few if pick else one.num_likes, score=None)
        elif pick < 5:
            one = replace(one, num_views=None)
        elif pick < 6:
            one = replace(one, num_views=None, num_likes=None, score=None, upvote_ratio=ratio)
        else:
            one = replace(one, num_views=None, num_likes=None, score=signed, upvote_ratio=ratio)
        made.append((one, spans))
    return made


def _posts_of_kinds(rng: np.random.Generator, column: str) -> list[tuple[Post, Spans]]:
    """Counts of up to eight kinds with any names, many of them 0, 1 or equal."""
    names = _lists(rng, _texts(rng, 7_001), 8)
    amounts = [0 if amount is None else amount for amount in _amounts(rng, 9_001)]
    tens = rng.integers(0, 10, size=9_001).tolist()
    adjusted = _adjusted(rng, (column,))
    made = []
    for chosen, numbers, small, pick in zip(
        names, _lists(rng, amounts, 8), _lists(rng, tens, 8), rng.integers(20, size=NUM_POSTS), strict=True
    ):
        counted = dict(zip(chosen, numbers if pick < 10 else small, strict=False))
        if pick == 19 and counted:
            counted[next(iter(counted))] = -1
        made.append((post(**{column: None if pick == 0 else counted}, adjusted=next(adjusted)), ()))
    return made


def _posts_of_comments(rng: np.random.Generator) -> list[tuple[Post, Spans]]:
    texts = [None if place % 11 == 0 else text for place, text in enumerate(_texts(rng, 7_001))]
    scores = [None if one == 3 else one for one in rng.integers(-2, 4, size=7_003).tolist()]
    written = _lists(rng, list(zip(texts, itertools.cycle(scores), strict=False)), 8)
    return [
        (post(comments=tuple(Comment(f"{n}", text, score) for n, (text, score) in enumerate(one))), ())
        for one in written
    ]


def _posts_of_titles(rng: np.random.Generator) -> list[tuple[Post, Spans]]:
    return [
        (post(title=None if place % 10 == 0 else text), ())
        for place, text in enumerate(_texts(rng, NUM_POSTS))
    ]


def _posts_of_curves(rng: np.random.Generator, column: str, highest: float) -> list[tuple[Post, Spans]]:
    """Up to eight segments and five scenes in ten seconds; one curve in ten ends too early, and in one post
    in ten the first scene may end before the first segment does.
    """
    levels = _lists(rng, [highest * share for share in _shares(rng, 7_001)], 8, fewest=1)
    made = []
    for values, num_scenes, pick in zip(
        levels, rng.integers(1, 6, NUM_POSTS), rng.integers(10, size=NUM_POSTS), strict=True
    ):
        edges = np.linspace(0, 2 if pick == 0 else 10, len(values) + 1).tolist()
        first = 0.1 if pick == 2 or len(edges) == 2 else edges[1] + 0.1
        cuts = [0.0, *np.sort(rng.uniform(first, 9.9, num_scenes - 1)).tolist(), 10.0]
        curve = Curve(tuple(edges[:-1]), tuple(edges[1:]), tuple(values))
        made.append((post(**{column: None if pick == 1 else curve}), tuple(itertools.pairwise(cuts))))
    return made


def _posts_of_tiles(rng: np.random.Generator) -> list[tuple[Post, Spans]]:
    rows = rng.integers(0, rng.integers(1, 40, size=(NUM_POSTS, 1)) + 1, size=(NUM_POSTS, 9))
    shares = rows / np.maximum(1, rows.sum(axis=1, keepdims=True))
    return [
        (post(saliency_tiles=None if place % 10 == 0 else tuple(one)), ())
        for place, one in enumerate(shares.tolist())
    ]


def _posts_of_objects(rng: np.random.Generator) -> list[tuple[Post, Spans]]:
    names = _lists(rng, _texts(rng, 7_001), 9)
    shares = _lists(rng, _shares(rng, 7_003), 9)
    return [
        (post(saliency_objects=dict(zip(name, share, strict=False))), ())
        for name, share in zip(names, shares, strict=True)
    ]


def _posts_of_recall(rng: np.random.Generator) -> list[tuple[Post, Spans]]:
    return [
        (post(recall=None if place % 10 == 0 else share), ())
        for place, share in enumerate(_shares(rng, NUM_POSTS))
    ]


POSTS: Mapping[str, Callable[[np.random.Generator], list[tuple[Post, Spans]]]] = {
    "comments": _posts_of_comments,
    "likes": _posts_of_likes,
    "reactions": lambda rng: _posts_of_kinds(rng, "reactions"),
    "recall": _posts_of_recall,
    "replay": lambda rng: _posts_of_curves(rng, "replay", 1.0),
    "retention": lambda rng: _posts_of_curves(rng, "retention", 3.0),
    "saliency_objects": _posts_of_objects,
    "saliency_tiles": _posts_of_tiles,
    "shares": lambda rng: _posts_of_kinds(rng, "shares"),
    "titles": _posts_of_titles,
    "views": lambda rng: _posts_of_counts(rng, "num_views"),
}


@cache
def made_posts(kind: str) -> list[tuple[Post, Spans]]:
    """Ten thousand posts with the columns of a kind; always the same."""
    made = POSTS[kind](np.random.default_rng(sorted(FOUND).index(kind)))
    assert len(made) == NUM_POSTS
    return made


CUT = {"comments", "object_order"}
"""Parts of which only the first `max_items` are said; of shares, those of the kinds somebody chose."""


def _step(words: BehaviorWords, part: str) -> float:
    """The most a number of this part is changed by being written as its sentence writes it."""
    lasts = {"percent": 0.01, "ratio": 1.0, "score": 0.01}
    sentence = words.more.get(part, words.sentence)
    for _, blank, spec, _ in string.Formatter().parse(sentence):
        if blank in lasts:
            decimals = 0 if blank == "score" else int((spec or "").strip(".f"))
            return lasts[blank] * 10**-decimals / 2
    return 0.0


def assert_read_as_said(kind: str, words: BehaviorWords, value: Value, read: Value | None, text: str) -> None:
    """Every part is there, in order; numbers within the rounding of the sentence, all else as it is."""
    assert read is not None, text
    assert list(read) == list(value), text
    for part, true in value.items():
        if isinstance(true, Mapping):
            chosen = [(name, share) for name, share in true.items() if share > 0][: words.max_items]
            step = _step(words, "item") + 1e-9
            assert list(read[part]) == [name for name, _ in chosen], text
            assert all(abs(read[part][name] - share) <= step for name, share in chosen), text
        elif FOUND[kind].metrics[part] in ("curve_correlation", "curve_error"):
            assert len(read[part]) == len(true), text
            assert all(
                abs(one - other) <= 0.005 + 1e-9 for one, other in zip(read[part], true, strict=True)
            ), text
        elif isinstance(true, tuple):
            assert read[part] == (true[: words.max_items] if part in CUT else true), text
        elif isinstance(true, str):
            assert read[part] == true, text
        else:
            # a share of viewers of 1 is 99 on the scale of 00 to 99
            cap = 0.01 if "{score" in words.sentence and true > 0.99 else 0.0
            assert abs(read[part] - true) <= max(cap, _step(words, part)) + 1e-9, text


def assert_all_are_read_as_said(kind: str, form: dict[str, Any], words: BehaviorWords) -> int:
    behavior = FOUND[kind]
    params = behavior.params.model_validate(form)
    num_said = 0
    for made, spans in made_posts(kind):
        value = behavior.value(made, spans, params)
        if value is None:
            continue
        num_said += 1
        text = behavior.say(value, words)
        lines = text.splitlines()
        assert lines == text.split("\n")
        assert len(lines) == 1 or kind == "comments"
        read = behavior.read_back(text)
        assert_read_as_said(kind, words, value, read, text)
        if not any(isinstance(part, dict) and 0.0 in part.values() for part in (read or {}).values()):
            assert behavior.say(read or {}, words) == text, "what was read is said in the same words"
    return num_said


@pytest.mark.parametrize("wording", WORDINGS)
@each_form
def test_ten_thousand_random_posts_are_said_and_read_back(
    kind: str, form: dict[str, Any], wording: str
) -> None:
    num_said = assert_all_are_read_as_said(kind, form, FOUND[kind].words[wording])
    assert NUM_POSTS / 2 < num_said < NUM_POSTS, "most are said, and some have nothing to say"


def test_ten_thousand_recalls_are_read_back_on_the_scale_of_00_to_99() -> None:
    words = load_template("lambda").words("recall")
    assert "{score" in words.sentence
    assert assert_all_are_read_as_said("recall", {}, words) == NUM_POSTS - NUM_POSTS // 10


# ---- said together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("count_form", FORMS["CountParams"], ids=lambda form: form["measure"])
def test_all_kinds_in_one_text_are_read_apart(name: str, count_form: dict[str, Any]) -> None:
    """In any order, any of them left out, under a description: each as from its own sentence alone."""
    template = load_template(name)
    rng = np.random.default_rng(7)
    captions = _texts(rng, 400)
    num_said = dict.fromkeys(FOUND, 0)
    for turn in range(400):
        own: dict[str, str] = {}
        for kind in rng.permutation(sorted(FOUND)).tolist():
            made, spans = made_posts(kind)[turn]
            form = count_form if "measure" in count_form and forms(kind)[0].keys() == {"measure"} else {}
            value = value_of(kind, made, spans, **form)
            if value is not None and rng.random() < 0.7:
                own[kind] = FOUND[kind].say(value, template.words(kind))
        scenes = [SceneWords(0.0, 1.0, f"a {captions[turn]}")]
        completion = "\n".join([verbalizer.describe(template, scenes), template.separator, *own.values()])
        for text in ("\n".join(own.values()), completion):
            for kind, behavior in FOUND.items():
                expected = None if kind not in own else behavior.read_back(own[kind])
                assert behavior.read_back(text) == expected, text
        assert verbalizer.split(template, completion)[1] == "\n".join(own.values())
        for kind in own:
            num_said[kind] += 1
    assert min(num_said.values()) > 100


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_words_of_others_pass_for_behavior(name: str) -> None:
    template = load_template(name)
    made = post(
        title="\n".join(IMITATIONS),
        comments=tuple(Comment(f"{place}", text) for place, text in enumerate(IMITATIONS)),
    )
    assert len(IMITATIONS) >= len(FOUND)
    seen: set[str] = set()
    for first in range(len(IMITATIONS)):
        shown = replace(made, comments=made.comments[first:])
        text, said = verbalizer.say_behavior(template, ("titles", "comments"), shown, ())
        assert said == ("titles", "comments")
        most = template.words("comments").max_items
        assert comments.read_back(text) == {"comments": IMITATIONS[first:][:most]}
        assert FOUND["titles"].read_back(text) == {"title": " ".join(IMITATIONS)}
        for kind in set(FOUND) - {"titles", "comments"}:
            assert FOUND[kind].read_back(text) is None
    for text in IMITATIONS:
        seen |= {kind for kind, behavior in FOUND.items() if behavior.read_back(text) is not None}
    assert seen == set(FOUND), "at the start of a line every one of them would be read"


# ---- what is not behavior ----------------------------------------------------------------------------------

NOTHING = (
    *(
        "",
        "\n",
        "\n\n\n",
        " ",
        "\t",
        ".",
        "%",
        ":",
        ",",
        "1",
        "1.",
        "1. ",
        "0.5",
        "0. zero",
        "2. second",
        "-1",
    ),
    *("Scene 1: a dog.", "Scene 1: 7% of viewers like it.", "nothing of the kind", ">>> BEHAVIOR <<<"),
    *("% of viewers", "viewers like it", "230% of viewers like it.", "x% of viewers like it.", "scored 5"),
    *("1e5% of viewers like it.", "nan% of viewers like it.", "It has a score of .", "It has a score of x."),
    *("Liked more than % of posts.", "Liked more than 101% of posts.", " times the likes expected."),
    *(
        "views.",
        "many views.",
        "-5 views.",
        "1,200 views.",
        "1" * 16 + " views.",
        "Watched more than of posts",
    ),
    *(
        "Replay:",
        "Replay: ",
        "Replay: x",
        "Replay: 0.1 x",
        "Replay 0.1",
        "Replay: 1.5",
        "Replay: -0.1",
        "Replay: ,",
    ),
    *(
        "Retention:",
        "Retention: x",
        "Retention: 0.5 -1",
        "Retention: 1.2.3",
        "Retention: " + "9" * 400,
        "Audience: 0.5",
        "Replay: 0.1\x000.2",
    ),
    *(
        "Shared",
        "Shared times.",
        "Shared x times.",
        "Shared more than 200% of posts.",
        "reactions",
        " reactions: ",
    ),
    *("Title:", "Title: ", "title", "Titel: x", " Title: x", "Subtitle: x"),
    *("Tiles:", "Tiles: 1 2 3", "Tiles: 1 2 3 4 5 6 7 8 8", "Tiles: 0 1 2 3 4 5 6 7 8", "Tiles: 123456789"),
    *(
        "Objects:",
        "Objects: .",
        "Objects: dog.",
        "Objects: dog, dog.",
        "Objects: dog, , cat.",
        "Objects dog, cat",
    ),
    *(
        "Remembered by %.",
        "Remembered by 101%.",
        "Remembered",
        "Memorability: 100",
        "Memorability: 7",
        "Memorability:",
    ),
)


@pytest.mark.parametrize("kind", FOUND)
def test_reads_nothing_where_nothing_is(kind: str) -> None:
    for text in NOTHING:
        assert FOUND[kind].read_back(text) is None, text
        assert FOUND[kind].read_back(f"{text}\n{text}") is None, text


@pytest.mark.parametrize("kind", FOUND)
def test_any_text_at_all_is_read_or_not_but_never_fails(kind: str) -> None:
    rng = np.random.default_rng(11)
    behavior = FOUND[kind]
    read = 0
    for text in _texts(rng, 3_000):
        found = behavior.read_back(text)
        read += found is not None
        assert found is None or set(found) <= set(behavior.metrics)
    assert 0 < read < 1_500


@contextmanager
def within(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


FILLERS = ("0", " ", ",", ".", " 0", " 0.1,", ", 9% a")


def test_the_clock_stops_what_takes_too_long() -> None:
    with pytest.raises(TimeoutError), within(0.2):
        re.fullmatch(r"(0+)*x", "0" * 60)


@pytest.mark.parametrize("kind", FOUND)
def test_a_megabyte_of_anything_is_read_in_no_time(kind: str) -> None:
    """A reader that looked at every pair of characters would take minutes for each of them."""
    behavior = FOUND[kind]
    starts = {""}
    for made, params, spans, _ in examples(kind):
        if (value := value_of(kind, made, spans, **params)) is not None:
            # up to its last digit, so that the number goes on in the filler
            text = behavior.say(value, behavior.words["paper"])
            starts.add(re.sub(r"\D*$", "", text) or text.rstrip("."))
    assert len(starts) >= 2
    hostile = [start + filler * (1_000_000 // len(filler)) + "x" for start in starts for filler in FILLERS]
    hostile += [
        line * (1_000_000 // len(line)) for line in ("\n", "1. a\n", "%\n", "Replay:\n", "Tiles: 1\n")
    ]
    for text in hostile:
        with within(5):
            behavior.read_back(text)


# ---- likes -------------------------------------------------------------------------------------------------


def said(kind: str, made: Post, wording: str, spans: Spans = (), **params: Any) -> str:
    value = value_of(kind, made, spans, **params)
    assert value is not None
    return FOUND[kind].say(value, FOUND[kind].words[wording])


@given(views=st.integers(1, 10**9), share=st.floats(0, 1), wording=st.sampled_from(WORDINGS))
def test_like_rates_are_read_back_as_rounded(views: int, share: float, wording: str) -> None:
    text = said("likes", post(num_views=views, num_likes=int(views * share)), wording)
    half = 0.005 if wording == "short" else 0.0005
    assert likes.read_back(text) == {
        "like_rate": pytest.approx(int(views * share) / views, abs=half + 1e-9, rel=0)
    }


@given(score=st.integers(-(10**12), 10**12), wording=st.sampled_from(WORDINGS))
def test_a_score_is_never_a_percentage_of_viewers(score: int, wording: str) -> None:
    text = said("likes", post(score=score, upvote_ratio=0.9), wording)
    assert "%" not in text
    assert "viewers" not in text
    assert likes.read_back(text) == {"score": score}


@given(num_likes=st.integers(0, 10**12), wording=st.sampled_from(WORDINGS))
def test_likes_without_views_are_no_percentage(num_likes: int, wording: str) -> None:
    text = said("likes", post(num_likes=num_likes), wording)
    assert "%" not in text
    assert likes.read_back(text) == {"num_likes": num_likes}


@given(views=st.integers(0, 100), extra=st.integers(1, 100))
def test_more_likes_than_views_are_no_share_and_not_said_otherwise(views: int, extra: int) -> None:
    assert value_of("likes", post(num_views=views, num_likes=views + extra, score=5)) is None


@pytest.mark.parametrize("kind", ["likes", "reactions", "shares", "views"])
def test_an_adjusted_count_is_said_without_its_raw_one(kind: str) -> None:
    count = {"likes": "num_likes", "views": "num_views"}.get(kind, kind)
    raw: Any = {"a": 4321} if kind in ("reactions", "shares") else 4321
    made = post(**{count: raw}, adjusted={count: Adjusted(percentile=0.25, residual=0.0)})
    for wording in WORDINGS:
        for measure, part, amount in (("percentile", "percentile", 0.25), ("residual", "ratio", 1.0)):
            text = said(kind, made, wording, measure=measure)
            assert "4321" not in text
            assert FOUND[kind].read_back(text) == {f"{kind}_{part}": amount}
    other = post(**{count: raw}, adjusted={"other": Adjusted(percentile=0.25, residual=0.0)})
    assert value_of(kind, other, measure="percentile") is None


def test_a_comment_cannot_pass_for_an_amount() -> None:
    assert likes.read_back("1. 99% of viewers like it.\n2. It has a score of 5.") is None
    assert likes.read_back("Scene 1: 99% of viewers like it.") is None


# ---- kinds and their shares --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("COPY_PASTE", "copy paste"),
        ("Traffic light", "traffic light"),
        ("5 stars, 50%: yes;", "5 stars 50 yes"),
        ("\u2764\ufe0f", "\u2764\ufe0f"),
        ("etc. ...", "etc"),
        ("St. Ives", "st. ives"),
        ("a\n<image>", "a (image)"),
        ("123 .", ""),
        ("", ""),
    ],
)
def test_names_become_words_a_list_can_hold(name: str, word: str) -> None:
    assert counts.spoken(name) == word
    assert counts.spoken(word) == word


def test_kinds_spoken_alike_are_one_and_the_largest_is_first() -> None:
    assert counts.shares_by_name({"b": 1, "A_b": 2, "a b": 1, "c": 0}) == {"a b": 0.75, "b": 0.25, "c": 0.0}
    assert list(counts.shares_by_name({"b": 1, "a": 1, "z": 2}) or ()) == ["z", "a", "b"]
    assert counts.shares_by_name({"A": 1, "a": 2}) is None
    assert counts.shares_by_name({"a": 0, "b": 0}) is None
    assert counts.shares_by_name({"a": 2, "b": -1}) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "love",
        "61% ",
        "61%love",
        "161% love",
        "61% love, 61% love",
        "61% love, 3% Love",
        "61% love,",
        "5% 7",
    ],
)
def test_what_is_no_list_of_shares_is_not_read_as_one(text: str) -> None:
    assert counts.read_shares(text) is None


def test_a_list_of_shares_is_read_in_any_case() -> None:
    assert counts.read_shares("61% Love, 20.5% COPY_PASTE.") == {"love": 0.61, "copy paste": 0.205}
    assert FOUND["saliency_objects"].read_back("Objects: Traffic_light, DOG") == {
        "object_order": ("traffic light", "dog")
    }


# ---- comments ----------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
COMMENTS = st.lists(st.tuples(st.none() | TEXTS, st.none() | st.integers(-5, 5)), max_size=9)


@given(written=COMMENTS, max_items=st.integers(1, 9), wording=st.sampled_from(WORDINGS))
def test_the_best_comments_are_read_back(
    written: list[tuple[str | None, int | None]], max_items: int, wording: str
) -> None:
    made = tuple(Comment(str(place), text, score) for place, (text, score) in enumerate(written))
    value = value_of("comments", post(comments=made))
    usable = [comment for comment in made if comment.text is not None and one_line(comment.text)]
    assert (value is None) == (not usable)
    if value is None:
        return
    ranked = sorted(
        usable, key=lambda comment: -100 if comment.score is None else comment.score, reverse=True
    )
    assert value == {"comments": tuple(one_line(comment.text or "") for comment in ranked)}
    text = comments.say(value, replace(comments.BEHAVIOR.words[wording], max_items=max_items))
    assert len(text.splitlines()) == min(max_items, len(usable))
    assert comments.read_back(text) == {"comments": value["comments"][:max_items]}


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
    assert comments.read_back("23% of viewers like it.\n1. a\n2. b\n4. d") == {"comments": ("a", "b")}


# ---- curves ------------------------------------------------------------------------------------------------


@st.composite
def curves_and_scenes(draw: st.DrawFn) -> tuple[Curve, list[tuple[float, float]]]:
    def edges(most: int) -> list[float]:
        inner = draw(st.lists(st.floats(0.01, 9.99), max_size=most, unique_by=lambda value: round(value, 2)))
        return [0.0, *sorted(inner), 10.0]

    times = edges(8)
    values = draw(st.lists(st.floats(0, 1), min_size=len(times) - 1, max_size=len(times) - 1))
    return Curve(tuple(times[:-1]), tuple(times[1:]), tuple(values)), list(itertools.pairwise(edges(5)))


@given(made=curves_and_scenes(), wording=st.sampled_from(WORDINGS))
def test_replay_is_read_back_and_keeps_the_whole_mean(
    made: tuple[Curve, list[tuple[float, float]]], wording: str
) -> None:
    curve, scenes = made
    value = value_of("replay", post(replay=curve), scenes)
    assert value is not None
    read = replay.read_back(said("replay", post(replay=curve), wording, scenes))
    assert read == {"replay": pytest.approx(value["replay"], abs=0.00501)}
    whole = sum(
        value * (end - start)
        for value, start, end in zip(curve.values, curve.start_s, curve.end_s, strict=True)
    )
    parts = sum(mean * (end - start) for mean, (start, end) in zip(value["replay"], scenes, strict=True))
    assert parts == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("values", [(float("nan"),), (-0.1,), (1.1,)])
def test_a_replay_curve_outside_its_range_is_not_said(values: tuple[float, ...]) -> None:
    assert value_of("replay", post(replay=Curve((0.0,), (1.0,), values)), ((0.0, 1.0),)) is None


def test_replay_beyond_one_is_unreadable() -> None:
    assert replay.read_back("Replay: 0.5 7") is None


def test_retention_above_one_is_neither_clipped_nor_refused() -> None:
    made = post(retention=Curve((0.0, 2.0, 4.0), (2.0, 4.0, 6.0), (1.4, 1.02, 0.5)))
    value = value_of("retention", made, ((0.0, 3.0), (3.0, 6.0)))
    # two seconds of 1.4 and one of 1.02; one of 1.02 and two of 0.5
    assert value == {"retention": pytest.approx((3.82 / 3, 2.02 / 3))}
    assert retention.read_back("Audience retention by scene: 1.27, 0.67") == {"retention": (1.27, 0.67)}
    assert (
        value_of("retention", post(retention=Curve((0.0,), (1.0,), (float("inf"),))), ((0.0, 1.0),)) is None
    )


def test_a_curve_without_its_start_has_lost_the_first_segment_alone() -> None:
    curve = Curve((0.0, 1.0, 3.0), (1.0, 3.0, 4.0), (1.0, 0.4, 0.2))
    assert curves.without_start(curve) == Curve((1.0, 3.0), (3.0, 4.0), (0.4, 0.2))
    assert curves.without_start(Curve((0.0,), (1.0,), (1.0,))) is None
    assert curves.without_start(Curve((), (), ())) is None
    spans = ((0.0, 2.0), (2.0, 4.0))
    # the first scene is left with its second second: 0.4; the second has a second each of 0.4 and 0.2
    without = value_of("retention", post(retention=curve), spans, start="without")
    assert without == {"retention": pytest.approx((0.4, 0.3))}
    assert value_of("retention", post(retention=curve), spans) == {"retention": pytest.approx((0.7, 0.3))}
    # replay is a share of the most replayed stretch, which is now 0.4
    relative = value_of("replay", post(replay=curve), spans, start="without")
    assert relative == {"replay": pytest.approx((1.0, 0.75))}


def test_a_curve_of_which_only_the_start_was_replayed_has_nothing_without_it() -> None:
    curve = Curve((0.0, 1.0), (1.0, 2.0), (1.0, 0.0))
    assert value_of("replay", post(replay=curve), ((0.0, 2.0),), start="without") is None
    assert curves.relative(Curve((0.0,), (1.0,), (0.0,))) is None


def test_a_scene_the_curve_does_not_reach_is_not_made_up() -> None:
    curve = Curve((0.0, 1.0), (1.0, 2.0), (0.5, 0.25))
    assert curves.over_scenes(curve, ((0.0, 2.0), (2.0, 3.0))) is None
    assert curves.over_scenes(curve, ()) is None
    assert curves.over_scenes(curve, ((1.0, 1.0),)) is None
    assert curves.over_scenes(Curve((), (), ()), ((0.0, 1.0),)) is None


# ---- recall ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "score"), [(0.0, "00"), (0.004, "00"), (0.07, "07"), (0.734, "73"), (0.99, "99"), (1.0, "99")]
)
def test_recall_on_the_scale_of_00_to_99(share: float, score: str) -> None:
    template = load_template("lambda")
    text = FOUND["recall"].say({"recall": share}, template.words("recall"))
    assert text == f"The long term memorability score is {score}."
    assert FOUND["recall"].read_back(text) == {"recall": int(score) / 100}

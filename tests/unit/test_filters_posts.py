"""Filters of posts, on rows worked out by hand; `keep` sees what the funnel stores, no more."""

from datetime import UTC, date, datetime
from urllib.parse import urlsplit

import daft
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behavior_llava.core import schema
from behavior_llava.data import funnel
from behavior_llava.data.filters import (
    category,
    comments_disabled,
    dates,
    few_views,
    hosting,
    nsfw,
    placeholders,
    young_label,
)
from behavior_llava.data.youtube_records import CATEGORIES


def measured(module, posts, **params):
    """The measures alone, by post id."""
    given = module.Params(**params)
    table = daft.from_arrow(pa.Table.from_pylist(posts, schema=schema.POSTS))
    comments = daft.from_arrow(pa.Table.from_pylist([], schema=schema.COMMENTS))
    after = module.FILTER.measure(table, comments, given)
    return after.select("id", *(name for name in after.column_names if name not in table.column_names))


def kept(module, posts, **params):
    """The ids that are left, decided on the measures alone."""
    decided = module.FILTER.keep(module.Params(**params))
    left, dropped = funnel._parted(measured(module, posts, **params), decided)
    assert left.count_rows() + dropped.count_rows() == len(posts)
    return set(left.to_pydict()["id"])


def utc(*when):
    return int(datetime(*when, tzinfo=UTC).timestamp())


# ---- dates -------------------------------------------------------------------------------------------------

TIMES = [
    {"id": "2010", "channel": "pics", "created_utc": utc(2010, 6, 1)},
    {"id": "january 2015", "channel": "Pics", "created_utc": utc(2015, 1, 31, 23, 59, 59)},
    {"id": "february 2015", "channel": "PICS", "created_utc": utc(2015, 2, 1)},
    {"id": "videos 2015", "channel": "videos", "created_utc": utc(2015, 1, 1)},
    {"id": "last of 2017", "channel": "videos", "created_utc": utc(2017, 12, 31, 23, 59, 59)},
    {"id": "first of 2018", "channel": "videos", "created_utc": utc(2018, 1, 1)},
    {"id": "last of january", "channel": "pics", "created_utc": utc(2022, 1, 31, 23, 59, 59)},
    {"id": "first of february", "channel": "pics", "created_utc": utc(2022, 2, 1)},
    {"id": "nowhere", "channel": None, "created_utc": utc(2020, 1, 1)},
    {"id": "pics, never", "channel": "pics", "created_utc": None},
    {"id": "videos, never", "channel": "videos", "created_utc": None},
]


def test_dates_keep_the_papers_months():
    assert kept(dates, TIMES) == {"first of 2018", "last of january", "nowhere"}


def test_dates_of_a_community_come_on_top():
    all_but_early_pics = {row["id"] for row in TIMES} - {"2010", "january 2015", "pics, never"}
    assert kept(dates, TIMES, after=None, before=None) == all_but_early_pics
    assert kept(dates, TIMES, after="2015-01-01", before=None) == all_but_early_pics - {"videos, never"}
    own = {"r/Videos": {"before": "2018-01-01"}}
    assert kept(dates, TIMES, after="2015-01-01", before="2022-02-01", communities=own) == {
        "january 2015",
        "february 2015",
        "videos 2015",
        "last of 2017",
        "last of january",
        "nowhere",
    }


def test_dates_without_any_limit_keep_everything():
    assert kept(dates, TIMES, after=None, before=None, communities={}) == {row["id"] for row in TIMES}


def test_dates_refuse_a_period_without_a_day():
    with pytest.raises(ValidationError, match="no day lies on or after 2020-01-01 and before 2020-01-01"):
        dates.Params(after=date(2020, 1, 1), before=date(2020, 1, 1))
    with pytest.raises(ValidationError, match="no day lies"):
        dates.Params(communities={"pics": {"after": "2020-01-02", "before": "2020-01-01"}})
    with pytest.raises(ValidationError):
        dates.Params(after="last year")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=20), st.dates(), st.dates())
def test_dates_agree_with_the_calendar(seconds, one, other):
    after, before = min(one, other), max(one, other)
    if after == before:
        return
    rows = [{"id": str(number), "created_utc": time} for number, time in enumerate(seconds)]
    first, last = (utc(day.year, day.month, day.day) for day in (after, before))
    expected = {str(number) for number, time in enumerate(seconds) if first <= time < last}
    assert kept(dates, rows, after=after, before=before) == expected


# ---- hosting -----------------------------------------------------------------------------------------------

HOSTS = {
    "https://i.redd.it/a.jpg": ("i.redd.it", "reddit"),
    "HTTPS://I.REDD.IT/a.jpg": ("i.redd.it", "reddit"),
    "https://i.redd.it.:443/a.jpg": ("i.redd.it", "reddit"),
    "https://i.redd.it?x=@evil.com": ("i.redd.it", "reddit"),
    "https://i.redd.it#@evil.com": ("i.redd.it", "reddit"),
    " https://i.redd.it ": ("i.redd.it", "reddit"),
    "https://preview.redd.it/a.jpg?width=640&amp;s=1": ("preview.redd.it", "reddit"),
    "http://i.reddituploads.com/a": ("i.reddituploads.com", "reddit"),
    "https://v.redd.it/a/DASH_720.mp4": ("v.redd.it", "reddit_video"),
    "https://www.youtube.com/watch?v=a": ("youtube.com", "youtube"),
    "https://m.youtube.com/watch?v=a": ("youtube.com", "youtube"),
    "https://music.youtube.com/watch?v=a": ("music.youtube.com", "youtube"),
    "https://www.youtube-nocookie.com/embed/a": ("youtube-nocookie.com", "youtube"),
    "https://youtu.be/a": ("youtu.be", "youtube"),
    "https://i.ytimg.com/vi/a/0.jpg": ("i.ytimg.com", "i.ytimg.com"),
    "https://i.imgur.com/a.jpg": ("i.imgur.com", "imgur"),
    "https://m.imgur.com/a": ("imgur.com", "imgur"),
    "https://user:pw@i.redd.it/a.jpg": ("i.redd.it", "reddit"),
    # what only looks like it
    "https://i.redd.it@evil.com/a.jpg": ("evil.com", "evil.com"),
    "https://i.redd.it:443@evil.com/a.jpg": ("evil.com", "evil.com"),
    "https://a@i.redd.it@evil.com/a.jpg": ("evil.com", "evil.com"),
    "https://i.redd.it.evil.com/a.jpg": ("i.redd.it.evil.com", "i.redd.it.evil.com"),
    "https://evil.com/https://i.redd.it/a.jpg": ("evil.com", "evil.com"),
    "https://evil-i.redd.it/a.jpg": ("evil-i.redd.it", "evil-i.redd.it"),
    "https://notyoutube.com/watch?v=a": ("notyoutube.com", "notyoutube.com"),
    # what browsers and urlsplit read differently, and what is no web address
    "https://evil.com\\@i.redd.it/a.jpg": (None, None),
    "https://i.redd.it\\@evil.com/a.jpg": (None, None),
    "https://evil.com\n@i.redd.it/a.jpg": (None, None),
    "https://i.redd.it%2eevil.com/a.jpg": (None, None),
    "https://i.redd.it:80.evil.com/a.jpg": (None, None),
    "https://\uff49.redd.it/a.jpg": (None, None),
    "https://[::1]/a.jpg": (None, None),
    "https://[@i.redd.it/a.jpg": (None, None),
    "https:///i.redd.it/a.jpg": (None, None),
    "//i.redd.it/a.jpg": (None, None),
    "i.redd.it/a.jpg": (None, None),
    "ftp://i.redd.it/a.jpg": (None, None),
    "file:///i.redd.it/a.jpg": (None, None),
    "javascript://i.redd.it/%0aalert(1)": (None, None),
    "": (None, None),
}


def test_hosts_are_told_whatever_stands_around_them():
    rows = [{"id": url, "media_kind": "image", "media_url": url} for url in HOSTS]
    found = measured(hosting, rows).to_pydict()
    assert dict(zip(found["id"], zip(found["host"], found["host_family"], strict=True), strict=True)) == HOSTS


def test_hosting_keeps_kinds_at_their_hosts():
    rows = [
        {"id": f"{kind} {url}", "media_kind": kind, "media_url": url}
        for kind in ("image", "video", None)
        for url in (*HOSTS, None)
    ]
    images = {f"image {url}" for url, (_, family) in HOSTS.items() if family == "reddit"}
    videos = {f"video {url}" for url, (_, family) in HOSTS.items() if family == "youtube"}
    assert len(images) == 9
    assert len(videos) == 5
    assert kept(hosting, rows) == images | videos
    assert kept(hosting, rows, image_hosts=(), video_hosts=()) == set()
    assert kept(hosting, rows, image_hosts=("I.ytimg.com",), video_hosts=("Reddit_Video",)) == {
        "image https://i.ytimg.com/vi/a/0.jpg",
        "video https://v.redd.it/a/DASH_720.mp4",
    }


_PIECES = st.sampled_from(
    ["i.redd.it", "evil.com", "@", ":", ":80", "/", "?", "#", ".", "www.", "a", "[", "%2e"]
)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(_PIECES, min_size=1, max_size=7).map("".join), min_size=1, max_size=20, unique=True))
def test_a_host_that_is_told_is_the_one_python_reads(rests):
    rows = [{"id": rest, "media_kind": "image", "media_url": f"https://{rest}"} for rest in rests]
    found = measured(hosting, rows).to_pydict()
    for rest, host in zip(found["id"], found["host"], strict=True):
        if host is not None:
            read = urlsplit(f"https://{rest}").hostname.removesuffix(".")
            assert read.removeprefix("www.") == host


# ---- views, comments, age ----------------------------------------------------------------------------------


def test_few_views_at_the_limit():
    rows = [{"id": str(count), "num_views": count} for count in (0, 9_999, 10_000, 10_001, 2**40, None)]
    assert kept(few_views, rows) == {"10001", str(2**40)}
    assert kept(few_views, rows, more_than_views=0) == {"9999", "10000", "10001", str(2**40)}


def test_comments_disabled():
    rows = [{"id": str(value), "comments_disabled": value} for value in (True, False, None)]
    assert kept(comments_disabled, rows) == {"False", "None"}


def test_young_label_at_the_limit():
    ages = {"a day": 86_400, "a second less": 86_399, "none": 0, "negative": -1, "old": 10**8}
    rows = [{"id": name, "created_utc": 5, "retrieved_utc": 5 + age} for name, age in ages.items()]
    rows += [
        {"id": "not read", "created_utc": 5},
        {"id": "not posted", "retrieved_utc": 5},
        {"id": "neither"},
    ]
    unknown = {"negative", "not read", "not posted", "neither"}
    assert kept(young_label, rows) == {"a day", "old"}
    assert kept(young_label, rows, keep_unknown=True) == {"a day", "old"} | unknown
    assert kept(young_label, rows, min_age_s=0) == {"a day", "a second less", "none", "old"}
    found = measured(young_label, rows).to_pydict()
    assert dict(zip(found["id"], found["label_age_s"], strict=True)) == {
        **ages,
        **dict.fromkeys(unknown),
    }


# ---- category ----------------------------------------------------------------------------------------------


def test_categories_are_youtubes():
    assert set(category.Params().categories) <= set(CATEGORIES.values())
    assert set(category.WORDS) - {category.ANY} <= set(CATEGORIES.values())


@pytest.mark.parametrize(
    ("name", "title", "is_kept"),
    [
        ("Music", "A walk", False),
        ("GAMING", "A walk", False),
        ("News & Politics", "A walk", False),
        ("Musicals", "A walk", True),
        ("Sports", "A walk", True),
        ("Sports", "Final, play-by-play", False),
        ("Sports", "Post-match talk", False),
        ("Sports", "Highlights: A v B", False),
        ("Comedy", "Highlights: A v B", True),
        (None, "Highlights: A v B", True),
        (None, "best memes of May", False),
        ("Comedy", "#memes", False),
        ("Comedy", "memento", True),
        ("Film & Animation", "AMV - the sea", False),
        ("Film & Animation", "amvets day", True),
    ],
)
def test_topics(name, title, is_kept):
    rows = [{"id": "a", "category": name, "title": title}]
    assert kept(category, rows) == ({"a"} if is_kept else set())


def test_topics_are_what_the_parameters_say():
    rows = [
        {"id": "music", "category": "Music", "title": "x"},
        {"id": "cooking", "category": None, "title": "My Cooking"},
        {"id": "meme", "category": None, "title": "a meme"},
        {"id": "described", "category": None, "description": "cooking"},
    ]
    assert kept(category, rows, categories=(), words={}) == {"music", "cooking", "meme", "described"}
    assert kept(category, rows, words={"any": ("cooking", " ")}) == {"meme", "described"}


# ---- nsfw --------------------------------------------------------------------------------------------------


def test_nsfw_mark_and_words_are_measured_apart():
    rows = [
        {"id": "marked", "is_nsfw": True, "title": "x"},
        {"id": "worded", "is_nsfw": False, "title": "So, PORN?"},
        {"id": "phrase", "is_nsfw": None, "title": "doggy\n style"},
        {"id": "allowed", "is_nsfw": None, "title": "World domination"},
        {"id": "within a word", "title": "Scunthorpe, Essex"},
    ]
    assert kept(nsfw, rows) == {"allowed", "within a word"}
    assert kept(nsfw, rows, word_list=False) == {"worded", "phrase", "allowed", "within a word"}
    assert kept(nsfw, rows, allowed_words=()) == {"within a word"}


# ---- placeholders ------------------------------------------------------------------------------------------


def files(name, sha256, count, url="https://example.org/{}.jpg"):
    """Posts of one file, each from an address of its own unless `url` has no place for a number."""
    return [
        {"id": f"{name} {n}", "media_sha256": sha256, "media_url": None if url is None else url.format(n)}
        for n in range(count)
    ]


def test_placeholders_at_the_limit():
    rows = files("19", "aa", 19) + files("20", "bb", 20) + files("one address", "cc", 30, "https://x.org/a")
    rows += files("local", "dd", 30, None) + files("no file", None, 30)
    dropped = {row["id"] for row in files("20", "bb", 20)}
    everything = {row["id"] for row in rows}
    assert kept(placeholders, rows) == everything - dropped
    assert kept(placeholders, rows, min_urls=None) == everything
    assert len(everything) - len(kept(placeholders, rows, min_urls=2)) == 19 + 20


def test_placeholders_known_by_their_hash():
    assert all(len(sha256) == 64 and int(sha256, 16) for sha256 in placeholders.KNOWN)
    rows = [row for sha256 in (*placeholders.KNOWN, "ab", "cd") for row in files(sha256, sha256, 1)]
    assert kept(placeholders, rows) == {"ab 0", "cd 0"}
    assert kept(placeholders, rows, more_hashes=("AB",)) == {"cd 0"}

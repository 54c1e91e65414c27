"""Names, bots and scrubbing."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior_llava.data.people import author_kind, hash_author, scrub

BOTS = (
    "AutoModerator",
    "redd_bot",
    "OkRedditBot",
    "HelperBot_",
    "haiku_robot",
    "RepostSleuthBot",
    "sneakpeekbot",
)
FALSE_FRIENDS = (
    "2Botter2Loop",
    "abbotleather",
    "THE_GREAT_SHAZBOT",
    "arealhumannotabot",
    "not_a_bot",
    "Talbot",
)


def test_hashes():
    assert hash_author("someone", "salt") == hash_author("someone", "salt")
    assert hash_author("someone", "salt") != hash_author("someone", "other")
    assert hash_author("\ud83d", "salt").startswith("u_")
    # half a character is no question mark: two names, two people
    assert len({hash_author(name, "salt") for name in ("\ud83d", "\ud83e", "?")}) == 3
    assert [hash_author(name, "salt") for name in (None, "", "[deleted]")] == [None] * 3


@pytest.mark.parametrize("name", BOTS)
def test_bots_by_name(name):
    assert author_kind(name, "Have a look at this.") == "bot"


@pytest.mark.parametrize("name", FALSE_FRIENDS)
@pytest.mark.parametrize("distinguished", [None, "moderator"])
def test_false_friends_are_persons(name, distinguished):
    assert author_kind(name, "Your submission was removed.", distinguished) == "person"


def test_bots_by_what_they_say():
    boilerplate = "*I am a bot, and this action was performed automatically. Please [contact](/x)*"
    assert author_kind("PlainName", boilerplate) == "bot"
    assert author_kind("talbot", "^I'm ^a ^bot, ^^beep ^^boop") == "bot"
    assert author_kind("PlainName", "beep boop, I am a bot", "moderator") == "bot"
    assert author_kind("PlainName", "lol I'm a bot too") == "person"
    assert author_kind("[deleted]", boilerplate) == "deleted"
    assert author_kind(None, None) == "person"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("write to jo.doe+x@mail.example.org now", "write to <email> now"),
        ("thanks @some_one.else!", "thanks <user>!"),
        ("seen by /u/some-one and u/Other_2", "seen by <user> and <user>"),
        ("[Here](http://i.imgur.com/LLgRKeq.jpg) it is", "Here <link> it is"),
        ("[wiki](https://en.wikipedia.org/wiki/A_(b)) ok", "wiki <link> ok"),
        ("[mods](/message/compose/?to=/r/pics) help", "mods <link> help"),
        ("see https://x.org/a?b=c, or www.y.com/z", "see <link> or <link>"),
        ("instagram.com/someone is mine", "<link> is mine"),
        ("reddit.com/user/someone", "<link>"),
        ("my phone is +44 20 7946 0958 ok", "my phone is <phone> ok"),
        ("call (555) 123-4567", "call <phone>"),
        ("from 192.168.0.1", "from <ip>"),
        ("half \ud83d pair and \x00", "half ? pair and"),
        ("   ", None),
        (None, None),
    ],
)
def test_scrub(text, expected):
    assert scrub(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "and/or 3/4 of 10,000,000 views in 2019-2020",
        "on 2019-10-12 at 12:30:45",
        "r/pics is fine @ home, e.g. this",
        "1920x1080, version 1.2.3",
    ],
)
def test_scrub_leaves_ordinary_text(text):
    assert scrub(text) == text


@given(st.text(alphabet="ab@./u :[]()<>-_1", max_size=60))
def test_no_handle_or_address_survives(text):
    scrubbed = scrub(text) or ""
    assert "@a" not in scrubbed
    assert "@b" not in scrubbed
    scrubbed.encode()


@pytest.mark.parametrize(
    "text", ["a" * 10**6, "a.b" * 300_000, "[" * 300_000, "1 " * 300_000, "@" * 300_000, "u/" * 300_000]
)
def test_scrub_takes_time_in_proportion(text):
    start = time.perf_counter()
    scrub(text)
    assert time.perf_counter() - start < 20


def test_one_name_on_reddit_in_whatever_letters():
    names = ("Walker_1", "walker_1", "WALKER_1")
    assert {hash_author(name, "salt", "reddit") for name in names} == {hash_author("walker_1", "salt")}
    # elsewhere capitals tell people apart: a channel's id holds both
    assert len({hash_author(name, "salt") for name in names}) == 3
    assert len({hash_author(name, "salt", "youtube") for name in names}) == 3
    assert hash_author("[deleted]", "salt", "reddit") is None

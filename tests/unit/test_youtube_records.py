"""info.json and Data API records to posts: every dialect, every absence, any JSON anywhere."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core.schema import Chapter, Fault, Post, Said, comment_rows, post_row
from behavior_llava.data import people
from behavior_llava.data.sources import youtube
from behavior_llava.data.youtube_records import CATEGORIES, iso_duration, parse_pages


def info(**fields):
    return {"id": "vid1", "title": "a title", "channel": "Jo Doe", "duration": 12, "age_limit": 0} | fields


def item(**fields):
    return {"kind": "youtube#video", "id": "dQw4w9WgXcQ"} | fields


def post_of(record) -> Post:
    post = youtube.parse(record)
    assert isinstance(post, Post)
    return post


# ---- info.json ---------------------------------------------------------------------------------------------


def test_missing_is_null():
    fields = ("view_count", "heatmap", "comments", "age_limit", "chapters", "categories", "language")
    post = post_of(info(**dict.fromkeys(fields), comment_count=None))
    assert post == Post(
        id="youtube:vid1",
        source="youtube",
        media_kind="video",
        channel=post.channel,
        title="a title",
        media_url="https://www.youtube.com/watch?v=vid1",
        duration_s=12.0,
        author_hash=people.hash_author("Jo Doe", people.DEFAULT_SALT),
    )


def test_marks_and_times():
    assert post_of(info(age_limit=18)).is_nsfw is True
    assert post_of(info(upload_date="20200102")).created_utc == 1577923200
    assert post_of(info(upload_date="20200102", timestamp=1577999999)).created_utc == 1577999999
    assert post_of(info(channel_id="UC" + "a" * 22)).channel == "UC" + "a" * 22
    assert post_of(info(duration=0)).duration_s is None  # a live stream


def test_what_it_is_about():
    post = post_of(
        info(
            categories=["Gaming"],
            language="en-US",
            chapters=[
                {"start_time": 0, "end_time": 4.5, "title": "Start"},
                {"start_time": 4.5, "end_time": 12, "title": None},
            ],
        )
    )
    assert (post.category, post.language) == ("Gaming", "en-US")
    assert post.chapters == (Chapter(0.0, 4.5, "Start"), Chapter(4.5, 12.0, None))
    assert post_of(info(chapters=[])).chapters is None
    assert post_of(info(categories=[], language="")).category is None


def test_comments_with_likes_and_pins():
    raw = [
        {"id": "c1", "parent": "root", "text": "one", "like_count": 7, "is_pinned": True, "author": "@a"},
        {"id": "c1.r", "parent": "c1", "text": "two", "like_count": None, "is_pinned": False, "author": "@b"},
        {"id": "c1", "parent": "root", "text": "one, later", "like_count": 9, "is_pinned": None},
    ]
    first, second = post_of(info(comments=raw)).comments
    assert (first.text, first.score, first.is_pinned, first.parent_id) == ("one, later", 9, None, None)
    assert (second.score, second.is_pinned, second.parent_id) == (None, False, "c1")


@pytest.mark.parametrize(
    "fields",
    [
        {"like_count": -1},
        {"like_count": True},
        {"view_count": "1.5 M"},
        {"view_count": 1e30},
        {"upload_date": "yesterday"},
        {"upload_date": 0},
        {"heatmap": [{"start_time": 0, "end_time": 1}]},
        {"heatmap": {"a": 1}},
        {"heatmap": False},
        {"comments": ["text"]},
        {"comments": "text"},
        {"comments": 0},
        {"comments": [{"text": "no id"}]},
        {"comments": [{"id": "a/b"}]},
        {"comments": [{"id": "a", "author": ["x"]}]},
        {"title": ["x"]},
        {"duration": "long"},
        {"duration": -1},
        {"duration": float("inf")},
        {"categories": "Gaming"},
        {"categories": [5]},
        {"language": "en; jo@doe.org"},
        {"chapters": [{"start_time": 3, "end_time": 2, "title": "x"}]},
        {"chapters": [{"start_time": 3, "title": "x"}]},
        {"chapters": {"x": 1}},
        {"age_limit": "adult"},
    ],
)
def test_a_field_of_another_type_is_a_fault(fields):
    assert youtube.parse(info(**fields), where="x") == Fault("field_broken", "x")


# ---- heatmaps ----------------------------------------------------------------------------------------------

SECONDS = [
    {"start_time": 0.0, "end_time": 2.14, "value": 1.0},
    {"start_time": 2.14, "end_time": 4.28, "value": 0.5},
]
OLD = [
    {"timeRangeStartMillis": 0, "markerDurationMillis": 2140, "heatMarkerIntensityScoreNormalized": 1},
    {"timeRangeStartMillis": 2140, "markerDurationMillis": 2140, "heatMarkerIntensityScoreNormalized": 0.5},
]
NEW = [
    {"startMillis": "0", "durationMillis": "2140", "intensityScoreNormalized": 1},
    {"startMillis": "2140", "durationMillis": "2140", "intensityScoreNormalized": 0.5},
]


@pytest.mark.parametrize(
    "heatmap", [SECONDS, OLD, [{"heatMarkerRenderer": marker} for marker in OLD], NEW, [SECONDS[0], NEW[1]]]
)
def test_dialects_in_time_agree(heatmap):
    curve = post_of(info(heatmap=heatmap, duration=None)).replay
    assert (curve.start_s, curve.end_s, curve.values) == ((0.0, 2.14), (2.14, 4.28), (1.0, 0.5))


@pytest.mark.parametrize(
    ("pairs", "starts", "ends"),
    [
        ([[0, 1], [0.25, 0.5], [0.5, 0.1], [0.75, 0]], (0, 25, 50, 75), (25, 50, 75, 100)),
        ([[0.25, 0.5], [0.5, 0.1]], (25, 50), (50, 75)),  # partial stays partial
        ([[0.25, 1], [0.5, 0.1], [0.75, 0], [1, 0]], (0, 25, 50, 75), (25, 50, 75, 100)),  # ends
        ([[0.5, 1], [0.75, 0.1], [1.0, 0]], (25, 50, 75), (50, 75, 100)),
    ],
)
def test_pairs_need_the_duration(pairs, starts, ends):
    curve = post_of(info(heatmap=pairs, duration=100)).replay
    assert (curve.start_s, curve.end_s) == (starts, ends)
    assert youtube.parse(info(heatmap=pairs, duration=None), where="x") == Fault("duration_missing", "x")


@pytest.mark.parametrize(
    "heatmap",
    [
        [SECONDS[1], SECONDS[0]],
        [SECONDS[0], {"start_time": 3, "end_time": 2, "value": 0}],
        [{"start_time": -1, "end_time": 2, "value": 0}],
        [{"start_time": 0, "end_time": 2, "value": 1.5}],
        [{"start_time": 0, "end_time": 2, "value": None}],
        [{"startMillis": "0", "durationMillis": "-5", "intensityScoreNormalized": 1}],
        [{"startMillis": "0", "intensityScoreNormalized": 1}],
        [{"heatMarkerRenderer": 5}],
        [[0, 1]],
        [[0, 1], [0, 1]],
        [[0, 1], [2, 1]],
        [[0, 1], [0.5, 1, 1]],
        [[0, 1], [0.5, "x"]],
        ["ab", "cd"],
        [None],
    ],
)
def test_a_broken_curve_keeps_the_post_out(heatmap):
    assert youtube.parse(info(heatmap=heatmap), where="x") == Fault("field_broken", "x")


def test_real_heatmaps(shared):
    folder = shared / "behaviour" / "data" / "youtube" / "heatmap"
    partial = json.loads((folder / "ytdlp_heatmap_partial_uosc832.json").read_text("utf-8"))["heatmap"]
    curve = post_of(info(heatmap=partial)).replay
    assert len(curve.values) == 18
    assert (curve.start_s[0], curve.end_s[0], curve.values[0]) == (63.42, 67.95, 0.1443782917258829)
    pairs = json.loads((folder / "most_replayed_Z8Z51no1TD0_100pts.json").read_text("utf-8"))
    curve = post_of(info(heatmap=pairs["heatmap_ratio_pairs"], duration=300)).replay
    assert len(curve.values) == 100
    assert curve.start_s[:2] == (0.0, 3.0)
    assert curve.end_s[-1] == pytest.approx(300)
    assert curve.values[:2] == (1.0, 0.282)


# ---- Data API ----------------------------------------------------------------------------------------------


def test_counts_are_texts_and_what_is_hidden_is_null():
    shown = {"viewCount": "12345678901", "likeCount": "5", "favoriteCount": "0", "commentCount": "3"}
    post = post_of(item(statistics=shown))
    assert (post.num_views, post.num_likes, post.num_comments) == (12345678901, 5, 3)
    assert post.comments_disabled is False
    post = post_of(item(statistics={"viewCount": "7"}))
    assert (post.num_views, post.num_likes, post.num_comments) == (7, None, None)
    assert post.comments_disabled is True
    post = post_of(item())  # statistics were not asked for
    assert (post.num_views, post.comments_disabled, post.is_nsfw, post.title) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT5M27S", 327), ("P1DT2H", 93600), ("PT1H", 3600), ("P0D", None), ("PT0S", None), ("P1W", 604800)],
)
def test_durations(text, seconds):
    assert iso_duration(text) == seconds


@pytest.mark.parametrize("text", ["5:27", "PT5M27", "", "-PT5S", "PT" + "9" * 400 + "S", 5, ["PT5S"]])
def test_no_durations(text):
    fault = youtube.parse(item(contentDetails={"duration": text}))
    assert isinstance(fault, Fault)


def test_one_vocabulary_of_categories():
    assert post_of(item(snippet={"categoryId": "20"})).category == "Gaming"
    assert post_of(info(categories=["Gaming"])).category == "Gaming"
    assert post_of(item(snippet={"categoryId": "9999"})).category is None
    assert youtube.parse(item(snippet={"categoryId": "games"})) == Fault("field_broken", "")


def test_real_categories(shared):
    path = shared / "behaviour/data/youtube/data_api/categories__video_category_by_region.json"
    found = {int(one["id"]): one["snippet"]["title"] for one in json.loads(path.read_text("utf-8"))["items"]}
    assert len(found) == 32
    assert found == CATEGORIES


def test_restrictions_and_languages():
    rated = {"contentDetails": {"contentRating": {"ytRating": "ytAgeRestricted"}}}
    assert post_of(item(**rated)).is_nsfw is True
    assert post_of(item(contentDetails={"contentRating": {}})).is_nsfw is False
    assert post_of(item(contentDetails={})).is_nsfw is None
    assert post_of(item(snippet={"defaultLanguage": "de"})).language == "de"
    spoken = {"defaultLanguage": "de", "defaultAudioLanguage": "en"}
    assert post_of(item(snippet=spoken)).language == "en"
    owner = {"channelId": "UC" + "b" * 22, "channelTitle": "Jo Doe"}
    post, other = post_of(item(snippet=owner)), post_of(info(channel_id="UC" + "b" * 22, uploader_id="@jo"))
    assert (post.channel, post.author_hash) == (other.channel, other.author_hash)


def comment(**snippet):
    return {"kind": "youtube#comment", "id": "Ug1", "snippet": {"videoId": "vid1"} | snippet}


def said(**snippet):
    (found,) = parse_pages(comment(**snippet), where="x")
    assert isinstance(found, Said)
    return found.comment


def test_what_was_written_comes_before_how_it_is_shown():
    shown = 'Tom &amp; I<br>at <a href="http://x.org/?a=1&amp;t=62">1:02</a> &lt;3 <b>so</b> &quot;nice&quot;'
    assert said(textDisplay=shown).text == 'Tom & I\nat 1:02 <3 so "nice"'
    assert said(textDisplay=shown, textOriginal="I <b> &amp;").text == "I <b> &amp;"
    assert said(textOriginal="", textDisplay="x").text is None
    assert said().text is None
    assert said(textOriginal="\ud800!").text == "?!"


def test_comments_fields():
    one = said(
        likeCount=4,
        publishedAt="2019-11-26T15:51:44.000Z",
        parentId="Ug0",
        authorChannelId={"value": "UCx"},
        authorDisplayName="@NightBot",
        textOriginal="hi",
    )
    assert (one.score, one.created_utc, one.parent_id, one.author_kind) == (4, 1574783504, "Ug0", "bot")
    assert one.author_hash == people.hash_author("UCx", people.DEFAULT_SALT)
    assert one.removed_by is None
    assert said(moderationStatus="published").removed_by is None
    assert said(moderationStatus="rejected").removed_by == "moderator"
    thread = {"kind": "youtube#commentThread", "snippet": {"isPublic": False, "topLevelComment": comment()}}
    (hidden,) = parse_pages(thread)
    assert isinstance(hidden, Said)
    assert hidden.comment.removed_by == "moderator"


@pytest.mark.parametrize(
    ("snippet", "reason"),
    [
        ({"videoId": None}, "comment_without_post"),
        ({"videoId": "../x"}, "id_broken"),
        ({"videoId": 5}, "field_broken"),
        ({"likeCount": -1}, "field_broken"),
        ({"authorChannelId": "UCx"}, "field_broken"),
        ({"textOriginal": ["x"]}, "field_broken"),
        ({"publishedAt": "long ago"}, "field_broken"),
        ({"parentId": "a b"}, "field_broken"),
    ],
)
def test_broken_comments(snippet, reason):
    assert list(parse_pages(comment(**snippet), where="x")) == [Fault(reason, "x#1")]


def test_real_answers(shared):
    folder = shared / "behaviour" / "data" / "youtube" / "data_api"
    files = sorted(folder.glob("*.json"))
    assert len(files) == 26
    counts: dict[str, Counter[str]] = {}
    posts: dict[str, Post] = {}
    for path in files:
        found = list(parse_pages(json.loads(path.read_text("utf-8")), where=path.name))
        names = (one.reason if isinstance(one, Fault) else type(one).__name__ for one in found)
        kind = path.name.split("__")[0]
        counts[kind] = counts.get(kind, Counter()) + Counter(names)
        posts |= {one.id: one for one in found if isinstance(one, Post)}
    assert counts == {
        "captions": {},
        "categories": {},
        "comment_threads": {"Said": 15, "comment_without_post": 5},
        "comments": {"comment_without_post": 6},
        "videos": {"Post": 14},
    }
    talk = posts["youtube:D-lhorsDlUQ"]
    assert (talk.category, talk.language, talk.created_utc) == ("Science & Technology", "en", 1553200669)
    assert talk.channel == "UC_x5XG1OV2P6uZZ5FSM9Ttw"
    assert "<link>" in talk.description
    assert talk.num_views is None


def test_real_answers_in_a_folder(shared):
    folder = shared / "behaviour" / "data" / "youtube" / "data_api"
    config = youtube.Config(path=folder)
    parts = list(youtube.SOURCE.parts(config, folder))
    assert [len(part.content) for part in parts] == [6, 11]
    found = Counter(type(one).__name__ for part in parts for one in youtube.SOURCE.read(config, part))
    assert found == {"Post": 14, "Said": 15, "Fault": 11}


# ---- any JSON anywhere -------------------------------------------------------------------------------------

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**400, -1, 2**63, float("nan"), float("inf"), 1e308])
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(
        ["", "\ud800", "0", "9" * 400, "PT5S", "2020-01-01T00:00:00+23:59", "0001-01-01", "\0"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "value", "text", "start_time", "end_time", "snippet", "startMillis", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
INFO_FIELDS = (
    "id _type title description channel channel_id uploader uploader_id duration age_limit view_count "
    "like_count comment_count upload_date timestamp epoch heatmap comments chapters categories language "
    "extractor_key"
).split()
SNIPPET_FIELDS = (
    "publishedAt channelId channelTitle title description categoryId defaultLanguage defaultAudioLanguage"
).split()
COMMENT_FIELDS = (
    "id text like_count timestamp parent author author_id is_pinned videoId textOriginal textDisplay "
    "authorDisplayName authorChannelId likeCount publishedAt parentId moderationStatus"
).split()


def check(found):
    """What came out fits the tables, which nothing but our own types does."""
    if isinstance(found, Post):
        assert post_row(found)["id"].encode()
        assert all(row["id"].encode() for row in comment_rows(found))
        for text in (found.title, found.description, found.category, found.language):
            assert text is None or text.encode()
    elif isinstance(found, Said):
        assert found.post_id.encode()
        assert (found.comment.text or "").encode() is not None
    else:
        assert isinstance(found, Fault)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(INFO_FIELDS), JSON, max_size=3))
def test_any_json_in_an_info(fields):
    check(youtube.parse(info(**fields)))


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(COMMENT_FIELDS), JSON, max_size=3))
def test_any_json_in_a_comment(fields):
    check(youtube.parse(info(comments=[{"id": "a", "text": "x"} | fields])))
    for found in parse_pages({"kind": "youtube#comment", "id": "a", "snippet": {"videoId": "v"} | fields}):
        check(found)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(SNIPPET_FIELDS), JSON, max_size=3),
    st.dictionaries(st.sampled_from(["viewCount", "likeCount", "commentCount"]), JSON),
    st.dictionaries(st.sampled_from(["duration", "contentRating"]), JSON),
)
def test_any_json_in_an_item(snippet, statistics, details):
    check(youtube.parse(item(snippet=snippet, statistics=statistics, contentDetails=details)))


@settings(deadline=None)
@given(JSON, st.sampled_from(["snippet", "statistics", "contentDetails", "id"]))
def test_any_json_as_a_part_of_an_item(value, name):
    check(youtube.parse(item(**{name: value})))


@settings(deadline=None)
@given(JSON, st.sampled_from(["snippet", "replies"]), st.sampled_from(["video", "commentThread", "comment"]))
def test_any_json_on_a_page(value, name, kind):
    pages = [
        value,
        {"kind": value},
        {"kind": f"youtube#{kind}ListResponse", "items": value},
        {"kind": f"youtube#{kind}ListResponse", "items": [value, {"id": "a", name: value}]},
    ]
    for page in pages:
        for found in parse_pages(page):
            check(found)
    check(youtube.parse(value))

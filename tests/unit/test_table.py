"""The table source: column maps, numbers, paths, cohorts, days, and what is wrong with rows and tables."""

import bz2
import csv
import gzip
import json
import math
import pickle
import struct
import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behavior_llava.core import schema
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Curve, Fault, Part, Post
from behavior_llava.data import table_rows
from behavior_llava.data.sources import table

COLUMNS = {"id": "name", "media_path": "file"}


def read(path, columns=None, **config):
    """Posts and faults, by way of what goes to another process."""
    made = table.Config(path=path, columns=COLUMNS | (columns or {}), **config)
    parts = list(table.list_parts(made, None))
    pieces = [piece for part in parts for piece in table.pieces(made, part)]
    items = [item for piece in pickle.loads(pickle.dumps(pieces)) for item in table.read(made, piece)]
    # beside a refusal stands that it could not be read
    rows = [item for item in items if not (isinstance(item, Fault) and item.reason == "unreadable_claim")]
    assert len(rows) <= sum(len(piece) for piece in pieces)
    return [item for item in items if isinstance(item, Post)], [
        item for item in items if isinstance(item, Fault)
    ]


def write_csv(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# ---- real samples ------------------------------------------------------------------------------------------


def test_real_tiles(shared):
    path = shared / "behaviour" / "data" / "images_sophoappeal_tiles" / "behaviour.csv"
    made = {"id": "image", "media_path": "image", "num_likes": "likes", "num_views": "views"}
    posts, faults = read(path, made)
    assert (len(posts), faults) == (357, [])
    assert all(post.media_path and post.num_likes is not None for post in posts)
    assert (posts[0].num_likes, posts[0].num_views) == (52, 152)
    posts, faults = read(path, made, min_cohort=1000)
    assert (len(posts), {fault.reason for fault in faults}) == (126, {"cohort_too_small"})
    assert len(faults) == 357 - 126
    assert min(post.num_views for post in posts) >= 1000


def test_real_facebook_page(shared):
    path = shared / "behaviour" / "data" / "facebook" / "fb_live_sellers_first400.csv"
    kinds = ("like", "love", "wow", "haha", "sad", "angry")
    columns = {
        "id": "status_id",
        "media_kind": "status_type",
        "num_comments": "num_comments",
        "num_likes": "num_likes",
        "shares.all": "num_shares",
        "score": "num_reactions",
        **{f"reactions.{kind}": f"num_{kind}s" for kind in kinds},
    }
    made = table.Config(path=path, columns=columns, platform="facebook")
    pieces = [piece for part in table.list_parts(made, path) for piece in table.pieces(made, part)]
    items = [item for piece in pieces for item in table.read(made, piece)]
    posts = [item for item in items if isinstance(item, Post)]
    faults = [item for item in items if isinstance(item, Fault)]
    assert (len(items), len(posts), len(faults)) == (400, 391, 9)
    assert {fault.reason for fault in faults} == {"not_media"}  # four links, five statuses
    assert [sum(post.media_kind == kind for post in posts) for kind in ("video", "image")] == [127, 264]
    first = posts[0]
    assert (first.id, first.score, first.num_comments) == (
        "facebook:246675545449582_1649696485147474",
        529,
        512,
    )
    assert first.reactions == {"like": 432, "love": 92, "wow": 3, "haha": 1, "sad": 1, "angry": 0}
    assert first.shares == {"all": 262}


def test_real_ratings_and_comments(shared):
    data = shared / "behaviour" / "data"
    ratings = data / "images_avt_ai" / "all_ratings.csv"
    # its keys have no suffix: nothing is guessed
    posts, faults = read(ratings, {"id": "image_key", "media_path": "image_key"})
    assert (len(posts), len(faults), {fault.reason for fault in faults}) == (0, 146, {"not_media"})
    posts, faults = read(ratings, {"id": "image_key", "media_path": "image_key", "media_kind": "db"})
    assert (len(posts), len(faults)) == (0, 146)
    columns = {"id": "comment_id", "comments": "html", "media_kind": "author_is_deleted"}
    made = table.Config(path=data / "flickr" / "comments.ndjson", columns=columns)
    pieces = [piece for part in table.list_parts(made, data) for piece in table.pieces(made, part)]
    items = [item for piece in pieces for item in table.read(made, piece)]
    assert (len(items), {item.reason for item in items}) == (2360, {"not_media"})


def test_a_real_listing_is_no_table_of_lines(shared):
    with pytest.raises(UserError, match=r"unknown kind '\.json'"):
        read(shared / "behaviour" / "data" / "flickr" / "photos_getInfo.json")


def test_real_comments_by_photo(shared, tmp_path):
    source = shared / "behaviour" / "data" / "flickr"
    photos = json.loads((source / "photos_getInfo.json").read_text(encoding="utf-8"))
    path = tmp_path / "photos.jsonl"
    path.write_text("".join(json.dumps(photo) + "\n" for photo in photos), encoding="utf-8")
    columns = {
        "id": "photo_id",
        "media_kind": "media",
        "num_views": "views",
        "num_comments": "num_comments",
        "title": "title",
        "description": "description",
        "created_utc": "date_posted",
        "author_hash": "owner",
    }
    made = table.Config(path=path, columns=columns, platform="flickr", min_cohort=20)
    pieces = [piece for part in table.list_parts(made, path) for piece in table.pieces(made, part)]
    items = [item for piece in pieces for item in table.read(made, piece)]
    small = sum(photo["views"] < 20 for photo in photos)
    assert small >= 1
    assert [item.reason for item in items if isinstance(item, Fault)] == ["cohort_too_small"] * small
    assert sum(isinstance(item, Post) for item in items) == 19 - small
    assert (items[0].created_utc, items[0].num_views) == (1744597680, 381)


# ---- cells -------------------------------------------------------------------------------------------------


def test_csv_with_everything(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    path = write_csv(
        tmp_path / "log.csv",
        "\ufeffname,file,likes,when,loves,curve,who,nsfw,said\n"
        '7,a.jpg,"2,426",2020-01-02T00:00:00,3,,jo,no,"so nice, @jo"\n'
        '8,b.mp4,,1577923200.5,,"[1.2, 0.5]",,TRUE,\n',
    )
    columns = {
        "num_likes": "likes",
        "created_utc": "when",
        "reactions.love": "loves",
        "retention": "curve",
        "author_hash": "who",
        "is_nsfw": "nsfw",
        "comments": "said",
        "duration_s": "loves",
    }
    posts, faults = read(path, columns, platform="ours")
    first = posts[0]
    assert (first.id, first.num_likes, first.created_utc, first.is_nsfw) == (
        "ours:7",
        2426,
        1577923200,
        False,
    )
    assert first.reactions == {"love": 3}
    assert first.media_path == str((tmp_path / "a.jpg").resolve())
    assert [comment.text for comment in first.comments] == ["so nice, <user>"]
    assert first.author_hash.startswith("u_")
    assert faults == [Fault("curve_broken", "log.csv:3")]  # no duration, so no time line
    assert "jo" not in repr(first.comments)


def test_the_newer_fields(tmp_path):
    path = write_csv(
        tmp_path / "log.csv",
        "name,url,shown,about,tongue,closed\n"
        "1,https://a.org/x.webm?sig=1,12,Gaming,en,0\n2,https://a.org/page,,,,\n3,,,,,\n"
        "4,http://[/x.jpg,,,,\n5,https://a.org/x.jpg,,,,perhaps\n",
    )
    columns = {
        "id": "name",
        "media_url": "url",
        "num_impressions": "shown",
        "category": "about",
        "language": "tongue",
        "comments_disabled": "closed",
    }
    made = table.Config(path=path, columns=columns)
    (part,) = table.list_parts(made, tmp_path)
    (piece,) = table.pieces(made, part)
    post, *faults = table.read(made, piece)
    assert (post.media_kind, post.media_path, post.media_url) == (
        "video",
        None,
        "https://a.org/x.webm?sig=1",
    )
    assert (post.num_impressions, post.category, post.language) == (12, "Gaming", "en")
    assert post.comments_disabled is False
    assert [fault.reason for fault in faults] == ["not_media", "not_media", "url_broken", "not_a_boolean"]
    assert "a.org" not in repr(faults)


PERCEIVED = {
    "saliency_tiles": "tiles",
    "saliency_objects.dog": "dog",
    "saliency_objects.fire hydrant": "hydrant",
    "recall": "known",
    "recall_delay_s": "after",
    "has_consent": "agreed",
    "is_opted_out": "out",
}


def test_what_people_saw_and_knew_again_and_what_they_allow(tmp_path):
    path = write_csv(
        tmp_path / "log.csv",
        "name,file,tiles,dog,hydrant,known,after,agreed,out\n"
        '1,a.jpg,"[4, 0, 0, 0, 2, 0, 0, 0, 2]",0.75,0,0.9,86400,yes,no\n'
        '2,a.jpg,"[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.2]",,0.5,0,,TRUE,0\n'
        "3,a.jpg,[],,,,,,\n",
    )
    posts, faults = read(path, PERCEIVED)
    assert faults == []
    first, second, last = posts
    assert first.saliency_tiles == (0.5, 0, 0, 0, 0.25, 0, 0, 0, 0.25)
    assert first.saliency_objects == {"dog": 0.75, "fire hydrant": 0.0}
    assert (first.recall, first.recall_delay_s) == (0.9, 86400.0)
    assert (first.has_consent, first.is_opted_out) == (True, False)
    assert second.saliency_tiles == pytest.approx((*[0.1] * 8, 0.2))
    assert second.saliency_objects == {"fire hydrant": 0.5}
    assert (second.recall, second.recall_delay_s) == (0.0, None)
    assert (second.has_consent, second.is_opted_out) == (True, False)
    assert {getattr(last, name) for name in ("saliency_tiles", "saliency_objects", "recall")} == {None}
    assert {getattr(last, name) for name in ("recall_delay_s", "has_consent", "is_opted_out")} == {None}


def test_lines_hold_tiles_and_objects_as_they_are(tmp_path):
    row = {"name": 1, "file": "a.jpg", "tiles": [1] * 9, "seen": {"dog": 1, "cat": None}}
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    (post,), faults = read(path, {"saliency_tiles": "tiles", "saliency_objects": "seen"})
    assert faults == []
    assert post.saliency_tiles == pytest.approx([1 / 9] * 9)
    assert post.saliency_objects == {"dog": 1.0}


@pytest.mark.parametrize(
    ("field", "cell", "reason"),
    [
        ("saliency_tiles", [0] * 9, "tiles_broken"),  # nobody looked, so there are no shares
        ("saliency_tiles", [1] * 8, "tiles_broken"),
        ("saliency_tiles", [1] * 10, "tiles_broken"),
        ("saliency_tiles", [1] * 8 + [-1], "tiles_broken"),
        ("saliency_tiles", [1] * 8 + [None], "tiles_broken"),
        ("saliency_tiles", [1] * 8 + [math.nan], "tiles_broken"),
        ("saliency_tiles", [1] * 8 + [math.inf], "tiles_broken"),
        ("saliency_tiles", [1] * 8 + [True], "tiles_broken"),
        ("saliency_tiles", [[1] * 9], "tiles_broken"),
        ("saliency_tiles", {"0": 1}, "tiles_broken"),
        ("saliency_tiles", "1,1,1,1,1,1,1,1,1", "tiles_broken"),
        ("saliency_tiles", 5, "tiles_broken"),
        ("saliency_objects.dog", -0.1, "not_a_number"),
        ("saliency_objects.dog", 1.1, "not_a_number"),  # a count or a percentage is no share
        ("saliency_objects.dog", "half", "not_a_number"),
        ("saliency_objects", [0.5], "not_a_number"),
        ("recall", 1.01, "not_a_number"),
        ("recall", "67", "not_a_number"),
        ("recall", math.inf, "not_a_number"),
        ("recall_delay_s", -1, "not_a_number"),
        ("recall_delay_s", "a day", "not_a_number"),
        ("is_nsfw", "perhaps", "not_a_boolean"),
        ("comments_disabled", 2, "not_a_boolean"),
    ],
)
def test_what_is_no_share_and_no_claim(field, cell, reason):
    assert table.parse({"id": 1, "media_path": "a.jpg", field: cell}) == Fault(reason, "")


@given(st.lists(st.integers(0, 10**6), min_size=9, max_size=9).filter(any))
def test_tiles_become_shares_in_proportion(counts):
    tiles = table.parse({"id": 1, "media_path": "a.jpg", "saliency_tiles": counts}).saliency_tiles
    assert sum(tiles) == pytest.approx(1, abs=1e-12)
    assert tiles == pytest.approx([count / sum(counts) for count in counts], abs=1e-12)


def test_the_column_of_the_kind_wins_over_the_suffix(tmp_path):
    path = write_csv(
        tmp_path / "log.csv", "name,file,what\n1,a.gif,Video\n2,a.gif,\n3,a.gif,link\n4,,photo\n"
    )
    posts, faults = read(path, {"media_kind": "what"})
    assert [post.media_kind for post in posts] == ["video", "image", "image"]
    assert faults == [Fault("not_media", "log.csv:4")]


def test_parquet_and_jsonl_hold_lists(tmp_path):
    rows = [
        {
            "name": 1,
            "file": "v.mp4",
            "said": ["one", None, "two a@b.org"],
            "curve": [1.0, 0.5],
            "s": 4.0,
            "n": 3,
        },
        {"name": 2, "file": "v.mp4", "said": None, "curve": None, "s": None, "n": None},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "log.parquet")
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "log.jsonl").write_text(text + "\n{broken\n", encoding="utf-8")
    columns = {"comments": "said", "retention": "curve", "duration_s": "s", "num_likes": "n"}
    for name, broken in (("log.parquet", []), ("log.jsonl", [Fault("json_broken", "log.jsonl:4")])):
        posts, faults = read(tmp_path / name, columns)
        assert faults == broken
        assert [comment.text for comment in posts[0].comments] == ["one", "two <email>"]
        assert posts[0].retention == Curve((0.0, 2.0), (2.0, 4.0), (1.0, 0.5))
        assert (posts[1].comments, posts[1].retention, posts[1].num_likes) == ((), None, None)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([datetime(2020, 1, 2, tzinfo=UTC)]),
        pa.array([datetime(2020, 1, 2)], pa.timestamp("s")),
        pa.array([1577923200_123456789], pa.timestamp("ns", "America/New_York")),
        pa.array([1577923200_123], pa.timestamp("ms", "no/such_zone")),
        pa.array([date(2020, 1, 2)]),
        pa.array([date(2020, 1, 2)], pa.date64()),
        pa.array([datetime(2020, 1, 2)]).dictionary_encode(),
        pa.array(["2020-01-02T01:00:00+01:00"]).dictionary_encode(),
        pa.array(["2020-01-02"], pa.large_string()),
        pa.array([Decimal("1577923200.25")]),
        pa.array([b"2020-01-02"]),
        pa.array([1577923200], pa.uint64()),
    ],
    ids=lambda column: str(column.type),
)
def test_parquet_times(tmp_path, column):
    rows = pa.table({"name": ["a"], "file": ["a.jpg"], "t": column})
    pq.write_table(rows, tmp_path / "log.parquet")
    posts, _ = read(tmp_path / "log.parquet", {"created_utc": "t"})
    assert posts[0].created_utc == 1577923200


def test_parquet_kinds_of_cells(tmp_path):
    columns = {
        "name": pa.array([UUID(int=1).bytes, UUID(int=2).bytes], pa.uuid()),
        "file": pa.array(["a.jpg", "b.jpg"]).dictionary_encode(),
        "n": pa.array([float("nan"), 3.0]),
        "d": pa.array([Decimal("12"), None], pa.decimal256(50, 2)),
        "r": pa.array([[("love", 3), ("sad", None)], None], pa.map_(pa.string(), pa.int32())),
        "k": pa.array([[b"one"], [b"\xff"]]),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    made = {"num_likes": "n", "num_views": "d", "reactions": "r", "comments": "k"}
    posts, faults = read(tmp_path / "log.parquet", made)
    assert (posts[0].id, posts[0].num_likes, posts[0].num_views) == (f"table:{UUID(int=1)}", None, 12)
    assert posts[0].reactions == {"love": 3}
    assert [comment.text for comment in posts[0].comments] == ["one"]
    assert faults == [Fault("cell_broken", "log.parquet:2")]


def test_parquet_where_numbers_are_nested(tmp_path):
    rows = {
        "name": ["1", "2"],
        "file": ["a.jpg", "b.jpg"],
        "n": pa.array([{"total": 3}, None]),
        "t": pa.array([[1], None]),
    }
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    for made in ({"num_likes": "n"}, {"num_likes": "t"}, {"created_utc": "n"}):
        posts, faults = read(tmp_path / "log.parquet", made)
        assert [post.id for post in posts] == ["table:2"]
        assert faults == [Fault("not_a_number", "log.parquet:1")]


def test_one_text_that_is_no_utf8_costs_its_row(tmp_path):
    binary = pa.array([b"1", b"\xff\xfe", b"3"])
    names = pa.Array.from_buffers(pa.string(), 3, binary.buffers())
    pq.write_table(pa.table({"name": names, "file": ["a.jpg"] * 3}), tmp_path / "log.parquet")
    posts, faults = read(tmp_path / "log.parquet")
    assert [post.id for post in posts] == ["table:1", "table:3"]
    assert faults == [Fault("cell_broken", "log.parquet:2")]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("2,4", "not_a_number"),
        ("many", "not_a_number"),
        ("-1", "not_a_number"),
        ("1.5", "not_a_number"),
        ("nan", "not_a_number"),
        ("1e400", "not_a_number"),
        ("9" * 30, "not_a_number"),
        ("9" * 1_000_000, "not_a_number"),
        ("0x10", "not_a_number"),
    ],
    ids=lambda value: value[:9],
)
def test_what_is_no_count(tmp_path, cell, reason):
    path = write_csv(tmp_path / "log.csv", f'name,file,likes\n1,a.jpg,5\n2,a.jpg,"{cell}"\n3,a.jpg,3.0\n')
    posts, faults = read(path, {"num_likes": "likes"})
    assert [post.num_likes for post in posts] == [5, 3]
    assert faults == [Fault(reason, "log.csv:3")]


def test_numbers_and_brackets_without_end(tmp_path):
    digits, deep = "9" * 10_000_000, "[" * 1_000_000
    lines = [
        f'{{"name": 1, "file": "a.mp4", "n": {digits}}}',
        f'{{"name": 2, "file": "a.mp4", "n": "{digits}"}}',
        f'{{"name": 3, "file": "a.mp4", "n": {deep}}}',
        f'{{"name": 4, "file": "a.mp4", "c": "{deep}"}}',
        '{"name": 5, "file": "a.mp4", "n": NaN, "c": []}',
        '{"name": 6, "file": "a.mp4", "n": Infinity}',
        '{"name": "7\\u0000", "file": "a.mp4"}',
        '{"name": "\\ud800", "file": "a.mp4"}',
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    posts, faults = read(path, {"num_likes": "n", "retention": "c"})
    assert [(post.id, post.num_likes) for post in posts] == [("table:5", None)]
    assert [fault.reason for fault in faults] == [
        "json_broken",
        "not_a_number",
        "json_broken",
        "curve_broken",
        "not_a_number",
        "id_broken",
        "id_broken",
    ]


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["12", "a.jpg", "b.mp4", "[1, 2]", '{"x": 3}', "2020-01-01", "{", "https://[", "true"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
NAMES = st.sampled_from([*table.FIELDS, "shares.mail", "reactions.love", "saliency_objects.dog"])


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(NAMES, ANY), st.none() | st.integers(1, 50))
def test_any_value_gives_a_post_or_a_fault(record, min_cohort):
    made = table.parse({"id": 1, "media_path": "a.mp4"} | record, min_cohort=min_cohort)
    if isinstance(made, Fault):
        assert made.reason in {
            "id_broken",
            "id_missing",
            "path_broken",
            "url_broken",
            "not_media",
            "not_a_number",
            "not_a_text",
            "not_a_boolean",
            "curve_broken",
            "tiles_broken",
            "cohort_too_small",
        }
        return
    row, comments = schema.post_row(made), schema.comment_rows(made)
    pa.Table.from_pylist([row], schema=schema.POSTS).validate(full=True)
    pa.Table.from_pylist(comments, schema=schema.COMMENTS).validate(full=True)


@settings(max_examples=200, deadline=None)
@given(
    st.binary(max_size=300), st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".jsonl.zst"])
)
def test_any_bytes_give_faults_or_a_sentence(tmp_path_factory, data, suffix):
    path = tmp_path_factory.mktemp("any") / f"log{suffix}"
    path.write_bytes(data)
    try:
        posts, _ = read(path)
    except UserError:
        return
    assert posts == []


# ---- cohorts and days --------------------------------------------------------------------------------------


def test_small_cohorts_are_refused(tmp_path):
    path = write_csv(
        tmp_path / "log.csv",
        "name,file,people,views,shown\n1,a.jpg,50,1,1\n2,a.jpg,49,900,900\n3,a.jpg,,900,900\n4,a.jpg,x,9,9\n"
        "5,a.jpg,51,,900\n",
    )
    views = {"num_views": "views", "num_impressions": "shown"}
    for made, ids, reasons in (
        ({"cohort": "people"} | views, "15", ["cohort_too_small"] * 2 + ["not_a_number"]),
        (views, "23", ["cohort_too_small"] * 3),  # unknown views are not made up for by impressions
        ({"num_impressions": "shown"}, "235", ["cohort_too_small"] * 2),
    ):
        posts, faults = read(path, made, min_cohort=50)
        assert [post.id for post in posts] == [f"table:{name}" for name in ids]
        assert [fault.reason for fault in faults] == reasons
    assert len(read(path, views)[0]) == 5


def test_the_day_in_the_path_is_when_it_was_read(tmp_path):
    for day, likes in (("2026-11-24", 5), ("2026-11-25", 8)):
        write_csv(
            tmp_path / "logs" / f"day={day}" / "kind=pics" / "part-0.csv", f"name,file,n\n1,a.jpg,{likes}\n"
        )
    posts, faults = read(tmp_path / "logs", {"num_likes": "n", "channel": "kind"})
    ends = [int(datetime(2026, 11, day, 23, 59, 59, tzinfo=UTC).timestamp()) for day in (24, 25)]
    assert [(post.num_likes, post.retrieved_utc) for post in posts] == [(5, ends[0]), (8, ends[1])]
    assert [post.channel for post in posts] == ["pics", "pics"]
    assert faults == []
    path = write_csv(tmp_path / "birthday=2026-11-26" / "x.csv", "name,file,t\n1,a.jpg,100\n")
    assert read(path)[0][0].retrieved_utc is None
    # a column says it better than the path
    path = write_csv(tmp_path / "day=2026-11-26" / "x.csv", "name,file,t\n1,a.jpg,100\n2,a.jpg,\n")
    posts, _ = read(path, {"retrieved_utc": "t"})
    assert [post.retrieved_utc for post in posts] == [100, ends[1] + 86_400]


def test_the_day_in_a_name(tmp_path):
    write_csv(tmp_path / "likes-20261124.csv", "name,file\n1,a.jpg\n")
    posts, _ = read(tmp_path, day_in_path="likes-%Y%m%d")
    assert posts[0].retrieved_utc == int(datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC).timestamp())
    assert read(tmp_path)[0][0].retrieved_utc is None
    for name in ("likes-20261324.csv", "likes.csv"):
        write_csv(tmp_path / name, "name,file\n1,a.jpg\n")
        with pytest.raises(UserError, match=f"{name}: no day in the path"):
            read(tmp_path, day_in_path="likes-%Y%m%d")
        (tmp_path / name).unlink()


def test_a_new_day_is_a_new_part(tmp_path):
    made = table.Config(path=str(tmp_path / "*.csv"), columns=COLUMNS)
    write_csv(tmp_path / "1.csv", "name,file\n1,a.jpg\n")
    (first,) = table.list_parts(made, tmp_path)
    write_csv(tmp_path / "2.csv", "name,file\n2,a.jpg\n")
    again, second = table.list_parts(made, tmp_path)
    assert again.key == first.key != second.key
    assert isinstance(pickle.loads(pickle.dumps(second)), Part)
    write_csv(tmp_path / "1.csv", "name,file\n1,a.jpg\n3,a.jpg\n")
    changed, same = table.list_parts(made, tmp_path)
    assert changed.key != first.key
    assert same.key == second.key


# ---- files -------------------------------------------------------------------------------------------------


def test_broken_rows(tmp_path):
    path = tmp_path / "log.csv"
    huge = b"x" * (table_rows.MAX_CELL_CHARS + 1)
    rows = [
        b"name,file",
        b"1,a.jpg,extra",
        b"2",
        b"\xff,a.jpg",
        huge + b",a.jpg",
        huge * 5 + b",a.jpg",
        b"",
        b"3,a.txt",
        b",a.jpg",
        b"4,a.jpg",
        b"5\x00,a.jpg",
    ]
    path.write_bytes(b"\n".join([*rows, b"4,b.jpg"]) + b"\n")
    posts, faults = read(path)
    assert [post.id for post in posts] == ["table:4", "table:4"]  # which of the two, collect decides
    reasons = [
        "row_broken",
        "row_broken",
        "not_utf8",
        "row_broken",
        "row_broken",
        "not_media",
        "id_missing",
        "id_broken",
    ]
    assert [fault.reason for fault in faults] == reasons
    assert faults[-1].where == "log.csv:11"


def test_a_torn_row_costs_the_lines_it_took_and_each_is_counted(tmp_path):
    path = write_csv(
        tmp_path / "log.csv", 'name,file,said\n1,a.jpg,"torn\n2,b.jpg,lost\n3,c.jpg,"fine"\n4,d.jpg,"a\nb"\n'
    )
    posts, faults = read(path, {"comments": "said"})
    assert [(post.id, post.comments[0].text) for post in posts] == [("table:4", "a\nb")]
    assert faults == [Fault("row_broken", f"log.csv:{line}") for line in (2, 3, 4)]
    # one that nobody closes takes what follows, up to the longest cell, and no more
    lines = [f"{number},{'x' * 300}.txt," for number in range(10_000)]
    lines[3] = '3,a.jpg,"never closed'
    path = write_csv(path, "\n".join(["name,file,said", *lines]) + "\n")
    _, faults = read(path, {"comments": "said"})
    assert len(faults) == 10_000
    lost = [fault for fault in faults if fault.reason == "row_broken"]
    assert 3_000 < len(lost) < 3_700
    assert len({fault.where for fault in faults}) == 10_000


def test_line_ends_of_all_kinds(tmp_path):
    for end in ("\n", "\r\n", "\r"):
        path = tmp_path / "log.csv"
        path.write_bytes(f'name,file{end}1,a.jpg{end}"2",b.jpg{end}'.encode())
        assert [post.id for post in read(path)[0]] == ["table:1", "table:2"]


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".zst", zstandard.compress), (".bz2", bz2.compress)],
)
def test_packed_tables(tmp_path, suffix, pack):
    text = b"name,file\n1,a.jpg\n2,b.jpg\n"
    for name, data, ids in (("log.csv", text, "122"), ("log.jsonl", b'{"name": 1, "file": "a.jpg"}\n', "11")):
        path = tmp_path / f"{name}{suffix}"
        # two packed one after the other are one text, as `cat` makes them
        path.write_bytes(pack(data) + pack(data.splitlines(keepends=True)[-1]))
        posts, faults = read(path)
        assert ([post.id for post in posts], faults) == ([f"table:{one}" for one in ids], [])
        path.write_bytes(pack(data)[:-5])
        with pytest.raises(UserError, match="cannot be read"):
            read(path)


def test_a_bomb_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "log.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(b" " * 2**20)
        file.write(b'\n{"name": 1, "file": "a.jpg"}\n')
    tracemalloc.start()
    posts, faults = read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [fault.reason for fault in faults] == ["line_too_long"]
    assert [post.id for post in posts] == ["table:1"]
    assert peak < 4 * 64 * 2**20


def test_large_tables_come_in_pieces_and_rows_keep_their_numbers(tmp_path):
    number = 20_000
    names = [str(index) for index in range(number)]
    pq.write_table(pa.table({"name": names, "file": ["a.txt"] * number}), tmp_path / "a.parquet")
    write_csv(tmp_path / "a.csv", "name,file\n" + "".join(f"{name},a.txt\n" for name in names))
    for path, last in ((tmp_path / "a.parquet", number), (tmp_path / "a.csv", number + 1)):
        made = table.Config(path=path, columns=COLUMNS)
        (part,) = table.list_parts(made, tmp_path)
        pieces = list(table.pieces(made, part))
        assert [len(piece) for piece in pieces] == [8192, 8192, 3616]
        assert list(table.read(made, pieces[-1]))[-1] == Fault("not_media", f"{path.name}:{last}")
    wide = pa.table({"name": ["1", "2", "3"] * 100, "file": ["a.mp4"] * 300, "said": ["x" * 2**18] * 300})
    pq.write_table(wide, tmp_path / "wide.parquet")
    made = table.Config(path=tmp_path / "wide.parquet", columns=COLUMNS | {"comments": "said"})
    (part,) = table.list_parts(made, tmp_path)
    sizes = [len(pickle.dumps(piece)) for piece in table.pieces(made, part)]
    assert len(sizes) > 5
    assert max(sizes) < 40 * 2**20


@pytest.mark.parametrize(
    "name",
    ["../secret.jpg", "link.jpg", "/etc/secret.jpg", "a/../../secret.jpg", "loop/x.jpg", "n" * 5000 + ".jpg"],
)
def test_paths_never_lead_outside(tmp_path, name):
    media = tmp_path / "media"
    media.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"x")
    (media / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (media / "loop").symlink_to(media / "loop")
    path = write_csv(tmp_path / "log.csv", f"name,file\n1,{name}\n")
    posts, faults = read(path, media=media)
    assert not [post for post in posts if post.media_path]
    assert [fault.reason for fault in faults] == ["media_outside"]


def test_media_paths_are_whole_whether_the_file_is_there_or_not(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(b"x")
    inside = tmp_path / "sub" / "a.jpg"
    path = write_csv(tmp_path / "log.csv", f"name,file\n1,sub/a.jpg\n2,{inside}\n3,gone.jpg\n")
    for where in (path, tmp_path, str(tmp_path / "*.csv")):
        posts, faults = read(where)
        gone = tmp_path.resolve() / "gone.jpg"
        assert [post.media_path for post in posts] == [str(inside.resolve())] * 2 + [str(gone)]
        assert not faults


def test_a_missing_column_names_the_nearest(tmp_path):
    path = write_csv(tmp_path / "log.csv", "name,file,num_likes\n1,a.jpg,3\n")
    with pytest.raises(
        UserError, match=r"no column 'num_like'; did you mean 'num_likes'\? There are: name, file, num_likes"
    ):
        read(path, {"num_likes": "num_like"})
    write_csv(path, "name,file,file\n1,a.jpg,b.jpg\n")
    with pytest.raises(UserError, match="2 columns called 'file'"):
        read(path)
    (tmp_path / "log.jsonl").write_text('{"name": 1, "files": "a.jpg"}\n{}\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"no column 'file'; did you mean 'files'\?"):
        read(tmp_path / "log.jsonl")


def test_tables_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "gone.csv")
    with pytest.raises(UserError, match="no file is there"):
        read(tmp_path)
    (tmp_path / "log.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "log.parquet")
    (tmp_path / "log.xlsx").write_bytes(b"x")
    with pytest.raises(UserError, match="unknown kind"):
        read(tmp_path / "log.xlsx")
    (tmp_path / "log.csv").write_bytes("name,file\n".encode("utf-16"))
    with pytest.raises(UserError, match="UTF-16"):
        read(tmp_path / "log.csv")
    with pytest.raises(UserError, match=r"several kinds: \.csv, \.parquet; name those .*\*\*/\*\.csv"):
        read(tmp_path)
    with pytest.raises(UserError, match="set media to the folder"):
        read(tmp_path / "log.csv", media=tmp_path / "gone")


@pytest.mark.parametrize("name", ["log.csv", "log.tsv", "log.jsonl"])
def test_a_day_without_a_line_is_counted(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert read(tmp_path / name) == ([], [Fault("file_empty", f"{name}:1")])


def _parquet(path, rows=2000, **kwargs):
    names = [f"{index:x}" for index in range(rows)]
    pq.write_table(pa.table({"name": names, "file": ["a.jpg"] * rows}), path, **kwargs)
    return path.read_bytes()


def test_a_parquet_that_breaks_off_or_lies(tmp_path):
    path = tmp_path / "log.parquet"
    whole = _parquet(path)
    for size in (len(whole) // 2, len(whole) - 1, 12, 8, 4):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="cannot be read"):
            read(path)
    # the footer's "2000 rows" (zigzag varint a01f) becomes 2**40 rows, in the file and in its row groups
    length = struct.unpack("<I", whole[-8:-4])[0]
    footer = whole[-8 - length : -8]
    assert footer.count(b"\xa0\x1f") >= 2
    for claim in (2**40, 2**62, 3000):
        value, digits = claim * 2, b""
        while value >= 128:
            value, digits = value >> 7, digits + bytes([value & 127 | 128])
        lying = footer.replace(b"\xa0\x1f", digits + bytes([value]))
        path.write_bytes(whole[: -8 - length] + lying + struct.pack("<I", len(lying)) + b"PAR1")
        assert pq.read_metadata(path).num_rows == claim
        with pytest.raises(UserError, match=r"cannot be read|holds 2000 rows"):
            read(path)


def test_flipped_bytes_of_a_parquet(tmp_path):
    path = tmp_path / "log.parquet"
    whole = bytearray(_parquet(path, rows=50))
    told = 0
    for place in range(4, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            read(path)
        except UserError:
            told += 1
    assert told > 20


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"columns": {"id": "a", "media_path": "b", "num_like": "c"}}, "did you mean 'num_likes'"),
        ({"columns": {"id": "a"}}, "must name a column for media_path, media_url or media_kind"),
        ({"columns": {"media_path": "a"}}, "must name a column for id"),
        ({"columns": {"id": "a", "media_path": "b", "title.x": "c"}}, "no Post field 'title.x'"),
        ({"columns": {"id": "a", "media_path": "b", "is_synthetic": "c"}}, "no Post field 'is_synthetic'"),
        ({"columns": {"id": "a", "media_path": "b", "chapters": "c"}}, "no Post field 'chapters'"),
        ({"columns": {"id": "a", "media_path": "b", "adjusted": "c"}}, "no Post field 'adjusted'"),
        (
            {"columns": {"id": "a", "media_path": "b", "saliency_tiles.1": "c"}},
            "no Post field 'saliency_tiles.1'",
        ),
        ({"columns": {"id": "a", "media_path": "b", "saliency_objects.": "c"}}, "no Post field"),
        ({"columns": {"id": "a", "media_path": "b", "cohort": "c"}}, "min_cohort says no size"),
        ({"columns": {"id": "a", "media_path": "b"}, "min_cohort": 5}, "min_cohort needs a column"),
        ({"columns": {"id": "a", "media_path": "b"}, "min_cohort": 0}, "greater than or equal to 1"),
        ({"columns": {"id": "a", "media_path": "b"}, "day_in_path": "%Y-%m"}, "needs %Y, %m and %d"),
    ],
)
def test_maps_that_are_refused(tmp_path, config, message):
    with pytest.raises(ValidationError, match=message):
        table.Config(path=tmp_path / "x.csv", **config)


def test_the_limit_of_cells_is_set_where_it_is_needed(tmp_path):
    csv.field_size_limit(10)
    try:
        assert len(read(write_csv(tmp_path / "a.csv", f"name,file\n{'n' * 200_000},a.jpg\n"))[0]) == 1
    finally:
        csv.field_size_limit(131_072)
    assert math.isclose(table_rows.MAX_CELL_CHARS, 2**20)


@pytest.mark.parametrize(
    "other",
    [
        {"media_path": ""},
        {"media_path": "a.txt"},
        {"num_likes": "n/a"},
        {"cohort": "3"},
        {"retrieved_utc": "once"},
    ],
)
@pytest.mark.parametrize("refusal", [{"is_opted_out": "yes"}, {"has_consent": "no"}])
def test_a_refusal_is_heard_whatever_else_is_wrong_with_its_row(
    other: dict[str, str], refusal: dict[str, str]
) -> None:
    post = table.parse(
        {"id": "7", "media_path": "a.jpg", **other, **refusal}, min_cohort=50 if "cohort" in other else None
    )
    assert isinstance(post, Post)
    assert post.id == "table:7"
    assert post.is_opted_out or post.has_consent is False


# ---- claims that cannot be read ----------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["y", "Yes", "TRUE", "t", " on ", "1", 1, 1.0, True])
def test_words_that_say_yes(word):
    post = table.parse({"id": 1, "media_path": "a.jpg", "is_opted_out": word})
    assert (post.is_opted_out, post.media_path) == (True, None)
    assert table.parse({"id": 1, "media_path": "a.jpg", "has_consent": word}).has_consent is True


@pytest.mark.parametrize("word", ["N", "no", "False", "f", "Off", "0", 0, 0.0, False])
def test_words_that_say_no(word):
    assert table.parse({"id": 1, "media_path": "a.jpg", "is_opted_out": word}).is_opted_out is False
    post = table.parse({"id": 1, "media_path": "a.jpg", "has_consent": word})
    assert (post.has_consent, post.media_path) == (False, None)


@pytest.mark.parametrize("word", [None, "", "  ", math.nan])
def test_cells_that_say_nothing(word):
    post = table.parse({"id": 1, "media_path": "a.jpg", "is_opted_out": word, "has_consent": word})
    assert (post.is_opted_out, post.has_consent, post.media_path) == (None, None, "a.jpg")


@pytest.mark.parametrize("word", ["perhaps", "withdrawn", "nan", 2, -1, ["yes"], {"said": "no"}, "\x00"])
def test_a_claim_that_cannot_be_read_is_a_refusal(word):
    other = {"id": 1, "media_path": "a.jpg", "title": "what they wrote", "num_likes": "n/a"}
    out = table.parse({**other, "is_opted_out": word, "has_consent": "yes"})
    assert out == Post(id="table:1", source="table", media_kind="image", is_opted_out=True, has_consent=True)
    unsure = table.parse({**other, "has_consent": word, "is_opted_out": "no"})
    assert (unsure.has_consent, unsure.is_opted_out, unsure.title) == (False, False, None)


def test_claims_that_cannot_be_read_are_counted_beside_the_refusals_they_are(tmp_path):
    path = write_csv(
        tmp_path / "log.csv",
        "name,file,agreed,out\n1,a.jpg,J,\n2,a.jpg,,asked to\n3,a.jpg,y,n\n4,a.jpg,N,\n,a.jpg,J,\n",
    )
    made = {"has_consent": "agreed", "is_opted_out": "out"}
    posts, faults = read(path, made)
    assert [(post.id, post.has_consent, post.is_opted_out) for post in posts] == [
        ("table:1", False, None),
        ("table:2", None, True),
        ("table:3", True, False),
        ("table:4", False, None),
    ]
    assert faults == [
        Fault("unreadable_claim", "log.csv:2"),
        Fault("unreadable_claim", "log.csv:3"),
        Fault("id_missing", "log.csv:6"),
    ]
    posts, faults = read(path, made, claims={"j": True, "Asked to": None})
    assert [(post.has_consent, post.is_opted_out) for post in posts] == [
        (True, None),
        (None, None),
        (True, False),
        (False, None),
    ]
    assert faults == [Fault("id_missing", "log.csv:6")]


def test_a_refusal_is_heard_from_a_row_with_a_broken_cell(tmp_path):
    columns = {
        "name": [1, 2, 3, 4],
        "file": ["a.jpg"] * 4,
        "title": pa.array([b"\xff", b"\xff", b"fine", b"fine"]),
        "out": pa.array([b"yes", b"no", b"\xff", b"no"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    made = {"title": "title", "is_opted_out": "out"}
    posts, faults = read(tmp_path / "log.parquet", made)
    assert [(post.id, post.is_opted_out) for post in posts] == [
        ("table:1", True),
        ("table:3", True),
        ("table:4", False),
    ]
    assert faults == [Fault("cell_broken", "log.parquet:2"), Fault("unreadable_claim", "log.parquet:3")]
    lines = [b"name,file,title,out", b"1,a.jpg,\xff,yes", b"2,a.jpg,\xff,no", b"3,a.jpg,fine,\xff"]
    (tmp_path / "log.csv").write_bytes(b"\n".join(lines))
    posts, faults = read(tmp_path / "log.csv", made)
    assert [(post.id, post.is_opted_out) for post in posts] == [("table:1", True), ("table:3", True)]
    assert faults == [Fault("not_utf8", "log.csv:3"), Fault("unreadable_claim", "log.csv:4")]


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({" ": True}, "a blank word"),
        ({"J": True, "j": False}, "'j' stands twice"),
        ({"yes": False}, "'yes' is known and says True"),
        ({True: True}, "valid string"),
    ],
)
def test_words_of_claims_that_are_refused(tmp_path, claims, message):
    with pytest.raises(ValidationError, match=message):
        table.Config(path=tmp_path / "x.csv", columns={"id": "a", "media_path": "b"}, claims=claims)


def test_authors_of_a_table_from_reddit_are_one_in_whatever_letters():
    def author(platform, name):
        row = {"id": 1, "media_path": "a.jpg", "author_hash": name}
        return table.parse(row, platform=platform).author_hash

    assert author("reddit", "Walker") == author("reddit", "walker")
    assert author("table", "Walker") != author("table", "walker")

"""Trending lists: the schemas, their traps, and rows that are broken in every way."""

import csv
import io
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core.schema import Fault, Post
from behavior_llava.data import people, youtube_trending
from behavior_llava.data.sources import youtube

COLUMNS_11 = (
    "video_id title channel_title category_id tags views likes dislikes comment_total thumbnail_link date"
).split()
COLUMNS_16 = (
    "video_id trending_date title channel_title category_id publish_time tags views likes dislikes "
    "comment_count thumbnail_link comments_disabled ratings_disabled video_error_or_removed description"
).split()
COLUMNS_2020 = (
    "video_id title publishedAt channelId channelTitle categoryId trending_date tags view_count likes "
    "dislikes comment_count thumbnail_link comments_disabled ratings_disabled description"
).split()
ROW_11 = {
    "video_id": "K4wEI5zhHB0",
    "title": "iPhone X â€” Introducing",
    "channel_title": "Jo Doe",
    "category_id": "28",
    "tags": 'Apple|"iPhone 10"|x',
    "views": "7860119",
    "likes": "185853",
    "dislikes": "26679",
    "comment_total": "",
    "thumbnail_link": "https://i.ytimg.com/vi/K4wEI5zhHB0/default.jpg",
    "date": "13.09",
}
ROW_16 = {
    "video_id": "2kyS6SvSYSE",
    "trending_date": "17.14.11",
    "title": "A title",
    "channel_title": "Jo Doe",
    "category_id": "22",
    "publish_time": "2017-11-13T17:13:01.000Z",
    "tags": "[none]",
    "views": "748374",
    "likes": "57527",
    "dislikes": "2966",
    "comment_count": "15954",
    "thumbnail_link": "x",
    "comments_disabled": "False",
    "ratings_disabled": "False",
    "video_error_or_removed": "False",
    "description": "One\\nTwo\\r\\nwww.x.org\\n+1 555 123 4567\\nsee u/someone",
}


def table(columns, *rows):
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([row.get(name, "") for name in columns] for row in rows)
    return text.getvalue()


def read(folder, name="list_2017.csv", text=None, **settings):
    if isinstance(text, str):
        text = text.encode()
    if text is not None:
        (folder / name).write_bytes(text)
    config = youtube.Config(path=folder, **settings)
    found = []
    for part in youtube.SOURCE.parts(config, folder):
        for piece in youtube.SOURCE.pieces(config, part):
            found += youtube.SOURCE.read(config, piece)
    return [one for one in found if isinstance(one, Post)], [one for one in found if isinstance(one, Fault)]


def test_eleven_columns(tmp_path):
    (post,), faults = read(tmp_path, text=table(COLUMNS_11, ROW_11))
    assert not faults
    assert post == Post(
        id="youtube:K4wEI5zhHB0",
        source="youtube",
        media_kind="video",
        channel=people.hash_author("Jo Doe", people.DEFAULT_SALT),
        title="iPhone X â€” Introducing",
        media_url="https://www.youtube.com/watch?v=K4wEI5zhHB0",
        retrieved_utc=1505260800,
        num_likes=185853,
        num_views=7860119,
        category="Science & Technology",
        author_hash=people.hash_author("Jo Doe", people.DEFAULT_SALT),
    )


def test_sixteen_columns(tmp_path):
    (post,), faults = read(tmp_path, name="USvideos.csv", text="\ufeff" + table(COLUMNS_16, ROW_16))
    assert not faults
    assert (post.retrieved_utc, post.created_utc) == (1510617600, 1510593181)
    assert (post.num_likes, post.num_comments, post.comments_disabled) == (57527, 15954, False)
    assert post.description == "One\nTwo\n\n<link>\n<phone>\nsee <user>"
    assert (post.category, post.removed_by) == ("People & Blogs", None)


def test_the_schema_after_it(tmp_path):
    row = ROW_16 | {
        "publishedAt": "2020-08-11T19:20:14Z",
        "channelId": "UC" + "a" * 22,
        "channelTitle": "Jo Doe",
        "categoryId": "20",
        "trending_date": "2020-08-12T00:00:00Z",
        "view_count": "7",
    }
    (post,), faults = read(tmp_path, text=table(COLUMNS_2020, row))
    assert not faults
    assert (post.channel, post.category, post.num_views) == ("UC" + "a" * 22, "Gaming", 7)
    assert (post.created_utc, post.retrieved_utc) == (1597173614, 1597190400)


def test_zero_means_hidden_where_it_is_disabled(tmp_path):
    row = ROW_16 | {"likes": "0", "comment_count": "0"}
    rows = [row, row | {"ratings_disabled": "True"}, row | {"comments_disabled": "True"}]
    posts, _ = read(tmp_path, text=table(COLUMNS_16, *rows, row | {"video_error_or_removed": "True"}))
    assert [(post.num_likes, post.num_comments, post.comments_disabled) for post in posts[:3]] == [
        (0, 0, False),
        (None, 0, False),
        (0, None, True),
    ]
    assert [post.removed_by for post in posts] == [None, None, None, "unknown"]


@pytest.mark.parametrize(
    ("name", "year", "retrieved_utc"),
    [
        ("USvideos_2017_11col.csv", None, 1505260800),
        ("USvideos_2017_11col.csv", 2018, 1505260800),
        ("USvideos.csv", 2017, 1505260800),
        ("USvideos.csv", None, None),
        ("2017-2018.csv", None, None),
        ("120170.csv", None, None),
    ],
)
def test_a_day_without_a_year(tmp_path, name, year, retrieved_utc):
    (post,), faults = read(tmp_path, name=name, text=table(COLUMNS_11, ROW_11), trending_year=year)
    assert not faults
    assert post.retrieved_utc == retrieved_utc


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"video_id": ""}, "id_broken"),
        ({"video_id": "24.09xcaeyJTx4Co"}, "id_broken"),
        ({"video_id": "#NAME?"}, "id_broken"),
        ({"video_id": "../../../ab"}, "id_broken"),
        ({"video_id": "K4wEI5zhHB"}, "id_broken"),
        ({"views": "many"}, "field_broken"),
        ({"likes": "-1"}, "field_broken"),
        ({"likes": "9" * 5000}, "field_broken"),
        ({"date": "13.9"}, "field_broken"),
        ({"date": "31.02"}, "field_broken"),
        ({"date": "13.09.2017"}, "field_broken"),
        ({"category_id": "x"}, "field_broken"),
    ],
)
def test_broken_rows_are_counted_and_the_next_is_read(tmp_path, fields, reason):
    posts, faults = read(tmp_path, text=table(COLUMNS_11, ROW_11, ROW_11 | fields, ROW_11))
    assert len(posts) == 2
    assert faults == [Fault(reason, "list_2017.csv:3")]


def test_rows_that_are_none(tmp_path):
    good = table(COLUMNS_11, ROW_11).encode()
    row = good.split(b"\r\n", 1)[1]
    text = good + b"\r\n\r\n" + b"K4wEI5zhHB0,too,few\r\n" + row
    text += row.replace(b"Introducing", b"\xff") + row
    text += b'K4wEI5zhHB0,"' + b"x" * 200_000 + b'",y\r\n' + row
    text += row.replace(b"Introducing", b"\0")
    text += b"z" * 3_000_000 + b"\r\n" + row
    posts, faults = read(tmp_path, text=text)
    assert len(posts) == 6
    assert [fault.reason for fault in faults][:3] == ["row_broken", "not_utf8", "row_broken"]
    assert [fault.where for fault in faults][:3] == [f"list_2017.csv:{line}" for line in (5, 7, 9)]
    assert {fault.reason for fault in faults[3:]} == {"row_broken"}


def test_a_quote_that_is_never_closed_costs_rows_not_memory(tmp_path):
    row = table(COLUMNS_11, ROW_11 | {"tags": "x"}).split("\r\n", 1)[1]
    text = table(COLUMNS_11, ROW_11) + '"open' + row * 3000
    csv.field_size_limit(2**20)  # as a table's reader sets it
    posts, faults = read(tmp_path, text=text)
    assert 1 < len(posts) < 3000
    assert {fault.reason for fault in faults} == {"row_broken"}


def test_blocks_end_where_rows_end(tmp_path):
    rows = [
        ROW_16 | {"description": 'a "quoted"\nline\r\n\nand, more', "views": str(number)}
        for number in range(50)
    ]
    text = table(COLUMNS_16, *rows)
    path = tmp_path / "list.csv"
    path.write_text(text, newline="")
    blocks = list(youtube_trending.blocks(path, 1000))
    assert len(blocks) == 8
    assert b"".join(block.data or b"" for block in blocks) == text.encode()
    found = [
        post
        for block in blocks
        for post in youtube_trending.parse_block(
            block, COLUMNS_16, year=None, salt="", licence=None, where="list.csv"
        )
    ]
    assert [post.num_views for post in found if isinstance(post, Post)] == list(range(50))
    broken = [ROW_16 | {"description": "x\n\nx", "views": "x"}, ROW_16 | {"video_id": ""}]
    path.write_text(table(COLUMNS_16, *broken, ROW_16, *broken), newline="")
    places = []
    for size in (1, 600, 10_000):
        for block in youtube_trending.blocks(path, size):
            places += [
                one.where
                for one in youtube_trending.parse_block(
                    block, COLUMNS_16, year=None, salt="", licence=None, where="x"
                )
                if isinstance(one, Fault)
            ]
    assert places == ["x:2", "x:5", "x:7", "x:10"] * 3


def test_media_beside_and_people_outside(tmp_path):
    (tmp_path / "2kyS6SvSYSE.mp4").write_bytes(b"x")
    (tmp_path / "2kyS6SvSYSE.retention.csv").write_text("an owner's, who has an info.json")
    row = ROW_16 | {"title": "by jo@doe.org", "channel_title": "jodoe"}
    found = read(tmp_path, text=table(COLUMNS_16, row, row | {"views": "jo@doe.org"}))
    assert [fault.reason for fault in found[1]] == ["field_broken"]
    assert found[0][0].media_path == str((tmp_path / "2kyS6SvSYSE.mp4").resolve())
    assert "doe" not in repr(found)


def test_real_list(shared):
    folder = shared / "behaviour" / "data" / "youtube" / "trending"
    posts, faults = read(folder)
    assert Counter(fault.reason for fault in faults) == {"id_broken": 12}  # 11 eaten, 1 of two cells
    assert len(posts) == 599 - 12
    # 283 repetitions, of which ten are of the empty id
    ids = Counter(post.id for post in posts)
    assert (len(ids), sum(count - 1 for count in ids.values())) == (314, 273)
    days = Counter(post.retrieved_utc for post in posts)
    assert sorted(days) == [1505260800 + 86_400 * day for day in range(3)]
    without = sum(post.num_comments is None for post in posts)
    assert without == 19
    assert sum(post.num_likes is None for post in posts) == 4  # blank cells
    assert all(post.category and post.title and post.num_views for post in posts)
    first = posts[0]
    assert (first.id, first.num_views, first.num_likes) == ("youtube:XpVt6Z1Gjjo", 4394029, 320053)
    assert (first.num_comments, first.category) == (46245, "Entertainment")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(COLUMNS_16), st.text(max_size=30), max_size=6))
def test_any_text_in_a_row(fields):
    cells = ROW_16 | fields
    places = youtube_trending.schema(COLUMNS_16) or {}
    row = {name: list(cells.values())[index] for name, index in places.items()}
    assert isinstance(youtube_trending.parse(row), Post | Fault)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(['"', ",", "\n", "\r\n", "x", "\r", "K4wEI5zhHB0", '""', "\0", "é"]), max_size=60
    )
)
def test_any_cut_reads_the_same(tmp_path_factory, pieces):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    head = table(COLUMNS_11, ROW_11)
    path.write_text(head + "".join(pieces) + "\r\n" + head, newline="", encoding="utf-8")

    def read_all(size):
        return [
            one
            for block in youtube_trending.blocks(path, size)
            for one in youtube_trending.parse_block(
                block, COLUMNS_11, year=2017, salt="", licence=None, where="x"
            )
        ]

    assert read_all(1) == read_all(10**9)

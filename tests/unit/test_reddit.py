"""The reddit source on made and on real dumps, friendly and hostile."""

import io
import json
import os
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault
from behavior_llava.data import json_lines, reading
from behavior_llava.data.sources import reddit

SHARED = Path(os.environ.get("BEHAVIOR_LLAVA_SHARED", Path(__file__).parents[2].parent / "shared"))
SAMPLES = SHARED / "behaviour" / "data" / "reddit"


def submission(name="abc", **fields):
    record = {
        "id": name,
        "author": "someone",
        "subreddit": "pics",
        "title": "a title",
        "url": f"https://i.redd.it/{name}x.jpg",
        "created_utc": 1577836800,
        "score": 5,
        "num_comments": 1,
        "over_18": False,
    }
    return record | fields


def comment(name="c1", post="abc", **fields):
    record = {
        "id": name,
        "link_id": f"t3_{post}",
        "author": "other",
        "body": "so very nice",
        "subreddit": "pics",
    }
    return record | {"score": 1, "parent_id": f"t3_{post}", "created_utc": 1577836900} | fields


def dump(path, records, **zstd):
    lines = b"".join(
        (record if isinstance(record, bytes) else json.dumps(record, ensure_ascii=False).encode()) + b"\n"
        for record in records
    )
    path.write_bytes(zstandard.ZstdCompressor(**zstd).compress(lines) if path.suffix == ".zst" else lines)


@pytest.fixture
def read(read_source):
    return lambda folder, **config: read_source(reddit.SOURCE, reddit.Config(path=folder, **config), folder)


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="the real samples are not here")
def test_real_dumps(tmp_path, read):
    items = list(reading.all_items(reddit.SOURCE, reddit.Config(path=SAMPLES), tmp_path))
    assert Counter(type(item).__name__ for item in items) == {"Post": 652, "Said": 929, "Fault": 87}
    posts, faults = read(SAMPLES)
    assert Counter(item.reason for item in faults) == {"not_media": 87}
    assert Counter(post.media_kind for post in posts) == {"image": 407, "video": 245}
    assert sum(len(post.comments) for post in posts) == 615
    comments = [raw for _, raw in json_lines.lines(SAMPLES / "RC_sample.zst")]
    assert len(comments) == 929
    parsed = [reddit.parse_comment(json.loads(raw)) for raw in comments]
    assert not [item for item in parsed if isinstance(item, Fault)]
    # By hand: AutoModerator 49, OkRedditBot 3, sneakpeekbot 2, haiku_robot, HelperBot_ and redd_bot 1 each.
    assert Counter(item[1].author_kind for item in parsed) == {"person": 837, "bot": 57, "deleted": 35}


def test_a_default_decoder_refuses_the_window_and_ours_reads_it(read, tmp_path):
    path = tmp_path / "RS_2020-01.zst"
    params = zstandard.ZstdCompressionParameters(window_log=31, compression_level=1)
    out = io.BytesIO()
    with zstandard.ZstdCompressor(compression_params=params).stream_writer(out, closefd=False) as writer:
        writer.write(json.dumps(submission()).encode() + b"\n")
    path.write_bytes(out.getvalue())
    with pytest.raises(zstandard.ZstdError), path.open("rb") as file:
        zstandard.ZstdDecompressor().stream_reader(file).read()
    posts, faults = read(tmp_path)
    assert [post.id for post in posts] == ["reddit:abc"]
    assert not faults


def test_joins_comments_across_files_and_frames(read, tmp_path):
    first = zstandard.ZstdCompressor().compress(json.dumps(comment("c1")).encode() + b"\n")
    second = zstandard.ZstdCompressor().compress(
        json.dumps(comment("c2", parent_id="t1_c1")).encode() + b"\n"
    )
    (tmp_path / "RC_2020-01.zst").write_bytes(first + second)
    dump(tmp_path / "RC_2020-02.ndjson", [comment("c2", score=9), comment("c3", post="zzz")])
    dump(tmp_path / "RS_2020-01.zst", [submission(), submission("abd")])
    dump(tmp_path / "RS_2020-02.zst", [submission()])
    posts, faults = read(tmp_path)
    assert {post.id: [item.id for item in post.comments] for post in posts} == {
        "reddit:abc": ["c1", "c2"],
        "reddit:abd": [],
    }
    assert posts[0].comments[1].score == 9
    assert not faults


def test_lines_break_anywhere(read, tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "_READ_BYTES", 3)
    dump(tmp_path / "RS_a.zst", [submission(f"a{index}", title="Fünf 🖕 öl " * 9) for index in range(30)])
    posts, faults = read(tmp_path)
    assert len(posts) == 30
    assert {post.title for post in posts} == {("Fünf 🖕 öl " * 9).strip()}
    assert not faults


@pytest.mark.parametrize("keep", [0, 3, 20, -1])
def test_truncated_zst(read, tmp_path, keep):
    path = tmp_path / "RS_a.zst"
    dump(path, [submission(f"a{index}") for index in range(200)])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"RS_a\.zst: the zstd file breaks off"):
        read(tmp_path)


def test_corrupt_zst(read, tmp_path):
    (tmp_path / "RS_a.zst").write_bytes(b"this is not a frame at all")
    with pytest.raises(UserError, match=r"RS_a\.zst: not a readable zstd file"):
        read(tmp_path)


def test_broken_lines_are_counted_with_their_place(read, tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 5000)
    hostile = [
        b'{"id": "abc"',
        b'{"id": "abc", "title": "\xff\xfe"}',
        b"[" * 4000,
        b"[1, 2]",
        b'{"score": ' + b"9" * 4900 + b"}",
        b'{"title": "' + b"x" * 1_000_000 + b'"}',
        b"",
        json.dumps(submission()).encode(),
    ]
    dump(tmp_path / "RS_a.zst", hostile)
    posts, faults = read(tmp_path)
    assert [post.id for post in posts] == ["reddit:abc"]
    assert faults == [Fault("json_broken", f"RS_a.zst:{number}") for number in (1, 2, 3, 4, 5)] + [
        Fault("line_too_long", "RS_a.zst:6")
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"score": "many"},
        {"score": True},
        {"score": 10**30},
        {"upvote_ratio": 1.5},
        {"num_comments": -1},
        {"created_utc": [1]},
        {"created_utc": float("inf")},
        {"over_18": "perhaps"},
        {"title": 7},
        {"author": {"name": "x"}},
        {"url": "https://[bad"},
        {"subreddit": "\ud83d"},
        {"crosspost_parent_list": [7]},
        {"id": 7},
    ],
)
def test_a_field_of_another_type_is_a_fault(fields):
    assert reddit.parse(submission(**fields), where="here") == Fault("field_broken", "here")


@pytest.mark.parametrize("stamp", ["1577836800", 1577836800, 1577836800.0])
def test_time_in_every_dress(stamp):
    assert reddit.parse(submission(created_utc=stamp)).created_utc == 1577836800
    assert reddit.parse_comment(comment(created_utc=stamp))[1].created_utc == 1577836800


def test_retrieval_time_under_every_name():
    assert reddit.parse(submission()).retrieved_utc is None
    assert reddit.parse(submission(retrieved_on=5)).retrieved_utc == 5
    assert reddit.parse(submission(retrieved_utc="6")).retrieved_utc == 6
    assert reddit.parse(submission(retrieved_on=5, _meta={"retrieved_2nd_on": 7})).retrieved_utc == 7


@pytest.mark.parametrize(
    ("fields", "removed_by", "kind"),
    [
        ({}, None, "person"),
        ({"removed_by_category": "moderator"}, "moderator", "person"),
        ({"removed_by_category": "deleted", "author": "[deleted]"}, "author", "deleted"),
        ({"selftext": "[removed]"}, "moderator", "person"),
        ({"selftext": "[deleted]", "author": "[deleted]"}, "author", "deleted"),
        ({"title": "[deleted by user]"}, "author", "person"),
        ({"_meta": {"was_deleted_later": True, "removal_type": "deleted"}}, "author", "person"),
        ({"author": "[deleted]"}, None, "deleted"),
    ],
)
def test_deleted_and_removed(fields, removed_by, kind):
    post = reddit.parse(submission(**fields))
    assert (post.removed_by, post.author_kind) == (removed_by, kind)
    assert "[" not in (post.title or "") + (post.description or "")


def test_deleted_comments_have_no_text():
    for body, removed_by in (
        ("[deleted]", "author"),
        ("[removed]", "moderator"),
        ("[ Removed by Reddit ]", "reddit"),
    ):
        _, parsed = reddit.parse_comment(comment(body=body, author="[deleted]"))
        assert (parsed.text, parsed.removed_by, parsed.author_hash) == (None, removed_by, None)


@pytest.mark.parametrize("fields", [{"parent_id": "t1_\ud83d"}, {"body": 7}, {"score": "x"}, {"id": 7}])
def test_a_comment_field_of_another_type_is_a_fault(fields):
    assert reddit.parse_comment(comment(**fields), where="x:1") == Fault("field_broken", "x:1")


def test_comment_that_names_no_post():
    assert reddit.parse_comment(comment(link_id=None), where="x:1") == Fault("comment_without_post", "x:1")
    post, _ = reddit.parse_comment(comment(link_id=None, permalink="/r/pics/comments/8abc/title/c1/"))
    assert post == "reddit:8abc"


GALLERY = {
    "url": "https://www.reddit.com/gallery/abc",
    "is_gallery": True,
    "gallery_data": {"items": [{"media_id": "gone"}, {"media_id": "m2"}]},
    "media_metadata": {
        "gone": {"status": "failed"},
        "m2": {"status": "valid", "s": {"u": "https://preview.redd.it/m2.jpg?w=1&amp;s=2"}},
    },
}
VIDEO = {"is_video": True, "url": "https://v.redd.it/q", "media": {"reddit_video": {"duration": 9}}}


@pytest.mark.parametrize(
    ("fields", "kind", "url"),
    [
        ({}, "image", "https://i.redd.it/abcx.jpg"),
        (GALLERY, "image", "https://preview.redd.it/m2.jpg?w=1&s=2"),
        (VIDEO, "video", "https://v.redd.it/q"),
        ({"url": "https://youtu.be/x", "post_hint": "rich:video"}, "video", "https://youtu.be/x"),
        ({"url": "https://imgur.com/Ab3dE"}, "image", "https://imgur.com/Ab3dE"),
        ({"url": "https://i.imgur.com/Ab3dE.gifv"}, "video", "https://i.imgur.com/Ab3dE.gifv"),
        (
            {"url": "/r/x/comments/y/", "crosspost_parent_list": [submission("par")]},
            "image",
            "https://i.redd.it/parx.jpg",
        ),
    ],
)
def test_media_posts(fields, kind, url):
    post = reddit.parse(submission(**fields))
    assert (post.media_kind, post.media_url) == (kind, url)
    assert post.duration_s == (9.0 if fields is VIDEO else None)


@pytest.mark.parametrize(
    "fields",
    [
        {"is_self": True},
        {"url": "https://example.org/article"},
        {"url": "https://imgur.com/a/album"},
        {"poll_data": {"options": []}},
        {"url": ""},
        {**GALLERY, "media_metadata": None},
        {"url": "/r/x/", "crosspost_parent_list": [submission("par", is_self=True)]},
    ],
)
def test_what_shows_no_media(fields):
    assert reddit.parse(submission(**fields), where="x:1") == Fault("not_media", "x:1")


def test_hidden_scores_are_missing_and_people_stay_outside():
    assert reddit.parse(submission(hide_score=True)).score is None
    assert reddit.parse_comment(comment(score_hidden=True))[1].score is None
    post = reddit.parse(
        {"kind": "t3", "data": submission(title="by u/someone, a@b.org", subreddit="u_someone")}
    )
    assert "someone" not in repr(post)
    assert "b.org" not in repr(post)


def test_communities_in_any_case(read, tmp_path):
    dump(tmp_path / "RS_a.zst", [submission(), submission("abd", subreddit="aww"), b'{"id": "cut", "subred'])
    dump(tmp_path / "RC_a.zst", [comment(), comment("c2", subreddit="aww")])
    posts, faults = read(tmp_path, communities=("PICS",))
    assert [(post.id, len(post.comments)) for post in posts] == [("reddit:abc", 1)]
    assert faults == [Fault("json_broken", "RS_a.zst:3")]


def test_media_by_id_then_by_url_and_never_outside(read, tmp_path):
    dumps, media = tmp_path / "dumps", tmp_path / "media"
    for folder in (dumps, media):
        folder.mkdir()
    secret = tmp_path / "secret.jpg"
    for path in (secret, media / "abc.png", media / "named.jpg"):
        path.write_bytes(b"x")
    (media / "linked.jpg").symlink_to(secret)
    hostile = [
        "%2e%2e%2fsecret.jpg",
        "..%2Fsecret.jpg",
        "linked.jpg",
        "a%00b.jpg",
        "x" * 5000 + ".jpg",
        "named.jpg",
        "..",
    ]
    records = [submission(), submission("../secret")]
    records += [
        submission(f"b{index}", url=f"https://i.redd.it/{name}") for index, name in enumerate(hostile)
    ]
    dump(dumps / "RS_a.zst", records)
    posts, faults = read(dumps, media=media)
    assert {post.id: post.media_path and Path(post.media_path).name for post in posts} == {
        "reddit:abc": "abc.png",
        **{
            f"reddit:b{index}": "named.jpg" if name == "named.jpg" else None
            for index, name in enumerate(hostile)
        },
    }
    assert faults == [Fault("id_broken", "RS_a.zst:2")]


def test_missing_folders_and_files(read, tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no RS_"):
        read(tmp_path)
    dump(tmp_path / "RS_a.zst", [submission()])
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path, media=tmp_path / "nowhere")

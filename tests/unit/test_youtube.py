"""The youtube source on made yt-dlp files, and its curve on a real one."""

import json
import os
from pathlib import Path

import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault, Post
from behavior_llava.data.sources import youtube
from behavior_llava.data.subtitles import plain_text

SHARED = Path(os.environ.get("BEHAVIOR_LLAVA_SHARED", Path(__file__).parents[2].parent / "shared"))
HEATMAP = SHARED / "behaviour" / "data" / "youtube" / "heatmap" / "ytdlp_heatmap_partial_uosc832.json"

VTT = """WEBVTT
Kind: captions
Language: en

NOTE a remark
of two lines

00:00:00.000 --> 00:00:02.000 align:start position:0%
hello<00:00:01.000><c> there</c>

2
00:00:02.000 --> 00:00:04.000
hello there
<i>Tom &amp; I</i> say hi

00:00:04.000 --> 00:00:06.000
mail me: a@b.org
"""
SRT = "1\n00:00:00,000 --> 00:00:02,000\n{\\an8}Good evening\n\n2\n00:00:02,000 --> 00:00:03,000\n42\n"


def info(name="vid1", **fields):
    return {"id": name, "title": "a title", "channel": "Jo Doe", "duration": 12, "age_limit": 0} | fields


def write(folder, record, stem=None):
    (folder / f"{stem or record['id']}.info.json").write_text(json.dumps(record), encoding="utf-8")


def read(folder):
    items = list(youtube.read(youtube.Config(path=folder, licence="CC BY"), folder))
    posts = sorted((item for item in items if isinstance(item, Post)), key=lambda post: post.id)
    return posts, [item for item in items if isinstance(item, Fault)]


def test_media_and_subtitles_beside(tmp_path):
    write(tmp_path, info())
    (tmp_path / "vid1.mp4").write_bytes(b"x")
    (tmp_path / "vid1.en.vtt").write_text(VTT, encoding="utf-8")
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", info("vid2", language="de"), stem="A title [vid2]")
    (tmp_path / "below" / "A title [vid2].webm").write_bytes(b"x")
    (tmp_path / "below" / "A title [vid2].de.srt").write_text(SRT, encoding="utf-8")
    write(tmp_path, info("vid3", requested_subtitles={"fr": {}, "../x": {}}))
    (tmp_path / "vid3.fr.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\nbonjour\n", encoding="utf-8")
    posts, faults = read(tmp_path)
    assert not faults
    assert [post.transcript for post in posts] == [
        "hello there Tom & I say hi mail me: <email>",
        "Good evening 42",
        "bonjour",
    ]
    names = [post.media_path and Path(post.media_path).name for post in posts]
    assert names == ["vid1.mp4", "A title [vid2].webm", None]
    assert {post.licence for post in posts} == {"CC BY"}


def test_a_broken_subtitle_is_counted_and_the_post_stays(tmp_path):
    write(tmp_path, info())
    (tmp_path / "vid1.en.vtt").write_bytes(b"WEBVTT\n\n00:01.000 --> 00:02.000\n\xff\xff\n")
    posts, faults = read(tmp_path)
    assert [post.transcript for post in posts] == [None]
    assert faults == [Fault("subtitle_broken", "vid1.en.vtt")]


def test_faults_of_files(tmp_path):
    write(tmp_path, info())
    write(tmp_path, info(), stem="again")
    (tmp_path / "broken.info.json").write_text('{"id": "x"', encoding="utf-8")
    (tmp_path / "bytes.info.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "folder.info.json").mkdir()
    write(tmp_path, {"id": "list", "_type": "playlist"}, stem="list")
    posts, faults = read(tmp_path)
    assert len(posts) == 1
    assert sorted(fault.reason for fault in faults) == [
        "duplicate_id",
        "file_unreadable",
        "json_broken",
        "json_broken",
        "not_a_video",
    ]


def test_media_outside_is_not_read(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (folder / "vid1.mp4").symlink_to(tmp_path / "secret.mp4")
    write(folder, info())
    write(folder, info("../secret"), stem="evil")
    posts, faults = read(folder)
    assert [post.media_path for post in posts] == [None]
    assert [fault.reason for fault in faults] == ["id_broken"]


def test_missing_is_null():
    post = youtube.parse(info(view_count=None, heatmap=None, comments=None, age_limit=None))
    nulls = (post.num_views, post.num_likes, post.num_comments, post.replay, post.is_nsfw, post.created_utc)
    assert nulls == (None,) * 6
    assert post.comments == ()


def test_people_stay_outside():
    record = info(channel_id=None, uploader_id="@jodoe", description="I am @jodoe, jo@doe.org")
    post = youtube.parse(
        record | {"comments": [{"id": "c", "text": "hi @jodoe", "author": "@fan", "parent": "c0"}]}
    )
    assert "jodoe" not in repr(post)
    assert "Jo Doe" not in repr(post)
    assert "@fan" not in repr(post)
    assert post.comments[0].parent_id == "c0"
    assert youtube.parse(info(channel_id="UC" + "a" * 22)).channel == "UC" + "a" * 22


def test_marks_and_times():
    assert youtube.parse(info(age_limit=18)).is_nsfw is True
    assert youtube.parse(info(upload_date="20200102")).created_utc == 1577923200
    assert youtube.parse(info(upload_date="20200102", timestamp=1577999999)).created_utc == 1577999999


@pytest.mark.parametrize(
    "fields",
    [
        {"like_count": -1},
        {"view_count": "1.5 M"},
        {"upload_date": "yesterday"},
        {
            "heatmap": [
                {"start_time": 5, "end_time": 6, "value": 0},
                {"start_time": 0, "end_time": 1, "value": 0},
            ]
        },
        {"heatmap": [{"start_time": 0, "end_time": 1}]},
        {"heatmap": {"a": 1}},
        {"comments": ["text"]},
        {"comments": [{"text": "no id"}]},
        {"title": ["x"]},
        {"duration": "long"},
    ],
)
def test_a_field_of_another_type_is_a_fault(fields):
    assert youtube.parse(info(**fields), where="x") == Fault("field_broken", "x")


@pytest.mark.skipif(not HEATMAP.is_file(), reason="the real samples are not here")
def test_real_heatmap():
    heatmap = json.loads(HEATMAP.read_text(encoding="utf-8"))["heatmap"]
    curve = youtube.parse(info(heatmap=heatmap)).replay
    assert len(curve.values) == 18
    assert (curve.start_s[0], curve.end_s[0], curve.values[0]) == (63.42, 67.95, 0.1443782917258829)


def test_subtitles_without_words():
    assert plain_text("WEBVTT\n\n") is None
    assert plain_text("") is None


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"no \*\.info\.json"):
        read(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "nowhere")

"""The youtube source on made folders: what is read, what stands beside it, what is refused."""

import json
import os
import pickle
import random
import time
from pathlib import Path

import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault, Post, Said
from behavior_llava.data.sources import youtube
from behavior_llava.data.subtitles import plain_text

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


def item(name, **fields):
    return {"kind": "youtube#video", "id": name, "snippet": {"title": f"title of {name}"}} | fields


def thread(video, name, text="hi", replies=()):
    def comment(name, **more):
        return {"id": name, "snippet": {"textOriginal": text, "likeCount": 1} | more}

    return {
        "kind": "youtube#commentThread",
        "id": name,
        "snippet": {"videoId": video, "topLevelComment": comment(name), "isPublic": True},
        "replies": {"comments": [comment(f"{name}.{reply}", parentId=name) for reply in replies]},
    }


def page(kind, *items):
    return {"kind": f"youtube#{kind}ListResponse", "etag": "x", "items": list(items)}


def items_of(folder, **settings):
    config = youtube.Config(path=folder, licence="CC BY", **settings)
    found = []
    for part in youtube.SOURCE.parts(config, folder):
        for piece in youtube.SOURCE.pieces(config, part):
            found += youtube.SOURCE.read(config, pickle.loads(pickle.dumps(piece)))
    return found


def read(folder, **settings):
    found = items_of(folder, **settings)
    posts = sorted((one for one in found if isinstance(one, Post)), key=lambda post: post.id)
    return posts, [one for one in found if isinstance(one, Fault)]


def keys(folder):
    return [part.key for part in youtube.SOURCE.parts(youtube.Config(path=folder), folder)]


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


def test_files_named_by_the_id_beside_an_info_named_by_its_title(tmp_path):
    write(tmp_path, info(), stem="One day")
    (tmp_path / "vid1.mp4").write_bytes(b"x")
    (tmp_path / "vid1.en.vtt").write_text(VTT, encoding="utf-8")
    posts, faults = read(tmp_path)
    assert not faults
    assert Path(posts[0].media_path).name == "vid1.mp4"
    assert posts[0].transcript.startswith("hello there")


def test_a_broken_subtitle_is_counted_and_the_post_stays(tmp_path):
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", info())
    (tmp_path / "a" / "vid1.en.vtt").write_bytes(b"WEBVTT\n\n00:01.000 --> 00:02.000\n\xff\xff\n")
    posts, faults = read(tmp_path)
    assert [post.transcript for post in posts] == [None]
    assert faults == [Fault("subtitle_broken", "a/vid1.en.vtt")]


def test_faults_of_files(tmp_path):
    write(tmp_path, info())
    write(tmp_path, info(), stem="again")
    (tmp_path / "broken.info.json").write_text('{"id": "x"', encoding="utf-8")
    (tmp_path / "bytes.info.json").write_bytes(b"\xff\xfe{}")
    (tmp_path / "deep.info.json").write_text('{"id": ' + "[" * 100_000, encoding="utf-8")
    (tmp_path / "digits.info.json").write_text('{"id": "x", "duration": ' + "9" * 5000 + "}")
    (tmp_path / "list.info.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "rubbish.info.json").write_bytes(random.Random(0).randbytes(5000))
    (tmp_path / "empty.info.json").touch()
    (tmp_path / "folder.info.json").mkdir()
    (tmp_path / "gone.info.json").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.info.json").symlink_to(tmp_path / "loop.info.json")
    os.mkfifo(tmp_path / "pipe.info.json")
    write(tmp_path, {"id": "list", "_type": "playlist"}, stem="playlist")
    posts, faults = read(tmp_path)
    assert [post.id for post in posts] == ["youtube:vid1"] * 2
    assert {(fault.where.removesuffix(".info.json"), fault.reason) for fault in faults} == {
        ("broken", "json_broken"),
        ("bytes", "json_broken"),
        ("deep", "json_broken"),
        ("digits", "json_broken"),
        ("list", "json_broken"),
        ("rubbish", "json_broken"),
        ("empty", "json_broken"),
        ("gone", "file_unreadable"),
        ("loop", "file_unreadable"),
        ("pipe", "file_unreadable"),
        ("playlist", "not_a_video"),
    }
    assert len(faults) == 11


def test_a_file_of_600_megabytes_is_refused_unread(tmp_path):
    for name in ("large.info.json", "pages.json"):
        with (tmp_path / name).open("wb") as file:
            file.write(b'{\n "kind": "youtube#videoListResponse",\n')
            file.truncate(600 * 2**20)
    started = time.monotonic()
    posts, faults = read(tmp_path)
    assert time.monotonic() - started < 1
    assert not posts
    assert {(fault.reason, fault.where) for fault in faults} == {
        ("file_too_large", "large.info.json"),
        ("file_too_large", "pages.json"),
    }


def test_nothing_outside_is_read(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (tmp_path / "secret.mp4").write_bytes(b"x")
    (tmp_path / "secret.vtt").write_text(VTT, encoding="utf-8")
    write(tmp_path, info("secret"))
    (tmp_path / "secret.json").write_text(json.dumps(page("video", item("secret"))))
    (tmp_path / "beyond").mkdir()
    write(tmp_path / "beyond", info("beyond"))
    (folder / "vid1.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "vid1.en.vtt").symlink_to(tmp_path / "secret.vtt")
    (folder / "analytics").symlink_to(tmp_path)
    (tmp_path / "vid1.shares.csv").write_text("sharingService,shares\nX,1\n")
    (folder / "linked.info.json").symlink_to(tmp_path / "secret.info.json")
    (folder / "linked.json").symlink_to(tmp_path / "secret.json")
    (folder / "beyond").symlink_to(tmp_path / "beyond")
    write(folder, info())
    write(folder, info("../secret"), stem="evil")
    posts, faults = read(folder)
    assert [(post.id, post.media_path, post.transcript, post.shares) for post in posts] == [
        ("youtube:vid1", None, None, None)
    ]
    assert [(fault.reason, fault.where) for fault in faults] == [
        ("id_broken", "evil.info.json"),
        ("file_outside", "linked.info.json"),
    ]


def test_a_link_that_stays_inside_is_read(tmp_path):
    (tmp_path / "store").mkdir()
    write(tmp_path / "store", info())
    (tmp_path / "store" / "vid1.info.json").rename(tmp_path / "store" / "x")
    (tmp_path / "vid1.info.json").symlink_to(tmp_path / "store" / "x")
    posts, faults = read(tmp_path)
    assert [post.id for post in posts] == ["youtube:vid1"]
    assert not faults


# ---- Data API answers in files -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "first"),
    [
        ("page.json", json.dumps(page("video", item("vid1"), item("vid2")), indent=1), "page.json#2"),
        ("page.json", json.dumps(page("video", item("vid1"), item("vid2"))), "page.json:1#2"),
        ("page.json", json.dumps(page("video", item("vid1"), item("vid2")), sort_keys=True), "page.json:1#2"),
        ("list.json", json.dumps([page("video", item("vid1")), page("video", item("vid2"))]), "list.json#2"),
        ("items.json", json.dumps([item("vid1"), item("vid2")], indent=4), "items.json#2"),
        (
            "lines.json",
            "".join(json.dumps(page("video", item(name))) + "\n" for name in ("vid1", "vid2")),
            "lines.json:2#1",
        ),
        ("x.jsonl", "".join(json.dumps(item(name)) + "\r\n\r\n" for name in ("vid1", "vid2")), "x.jsonl:3#1"),
        (
            "bom.json",
            "\ufeff" + json.dumps(page("video", item("vid1"), item("vid2")), indent=1),
            "bom.json#2",
        ),
    ],
)
def test_answers_in_every_shape(tmp_path, name, text, first):
    (tmp_path / name).write_text(text, encoding="utf-8")
    posts, faults = read(tmp_path)
    assert [post.title for post in posts] == ["title of vid1", "title of vid2"]
    assert not faults
    (tmp_path / name).write_text(text.replace("vid2", "../2"), encoding="utf-8")
    posts, faults = read(tmp_path)
    assert len(posts) == 1
    assert faults == [Fault("id_broken", first)]


def test_threads_are_said_apart_and_in_parts_without_posts(tmp_path):
    (tmp_path / "a.json").write_text(
        json.dumps(page("commentThread", thread("vid1", "Ug1", replies=("r1", "r2"))), indent=1)
    )
    (tmp_path / "b.json").write_text(json.dumps(page("video", item("vid1")), indent=1))
    found = items_of(tmp_path)
    assert [(said.post_id, said.comment.id, said.comment.parent_id) for said in found[1:]] == [
        ("youtube:vid1", "Ug1", None),
        ("youtube:vid1", "Ug1.r1", "Ug1"),
        ("youtube:vid1", "Ug1.r2", "Ug1"),
    ]
    parts = list(youtube.SOURCE.parts(youtube.Config(path=tmp_path), tmp_path))
    assert len(parts) == 2


def test_media_and_exports_beside_an_answer(tmp_path):
    details = {"contentDetails": {"duration": "PT20S"}}
    (tmp_path / "page.json").write_text(json.dumps(page("video", item("vid1", **details))))
    (tmp_path / "vid1.mp4").write_bytes(b"x")
    (tmp_path / "vid1.retention.csv").write_text("elapsedVideoTimeRatio,audienceWatchRatio\n0.5,1\n1,.5\n")
    (post,), faults = read(tmp_path)
    assert not faults
    assert post.media_path == str((tmp_path / "vid1.mp4").resolve())
    assert post.retention.end_s == (10.0, 20.0)


def test_other_files_are_left_alone(tmp_path):
    write(tmp_path, info())
    (tmp_path / "captions.json").write_text('{"kind": "youtube#captionListResponse", "items": [1]}')
    (tmp_path / "search.json").write_text('{"kind": "youtube#searchListResponse", "items": [1]}')
    (tmp_path / "vid1.live_chat.json").write_text('{"replayChatItemAction": {}}\n{"x": 1}\n')
    (tmp_path / "package.json").write_text('{"kind": 5}')
    (tmp_path / "rubbish.json").write_bytes(random.Random(1).randbytes(9000))
    (tmp_path / "rubbish.csv").write_bytes(random.Random(2).randbytes(9000))
    (tmp_path / "quote.csv").write_text('"' * 9001)
    (tmp_path / "empty.json").touch()
    (tmp_path / "empty.csv").touch()
    (tmp_path / "list.csv").write_text("video_id,title\nvid1,x\n")
    os.mkfifo(tmp_path / "pipe.json")
    posts, faults = read(tmp_path)
    assert len(posts) == 1
    assert not faults


def test_other_answers_among_ours_are_passed_over_and_broken_ones_counted(tmp_path):
    lines = [
        page("video", item("vid1")),
        {"kind": "youtube#captionListResponse", "items": [1]},
        {"kind": ["x"]},
        page("video", 5, item("vid2")),
        {"kind": "youtube#videoListResponse", "items": {"a": 1}},
        page("comment", {"id": "x", "snippet": {"textOriginal": "hi", "parentId": "y"}}),
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines) + "{broken\n[1]\n"
    (tmp_path / "answers.jsonl").write_text(text)
    posts, faults = read(tmp_path)
    assert [post.id for post in posts] == ["youtube:vid1", "youtube:vid2"]
    assert [(fault.where, fault.reason) for fault in faults] == [
        ("answers.jsonl:3", "field_broken"),
        ("answers.jsonl:4#1", "field_broken"),
        ("answers.jsonl:5", "field_broken"),
        ("answers.jsonl:6#1", "comment_without_post"),
        ("answers.jsonl:7", "json_broken"),
        ("answers.jsonl:8", "json_broken"),
    ]


# ---- parts and pieces --------------------------------------------------------------------------------------


def test_parts_keep_an_order_and_are_cut_by_size(tmp_path, monkeypatch):
    for number in reversed(range(130)):
        write(tmp_path, info(f"vid{number:03d}"))
    config = youtube.Config(path=tmp_path)
    parts = list(youtube.SOURCE.parts(config, tmp_path))
    assert [len(part.content) for part in parts] == [64, 64, 2]
    assert [path.name for path in parts[2].content.paths] == ["vid128.info.json", "vid129.info.json"]
    monkeypatch.setattr(youtube, "PIECE_BYTES", 1000)
    pieces = [piece for part in parts for piece in youtube.SOURCE.pieces(config, part)]
    assert len(pieces) > 10
    assert max(len(piece) for piece in pieces) < 20
    found = [post for piece in pieces for post in youtube.SOURCE.read(config, piece)]
    assert [post.id for post in found] == [f"youtube:vid{number:03d}" for number in range(130)]
    assert found == [post for part in parts for post in youtube.SOURCE.read(config, part)]


def test_long_lines_of_answers_are_cut_between_lines(tmp_path, monkeypatch):
    text = "".join(json.dumps(item(f"vid{number}")) + "\n" for number in range(300))
    (tmp_path / "x.jsonl").write_text(text)
    blocks = youtube.json_lines.blocks
    monkeypatch.setattr(youtube.json_lines, "blocks", lambda path: blocks(path, 2000))
    config = youtube.Config(path=tmp_path)
    (part,) = youtube.SOURCE.parts(config, tmp_path)
    pieces = list(youtube.SOURCE.pieces(config, part))
    assert sum(len(piece) for piece in pieces) == 300
    assert len(read(tmp_path)[0]) == 300


def change(path, text="new"):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "name",
    ["vid1.mp4", "vid1.en.vtt", "vid1.shares.csv", "analytics/vid1.retention.json", "analytics/shares.csv"],
)
def test_what_stands_beside_is_in_the_key(tmp_path, name):
    write(tmp_path, info())
    write(tmp_path, info("vid2"), stem="A title")
    (tmp_path / "page.json").write_text(json.dumps(page("video", item("vid3"))))
    before = keys(tmp_path)
    assert before == keys(tmp_path)
    assert len(set(before)) == 2
    change(tmp_path / name)
    between = keys(tmp_path)
    assert not set(before) & set(between)
    change(tmp_path / name, "newer")
    assert not set(between) & set(keys(tmp_path))


def test_one_videos_files_are_in_the_key_of_its_part_alone(tmp_path):
    for number in range(65):
        write(tmp_path, info(f"vid{number:02d}"))
    before = keys(tmp_path)
    change(tmp_path / "vid64.part2.en.vtt")
    after = keys(tmp_path)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False]
    change(tmp_path / "unrelated.txt")
    assert keys(tmp_path) == after
    change(tmp_path / "anyone.mp4")
    assert not set(keys(tmp_path)) & set(after)


# ---- people ------------------------------------------------------------------------------------------------


def test_people_stay_outside(tmp_path):
    who = {"channel": "Jo Doe", "uploader": "Jo Doe", "uploader_id": "@jodoe", "channel_id": "jodoe"}
    said = {"id": "c", "text": "hi @jodoe", "author": "@fan", "author_id": "fanfan", "parent": "c0"}
    write(tmp_path, info(description="I am @jodoe, jo@doe.org", comments=[said], **who))
    write(tmp_path, info("vid2", heatmap="jo@doe.org", **who))
    snippet = {"channelTitle": "Jo Doe", "channelId": "jodoe", "title": "jo@doe.org"}
    (tmp_path / "page.json").write_text(json.dumps(page("video", item("vid3", snippet=snippet))))
    answer = thread("vid3", "Ug1", "write to jo@doe.org")
    answer["snippet"]["topLevelComment"]["snippet"] |= {
        "authorDisplayName": "@fan",
        "authorChannelUrl": "http://www.youtube.com/@fan",
        "authorChannelId": {"value": "fanfan"},
    }
    broken = thread("vid3", "jo@doe.org")
    (tmp_path / "threads.json").write_text(json.dumps(page("commentThread", answer, broken)))
    found = items_of(tmp_path)
    assert sorted(type(one).__name__ for one in found) == ["Fault", "Fault", "Post", "Post", "Said"]
    for name in ("jodoe", "Jo Doe", "doe.org", "fan"):
        assert name not in repr(found)
    fan = next(one for one in found if isinstance(one, Said)).comment.author_hash
    assert fan == next(one for one in found if isinstance(one, Post)).comments[0].author_hash


# ---- subtitles and nothing ---------------------------------------------------------------------------------


def test_subtitles_without_words():
    assert plain_text("WEBVTT\n\n") is None
    assert plain_text("") is None


def test_a_caption_may_begin_like_a_block():
    text = "WEBVTT\n\nNOTE no\n\n00:01.000 --> 00:02.000\nNOTE THIS\nSTYLE is all\n \nNOTE not this\n"
    assert plain_text(text) == "NOTE THIS STYLE is all"


def test_nothing_there(tmp_path):
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(UserError, match=r"no \*\.info\.json"):
        read(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "nowhere")

"""Retention and shares as owners export them: every form, every way to be broken, and whose they are."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core.schema import Curve, Fault, Post
from behavior_llava.data import youtube_exports
from behavior_llava.data.sources import youtube
from behavior_llava.data.youtube_curves import retention
from behavior_llava.data.youtube_records import BROKEN


def report(columns, rows, **fields):
    headers = [{"name": name, "columnType": "x", "dataType": "y"} for name in columns]
    return json.dumps(
        {"kind": "youtubeAnalytics#resultTable", "columnHeaders": headers, "rows": rows} | fields
    )


RATIOS = ("elapsedVideoTimeRatio", "audienceWatchRatio")
KEPT = Curve((0.0, 3.0, 6.0), (3.0, 6.0, 12.0), (1.0, 1.5, 0.25))
"""What every export below says of a video of 12 s."""

STUDIO = '"Video position (%)","Absolute audience retention (%)","Compared to other videos (%)"\n'
FORMS = {
    "answer.json": report(RATIOS, [[0.25, 1], [0.5, 1.5], [1.0, 0.25]]),
    "columns and rows in another order.json": report(
        ("relativeRetentionPerformance", *reversed(RATIOS)),
        [[0.5, 0.25, 1.0], [0.5, 1.5, 0.5], [0.5, 1, 0.25]],
    ),
    "texts and a BOM.json": "\ufeff" + report(RATIOS, [["0.25", "1"], ["0.5", "1.5"], ["1.0", "0.25"]]),
    "the same columns.csv": "elapsedVideoTimeRatio,audienceWatchRatio\n0.25,1\n0.5,1.5\n1,0.25\n",
    "the same columns.tsv": "audienceWatchRatio\telapsedVideoTimeRatio\r\n1\t0.25\r\n1.5\t0.5\r\n.25\t1\r\n",
    "studio.csv": STUDIO + "0,100,50\n25,100,\n50,150.0,50\n100,25.0,50\n",
    "studio with a BOM, percent signs and blank lines.csv": "\ufeff"
    + STUDIO
    + "25%,100%,\n\n50%,150 %,\n100%,25%,\n",
    "studio with decimal commas.csv": STUDIO + '25,"100,0",\n50,"150,0",\n100,"25,00",\n',
    "studio with semicolons.csv": STUDIO.replace(",", ";") + "25;100,0;1\n50;150;2\n100;25,0;3\n",
    "studio.tsv": STUDIO.replace(",", "\t") + "25\t100,0\t1\n50\t150\t2\n100\t25,0\t3\n",
}


def write(folder, name="vid1", **fields):
    folder.mkdir(exist_ok=True)
    record = {"id": name, "duration": 12} | fields
    (folder / f"{name}.info.json").write_text(json.dumps(record))


def read(folder):
    config = youtube.Config(path=folder)
    found = [
        one for part in youtube.SOURCE.parts(config, folder) for one in youtube.SOURCE.read(config, part)
    ]
    return [one for one in found if isinstance(one, Post)], [one for one in found if isinstance(one, Fault)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("place", ["", "analytics/"])
def test_every_form_of_a_retention(tmp_path, form, place):
    write(tmp_path)
    path = tmp_path / f"{place}vid1.retention.{form.rpartition('.')[2]}"
    path.parent.mkdir(exist_ok=True)
    path.write_text(FORMS[form], encoding="utf-8")
    (post,), faults = read(tmp_path)
    assert not faults
    assert post.retention == KEPT


def test_excel_writes_utf_16(tmp_path):
    write(tmp_path)
    (tmp_path / "vid1.retention.tsv").write_bytes(FORMS["studio.tsv"].encode("utf-16"))
    (post,), faults = read(tmp_path)
    assert not faults
    assert post.retention == KEPT


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1,234.5", "98.7", "1,234"], [1234.5, 98.7, 1234.0]),
        (["1.234,5", "98,7", "1.234"], [1234.5, 98.7, 1234.0]),
        (["1\u202f234,5", "98,7 %", ""], [1234.5, 98.7, None]),
        (["1\u00a0234", "98"], [1234.0, 98.0]),
        (["0,123", "12,345"], [0.123, 12.345]),
        (["12.345", "98"], [12.345, 98.0]),
        (["1,234,567", "0.5"], [1234567.0, 0.5]),
        (["1e-05", "0.5"], [0.00001, 0.5]),
    ],
)
def test_numbers_of_any_language(cells, numbers):
    assert youtube_exports._plain_numbers(cells) == numbers


@pytest.mark.parametrize(
    "cells", [["1,234", "98"], ["1,5", "1.5"], ["1.23,5"], ["1,5", "12.5"], ["nan"], ["-"], ["1,23.4,5"]]
)
def test_numbers_that_may_mean_two_things_are_refused(cells):
    with pytest.raises(ValueError, match=r"decimal|agree|number"):
        youtube_exports._plain_numbers(cells)


def test_where_a_point_stands():
    whole = [((number + 1) / 100, 1 - number / 200) for number in range(100)]
    curve = retention(reversed(whole), 200.0)
    assert len(curve.values) == 100
    assert (curve.start_s[0], curve.end_s[0], curve.values[0]) == (0.0, 2.0, 1.0)
    assert curve.end_s[-1] == 200.0
    assert curve.start_s[1:] == curve.end_s[:-1]
    # partial: from one step before the first point; a point without a value leaves a hole
    curve = retention([(0.5, 1.0), (0.75, None), (1.0, 0.5)], 100.0)
    assert curve == Curve((25.0, 75.0), (50.0, 100.0), (1.0, 0.5))
    assert retention([(0.0, 1.0)], 100.0) is None
    assert retention([(0.5, None)], None) is None
    assert retention([], None) is None


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("json", "{"),
        ("json", "[" * 100_000),
        ("json", "[]"),
        ("json", '{"rows": []}'),
        ("json", report(("day", "views"), [["x", 1]])),
        ("json", report(RATIOS, [[0.5]])),
        ("json", report(RATIOS, ["12"])),
        ("json", report(RATIOS, [{"0": 1, "1": 2}])),
        ("json", report(RATIOS, {"a": 1})),
        ("json", report(RATIOS, [[0.5, -1]])),
        ("json", report(RATIOS, [[1.5, 1]])),
        ("json", report(RATIOS, [[None, 1]])),
        ("json", report(RATIOS, [[0.5, True]])),
        ("json", report(RATIOS, [[0.5, 1], [0.5, 1]])),
        ("csv", "a,b\n1,2\n"),
        ("csv", ""),
        ("csv", STUDIO + "25,100\n"),
        ("csv", STUDIO + "25,much,\n"),
        ("csv", STUDIO + ",5,\n"),
        ("csv", STUDIO + "25," + "9" * 200_000 + ",\n"),
        ("csv", STUDIO + '25,"1,234",\n'),
        ("csv", "elapsedVideoTimeRatio,audienceWatchRatio\n50%,1\n"),
    ],
)
def test_a_broken_retention_is_counted_and_the_post_stays(tmp_path, suffix, text):
    write(tmp_path)
    (tmp_path / "analytics").mkdir()
    (tmp_path / "analytics" / f"vid1.retention.{suffix}").write_text(text, encoding="utf-8")
    (post,), faults = read(tmp_path)
    assert post.retention is None
    assert faults == [Fault("export_broken", f"analytics/vid1.retention.{suffix}")]


def test_rubbish_and_large_files(tmp_path):
    write(tmp_path)
    (tmp_path / "vid1.retention.json").write_bytes(b"\xff\xfe\x00\xd8" * 50)
    with (tmp_path / "vid1.shares.csv").open("wb") as file:
        file.truncate(600 * 2**20)
    (post,), faults = read(tmp_path)
    assert (post.retention, post.shares) == (None, None)
    assert [fault.reason for fault in faults] == ["export_broken"] * 2


def test_without_a_duration_nothing_is_placed(tmp_path):
    write(tmp_path, duration=None)
    (tmp_path / "vid1.retention.csv").write_text(FORMS["studio.csv"])
    (post,), faults = read(tmp_path)
    assert post.retention is None
    assert faults == [Fault("duration_missing", "vid1.retention.csv")]


def test_a_report_without_data_is_missing(tmp_path):
    write(tmp_path)
    (tmp_path / "vid1.retention.json").write_text(report(RATIOS, None))
    empty = {"columnHeaders": [{"name": "sharingService"}, {"name": "shares"}]}
    (tmp_path / "vid1.shares.json").write_text(json.dumps(empty))
    (post,), faults = read(tmp_path)
    assert (post.retention, post.shares) == (None, None)
    assert not faults


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("json", report(("shares", "sharingService"), [[1200, "WHATS_APP"], [0, "TWITTER"]])),
        ("csv", 'sharingService,shares\nWHATS_APP,"1,200"\nTWITTER,0\nEMBED,\n'),
        ("tsv", "Sharing service\tShares\tShares (%)\nTotal\t1200\t\nWHATS_APP\t1200\t100\nTWITTER\t0\t0\n"),
    ],
)
def test_shares(tmp_path, suffix, text):
    write(tmp_path)
    (tmp_path / f"vid1.shares.{suffix}").write_text(text)
    (post,), faults = read(tmp_path)
    assert not faults
    assert post.shares == {"WHATS_APP": 1200, "TWITTER": 0}


@pytest.mark.parametrize(
    "rows", [[["X", -1]], [["X", 1.5]], [["X", 1], ["X", 2]], [["", 1]], [[None, 1]], [[5, 1]]]
)
def test_broken_shares(tmp_path, rows):
    write(tmp_path)
    (tmp_path / "vid1.shares.json").write_text(report(("sharingService", "shares"), rows))
    (post,), faults = read(tmp_path)
    assert post.shares is None
    assert faults == [Fault("export_broken", "vid1.shares.json")]


def test_no_person_is_a_service(tmp_path):
    write(tmp_path)
    (tmp_path / "vid1.shares.csv").write_text("sharingService,shares\njo@doe.org,3\n")
    (post,), _ = read(tmp_path)
    assert post.shares == {"<email>": 3}


def test_one_export_of_several_videos(tmp_path):
    for name in ("vid1", "vid2", "vid3"):
        write(tmp_path, name)
    (tmp_path / "analytics").mkdir()
    rows = [["vid2", 1.0, 0.25], ["vid1", 0.5, 1], ["vid1", 1, 0.5], ["vid2", 0.5, 0.75], ["other", 1, 9]]
    (tmp_path / "analytics" / "retention.json").write_text(report(("video", *RATIOS), rows))
    (tmp_path / "shares.csv").write_text("video,sharingService,shares\nvid3,X,1\nvid1,X,2\nvid1,Y,3\n")
    (tmp_path / "vid3.shares.csv").write_text("sharingService,shares\nZ,9\n")
    posts, faults = read(tmp_path)
    assert not faults
    assert [post.retention and post.retention.values for post in posts] == [(1.0, 0.5), (0.75, 0.25), None]
    assert [post.shares for post in posts] == [{"X": 2, "Y": 3}, None, {"Z": 9}]


def test_an_export_that_does_not_say_of_which_video_is_told_once(tmp_path):
    for name in ("vid1", "vid2", "vid3"):
        write(tmp_path, name)
    (tmp_path / "shares.csv").write_text("sharingService,shares\nX,1\n")
    posts, faults = read(tmp_path)
    assert [post.shares for post in posts] == [None] * 3
    assert faults == [Fault("export_broken", "shares.csv")]


def test_rows_of_other_videos_are_not_taken(tmp_path):
    write(tmp_path)
    (tmp_path / "vid1.shares.csv").write_text("video,sharingService,shares\nvid2,X,1\n")
    (post,), faults = read(tmp_path)
    assert not faults
    assert post.shares is None


CELL = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())


@settings(deadline=None)
@given(
    st.lists(st.sampled_from([*RATIOS, "video", "sharingService", "shares", "x"]) | CELL, max_size=4),
    st.lists(st.lists(CELL, max_size=4) | CELL, max_size=4) | CELL,
    st.sampled_from(youtube_exports.KINDS),
)
def test_any_json_is_an_export_or_refused(tmp_path_factory, columns, rows, kind):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({"columnHeaders": [{"name": name} for name in columns], "rows": rows}))
    try:
        for found in youtube_exports.load(path, kind).values():
            _ = retention(found, 10.0) if kind == "retention" else youtube_exports.counts(found)
    except BROKEN:
        pass


@settings(deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([".csv", ".tsv", ".json"]),
    st.sampled_from(youtube_exports.KINDS),
)
def test_any_bytes_are_refused(tmp_path_factory, data, suffix, kind):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    path.write_bytes(data)
    with pytest.raises(BROKEN):
        youtube_exports.load(path, kind)

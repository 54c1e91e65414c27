"""The memorability source: the lists of LaMem, Memento10k and VideoMem, and what is none of them."""

from __future__ import annotations

import json
import math
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behavior_llava.core import schema
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault, Post
from behavior_llava.data import doctor
from behavior_llava.data.sources import memorability
from behavior_llava.evaluation.tasks import lamem

Reader = Callable[..., tuple[list[Post], list[Fault]]]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


def read(path: Path, media: Path, **changes: Any) -> tuple[list[Post], list[Fault]]:
    """Posts and faults, by way of what goes to another process."""
    made = memorability.Config(path=path, media=media, **changes)
    (part,) = memorability.list_parts(made, media)
    pieces = pickle.loads(pickle.dumps(list(memorability.pieces(made, part))))
    items = [item for piece in pieces for item in memorability.read(made, piece)]
    assert len(items) == sum(len(piece) for piece in pieces)
    posts = [item for item in items if isinstance(item, Post)]
    return posts, [item for item in items if isinstance(item, Fault)]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# ---- the three lists ---------------------------------------------------------------------------------------


def test_lamem(media: Path, tmp_path: Path) -> None:
    (media / "00000001.jpg").write_bytes(b"x")
    path = write(tmp_path, "train_1.txt", "00000001.jpg 0.675000\n\n00000002.jpg 1.0\r\n00000003.jpg 0")
    posts, faults = read(path, media, licence="academic", delay_s=90)
    assert faults == []
    assert [(post.id, post.recall) for post in posts] == [
        ("lamem:00000001.jpg", 0.675),
        ("lamem:00000002.jpg", 1.0),
        ("lamem:00000003.jpg", 0.0),  # nobody knew it again: a real zero
    ]
    found = str((media / "00000001.jpg").resolve())
    assert [post.media_path for post in posts] == [found, None, None]
    assert {(post.licence, post.recall_delay_s, post.media_kind) for post in posts} == {
        ("academic", 90.0, "image")
    }


def test_the_benchmark_and_the_source_read_one_file_alike(media: Path, tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    lines = "".join(f"{number:08d}.jpg {number / 7:.6f}\n" for number in range(8))
    path = write(tmp_path / "splits", "val_1.txt", lines)
    posts, _ = read(path, media)
    samples = lamem.load(tmp_path, "val_1")
    assert [(post.media_path, post.recall) for post in posts] == [(None, one.label) for one in samples]
    assert [post.id for post in posts] == [f"lamem:{one.id}" for one in samples]
    assert len(posts) == 8


def test_real_lamem(shared: Path, media: Path) -> None:
    path = shared / "benchmarks" / "data" / "lamem" / "splits" / "train_1.first200.txt"
    posts, faults = read(path, media)
    lines = path.read_text().splitlines()
    assert (len(posts), len(lines), faults) == (200, 200, [])
    assert [f"{post.media_path} {post.recall:.6f}" for post in posts] == [
        line.replace(line.split()[0], "None") for line in lines
    ]


def test_memento10k(media: Path, tmp_path: Path) -> None:
    rows = [
        {
            "filename": "a.mp4",
            "mem_score": 0.81,
            "alpha": -0.001,
            "captions": ["one"],
            "url": "http://v.org/a",
        },
        {"filename": "b.mp4", "mem_score": None},
        {"filename": "c.mp4"},
        {"mem_score": 0.5},
        7,
        {"filename": "d.mp4", "mem_score": True},
    ]
    posts, faults = read(write(tmp_path, "memento_train_data.json", json.dumps(rows)), media)
    assert [(post.id, post.media_kind, post.recall, post.media_url) for post in posts] == [
        ("memento10k:a.mp4", "video", 0.81, "http://v.org/a")
    ]
    assert posts[0].recall_delay_s is None
    assert faults == [
        Fault(reason, f"memento_train_data.json:{number}")
        for number, reason in enumerate(
            ("recall_missing", "row_broken", "id_missing", "row_broken", "not_a_number"), 1
        )
    ]


VIDEOMEM = (
    "\ufeffvideo,short-term_memorability,nb_short-term_annotations,long-term_memorability,"
    "nb_long-term_annotations\n"
    "video3.webm,0.924,34,0.846,13\nvideo4.webm,0.9,30,,0\nvideo5.webm,x,30,1,9\n"
)


@pytest.mark.parametrize(
    ("term", "scores", "reasons"),
    [
        ("short", [0.924, 0.9], {"not_a_number": 1}),
        ("long", [0.846, 1.0], {"recall_missing": 1}),
    ],
)
def test_videomem(media: Path, tmp_path: Path, term: str, scores: list[float], reasons: Any) -> None:
    path = write(tmp_path, "ground-truth_dev-set.csv", VIDEOMEM)
    posts, faults = read(path, media, term=term)
    assert [post.recall for post in posts] == scores
    assert Counter(fault.reason for fault in faults) == reasons
    assert posts[0].id == "videomem:video3.webm"


# ---- what is none of them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("scores.xlsx", "", r"unknown kind '\.xlsx'.*use the source table with a column for recall"),
        ("a.json", "{", r"is not JSON.*list of objects with filename and mem_score"),
        ("a.json", "[" * 100_000, "is not JSON"),
        ("a.json", '{"mem_score": 0.5}', "holds no list with mem_score"),
        # LAMBDA's answers: two digits, no media
        ("a.json", '[{"question_id": 1, "answer": "00"}]', "holds no list with mem_score"),
        (
            "a.csv",
            "video_id,video_url,scores_raw_short_term\n",
            r"no column 'video'; did you mean 'video_id'\?",
        ),
        ("a.csv", "video,short-term_memorability\n", "no column 'long-term_memorability'"),
    ],
)
def test_other_lists_are_refused(media: Path, tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(write(tmp_path, name, text), media)


def test_files_that_are_not_there(media: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "x.txt", media)
    with pytest.raises(UserError, match="set media"):
        read(write(tmp_path, "x.txt", ""), tmp_path / "nowhere")


def test_lists_too_large_to_be_one(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memorability, "MAX_JSON_BYTES", 10)
    with pytest.raises(UserError, match="too large"):
        read(write(tmp_path, "a.json", '[{"filename": "a.mp4", "mem_score": 1}]'), media)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("00000001.jpg", "row_broken"),
        ("a b.jpg 0.5", "row_broken"),
        ("a.jpg nan", "not_a_number"),
        ("a.jpg 1.000001", "not_a_number"),
        ("a.jpg -0.1", "not_a_number"),
        ("a.jpg 67", "not_a_number"),
        ("a.jpg 0,5", "not_a_number"),
        ("a.txt 0.5", "not_media"),
        ("../a.jpg 0.5", "media_outside"),
        ("/etc/a.jpg 0.5", "media_outside"),
        ("link.jpg 0.5", "media_outside"),
        ("n\x00.jpg 0.5", "id_broken"),
        ("\ufffd" * 5000 + ".jpg 0.5", "media_outside"),
    ],
    ids=lambda value: value[:12],
)
def test_one_broken_line_costs_itself_alone(media: Path, tmp_path: Path, line: str, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    (media / "link.jpg").symlink_to(tmp_path / "a.jpg")
    posts, faults = read(write(tmp_path, "x.txt", f"1.jpg 0.5\n{line}\n2.jpg 0.6\n"), media)
    assert [post.recall for post in posts] == [0.5, 0.6]
    assert faults == [Fault(reason, "x.txt:2")]


def test_bytes_that_are_no_text(media: Path, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xff.jpg 0.5\n1.jpg 0.5\n")
    posts, faults = read(tmp_path / "x.txt", media)
    assert len(posts) == 1
    assert faults == [Fault("not_utf8", "x.txt:1")]


def test_long_lists_come_in_pieces_and_rows_keep_their_numbers(media: Path, tmp_path: Path) -> None:
    number = 2 * memorability.PIECE_ROWS + 1
    path = write(tmp_path, "x.txt", "1.txt 0.5\n" * number)
    posts, faults = read(path, media)
    assert posts == []
    assert [fault.where for fault in faults] == [f"x.txt:{line}" for line in range(1, number + 1)]


@pytest.mark.parametrize("changes", [{"delay_s": -1}, {"delay_s": math.nan}, {"term": "medium"}])
def test_settings_that_are_refused(media: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        memorability.Config(path=media, media=media, **changes)


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just([])
KEYS = st.sampled_from(["filename", "mem_score", "url", "video", "short-term_memorability"])


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, VALUES | st.sampled_from(["a.mp4", "0.5"])) | st.text(st.characters()))
def test_any_row_gives_a_post_or_a_fault(row: Any) -> None:
    made = memorability.parse(row)
    if isinstance(made, Post):
        assert made.recall is not None
        assert 0 <= made.recall <= 1
        pa.Table.from_pylist([schema.post_row(made)], schema=schema.POSTS).validate(full=True)
    else:
        assert made.reason in {
            *("row_broken", "id_missing", "id_broken", "not_media", "not_a_number", "recall_missing")
        }


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("splits/train_1.txt", "images"),
        ("memento_train_data.json", "videos"),
        ("ground-truth_dev-set.csv", "."),
    ],
)
def test_its_folder_is_known(tmp_path: Path, name: str, media: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    (tmp_path / media).mkdir(exist_ok=True)
    settings = {"path": str(tmp_path / name), "media": str(tmp_path / media)}
    assert doctor.guess_source(tmp_path) == ("memorability", settings)

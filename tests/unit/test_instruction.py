"""LLaVA JSON: one question, one answer, its own file; anything else is refused with its row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example, Media
from behavior_llava.data import instruction


def talk(question: Any = "what?", answer: Any = "this", **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": answer}], **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "data" / "deep" / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.png")
    (tmp_path / "data" / "v.mp4").write_bytes(b"x")
    return tmp_path / "data"


def read(folder: Path, rows: Any) -> list[Example]:
    path = folder / "rows.json"
    path.write_bytes(rows if isinstance(rows, bytes) else json.dumps(rows).encode())
    return instruction.read(path)


def test_rows_become_examples(folder: Path) -> None:
    found = read(
        folder,
        [
            talk("<image>\nwhat is it?", "A sky.\nIt is blue.", id="one", image="deep/a.png"),
            talk("how long?<video>", "2 s", id=7, video="v.mp4"),
            talk("who?", "You."),
        ],
    )
    assert found == [
        Example(
            "one", "what is it?", "A sky.\nIt is blue.", Media(str(folder / "deep" / "a.png"), "image", "")
        ),
        Example("7", "how long?", "2 s", Media(str(folder / "v.mp4"), "video", "")),
        Example("2", "who?", "You.", None),
    ]


TWO_ROUNDS = {"conversations": talk()["conversations"] * 2}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (TWO_ROUNDS, "not one question of a human and one answer"),
        ({"conversations": talk()["conversations"][::-1]}, "not one question of a human and one answer"),
        ({"conversations": talk()["conversations"][:1]}, "not one question of a human and one answer"),
        ({"conversations": None}, "not one question of a human and one answer"),
        ({}, "not one question of a human and one answer"),
        ("text", "not one question of a human and one answer"),
        (talk(answer=None), "not one question of a human and one answer"),
        (talk(question=3), "not one question of a human and one answer"),
        (talk(answer=["a"]), "not one question of a human and one answer"),
        (talk(image="none.png"), "image 'none.png' is not there"),
        (talk(image="deep"), "image 'deep' is not there"),
        (talk(image="../secret.png"), r"image '\.\./secret\.png': leads out of the media folder"),
        (talk(image="a\x00.png"), "not a file name"),
        (talk(image=["deep/a.png"]), "image is list, not one file name"),
        (talk(image=None), "image is NoneType, not one file name"),
        (talk(image="deep/a.png", video="v.mp4"), "has an image and a video"),
        (talk("<image>\nwhat is it?"), "asks about media but names no file"),
    ],
)
def test_a_row_at_fault_is_named(folder: Path, row: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read(folder, [talk(), row])
    assert str(caught.value.where).endswith("rows.json: row 1")


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    (folder / "link.png").symlink_to(folder.parent / "secret.png")
    with pytest.raises(UserError, match="leads out of the media folder"):
        read(folder, [talk(image="link.png")])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not JSON"),
        (b'[{"id": ', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"{}", "holds no list"),
        (b"[]", "holds no list"),
        (b'"text"', "holds no list"),
        (b"[" * 100_000, "is not JSON"),
    ],
)
def test_a_file_of_another_kind_is_refused(folder: Path, content: bytes, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(folder, content)


def test_no_file_and_a_folder(folder: Path) -> None:
    with pytest.raises(UserError, match="no such instruction file"):
        instruction.read(folder / "none.json")
    with pytest.raises(UserError, match="Is a directory"):
        instruction.read(folder)

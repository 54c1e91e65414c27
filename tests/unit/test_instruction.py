"""Instruction files in their layouts; what is not questions and answers in turn is refused with its row."""

from __future__ import annotations

import io
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


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"conversations": talk()["conversations"][::-1]}, "is not questions and answers in turn"),
        ({"conversations": talk()["conversations"][:1]}, "is not questions and answers in turn"),
        ({"conversations": None}, "is not questions and answers in turn"),
        ({}, "is not questions and answers in turn"),
        ("text", "is not questions and answers in turn"),
        (talk(answer=None), "is not questions and answers in turn"),
        (talk(question=3), "is not questions and answers in turn"),
        (talk(answer=["a"]), "is not questions and answers in turn"),
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


# ---- several rounds, messages, lines -----------------------------------------------------------------------


def rounds(*said: str, **more: Any) -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(said)]
    return {"conversations": turns, **more}


def chat(*said: Any, system: str | None = None, **more: Any) -> dict[str, Any]:
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    first = [] if system is None else [{"role": "system", "content": system}]
    return {"messages": [*first, *turns], **more}


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


def test_a_conversation_of_rounds_is_one_example(folder: Path) -> None:
    picture = Media(str(folder / "deep" / "a.png"), "image", "")
    (found, alone) = read(
        folder,
        [
            rounds("<image>\none?", " 1 ", " two?\n", "2", "three?", "3", id="x", image="deep/a.png"),
            rounds("a?", "b", "c?", "d"),
        ],
    )
    assert found == Example("x", "three?", "3", picture, earlier=(("one?", " 1 "), ("two?", "2")))
    assert alone == Example("1", "c?", "d", None, earlier=(("a?", "b"),))


def test_messages_say_what_conversations_say(folder: Path) -> None:
    picture = Media(str(folder / "deep" / "a.png"), "image", "")
    one = Example("0", "two?", "2", picture, earlier=(("one?", "1"),))
    parts = [{"type": "image"}, text("one?")]
    later = ("1", [text("two?")], [text("2")])
    for row in (
        chat("<image>one?", "1", "two?", "2", images=["deep/a.png"]),
        chat("one?", "1", "two?", "2", image="deep/a.png"),
        chat(parts, *later, images=["deep/a.png"], videos=[]),
        chat(parts, *later, image="deep/a.png", videos=None),
        chat([text("one?"), {"type": "image", "image": "deep/a.png"}], *later),
        chat([{"type": "image", "path": "deep/a.png"}, text("one?")], *later),
    ):
        assert read(folder, [row]) == [one]
    clip = Media(str(folder / "v.mp4"), "video", "")
    found = read(folder, [chat([{"type": "video"}, text("a"), text("b")], "c", videos=["v.mp4"])])
    assert found == [Example("0", "a\nb", "c", clip)]


def test_a_system_message_stands_before_the_first_question(folder: Path) -> None:
    found = read(folder, [chat("one?", "1", "two?", "2", system=" Be kind.\n"), chat("a", "b", system="Be")])
    assert found == [
        Example("0", "two?", "2", earlier=(("Be kind.\n\none?", "1"),)),
        Example("1", "Be\n\na", "b"),
    ]


PICTURE = {"type": "image", "image": "deep/a.png"}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (rounds("a", "b", "<image>c", "d", image="deep/a.png"), "shows media in question 2"),
        (rounds("<image>a", "b", "<image>c", "d", image="deep/a.png"), "shows media in question 2"),
        (rounds("a", "b", "<video>c", "d"), "asks about media but names no file"),
        (rounds("a", "b", "c"), "turns of user, assistant, user"),
        (rounds("a", "b", "c", "d", image="none.png"), "'none.png' is not there"),
        ({"conversations": rounds("a", "b", "c")["conversations"][1:]}, "turns of assistant, user"),
        ({"conversations": []}, "turns of nobody"),
        ({**rounds("a", "b"), **chat("a", "b")}, "no list of conversations or messages"),
        (chat("a", "b", [text("c"), PICTURE], "d"), "shows media in turn 3"),
        (chat([text("a"), PICTURE], [text("b"), PICTURE]), "shows media in turn 2"),
        (chat([text("a"), PICTURE, PICTURE], "b"), "has 2 media"),
        (chat([text("a"), PICTURE, {"type": "video", "path": "v.mp4"}], "b"), "has an image and a video"),
        (chat([text("a"), PICTURE], "b", images=["deep/a.png"]), "names its media twice"),
        (chat([text("a"), {"type": "image"}], "b"), "asks about media but names no file"),
        (chat([text("a"), {"type": "image"}], "b", videos=["v.mp4"]), "or of another kind"),
        (chat([{"type": "image"}, {"type": "image"}], "b", images=["deep/a.png"]), "announces 2 media"),
        (chat("a", "b", images=["deep/a.png"] * 2), "has 2 media"),
        (chat("a", "b", images="deep/a.png"), "images is str, not a list"),
        (
            chat([{"type": "image_url", "image_url": {"url": "x"}}], "b"),
            "turn 1 has a part of type 'image_url'",
        ),
        (chat([{"type": "text", "text": None}], "b"), "turn 1 has a part of type 'text'"),
        (chat("a", None), "turn 2 says NoneType, not a text"),
        (chat("a", "b", system="<image>"), "shows media in the system message"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "turn 1 is by 'tool'"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "turn 1 is by"),
        ({"messages": [*chat("a", "b")["messages"], *chat("c", "d", system="x")["messages"]]}, "turns of"),
        ({"messages": ["a", "b"]}, "turn 1 has no 'role' and 'content'"),
        ({"conversations": [{"role": "user", "content": "a"}]}, "turn 1 has no 'from' and 'value'"),
    ],
)
def test_what_is_no_conversation_about_one_medium_is_named(folder: Path, row: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read(folder, [talk(), row])
    assert str(caught.value.where).endswith("rows.json: row 1")


def test_one_row_a_line(folder: Path) -> None:
    path = folder / "rows.jsonl"
    rows = [chat("a", "b", id="x"), rounds("a\u2028", "b", "c", "d"), talk()]
    path.write_text(
        "\n".join(json.dumps(row, ensure_ascii=False) for row in rows[:2]) + "\n\n" + json.dumps(rows[2])
    )
    assert instruction.read(path) == read(folder, rows)
    path.write_text(json.dumps(rows[0]) + "\n\n{broken\n")
    with pytest.raises(UserError, match=r"is not JSON .line 3: Expecting"):
        instruction.read(path)
    path.write_text(json.dumps(rows[0]) + "\n\n{}\n")
    with pytest.raises(UserError, match=r"rows\.jsonl: line 3: is not questions"):
        instruction.read(path)
    path.write_text("\n")
    with pytest.raises(UserError, match="holds no list"):
        instruction.read(path)


# ---- a list that is read piece by piece --------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 1])
def test_items_are_those_of_the_whole_file(
    monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    monkeypatch.setattr(instruction, "_CHUNK", chunk)
    for whole in (
        [],
        [1],
        [12, 345.5e3, -1],
        [[], {}, None, True, 'a,]"\\'],
        [{"a": ["é" * 50, {"b": "[,"}]}] * 5,
    ):
        content = f" {json.dumps(whole, indent=indent, ensure_ascii=False)} \n"
        found = list(instruction._items(io.StringIO(content)))
        assert [item for _, item in found] == whole
        assert [place for place, _ in found] == [f"row {number}" for number in range(len(whole))]


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1 2]", "row 0: neither a comma"),
        ("[1,]", "row 1: Expecting value"),
        ("[,1]", "row 0: Expecting value"),
        ("[1", "row 0: neither a comma"),
        ("[", "row 0: Expecting value"),
        ("[1] 2", "something stands behind"),
        ("[][", "something stands behind"),
        ('["a', "row 0: Unterminated string"),
        ("", "Expecting value"),
        ("{", "Expecting property name"),
    ],
)
def test_a_broken_list_is_refused(
    monkeypatch: pytest.MonkeyPatch, content: str, said: str, chunk: int
) -> None:
    monkeypatch.setattr(instruction, "_CHUNK", chunk)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|Extra|Illegal"):
        json.loads(content)
    with pytest.raises(ValueError, match=said):
        list(instruction._items(io.StringIO(content)))


def test_rows_come_before_the_file_is_read_to_its_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instruction, "_CHUNK", 10)
    path = folder / "rows.json"
    path.write_text(f"[{json.dumps(talk())}, {json.dumps(talk())}, broken")
    found = instruction.rows(path)
    assert [next(found).prompt, next(found).prompt] == ["what?", "what?"]
    with pytest.raises(UserError, match=r"is not JSON .row 2"):
        next(found)

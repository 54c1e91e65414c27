"""The demo's page without a browser: what is counted, and that it shows what the server holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from behavior_llava.models.remote import RemoteConfig
from behavior_llava.serving import targets
from behavior_llava.serving.demo import Demo
from behavior_llava.serving.dialogues import Dialogues
from behavior_llava.serving.sessions import Key, Rate, Sessions
from behavior_llava.serving.targets import Models
from behavior_llava.serving.uploads import Door, Refused

gradio = pytest.importorskip("gradio")


def page_of(folder: Path, *, per_minute: int = 100) -> Any:
    from behavior_llava.serving import page

    for name in ("sessions", "store"):
        (folder / name).mkdir()
    target = targets.of_endpoint(RemoteConfig(url="http://127.0.0.1:9/v1", model="m"))
    door = Door(max_bytes=2**20, max_seconds=10.0, max_scenes=3, rule="thirty_degrees")
    dialogues = Dialogues(folder / "store")
    demo = Demo(Models(target, device="cpu"), Sessions(folder / "sessions"), door, dialogues, 8)
    return page.Page(demo, Rate(per_minute), page.Limits(1, 10.0, 20))


def asks(visitor: str, address: str = "203.0.113.7") -> Any:
    """What Gradio tells of a request."""
    client = SimpleNamespace(host=address)
    return SimpleNamespace(headers={"cookie": f"visitor={visitor}"}, session_hash="tab", client=client)


def test_accepting_the_terms_is_counted(tmp_path: Path) -> None:
    page = page_of(tmp_path, per_minute=3)
    for number in range(3):
        page._accept(True, asks(f"made-up-{number}"))
    with pytest.raises(gradio.Error, match="a lot in a minute"):
        page._accept(True, asks("made-up-3"))
    page._accept(True, asks("another", address="203.0.113.8"))
    assert len(page._demo.sessions.everybody()) == 4
    assert {one.address for one in page._demo.sessions.everybody()} == {"203.0.113.7", "203.0.113.8"}


def test_the_tick_shows_what_the_server_holds(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    page._accept(True, asks("v"))
    session = page._demo.sessions.of(Key("v", "tab"))

    def look(*_: Any) -> Any:
        # ticked while the file is looked at
        page._want_stored(True, asks("v"))
        raise Refused("not this one")

    file = tmp_path / "upload"
    page._demo.sessions.note_upload("v", file)
    page._demo.door = SimpleNamespace(look=look)
    shown = page._upload(str(file), asks("v"))
    assert "not this one" in shown[1]
    assert shown[2:5] == ([], True, "")
    assert session.is_stored_wanted
    assert page._anew(asks("v")) == ([], False, "")
    assert not session.is_stored_wanted

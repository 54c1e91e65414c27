"""What `behavior-llava check` finds in folders made wrong on purpose, and the exit code it ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from behavior_llava.cli import app
from behavior_llava.core.errors import UserError
from behavior_llava.data import doctor

DAY_S = 86_400


def dump(folder: Path, posts: list[dict[str, Any]], comments: list[dict[str, Any]]) -> None:
    (folder / "media").mkdir(parents=True)
    base = {
        "subreddit": "pics",
        "author": "someone",
        "body": "well seen by you",
        "created_utc": 1_600_000_000,
    }
    base |= {"retrieved_on": 1_600_000_000 + 5 * DAY_S}
    for kind, rows in (("RS", posts), ("RC", comments)):
        lines = "".join(json.dumps(base | row) + "\n" for row in rows)
        (folder / f"{kind}_2020-09.ndjson").write_text(lines)


def post(number: int, **more: Any) -> dict[str, Any]:
    return {"id": f"p{number}", "url": f"https://i.redd.it/p{number}.jpg", "score": number, **more}


def picture(folder: Path, number: int, seed: int | None = None) -> Path:
    path = folder / "media" / f"p{number}.jpg"
    Image.effect_noise((64, 64), 80 + (number if seed is None else seed)).convert("RGB").save(path)
    return path


def checked(path: Path) -> tuple[int, dict[str, tuple[int, int, str]]]:
    result = CliRunner().invoke(app, ["check", str(path), "--json"])
    assert result.exit_code in (0, 1), result.output
    findings = json.loads(result.stdout)
    return result.exit_code, {
        finding["name"]: (finding["count"], finding["of"], finding["level"]) for finding in findings
    }


def test_a_sound_folder_ends_well(tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    dump(folder, [post(n) for n in range(3)], [{"id": f"c{n}", "link_id": f"t3_p{n}"} for n in range(3)])
    for number in range(3):
        picture(folder, number)
    code, found = checked(folder)
    assert code == 0
    assert not [name for name, (count, _, _) in found.items() if count]
    assert {"media_missing", "unreadable_media", "placeholders", "young_label", "curve"} <= set(found)


def test_everything_wrong_is_counted_with_a_remedy(tmp_path: Path) -> None:
    folder = tmp_path / "dump"
    posts = [post(n) for n in range(40)]
    posts[1]["retrieved_on"] = 1_600_000_000 + 60
    posts[2]["retrieved_on"] = None
    posts += [post(40, url="https://v.redd.it/film", is_video=True), post(0), {"id": "text", "is_self": True}]
    dump(folder, posts, [{"id": "c", "link_id": "t3_nowhere"}])
    with (folder / "RS_2020-09.ndjson").open("a") as file:
        file.write("{torn\n")
    for number in range(30):
        picture(folder, number)
    same = picture(folder, 10).read_bytes()
    for number in range(10, 34):  # one picture under 24 addresses
        (folder / "media" / f"p{number}.jpg").write_bytes(same)
    path = folder / "media" / "p5.jpg"
    path.write_bytes(path.read_bytes()[:300])
    code, found = checked(folder)
    assert code == 1
    assert found["media_missing"] == (7, 41, "problem")
    assert found["unreadable_media"] == (1, 41, "problem")
    assert found["placeholders"] == (24, 41, "problem")
    assert found["young_label"] == (1, 41, "problem")
    assert found["label_age"] == (1, 41, "note")
    assert found["json_broken"][0::2] == (1, "problem")
    assert found["near_duplicate_media"][0] >= 23
    assert found["curve"] == (1, 1, "note")
    assert found["duplicate_id"][0::2] == (1, "note")
    assert found["not_media"][0::2] == (1, "note")
    assert found["orphans"] == (1, 1, "note")
    shown = CliRunner().invoke(app, ["check", str(folder)])
    assert shown.exit_code == 1
    assert "problem" in shown.stdout
    for word in ("someone", "p5.jpg"):
        assert word not in shown.stdout


def test_what_can_be_checked_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dump"):
        doctor.guess_source(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.info.json").write_text("{}")
    assert doctor.guess_source(tmp_path) == ("youtube", {"path": str(tmp_path)})
    (tmp_path / "RS_2020-01.zst").touch()
    (tmp_path / "media").mkdir()
    assert doctor.guess_source(tmp_path) == (
        "reddit",
        {"path": str(tmp_path), "media": str(tmp_path / "media")},
    )

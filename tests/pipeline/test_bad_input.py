"""Bad input: exit code 2, one clear sentence with place and remedy, no traceback, nothing that looks
finished."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from behavior_llava import cli

ROOT = Path(__file__).parents[2]

TABLE = {"path": "posts.csv", "columns": {"id": "id", "media_path": "image", "num_likes": "likes"}}
SANDBOX = {
    "images": 0,
    "videos": 0,
    "page_posts": 0,
    "instruction_images": 2,
    "instruction_videos": 0,
    "instruction_texts": 2,
    "benchmark_train": 16,
    "benchmark_test": 16,
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a good table of posts and its pictures."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for number in range(4):
        Image.new("RGB", (32, 32), (60 * number, 0, 0)).save(f"images/{number}.jpg")
    lines = ["id,image,likes", *(f"{number},images/{number}.jpg,{number}" for number in range(4))]
    Path("posts.csv").write_text("\n".join(lines))
    return tmp_path


def source(kind: str, **settings: Any) -> dict[str, Any]:
    return {"collect": {"sources": [{"kind": kind, "settings": settings}]}}


def config(**changes: Any) -> dict[str, Any]:
    """A config that is right but for the changes: a table of posts, beside a sandbox without posts."""
    sources = [
        {"kind": "table", "settings": TABLE},
        {"kind": "sandbox", "settings": SANDBOX},
    ]
    good = {"name": "x", "collect": {"sources": sources}, "evaluate": {"tasks": ["emoset"]}}
    return good | changes


def invoke(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """The command line in this process; its exit code."""
    monkeypatch.setattr("sys.argv", ["behavior-llava", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_good_config_is_good(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("config.yaml").write_text(yaml.safe_dump(config()))
    assert invoke(monkeypatch, "collect", "config.yaml") == 0
    assert json.loads(Path("runs/x/collect/manifest.json").read_text())["posts"] == 4


Prepare = Callable[[], None]


def nothing() -> None:
    """The place is as it is."""


def corrupt_film() -> None:
    Path("films").mkdir()
    info = {"id": "abcdefghijk", "_type": "video", "title": "x", "view_count": 10, "like_count": 2}
    Path("films/abcdefghijk.info.json").write_text(json.dumps(info))
    Path("films/abcdefghijk.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 200)


def broken_dump() -> None:
    Path("dump").mkdir()
    Path("dump/RS_2020-06.zst").write_bytes(b"not a zstd frame at all")


def foreign_folder() -> None:
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")


def no_model() -> None:
    Path("model").mkdir()
    Path("model/readme.txt").write_text("no model")


def bad_instruction() -> None:
    Path("instruction.json").write_text('[{"id": 1, "conversations": []}]')


def empty_benchmark() -> None:
    Path("benchmarks/emoset").mkdir(parents=True)


def no_yaml() -> None:
    Path("config.yaml").write_text("name: [x")


# name: (changes to the config, words after `run config.yaml`, preparation, place in the sentence, remedy in
# it)
CASES: dict[str, tuple[dict[str, Any] | None, list[str], Prepare, str, str]] = {
    "missing config": (None, [], nothing, "config.yaml", "give the path"),
    "config is no YAML": (None, [], no_yaml, "config.yaml", "correct that line"),
    "unknown key": ({"armz": ["base"]}, [], nothing, "'armz'", "did you mean 'arms'"),
    "unknown deep key": (
        {"training": {"train": {"epoch": 1}}},
        [],
        nothing,
        "'training.train.epoch'",
        "did you mean 'epochs'",
    ),
    "value out of range": ({"build": {"max_scenes": 0}}, [], nothing, "build.max_scenes", "greater than"),
    "unknown arm": ({"arms": ["base", "shufled"]}, [], nothing, "arms", "did you mean 'shuffled'"),
    "unknown task": (
        {"evaluate": {"tasks": ["emosett"]}},
        [],
        nothing,
        "evaluate.tasks",
        "did you mean 'emoset'",
    ),
    "primary setting that is not run": (
        {"evaluate": {"tasks": [], "settings": ["zero_shot"]}},
        [],
        nothing,
        "evaluate.primary",
        "zero_shot",
    ),
    "unknown filter": (
        {"build": {"filters": {"table": ["nsfv"]}}},
        [],
        nothing,
        "filters",
        "did you mean 'nsfw'",
    ),
    "unknown filter parameter": (
        {"build": {"filters": {"table": [{"too_few_comments": {"min_comment": 2}}]}}},
        [],
        nothing,
        "filters.too_few_comments",
        "There are: ",
    ),
    "unknown source": (source("redit"), [], nothing, "collect.sources", "did you mean 'reddit'"),
    "unknown source setting": (
        source("table", **TABLE, medja="x"),
        [],
        nothing,
        "'medja'",
        "did you mean 'media'",
    ),
    "unknown template": ({"build": {"template": "shrt"}}, [], nothing, "shrt", "short"),
    "unknown behavior": ({"build": {"behaviors": ["likez"]}}, [], nothing, "build.behaviors", "likes"),
    "unreadable dump": (
        source("reddit", path="dump"),
        [],
        broken_dump,
        "RS_2020-06.zst",
        "fetch it again",
    ),
    "empty folder": (source("reddit", path="images"), [], nothing, "images", "RS_"),
    "no such folder": (source("reddit", path="nowhere"), [], nothing, "nowhere", "check the paths"),
    "corrupt film as only media": (
        source("youtube", path="films"),
        [],
        corrupt_film,
        "video_broken 1",
        "max_fault_rate",
    ),
    "no GPU": ({"device": "cuda"}, [], nothing, "device", "device: cpu"),
    "no such device": ({"device": "tpuu"}, [], nothing, "device", "use auto, cpu or cuda"),
    "missing benchmark folder": (
        {"evaluate": {"tasks": ["emoset"], "benchmarks": "benchmarks"}},
        [],
        nothing,
        "benchmarks/emoset",
        "leave emoset out",
    ),
    "empty benchmark folder": (
        {"evaluate": {"tasks": ["emoset"], "benchmarks": "benchmarks"}},
        [],
        empty_benchmark,
        "benchmarks/emoset",
        "official layout",
    ),
    "missing instruction file": (
        {"base": {"instruction": "none.json"}},
        [],
        nothing,
        "none.json",
        "base.instruction",
    ),
    "instruction of another form": (
        {"base": {"instruction": "instruction.json"}},
        [],
        bad_instruction,
        "instruction.json: row 0",
        "begin with a question of human",
    ),
    "measuring while a tower learns": (
        {"base": {"tower": {"epochs": 1, "track_every": 5}}},
        [],
        nothing,
        "base.tower.track_every",
        "training.train alone",
    ),
    "measuring while labels are learned": (
        {"evaluate": {"tasks": ["emoset"], "finetune": {"train": {"epochs": 1, "track_every": 5}}}},
        [],
        nothing,
        "evaluate.finetune.train.track_every",
        "training.train alone",
    ),
    "measuring on questions that are not there": (
        {
            "evaluate": {"tasks": ["emoset"], "benchmarks": "benchmarks"},
            "training": {"train": {"epochs": 1, "track_every": 5}},
        },
        [],
        empty_benchmark,
        "benchmarks/emoset",
        "official layout",
    ),
    "no instruction at all": (
        source("table", **TABLE),
        [],
        nothing,
        "base.instruction",
        "set base.instruction",
    ),
    "--set without =": ({}, ["--set", "seeds"], nothing, "--set", "key=value"),
    "--set of an unknown key": ({}, ["--set", "sedes=[1]"], nothing, "'sedes'", "did you mean 'seeds'"),
    "--out with other files": ({}, ["--out", "out"], foreign_folder, "out", "choose another --out"),
    "--out is a file": ({}, ["--out", "posts.csv"], nothing, "posts.csv", "give a folder"),
    "folder that is no model": ({"model": "model"}, [], no_model, "model", "give a model folder"),
    "no such model": ({"model": "./models/none"}, [], nothing, "models/none", "give a model folder"),
    "table without the column": (
        source("table", **TABLE | {"columns": {"id": "id", "media_path": "image", "num_likes": "like"}}),
        [],
        nothing,
        "posts.csv",
        "did you mean 'likes'",
    ),
    "ceiling without a sandbox": (
        {**source("table", **TABLE), "arms": ["ceiling"]},
        ["--set", "base.instruction=i.json"],
        nothing,
        "arms",
        "leave ceiling out",
    ),
    "wrong training argument": (
        {"training": {"train": {"epochs": 1, "arguments": {"learning_rat": 1}}}},
        [],
        nothing,
        "learning_rat",
        "correct the config",
    ),
}
COLLECTING = {"unreadable dump", "empty folder", "corrupt film as only media", "table without the column"}
LATE = {*COLLECTING, "instruction of another form"}
"""Found while reading; everything else before the run's folder is made."""


@pytest.mark.parametrize("name", CASES)
def test_bad_input(
    name: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, words, prepare, where, remedy = CASES[name]
    if name == "no GPU" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    if changes is not None:
        Path("config.yaml").write_text(yaml.safe_dump(config(**changes)))
    Path("i.json").write_text("[]")
    prepare()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    verb = "collect" if name in COLLECTING else "run"
    assert invoke(monkeypatch, verb, "config.yaml", *words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    lines = [line for line in said.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1, said.err
    assert said.err.splitlines()[-1] == lines[0]
    sentence = lines[0].removeprefix("error: ")
    assert where in sentence
    assert remedy in sentence
    assert sentence.endswith(".")
    assert ".." not in sentence
    assert len(sentence) < 700
    # nothing a later run would take for finished, and nothing of the user's is touched
    finished = {path.parent.relative_to(place).as_posix() for path in place.rglob("manifest.json")}
    assert finished <= (
        {"runs/x/fetched/1", "runs/x/collect", "runs/x/build/posts"} if name in LATE else set()
    )
    assert name not in COLLECTING or not finished
    assert not list(place.rglob("summary.json"))
    assert {path: path.read_bytes() for path in before} == before
    if name not in LATE:
        assert not Path("runs").exists()


def test_a_bad_command_is_told_by_typer(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(monkeypatch, "run") == 2
    assert invoke(monkeypatch, "runn", "config.yaml") == 2


def test_after_the_input_is_mended_the_run_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.yaml").write_text(yaml.safe_dump(config()))
    shutil.move("images/2.jpg", "images/kept.jpg")
    Path("images/2.jpg").write_bytes(b"\xff\xd8 no picture")
    assert invoke(monkeypatch, "collect", "config.yaml") == 2
    assert "image_broken 1" in capsys.readouterr().err
    assert not Path("runs/x/collect/manifest.json").exists()
    shutil.move("images/kept.jpg", "images/2.jpg")
    assert invoke(monkeypatch, "collect", "config.yaml") == 0
    assert json.loads(Path("runs/x/collect/manifest.json").read_text())["faults"] == {}


def test_the_process_ends_with_two_and_one_line(place: Path, finish: Callable[..., str]) -> None:
    said = finish(["run", "none.yaml"], cwd=place, code=2)
    assert re.fullmatch(r"error: none\.yaml: no such config file; give the path [^\n]*\.\n", said)


def test_the_console_script_is_the_same_program(place: Path) -> None:
    script = shutil.which("behavior-llava", path=str(Path(__import__("sys").executable).parent))
    assert script is not None, "install the project"
    ended = subprocess.run([script, "run", "none.yaml"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: none.yaml: no such config file")

"""What is read in a model's answer, how likely every share is, and predictions for whole folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.served import Server, reply

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example, Media
from behavior_llava.data import manner
from behavior_llava.data.blift import BuildConfig
from behavior_llava.data.scenes import Colors, Scene
from behavior_llava.data.viewing import View
from behavior_llava.evaluation.scoring import score_labels
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.remote import RemoteConfig
from behavior_llava.serving import predict as predicting
from behavior_llava.serving.audience import Counts, Predictor
from behavior_llava.serving.predict import SCHEMA, Wanted, predict

SEVEN = BuildConfig(behaviors=("likes", "comments", "replay", "retention", "shares", "reactions"))
QUESTIONS = {"image": "Describe it and the reactions.", "video": "Describe it and the reactions."}
HEAD = "Scene 1: a red ball.\nScene 2: a blue ball.\n>>> BEHAVIOR <<<\n"
ANSWER = (
    HEAD + "23% of viewers like it.\n1. so nice\n2. I cried\nReplay: 0.20 1.00\nRetention: 1.10 0.40\n"
    "Shared 120 times: 60% whatsapp, 40% mail.\n100 reactions: 61% love, 20% haha."
)


@dataclass
class Scripted(VisionLanguageModel):
    """A tiny model that says what a test wants it to say, and keeps what it was asked."""

    says: Any = None
    asked: list[tuple[int, float]] = field(default_factory=list)

    def generate(
        self,
        examples: Sequence[Example],
        *,
        max_new_tokens: int,
        seed: int | None = None,
        temperature: float = 0.0,
    ) -> list[str]:
        self.asked.append((len(examples), temperature))
        return [self.says(example, temperature, seed) for example in examples]


def scripted(tiny: VisionLanguageModel, says: Any) -> Scripted:
    if isinstance(says, str):
        text = says
        return Scripted(tiny.network, tiny.processor, tiny.store, says=lambda *_: text)
    return Scripted(tiny.network, tiny.processor, tiny.store, says=says)


RED = Colors(("red",), ("blue",), "warm")


def view(media: Media) -> View:
    if media.kind == "image":
        return View(media.path, "image", media.sha256, (Scene(0, 0, 0, RED),), 0, None, 48, 48)
    scenes = (Scene(0, 1, 0.5, RED), Scene(1, 2, 1.5, RED))
    return View(media.path, "video", media.sha256, scenes, 1, 2.0, 48, 48)


SPEAKS = manner.of(SEVEN, QUESTIONS, arm="behavior")  # type: ignore[arg-type]


def test_everything_a_model_says_is_read(tiny: VisionLanguageModel, media: dict[str, Media]) -> None:
    found = Predictor(scripted(tiny, ANSWER), SPEAKS).audience(view(media["clip"]), comments=2)
    assert found.description == "Scene 1: a red ball.\nScene 2: a blue ball."
    assert found.likes == ("like_rate", 0.23)
    assert found.comments == ("so nice", "I cried")
    assert found.replay == (0.2, 1.0)
    assert found.retention == (1.1, 0.4)
    assert found.shares == Counts("num_shares", 120, (("whatsapp", 0.6), ("mail", 0.4)))
    assert found.reactions == Counts("num_reactions", 100, (("love", 0.61), ("haha", 0.2)))
    assert found.scenes == ((0, 1), (1, 2))
    assert found.raw == ANSWER


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Scene 1: a red ball.",
        HEAD.strip(),
        HEAD + "nothing at all",
        ANSWER.replace(">>> BEHAVIOR <<<", "so:"),
    ],
)
def test_what_is_not_said_is_none(tiny: VisionLanguageModel, media: dict[str, Media], answer: str) -> None:
    model = scripted(tiny, answer)
    found = Predictor(model, SPEAKS).audience(view(media["clip"]))
    silent = (found.likes, found.likes_spread, found.replay, found.retention, found.shares, found.reactions)
    assert silent == (None,) * 6
    assert found.comments == ()
    assert len(model.asked) == 1  # who speaks of no comments is not asked again and again


def test_a_curve_of_another_length_belongs_to_other_scenes(
    tiny: VisionLanguageModel, media: dict[str, Media]
) -> None:
    answer = HEAD + "Replay: 0.20 1.00 0.30\nRetention: 0.90"
    found = Predictor(scripted(tiny, answer), SPEAKS).audience(view(media["clip"]))
    assert (found.replay, found.retention) == (None, None)
    found = Predictor(scripted(tiny, HEAD + "Replay: 0.20"), SPEAKS).audience(view(media["a"]))
    assert found.replay is None


def test_the_spread_is_that_of_the_model_behind_its_own_words(
    tiny: VisionLanguageModel, media: dict[str, Media]
) -> None:
    """Against one forward pass for each sentence; the answer's own value plays no part."""
    for name in ("a", "clip"):
        shown = view(media[name])
        found = Predictor(scripted(tiny, ANSWER), SPEAKS).audience(shown).likes_spread
        assert found is not None
        sentences = [f"{HEAD}{percent}% of viewers like it." for percent in range(101)]
        example = Example("naive", QUESTIONS["image"], None, shown.media())
        naive = np.concatenate([score_labels(tiny, [example], [sentence])[0] for sentence in sentences])
        expected = np.exp(naive - naive.max())
        assert [value for value, _ in found] == [percent / 100 for percent in range(101)]
        np.testing.assert_allclose([p for _, p in found], expected / expected.sum(), atol=1e-4)
        assert sum(p for _, p in found) == pytest.approx(1)
        assert np.ptp([p for _, p in found]) > 1e-4


def test_a_score_is_no_share_and_has_no_spread(tiny: VisionLanguageModel, media: dict[str, Media]) -> None:
    found = Predictor(scripted(tiny, HEAD + "It has a score of 17."), SPEAKS).audience(view(media["a"]))
    assert (found.likes, found.likes_spread) == (("score", 17), None)


def test_too_few_comments_are_made_up_from_samples_of_the_same_model(
    tiny: VisionLanguageModel, media: dict[str, Media]
) -> None:
    def says(example: Example, temperature: float, seed: int | None) -> str:
        assert (temperature > 0) == (seed is not None)
        return HEAD + ("1. so nice\n2. I cried" if seed is None else f"1. so nice\n2. sample {seed}")

    model = scripted(tiny, says)
    found = Predictor(model, SPEAKS, seed=7).audiences([view(media["a"]), view(media["b"])], comments=4)
    assert [one.comments for one in found] == [("so nice", "I cried", "sample 7", "sample 8")] * 2
    assert model.asked == [(2, 0.0), (2, 1.0), (2, 1.0)]


def test_a_batch_that_memory_does_not_hold_is_halved(
    tiny: VisionLanguageModel, media: dict[str, Media]
) -> None:
    model = scripted(tiny, ANSWER)
    whole = model.generate

    def short(examples: Sequence[Example], **settings: Any) -> list[str]:
        if len(examples) > 2:
            raise MemoryError
        return whole(examples, **settings)

    model.generate = short  # type: ignore[method-assign]
    found = Predictor(model, SPEAKS).answers([media[name] for name in "abcd"], ["?"] * 4)
    assert found == [ANSWER] * 4
    assert [count for count, _ in model.asked] == [2, 2]


# ---- how a model was taught to speak -----------------------------------------------------------------------


def test_a_manner_survives_its_file(tmp_path: Path) -> None:
    assert manner.read(tmp_path) is None
    manner.write(tmp_path, SPEAKS)
    assert manner.read(tmp_path) == SPEAKS
    (tmp_path / manner.FILE).write_text("[]")
    with pytest.raises(UserError, match="no settings"):
        manner.read(tmp_path)
    (tmp_path / manner.FILE).write_text('{"kinds": 3}')
    with pytest.raises(UserError, match="template"):
        manner.read(tmp_path)


def test_a_model_that_tells_nothing_is_asked_in_a_templates_words() -> None:
    found = manner.usual("paper")
    assert found.template.name == "paper"
    assert "comments" in found.questions["image"]
    assert found.arm is None


# ---- whole folders -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, media: dict[str, Media]) -> Path:
    place = tmp_path / "in here"
    (place / "more").mkdir(parents=True)
    shutil.copy(media["b"].path, place / "b.png")
    shutil.copy(media["a"].path, place / "more" / "a.PNG")
    shutil.copy(media["clip"].path, place / "clip.mp4")
    (place / "broken.jpg").write_bytes(b"no picture")
    (place / "notes.txt").write_text("not media")
    (place / "round").symlink_to(place)
    return place


def speaking(monkeypatch: pytest.MonkeyPatch, tiny: VisionLanguageModel, says: Any = ANSWER) -> Scripted:
    model = scripted(tiny, says)
    monkeypatch.setattr(predicting.auto, "load", lambda *_, **__: model)
    return model


def test_a_row_an_item_in_the_order_of_names(
    folder: Path,
    tiny: VisionLanguageModel,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    speaking(monkeypatch, tiny)
    out = tmp_path / "out.parquet"
    told = predict(str(tiny_folder), SPEAKS, folder, out, Wanted(questions=("Is it red?", "And blue?")))
    assert told == {"items": 4, "errors": 1}
    table = pq.read_table(out)
    assert table.schema.equals(SCHEMA, check_metadata=False)
    assert json.loads(table.schema.metadata[b"behavior_llava"])["model"]
    rows = {row["id"]: row for row in table.to_pylist()}
    assert list(rows) == ["b.png", "broken.jpg", "clip.mp4", "more/a.PNG"]
    assert rows["broken.jpg"]["error"].startswith("image_")
    asked = [name for name in SCHEMA.names if name not in ("id", "media_path", "media_kind", "error")]
    assert all(rows["broken.jpg"][name] is None for name in asked)
    clip = rows["clip.mp4"]
    assert (clip["error"], clip["media_kind"], clip["likes"], clip["likes_part"]) == (
        None,
        "video",
        0.23,
        "like_rate",
    )
    assert len(clip["likes_spread"]) == 101
    assert clip["answers"] == [
        {"question": "Is it red?", "answer": ANSWER},
        {"question": "And blue?", "answer": ANSWER},
    ]
    assert clip["reaction_kinds"] == [{"name": "love", "share": 0.61}, {"name": "haha", "share": 0.2}]
    assert rows["b.png"]["replay"] is None
    assert not (tmp_path / "out.parquet.parts").exists()


def test_a_killed_call_continues_to_the_same_file_and_asks_nothing_twice(
    folder: Path,
    tiny: VisionLanguageModel,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(predicting, "BLOCK", 1)
    whole = tmp_path / "whole.parquet"
    speaking(monkeypatch, tiny)
    predict(str(tiny_folder), SPEAKS, folder, whole)

    class Killed(BaseException):
        pass

    def dies(example: Example, temperature: float, seed: int | None) -> str:
        if example.media is not None and example.media.kind == "video":
            raise Killed
        return ANSWER

    out = tmp_path / "out.parquet"
    first = speaking(monkeypatch, tiny, dies)
    with pytest.raises(Killed):
        predict(str(tiny_folder), SPEAKS, folder, out)
    assert not out.exists()
    greedy = [count for count, temperature in first.asked if temperature == 0]
    assert greedy == [1, 1]  # b.png, and the film at which it died
    second = speaking(monkeypatch, tiny)
    predict(str(tiny_folder), SPEAKS, folder, out)
    assert [count for count, temperature in second.asked if temperature == 0] == [1, 1]  # film, more/a.PNG
    assert pq.read_table(out).equals(pq.read_table(whole))


def test_a_file_that_changed_in_between_is_asked_anew(
    folder: Path,
    tiny: VisionLanguageModel,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    speaking(monkeypatch, tiny)
    asking = predicting._Asking(str(tiny_folder), SPEAKS, Wanted(), tmp_path / "parts", "cpu")
    (tmp_path / "parts").mkdir()
    block = list(predicting.items(folder))[:1]
    before = asking.part(block)
    Image.new("RGB", (48, 48), "green").save(folder / "b.png")
    asking._numbers = predicting.numbers()
    after = asking.part(block)
    assert before != after


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.jsonl"])
def test_tables_are_read_and_paths_found_beside_them(
    name: str, folder: Path, tiny: VisionLanguageModel, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaking(monkeypatch, tiny)
    rows = [
        {"id": "007", "media_path": "b.png", "media_kind": None},
        {"id": "008", "media_path": None, "media_kind": None},
        {"id": "009", "media_path": str(folder / "gone.png"), "media_kind": "image"},
        {"id": "010", "media_path": "clip.mp4", "media_kind": "sculpture"},
    ]
    path = folder / name
    if name == "t.parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name == "t.jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        sign = "," if name == "t.csv" else "\t"
        lines = [
            ["id", "media_path", "media_kind"],
            *([value or "" for value in row.values()] for row in rows),
        ]
        path.write_text("".join(sign.join(line) + "\n" for line in lines))
    out = folder / "out.parquet"
    assert predict(str(tiny_folder), SPEAKS, path, out) == {"items": 4, "errors": 3}
    found = {row["id"]: row["error"] for row in pq.read_table(out).to_pylist()}
    assert found == {"007": None, "008": "media_missing", "009": "media_missing", "010": "media_kind_unknown"}


def test_what_cannot_be_is_refused(folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    model, out = str(tiny_folder), tmp_path / "o.parquet"
    (tmp_path / "empty").mkdir()
    (tmp_path / "t.csv").write_text("id,file\n1,a.png\n")
    (tmp_path / "t.jsonl").write_text('{"media_path": "a.png"\n')
    for media, place, told in (
        (tmp_path / "none", out, "no such file or folder"),
        (tmp_path / "empty", out, "holds no image or video"),
        (tmp_path / "t.csv", out, "has no column media_path, only id, file"),
        (tmp_path / "t.jsonl", out, "cannot be read"),
        (folder / "notes.txt", out, "is no table"),
        (folder, tmp_path / "o.csv", "is no name of a Parquet file"),
        (folder, tmp_path, "is no name of a Parquet file"),
    ):
        with pytest.raises(UserError, match=told):
            predict(model, SPEAKS, media, place)
    assert not out.exists()


def test_an_endpoint_is_asked_the_same_and_has_no_spread(folder: Path, tmp_path: Path) -> None:
    server = Server()
    try:
        server.script = lambda number, asked: reply(ANSWER)
        told = predict(
            RemoteConfig(url=server.url, model="served", retries=0),
            SPEAKS,
            folder,
            tmp_path / "o.parquet",
            Wanted(comments=2),
        )
        assert told == {"items": 4, "errors": 1}
        rows = pq.read_table(tmp_path / "o.parquet").to_pylist()
        assert [row["likes"] for row in rows] == [0.23, None, 0.23, 0.23]
        assert [row["likes_spread"] for row in rows] == [None] * 4
        assert len(server.asked) == 3
    finally:
        server.close()

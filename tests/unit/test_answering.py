"""What is asked once is kept: across kills, tasks, processes; and nothing else is taken for it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example, Media
from behavior_llava.evaluation import answering
from behavior_llava.evaluation.answering import Answer, Ask, Asks, Rules, fill, read
from behavior_llava.evaluation.journal import Journal
from behavior_llava.evaluation.scoring import Query, Scorer, Scores, answer_nll

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel

LABELS = ("joy", "joyful day", "sadness", "anger")
OTHERS = ("yes", "no")
DESCRIBE, SEPARATOR = "Describe it.", "What viewers did:"
RULES = Rules(tokens=6, batch_size=3, separator=SEPARATOR)


class Noted:
    """A model that notes what it is asked, and may be killed at a call."""

    def __init__(self, model: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model, self.loads = model, 0
        self.killed_at: int | None = None
        self.tokens: list[int] = []
        self.calls: list[tuple[str, list[Example]]] = []
        generate, scores, losses = model.generate, Scorer.scores, answer_nll

        def note(kind: str, examples: Sequence[Example]) -> None:
            if len(self.calls) == self.killed_at:
                raise KeyboardInterrupt
            self.calls.append((kind, list(examples)))

        def generated(examples: Sequence[Example], *, max_new_tokens: int) -> list[str]:
            note("write", examples)
            self.tokens.append(max_new_tokens)
            return generate(examples, max_new_tokens=max_new_tokens)

        def scored(scorer: Scorer, queries: Sequence[Query]) -> list[Scores]:
            note("choose", [query.example for query in queries])
            return scores(scorer, queries)

        def lost(model: Any, examples: Sequence[Example], given: Sequence[str]) -> Any:
            note("lose", examples)
            return losses(model, examples, given)

        monkeypatch.setattr(model, "generate", generated)
        monkeypatch.setattr(Scorer, "scores", scored)
        monkeypatch.setattr(answering, "answer_nll", lost)

    def load(self) -> VisionLanguageModel:
        self.loads += 1
        return self.model

    def of(self, kind: str) -> list[Example]:
        return [example for name, examples in self.calls if name == kind for example in examples]


@pytest.fixture
def noted(tiny: VisionLanguageModel, monkeypatch: pytest.MonkeyPatch) -> Noted:
    return Noted(tiny, monkeypatch)


def choose(
    media: dict[str, Media], task: str, first: str | None, labels: tuple[str, ...] = LABELS
) -> list[Ask]:
    return [
        Ask(
            task,
            1,
            f"s{n}",
            Example(f"{task}:s{n}", f"what do viewers feel {task}", "joy", item),
            labels,
            first,
        )
        for n, item in enumerate(media[name] for name in ("a", "clip", "b", "c", "d"))
    ]


def complete(media: dict[str, Media]) -> list[Ask]:
    return [
        Ask(
            "posts",
            1,
            f"p{n}",
            Example(f"p{n}", DESCRIBE * (3 - n), "a sky\njoy", media[name]),
            given="a sky\n",
        )
        for n, name in enumerate(("a", "clip", "b"))
    ]


def asked(
    noted: Noted, items: Sequence[Ask], folder: Path, weights: str = "w", rules: Rules = RULES
) -> list[Answer]:
    fill(noted.load, weights, [Asks("asking", tuple(items))], rules, folder)
    with Journal(folder) as journal:
        return list(read(weights, items, rules, journal))


def same(first: Sequence[Answer], second: Sequence[Answer], atol: float = 0.0) -> bool:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert (one.context, one.text) == (other.context, other.text)
        if one.scores is not None:
            assert other.scores is not None
            np.testing.assert_allclose(one.scores.log_probs, other.scores.log_probs, atol=atol, rtol=0)
            assert one.scores.num_tokens.tolist() == other.scores.num_tokens.tolist()
        if one.loss is not None:
            assert one.loss == pytest.approx(other.loss, abs=atol)
    return True


def test_answers_are_those_of_the_scorer(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, noted: Noted
) -> None:
    items = choose(media, "mood", None)
    found = asked(noted, items, tmp_path)
    expected = Scorer(tiny).scores([Query(item.example, LABELS) for item in items])
    for one, true in zip(found, expected, strict=True):
        assert one.context is None
        assert one.scores is not None
        np.testing.assert_allclose(one.scores.log_probs, true.log_probs, atol=1e-4, rtol=0)
        assert one.scores.num_tokens.tolist() == true.num_tokens.tolist()


def test_what_is_completed_is_written_and_told(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, noted: Noted
) -> None:
    items = complete(media)
    found = asked(noted, items, tmp_path)
    losses = answer_nll(tiny, [item.example for item in items], [item.given for item in items])
    prompts = [replace(item.example, completion=None) for item in items]
    for item, one, loss in zip(prompts, found, losses, strict=True):
        assert one.scores is None
        assert one.loss == pytest.approx(loss, abs=1e-3)
        assert one.text == tiny.generate([item], max_new_tokens=RULES.tokens)[0]
    assert [item.completion for item in noted.of("write")[:3]] == [None] * 3
    assert set(noted.tokens) == {RULES.tokens}


def test_tasks_share_what_is_written_and_the_media(
    media: dict[str, Media], tmp_path: Path, noted: Noted
) -> None:
    items = [*choose(media, "mood", DESCRIBE), *choose(media, "answer", DESCRIBE, OTHERS)]
    found = asked(noted, items, tmp_path)
    assert noted.loads == 1
    written = noted.of("write")
    assert [example.prompt for example in written] == [DESCRIBE] * 5
    assert len({example.media.sha256 for example in written if example.media}) == 5
    # both questions on a picture are in one call
    for kind, examples in noted.calls:
        if kind == "choose":
            pictures = [example.media.sha256 for example in examples if example.media]
            assert all(pictures.count(one) == 2 for one in pictures)
    for ask, one in zip(items, found, strict=True):
        (told,) = [example for example in noted.of("choose") if example.id == ask.example.id]
        assert told.prompt == f"{one.context}\n{ask.example.prompt}"
    assert [one.context for one in found[:5]] == [one.context for one in found[5:]]


def test_the_separator_is_taken_out_of_what_is_written(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def generate(examples: Sequence[Example], *, max_new_tokens: int) -> list[str]:
        return [f"A sky.\n{SEPARATOR}\nNot {SEPARATOR}\n12 likes"] * len(examples)

    monkeypatch.setattr(tiny, "generate", generate)
    noted = Noted(tiny, monkeypatch)
    (found, *_) = asked(noted, choose(media, "mood", DESCRIBE), tmp_path)
    assert found.context == f"A sky.\nNot {SEPARATOR}\n12 likes"
    assert noted.of("choose")[0].prompt == f"{found.context}\nwhat do viewers feel mood"


# ---- kept --------------------------------------------------------------------------------------------------


def test_killed_at_any_call_it_continues_to_the_same_answers(
    media: dict[str, Media], tmp_path: Path, noted: Noted
) -> None:
    items = [*choose(media, "mood", DESCRIBE), *choose(media, "answer", None, OTHERS), *complete(media)]
    whole = asked(noted, items, tmp_path / "whole")
    calls = len(noted.calls)
    assert calls > 8
    for killed_at in range(calls):
        folder = tmp_path / f"parts{killed_at}"
        noted.calls, noted.killed_at = [], killed_at
        with pytest.raises(KeyboardInterrupt):
            asked(noted, items, folder)
        noted.killed_at = None
        assert same(asked(noted, items, folder), whole)
        # at most one call is made again
        assert len(noted.calls) <= calls + 1
    noted.calls, noted.loads = [], 0
    assert same(asked(noted, items, tmp_path / "whole"), whole)
    assert (noted.calls, noted.loads) == ([], 0)


def test_a_part_of_a_block_continues_to_the_same_bits(
    media: dict[str, Media], tmp_path: Path, noted: Noted
) -> None:
    """A kill in the middle of a write leaves any number of a block's lines."""
    items = [*choose(media, "mood", DESCRIBE), *complete(media)]
    whole = asked(noted, items, tmp_path / "whole")
    (file,) = (tmp_path / "whole").glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 5 + 5 + 3
    for count in (0, 3, 5, 8, 10, 12):
        folder = tmp_path / f"{count}"
        folder.mkdir()
        (folder / "before.jsonl").write_bytes(b"".join(lines[:count]) + lines[count][:30])
        assert same(asked(noted, items, folder), whole)
        with Journal(folder) as journal:
            assert (len(journal), journal.torn) == (len(lines), 1)
        added = [file for file in folder.glob("*.jsonl") if file.name != "before.jsonl"]
        assert sorted(
            line for file in added for line in file.read_bytes().splitlines(keepends=True)
        ) == sorted(lines[count:])


def test_another_batch_size_or_order_gives_the_same_answers(
    media: dict[str, Media], tmp_path: Path, noted: Noted
) -> None:
    items = [*choose(media, "mood", DESCRIBE), *choose(media, "answer", None, OTHERS), *complete(media)]
    whole = asked(noted, items, tmp_path / "whole")
    for size in (1, 2, 100):
        found = asked(noted, items, tmp_path / str(size), rules=replace(RULES, batch_size=size))
        assert same(found, whole, atol=1e-4)
    backwards = asked(noted, items[::-1], tmp_path / "backwards")
    assert same(backwards[::-1], whole, atol=1e-4)
    # kept by one batch size, it is known to the other
    noted.calls = []
    assert same(asked(noted, items, tmp_path / "1", rules=RULES), whole, atol=1e-4)
    assert noted.calls == []


def variants(media: dict[str, Media]) -> Iterator[tuple[str, dict[str, Any], str]]:
    (item, *_) = choose(media, "mood", DESCRIBE)
    assert item.example.media is not None
    other = replace(item.example.media, sha256="ab" * 32)
    yield "weights", {"weights": "other"}, "write choose"
    yield "tokens", {"rules": replace(RULES, tokens=2)}, "write choose"
    yield "task", {"items": [replace(item, task="other")]}, "choose"
    yield "version", {"items": [replace(item, version=2)]}, "choose"
    yield "sample", {"items": [replace(item, sample="s9")]}, "choose"
    yield "prompt", {"items": [replace(item, example=replace(item.example, prompt="how"))]}, "choose"
    yield "labels", {"items": [replace(item, labels=LABELS[:3])]}, "choose"
    yield "order of labels", {"items": [replace(item, labels=LABELS[::-1])]}, "choose"
    yield "first question", {"items": [replace(item, first="Tell.")]}, "write choose"
    yield "no first question", {"items": [replace(item, first=None)]}, "choose"
    yield "media", {"items": [replace(item, example=replace(item.example, media=other))]}, "write choose"
    post, *_ = complete(media)
    yield "completion", {"items": [post]}, "write lose"
    yield (
        "its answer",
        {"items": [replace(post, example=replace(post.example, completion="a sky\nfear"))]},
        ("write lose"),
    )
    yield "its beginning", {"items": [replace(post, given="a")]}, "write lose"


def test_no_answer_is_given_to_another_question(
    media: dict[str, Media], tmp_path: Path, noted: Noted
) -> None:
    """But the right answer is no part of a choice."""
    first = choose(media, "mood", DESCRIBE)[:1]
    asked(noted, first, tmp_path)
    seen = set()
    for name, change, expected in variants(media):
        noted.calls = []
        usual: dict[str, Any] = {"items": first, "weights": "w", "rules": RULES} | change
        asked(noted, folder=tmp_path, **usual)
        assert " ".join(kind for kind, _ in noted.calls) == expected, name
        seen.add(name)
    assert len(seen) == 14
    noted.calls = []
    asked(noted, first, tmp_path)
    asked(noted, [replace(first[0], example=replace(first[0].example, completion="anger"))], tmp_path)
    assert noted.calls == []


def test_what_was_never_asked_is_not_read(media: dict[str, Media], tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, pytest.raises(ValueError, match="mood:s0 was not asked"):
        list(read("w", choose(media, "mood", None), RULES, journal))


# ---- batches -----------------------------------------------------------------------------------------------


def test_prompts_of_like_length_are_written_together(
    media: dict[str, Media], tmp_path: Path, noted: Noted
) -> None:
    lengths = [5, 1, 40, 2, 41, 6]
    items = [
        Ask("posts", 1, f"p{n}", Example(f"p{n}", "sky " * length, "joy", None))
        for n, length in enumerate(lengths)
    ]
    found = asked(noted, items, tmp_path, rules=replace(RULES, batch_size=6))
    noted.calls = []
    few = asked(noted, items, tmp_path / "few", rules=replace(RULES, batch_size=6))
    assert same(few, found)
    (written,) = [examples for kind, examples in noted.calls if kind == "write"]
    assert [example.id for example in written] == ["p1", "p3", "p0", "p5", "p2", "p4"]


def test_half_as_many_where_memory_does_not_hold_them(
    media: dict[str, Media],
    tmp_path: Path,
    noted: Noted,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    items = complete(media)
    whole = asked(noted, items, tmp_path / "whole")
    generate = noted.model.generate

    def small(examples: Sequence[Example], *, max_new_tokens: int) -> list[str]:
        if len(examples) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return generate(examples, max_new_tokens=max_new_tokens)

    monkeypatch.setattr(noted.model, "generate", small)
    assert same(asked(noted, items, tmp_path / "small"), whole, atol=1e-4)
    assert "memory does not hold 3 questions at a time: now 1" in caplog.text


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_one_question_too_large_is_named(
    media: dict[str, Media], tmp_path: Path, noted: Noted, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def never(examples: Sequence[Example], *, max_new_tokens: int) -> list[str]:
        raise error

    monkeypatch.setattr(noted.model, "generate", never)
    with pytest.raises(UserError, match="p2: memory does not hold this question"):
        asked(noted, complete(media)[2:], tmp_path)


def test_videos_of_unequal_frames_stand_in_batches_of_their_own(
    media: dict[str, Media], tmp_path: Path, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = media["clip"]
    shown = [clip.times_s, clip.times_s[:1], clip.times_s, clip.times_s[:1]]
    items = [
        Ask(
            "mood", 1, f"s{n}", Example(f"s{n}", "what", None, replace(clip, times_s=times)), LABELS, DESCRIBE
        )
        for n, times in enumerate(shown)
    ]
    monkeypatch.setattr(type(noted.model), "facts", replace(noted.model.facts, equal_frames=True))
    found = asked(noted, items, tmp_path, rules=replace(RULES, batch_size=4))
    assert len(found) == 4
    frames = [
        {len(example.media.times_s) for example in examples if example.media} for _, examples in noted.calls
    ]
    assert all(len(one) == 1 for one in frames)
    assert len(frames) == 4


def test_no_question_no_model(tmp_path: Path, noted: Noted) -> None:
    assert asked(noted, [], tmp_path / "none") == []
    assert noted.loads == 0
    assert not (tmp_path / "none").exists()


def test_several_processes_take_shares(
    media: dict[str, Media], tmp_path: Path, noted: Noted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each asks what falls to it, whoever was there before; together they ask everything once."""
    items = [*choose(media, "mood", DESCRIBE), *choose(media, "answer", None, OTHERS)]
    whole = asked(noted, items, tmp_path / "whole")
    rules = replace(RULES, batch_size=2)
    noted.calls = []
    for rank, size in itertools.chain([(1, 3), (2, 3)], [(0, 2), (1, 2)]):
        monkeypatch.setattr(answering, "_place", lambda place=(rank, size): place)
        fill(noted.load, "w", [Asks("asking", tuple(items))], rules, tmp_path / "shares")
    assert len(noted.of("choose")) == len(items)
    assert len(noted.of("write")) == 5
    monkeypatch.undo()
    with Journal(tmp_path / "shares") as journal:
        assert same(list(read("w", items, rules, journal)), whole, atol=1e-4)

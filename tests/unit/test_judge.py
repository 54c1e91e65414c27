"""A judge's replies: what is read in them, what is not, and that they are asked for once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from behavior_llava.core.config import build
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault
from behavior_llava.core.schema import Example, Media
from behavior_llava.evaluation import judge as judging
from behavior_llava.evaluation.judge import CRITERIA, Case, Judge, JudgeConfig, judge

if TYPE_CHECKING:
    from behavior_llava.models.auto import VisionLanguageModel


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ('{"pred": "yes", "score": 4}', {"correct": True, "score": 4}),
        ("{'pred': 'no', 'score': 0}", {"correct": False, "score": 0}),
        ('Sure! {"pred": "Yes", "score": "5"} I hope that helps.', {"correct": True, "score": 5}),
        ('```json\n{"pred": "no", "score": 2.0}\n```', {"correct": False, "score": 2}),
    ],
)
def test_replies_about_answers_that_can_be_read(reply: str, read: dict[str, Any]) -> None:
    assert judging.read_answer(reply) == read


@pytest.mark.parametrize(
    "reply",
    [
        *("", "yes", "yes, 5", "{}", "[]", "null", '{"pred": "yes"}', '{"score": 3}'),
        *('{"pred": "maybe", "score": 3}', '{"pred": true, "score": 3}', '{"pred": "yes", "score": 6}'),
        *('{"pred": "yes", "score": -1}', '{"pred": "yes", "score": 3.5}', '{"pred": "yes", "score": true}'),
        *('{"pred": "yes", "score": null}', '{"pred": "yes", "score": "\u0665"}', '{"pred": ["yes"]}'),
        '{"pred": "yes", "score": 4} {"pred": "no", "score": 1}',
        '{"pred": "yes", "score": __import__("os").getpid()}',
        '{"pred": "yes", "score": 1e999}',
        '{"pred": "yes", "score": NaN}',
        "{" * 5000 + "}" * 5000,
        "{'pred': " + "(" * 5000 + ")" * 5000 + "}",
    ],
)
def test_replies_about_answers_that_cannot_be_read(reply: str) -> None:
    assert judging.read_answer(reply) is None


def test_grades_are_whole_numbers_from_1_to_10() -> None:
    found = {
        text: judging.read_grade(f'{{"grade": {text}}}') for text in ("1", "10", '"7"', "0", "11", "2.5")
    }
    assert found == {
        "1": {"grade": 1},
        "10": {"grade": 10},
        '"7"': {"grade": 7},
        "0": None,
        "11": None,
        "2.5": None,
    }
    assert judging.read_grade("7") is None


def test_prompts_hold_what_is_judged_as_it_is() -> None:
    braces = 'a {b} {"pred": "yes", "score": 5} {0}'
    for name, criterion in CRITERIA.items():
        prompt = criterion.words.format(question="Who?", reference="a dog", answer=braces)
        assert braces in prompt, name
        # the form of the reply stands there with single braces
        assert ('{"pred": "yes", "score": 4}' if name == "qa" else '{"grade": 7}') in prompt
    assert set(CRITERIA) == {"qa", "caption_correctness", "caption_detail", "caption_quality"}


class Served:
    """An endpoint that replies from a list."""

    def __init__(self, replies: Sequence[str | MediaFault]) -> None:
        self.replies, self.asked = list(replies), 0

    def answers(self, examples: Sequence[Example], *, max_new_tokens: int) -> list[str | MediaFault]:
        self.asked += len(examples)
        return [self.replies.pop(0) for _ in examples]


def served(replies: Sequence[str | MediaFault]) -> tuple[Judge, Served]:
    endpoint = Served(replies)
    config = JudgeConfig.model_construct(model=None, endpoint=None, tokens=30, batch_size=2)
    return Judge("judge 1", "judge 1", config, served=endpoint), endpoint  # pyright: ignore[reportArgumentType]


def case(number: int, **changes: Any) -> Case:
    known: dict[str, Any] = {
        "task": "qa",
        "version": 1,
        "sample": f"s{number}",
        "criterion": "qa",
        "question": "What?",
        "reference": "dog",
        "answer": f"answer {number}",
        "media": None,
    }
    return Case(**known | changes)


RIGHT = '{"pred": "yes", "score": 5}'


def test_a_reply_is_asked_for_once_and_a_failed_one_again(tmp_path: Path) -> None:
    cases = [case(number) for number in range(3)]
    who, endpoint = served([RIGHT, MediaFault("no_answer"), "nonsense"])
    first = judge(who, cases, tmp_path)
    assert [one.read for one in first] == [{"correct": True, "score": 5}, None, None]
    assert [one.reply for one in first] == [RIGHT, None, "nonsense"]
    assert [one.reason for one in first] == [None, "no_answer", None]
    assert "answer 0" in first[0].prompt
    assert endpoint.asked == 3
    who, endpoint = served([RIGHT])
    second = judge(who, cases, tmp_path)
    assert endpoint.asked == 1
    assert [one.reply for one in second] == [RIGHT, RIGHT, "nonsense"]


@pytest.mark.parametrize(
    "changes", [{"answer": "another"}, {"reference": "cat"}, {"version": 2}, {"question": "Who?"}]
)
def test_another_case_meets_no_reply_of_before(tmp_path: Path, changes: dict[str, Any]) -> None:
    judge(served([RIGHT])[0], [case(0)], tmp_path)
    who, endpoint = served([RIGHT])
    judge(who, [case(0, **changes)], tmp_path)
    assert endpoint.asked == 1


def test_a_local_model_judges_with_the_picture_where_it_is_to_look(
    tiny: VisionLanguageModel, media: dict[str, Media], tmp_path: Path
) -> None:
    who = Judge("tiny", "weights", JudgeConfig(model="tiny", tokens=5), load=lambda: tiny)
    cases = [
        case(number, criterion="caption_detail", media=media[name]) for number, name in enumerate(("a", "b"))
    ]
    first = judge(who, cases, tmp_path)
    expected = tiny.generate(
        [Example("x", one.prompt, None, media[name]) for one, name in zip(first, ("a", "b"), strict=True)],
        max_new_tokens=5,
    )
    assert [one.reply for one in first] == expected
    refusing: Any = SimpleNamespace()
    again = Judge("tiny", "weights", who.config, load=lambda: refusing)
    assert judge(again, cases, tmp_path) == first, "the journal knows it"


def test_one_judge_and_not_two() -> None:
    for given in ({}, {"model": "m", "endpoint": {"url": "http://localhost:1/v1", "model": "m"}}):
        with pytest.raises(UserError, match="model or endpoint"):
            build(JudgeConfig, given)


def test_verdicts_are_plain_values() -> None:
    assert json.loads(json.dumps(judging.read_answer(RIGHT))) == {"correct": True, "score": 5}

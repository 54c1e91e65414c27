"""Answers from log-probabilities, by hand."""

from __future__ import annotations

import json
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior_llava.evaluation.deciding import NUMBERS, choices, numbers
from behavior_llava.evaluation.scoring import Scores

LABELS = ("joy", "great joy", "fear")
TOKENS = np.array([1, 2, 1])


def scores(*shares: float) -> Scores:
    return Scores(np.log(np.array(shares)), TOKENS)


def test_every_way_by_hand() -> None:
    """One question: joy 0.30, great joy 0.16, fear 0.24, which add up to 0.70.

    mean: ln 0.16 / 2 = ln 0.4, more than ln 0.3 and ln 0.24.
    content_free: 0.6, 0.1, 0.1 without content, so 0.5, 1.6 and 2.4 times as likely as that: fear.
    split: shares of two others are (0.5, 0.25, 0.25) and (0.1, 0.3, 0.6), on the average 0.3, 0.275, 0.425;
        0.30 / 0.3 = 1, 0.16 / 0.275 = 0.58, 0.24 / 0.425 = 0.56: joy.
    """
    found = choices(
        [LABELS],
        [scores(0.30, 0.16, 0.24)],
        {"content_free": [scores(0.6, 0.1, 0.1)], "split": [scores(0.4, 0.2, 0.2), scores(0.05, 0.15, 0.3)]},
    )
    assert {name: one[0][0] for name, one in found.items()} == {
        "sum": "joy",
        "mean": "great joy",
        "content_free": "fear",
        "split": "joy",
    }
    assert {name: one[0][1] for name, one in found.items()} == {
        "sum": f"joy ({0.30 / 0.70:.2f})",
        "mean": f"great joy ({0.4 / (0.3 + 0.4 + 0.24):.2f})",
        "content_free": f"fear ({2.4 / (0.5 + 1.6 + 2.4):.2f})",
        "split": f"joy ({1 / (1 + 0.16 / 0.275 + 0.24 / 0.425):.2f})",
    }


def test_a_prior_without_questions_gives_no_answers() -> None:
    found = choices([LABELS], [scores(0.3, 0.16, 0.24)], {"content_free": [], "split": []})
    assert list(found) == ["sum", "mean"]


def test_no_question_no_answer() -> None:
    assert choices([], [], {"split": [scores(0.3, 0.16, 0.24)]}) == {"sum": [], "mean": [], "split": []}
    assert numbers([]) == {"expectation": [], "argmax": []}


@given(
    rows=st.lists(st.tuples(*[st.floats(-3000, -1e-6)] * 3), min_size=1, max_size=5),
    bias=st.tuples(*[st.floats(-50, 50)] * 3),
)
def test_what_is_likely_anyway_makes_no_difference_once_it_is_taken_out(
    rows: list[tuple[float, ...]], bias: tuple[float, ...]
) -> None:
    """A label that became likelier by the same factor everywhere is chosen as often as before."""
    plain = [Scores(np.array(row), TOKENS) for row in rows]
    other = [Scores(np.array(row) + np.array(bias), TOKENS) for row in rows]
    nothing, bent = Scores(np.zeros(3), TOKENS), Scores(np.array(bias), TOKENS)
    before = choices([LABELS] * len(plain), plain, {"content_free": [nothing]})
    after = choices([LABELS] * len(other), other, {"content_free": [bent]})
    for row, (first, _), (second, _) in zip(rows, before["content_free"], after["content_free"], strict=True):
        by_label = dict(zip(LABELS, row, strict=True))
        assert by_label[first] == pytest.approx(by_label[second], abs=1e-6)
    assert [label for label, _ in before["content_free"]] == [label for label, _ in before["sum"]]


def peaks(*places: int) -> Scores:
    values = np.full(len(NUMBERS), -2000.0)
    values[list(places)] = -900.0
    return Scores(values, np.full(len(NUMBERS), 2))


@pytest.mark.parametrize(
    ("places", "expected", "likeliest"),
    [
        ([0], 0.0, 0.0),
        ([99], 1.0, 1.0),
        ([0, 99], 0.5, 0.0),
        ([33], 1 / 3, 1 / 3),
        ([10, 20], 15 / 99, 10 / 99),
    ],
)
def test_a_number_is_the_mean_or_the_likeliest(places: list[int], expected: float, likeliest: float) -> None:
    found = numbers([peaks(*places)])
    assert found["expectation"][0][0] == pytest.approx(expected)
    assert found["argmax"][0][0] == pytest.approx(likeliest)
    assert found["expectation"][0][1] == f"{100 * expected:.1f}"
    json.dumps(found)


def test_the_expectation_weighs_by_likelihood() -> None:
    values = np.full(len(NUMBERS), -1000.0)
    values[[0, 50, 99]] = [log(0.1) - 7, log(0.3) - 7, log(0.1) - 7]
    found = numbers([Scores(values, np.full(len(NUMBERS), 2))])
    assert found["expectation"][0][0] == pytest.approx((0.6 * 50 + 0.2 * 99) / 99)
    assert found["argmax"][0][0] == pytest.approx(50 / 99)

"""The order of training rows: fixed by the seed and the sizes, and by nothing else."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from behavior_llava.core.schema import Example, Media
from behavior_llava.training import base, mixture


def sequence(
    sizes: dict[str, int], ratio: dict[str, float], *, epochs: float = 1, seed: int = 0
) -> list[tuple[str, int]]:
    return mixture.interleave(mixture.order(sizes, ratio, epochs=epochs, seed=seed), seed=seed)


def test_an_epoch_shows_every_row_of_the_first_set_once() -> None:
    rows = [row for name, row in sequence({"a": 50, "b": 20}, {"a": 1, "b": 1}) if name == "a"]
    assert sorted(rows) == list(range(50))
    assert rows != list(range(50))


@pytest.mark.parametrize(("epochs", "wanted"), [(0.5, 10), (1, 20), (1.25, 25), (2, 40), (0.33, 7)])
def test_epochs_may_be_fractional(epochs: float, wanted: int) -> None:
    rows = Counter(row for _, row in sequence({"a": 20}, {"a": 3}, epochs=epochs))
    assert sum(rows.values()) == wanted
    assert max(rows.values()) - min(rows.get(row, 0) for row in range(20)) <= 1


@pytest.mark.parametrize(
    ("ratio", "wanted"),
    [({"a": 1, "b": 1}, 40), ({"a": 2, "b": 1}, 20), ({"a": 1, "b": 3}, 120), ({"a": 1, "b": 0}, 0)],
)
def test_the_ratio_is_one_of_rows_drawn(ratio: dict[str, float], wanted: int) -> None:
    drawn = Counter(name for name, _ in sequence({"a": 40, "b": 15}, ratio))
    assert drawn["a"] == 40
    assert drawn["b"] == wanted


def test_what_is_repeated_is_repeated_evenly_and_in_a_new_order() -> None:
    rows = dict(mixture.order({"a": 45, "b": 15}, {"a": 1, "b": 1}, epochs=1, seed=0))["b"]
    passes = [rows[:15].tolist(), rows[15:30].tolist(), rows[30:].tolist()]
    assert all(sorted(one) == list(range(15)) for one in passes)
    assert passes[0] != passes[1] != passes[2]


def test_every_stretch_holds_the_ratio() -> None:
    rows = sequence({"a": 300, "b": 100}, {"a": 3, "b": 1})
    for start in range(0, len(rows) - 40, 20):
        share = sum(name == "b" for name, _ in rows[start : start + 40])
        assert 7 <= share <= 13


def test_the_seed_decides_and_nothing_else() -> None:
    first = sequence({"a": 30, "b": 10}, {"a": 2, "b": 1}, seed=1)
    assert first == sequence({"a": 30, "b": 10}, {"a": 2, "b": 1}, seed=1)
    np.random.default_rng().random()
    assert first != sequence({"a": 30, "b": 10}, {"a": 2, "b": 1}, seed=2)


def test_an_empty_set_with_a_share_is_refused() -> None:
    with pytest.raises(ValueError, match="'b' is empty"):
        sequence({"a": 4, "b": 0}, {"a": 1, "b": 1})
    assert len(sequence({"a": 4, "b": 0}, {"a": 1, "b": 0})) == 4


# ---- steps -------------------------------------------------------------------------------------------------


def posts(words: str, count: int = 24) -> list[Example]:
    """Posts with one picture or three frames, and answers of an arm's own length."""
    media = [
        Media(f"{n}", "video" if n % 3 else "image", "", (0.1, 0.2, 0.3) * (n % 3)) for n in range(count)
    ]
    return [Example(f"{n}", "what?", f"{words} {'word ' * (n % 5)}", item) for n, item in enumerate(media)]


def steps(words: str, step_rows: int, seed: int = 0) -> list[list[Example]]:
    texts = [Example(f"i{n}", "word " * (n % 7), "x") for n in range(10)]
    data = {"behavior": posts(words), "base_text": texts}
    rows = base.ordered(
        data, {"behavior": 24.0, "base_text": 24.0}, epochs=1.5, seed=seed, step_rows=step_rows
    )
    assert len(rows) == 72
    return [rows[start : start + step_rows] for start in range(0, len(rows), step_rows)]


def ids(found: list[list[Example]]) -> list[list[str]]:
    return [sorted(row.id for row in step) for step in found]


def test_arms_of_equal_size_see_the_same_rows_in_the_same_steps() -> None:
    first = ids(steps("Likes: 12 and a long tale of what they wrote", 8))
    assert first == ids(steps("A sky.", 8))
    assert first != ids(steps("A sky.", 8, seed=1))
    drawn = Counter(name[0] == "i" for step in first for name in step)
    assert drawn[True] == drawn[False] == 36


@pytest.mark.parametrize("step_rows", [1, 3, 8, 100])
def test_rows_are_sorted_by_length_within_a_step_and_never_leave_it(step_rows: int) -> None:
    unsorted = [step[0].id for step in steps("A sky.", 1)]
    found = steps("A sky.", step_rows)
    places = range(0, len(unsorted), step_rows)
    assert ids(found) == [sorted(unsorted[start : start + step_rows]) for start in places]
    for step in found:
        lengths = [base._length(row) for row in step]
        assert lengths == sorted(lengths)
    if step_rows == 100:
        assert [row.id for row in found[0]] != unsorted

"""The order of training rows: fixed by the seed and the sizes, and by nothing else."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import groupby
from typing import Any

import numpy as np
import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Example, Media
from behavior_llava.training import base, mixture


def sequence(
    sizes: dict[str, int], ratio: dict[str, float], *, epochs: float = 1, seed: int = 0
) -> list[tuple[str, int]]:
    drawn = mixture.order(sizes, ratio, epochs=epochs, seed=seed)
    numbers, rows, _ = mixture.interleave(drawn, seed=seed)
    return [(drawn[number][0], int(row)) for number, row in zip(numbers, rows, strict=True)]


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
    with pytest.raises(UserError, match="'b' is empty"):
        sequence({"a": 4, "b": 0}, {"a": 1, "b": 1})
    assert len(sequence({"a": 4, "b": 0}, {"a": 1, "b": 0})) == 4


# ---- repeating ---------------------------------------------------------------------------------------------


def test_how_often_each_set_is_gone_through_is_told() -> None:
    sizes, ratio = {"a": 40, "b": 16, "c": 0}, {"a": 2, "b": 1, "c": 0}
    assert mixture.passes(sizes, ratio, epochs=1.5) == {"a": 1.5, "b": 30 / 16, "c": 0.0}
    drawn = dict(mixture.order(sizes, ratio, epochs=1.5, seed=0))
    assert [len(drawn[name]) for name in sizes] == [60, 30, 0]


@pytest.mark.parametrize(
    ("epochs", "small", "max_passes", "is_allowed"),
    [
        (1, 5, None, True),  # 16 times
        (1, 4, None, False),  # 20 times
        (1, 4, 20, True),
        (1, 80, 1, True),
        (1, 79, 1, False),
        # the first set's own epochs are never refused, nor as many of the others
        (20, 80, None, True),
        (20, 79, None, False),
    ],
)
def test_a_set_is_repeated_only_so_often(
    epochs: float, small: int, max_passes: float | None, is_allowed: bool
) -> None:
    sizes, ratio = {"a": 80, "b": small}, {"a": 1.0, "b": 1.0}

    def drawn() -> int:
        return len(mixture.order(sizes, ratio, epochs=epochs, seed=0, max_passes=max_passes)[1][1])

    if is_allowed:
        assert drawn() == 80 * epochs
        return
    with pytest.raises(UserError, match=rf"repeat the {small} rows of data set 'b' \d+\.\d times"):
        drawn()


# ---- the order is that of the naive version ----------------------------------------------------------------


def naive_order(
    sizes: dict[str, int], ratio: dict[str, float], *, epochs: float, seed: int
) -> list[tuple[str, int]]:
    """Every row in turn, and a sort of tuples: as it was before groups and arrays."""
    first = next(iter(sizes))
    total = round(sizes[first] * epochs)
    keys = []
    for number, (name, size) in enumerate(sizes.items()):
        wanted = round(total * ratio[name] / ratio[first])
        rng = np.random.default_rng((seed, number))
        rows: list[int] = []
        while len(rows) < wanted:
            rows += rng.permutation(size).tolist()
        moves = np.random.default_rng((seed, 1000 + number)).random(wanted)
        for place in range(wanted):
            keys.append(((place + moves[place]) / max(wanted, 1), number, name, rows[place]))
    return [(name, row) for _, _, name, row in sorted(keys)]


MIXTURES = [
    ({"a": 1}, {"a": 1.0}, 1.0),
    ({"a": 50, "b": 20}, {"a": 1.0, "b": 1.0}, 1.0),
    ({"a": 7, "b": 300, "c": 11}, {"a": 7.0, "b": 300.0, "c": 11.0}, 2.0),
    ({"a": 100, "b": 9, "c": 0}, {"a": 3.0, "b": 1.0, "c": 0.0}, 1.75),
    ({"a": 3, "b": 1}, {"a": 1.0, "b": 4.0}, 1.0),
    ({"a": 5, "b": 5}, {"a": 1.0, "b": 1.0}, 0.1),
]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("mix", MIXTURES)
def test_rows_without_siblings_come_as_in_the_naive_version(
    mix: tuple[dict[str, int], dict[str, float], float], seed: int
) -> None:
    sizes, ratio, epochs = mix
    expected = naive_order(sizes, ratio, epochs=epochs, seed=seed)
    assert sequence(sizes, ratio, epochs=epochs, seed=seed) == expected
    data = {
        name: [Example(f"{name}{n}", "word " * (n * 7 % 5), "x " * (n % 3)) for n in range(size)]
        for name, size in sizes.items()
    }
    for step_rows in (1, 4, 1000):
        found = base.ordered(data, ratio, epochs=epochs, seed=seed, step_rows=step_rows)
        rows = [data[name][number] for name, number in expected]
        parts = [rows[start : start + step_rows] for start in range(0, len(rows), step_rows)]
        assert list(found) == [row for step in parts for row in sorted(step, key=base._length)]
        assert found.passes == mixture.passes(sizes, ratio, epochs=epochs)


def test_rows_drawn_by_themselves_come_as_in_the_naive_version_whatever_they_show() -> None:
    sizes, ratio = {"a": 40, "b": 12}, {"a": 2.0, "b": 1.0}
    data = {
        name: [
            Example(f"{name}{n}", "word", "x", Media(f"{n % 5}", "image", f"{n % 5}")) for n in range(size)
        ]
        for name, size in sizes.items()
    }
    alone = base.ordered(data, ratio, epochs=1.5, seed=4, step_rows=1, together=False)
    expected = [data[name][number] for name, number in naive_order(sizes, ratio, epochs=1.5, seed=4)]
    assert list(alone) == expected
    assert list(base.ordered(data, ratio, epochs=1.5, seed=4, step_rows=1)) != expected


# ---- groups ------------------------------------------------------------------------------------------------

GROUPS = {"a": np.array([0, 1, 0, 2, 1, 0, 3, 4, 5, 4]), "b": np.array([0, 0, 0, 1])}


@pytest.mark.parametrize("epochs", [0.3, 1, 2, 2.5])
@pytest.mark.parametrize("seed", range(4))
def test_a_groups_rows_come_one_behind_the_other(epochs: float, seed: int) -> None:
    sizes, ratio = {"a": 10, "b": 4}, {"a": 1.0, "b": 1.0}
    drawn = mixture.order(sizes, ratio, epochs=epochs, seed=seed, groups=GROUPS)
    numbers, rows, units = mixture.interleave(drawn, seed=seed, groups=GROUPS)
    assert [len(found) for _, found in drawn] == [round(10 * epochs)] * 2
    for name, size in sizes.items():
        drawn_rows = dict(drawn)[name]
        for start in range(0, len(drawn_rows), size):
            whole = drawn_rows[start : start + size].tolist()
            assert len(set(whole)) == len(whole)
        counts = Counter(rows[numbers == list(sizes).index(name)].tolist())
        assert counts == Counter(drawn_rows.tolist())
    cut = 0
    for unit in range(units.max() + 1):
        where = np.flatnonzero(units == unit)
        (number,) = set(numbers[where])
        group_of = GROUPS[list(sizes)[number]]
        (group,) = set(group_of[rows[where]])
        assert where.tolist() == list(range(where[0], where[-1] + 1))
        whole = np.flatnonzero(group_of == group).tolist()
        cut += rows[where].tolist() != whole
        assert rows[where].tolist() == whole[: len(where)]
    # only the last of each set, where an epoch is left off
    assert cut <= 2


def test_rows_on_one_medium_share_steps_and_stay_together() -> None:
    media = [Media(f"{n}", "image", f"{n % 6}") for n in range(30)]
    rows = [Example(f"{n}", "word " * (n * 5 % 11), "x", item) for n, item in enumerate(media)]
    alone = [Example(f"t{n}", "word " * (n % 9), "x") for n in range(30)]
    data = {"media": rows, "text": alone}
    found = list(base.ordered(data, {"media": 1, "text": 1}, epochs=1, seed=3, step_rows=15))
    assert sorted(row.id for row in found) == sorted(row.id for row in (*rows, *alone))
    for start in range(0, 60, 15):
        step = found[start : start + 15]
        runs = [list(run) for _, run in groupby(step, key=lambda row: row.media and row.media.sha256)]
        shown = [run[0].media.sha256 for run in runs if run[0].media is not None]
        assert len(shown) == len(set(shown))
        # a picture's questions count together; text alone comes first
        lengths = [sum(base._length(row)[1] for row in run) for run in runs if run[0].media is not None]
        assert lengths == sorted(lengths)
        assert [row.media is not None for row in step] == sorted(row.media is not None for row in step)
    # six pictures of five questions each; those that a step's end cuts are in two
    steps = [
        {row.media.sha256 for row in found[at : at + 15] if row.media is not None} for at in range(0, 60, 15)
    ]
    assert sum(map(len, steps)) <= 6 + 3


def test_rows_are_looked_up_when_they_are_asked_for() -> None:
    class Counted(list[Example]):
        looked_up = 0

        def __getitem__(self, index: Any) -> Any:
            self.looked_up += 1
            return super().__getitem__(index)

    rows = Counted(Example(f"{n}", "a", "b") for n in range(9))
    few = [Example(f"x{n}", "a", "b") for n in range(2)]
    found = base.ordered({"rows": rows, "few": few}, {"rows": 3, "few": 2}, epochs=1, seed=0, step_rows=4)
    assert rows.looked_up == 0
    assert len(found) == 15
    assert found[2].id == list(found)[2].id
    assert found[-1] == found[14]
    assert found[1:4] == list(found)[1:4]
    with pytest.raises(IndexError):
        found[15]
    assert found.passes == {"rows": 1.0, "few": 3.0}
    assert [row.id for row in found.distinct()] == [row.id for row in (*rows, *few)]
    assert found.num_distinct == 11
    # workers of a loader get a copy
    found = base.ordered({"few": few}, {"few": 1}, epochs=3, seed=0, step_rows=4)
    assert list(pickle.loads(pickle.dumps(found))) == list(found)


def test_no_rows_have_an_order_too() -> None:
    assert list(base.ordered({"a": []}, {"a": 1}, epochs=1, seed=0, step_rows=4)) == []
    assert list(base.ordered({"a": posts("x", 1)}, {"a": 1}, epochs=0.1, seed=0, step_rows=4)) == []


def test_conversations_stay_apart_and_count_all_their_words() -> None:
    picture = Media("p", "image", "p")
    talk = Example("t", "a b", "c", picture, earlier=(("d e f", "g"), ("h", "i j")))
    assert base._length(talk) == (1, 10)
    group_of, pictures, words = base._measured(
        [talk, Example("s", "a", "b", picture), talk, Example("r", "a", "b", picture)], together=True
    )
    assert group_of.tolist() == [0, 1, 2, 1]
    assert pictures.tolist() == [1] * 4
    assert words.tolist() == [10, 2, 10, 2]


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

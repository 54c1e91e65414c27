"""Counts apart from exposure: hand-computed cases, a naive version, who may shape whom, and real likes."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from behavior_llava.core.schema import POSTS
from behavior_llava.data import exposure

DAY_S = 86400
BIT = float(np.log(2))  # a count of 2**k - 1 has a logarithm of k bits
SELECTED = pa.schema([*POSTS, ("split", pa.string())])
NOTHING = {"percentile": None, "percentile_within": None, "residual": None, "residual_within": None}

Rows = list[dict[str, Any]]


def post(name: str, likes: int | None = None, **fields: Any) -> dict[str, Any]:
    """A row of a train post of channel "a", half a day old when its likes were read."""
    age_s = fields.pop("age_s", DAY_S // 2)
    row = {"id": name, "source": "s", "media_kind": "image", "channel": "a", "num_likes": likes}
    times = {"created_utc": 1000, "retrieved_utc": None if age_s is None else 1000 + age_s}
    return row | times | {"split": "train"} | fields


def table(rows: Rows) -> daft.DataFrame:
    return daft.from_arrow(pa.Table.from_pylist(rows, schema=SELECTED))


def adjusted(posts: Rows | daft.DataFrame, min_posts: int = 3) -> dict[str, Any]:
    """Id -> count -> what `adjust` gives, after a look at its form."""
    given_posts = posts if isinstance(posts, daft.DataFrame) else table(posts)
    found = exposure.adjust(given_posts, exposure.Config(min_posts=min_posts))
    assert found.column_names == ["id", "adjusted"]
    arrow = found.to_arrow()
    entries = arrow["adjusted"].cast(POSTS.field("adjusted").type).to_pylist()
    names = arrow["id"].to_pylist()
    assert len(set(names)) == len(names) == given_posts.count_rows()
    told = {}
    for name, items in zip(names, entries, strict=True):
        assert items is None or [item["count"] for item in items] == sorted({item["count"] for item in items})
        assert items != []
        told[name] = items and {item.pop("count"): item for item in items}
    return told


def likes(posts: Rows, measure: str, min_posts: int = 3) -> dict[str, Any]:
    """Id -> (value, level) of the likes."""
    return {
        name: (found["num_likes"][measure], found["num_likes"][f"{measure}_within"])
        for name, found in adjusted(posts, min_posts).items()
    }


# ---- percentile, by hand -----------------------------------------------------------------------------------


def test_a_percentile_is_the_place_among_the_other_train_posts() -> None:
    rows = [post("one", 1), post("two", 2), post("also two", 2), post("five", 5)]
    rows += [post(f"heldout {number}", number, split="heldout") for number in (0, 2, 3, 9)]
    rows += [post("validation", 5, split="validation")]
    assert likes(rows, "percentile") == {
        "one": (0.0, "channel and age"),
        "two": (0.5, "channel and age"),  # 1 less and 1 equal of 3
        "also two": (0.5, "channel and age"),
        "five": (1.0, "channel and age"),
        "heldout 0": (0.0, "channel and age"),
        "heldout 2": (0.5, "channel and age"),  # 1 less and 2 equal of 4
        "heldout 3": (0.75, "channel and age"),
        "heldout 9": (1.0, "channel and age"),
        "validation": (0.875, "channel and age"),
    }


def test_where_too_few_are_comparable_it_backs_off_and_says_so() -> None:
    old = 40 * DAY_S
    rows = [post(f"a {number}", number) for number in (10, 20, 30)]
    rows += [post("b 5", 5, channel="b"), post("b 15", 15, channel="b"), post("c 35", 35, channel=None)]
    rows += [post("c 45", 45, channel=None, age_s=old)]
    asked = {
        "channel and age": post("1", 20, split="heldout"),
        "channel": post("2", 31, age_s=old, split="heldout"),
        "age": post("3", 15, channel="b", split="heldout"),
        "source": post("4", 30, channel="b", age_s=old, split="heldout"),
    }
    found = likes([*rows, *asked.values()], "percentile")
    assert [found[row["id"]] for row in asked.values()] == [
        (0.5, "channel and age"),  # among 10 20 30
        (1.0, "channel"),
        (2.5 / 6, "age"),  # among 5 10 15 20 30 35
        (4.5 / 7, "source"),
    ]
    assert found["b 5"] == (0.0, "age")
    assert found["c 35"] == (1.0, "age")  # of the 5 others
    assert found["c 45"] == (1.0, "source")


def test_posts_without_a_channel_are_a_channel() -> None:
    rows = [post(f"{number}", number, channel=None) for number in (1, 2, 3)] + [post("other", 0)]
    assert likes(rows, "percentile")["2"] == (0.5, "channel and age")


def test_sources_do_not_meet() -> None:
    rows = [post(f"{source}{number}", number, source=source) for source in "st" for number in (1, 2, 3)]
    rows += [post("t 9", 9, source="t", split="heldout"), post("u 9", 9, source="u", split="heldout")]
    found = adjusted(rows)
    assert found["s2"]["num_likes"]["percentile"] == 0.5
    assert found["t 9"]["num_likes"]["percentile"] == 1.0
    assert found["u 9"] == {"num_likes": NOTHING}


def test_a_source_with_too_few_train_posts_gives_entries_without_values() -> None:
    rows = [post("1", 1), post("2", 2), *(post(f"h{number}", 3, split="heldout") for number in range(9))]
    assert list(adjusted(rows).values()) == [{"num_likes": NOTHING}] * 11
    assert adjusted([*rows, post("3", 3)])["h0"]["num_likes"]["percentile"] == 2.5 / 3


def test_ages_fall_into_bands() -> None:
    edges = [days * DAY_S for days in (1, 2, 7, 30, 90, 365)]
    rows, expected = [], {}
    for place, edge in enumerate(edges):
        rows += [post(f"{place} {number}", number, channel=f"c{place}", age_s=edge) for number in range(3)]
        for name, age_s in (("at", edge), ("before", edge - 1), ("unknown", None), ("negative", -1)):
            rows.append(post(f"{place} {name}", 9, channel=f"c{place}", age_s=age_s, split="heldout"))
            expected[f"{place} {name}"] = "channel and age" if name == "at" else "channel"
    rows += [post(f"u{number}", number, channel="u", age_s=age) for number, age in enumerate((None, -1, -9))]
    expected |= {f"u{number}": "channel and age" for number in range(3)}
    rows += [post(f"z{number}", number, channel="z", age_s=age) for number, age in enumerate((0, 5, 86399))]
    expected |= {f"z{number}": "channel and age" for number in range(3)}
    found = {name: level for name, (_, level) in likes(rows, "percentile").items() if name in expected}
    assert found == expected
    assert len(found) == 30


# ---- residual, by hand -------------------------------------------------------------------------------------


def bits(posts: Rows, min_posts: int = 3) -> dict[str, Any]:
    """Id -> (residual in bits, level) of the likes."""
    return {
        name: (pytest.approx(value / BIT, abs=1e-9) if value is not None else None, level)
        for name, (value, level) in likes(posts, "residual", min_posts).items()
    }


def test_a_residual_is_what_the_other_train_posts_do_not_let_expect() -> None:
    rows = [post("1", 1), post("2", 3), post("3", 7), post("h", 15, split="heldout")]
    assert bits(rows) == {
        "1": (-1.5, "channel and age"),  # 1 bit, where 2 and 3 are expected
        "2": (0.0, "channel and age"),
        "3": (1.5, "channel and age"),
        "h": (2.0, "channel and age"),
    }


def two_channels(num_old: int) -> Rows:
    """Channel a: 1 bit, 3 when old. Channel b: 2 bits, and an old held-out post of 5."""
    rows = [post(f"a{number}", 1) for number in range(6)]
    rows += [post(f"o{number}", 7, age_s=400 * DAY_S) for number in range(num_old)]
    rows += [post(f"b{number}", 3, channel="b") for number in range(6)]
    return [*rows, post("h", 31, channel="b", age_s=400 * DAY_S, split="heldout")]


def test_the_step_between_ages_is_learned_from_other_channels() -> None:
    assert bits(two_channels(6))["h"] == (1.0, "channel and age")  # expected: 2 of b, 2 of the age


def test_a_step_that_rests_on_too_few_posts_is_not_used() -> None:
    # from 6 and 5 posts a step has a variance of 1/6 + 1/5, more than that of a mean of 3
    assert bits(two_channels(5))["h"] == (2.0, "age")  # expected: 3 of all old posts
    assert bits(two_channels(2))["h"] == (None, None)


def test_channels_that_share_no_age_say_nothing_of_each_other() -> None:
    rows = [post(f"a{number}", 1) for number in range(9)]
    rows += [post(f"b{number}", 7, channel="b", age_s=None) for number in range(9)]
    rows += [post("b young", 7, channel="b", split="heldout"), post("b", 3, channel="b", age_s=None)]
    found = bits(rows)
    assert found["b young"] == (2.0, "age")
    assert found["b"] == (-1.0, "channel and age")


def test_small_channels_have_one_effect_together() -> None:
    rows = [post(f"a{number}", 2**10 - 1) for number in range(9)]
    rows += [post(f"small {number}", 2**number - 1, channel=f"c{number}") for number in (1, 2, 6)]
    found = bits([*rows, post("new", 31, channel="new", split="heldout")])
    assert found["new"] == (2.0, "age")  # the mean of the small ones is 3, of all 8.25
    assert found["small 6"] == (4.5, "age")
    assert found["a0"] == (0.0, "channel and age")
    # two small ones are too few: the mean of the age it is
    found = bits([*rows[:-1], post("new", 2**12 - 1, channel="new", split="heldout")])
    assert found["new"] == (pytest.approx(12 - (90 + 3) / 11), "age")


def test_a_train_post_never_expects_itself() -> None:
    """Three posts whose age only they have: without the post itself their mean is of the two others."""
    rows = [post(f"a{number}", 1) for number in range(9)]
    rows += [post(f"b{number}", 2**number - 1, channel=f"b{number}", age_s=None) for number in (1, 2, 6)]
    found = bits(rows)
    assert found["b6"] == (4.5, "age")
    assert found["b1"] == (-3.0, "age")


def test_a_negative_score_has_a_logarithm_with_its_sign() -> None:
    rows = [post(str(number), score=number) for number in (-7, 0, 1, 3)]
    found = adjusted([*rows, post("h", score=-1, split="heldout")])
    assert [found[name]["score"]["percentile"] for name in ("-7", "h", "3")] == [0.0, 0.25, 1.0]
    expected = {"-7": -3 - 1, "0": 0 - 0, "h": -1 - 0}
    assert {name: found[name]["score"]["residual"] / BIT for name in expected} == pytest.approx(expected)


# ---- what counts -------------------------------------------------------------------------------------------


def kinds(*counts: int | None) -> Rows:
    return [{"kind": f"k{number}", "count": count} for number, count in enumerate(counts)]


def test_what_was_not_counted_has_no_entry() -> None:
    below = {name: -1 for name in ("num_likes", "num_views", "score", "num_comments")}
    rows = [
        post("all", 1, num_views=2, score=3, num_comments=4, shares=kinds(2, 3), reactions=kinds(6)),
        post("none"),
        post("below 0", shares=kinds(5, -1), reactions=kinds(-1), **below),
        post("not told", shares=kinds(5, None), reactions=kinds(None)),
        post("zero", 0, score=0, shares=[], reactions=kinds(0, 0)),
    ]
    found = adjusted(rows)
    assert {name: None if told is None else sorted(told) for name, told in found.items()} == {
        "all": sorted(exposure.EXPOSED),
        "none": None,
        "below 0": ["score"],
        "not told": None,
        "zero": ["num_likes", "reactions", "score", "shares"],
    }
    assert found["zero"]["shares"] == NOTHING


def test_kinds_are_summed() -> None:
    rows = [
        post("1", shares=kinds(9), reactions=kinds()),
        post("2", shares=kinds(4, 4, 4), reactions=kinds(1)),
        post("3", shares=kinds(5, 6), reactions=kinds(2)),
        post("4", shares=kinds(1), reactions=kinds(1)),
    ]
    found = adjusted(rows)
    assert [found[name]["shares"]["percentile"] for name in "1234"] == pytest.approx([1 / 3, 1, 2 / 3, 0])
    assert [found[name]["reactions"]["percentile"] for name in "1234"] == [0, 0.5, 1, 0.5]


def test_counts_beyond_floats_are_told_apart() -> None:
    rows = [post(str(number), 2**53 + number) for number in range(4)]
    assert [likes(rows, "percentile")[str(number)][0] for number in range(4)] == [0, 1 / 3, 2 / 3, 1]


def test_no_posts_give_no_rows() -> None:
    assert adjusted([]) == {}


def test_a_group_is_of_three_at_least() -> None:
    assert exposure.Config().min_posts == 20
    with pytest.raises(ValidationError, match="greater than or equal to 3"):
        exposure.Config(min_posts=2)
    with pytest.raises(ValidationError, match="Extra inputs"):
        exposure.Config.model_validate({"min_post": 5})


# ---- against the naive version -----------------------------------------------------------------------------


def band_of(row: dict[str, Any]) -> int:
    """-1 for an age that is not known."""
    if row["retrieved_utc"] is None or row["retrieved_utc"] < row["created_utc"]:
        return -1
    days = (row["retrieved_utc"] - row["created_utc"]) / DAY_S
    return sum(days >= edge for edge in (1, 2, 7, 30, 90, 365))


def naive_percentile(row: dict[str, Any], train: Rows, count: str, min_posts: int) -> tuple[Any, Any]:
    levels = {
        "channel and age": lambda item: (item["channel"], band_of(item)),
        "channel": lambda item: item["channel"],
        "age": band_of,
        "source": lambda _: 0,
    }
    for level, key in levels.items():
        group = [item for item in train if key(item) == key(row)]
        if len(group) >= min_posts:
            others = [item[count] for item in group if item is not row]
            less, equal = sum(x < row[count] for x in others), sum(x == row[count] for x in others)
            return (less + equal / 2) / len(others), level
    return None, None


def naive_residual(row: dict[str, Any], train: Rows, count: str, min_posts: int) -> tuple[Any, Any]:
    """A least squares fit for every post, without it."""

    def log(item: dict[str, Any]) -> float:
        return float(np.sign(item[count]) * np.log(abs(item[count]) + 1))

    sizes = Counter(item["channel"] for item in train)

    def effects(item: dict[str, Any]) -> np.ndarray:
        large = [channel for channel in sizes if sizes[channel] >= min_posts]
        group = large.index(item["channel"]) if item["channel"] in large else len(large)
        line = np.zeros(len(large) + 9)
        line[group] = line[len(large) + 2 + band_of(item)] = 1
        return line

    own = effects(row)
    same_group = sum(effects(item)[: len(own) - 8] @ own[: len(own) - 8] for item in train)
    same_band = [item for item in train if band_of(item) == band_of(row)]
    if same_group >= min_posts:
        lines = np.array([effects(item) for item in train])
        inverse = np.linalg.pinv(lines.T @ lines, rcond=1e-10)
        is_told = np.allclose(lines.T @ lines @ inverse @ own, own, atol=1e-7)
        if is_told and own @ inverse @ own - 1 / same_group <= (1 + 1e-6) / min_posts:
            others = [item for item in train if item is not row]
            fit, *_ = np.linalg.lstsq(
                np.array([effects(item) for item in others]),
                np.array([log(item) for item in others]),
                rcond=1e-10,
            )
            level = "channel and age" if sizes[row["channel"]] >= min_posts else "age"
            return log(row) - own @ fit, level
    if len(same_band) >= min_posts:
        return log(row) - np.mean([log(item) for item in same_band if item is not row]), "age"
    return None, None


def naive(rows: Rows, min_posts: int) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for row in rows:
        entries = {}
        for count in ("num_likes", "score"):
            if row[count] is None or (count == "num_likes" and row[count] < 0):
                continue
            train = [item for item in rows if item["source"] == row["source"] and item["split"] == "train"]
            train = [item for item in train if item[count] is not None]
            train = [item for item in train if count == "score" or item[count] >= 0]
            percentile, percentile_within = naive_percentile(row, train, count, min_posts)
            residual, residual_within = naive_residual(row, train, count, min_posts)
            entries[count] = {
                "percentile": percentile,
                "percentile_within": percentile_within,
                "residual": residual if residual is None else pytest.approx(residual, abs=1e-8),
                "residual_within": residual_within,
            }
        told[row["id"]] = entries or None
    return told


def random_posts(
    number: int, seed: int, channels: Sequence[str | None] = ("a", "b", "c", "d", None), sources: str = "st"
) -> Rows:
    rng = random.Random(seed)
    ages = [None, -5, 0, DAY_S - 1, DAY_S, 3 * DAY_S, 400 * DAY_S]
    few_ages = rng.sample(ages, rng.randint(1, len(ages)))
    return [
        post(
            f"p{place}",
            rng.choice([None, -1, 0, 1, 1, 2, 7, 30, 10**6]),
            source=rng.choice(sources),
            channel=rng.choice(channels[: rng.randint(1, len(channels))]),
            age_s=rng.choice(few_ages),
            split=rng.choice(["train", "train", "train", "validation", "heldout", None]),
            score=rng.choice([None, -40, -1, 0, 1, 5, 5, 900]),
        )
        for place in range(number)
    ]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 70), st.integers(0, 10**6), st.integers(3, 6))
def test_it_equals_the_naive_version(number: int, seed: int, min_posts: int) -> None:
    rows = random_posts(number, seed)
    assert adjusted(rows, min_posts) == naive(rows, min_posts)


def test_it_equals_the_naive_version_at_every_level() -> None:
    rows = random_posts(300, 1, channels=("a", "b", None, *(f"c{number}" for number in range(12))))
    rare = {"age_s": 10 * DAY_S, "score": 4}  # an age that few have
    rows += [post(f"rare {number}", number, channel=f"r{number % 2}", **rare) for number in range(4)]
    found = adjusted(rows, 6)
    assert found == naive(rows, 6)
    entries = [entry for told in found.values() if told for entry in told.values()]
    seen = {key: Counter(entry[f"{key}_within"] for entry in entries) for key in ("percentile", "residual")}
    assert set(seen["percentile"]) == {"channel and age", "channel", "age", "source"}
    assert set(seen["residual"]) == {"channel and age", "age", None}
    assert min(min(counts.values()) for counts in seen.values()) >= 3


# ---- who shapes whom ---------------------------------------------------------------------------------------


def test_no_held_out_post_shapes_another() -> None:
    rows = random_posts(300, 5)
    before = adjusted(rows)
    outside = [place for place, row in enumerate(rows) if row["split"] != "train"]
    assert len(outside) > 100
    for place in outside[:8]:
        changed = [dict(row) for row in rows]
        changed[place] |= {"num_likes": 12345, "score": -12345}
        after = adjusted(changed)
        name = rows[place]["id"]
        assert after.pop(name) != before[name]
        assert after == {other: told for other, told in before.items() if other != name}
    alone = adjusted([row for row in rows if row["split"] == "train"])
    assert alone == {name: before[name] for name in alone}
    assert len(alone) > 100
    # whereas a train post does
    train = next(row for row in rows if row["split"] == "train" and row["num_likes"] == 1)
    after = adjusted([row | {"num_likes": 10**9} if row is train else row for row in rows])
    assert sum(after[name] != before[name] for name in before) > 10


def test_neither_the_order_of_rows_nor_the_partitions_matter() -> None:
    rows = random_posts(800, 9, channels=[None, *(f"c{number}" for number in range(30))])
    expected = adjusted(rows, 4)
    for seed in range(3):
        shuffled = random.Random(seed).sample(rows, len(rows))
        parts = [table(shuffled[start : start + 97]) for start in range(0, len(rows), 97)]
        whole = parts[0]
        for part in parts[1:]:
            whole = whole.concat(part)
        assert adjusted(shuffled, 4) == expected
        assert adjusted(whole, 4) == expected


def test_a_channel_that_is_shown_ten_times_as_often_keeps_its_values() -> None:
    rng = np.random.default_rng(2)
    rows = [
        post(
            f"p{place}",
            int(rng.lognormal(12, 1)),
            channel=f"c{rng.integers(4)}",
            age_s=int(rng.choice([1, 3, 60])) * DAY_S,
            split=str(rng.choice(["train", "heldout"], p=[0.8, 0.2])),
        )
        for place in range(600)
    ]
    louder = [row | {"num_likes": row["num_likes"] * (10 if row["channel"] == "c1" else 1)} for row in rows]
    assert likes(louder, "percentile", 20) == likes(rows, "percentile", 20)
    before, after = (likes(each, "residual", 20) for each in (rows, louder))
    assert {level for _, level in before.values()} == {"channel and age"}
    assert max(abs(after[name][0] - before[name][0]) for name in before) < 1e-3


# ---- what it is for ----------------------------------------------------------------------------------------


def within(groups: Sequence[Any], left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's correlation within each group, averaged over the groups."""
    labels, x, y = np.array(groups), np.array(left), np.array(right)
    found = [stats.spearmanr(x[labels == group], y[labels == group]).statistic for group in set(groups)]
    return float(np.mean(found))


def test_appeal_shows_once_exposure_is_gone() -> None:
    """Counts are exposure (of channel and age) times appeal; exposure varies eight times as much."""
    rng = np.random.default_rng(4)
    number = 9000
    reach, days = rng.normal(0, 3, 40), np.array([0.5, 1.5, 4, 15, 60, 200, 1000])
    channel, age = rng.integers(0, 40, number), rng.integers(0, 7, number)
    appeal = rng.normal(0, 0.5, number)
    shown = np.exp(6 + reach[channel] + np.log(days[age]) / 2)
    counts = rng.poisson(shown * np.exp(appeal))
    splits = rng.choice(["train", "heldout"], number, p=[0.8, 0.2])
    rows = [
        post(
            f"p{place}",
            int(counts[place]),
            channel=f"c{channel[place]}",
            age_s=int(days[age[place]] * DAY_S),
            split=str(splits[place]),
        )
        for place in range(number)
    ]
    found = [told["num_likes"] for told in map(adjusted(rows, 20).get, [row["id"] for row in rows]) if told]
    assert len(found) == number
    heldout = splits == "heldout"

    def told(values: Any) -> float:
        return float(stats.spearmanr(np.asarray(values)[heldout], appeal[heldout]).statistic)

    assert abs(told(counts)) < 0.2
    assert told([entry["percentile"] for entry in found]) > 0.75
    assert told([entry["residual"] for entry in found]) > 0.9
    # and not by a number that fits train posts better than held-out ones
    residuals = np.array([entry["residual"] for entry in found])
    assert residuals[heldout].std() == pytest.approx(residuals[~heldout].std(), rel=0.1)
    assert abs(residuals[heldout].mean()) < 0.1


def test_real_likes_are_liking_within_a_source(shared: Path) -> None:
    path = shared / "behaviour" / "data" / "images_sophoappeal_tiles" / "behaviour.csv"
    with path.open(encoding="utf-8", newline="") as file:
        photos = list(csv.DictReader(file))
    assert len(photos) == 357
    rows = [
        post(
            photo["image"],
            int(photo["likes"]),
            num_views=int(photo["views"]),
            source=photo["source"],
            channel=None,
            age_s=None,
        )
        for photo in photos
    ]
    found = adjusted(rows, 20)
    # correlations are over those that the crowd has rated; all are compared with
    photos = [photo for photo in photos if photo["crowd_mos"]]
    assert len(photos) == 328
    sources = [photo["source"] for photo in photos]
    assert len(set(sources)) == 2
    liking = [float(photo["crowd_mos"]) for photo in photos]
    for measure in ("percentile", "residual"):
        values = [found[photo["image"]]["num_likes"][measure] for photo in photos]
        assert 0.40 < within(sources, values, liking) < 0.52
    # over all photos too, for what differs between sources is gone
    percentiles = [found[photo["image"]]["num_likes"]["percentile"] for photo in photos]
    assert 0.40 < stats.spearmanr(percentiles, liking).statistic < 0.52
    rates = [int(photo["likes"]) / int(photo["views"]) for photo in photos]
    assert abs(stats.spearmanr(rates, liking).statistic) < 0.12


@pytest.mark.slow
def test_ray_gives_the_same_values(tmp_path: Path) -> None:
    rows = random_posts(5000, 3, channels=[None, *(f"c{number}" for number in range(50))])
    for part in range(4):
        pq.write_table(
            pa.Table.from_pylist(rows[part::4], schema=SELECTED), tmp_path / f"posts_{part}.parquet"
        )
    script = "\n".join(
        [
            "import sys, daft, pyarrow.parquet as pq",
            "from behavior_llava.data import exposure",
            "posts = daft.read_parquet(sys.argv[1] + '/posts_*.parquet')",
            "found = exposure.adjust(posts, exposure.Config(min_posts=5)).sort('id').to_arrow()",
            "runner = daft.get_or_create_runner().name",
            "pq.write_table(found, f'{sys.argv[1]}/{runner}.parquet')",
        ]
    )
    for runner in ("native", "ray"):
        environment = os.environ | {"DAFT_RUNNER": runner, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        done = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-2000:]
    native, ray = (pq.read_table(tmp_path / f"{runner}.parquet") for runner in ("native", "ray"))
    assert native.num_rows == 5000
    assert native.equals(ray)


# ---- what comes out beside ---------------------------------------------------------------------------------


def test_columns_beside_stay_with_their_posts() -> None:
    rows = [
        post(
            f"p{number}", number, source="s" if number % 2 else "t", title=None if number % 3 else str(number)
        )
        for number in range(40)
    ]
    plain = adjusted(rows)
    found = exposure.adjust(
        table(rows), exposure.Config(min_posts=3), beside=("split", "title", "created_utc")
    )
    assert found.column_names == ["id", "split", "title", "created_utc", "adjusted"]
    out = {row["id"]: row for row in found.to_arrow().to_pylist()}
    assert len(out) == 40
    for row in rows:
        told = out[row["id"]]
        assert [told[name] for name in ("split", "title", "created_utc")] == ["train", row["title"], 1000]
        assert {item.pop("count"): item for item in told["adjusted"]} == plain[row["id"]]

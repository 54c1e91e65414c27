"""Splits: nothing that belongs together is torn, names decide, shares are met."""

from collections import Counter

import daft
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from behavior_llava.core import schema
from behavior_llava.data import splits


def assign(rows, **config):
    table = daft.from_arrow(pa.Table.from_pylist(rows, schema=schema.POSTS))
    result = splits.assign(table, splits.Config(**config))
    assert result.column_names == [*schema.POSTS.names, "split"]
    found = result.to_pydict()
    assert sorted(found["id"]) == sorted(row["id"] for row in rows)
    return dict(zip(found["id"], found["split"], strict=True))


def row(number, **fields):
    dhash = f"{(number + 1) * 0x9E3779B97F4A7C15 % 2**64:016x}"
    return {"id": f"p{number}", "media_kind": "image", "media_dhash": dhash, "created_utc": number} | fields


rows_of_posts = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from([None, "x", "y", "z"]), st.one_of(st.none(), st.integers(-9, 99))
    ),
    min_size=1,
    max_size=14,
).map(
    lambda items: [
        row(number, media_dhash=row(cluster)["media_dhash"], channel=channel, created_utc=time)
        for number, (cluster, channel, time) in enumerate(items)
    ]
)


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(rows_of_posts, st.sampled_from(["cluster", "channel", "time"]), st.integers(0, 3))
def test_nothing_is_torn_and_order_does_not_matter(rows, by, seed):
    config = {"by": by, "seed": seed, "train": 0.5, "validation": 0.25, "heldout": 0.25}
    found = assign(rows, **config)
    assert found == assign(rows[::-1], **config)
    assert set(found.values()) <= set(splits.SPLITS)
    clusters, channels = {}, {}
    for item in rows:
        clusters.setdefault(item["media_dhash"], set()).add(found[item["id"]])
        if item["channel"]:
            channels.setdefault(item["channel"], set()).add(found[item["id"]])
    assert all(len(group) == 1 for group in clusters.values())
    if by == "channel":
        assert all(len(group) == 1 for group in channels.values())


def test_shares_and_seeds():
    rows = [row(number) for number in range(2000)]
    first, again, other = assign(rows), assign(rows), assign(rows, seed=1)
    counts = Counter(first.values())
    assert counts["train"] == pytest.approx(1600, abs=60)
    assert counts["validation"] == pytest.approx(200, abs=50)
    assert first == again
    assert first != other


def test_a_post_keeps_its_split_when_others_come():
    few = assign([row(number) for number in range(50)])
    many = assign([row(number) for number in range(90)])
    assert {name: many[name] for name in few} == few


def test_the_newest_are_held_out():
    found = assign([row(number) for number in range(100)], by="time")
    assert [found[f"p{number}"] for number in (0, 79, 80, 89, 90, 99)] == [
        "train",
        "train",
        "validation",
        "validation",
        "heldout",
        "heldout",
    ]


def test_undated_posts_count_as_oldest():
    rows = [row(number) for number in range(10)] + [row(90, created_utc=None)]
    assert assign(rows, by="time")["p90"] == "train"
    assert set(assign([row(1, created_utc=None)], by="time").values()) == {"train"}


def test_channels_that_share_a_cluster_go_together():
    shared = row(0)["media_dhash"]
    rows = [row(number, channel=f"c{number // 4}") for number in range(400)]
    rows += [row(1000, media_dhash=shared, channel="c7"), row(1001, media_dhash=shared, channel=None)]
    found = assign(rows, by="channel")
    assert len({found["p0"], found["p3"], found["p28"], found["p31"], found["p1000"], found["p1001"]}) == 1
    assert len(set(found.values())) == 3


def test_shares_must_sum_to_one():
    with pytest.raises(ValidationError, match=r"sum to 1\.1, not 1"):
        splits.Config(train=0.9)

"""Clusters of near duplicates equal brute force, and the filter keeps the earliest."""

import daft
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core import schema
from behavior_llava.data import duplicates
from behavior_llava.data.filters import near_duplicate_media


def posts_table(rows):
    return daft.from_arrow(pa.Table.from_pylist(rows, schema=schema.POSTS))


def brute_force(rows, max_distance):
    """Connected groups of post ids by comparing every pair."""
    groups = {row["id"]: {row["id"]} for row in rows}
    for left in rows:
        for right in rows:
            same_file = left["media_sha256"] is not None and left["media_sha256"] == right["media_sha256"]
            near = False
            if left["media_dhash"] and right["media_dhash"] and left["media_kind"] == right["media_kind"]:
                near = (
                    int(left["media_dhash"], 16) ^ int(right["media_dhash"], 16)
                ).bit_count() <= max_distance
            if same_file or near:
                joined = groups[left["id"]] | groups[right["id"]]
                for name in joined:
                    groups[name] = joined
    return {frozenset(group) for group in groups.values()}


def clusters(rows, max_distance):
    found = duplicates.cluster(posts_table(rows), max_distance).to_pydict()
    groups = {}
    for name, group in zip(found["id"], found["cluster"], strict=True):
        groups.setdefault(group, set()).add(name)
    return {frozenset(group) for group in groups.values()}


flips = st.lists(st.integers(0, 63), max_size=6).map(lambda bits: sum(1 << bit for bit in set(bits)))
hashes = st.one_of(
    st.none(),
    st.builds(
        lambda base, flip: f"{base ^ flip:016x}", st.sampled_from([0, 2**64 - 1, 0x00FF00FF12345678]), flips
    ),
)
rows_of_posts = st.lists(
    st.tuples(
        hashes, st.sampled_from([None, "aa", "bb"]), st.sampled_from(["image", "video"]), st.integers(-5, 5)
    ),
    max_size=12,
).map(
    lambda items: [
        {"id": f"p{i}", "media_dhash": dhash, "media_sha256": sha, "media_kind": kind, "created_utc": time}
        for i, (dhash, sha, kind, time) in enumerate(items)
    ]
)


@settings(max_examples=25, deadline=None)
@given(rows_of_posts, st.integers(0, 6))
def test_clusters_equal_brute_force(rows, max_distance):
    assert clusters(rows, max_distance) == brute_force(rows, max_distance)


def test_recall_is_exact_at_every_distance():
    """Pairs at distance 0..8 around scattered bits: found exactly up to the limit."""
    rows = []
    for pair in range(200):
        base = (pair * 0x9E3779B97F4A7C15) % 2**64
        flip = sum(1 << ((pair * 7 + step * 11) % 64) for step in range(pair % 9))
        rows += [
            {
                "id": f"{pair}{side}",
                "media_kind": "image",
                "media_dhash": f"{value:016x}",
                "media_sha256": None,
            }
            for side, value in (("a", base), ("b", base ^ flip))
        ]
    assert clusters(rows, 4) == brute_force(rows, 4)


def test_the_earliest_stays_whatever_the_order():
    def row(name, time):
        return {"id": name, "media_kind": "image", "media_dhash": "0f" * 8, "created_utc": time}

    rows = [row("late", 50), row("b", -7), row("a", -7), row("undated", None), row("older than 1970", -3)]
    for order in (rows, rows[::-1]):
        params = near_duplicate_media.Params()
        measured = near_duplicate_media.measure(posts_table(order), posts_table([]), params).to_pydict()
        found = dict(zip(measured["id"], measured["duplicate_of"], strict=True))
        assert found == {"a": None, "b": "a", "late": "a", "undated": "a", "older than 1970": "a"}


def test_components():
    assert duplicates.components([("c", "b"), ("d", "e"), ("b", "a")]) == {
        "a": "a", "b": "a", "c": "a", "d": "d", "e": "d"
    }  # fmt: skip

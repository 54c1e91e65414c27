"""Filters measure the same whatever the order of the rows and however they are cut into partitions."""

import random
from functools import reduce

import daft
import pyarrow as pa
import pytest

from behavior_llava.core import discover, schema

FOUND = discover.find("data.filters", "FILTER")
HERE = [
    "category",
    "comments_disabled",
    "copied_comments",
    "dates",
    "few_views",
    "hosting",
    "language",
    "nsfw",
    "nsfw_comments",
    "placeholders",
    "short_comments",
    "too_few_comments",
    "young_label",
]
WORDS = "the old dog sees a big red house and der alte Hund sieht ein großes rotes Haus".split()


def world(seed):
    """Posts and comments with copies, shared files and texts in two languages; ids differ from the order."""
    draw = random.Random(seed)
    posts = [
        {
            "id": f"p{draw.random():.9f}",
            "media_kind": draw.choice(["image", "video"]),
            "channel": draw.choice(["pics", "Videos", "memes", None]),
            "title": " ".join(draw.choices(WORDS, k=draw.randrange(9))) or None,
            "media_url": draw.choice(["https://i.redd.it/", "https://youtu.be/"]) + str(draw.randrange(60)),
            "media_sha256": draw.choice(["aa", "bb", f"{draw.random()}", None]),
            "created_utc": draw.choice([None, draw.randrange(1_400_000_000, 1_700_000_000)]),
            "retrieved_utc": 1_600_000_000,
            "num_views": draw.choice([None, draw.randrange(20_000)]),
            "category": draw.choice([None, "Sports", "Music"]),
            "language": draw.choice([None, "en", "de"]),
            "comments_disabled": draw.choice([None, True, False]),
            "is_nsfw": draw.choice([None, True, False]),
        }
        for _ in range(120)
    ]
    comments = [
        {
            "post_id": draw.choice(posts)["id"],
            "id": f"c{draw.random():.9f}",
            "position": draw.choice([None, draw.randrange(20)]),
            "text": draw.choice(
                ["What a dog", "what a  dog", "porn", None, " ".join(draw.choices(WORDS, k=12))]
            ),
        }
        for _ in range(600)
    ]
    return posts, comments


def table(rows, columns, partitions):
    """The rows in as many partitions; Daft's native runner has no other way to make them."""
    parts = [
        daft.from_arrow(pa.Table.from_pylist(rows[start::partitions], schema=columns))
        for start in range(partitions)
    ]
    return reduce(daft.DataFrame.concat, parts)


def measured(name, posts, comments, partitions):
    declared = FOUND[name]
    params = declared.params()
    tables = [table(posts, schema.POSTS, partitions), table(comments, schema.COMMENTS, partitions)]
    own = tables[declared.table == "comments"]
    after = declared.measure(*tables, params)
    new = [column for column in after.column_names if column not in own.column_names]
    kept = declared.keep(params).fill_null(False)
    return after.select("id", *new, kept.alias("_keep")).sort("id").to_pydict()


@pytest.mark.parametrize("name", HERE)
def test_order_and_partitions_do_not_matter(name):
    posts, comments = world(1)
    expected = measured(name, posts, comments, 1)
    assert {True, False} == set(expected["_keep"])
    for seed in (2, 3):
        shuffled = [random.Random(seed).sample(rows, len(rows)) for rows in (posts, comments)]
        for partitions in (1, 3):
            assert measured(name, *shuffled, partitions) == expected


def test_all_the_filters_here_are_there():
    assert set(HERE) <= set(FOUND)


@pytest.mark.parametrize("name", HERE)
def test_what_measuring_is_said_to_depend_on_exists(name):
    declared = FOUND[name]
    assert set(declared.measured_with) <= set(declared.params.model_fields)
    looks = {
        "language": "thread",
        "too_few_comments": "thread",
        "copied_comments": "all",
        "placeholders": "all",
    }
    assert declared.looks_at == looks.get(name, "row")

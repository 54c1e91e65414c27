"""The funnel: counts add up, comments follow their posts, mistakes are named."""

import random
from dataclasses import dataclass, replace

import daft
import numpy as np
import pyarrow as pa
import pytest

from behavior_llava.core import discover, schema
from behavior_llava.core.errors import UserError
from behavior_llava.data import funnel
from behavior_llava.data.filters import repeated_comments


def post(name, **fields):
    base = {
        "id": name,
        "source": "table",
        "media_kind": "image",
        "author_kind": "person",
        "media_path": f"/m/{name}.jpg",
    }
    return base | fields


def comment(post_id, number, text="a fine picture", **fields):
    base = {
        "post_id": post_id,
        "id": f"{post_id}/{number}",
        "position": number,
        "text": text,
        "author_kind": "person",
    }
    return base | fields


@dataclass
class Result:
    posts: dict
    comments: dict
    survivors: list


def bucket(posts, comments):
    return (
        daft.from_arrow(pa.Table.from_pylist(posts, schema=schema.POSTS)),
        daft.from_arrow(pa.Table.from_pylist(comments, schema=schema.COMMENTS)),
    )


def run_in_buckets(buckets, filters, **options):
    with funnel.run(buckets, filters, **options) as found:
        return Result(
            found.posts.sort("id").to_pydict(), found.comments.sort("id").to_pydict(), found.survivors
        )


def run(posts, comments, filters, **options):
    return run_in_buckets([bucket(posts, comments)], filters, **options)


def ids(table):
    return sorted(table["id"])


POSTS = [
    post("a", media_dhash="00" * 8, created_utc=1),
    post("b", media_dhash="00" * 8, created_utc=2),
    post("c", media_dhash="ff" * 8, created_utc=3),
    post("bot", author_kind="bot"),
]
COMMENTS = [
    comment("a", 0),
    comment("b", 0, "I was there, too"),
    comment("b", 1, "short"),
    comment("c", 0),
    comment("bot", 0),
]
FILTERS = [
    ("bots", {}),
    ("near_duplicate_media", {}),
    ("short_comments", {"min_words": 3}),
    ("too_few_comments", {}),
]


def test_counts_and_pooling(tmp_path):
    result = run(POSTS, COMMENTS, FILTERS, dropped_dir=tmp_path)
    assert ids(result.posts) == ["a"]
    assert ids(result.comments) == ["a/0", "b/0"]
    assert set(result.comments["post_id"]) == {"a"}
    assert list(result.posts) == schema.POSTS.names
    assert list(result.comments) == schema.COMMENTS.names
    lines = [tuple(line.values()) for line in result.survivors]
    assert lines == [
        ("bots", "posts", 4, 3, 1, 0),
        ("bots", "comments", 5, 4, 1, 0),
        ("near_duplicate_media", "posts", 3, 2, 1, 1),
        ("near_duplicate_media", "comments", 4, 4, 0, 2),
        ("short_comments", "comments", 4, 3, 1, 0),
        ("too_few_comments", "posts", 2, 1, 1, 0),
        ("too_few_comments", "comments", 3, 2, 1, 0),
    ]
    assert list(result.survivors[0]) == ["filter", "table", "rows_in", "kept", "dropped", "pooled"]
    dropped = daft.read_parquet(str(tmp_path / "01_near_duplicate_media" / "posts" / "*.parquet")).to_pydict()
    assert (dropped["id"], dropped["duplicate_of"]) == (["b"], ["a"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "00_bots",
        "01_near_duplicate_media",
        "02_short_comments",
        "03_too_few_comments",
    ]


def test_all_filters_one_after_another():
    names = list(discover.find("data.filters", "FILTER"))
    result = run(POSTS, COMMENTS, [(name, {}) for name in names])
    assert {line["filter"] for line in result.survivors} == set(names)
    for line in result.survivors:
        assert line["rows_in"] == line["kept"] + line["dropped"]


def test_no_filters_and_nothing_at_all():
    assert run(POSTS, COMMENTS, []).survivors == []
    result = run([], [], FILTERS)
    assert (ids(result.posts), ids(result.comments)) == ([], [])


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(UserError, match=r"no filter called 'bot'.*did you mean 'bots'"):
        run(POSTS, COMMENTS, [("bot", {})])
    with pytest.raises(
        UserError, match=r"filters\.short_comments: no parameter 'min_word'; did you mean 'min_words'"
    ):
        run(POSTS, COMMENTS, [("short_comments", {"min_word": 3})])
    with pytest.raises(UserError, match=r"filters\.short_comments\.min_words: 'three' is refused"):
        run(POSTS, COMMENTS, [("short_comments", {"min_words": "three"})])


def test_tables_that_do_not_belong_together():
    with pytest.raises(
        UserError, match=r"posts: ids that are missing or stand more than once, such as \['a'\]"
    ):
        run([*POSTS, post("a")], COMMENTS, [])
    with pytest.raises(UserError, match=r"comments: ids that are missing or stand more than once"):
        run(POSTS, [*COMMENTS, comment("a", 0)], [])
    with pytest.raises(UserError, match="comments: 1 comments whose post is not there"):
        run(POSTS, [comment("nowhere", 0)], [])


def test_a_filter_that_loses_rows_is_found(monkeypatch):
    broken = discover.find("data.filters", "FILTER")["bots"]

    for measure in (
        lambda posts, comments, params: posts.with_column("seen", daft.lit(True)).limit(1),
        lambda posts, comments, params: posts.concat(posts).with_column("seen", daft.lit(True)),
    ):
        for looks_at in ("row", "thread", "all"):
            careless = schema.Filter(
                table="posts",
                params=broken.params,
                measure=measure,
                looks_at=looks_at,
                keep=lambda params: daft.col("seen"),
                examples=(),
            )
            monkeypatch.setattr(discover, "find", lambda package, constant: {"bots": careless})  # noqa: B023
            with pytest.raises(RuntimeError, match=r"filter 'bots': 4 rows in, [18] measured"):
                run(POSTS, COMMENTS, [("bots", {})])


def survivors_of_pairs(texts, max_similarity):
    comments = [comment("p", number, text, score=score) for number, (text, score) in enumerate(texts)]
    result = run([post("p")], comments, [("repeated_comments", {"max_similarity": max_similarity})])
    return ids(result.comments)


def test_repeated_comments_keep_the_best_liked():
    texts = [
        ("what a dog", None),
        ("what a dog", 3),
        ("what a dog", 3),
        ("nothing like it", 1),
        ("!!!", 0),
        ("!!!", 0),
    ]
    assert survivors_of_pairs(texts, 0.6) == ["p/1", "p/3", "p/4", "p/5"]
    assert len(survivors_of_pairs(texts, 1.0)) == 6


def test_repeated_comments_equal_scikit_learn():
    sklearn = pytest.importorskip("sklearn.feature_extraction.text")
    words = ["sea", "dog", "red", "sun", "old", "big", "cat", "sky"]
    threads = [
        [" ".join(words[(seed * 3 + row * step) % 8] for step in range(1, 6)) for row in range(12)]
        for seed in range(9)
    ]
    vectors = repeated_comments._vectors(threads)
    assert np.allclose(
        (vectors @ vectors.T).toarray(),
        block_diagonal([tfidf(sklearn, thread) for thread in threads]),
    )
    found = repeated_comments._stays_at(vectors).reshape(len(threads), -1)
    for place, threshold in enumerate(repeated_comments.THRESHOLDS):
        for thread, bits in zip(threads, found, strict=True):
            cosines, kept = tfidf(sklearn, thread), []
            for row in range(len(thread)):
                if max((cosines[row, other] for other in kept), default=0.0) <= threshold:
                    kept.append(row)
            assert [row for row, bit in enumerate(bits) if bit >> place & 1] == kept, threshold


def tfidf(sklearn, thread):
    rows = sklearn.TfidfVectorizer().fit_transform(thread)
    return np.minimum((rows @ rows.T).toarray(), 1.0)


def block_diagonal(squares):
    size = len(squares[0])
    whole = np.zeros((size * len(squares),) * 2)
    for place, square in enumerate(squares):
        whole[place * size : (place + 1) * size, place * size : (place + 1) * size] = square
    return whole


# ---- buckets, stored measures ------------------------------------------------------------------------------


def a_world(seed):
    """Posts of five looks, with comments that repeat each other, in three buckets and in one."""
    draw = random.Random(seed)
    words = ["sea", "dog", "red", "sun", "old", "big"]
    posts, comments = [], []
    for number in range(30):
        look = f"{draw.randrange(12):016x}"
        posts.append(
            post(
                f"p{number:02d}",
                media_dhash=look,
                created_utc=draw.randrange(9),
                author_kind=draw.choice(["person", "person", "bot"]),
            )
        )
        for place in range(draw.randrange(6)):
            text = " ".join(draw.choices(words, k=draw.randrange(1, 6)))
            comments.append(comment(f"p{number:02d}", place, text, score=draw.randrange(4)))

    def share(rows, key, part):
        return [row for row in rows if int(row[key][1:3]) % 3 == part]

    parts = [bucket(share(posts, "id", part), share(comments, "post_id", part)) for part in range(3)]
    return parts, bucket(posts, comments)


CHAIN = [
    ("short_comments", {"min_words": 2}),
    ("bots", {}),
    ("near_duplicate_media", {"max_distance": 0}),
    ("repeated_comments", {"max_similarity": 0.7}),
    ("too_few_comments", {}),
    ("near_duplicate_media", {"max_distance": 2}),
    ("too_few_comments", {"min_comments": 3}),
]


@pytest.mark.parametrize("seed", range(5))
def test_buckets_change_nothing(seed):
    parts, whole = a_world(seed)
    expected = run_in_buckets([whole], CHAIN)
    found = run_in_buckets(parts, CHAIN)
    assert found == expected
    assert any(line["pooled"] for line in expected.survivors)
    assert expected.posts["id"]


@pytest.mark.slow
def test_thresholds_are_tuned_on_stored_measures(tmp_path, monkeypatch):
    parts, whole = a_world(0)
    store = funnel.Store(tmp_path / "measures", "these posts")
    run_in_buckets(parts, CHAIN, store=store)
    loose = [(name, dict(params)) for name, params in CHAIN]
    loose[-1] = ("too_few_comments", {"min_comments": 1})
    loose[3] = ("repeated_comments", {"max_similarity": 0.9})
    expected = run_in_buckets([whole], loose)
    measured = []
    for name, declared in discover.find("data.filters", "FILTER").items():
        original = declared.measure

        def counted(*given, original=original, name=name):
            measured.append(name)
            return original(*given)

        monkeypatch.setitem(discover.find("data.filters", "FILTER"), name, replace(declared, measure=counted))
    assert run_in_buckets(parts, loose, store=store) == expected
    # no text is read again; what counts the comments that are left, and what looks at all, is asked anew
    assert set(measured) == {"too_few_comments", "near_duplicate_media"}
    assert not list((tmp_path / "measures").glob("left_*"))
    # other posts are other measures
    measured.clear()
    run_in_buckets(parts, loose, store=funnel.Store(tmp_path / "measures", "other posts"))
    assert "repeated_comments" in measured

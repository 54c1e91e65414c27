"""The funnel: counts add up, comments follow their posts, mistakes are named."""

import daft
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


def run(posts, comments, filters, **options):
    return funnel.run(
        daft.from_arrow(pa.Table.from_pylist(posts, schema=schema.POSTS)),
        daft.from_arrow(pa.Table.from_pylist(comments, schema=schema.COMMENTS)),
        filters,
        **options,
    )


def ids(table):
    return sorted(table.to_pydict()["id"])


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
    assert set(result.comments.to_pydict()["post_id"]) == {"a"}
    assert result.posts.column_names == schema.POSTS.names
    assert result.comments.column_names == schema.COMMENTS.names
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
    assert (result.posts.count_rows(), result.comments.count_rows()) == (0, 0)


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
    lossy = schema.Filter(
        table="posts",
        params=broken.params,
        measure=lambda posts, comments, params: posts.limit(1),
        keep=lambda params: daft.lit(True),
        examples=(),
    )
    monkeypatch.setattr(discover, "find", lambda package, constant: {"bots": lossy})
    with pytest.raises(RuntimeError, match="filter 'bots', posts: 4 rows in, 1 kept and 0 dropped"):
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
    expected = []
    for thread in threads:
        cosines = (lambda rows: (rows @ rows.T).toarray())(sklearn.TfidfVectorizer().fit_transform(thread))
        kept = []
        for row in range(len(thread)):
            highest = max((cosines[row, other] for other in kept), default=0.0)
            expected.append(highest)
            if highest <= 0.6:
                kept.append(row)
    found = repeated_comments._similarities(repeated_comments._vectors(threads), 0.6)
    assert found == pytest.approx(expected)

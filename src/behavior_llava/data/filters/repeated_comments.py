"""Comments that repeat a better-liked one under the same post, by the cosine of their TF-IDF vectors.

Source: https://arxiv.org/abs/2405.00942 (Reddit: above 0.6; YouTube: above 0.7). Each post is a corpus of its
own, weighted as scikit-learn does by default; all posts of a batch share one sparse matrix, so that no post
costs a call.

Whether a comment stays depends on which others do, so on the threshold. The measure is therefore the answer
for every threshold at once, a bit each: a comment falls at those at which some better-liked comment stands
and is closer. Another threshold needs no second look at the texts.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, cast

import daft
import numpy as np
from daft import DataType, Series, col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, field_validator
from scipy import sparse

from behavior_llava.core.schema import Filter

THRESHOLDS = np.round(np.arange(15, 51) * 0.02, 2)
"""0.30, 0.32, ..., 1.00: those that are measured; below 0.3 a shared "the" makes a repetition."""


class Params(BaseModel):
    """`max_similarity` keeps comments whose cosine with every kept, better-liked comment is that or less; one
    of 0.30, 0.32, ..., 1.00.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_similarity: float = 0.6

    @field_validator("max_similarity")
    @classmethod
    def _is_measured(cls, value: float) -> float:
        if round(value, 9) not in THRESHOLDS:
            raise ValueError("is measured at 0.30, 0.32, ..., 1.00")
        return round(value, 2)


_TOKEN = re.compile(r"\b\w\w+\b")
_ROWS, _CELLS = 2048, 20_000_000
"""Rows of the similarity matrix at a time, and cells at most: a post may have ten thousand comments."""

_MEASURED = DataType.list(DataType.struct({"id": DataType.string(), "stays_at": DataType.int64()}))
_ALL = np.int64((1 << len(THRESHOLDS)) - 1)


def _vectors(posts: list[list[str]]) -> sparse.csr_array:
    """One unit row a comment; a word has a column for every post it stands in, so posts never meet."""
    columns: dict[tuple[int, str], int] = {}
    counts: list[dict[int, int]] = []
    num_comments: list[int] = []  # of the column's post
    for index, texts in enumerate(posts):
        for text in texts:
            row: dict[int, int] = {}
            for token in _TOKEN.findall(text.lower()):
                column = columns.setdefault((index, token), len(columns))
                if column == len(num_comments):
                    num_comments.append(len(texts))
                row[column] = row.get(column, 0) + 1
            counts.append(row)
    indptr = np.cumsum([0, *(len(row) for row in counts)])
    indices = np.fromiter((column for row in counts for column in row), dtype=np.int64, count=int(indptr[-1]))
    data = np.fromiter(
        (count for row in counts for count in row.values()), dtype=np.float64, count=int(indptr[-1])
    )
    seen_in = np.bincount(indices, minlength=len(columns))
    idf = np.log((1 + np.asarray(num_comments, dtype=np.float64)) / (1 + seen_in)) + 1
    data *= idf[indices]
    rows = np.repeat(np.arange(len(counts)), np.diff(indptr))
    norms = np.sqrt(np.bincount(rows, weights=data**2, minlength=len(counts)))
    data /= norms[rows]
    return sparse.csr_array((data, indices, indptr), shape=(len(counts), max(len(columns), 1)))


def _stays_at(vectors: sparse.csr_array) -> np.ndarray:
    """For every row a bit for each threshold: no earlier row that stays at it is closer than it."""
    total = vectors.indptr.size - 1
    stays = np.full(total, _ALL)
    transposed = vectors.T.tocsr()
    step = max(1, min(_ROWS, _CELLS // max(total, 1)))
    for start in range(0, total, step):
        block = cast(Any, vectors[start : start + step] @ transposed)
        rows = np.repeat(np.arange(start, start + block.shape[0]), np.diff(block.indptr))
        is_rival = (block.indices < rows) & (block.data > THRESHOLDS[0])
        rows, others = rows[is_rival], block.indices[is_rival]
        cosines = np.minimum(block.data[is_rival], 1.0)  # rounding may lift it above 1
        closer = (np.int64(1) << np.searchsorted(THRESHOLDS, cosines).astype(np.int64)) - 1
        edges = np.flatnonzero(np.diff(rows, prepend=-1, append=-1))
        for first, last in pairwise(edges):
            falls = np.bitwise_or.reduce(stays[others[first:last]] & closer[first:last])
            stays[rows[first]] &= ~falls
    return stays


@daft.func.batch(return_dtype=_MEASURED)
def _measured(threads: Series) -> Any:
    """Comment id and bits for each post's comments, best-liked first, then in the source's order."""
    posts = [
        sorted(
            thread,
            key=lambda item: (
                item["score"] is None,
                -(item["score"] or 0),
                item["position"] or 0,
                item["id"],
            ),
        )
        for thread in threads.to_pylist()
    ]
    stays = _stays_at(_vectors([[item["text"] for item in post] for post in posts]))
    values = iter(stays.tolist())
    return [[{"id": item["id"], "stays_at": next(values)} for item in post] for post in posts]


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `stays_at`: bit k says whether the comment stays at THRESHOLDS[k]; null where there is no text."""
    thread = F.to_struct(col("id"), col("text"), col("score"), col("position"))
    threads = (
        comments.where(col("text").not_null()).groupby("post_id").agg(thread.list_agg().alias("_thread"))
    )
    measured = (
        threads.select(_measured(col("_thread")).alias("_measured"))
        .explode("_measured")
        .select(F.unnest(col("_measured")))
    )
    return comments.join(measured, on="id", how="left")


def keep(params: Params) -> daft.Expression:
    """What was not said before."""
    bit = 1 << int(np.searchsorted(THRESHOLDS, params.max_similarity))
    return (col("stays_at") & lit(bit)) != lit(0)


def _comment(name: str, text: str | None, score: int, position: int) -> dict[str, Any]:
    return {"post_id": name.split("/")[0], "id": name, "text": text, "score": score, "position": position}


FILTER = Filter(
    table="comments",
    params=Params,
    measure=measure,
    keep=keep,
    looks_at="thread",
    examples=(
        (
            [{"id": "p"}, {"id": "q"}],
            [
                _comment("p/1", "what a lovely dog", 1, 0),
                _comment("p/2", "What a lovely dog!", 9, 1),
                _comment("p/3", "where was this taken?", 1, 2),
                _comment("p/4", None, 1, 3),
                _comment("q/1", "what a lovely dog", 1, 0),
            ],
            ["p/2", "p/3", "q/1"],
        ),
    ),
)

"""Comments whose text stands under several posts: spam, slogans and copied jokes.

The paper has no such filter (repeated_comments looks within one post); it is what exact deduplication of a
text corpus does. Texts are equal when they differ only in upper and lower case or in blanks.

No text is held in memory, only two 64-bit hashes of it: among five million different texts, two agree in both
with a probability of 4e-26 (n**2 / 2**129).
"""

from __future__ import annotations

import daft
from daft import DataType, col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """How many copies are too many.

    Attributes:
        max_posts: keeps texts that stand under that many posts or fewer. 0 with `keep_first` leaves one
            comment of every text, under one post too.
        keep_first: of a text under more posts keep the first comment, in order of post id, position and id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_posts: int = Field(default=1, ge=0)
    keep_first: bool = True


_HASHES = ("_hash", "_other_hash")
_NO_POSITION = 2**31 - 1  # sorts last


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `posts_with_text` and `is_first`; null where there is no text."""
    text = F.strip(F.regexp_replace(F.lower(col("text")), r"\s+", " "))
    hashes = {
        name: F.when(col("text").not_null(), F.hash(text, seed=seed)).otherwise(None)
        for seed, name in enumerate(_HASHES)
    }
    position = F.lpad(col("position").fill_null(_NO_POSITION).cast(DataType.string()), 10, "0")
    # ids hold no control characters, so joined texts sort as their parts do
    order = F.concat(F.concat(F.concat(col("post_id"), lit("\x01")), position), col("id"))
    marked = comments.with_columns({**hashes, "_order": order})
    copies = (
        marked.where(col("text").not_null())
        .groupby(*_HASHES)
        .agg(col("post_id").count_distinct().alias("posts_with_text"), col("_order").min().alias("_first"))
    )
    joined = marked.join(copies, on=list(_HASHES), how="left")
    return joined.with_column("is_first", col("_order") == col("_first")).select(
        *comments.column_names, "posts_with_text", "is_first"
    )


def keep(params: Params) -> daft.Expression:
    """What few posts have, and of the rest the first."""
    return (col("posts_with_text") <= lit(params.max_posts)) | (col("is_first") & lit(params.keep_first))


def _comment(post_id: str, position: int, text: str | None) -> dict[str, object]:
    return {"post_id": post_id, "id": f"{post_id}/{position}", "position": position, "text": text}


FILTER = Filter(
    table="comments",
    params=Params,
    measure=measure,
    keep=keep,
    looks_at="all",
    examples=(
        (
            [{"id": "p"}, {"id": "q"}],
            [
                _comment("q", 0, "Check out  my channel"),
                _comment("p", 2, "check out my channel"),
                _comment("p", 10, "check out my channel "),
                _comment("p", 3, "what a dog"),
                _comment("p", 4, "what a dog"),
                _comment("q", 1, "nothing like it"),
                _comment("q", 2, None),
            ],
            ["p/2", "p/3", "p/4", "q/1"],
        ),
    ),
)

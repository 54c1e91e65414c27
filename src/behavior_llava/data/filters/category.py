"""Posts about what the paper leaves out: music, gaming, news, sports commentary, anime and memes.

Source: https://arxiv.org/abs/2405.00942 (YouTube), which does not say how they were told. Ours: by the
platform's category where it has one for the topic, else by words of the title or the channel. Of sports only
what such a word calls commentary or a match's highlights goes: the paper drops the talk and not the sport.
Descriptions and tags are not read: they name topics the video is not about, in order to be found. A post
without a category is judged by its words.
"""

from __future__ import annotations

from functools import reduce

import daft
from daft import col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.schema import Filter
from behavior_llava.data.word_list import whole_words

ANY = "any"

WORDS: dict[str, tuple[str, ...]] = {
    ANY: ("anime", "animes", "amv", "manga", "otaku", "meme", "memes", "dankmemes"),
    "Sports": (
        "commentary",
        "commentator",
        "commentators",
        "play by play",
        "highlights",
        "match analysis",
        "post match",
        "post game",
        "postgame",
        "press conference",
        "recap",
    ),
}


class Params(BaseModel):
    """What is dropped, in any case of letters.

    Attributes:
        categories: the platform's names, as in youtube_records.CATEGORIES.
        words: category -> words and phrases that tell a topic there; "any" for every category and none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    categories: tuple[str, ...] = ("Music", "Gaming", "News & Politics", "Anime/Animation")
    words: dict[str, tuple[str, ...]] = Field(default_factory=lambda: dict(WORDS))


def measure(posts: daft.DataFrame, comments: daft.DataFrame, params: Params) -> daft.DataFrame:
    """Adds `topic`, the category in lower case, "" for none; and `has_topic_word`."""
    topic = F.lower(col("category").fill_null(""))
    title, channel = col("title").fill_null(""), col("channel").fill_null("")
    found = lit(False)
    for category, words in sorted(params.words.items()):
        pattern = whole_words(words)
        told = F.regexp(title, pattern) | F.regexp(channel, pattern)
        found = found | (told if category.lower() == ANY else told & (topic == lit(category.lower())))
    return posts.with_columns({"topic": topic, "has_topic_word": found})


def keep(params: Params) -> daft.Expression:
    """Other topics, and none that is known."""
    dropped = reduce(
        lambda found, category: found | (col("topic") == lit(category.lower())),
        params.categories,
        col("has_topic_word"),
    )
    return ~dropped


FILTER = Filter(
    table="posts",
    params=Params,
    measure=measure,
    keep=keep,
    measured_with=("words",),
    examples=(
        (
            [
                {"id": "travel", "category": "Travel & Events", "title": "Hampi at dawn"},
                {"id": "unknown", "category": None, "title": None},
                {"id": "music", "category": "Music", "title": "Found you (audio)"},
                {"id": "news", "category": "news & politics", "title": "The week in review"},
                {"id": "sport", "category": "Sports", "title": "How I learned to surf"},
                {"id": "commentary", "category": "Sports", "title": "Match 3 with live Commentary"},
                {"id": "other highlights", "category": "Education", "title": "Highlights of the museum"},
                {"id": "anime", "category": "Film & Animation", "title": "Top 10 ANIME fights"},
                {"id": "animation", "category": "Film & Animation", "title": "Animated short: a lighthouse"},
                {"id": "memes", "category": "Comedy", "title": "Try not to laugh (memes)"},
                {"id": "memetics", "category": "Education", "title": "What memetics is"},
                {"id": "meme channel", "category": None, "channel": "memes", "title": "Monday again"},
            ],
            [],
            ["travel", "unknown", "sport", "other highlights", "animation", "memetics"],
        ),
    ),
)

"""Counts apart from exposure: a post's place among comparable posts, and how far it is above the expected.

In come the posts that are left with their splits, out goes `adjusted` of every post by id; the build calls it
once. What is comparable, and what was to be expected, is learned from the posts of split "train" alone, and
never from the post itself: a train post is compared with the others just as a held-out one is, so the numbers
of both mean the same. (Counted with itself, a train post among n would be drawn by 0.5/n towards the middle.)

Rows are handed to workers by source, so one source's narrow columns must fit into a worker's memory; the
driver holds none of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import daft
import numpy as np
import pyarrow as pa
import pyarrow.compute
from daft import DataType, Series, col, lit
from daft import functions as F
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csgraph

from behavior_llava.core.schema import POSTS

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

EXPOSED = ("num_likes", "num_views", "score", "num_comments", "shares", "reactions")
"""The counts that are adjusted; `shares` and `reactions` are the sums over their kinds."""

WITHIN = ("channel and age", "channel", "age", "source")
"""What a post is compared within, the narrowest group first."""
_NOTHING, _CHANNEL_AND_AGE, _AGE = -1, WITHIN.index("channel and age"), WITHIN.index("age")

_KEPT = "kept "
"""How the columns that come out as they are are called on the way."""

_DAY_S = 86400
_BAND_EDGES_S = _DAY_S * np.array([1, 2, 7, 30, 90, 365])
_UNKNOWN_AGE = len(_BAND_EDGES_S) + 1
_BANDS = _UNKNOWN_AGE + 1

_ADJUSTED = DataType.from_arrow_type(POSTS.field("adjusted").type)


class Config(BaseModel):
    """How counts are set apart from exposure.

    Attributes:
        min_posts: train posts a group needs to be compared with. At least 3: of fewer, nothing is sure to be
            left without the post itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_posts: int = Field(default=20, ge=3)


def adjust(posts: daft.DataFrame, config: Config, *, beside: Sequence[str] = ()) -> daft.DataFrame:
    """The posts' `id` and `adjusted`, a row each; null where a post has none of the counts.

    Every count a post has gives an entry, in order of name. A number below 0 is no count, except for `score`,
    and no sum is made where a kind is below 0 or null. No kinds at all sum to 0. Train posts are, for each
    count, those that have it.

    - percentile: (less + equal / 2) / n among the n other train posts of its source, channel and age band;
      where that group has, the post counted, fewer than `min_posts`, of its channel, else of its age band,
      else of its source, else null.
    - residual: log(count + 1), of a score below 0 -log(1 - score), minus what the source's other train posts
      let expect by least squares on an effect of the channel and one of the age band. Channels with fewer
      than `min_posts` train posts have one effect together, and then only the age is held equal. Where the
      posts cannot tell what the sum of the two effects is (see `_expect`), the mean of the age band is
      expected; null where that has fewer than `min_posts` train posts.

    Age is that of the label: below 1, 2, 7, 30, 90 or 365 days, more, or not known (also where the counts
    were read before the post was made). Posts without channel make up one channel.

    Args:
        posts: rows with id, source, channel, created_utc, retrieved_utc, split and the columns of EXPOSED.
        config: see Config.
        beside: further columns of the posts that come out as they are, so that nobody has to join them again.
    """
    kept = {name: posts.schema()[name].dtype for name in ("id", *beside)}
    narrow = posts.select(
        *(col(name).alias(f"{_KEPT}{name}") for name in kept),
        "source",
        "channel",
        (col("retrieved_utc").cast(DataType.float64()) - col("created_utc")).alias("age_s"),
        F.coalesce(col("split") == lit("train"), lit(False)).alias("is_train"),
        *(_counted(name) for name in EXPOSED),
    )
    rows = F.to_struct(*(col(name) for name in narrow.column_names if name != "source"))
    result = DataType.struct({**kept, "adjusted": _ADJUSTED})
    of_source = daft.func.batch(return_dtype=result)(_of_source)
    found = narrow.groupby("source").map_groups(of_source(rows, config.min_posts).alias("_found"))
    return found.select(F.unnest(col("_found")))


def _counted(name: str) -> daft.Expression:
    """A column of EXPOSED as an integer; null where nothing was counted."""
    if name == "score":
        return col(name)
    if name not in ("shares", "reactions"):
        return F.when(col(name) >= lit(0), col(name)).otherwise(lit(None)).alias(name)
    counts = F.list_map(col(name), F.get(daft.element(), "count"))
    are_counts = (F.list_count(counts, mode="null") == lit(0)) & (
        F.coalesce(F.list_min(counts), lit(0)) >= lit(0)
    )
    total = F.coalesce(F.list_sum(counts), lit(0))
    return F.when(are_counts, total).otherwise(lit(None)).alias(name)


# ---- one source --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Counted:
    """The posts of a source that have a count: aligned columns."""

    value: np.ndarray
    channel: np.ndarray
    band: np.ndarray
    is_train: np.ndarray


def _of_source(posts: Series, min_posts: int) -> Any:
    """What is kept and the entries of every post of one source."""
    table = posts.to_arrow()
    channel = _channel_codes(table.field("channel"))
    band = _bands(table.field("age_s").to_numpy(zero_copy_only=False))
    is_train = table.field("is_train").to_numpy(zero_copy_only=False)
    names = sorted(EXPOSED)
    shape = len(table), len(names)
    has_count = np.zeros(shape, dtype=bool)
    numbers = {key: np.full(shape, np.nan) for key in ("percentile", "residual")}
    levels = {key: np.full(shape, _NOTHING, dtype=np.int8) for key in numbers}
    for place, name in enumerate(names):
        count = table.field(name)
        has = count.is_valid().to_numpy(zero_copy_only=False)
        has_count[:, place] = has
        counted = _Counted(count.drop_null().to_numpy(), channel[has], band[has], is_train[has])
        for key, measure in (("percentile", _percentiles), ("residual", _residuals)):
            numbers[key][has, place], levels[key][has, place] = measure(counted, min_posts)
    columns: dict[str, pa.Array] = {"count": _words(np.nonzero(has_count)[1], names)}
    for key in numbers:
        level = levels[key][has_count]
        columns[key] = pa.array(numbers[key][has_count], mask=level == _NOTHING)
        columns[f"{key}_within"] = _words(level, WITHIN)
    entries = pa.StructArray.from_arrays(list(columns.values()), names=list(columns))
    per_post = has_count.sum(axis=1)
    ends = pa.array(np.concatenate([[0], np.cumsum(per_post)]))
    lists = pa.LargeListArray.from_arrays(ends, entries, mask=pa.array(per_post == 0))
    kept = [name for name in table.type.names if name.startswith(_KEPT)]
    return pa.StructArray.from_arrays(
        [*map(table.field, kept), lists], names=[*(name.removeprefix(_KEPT) for name in kept), "adjusted"]
    )


def _words(codes: np.ndarray, words: Sequence[str]) -> pa.Array:
    """Codes as the words they stand for; null for _NOTHING."""
    indices = pa.array(codes.astype(np.int8), mask=codes == _NOTHING)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.large_string())).dictionary_decode()


def _channel_codes(channels: pa.Array) -> np.ndarray:
    """A number for each channel, in order of their names and not of the rows: sums must not depend on it."""
    encoded = channels.dictionary_encode(null_encoding="encode")
    place = np.argsort(pc.sort_indices(encoded.dictionary).to_numpy())
    return place[encoded.indices.to_numpy()]


def _bands(age_s: np.ndarray) -> np.ndarray:
    """The age band of every label; NaN and ages below 0 are not known."""
    return np.where(age_s >= 0, np.searchsorted(_BAND_EDGES_S, age_s, side="right"), _UNKNOWN_AGE)


def _percentiles(posts: _Counted, min_posts: int) -> tuple[np.ndarray, np.ndarray]:
    """Each post's place among the other train posts, 0..1, and the level of WITHIN it was found at."""
    percentile = np.full(posts.value.shape, np.nan)
    level = np.full(posts.value.shape, _NOTHING)
    distinct, rank = np.unique(posts.value, return_inverse=True)
    groupings = (
        posts.channel * _BANDS + posts.band,
        posts.channel,
        posts.band,
        np.zeros_like(posts.channel),
    )
    for number, group in enumerate(groupings):
        num_train = np.bincount(group[posts.is_train], minlength=group.max(initial=0) + 1)
        rows = np.flatnonzero((level == _NOTHING) & (num_train[group] >= min_posts))
        # train posts in order of group and then of value: each group is a stretch of its own
        key = group * len(distinct) + rank
        reference = np.sort(key[posts.is_train])
        starts = np.cumsum(num_train) - num_train
        low = np.searchsorted(reference, key[rows], side="left")
        high = np.searchsorted(reference, key[rows], side="right")
        less, equal = low - starts[group[rows]], high - low - posts.is_train[rows]
        percentile[rows] = (less + equal / 2) / (num_train[group[rows]] - posts.is_train[rows])
        level[rows] = number
    return percentile, level


def _residuals(posts: _Counted, min_posts: int) -> tuple[np.ndarray, np.ndarray]:
    """How far each post's logarithm is above what the others let expect, and the level of WITHIN."""
    amount = np.sign(posts.value) * np.log1p(np.abs(posts.value.astype(np.float64)))
    num_train = np.bincount(posts.channel[posts.is_train], minlength=posts.channel.max(initial=0) + 1)
    is_large = num_train >= min_posts
    group = np.where(is_large, np.cumsum(is_large), 0)[posts.channel]
    cell = group * _BANDS + posts.band
    train = np.flatnonzero(posts.is_train)
    train = train[np.argsort(amount[train])]  # so that sums do not depend on the order of rows
    shape = int(is_large.sum()) + 1, _BANDS
    number = np.bincount(cell[train], minlength=shape[0] * shape[1])
    total = np.bincount(cell[train], weights=amount[train], minlength=number.size)
    expected, leverage, levels = _expect(
        number.reshape(shape).astype(np.float64), total.reshape(shape), min_posts
    )
    level = levels.ravel()[cell]
    # y - (what is expected without y) is the residual of the fit over 1 - leverage, for least squares
    share = np.where(posts.is_train & (level != _NOTHING), leverage.ravel()[cell], 0)
    return (amount - expected.ravel()[cell]) / (1 - share), level


def _expect(
    number: np.ndarray, total: np.ndarray, min_posts: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What is expected of every channel and age band, by least squares on the sum of their effects.

    The channels are eliminated from the normal equations, so what is solved has a row an age band. The sum of
    the two effects is used where the channel has `min_posts` posts and the step from its ages to this one is
    known as well as the mean of `min_posts` posts is: its variance, in units of one post's, is at most
    1 / min_posts. It is infinite where no chain of channels with common ages leads there. Elsewhere the mean
    of the age band is used.

    Args:
        number, total: train posts and the sum of their logarithms, (channels, bands); row 0 is all small
            channels.
        min_posts: see Config.

    Returns:
        expected; the leverage of one of the posts, 0..1; the level of WITHIN. All (channels, bands).
    """
    of_channel, of_band = number.sum(axis=1), number.sum(axis=0)
    # einsum throughout: it adds in one order whatever the number of threads
    mix = number / np.maximum(of_channel, 1)[:, None]
    normal = np.diag(of_band) - np.einsum("cb,cd->bd", mix, number)
    _, island = csgraph.connected_components(np.einsum("cb,cd->bd", number, number) > 0, directed=False)
    is_joined = island[:, None] == island
    # the ages of an island are known up to a constant: it is fixed by letting them sum to 0
    inverse = np.linalg.inv(normal + is_joined)
    age = np.einsum("bd,d->b", inverse, total.sum(axis=0) - np.einsum("cb,c->b", mix, total.sum(axis=1)))
    channel = (total.sum(axis=1) - np.einsum("cb,b->c", number, age)) / np.maximum(of_channel, 1)
    toward = np.einsum("cb,bd->cd", mix, inverse)
    step_variance = np.diag(inverse) - 2 * toward + np.einsum("cb,cb->c", toward, mix)[:, None]
    is_known = (
        (np.einsum("cb,bd->cd", number, is_joined) > 0)
        & (of_channel[:, None] >= min_posts)
        & (step_variance <= (1 + 1e-9) / min_posts)  # equal up to rounding is enough
    )
    expected = np.where(is_known, channel[:, None] + age, total.sum(axis=0) / np.maximum(of_band, 1))
    one = np.maximum(of_channel, 1)[:, None]
    leverage = np.where(is_known, 1 / one + step_variance, 1 / np.maximum(of_band, 1))
    level = np.where(is_known, _CHANNEL_AND_AGE, np.where(of_band >= min_posts, _AGE, _NOTHING))
    level[0, is_known[0]] = _AGE
    return expected, leverage, level

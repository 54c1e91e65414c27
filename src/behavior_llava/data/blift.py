"""Collected posts to BLIFT rows: filters, splits, what is seen, captions, and each arm's Examples.

`select` and `look` are the same for all arms and seeds; `captions` come from the seed's base model;
`arm_rows` says what one arm learns from. Every arm has the same posts in the same order; only what is asked
and said differs. Called by stages.py.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import groupby
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq
from daft import col, lit
from pydantic import Field

from behavior_llava.core import chunks
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import (
    COMMENTS,
    EXAMPLES,
    POSTS,
    Example,
    Post,
    example_from_row,
    example_row,
    post_from_row,
)
from behavior_llava.data import arms, duplicates, funnel, verbalizer
from behavior_llava.data.splits import Config as SplitConfig
from behavior_llava.data.splits import assign
from behavior_llava.data.verbalizer import Received, SceneWords, Template
from behavior_llava.data.viewing import View, Viewer
from behavior_llava.data.world import words

FilterList = tuple[str | dict[str, dict[str, Any]], ...]

_MEDIA: FilterList = ("media_missing", "unreadable_media", "placeholders", "near_duplicate_media")
_UNKNOWN_AGE: dict[str, dict[str, Any]] = {"young_label": {"keep_unknown": True}}

DEFAULT_FILTERS: dict[str, FilterList] = {
    "reddit": (
        "dates",
        "nsfw",
        "bots",
        "deleted",
        *_MEDIA,
        "deleted_comments",
        "bot_comments",
        "short_comments",
        {"repeated_comments": {"max_similarity": 0.6}},
        "too_few_comments",
        "too_long",
        "hosting",
        _UNKNOWN_AGE,
    ),
    "youtube": (
        {"dates": {"after": "2018-01-01", "before": "2024-01-01", "communities": {}}},
        "few_views",
        "category",
        "comments_disabled",
        "nsfw",
        "bots",
        "deleted",
        *_MEDIA,
        "deleted_comments",
        "bot_comments",
        {"short_comments": {"min_words": 4, "max_words": 100}},
        "nsfw_comments",
        {"repeated_comments": {"max_similarity": 0.7}},
        "too_few_comments",
        "too_long",
        "language",
        _UNKNOWN_AGE,
    ),
    "blift": _MEDIA[:-1],
    "table": _MEDIA,
}
"""Source: the paper's filters (paper.md, BLIFT 1-4 and YouTube), in its order as far as it gives one; cheap
ones stand before those that read all texts. Ours are the media files' own (missing, unreadable, placeholder)
and the age of the label, which drops those known to be too young: the API's listings tell no age. BLIFT was
filtered by its authors."""


class BuildConfig(Config):
    """From posts to rows.

    Attributes:
        filters: source -> filters in order, each a name or {name: {parameter: value}}; sources left out have
            the defaults.
        template: name of a template, or a YAML file.
        behaviors: the kinds that are said.
        max_scenes: of a video; caption_tokens: of one caption.
    """

    filters: dict[str, FilterList] = Field(default_factory=dict)
    splits: SplitConfig = SplitConfig()
    template: str = "short"
    behaviors: tuple[str, ...] = ("likes", "comments", "replay")
    max_scenes: int = Field(default=3, ge=1, le=64)
    caption_tokens: int = Field(default=40, gt=0)
    caption_batch: int = Field(default=128, gt=0)
    processes: int = Field(default=2, ge=1)
    timeout_s: float = 60.0


# ---- posts -------------------------------------------------------------------------------------------------


def select(config: BuildConfig, collected: Path, folder: Path, store: funnel.Store) -> dict[str, Any]:
    """Filters each source's posts, divides them, and writes what is left to posts/ and comments/ of `folder`:
    a pair of files a bucket, posts in order of id, comments in the order of their posts.

    Args:
        store: where the filters' measures are kept for the next time.

    Returns:
        For the manifest: rows in, kept, survivors by source, posts by split.

    Raises:
        UserError: unknown filter, or nothing is left.
    """
    files = sorted((collected / "posts").glob("*.parquet"))
    buckets = [
        (daft.read_parquet(str(file)), daft.read_parquet(str(collected / "comments" / file.name)))
        for file in files
    ]
    all_posts = reduce(daft.DataFrame.concat, [posts for posts, _ in buckets])
    counted = all_posts.groupby("source").agg(col("id").count().alias("posts")).sort("source").to_pydict()
    sources = counted["source"]
    unknown = sorted(set(config.filters) - set(sources))
    if unknown:
        raise UserError(
            f"filters are given for {', '.join(unknown)}, but posts came from {', '.join(sources)}",
            where="build.filters",
            remedy="name a source that is collected",
        )
    for kind in ("posts", "comments"):
        if (folder / kind).exists():
            shutil.rmtree(folder / kind)
        (folder / kind).mkdir()
    survivors, kept = {}, 0
    for source in sources:
        of_source = [
            _of_source(posts, comments, source) if len(sources) > 1 else (posts, comments)
            for posts, comments in buckets
        ]
        declared = [named_filter(entry) for entry in config.filters.get(source, filters_of(source))]
        with (
            progress(f"filtering {source}", len(of_source) * len(declared)) as advance,
            funnel.run(
                of_source,
                declared,
                dropped_dir=folder / "dropped" / source,
                store=funnel.Store(store.folder, f"{store.mark}/{source}"),
                done=partial(advance, 1),
            ) as result,
        ):
            survivors[source] = result.survivors
            for bucket in result.buckets:
                kept += _write(folder, f"{source}-{bucket.name}", bucket)
    told = {"rows_in": sum(counted["posts"]), "kept": kept, "survivors": survivors}
    if not kept:
        reasons = ", ".join(
            f"{row['filter']} {row['dropped']}"
            for rows in survivors.values()
            for row in rows
            if row["table"] == "posts" and row["dropped"]
        )
        # no posts is a finding about the data, not a fault: the stage ends well and says so
        return {**told, "splits": {}, "nothing_left": reasons}
    return {**told, "splits": _divide(folder / "posts", config.splits)}


def filters_of(source: str) -> FilterList:
    """The filters a source has by default; none for one that has no list of its own."""
    return DEFAULT_FILTERS.get(source, ())


def _of_source(
    posts: daft.DataFrame, comments: daft.DataFrame, source: str
) -> tuple[daft.DataFrame, daft.DataFrame]:
    own = posts.where(col("source") == lit(source))
    return own, comments.join(own.select(col("id").alias("post_id")), on="post_id", how="semi")


def _divide(folder: Path, config: SplitConfig) -> dict[str, int]:
    """Adds `split` and `cluster` to the posts' files; returns the posts by split."""
    narrow = ("id", "channel", "created_utc", "media_kind", "media_sha256", "media_dhash")
    files = sorted(folder.iterdir())
    posts = daft.read_parquet([str(file) for file in files]).select(*narrow)
    divided = duplicates.cluster(assign(posts, config), config.max_distance)
    places = divided.select("id", "split", "cluster").collect()
    for file in files:
        table = pq.read_table(file)
        rows = daft.from_arrow(table).join(places, on="id").sort("id")
        divided_rows = rows.to_arrow().cast(_SELECTED)
        if divided_rows.num_rows != table.num_rows:
            raise RuntimeError(f"{file.name}: {table.num_rows} posts, {divided_rows.num_rows} with a split")
        chunks.write_table(file, divided_rows)
    counts = places.groupby("split").agg(col("id").count().alias("posts")).to_pydict()
    return dict(sorted(zip(counts["split"], counts["posts"], strict=True)))


_SELECTED = pa.schema([*POSTS, ("split", pa.string()), ("cluster", pa.string())])


def named_filter(entry: str | dict[str, dict[str, Any]]) -> tuple[str, dict[str, Any]]:
    """A filter of the config as its name and its parameters."""
    if isinstance(entry, str):
        return entry, {}
    if len(entry) != 1:
        raise UserError(
            f"{entry!r} is not one filter",
            where="build.filters",
            remedy="write each filter as its own list entry",
        )
    return next(iter(entry.items()))


def _write(folder: Path, name: str, bucket: funnel.Bucket) -> int:
    """Writes what is left of a bucket; returns its posts."""
    posts = bucket.full_posts().sort("id").to_arrow().cast(POSTS)
    if posts.num_rows:
        comments = bucket.full_comments().sort(["post_id", "position", "id"]).to_arrow().cast(COMMENTS)
        chunks.write_table(folder / "comments" / f"{name}.parquet", comments)
        chunks.write_table(folder / "posts" / f"{name}.parquet", posts)
    return posts.num_rows


@dataclass(frozen=True, slots=True)
class Selected:
    """A kept post with its comments.

    Attributes:
        cluster: shared by near-duplicate media.
    """

    post: Post
    split: str
    cluster: str


def selected(folder: Path) -> Iterator[Selected]:
    """The kept posts in order, joined with their comments; one batch in memory at a time."""
    for file in sorted((folder / "posts").glob("*.parquet")):
        by_post = groupby(_rows(folder / "comments" / file.name), key=lambda row: row["post_id"])
        waiting = next(by_post, None)
        for row in _rows(file):
            own: list[dict[str, Any]] = []
            if waiting is not None and waiting[0] == row["id"]:
                own = list(waiting[1])
                waiting = next(by_post, None)
            yield Selected(post_from_row(row, own), row["split"], row["cluster"])
        if waiting is not None:
            raise RuntimeError(f"{file.name}: comments whose post is not there")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
        yield from batch.to_pylist()


def viewer(config: BuildConfig, run: Path) -> Viewer:
    """How every stage of a run looks at media."""
    return Viewer(
        run / "views",
        run / "frames",
        max_scenes=config.max_scenes,
        processes=config.processes,
        timeout_s=config.timeout_s,
    )


def seen(folder: Path, look: Viewer) -> Iterator[tuple[Selected, View | str | None]]:
    """The kept posts with what is seen of their media, or the reason nothing is."""
    items = [(item.post.media_path, item.post.media_kind) for item in selected(folder)]
    return zip(selected(folder), look.views(items, label="looking at posts"), strict=True)


# ---- captions ----------------------------------------------------------------------------------------------

CAPTIONS = pa.schema([("sha256", pa.string()), ("scene", pa.int32()), ("caption", pa.string())])


def caption(
    config: BuildConfig,
    template: Template,
    folder: Path,
    views: Sequence[View],
    generate: Callable[[list[Example]], list[str]],
) -> dict[str, int]:
    """Captions of every scene by a model, in chunks under `folder`.

    Args:
        generate: prompts with media to texts; the base model's.

    Returns:
        Scenes captioned, and those for which the model wrote nothing.
    """
    scenes = [
        (view, number, media)
        for view in {view.sha256: view for view in views}.values()
        for number, media in enumerate(view.frames())
    ]
    prompt = template.question.format(media="image")
    empty = 0

    def rows(chunk: list[tuple[View, int, Any]]) -> pa.Table:
        texts = generate(
            [Example(f"{view.sha256}:{number}", prompt, None, media) for view, number, media in chunk]
        )
        said = [
            {"sha256": view.sha256, "scene": number, "caption": _plain(text)}
            for (view, number, _), text in zip(chunk, texts, strict=True)
        ]
        return pa.Table.from_pylist(said, schema=CAPTIONS)

    with progress("captioning", len(scenes)) as advance:
        chunks.write(folder, scenes, rows, size=config.caption_batch, done=advance)
    empty = sum(not row["caption"] for row in chunks.stream(folder)) if scenes else 0
    return {"scenes": len(scenes), "empty": empty}


def _plain(text: str) -> str:
    """A caption as a clause: without the "Scene 1:" a model may begin with, one line, no final stop."""
    words = " ".join(text.split())
    return words.removeprefix("Scene 1:").strip().rstrip(".").strip()


def captions(folder: Path) -> dict[tuple[str, int], str]:
    """(media hash, scene number) -> caption."""
    return {(row["sha256"], row["scene"]): row["caption"] for row in chunks.stream(folder)}


# ---- arms --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A post ready to be said: its media, and its scenes in words."""

    item: Selected
    view: View
    scenes: tuple[SceneWords, ...]


def rows_of(
    folder: Path, look: Viewer, captioned: Mapping[tuple[str, int], str], split: str
) -> tuple[list[Row], Counter[str]]:
    """The posts of a split that can be said, and why the others cannot."""
    found, left_out = [], Counter[str]()
    for item, view in seen(folder, look):
        if item.split != split:
            continue
        if not isinstance(view, View):
            left_out[str(view)] += 1
            continue
        texts = [captioned.get((view.sha256, number), "") for number in range(len(view.scenes))]
        if not all(texts):
            left_out["no_caption"] += 1
            continue
        scenes = tuple(
            SceneWords(scene.start_s, scene.end_s, text, scene.colors)
            for scene, text in zip(view.scenes, texts, strict=True)
        )
        found.append(Row(item, view, scenes))
    return found, left_out


def heldout(
    template: Template, kinds: Sequence[str], rows: Sequence[Row]
) -> Iterator[tuple[Row, Example, str]]:
    """Held-out posts with a behavior: (row, question and true answer, the answer's part before the
    behavior).
    """
    for row in rows:
        said = verbalizer.verbalize(template, kinds, row.item.post, row.scenes)
        if said.behaviors:
            given = f"{verbalizer.describe(template, row.scenes)}\n{template.separator}\n"
            yield (
                row,
                Example(row.item.post.id, said.prompt, said.completion, row.view.media(), said.behaviors),
                given,
            )


def exchange(template: Template, kinds: Sequence[str], rows: Sequence[Row], *, seed: int) -> arms.Exchange:
    """Who receives whose behavior in the shuffled arm; posts without any behavior are excluded from every
    arm.
    """
    givers, silent = [], []
    for row in rows:
        stratum = arms.stratum(template, kinds, row.item.post, row.scenes)
        if stratum is None:
            silent.append(row.item.post.id)
        else:
            givers.append(arms.Giver(row.item.post.id, row.item.cluster, stratum))
    drawn = arms.donors(givers, seed)
    return replace(drawn, excluded=tuple(sorted((*drawn.excluded, *silent))))


def agreement(
    template: Template, kinds: Sequence[str], rows: Sequence[Row], drawn: arms.Exchange
) -> arms.Agreement:
    """What signal is left between posts and the behavior they received."""
    said = {
        row.item.post.id: verbalizer.say_behavior(template, kinds, row.item.post, row.scenes)[0]
        for row in rows
    }
    return arms.agreement((said[post], said[donor]) for post, donor in drawn.donors.items())


def truth_of(world: Path) -> dict[str, Any]:
    """What the sandbox knows about its posts, for the ceiling arm.

    Raises:
        UserError: the posts do not come from the sandbox.
    """
    try:
        return json.loads((world / "truth.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "the arm ceiling needs the sandbox's true labels",
            where="arms",
            remedy="leave ceiling out for real data",
        ) from None


def arm_examples(
    arm: arms.Arm,
    template: Template,
    kinds: Sequence[str],
    rows: Sequence[Row],
    drawn: arms.Exchange,
    *,
    truth: Mapping[str, Any],
    count: Callable[[str], int],
) -> Iterator[Example]:
    """What one arm learns: a row a post, in the same order for every arm.

    Args:
        kinds: all the run says; content_matched is drawn out to the length of their completion.
        count: tokens of a text.
    """
    by_id = {row.item.post.id: row for row in rows}
    excluded = set(drawn.excluded)
    for number, row in enumerate(rows):
        post = row.item.post
        if post.id in excluded:
            continue
        if arm.says == "truth":
            prompt, completion, said = *_true_label(truth[post.id], post, number), ()
        elif arm.is_matched:
            target = count(verbalizer.say(template, kinds, post, row.scenes)[0])
            prompt, completion, said = (
                verbalizer.ask(template, (), post),
                verbalizer.describe_more(template, row.scenes, target, count),
                (),
            )
        else:
            donor = by_id[drawn.donors[post.id]] if arm.says == "received" else None
            received = None if donor is None else Received(donor.item.post, donor.scenes)
            told = verbalizer.verbalize(template, arm.kinds, post, row.scenes, received)
            prompt, completion, said = told.prompt, told.completion, told.behaviors
        yield Example(post.id, prompt, completion, row.view.media(), tuple(said))


def _true_label(fact: Mapping[str, Any], post: Post, number: int) -> tuple[str, str]:
    if number % 3 == 2:
        return words.MEMORABILITY_QUESTION, f"{min(99, round(100 * fact['memorability'])):02d}"
    return words.EMOTION_QUESTION, fact["emotion" if post.media_kind == "image" else "ekman"]


def save(path: Path, examples: Iterator[Example]) -> int:
    """Writes rows as one Parquet file; returns their number."""
    rows = [example_row(example) for example in examples]
    chunks.write_table(path, pa.Table.from_pylist(rows, schema=EXAMPLES))
    return len(rows)


def load(path: Path) -> list[Example]:
    """The rows of a Parquet file, as Examples."""
    return [example_from_row(row) for row in pq.read_table(path).to_pylist()]

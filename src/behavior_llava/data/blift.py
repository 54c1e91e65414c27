"""Collected posts to BLIFT rows: filters, splits, what is seen, captions, and each arm's Examples.

`select` is the same for all arms and seeds; captions come from the seed's base model; `write_rows` keeps the
posts that can be said with them, which everything later reads one by one as `Rows`; `arm_examples` says what
one arm learns from. Every arm has the same posts in the same order; only what is asked and said differs.
Called by stages.py.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from itertools import groupby, islice
from pathlib import Path
from typing import Any, overload

import daft
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from daft import col, lit
from pydantic import Field, model_validator

from behavior_llava.core import parquet
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import (
    COMMENTS,
    EXAMPLES,
    POSTS,
    Example,
    MediaKind,
    Post,
    Value,
    comment_rows,
    example_from_row,
    example_row,
    post_from_row,
    post_row,
)
from behavior_llava.data import arms, describing, duplicates, funnel, publishing, scenes, verbalizer
from behavior_llava.data.behaviors import replay, retention
from behavior_llava.data.curves import CurveParams
from behavior_llava.data.exposure import EXPOSED, adjust
from behavior_llava.data.exposure import Config as ExposureConfig
from behavior_llava.data.scenes import SceneRule
from behavior_llava.data.splits import SPLITS, assign
from behavior_llava.data.splits import Config as SplitConfig
from behavior_llava.data.verbalizer import About, Received, SceneWords, Template
from behavior_llava.data.viewing import View, Viewer
from behavior_llava.data.world import words
from behavior_llava.models.remote import RemoteConfig
from behavior_llava.models.speech import Recognizer, SpeechConfig

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
    "salicon": _MEDIA[:-1],
    "memorability": _MEDIA[:-1],
}
"""Source: the paper's filters (paper.md, BLIFT 1-4 and YouTube), in its order as far as it gives one; cheap
ones stand before those that read all texts. Ours are the media files' own (missing, unreadable, placeholder)
and the age of the label, which drops those known to be too young: the API's listings tell no age. BLIFT was
filtered by its authors, and pictures shown in a laboratory were chosen by hand."""


class CaptionConfig(Config):
    """Who writes what a scene shows.

    Attributes:
        model: folder or hub name of an image-text-to-text model; None for the run's base, each seed's own.
        endpoint: a served one in its place.
        tokens, tag_tokens: of one caption, of one list of tags. batch: scenes at a time.
        tags: whether tags are asked for; None: where the template says tags and the writer was not trained on
            the spot, which has learned no tags.
        ask_tags: the question for them.
    """

    model: str | None = None
    endpoint: RemoteConfig | None = None
    tokens: int = Field(default=40, gt=0)
    tag_tokens: int = Field(default=40, gt=0)
    batch: int = Field(default=128, gt=0)
    tags: bool | None = None
    ask_tags: str = "List what this image shows as a few short tags, separated by commas."

    @model_validator(mode="after")
    def _one_writer(self) -> CaptionConfig:
        if self.model is not None and self.endpoint is not None:
            raise ValueError("give model or endpoint, not both")
        return self


class BuildConfig(Config):
    """From posts to rows.

    Attributes:
        filters: source -> filters in order, each a name or {name: {parameter: value}}; sources left out have
            the defaults.
        exposure: how counts are set apart from exposure.
        template: name of a template, or a YAML file.
        behaviors: the kinds that are said, each a name or {name: {parameter: value}}, e.g.
            {likes: {measure: percentile}}.
        scenes: what begins a new one in a video, see data/scenes.py. max_scenes: of a video.
        captions: who writes what they show. speech: who hears what is said in videos that come without
            subtitles; None for nobody.
        media: how the published data set holds its media, see data/publishing.py.
    """

    filters: dict[str, FilterList] = Field(default_factory=dict)
    splits: SplitConfig = SplitConfig()
    exposure: ExposureConfig = ExposureConfig()
    template: str = "short"
    behaviors: tuple[str | dict[str, dict[str, Any]], ...] = ("likes", "comments", "replay")
    scenes: SceneRule = "thirty_degrees"
    max_scenes: int = Field(default=3, ge=1, le=64)
    captions: CaptionConfig = CaptionConfig()
    speech: SpeechConfig | None = None
    media: publishing.MediaMode = "linked"
    processes: int = Field(default=2, ge=1)
    timeout_s: float = 60.0

    @model_validator(mode="after")
    def _says_each_once(self) -> BuildConfig:
        names = [named(entry, "build.behaviors")[0] for entry in self.behaviors]
        if not names or len(set(names)) < len(names):
            raise ValueError("behaviors: name at least one kind, and each once")
        return self

    @property
    def said(self) -> dict[str, dict[str, Any]]:
        """The kinds that are said, in order, with how they are measured."""
        return dict(named(entry, "build.behaviors") for entry in self.behaviors)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the kinds that are said."""
        return tuple(self.said)


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
        declared = [named(entry, "build.filters") for entry in config.filters.get(source, filters_of(source))]
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
    return {**told, "splits": _divide(folder / "posts", config)}


def filters_of(source: str) -> FilterList:
    """The filters a source has by default; none for one that has no list of its own."""
    return DEFAULT_FILTERS.get(source, ())


def _of_source(
    posts: daft.DataFrame, comments: daft.DataFrame, source: str
) -> tuple[daft.DataFrame, daft.DataFrame]:
    own = posts.where(col("source") == lit(source))
    return own, comments.join(own.select(col("id").alias("post_id")), on="post_id", how="semi")


def _divide(folder: Path, config: BuildConfig) -> dict[str, int]:
    """Adds `split`, `cluster` and `adjusted` to the posts' files; returns the posts by split.

    What is found of the posts is written down by file, so that each file meets its own part alone.
    """
    narrow = ("id", "channel", "created_utc", "media_kind", "media_sha256", "media_dhash")
    counted = ("source", "retrieved_utc", *EXPOSED)
    files = sorted(folder.iterdir())
    posts = reduce(
        daft.DataFrame.concat,
        [
            daft.read_parquet(str(file)).select(*narrow, *counted, lit(number).alias("_file"))
            for number, file in enumerate(files)
        ],
    )
    found = folder.with_name("found")
    if found.exists():
        shutil.rmtree(found)
    divided = assign(posts.select(*narrow), config.splits)
    divided = duplicates.cluster(divided, config.splits.max_distance)
    divided.select("id", "split", "cluster").write_parquet(str(found / "places"))
    places = daft.read_parquet(f"{found}/places/*.parquet")
    adjusted = adjust(posts.join(places, on="id"), config.exposure, beside=("split", "cluster", "_file"))
    adjusted.write_parquet(str(found / "adjusted"), partition_cols=["_file"])
    for number, file in enumerate(files):
        table = pq.read_table(file)
        own = daft.read_parquet(f"{found}/adjusted/_file={number}/*.parquet").exclude("_file")
        rows = daft.from_arrow(table.drop_columns(["adjusted"])).join(own, on="id").sort("id")
        divided_rows = rows.to_arrow().select(_SELECTED.names).cast(_SELECTED)
        if divided_rows.num_rows != table.num_rows:
            raise RuntimeError(f"{file.name}: {table.num_rows} posts, {divided_rows.num_rows} with a split")
        parquet.write_table(file, divided_rows)
    counts = places.groupby("split").agg(col("id").count().alias("posts")).to_pydict()
    shutil.rmtree(found)
    return dict(sorted(zip(counts["split"], counts["posts"], strict=True)))


_SELECTED = pa.schema([*POSTS, ("split", pa.string()), ("cluster", pa.string())])


def named(entry: str | dict[str, dict[str, Any]], where: str) -> tuple[str, dict[str, Any]]:
    """A filter or behavior of the config as its name and its parameters."""
    if isinstance(entry, str):
        return entry, {}
    if len(entry) != 1:
        raise UserError(f"{entry!r} is not one name", where=where, remedy="write each as its own list entry")
    return next(iter(entry.items()))


def _write(folder: Path, name: str, bucket: funnel.Bucket) -> int:
    """Writes what is left of a bucket; returns its posts."""
    posts = bucket.full_posts().sort("id").to_arrow().cast(POSTS)
    if posts.num_rows:
        comments = bucket.full_comments().sort(["post_id", "position", "id"]).to_arrow().cast(COMMENTS)
        parquet.write_table(folder / "comments" / f"{name}.parquet", comments)
        parquet.write_table(folder / "posts" / f"{name}.parquet", posts)
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
        run / "seen",
        run / "frames",
        max_scenes=config.max_scenes,
        processes=config.processes,
        timeout_s=config.timeout_s,
        rule=config.scenes,
    )


def seen(folder: Path, look: Viewer) -> Iterator[tuple[Selected, View | str | None]]:
    """The kept posts with what is seen of their media, or the reason nothing is."""
    items = ((item.post.media_path, item.post.media_kind) for item in selected(folder))
    return zip(selected(folder), look.views(items, label="looking at posts"), strict=True)


# ---- what is seen and heard, in words ----------------------------------------------------------------------


@dataclass(frozen=True)
class Describing:
    """Who describes the media of a run, and where what was said is kept.

    Attributes:
        path: of the cache's file.
        captions: who writes them. tags: None where nobody is asked for tags. ears: None where nobody listens.
    """

    path: Path
    captions: describing.Writer
    tags: describing.Writer | None = None
    ears: Recognizer | None = None

    def describe(self, folder: Path, look: Viewer, config: BuildConfig, posts: int) -> dict[str, Any]:
        """Has everything described that is not yet; the counts for a manifest."""
        told: dict[str, Any] = {}
        writers: dict[describing.What, describing.Writer | None] = {
            "captions": self.captions,
            "tags": self.tags,
        }
        for what, writer in writers.items():
            if writer is not None:
                views = (view for _, view in seen(folder, look) if isinstance(view, View))
                outcome = describing.describe(
                    self.path, views, writer, what=what, batch=config.captions.batch, total=posts
                )
                told[what] = asdict(outcome)
        if self.ears is not None:
            videos = (
                (view.path, view.sha256)
                for item, view in seen(folder, look)
                if isinstance(view, View) and view.kind == "video" and item.post.transcript is None
            )
            told["speech"] = asdict(describing.hear(self.path, videos, self.ears, processes=config.processes))
        return told


@dataclass(frozen=True, slots=True)
class Row:
    """A post ready to be said: its media, its scenes in words, and what else is told of them."""

    item: Selected
    view: View
    scenes: tuple[SceneWords, ...]
    about: About


ROWS_FORMAT = 1
"""Of the files of `write_rows`; to be raised when what is kept of a post changes."""

_Kept = tuple[
    dict[str, Any],
    list[dict[str, Any]],
    str,
    str,
    View,
    tuple[str, ...],
    tuple[tuple[str, ...], ...] | None,
]
"""Rows of POSTS and COMMENTS, split, cluster, what is seen of the media, and captions and tags by scene; no
tags where nobody was asked."""

_ROWS = pa.schema([("row", pa.binary())])
_BATCH = 1024


def rows_path(folder: Path, split: str) -> Path:
    """The file of `write_rows` with the posts of a split."""
    return folder / f"rows-{split}.arrow"


def write_rows(posts: Path, look: Viewer, described: Describing, folder: Path) -> dict[str, dict[str, int]]:
    """Writes the posts that can be said to `folder`, a file a split, in their order; a batch a split is in
    memory at a time.

    Args:
        posts: what `select` wrote.
        look: by what is seen of their media.
        described: by what that is in words.
        folder: gets the files; see Rows.

    Returns:
        Split -> reason -> posts that cannot be said.
    """
    left_out: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    encode = msgspec.msgpack.Encoder().encode
    with ExitStack() as stack:
        files = {split: stack.enter_context(_RowsFile(rows_path(folder, split))) for split in SPLITS}
        for item, view, texts, tagged in _described(posts, look, described, stack):
            if not isinstance(view, View):
                left_out[item.split][str(view)] += 1
            elif texts is None or not all(texts):
                left_out[item.split]["no_caption"] += 1
            else:
                post = post_row(item.post), comment_rows(item.post)
                files[item.split].add(encode((*post, item.split, item.cluster, view, texts, tagged)))
    return {split: dict(sorted(reasons.items())) for split, reasons in left_out.items() if reasons}


def _described(
    posts: Path, look: Viewer, described: Describing, stack: ExitStack
) -> Iterator[
    tuple[Selected, View | str | None, tuple[str | None, ...] | None, tuple[tuple[str, ...], ...] | None]
]:
    """The kept posts, what is seen of their media, its captions and its tags; speech is in the transcript."""
    captions = stack.enter_context(describing.remembered(described.path, "captions", described.captions))
    tags = ears = None
    if described.tags is not None:
        tags = stack.enter_context(describing.remembered(described.path, "tags", described.tags))
    if described.ears is not None:
        ears = stack.enter_context(describing.heard(described.path, described.ears))
    for item, view in seen(posts, look):
        if not isinstance(view, View):
            yield item, view, None, None
            continue
        if ears is not None and view.kind == "video" and item.post.transcript is None:
            speech = describing.speech_of(ears, view.sha256)
            item = replace(item, post=replace(item.post, transcript=speech))
        tagged = None if tags is None else describing.tags_of(tags, view)
        yield item, view, describing.captions_of(captions, view), tagged


class _RowsFile:
    """A file that Rows reads, while it is written; under its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_suffix(".part")
        self._waiting: list[bytes] = []

    def __enter__(self) -> _RowsFile:
        self._writer = pa.ipc.new_file(self._part, _ROWS)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write()
        self._writer.close()
        if kind is None:
            self._part.replace(self._path)

    def add(self, row: bytes) -> None:
        """Takes one encoded row."""
        self._waiting.append(row)
        if len(self._waiting) == _BATCH:
            self._write()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write_batch(pa.record_batch([pa.array(self._waiting, pa.binary())], schema=_ROWS))
        self._waiting = []


class Rows(Sequence[Row]):
    """The posts of a split that can be said, read where they lie: one row in memory at a time.

    Args:
        path: of a file of `write_rows`.
    """

    def __init__(self, path: Path) -> None:
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        last = self._file.num_record_batches - 1
        self._number = 0 if last < 0 else last * _BATCH + self._file.get_batch(last).num_rows
        self._decode = msgspec.msgpack.Decoder(_Kept).decode

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, place: Any) -> Any:
        batch, inside = divmod(range(self._number)[place], _BATCH)
        return self._row(self._file.get_batch(batch).column(0)[inside])

    def __iter__(self) -> Iterator[Row]:
        for number in range(self._file.num_record_batches):
            yield from map(self._row, self._file.get_batch(number).column(0))

    def _row(self, kept: pa.Scalar) -> Row:
        post, comments, split, cluster, view, texts, tagged = self._decode(kept.as_py())
        item = Selected(post_from_row(post, comments), split, cluster)
        return Row(item, view, scene_words(view, texts, tagged), about(view))


def scene_words(
    view: View, texts: Sequence[str | None], tagged: Sequence[tuple[str, ...]] | None
) -> tuple[SceneWords, ...]:
    """The scenes of a view with their captions and tags."""
    return tuple(
        SceneWords(scene.start_s, scene.end_s, text or "", scene.colors, tags)
        for scene, text, tags in zip(view.scenes, texts, tagged or [()] * len(view.scenes), strict=True)
    )


def about(view: View) -> About:
    """What is told of a view as a whole."""
    pace = None
    if view.duration_s is not None:
        pace = scenes.pace(view.num_cuts, view.duration_s)
    return About(scenes.orientation(view.width, view.height), pace)


# ---- arms --------------------------------------------------------------------------------------------------


def heldout(
    template: Template, kinds: Sequence[str], rows: Iterable[Row]
) -> Iterator[tuple[Row, Example, str]]:
    """Held-out posts with a behavior: (row, question and true answer, the answer's part before the
    behavior).
    """
    for row in rows:
        said = verbalizer.verbalize(template, kinds, row.item.post, row.scenes, about=row.about)
        if said.behaviors:
            given = f"{verbalizer.describe(template, row.scenes)}\n{template.separator}\n"
            yield (
                row,
                Example(row.item.post.id, said.prompt, said.completion, row.view.media(), said.behaviors),
                given,
            )


def span(template: Template, kinds: Sequence[str], kind: str, row: Row) -> tuple[str, str]:
    """What an answer of `heldout` says of behavior before the words of a kind, and up to their end."""
    place = kinds.index(kind)
    before, _ = verbalizer.say_behavior(template, kinds[:place], row.item.post, row.scenes)
    whole, _ = verbalizer.say_behavior(template, kinds[: place + 1], row.item.post, row.scenes)
    return f"{before}\n" if before else "", whole


def sayable(template: Template, kind: str, giver: Received) -> Value | None:
    """What a post's receivers did of a kind, as far as the template's words can say it: of a list only the
    items that are said, because an answer can name no more. Numbers are not rounded.
    """
    value = verbalizer.value_of(template, kind, giver)
    if value is None:
        return None
    behavior = verbalizer.behavior_of(kind, where=f"template {template.name}")
    said = behavior.read_back(behavior.say(value, template.words(kind))) or {}
    return {part: _cut(whole, said.get(part)) for part, whole in value.items()}


def _cut(whole: Any, said: Any) -> Any:
    if isinstance(said, Mapping):
        return {name: share for name, share in whole.items() if name in said}
    return whole[: len(said)] if isinstance(said, tuple) else whole


def samples(template: Template, kinds: Sequence[str], rows: Iterable[Row]) -> Iterator[publishing.Sample]:
    """What the published data set holds of the posts of one split: own behavior, its age, both forms of
    curves.
    """
    behaviors = {kind: verbalizer.behavior_of(kind, where="build.behaviors") for kind in kinds}
    for row in rows:
        post = row.item.post
        said = verbalizer.verbalize(template, kinds, post, row.scenes, about=row.about)
        ages = {kind: behaviors[kind].age_s for kind in said.behaviors}
        yield publishing.Sample(
            example=Example(post.id, said.prompt, said.completion, row.view.media(), said.behaviors),
            post=post,
            split=row.item.split,
            cluster=row.item.cluster,
            scenes=row.scenes,
            media_sha256=row.view.sha256,
            label_age_s={kind: age_s(post) for kind, age_s in ages.items() if age_s is not None},
            curves=_curves(post, row.scenes),
        )


def _curves(post: Post, scenes: Sequence[SceneWords]) -> dict[str, tuple[float, ...]]:
    """Means over the scenes with and without the start of the curve, whichever the template says."""
    spans = [(scene.start_s, scene.end_s) for scene in scenes]
    found: dict[str, tuple[float, ...]] = {}
    for kind, behavior in (("replay", replay.BEHAVIOR), ("retention", retention.BEHAVIOR)):
        for name, params in ((kind, CurveParams()), (f"{kind}_without_start", CurveParams(start="without"))):
            if (value := behavior.value(post, spans, params)) is not None:
                found[name] = value[kind]
    return found


def usual_question(
    template: Template, kinds: Sequence[str], rows: Iterable[Row], media_kind: MediaKind
) -> str:
    """What is asked most often of posts of this kind of media, without what is told of any one of them: the
    question for media that come without a post. All kinds where no row has such media.
    """
    empty = Post(id="", source="", media_kind=media_kind)
    asked: Counter[str] = Counter()
    for row in rows:
        giver = Received(row.item.post, row.scenes)
        said = [kind for kind in kinds if verbalizer.value_of(template, kind, giver) is not None]
        if row.item.post.media_kind == media_kind and said:
            asked[verbalizer.ask(template, said, empty, received=giver)] += 1
    if not asked:
        return verbalizer.ask(template, kinds, empty)
    return min(asked, key=lambda text: (-asked[text], text))


def exchange(template: Template, kinds: Sequence[str], rows: Iterable[Row], *, seed: int) -> arms.Exchange:
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
    place = {row.item.post.id: number for number, row in enumerate(rows)}

    def said(post: str) -> str:
        row = rows[place[post]]
        return verbalizer.say_behavior(template, kinds, row.item.post, row.scenes)[0]

    return arms.agreement(((said(post), said(donor)) for post, donor in drawn.donors.items()), kinds)


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
    place: dict[str, int] = {}
    if arm.says == "received":
        place = {row.item.post.id: number for number, row in enumerate(rows)}
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
                verbalizer.ask(template, (), post, row.about),
                verbalizer.describe_more(template, row.scenes, target, count),
                (),
            )
        else:
            donor = rows[place[drawn.donors[post.id]]] if arm.says == "received" else None
            received = None if donor is None else Received(donor.item.post, donor.scenes)
            said_kinds = arm.kinds_of(row.item.cluster)
            told = verbalizer.verbalize(template, said_kinds, post, row.scenes, received, row.about)
            prompt, completion, said = told.prompt, told.completion, told.behaviors
        yield Example(post.id, prompt, completion, row.view.media(), tuple(said))


def _true_label(fact: Mapping[str, Any], post: Post, number: int) -> tuple[str, str]:
    if number % 3 == 2:
        return words.MEMORABILITY_QUESTION, f"{min(99, round(100 * fact['memorability'])):02d}"
    return words.EMOTION_QUESTION, fact["emotion" if post.media_kind == "image" else "ekman"]


_SAVED = 8192


def save(path: Path, examples: Iterator[Example]) -> int:
    """Writes rows as one Parquet file, whole or not at all; returns their number."""
    number, part = 0, path.with_suffix(f".{os.getpid()}.part")
    with pq.ParquetWriter(part, EXAMPLES, compression="zstd") as writer:
        while rows := [example_row(example) for example in islice(examples, _SAVED)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=EXAMPLES))
            number += len(rows)
    part.replace(path)
    return number


def load(path: Path) -> Examples:
    """The rows of a file of `save`, read where they lie.

    Parquet gives up thousands of rows at a time or none, so they are unpacked once, into a file beside it.
    """
    state = path.stat()
    schema = EXAMPLES.with_metadata({"of": f"{state.st_size} bytes, {state.st_mtime_ns} ns"})
    unpacked = path.with_suffix(".arrow")
    if (
        not unpacked.exists()
        or pa.ipc.open_file(pa.memory_map(str(unpacked))).schema.metadata != schema.metadata
    ):
        part = unpacked.with_suffix(f".{os.getpid()}.part")
        with pa.ipc.new_file(part, schema) as writer:
            for rows in pq.ParquetFile(path).iter_batches(batch_size=_BATCH):
                writer.write_batch(pa.record_batch(rows.columns, schema=schema))
        part.replace(unpacked)
    return Examples(unpacked)


class Examples(Sequence[Example]):
    """The rows an arm learns, read where they lie: a row in memory at a time.

    A copy in another process reads the file too.

    Args:
        path: of the file that `load` unpacked.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = pa.ipc.open_file(pa.memory_map(str(path)))
        sizes = [self._file.get_batch(number).num_rows for number in range(self._file.num_record_batches)]
        self._ends = np.cumsum(sizes, dtype=np.int64)

    def __reduce__(self) -> tuple[type[Examples], tuple[Path]]:
        return Examples, (self._path,)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, place: int) -> Example: ...
    @overload
    def __getitem__(self, place: slice) -> list[Example]: ...
    def __getitem__(self, place: int | slice) -> Example | list[Example]:
        """The row at a place; a list of rows for a slice."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        number = range(len(self))[place]
        batch = int(np.searchsorted(self._ends, number, side="right"))
        inside = number - (int(self._ends[batch - 1]) if batch else 0)
        (row,) = self._file.get_batch(batch).slice(inside, 1).to_pylist()
        return example_from_row(row)

    def __iter__(self) -> Iterator[Example]:
        for number in range(self._file.num_record_batches):
            yield from map(example_from_row, self._file.get_batch(number).to_pylist())

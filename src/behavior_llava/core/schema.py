"""The nouns of the project and their Arrow schemas.

A `Post` is one media item with the behaviour its receivers left; sources make posts, everything later reads
them. An `Example` is a prompt, its completion and its media: a row of BLIFT and an evaluation question alike.
`Source`, `Filter`, `Behavior` and `Task` are declarations: a module in the matching folder builds one value,
and `discover.py` finds it by its file's name.

Missing is None (null in Arrow), never 0, never "".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import daft

P = TypeVar("P")

AuthorKind = Literal["person", "bot", "deleted"]
MediaKind = Literal["image", "video"]
Scoring = Literal["sum", "mean", "content_free", "split", "expectation", "argmax", "generate", "judge"]
"""How a model's answer is told; evaluation/deciding.py says how. `generate` reads what it wrote, and of that
`judge` is another model's opinion (evaluation/judge.py).
"""
Answers = Literal["choice", "number", "text"]
"""What answers a task: one of some labels, a number, or whatever the model writes."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A value per stretch of a video's time line.

    Attributes:
        start_s: start of every segment, in seconds, ascending.
        end_s: end of every segment, in seconds.
        values: replay is 0..1 with 1 the most replayed segment; retention is the share of viewers still there
            and may exceed 1 (people rewind).
    """

    start_s: tuple[float, ...]
    end_s: tuple[float, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.start_s) == len(self.end_s) == len(self.values):
            raise ValueError(
                f"curve of {len(self.start_s)}, {len(self.end_s)} and {len(self.values)} entries"
            )


@dataclass(frozen=True, slots=True)
class Adjusted:
    """A count apart from exposure: what is left of it where channel and age explain what they can.

    Attributes:
        percentile: 0..1, its place among comparable posts; null where too few are comparable.
        percentile_within: what was held equal: "channel and age", "channel", "age" or "source".
        residual: natural logarithm of count + 1, of a score below 0 -log(1 - score), minus what channel and
            age let expect of it, learned from the other train posts; null as above.
        residual_within: "channel and age" or "age".
    """

    percentile: float | None = None
    percentile_within: str | None = None
    residual: float | None = None
    residual_within: str | None = None


@dataclass(frozen=True, slots=True)
class Chapter:
    """A stretch of a video's time line that its maker named; times in seconds."""

    start_s: float
    end_s: float
    title: str | None


@dataclass(frozen=True, slots=True)
class Comment:
    """One thing a receiver wrote.

    Attributes:
        id: the platform's id; unique within the post.
        text: as written; null where it was deleted or removed.
        score: likes or score; null where the platform hides it.
        author_hash: salted hash of the author's name; names never pass the door.
        author_kind: decided by the source, while the name is still known.
        removed_by: "author", "moderator", ...; null where the comment stands.
        parent_id: the comment answered; null for a top-level comment.
        created_utc: seconds since 1970.
    """

    id: str
    text: str | None
    score: int | None = None
    author_hash: str | None = None
    author_kind: AuthorKind = "person"
    removed_by: str | None = None
    parent_id: str | None = None
    created_utc: int | None = None
    is_pinned: bool | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """One media item, its receivers' behaviour, its provenance.

    Attributes:
        id: "<platform>:<platform's id>", unique over all sources.
        source: name of the Source that made it.
        channel: subreddit or channel, as an id that names no person.
        media_url: where the media was; null for local logs.
        media_path: absolute path of the local file; null where there is none (counted as media_missing).
        score: up minus down votes; may be negative. Platforms with views have `num_likes` and `num_views`
            instead.
        upvote_ratio: 0..1.
        replay, retention: see Curve; null where the platform gives none.
        shares: service -> count. reactions: kind -> count.
        num_impressions: how often it was shown; num_views: how often it was opened.
        transcript: what is said in a video. chapters: as its maker named them; null where there are none.
        category: the platform's word for what it is about, e.g. "Gaming". language: as the platform claims,
            a code such as "en"; null where it claims none.
        comments_disabled: nobody could write; null where the platform does not say.
        saliency_tiles: share of all fixations in each tile of a 3x3 grid, row by row from the top left; sums
            to 1. saliency_objects: object -> share of the fixations in it.
        recall: share of viewers who knew it again, 0..1. recall_delay_s: how long after they had seen it.
        has_consent: the people concerned agreed; null where the source states nothing. is_opted_out: they, or
            the owner of the media, asked not to be used. Collect keeps neither a refusal nor an opt-out.
        adjusted: count -> what is left of it apart from exposure; null before build.
        retrieved_utc: when the counts were read; with created_utc it gives the age of the label.
        removed_by: null where the post stands.
        is_synthetic: True only for posts the sandbox made.
    """

    id: str
    source: str
    media_kind: MediaKind
    channel: str | None = None
    title: str | None = None
    description: str | None = None
    media_url: str | None = None
    media_path: str | None = None
    duration_s: float | None = None
    created_utc: int | None = None
    retrieved_utc: int | None = None
    score: int | None = None
    upvote_ratio: float | None = None
    num_likes: int | None = None
    num_views: int | None = None
    num_impressions: int | None = None
    num_comments: int | None = None
    replay: Curve | None = None
    retention: Curve | None = None
    shares: Mapping[str, int] | None = None
    reactions: Mapping[str, int] | None = None
    transcript: str | None = None
    chapters: tuple[Chapter, ...] | None = None
    category: str | None = None
    language: str | None = None
    comments_disabled: bool | None = None
    saliency_tiles: tuple[float, ...] | None = None
    saliency_objects: Mapping[str, float] | None = None
    recall: float | None = None
    recall_delay_s: float | None = None
    has_consent: bool | None = None
    is_opted_out: bool | None = None
    adjusted: Mapping[str, Adjusted] | None = None
    is_nsfw: bool | None = None
    author_hash: str | None = None
    author_kind: AuthorKind = "person"
    removed_by: str | None = None
    licence: str | None = None
    is_synthetic: bool = False
    comments: tuple[Comment, ...] = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """A record or file that could not be read: never a post, always counted.

    Attributes:
        reason: a short fixed word, the key of the count, e.g. "json_broken".
        where: file and line or row id; names no person.
    """

    reason: str
    where: str


@dataclass(frozen=True, slots=True)
class Said:
    """A comment that is not read together with its post, as in dumps; collect joins the two."""

    post_id: str
    comment: Comment


@dataclass(frozen=True, slots=True)
class Part:
    """What a source reads once, and again only when it changes: a file, or a handful of small ones.

    Attributes:
        key: names it and the state it was found in; equal keys promise equal contents.
        content: what the source needs to read it; picklable and small.
    """

    key: str
    content: Any


@dataclass(frozen=True, slots=True)
class Media:
    """One image or video a model is to look at.

    Attributes:
        sha256: of the file's bytes; keys every cache.
        times_s: for a video, the times of the frames to show, ascending; empty for an image.
    """

    path: str
    kind: MediaKind
    sha256: str
    times_s: tuple[float, ...] = ()

    @property
    def seen(self) -> tuple[str, MediaKind, tuple[float, ...]]:
        """What the model sees; equal for equal pictures."""
        return (self.sha256 or self.path, self.kind, self.times_s)


@dataclass(frozen=True, slots=True)
class Example:
    """What a model is asked and what it should answer: a BLIFT row and an evaluation question alike.

    Attributes:
        id: unique within its data set; carries no label.
        prompt: the user's words without media placeholders; the media comes before them.
        completion: the answer to learn or to score against; null where it is only to be generated.
        media: None for text alone.
        behaviors: the kinds of behaviour said in the completion.
        earlier: the rounds of the conversation before the prompt, as (question, answer), none of it None; the
            media stand in the first of them. Their answers are learned too.
    """

    id: str
    prompt: str
    completion: str | None
    media: Media | None = None
    behaviors: tuple[str, ...] = ()
    earlier: tuple[tuple[str, str], ...] = ()


# ---- declarations ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Source(Generic[P]):
    """Where posts come from. `fetch` may use the network or write files; the rest only parses what is there.

    Attributes:
        config: pydantic model of its settings.
        parts: (config, folder) yields what there is to read, in a fixed order; `folder` is what `fetch`
            filled. Raises UserError where nothing is there.
        read: (config, piece) yields a Post with the comments it came with, a comment Said apart, or a Fault
            for what could not be read. Runs in a process of its own.
        pieces: (config, part) cuts a part into what one process reads at a time (a few megabytes), in a fixed
            order; None where a part is one piece.
        fetch: (config, folder) brings the raw material; None where a person brings it.
        examples: (raw record, expected Post or Fault reason) pairs; the contract tests run them through
            `parse`.
        parse: one raw record to a Post or a Fault, without touching the disk.
        erase: (config, folder, forgotten, is_dry) takes posts and authors out of what `fetch` brought and
            returns how many records that were; `forgotten` is a data.ledger.Forgotten, and with `is_dry`
            nothing is changed. None where nothing is fetched.
    """

    config: type[P]
    parts: Callable[[P, Path], Iterator[Part]]
    read: Callable[[P, Any], Iterator[Post | Said | Fault]]
    parse: Callable[..., Post | Fault]
    pieces: Callable[[P, Part], Iterator[Any]] | None = None
    fetch: Callable[[P, Path], None] | None = None
    erase: Callable[[P, Path, Any, bool], int] | None = None
    examples: Sequence[tuple[Any, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Filter(Generic[P]):
    """One reason to drop a post or a comment; measuring is apart from deciding.

    Measures are stored. A filter that looks at one row at a time is measured for all rows once, whatever the
    other filters do; one that looks further is measured over what is left when its turn comes.

    Attributes:
        table: which table's rows it drops.
        params: pydantic model of its thresholds.
        measure: (posts, comments, params) -> the filter's table with measure columns added.
        keep: (params) -> a boolean expression over those columns; a null result drops the row.
        examples: (rows of posts, rows of comments, expected ids kept) triples; the contract tests run them.
        measured_with: the parameters `measure` depends on; the others may change and the stored measures
            still hold.
        looks_at: what a row's measure depends on: the "row" alone, its "thread" (a post and its comments), or
            "all" posts and comments.
        pools: the measured column that names the kept post whose comments take in a dropped post's; None for
            no pooling.
    """

    table: Literal["posts", "comments"]
    params: type[P]
    measure: Callable[[daft.DataFrame, daft.DataFrame, P], daft.DataFrame]
    keep: Callable[[P], daft.Expression]
    examples: Sequence[tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]], Sequence[str]]]
    measured_with: tuple[str, ...] = ()
    looks_at: Literal["row", "thread", "all"] = "row"
    pools: str | None = None


def label_age_s(post: Post) -> float | None:
    """Seconds between the post and the reading of its counts; None where either time is not known, or the
    reading came first.
    """
    if post.created_utc is None or post.retrieved_utc is None or post.retrieved_utc < post.created_utc:
        return None
    return float(post.retrieved_utc - post.created_utc)


class NoParams(BaseModel):
    """Of a behavior that leaves a config no choice."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Spans = Sequence[tuple[float, float]]
"""(start_s, end_s) of every scene; of an image (0, 0)."""

Value = Mapping[str, Any]
"""Part of a behaviour -> what receivers did: a number, a tuple of numbers or texts, or shares by name."""


@dataclass(frozen=True, kw_only=True)
class Behavior(Generic[P]):
    """One kind of behaviour: what it needs, how it is asked for, said, read back and compared.

    Attributes:
        columns: the Post fields `value` reads, and no others.
        params: pydantic model of what a config may choose, e.g. a count as it is or adjusted.
        value: (post, spans, params) -> what the receivers did, by part, not rounded; None where the post has
            nothing of it.
        unsaid: when `value` is None, in words.
        ask: the clause of the question by wording ("paper", "short"); "<wording>.<part>" where that part
            comes first and is asked for in other words; may hold {items}.
        words: what `say` says, by wording; a template may replace parts of it.
        say: (value, words) -> sentences.
        read_back: the parts found in generated text, as `say` put them; None where there are none.
        metrics: part -> name of the metric (evaluation/metrics.py) that compares read with true values;
            "perplexity" for texts, which are not compared but expected.
        age_s: post -> how old the label is in seconds, None for unknown; None for a kind that does not age.
        hides: blanks of a template that would give the answer away.
        examples: (Post fields, params, spans, sentence or None), said in the short wording.
    """

    columns: tuple[str, ...]
    params: type[P]
    value: Callable[[Post, Spans, P], Value | None]
    unsaid: str
    ask: Mapping[str, str]
    words: Mapping[str, BehaviorWords]
    say: Callable[[Value, BehaviorWords], str]
    read_back: Callable[[str], Value | None]
    metrics: Mapping[str, str]
    examples: Sequence[tuple[dict[str, Any], dict[str, Any], Spans, str | None]]
    age_s: Callable[[Post], float | None] | None = label_age_s
    hides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BehaviorWords:
    """The words of one template for one behaviour: values, so that a template is data.

    Attributes:
        sentence: with the fields the behaviour fills in.
        max_items: how many comments at most.
        more: sentences for the other forms, and further words the behaviour names in its own file.
    """

    sentence: str
    max_items: int = 5
    more: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One row of a benchmark's split.

    Attributes:
        id: the benchmark's own id, or its path; never shown to a model.
        media_path: None for a text task, and where the file is not there.
        label: what `metric` compares with; None where the split's truth is not released.
        cluster: rows that share a media item share it; None for "its own".
        choices: of which one is to be chosen, where these are the sample's own; empty where the task's labels
            are.
        fields: `text` stands before the question; `asked` takes the place of "{asked}" in it; whatever else
            `answer` and `choose` need.
    """

    id: str
    label: Any
    media_path: str | None = None
    media_kind: MediaKind | None = None
    cluster: str | None = None
    choices: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Task:
    """One scored question of a benchmark.

    Attributes:
        name: unique; "<benchmark>" or "<benchmark>_<part>".
        metric: name of the primary metric in evaluation/metrics.py; also: the other ones.
        modality: what is looked at.
        splits: the benchmark's own split names.
        load: (folder, split) -> samples in the official order; raises UserError where the folder is not in
            the official layout.
        question: the words asked, the same for every sample but for "{asked}".
        labels: the label vocabulary for choice tasks, in official order; empty for the others, and where each
            sample has its own choices.
        answers: what answers it.
        scale: the values that the answers 00 and 99 of a numeric task stand for; what is between them is
            linear.
        answer: sample -> the completion a fine-tuned model learns.
        parse: generated text -> prediction; None where it cannot be read.
        choose: (sample, log-probability of every choice) -> prediction, where it is more than the likeliest
            choice; None where it is that.
        scoring: how the primary answer is made of what the model gives; evaluation/deciding.py says how. The
            others are secondary.
        judged: what a judge is asked about a generated answer (evaluation/judge.py); empty for nothing.
        best, chance: the best and the guesser's value of the metric; chance None where it is undefined. The
            report shows chance on the split where the metric tells it (`Metric.chance`).
        published: the paper's number (Behavior-LLaVA, zero-shot) where the task is the same; else None.
        low_level: True where the paper expects no change (objects, actions, scenes).
        examples: (raw row as `load` meets it, hand-checked completion).
        obtain, license: how one gets the files, and under which terms; for people.
    """

    name: str
    benchmark: str
    metric: str
    modality: Literal["image", "video", "text", "audio"]
    splits: tuple[str, ...]
    load: Callable[[Path, str], list[Sample]]
    question: str
    labels: tuple[str, ...]
    answer: Callable[[Sample], str]
    parse: Callable[[str], Any]
    best: float
    chance: float | None
    examples: Sequence[tuple[Any, str]]
    obtain: str = ""
    license: str = ""
    answers: Answers = "choice"
    scale: tuple[float, float] = (0.0, 1.0)
    also: tuple[str, ...] = ()
    choose: Callable[[Sample, Sequence[float]], Any] | None = None
    judged: str = ""
    protocol: Literal["official", "paper", "ours"] = "official"
    format: Literal["official", "third_party", "ours"] = "official"
    paper: bool = False
    published: float | None = None
    low_level: bool = False
    scoring: Scoring = "sum"
    test_split: str = "test"
    train_split: str = "train"
    version: int = 1


# ---- Arrow -------------------------------------------------------------------------------------------------

_CURVE = pa.struct(
    [
        ("start_s", pa.list_(pa.float64())),
        ("end_s", pa.list_(pa.float64())),
        ("values", pa.list_(pa.float64())),
    ]
)
_CHAPTERS = pa.list_(pa.struct([("start_s", pa.float64()), ("end_s", pa.float64()), ("title", pa.string())]))
_COUNTS = pa.list_(pa.struct([("kind", pa.string()), ("count", pa.int64())]))
_SHARES = pa.list_(pa.struct([("kind", pa.string()), ("share", pa.float64())]))
_ADJUSTED = pa.list_(
    pa.struct(
        [
            ("count", pa.string()),
            ("percentile", pa.float64()),
            ("percentile_within", pa.string()),
            ("residual", pa.float64()),
            ("residual_within", pa.string()),
        ]
    )
)

COMMENTS = pa.schema(
    [
        ("post_id", pa.string()),
        ("id", pa.string()),
        ("position", pa.int32()),
        ("text", pa.string()),
        ("score", pa.int64()),
        ("author_hash", pa.string()),
        ("author_kind", pa.string()),
        ("removed_by", pa.string()),
        ("parent_id", pa.string()),
        ("created_utc", pa.int64()),
        ("is_pinned", pa.bool_()),
    ]
)
"""One row a comment; `id` is "<post id>/<comment id>"; `position` is the order the source gave."""

POSTS = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("media_kind", pa.string()),
        ("channel", pa.string()),
        ("title", pa.string()),
        ("description", pa.string()),
        ("media_url", pa.string()),
        ("media_path", pa.string()),
        ("duration_s", pa.float64()),
        ("created_utc", pa.int64()),
        ("retrieved_utc", pa.int64()),
        ("score", pa.int64()),
        ("upvote_ratio", pa.float64()),
        ("num_likes", pa.int64()),
        ("num_views", pa.int64()),
        ("num_impressions", pa.int64()),
        ("num_comments", pa.int64()),
        ("replay", _CURVE),
        ("retention", _CURVE),
        ("shares", _COUNTS),
        ("reactions", _COUNTS),
        ("transcript", pa.string()),
        ("chapters", _CHAPTERS),
        ("category", pa.string()),
        ("language", pa.string()),
        ("comments_disabled", pa.bool_()),
        ("saliency_tiles", pa.list_(pa.float64())),
        ("saliency_objects", _SHARES),
        ("recall", pa.float64()),
        ("recall_delay_s", pa.float64()),
        ("has_consent", pa.bool_()),
        ("is_opted_out", pa.bool_()),
        # computed by build over all posts that are left; null before
        ("adjusted", _ADJUSTED),
        ("is_nsfw", pa.bool_()),
        ("author_hash", pa.string()),
        ("author_kind", pa.string()),
        ("removed_by", pa.string()),
        ("licence", pa.string()),
        ("is_synthetic", pa.bool_()),
        # measured by collect from the file itself; null where there is no file or it cannot be read
        ("media_sha256", pa.string()),
        ("media_dhash", pa.string()),
        ("media_width", pa.int32()),
        ("media_height", pa.int32()),
        ("media_fault", pa.string()),
    ]
)
"""One row a post, without its comments. `media_dhash` is 16 hex digits (64 bits); `media_fault` says why a
file that is there cannot be read, and is "media_missing" where there is none."""

EXAMPLES = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        (
            "media",
            pa.struct(
                [
                    ("path", pa.string()),
                    ("kind", pa.string()),
                    ("sha256", pa.string()),
                    ("times_s", pa.list_(pa.float64())),
                ]
            ),
        ),
        ("behaviors", pa.list_(pa.string())),
    ]
)


def _curve_row(curve: Curve | None) -> dict[str, list[float]] | None:
    if curve is None:
        return None
    return {"start_s": list(curve.start_s), "end_s": list(curve.end_s), "values": list(curve.values)}


def _counts_row(counts: Mapping[str, int] | None) -> list[dict[str, Any]] | None:
    if counts is None:
        return None
    return [{"kind": kind, "count": count} for kind, count in sorted(counts.items())]


def post_row(post: Post) -> dict[str, Any]:
    """A post as a row of POSTS, without the columns collect measures from the file (null)."""
    row: dict[str, Any] = {name: getattr(post, name, None) for name in POSTS.names}
    row["replay"], row["retention"] = _curve_row(post.replay), _curve_row(post.retention)
    row["shares"], row["reactions"] = _counts_row(post.shares), _counts_row(post.reactions)
    if post.saliency_objects is not None:
        row["saliency_objects"] = [
            {"kind": kind, "share": share} for kind, share in sorted(post.saliency_objects.items())
        ]
    if post.adjusted is not None:
        row["adjusted"] = [
            {"count": count, **asdict(value)} for count, value in sorted(post.adjusted.items())
        ]
    if post.chapters is not None:
        row["chapters"] = [asdict(chapter) for chapter in post.chapters]
    return row


def comment_rows(post: Post) -> list[dict[str, Any]]:
    """A post's comments as rows of COMMENTS, in the source's order."""
    rows = []
    for position, comment in enumerate(post.comments):
        row: dict[str, Any] = {name: getattr(comment, name, None) for name in COMMENTS.names}
        row.update(post_id=post.id, id=f"{post.id}/{comment.id}", position=position)
        rows.append(row)
    return rows


def post_from_row(row: Mapping[str, Any], comments: Sequence[Mapping[str, Any]] = ()) -> Post:
    """The post of a POSTS row and its COMMENTS rows; the inverse of `post_row` and `comment_rows`."""

    def curve(value: Mapping[str, Any] | None) -> Curve | None:
        if value is None:
            return None
        return Curve(tuple(value["start_s"]), tuple(value["end_s"]), tuple(value["values"]))

    def counts(value: Sequence[Mapping[str, Any]] | None) -> dict[str, int] | None:
        return None if value is None else {item["kind"]: item["count"] for item in value}

    names = [name for name in Post.__dataclass_fields__ if name in row]
    fields: dict[str, Any] = {name: row[name] for name in names}
    for name in ("replay", "retention"):
        if name in fields:
            fields[name] = curve(fields[name])
    for name in ("shares", "reactions"):
        if name in fields:
            fields[name] = counts(fields[name])
    if fields.get("saliency_tiles") is not None:
        fields["saliency_tiles"] = tuple(fields["saliency_tiles"])
    if fields.get("saliency_objects") is not None:
        fields["saliency_objects"] = {item["kind"]: item["share"] for item in fields["saliency_objects"]}
    if fields.get("adjusted") is not None:
        fields["adjusted"] = {
            item["count"]: Adjusted(**{key: value for key, value in item.items() if key != "count"})
            for item in fields["adjusted"]
        }
    if fields.get("chapters") is not None:
        fields["chapters"] = tuple(Chapter(**chapter) for chapter in fields["chapters"])
    comment_names = [name for name in Comment.__dataclass_fields__ if name in COMMENTS.names]
    fields["comments"] = tuple(
        Comment(
            **{name: comment[name] for name in comment_names if name != "id"},
            id=comment["id"].rsplit("/", 1)[-1],
        )
        for comment in sorted(comments, key=lambda item: item["position"])
    )
    return Post(**fields)


def example_row(example: Example) -> dict[str, Any]:
    """An example as a row of EXAMPLES.

    Raises:
        ValueError: it has earlier rounds, for which the table has no column.
    """
    if example.earlier:
        raise ValueError(f"{example.id}: a table of examples holds single rounds only")
    media = example.media
    return {
        "id": example.id,
        "prompt": example.prompt,
        "completion": example.completion,
        "media": None
        if media is None
        else {"path": media.path, "kind": media.kind, "sha256": media.sha256, "times_s": list(media.times_s)},
        "behaviors": list(example.behaviors),
    }


def example_from_row(row: Mapping[str, Any]) -> Example:
    """The example of an EXAMPLES row; the inverse of `example_row`."""
    media = row["media"]
    return Example(
        id=row["id"],
        prompt=row["prompt"],
        completion=row["completion"],
        media=None
        if media is None
        else Media(media["path"], media["kind"], media["sha256"], tuple(media["times_s"] or ())),
        behaviors=tuple(row["behaviors"] or ()),
    )

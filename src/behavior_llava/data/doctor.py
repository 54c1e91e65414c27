"""What is wrong with behaviour data before anything is trained on it, counted, with what to do about it.

Each finding is what one filter would drop if it stood alone, or what an expression over the collected posts
counts; so the doctor and the funnel never disagree. Called by `behavior-llava check`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Literal

import daft
from daft import col, lit

from behavior_llava.core.errors import UserError
from behavior_llava.data import funnel, parts
from behavior_llava.data.collect import NOT_FAULTS


@dataclass(frozen=True, slots=True)
class Finding:
    """Something counted.

    Attributes:
        name: of the filter, the fault or the field.
        what: in words.
        count, of: rows it holds for, and all rows it could.
        level: "problem" is to be mended before training; "note" is worth knowing and dealt with by a filter.
    """

    name: str
    what: str
    count: int
    of: int
    level: Literal["problem", "note"]
    remedy: str


_BY_FILTER: tuple[tuple[str, dict[str, Any], str, Literal["problem", "note"], str], ...] = (
    (
        "media_missing",
        {},
        "posts without a media file",
        "problem",
        "put the files where the source looks for them, or set collect.download.enabled",
    ),
    (
        "unreadable_media",
        {},
        "posts whose media file is truncated or broken",
        "problem",
        "fetch these files again; media_fault in collect/posts says what is wrong with each",
    ),
    (
        "placeholders",
        {},
        "posts that show a 'no longer available' picture",
        "problem",
        "keep the filter placeholders in the build, or delete these files",
    ),
    (
        "young_label",
        {"keep_unknown": True},
        "posts whose counts were read in their first day",
        "problem",
        "read the counts again later, or keep the filter young_label in the build",
    ),
    (
        "near_duplicate_media",
        {},
        "posts that show what an earlier post shows",
        "note",
        "the filter near_duplicate_media pools their comments",
    ),
)
_FAULTS = {
    "duplicate_id": ("records of a post that a later one replaces", "nothing: the latest counts are kept"),
    "not_media": ("records that show no image or video", "nothing: they are left out"),
    "not_a_video": ("records that are no video", "nothing: they are left out"),
    "not_youtube": ("downloads from other sites", "nothing: they are left out"),
    "cohort_too_small": ("rows that too few people stand behind", "nothing: they are refused"),
    "unreadable_claim": (
        "claims about consent or an opt-out that nobody can read; taken for refusals",
        "name their words in the source's `claims`",
    ),
    "comment_without_post": ("comments that name no post", "nothing: they are left out"),
}


def examine(collected: Path, told: Mapping[str, Any]) -> list[Finding]:
    """All findings about collected posts, problems first.

    Args:
        collected: the folder that collect filled.
        told: what collect returned.
    """
    files = sorted((collected / "posts").glob("*.parquet"))
    buckets = [
        (daft.read_parquet(str(file)), daft.read_parquet(str(collected / "comments" / file.name)))
        for file in files
    ]
    posts = reduce(daft.DataFrame.concat, [found for found, _ in buckets])
    findings = [*_dropped(buckets), *_absent(posts), *_faults(told)]
    return sorted(findings, key=lambda finding: (finding.level != "problem", -finding.count))


def _dropped(buckets: list[tuple[daft.DataFrame, daft.DataFrame]]) -> Iterator[Finding]:
    for name, params, what, level, remedy in _BY_FILTER:
        with funnel.run(buckets, [(name, params)]) as found:
            line = next(line for line in found.survivors if line["table"] == "posts")
        yield Finding(name, what, line["dropped"], line["rows_in"], level, remedy)


def _absent(posts: daft.DataFrame) -> Iterator[Finding]:
    """Behaviour the platform could have given and did not."""
    is_video = col("media_kind") == lit("video")
    counted = posts.select(
        col("id"),
        is_video.alias("video"),
        (is_video & col("replay").is_null() & col("retention").is_null()).alias("curve"),
        (col("score").is_null() & col("num_likes").is_null()).alias("likes"),
        (col("num_likes").not_null() & col("num_views").is_null()).alias("views"),
        (col("retrieved_utc").is_null() | col("created_utc").is_null()).alias("age"),
    ).agg(
        col("id").count().alias("posts"),
        *(
            col(name).cast(daft.DataType.int64()).sum().alias(name)
            for name in ("video", "curve", "likes", "views", "age")
        ),
    )
    found = {name: values[0] or 0 for name, values in counted.to_pydict().items()}
    yield Finding(
        "curve",
        "videos without a replay or retention curve",
        found["curve"],
        found["video"],
        "note",
        "normal below some 50,000 views; retention comes from the owner's Analytics exports",
    )
    yield Finding(
        "label_age",
        "posts of which nobody knows how old their counts are",
        found["age"],
        found["posts"],
        "note",
        "keep the times of posting and of reading with the counts",
    )
    yield Finding(
        "likes",
        "posts without likes and without a score",
        found["likes"],
        found["posts"],
        "note",
        "likes are left out of what is said about them",
    )
    yield Finding(
        "views",
        "posts with likes and without views",
        found["views"],
        found["posts"],
        "note",
        "no share of viewers can be said; name the column of views if there is one",
    )


def _faults(told: Mapping[str, Any]) -> Iterator[Finding]:
    """Records that became no post; media faults are the filters' findings."""
    known = ("media_", "image_", "video_", "decoder_")
    for reason, count in told["faults"].items():
        if reason.startswith(known) and reason != "media_outside":  # which is a record's
            continue
        normal = reason in NOT_FAULTS
        what, remedy = _FAULTS.get(
            reason, (f"records that cannot be read: {reason}", "mend or leave out these files")
        )
        yield Finding(reason, what, count, told["records"], "note" if normal else "problem", remedy)
    if told["comments_without_post"]:
        yield Finding(
            "orphans",
            "comments whose post is not among the images and videos read",
            told["comments_without_post"],
            told["comments"] + told["comments_without_post"],
            "note",
            "nothing: most belong to text posts; else add the submissions of their month",
        )


_SCORES = ("splits/train_1.txt", "memento_train_data.json", "ground-truth_dev-set.csv")
"""Of LaMem, Memento10k and VideoMem, where their own folders have them."""


def guess_source(folder: Path) -> tuple[str, dict[str, Any]]:
    """Which source reads a folder, and with which settings, by the names of its files.

    Raises:
        UserError: no source of ours knows the names.
    """
    media = folder / "media"
    near = {"media": str(media)} if media.is_dir() else {}
    if any(folder.glob("RS_*")) or any(folder.glob("*_submissions.*")):
        return "reddit", {"path": str(folder), **near}
    if next(parts.walk(folder, lambda name: name.endswith(".info.json")), None) is not None:
        return "youtube", {"path": str(folder)}
    if perceptual := _perceptual(folder):
        return perceptual
    if any(folder.glob("*.parquet")):
        return "blift", {"path": str(folder), **near}
    raise UserError(
        "no dump (RS_*), no yt-dlp download (*.info.json), no fixations (fixations_*.json), no memory scores "
        f"({', '.join(_SCORES)}) and no Parquet file in it",
        where=folder,
        remedy="give a config with your source instead: behavior-llava check mine.yaml",
    )


def _perceptual(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """The settings of fixations or of memory scores; None where there are neither."""
    names = ("images", "videos", "media")
    media = str(next((folder / name for name in names if (folder / name).is_dir()), folder))
    fixations = sorted([*folder.glob("fixations_*.json"), *folder.glob("annotations/fixations_*.json")])
    if fixations:
        outlines = fixations[0].with_name(fixations[0].name.replace("fixations", "instances", 1))
        near = {"instances": str(outlines)} if outlines.is_file() else {}
        return "salicon", {"fixations": str(fixations[0]), "media": media, **near}
    scores = next((folder / name for name in _SCORES if (folder / name).is_file()), None)
    return scores and ("memorability", {"path": str(scores), "media": media})

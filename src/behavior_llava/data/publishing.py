"""The data set that comes out: Parquet for `datasets.load_dataset`, two JSON exports, and the data card.

In: an iterator of `Sample`, a post with the example made of it. Out, in one folder: data/*.parquet by split,
media/ by hash, llava.json and messages.jsonl for other trainers, README.md. Written in one pass; what stands
under its name is whole, README.md comes last, and a start clears what an earlier one left. Called by
stages.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from behavior_llava.core import media as media_files
from behavior_llava.core.errors import UserError
from behavior_llava.core.media import MediaFault
from behavior_llava.core.schema import POSTS, Example, Post, post_row
from behavior_llava.data import data_card
from behavior_llava.data.data_card import CardFacts, Tally
from behavior_llava.data.splits import SPLITS
from behavior_llava.data.verbalizer import SceneWords

MediaMode = Literal["linked", "embedded", "none"]

SHARD_BYTES = 500_000_000
"""Source: datasets.config.MAX_SHARD_SIZE, "500MB"."""
GROUP_BYTES = 64_000_000
GROUP_ROWS = 1000
EMBED_BYTES = 2**30
"""A larger file is not put into a row: one Arrow array of bytes holds 2 GiB."""

CURVES = ("replay", "replay_without_start", "retention", "retention_without_start")

README, LLAVA, MESSAGES = "README.md", "llava.json", "messages.jsonl"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A post, what a model learns from it, and what is known about both.

    Attributes:
        example: with its completion and its media.
        split: one of splits.SPLITS.
        cluster: shared by near-duplicate media.
        scenes: in words, as the completion says them.
        media_sha256: of the media file, as measured; the file must still have it.
        label_age_s: kind of behavior -> age of its label in seconds; None for unknown, no entry for a kind
            that does not age.
        curves: names of CURVES -> a value a scene; no entry for a curve the post does not have.
    """

    example: Example
    post: Post
    split: str
    cluster: str
    scenes: Sequence[SceneWords]
    media_sha256: str
    label_age_s: Mapping[str, float | None] = field(default_factory=dict)
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)


# ---- columns -----------------------------------------------------------------------------------------------

_BEHAVIOR = (
    "title",
    "score",
    "upvote_ratio",
    "num_likes",
    "num_views",
    "num_impressions",
    "num_comments",
    "replay",
    "retention",
    "shares",
    "reactions",
    "saliency_tiles",
    "saliency_objects",
    "recall",
    "recall_delay_s",
    "adjusted",
)
_LINEAGE = ("source", "channel", "media_url", "created_utc", "retrieved_utc", "is_synthetic")
_MEDIA = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TEXTS = pa.list_(pa.string())
_SCENE = pa.struct(
    [
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("caption", pa.string()),
        ("foreground", _TEXTS),
        ("background", _TEXTS),
        ("tone", pa.string()),
        ("tags", _TEXTS),
        *((name, pa.float64()) for name in CURVES),
    ]
)
COLUMNS = pa.schema(
    [
        ("id", pa.string()),
        ("image", _MEDIA),
        ("video", _MEDIA),
        ("media_kind", pa.string()),
        ("prompt", pa.string()),
        ("completion", pa.string()),
        ("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("behaviors", _TEXTS),
        ("scenes", pa.list_(_SCENE)),
        *(POSTS.field(name) for name in _BEHAVIOR),
        ("comments", pa.list_(pa.struct([("text", pa.string()), ("score", pa.int64())]))),
        ("label_age_s", pa.list_(pa.struct([("kind", pa.string()), ("age_s", pa.float64())]))),
        *(POSTS.field(name) for name in _LINEAGE),
        ("license", pa.string()),
        ("media_sha256", pa.string()),
        ("cluster", pa.string()),
    ]
)
"""One row a sample. Of `image` and `video` exactly one is not null, none in the mode "none". `license` is as
the source states it, null where it states none. There is no author, and no path but in `image` and `video`.
"""


def _hugging_face_schema() -> pa.Schema:
    from datasets import Features, Image, Video

    features = Features.from_arrow_schema(COLUMNS)
    features["image"], features["video"] = Image(), Video()
    return features.arrow_schema


def _row(sample: Sample, shown: dict[str, Any] | None) -> dict[str, Any]:
    """A row of COLUMNS.

    Args:
        shown: the media as {"bytes", "path"}; None for none.
    """
    example, post = sample.example, sample.post
    values = post_row(post)
    return {
        "id": example.id,
        "image": shown if post.media_kind == "image" else None,
        "video": shown if post.media_kind == "video" else None,
        "media_kind": post.media_kind,
        "prompt": example.prompt,
        "completion": example.completion,
        "messages": [
            {"role": "user", "content": example.prompt},
            {"role": "assistant", "content": example.completion},
        ],
        "behaviors": list(example.behaviors),
        "scenes": [_scene(sample, number) for number in range(len(sample.scenes))],
        **{name: values[name] for name in (*_BEHAVIOR, *_LINEAGE)},
        "comments": [
            {"text": comment.text, "score": comment.score} for comment in post.comments if comment.text
        ],
        "label_age_s": [{"kind": kind, "age_s": age} for kind, age in sorted(sample.label_age_s.items())],
        "license": post.licence,
        "media_sha256": sample.media_sha256,
        "cluster": sample.cluster,
    }


def _scene(sample: Sample, number: int) -> dict[str, Any]:
    scene = sample.scenes[number]
    colors = scene.colors
    return {
        "start_s": scene.start_s,
        "end_s": scene.end_s,
        "caption": scene.caption,
        "foreground": None if colors is None else list(colors.foreground),
        "background": None if colors is None else list(colors.background),
        "tone": None if colors is None else colors.tone,
        "tags": list(scene.tags),
        **{name: values[number] for name, values in sample.curves.items()},
    }


def _check(sample: Sample) -> None:
    """Raises ValueError for a sample that would be written otherwise than meant."""
    example, where = sample.example, f"sample {sample.example.id!r}"
    if example.completion is None:
        raise ValueError(f"{where} has no completion")
    if example.media is None or example.media.kind != sample.post.media_kind:
        raise ValueError(f"{where} has not the media of its post")
    if sample.split not in SPLITS:
        raise ValueError(f"{where} is in the split {sample.split!r}, not in {', '.join(SPLITS)}")
    if not re.fullmatch("[0-9a-f]{64}", sample.media_sha256):
        raise ValueError(f"{where} has no hash of its media")
    if example.prompt != example.prompt.strip() or re.search("<(?:image|video)>", example.prompt):
        raise ValueError(f"{where} has a prompt that LLaVA's format does not give back")
    for name, values in sample.curves.items():
        if name not in CURVES or len(values) != len(sample.scenes):
            raise ValueError(f"{where}: {name!r} is no curve with a value for each scene")


# ---- media -------------------------------------------------------------------------------------------------


def _file_name(sample: Sample) -> str:
    """The hash with the file's suffix: the name people gave it may tell what is in it, or who they are."""
    assert sample.example.media is not None
    suffix = Path(sample.example.media.path).suffix.lower()
    return sample.media_sha256 + (suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else "")


def _shown(sample: Sample, folder: Path, mode: MediaMode) -> dict[str, Any] | None:
    """The media of a row, put where the mode wants it."""
    assert sample.example.media is not None
    path, name = Path(sample.example.media.path), _file_name(sample)
    if mode == "none":
        return None
    try:
        if mode == "linked":
            target = folder / "media" / name[:2] / name
            if not target.exists():
                _link(path, target, sample.media_sha256)
            return {"bytes": None, "path": str(target)}
        if path.stat().st_size > EMBED_BYTES:
            raise UserError(
                f"the file has {path.stat().st_size} bytes, more than a row may hold ({EMBED_BYTES})",
                where=path,
                remedy="publish with linked media",
            )
        content = path.read_bytes()
        _same(hashlib.sha256(content).hexdigest(), sample.media_sha256, path)
        return {"bytes": content, "path": name}
    except (MediaFault, OSError) as fault:
        reason = fault.reason if isinstance(fault, MediaFault) else fault.strerror
        raise UserError(
            f"the file cannot be read ({reason})",
            where=path,
            remedy="run collect again, which counts media that are gone",
        ) from fault


def _link(path: Path, target: Path, sha256: str) -> None:
    """A second name for the file, or a copy where the file system gives none."""
    path = path.resolve()
    _same(media_files.sha256(path), sha256, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:  # another file system, or one without links
        part = target.with_name(f"{target.name}.part")
        shutil.copyfile(path, part)
        part.replace(target)


def _same(found: str, expected: str, path: Path) -> None:
    if found != expected:
        raise UserError("the file is not the one that was measured", where=path, remedy="run collect again")


# ---- files -------------------------------------------------------------------------------------------------


class _Shards:
    """The Parquet files of one split; rows wait until they fill a row group.

    Args:
        stem: of the files, e.g. data/train; they are named when their number is known.
    """

    def __init__(self, stem: Path, schema: pa.Schema, shard_bytes: int, group_bytes: int) -> None:
        self._stem, self._schema = stem, schema
        self._shard_bytes, self._group_bytes = shard_bytes, group_bytes
        self._waiting: list[dict[str, Any]] = []
        self._waiting_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._written: list[Path] = []

    def add(self, row: dict[str, Any], size: int) -> None:
        """Takes a row of about so many bytes."""
        self._waiting.append(row)
        self._waiting_bytes += size
        if self._waiting_bytes >= self._group_bytes or len(self._waiting) >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        if self._writer is None:
            self._written.append(self._stem.with_name(f"{self._stem.name}-{len(self._written):05d}.part"))
            self._writer = pq.ParquetWriter(self._written[-1], self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._waiting, schema=self._schema))
        self._waiting, self._waiting_bytes = [], 0
        if self._written[-1].stat().st_size >= self._shard_bytes:
            self.close()

    def close(self) -> None:
        """Ends the file that is being written; the next row begins another."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def finish(self) -> int:
        """Writes what waits and gives the files their names; returns how many there are."""
        if self._waiting:
            self._write_group()
        self.close()
        for number, part in enumerate(self._written):
            part.replace(
                part.with_name(f"{self._stem.name}-{number:05d}-of-{len(self._written):05d}.parquet")
            )
        return len(self._written)


class _Exports:
    """llava.json and messages.jsonl, of the training split alone: what is held out must not be trained on."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.rows = 0
        self._folder = folder
        self._llava, self._messages = (
            stack.enter_context(self._part(name).open("w", encoding="utf-8")) for name in (LLAVA, MESSAGES)
        )

    def _part(self, name: str) -> Path:
        return self._folder / f"{name}.part"

    def add(self, example: Example, kind: str, file: str) -> None:
        """One question and answer about the file of that path under the folder."""
        said = [
            {"from": "human", "value": f"<{kind}>\n{example.prompt}"},
            {"from": "gpt", "value": example.completion},
        ]
        self._llava.write(",\n" if self.rows else "[\n")
        json.dump({"id": example.id, kind: file, "conversations": said}, self._llava)
        turns = [
            {"role": "user", "content": [{"type": kind}, {"type": "text", "text": example.prompt}]},
            {"role": "assistant", "content": [{"type": "text", "text": example.completion}]},
        ]
        self._messages.write(json.dumps({"messages": turns, f"{kind}s": [file]}) + "\n")
        self.rows += 1

    def finish(self) -> None:
        """Ends the files and gives them their names; without rows there are none."""
        self._llava.write("\n]\n")
        self._llava.close()
        self._messages.close()
        for name in (LLAVA, MESSAGES):
            if self.rows:
                self._part(name).replace(self._folder / name)
            else:
                self._part(name).unlink()


@contextmanager
def _shards(data: Path, shard_bytes: int, group_bytes: int) -> Iterator[dict[str, _Shards]]:
    schema = _hugging_face_schema()
    found = {split: _Shards(data / split, schema, shard_bytes, group_bytes) for split in SPLITS}
    try:
        yield found
    finally:
        for shards in found.values():
            shards.close()


def _clear(folder: Path) -> None:
    """Takes away what an earlier start wrote, README.md first: without it the folder is unfinished."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (README, LLAVA, MESSAGES):
        (folder / name).unlink(missing_ok=True)
        (folder / f"{name}.part").unlink(missing_ok=True)
    for name in ("data", "media"):
        if (folder / name).exists():
            shutil.rmtree(folder / name)
    (folder / "data").mkdir()


def _size(row: Mapping[str, Any]) -> int:
    """About how many bytes a row takes: its media, its texts twice (also as messages), and some."""
    shown = row["image"] or row["video"] or {}
    texts = sum(len(comment["text"]) for comment in row["comments"])
    return len(shown.get("bytes") or b"") + 2 * (len(row["prompt"]) + len(row["completion"])) + texts + 2000


def publish(
    samples: Iterable[Sample],
    folder: Path,
    *,
    name: str,
    facts: CardFacts,
    media: MediaMode = "linked",
    shard_bytes: int = SHARD_BYTES,
    group_bytes: int = GROUP_BYTES,
) -> dict[str, Any]:
    """Writes the data set, each split in the samples' order, with one row group a split in memory at a time.

    Posts whose people refused or opted out are left out and counted, whatever stage let them through.

    Args:
        samples: read once.
        folder: what an earlier start wrote there is taken away.
        name: the data set's, for the card.
        facts: what the card says besides what is counted here.
        media: "linked": the files under media/, absolute paths in the rows; "embedded": the files' bytes in
            the rows; "none": addresses and hashes alone. The JSON exports name files, so they come with
            "linked".
        shard_bytes: a Parquet file ends with the row group that reaches it.
        group_bytes: of a row group before compression, about.

    Returns:
        For the manifest: rows, rows by split, files by split, media files, exported rows, refused rows.

    Raises:
        UserError: a media file is gone, or is not the one that was measured.
        ValueError: a sample that cannot be written as it is meant.
    """
    folder = folder.resolve()
    _clear(folder)
    tally, refused = Tally(), 0
    with ExitStack() as stack:
        shards = stack.enter_context(_shards(folder / "data", shard_bytes, group_bytes))
        exports = _Exports(folder, stack)
        for sample in samples:
            _check(sample)
            if sample.post.is_opted_out or sample.post.has_consent is False:
                refused += 1
                continue
            shown = _shown(sample, folder, media)
            row = _row(sample, shown)
            shards[sample.split].add(row, _size(row))
            if media == "linked" and sample.split == "train":
                file = _file_name(sample)
                exports.add(sample.example, sample.post.media_kind, f"media/{file[:2]}/{file}")
            tally.add(sample.example, sample.post, sample.split, sample.label_age_s)
        files = {split: number for split, writer in shards.items() if (number := writer.finish())}
        exports.finish()
    counts = {
        "rows": sum(tally.splits.values()),
        "splits": {split: tally.splits[split] for split in files},
        "files": files,
        "media_files": sum(path.is_file() for path in (folder / "media").rglob("*")),
        "exported": exports.rows,
        "refused": refused,
    }
    part = folder / f"{README}.part"
    part.write_text(data_card.write(name, facts, tally, counts, media), encoding="utf-8")
    part.replace(folder / README)
    return counts

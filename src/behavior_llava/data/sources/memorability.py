"""Images and videos with a memory score: the share of viewers who knew them again.

    path: lamem/splits/train_1.txt
    media: lamem/images

The lists of three data sets are read, told apart by their suffix: LaMem's split (.txt, "<file>.jpg <score>" a
line), Memento10k's list (.json, objects with `filename` and `mem_score`) and VideoMem's ground truth (.csv
with `video`, `short-term_memorability` and `long-term_memorability`). Any other list goes through the table
source with a column for `recall`. A row whose score is not released is a Fault, never a post.

None of the three has one delay: LaMem and Memento10k ask after lags that differ and correct the scores for
them, VideoMem "a few minutes" and "24-72 hours" later (https://arxiv.org/abs/1812.01973, abstract). So
`delay_s` is null unless the config tells it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint, folder_state
from behavior_llava.core.schema import Fault, Part, Post, Source
from behavior_llava.data import json_lines, raw_values, stores, table_rows
from behavior_llava.data.parts import file_key

PIECE_ROWS = 4096
MAX_JSON_BYTES = 256 * 2**20
"""Memento10k's list has 7,000 videos with captions, some 10 MB; a JSON list is held whole."""

Term = Literal["short", "long"]
Row = str | Mapping[str, Any]


class Config(BaseModel):
    """Settings of the memorability source.

    Attributes:
        path: the list: LaMem's .txt, Memento10k's .json or VideoMem's .csv.
        media: folder that the list's file names are relative to.
        delay_s: how long after seeing it the viewers were asked, in seconds; null where nobody knows.
        term: which of VideoMem's two scores; the others have one.
        licence: as it goes into the ledger; null where it is not stated.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    media: Path
    delay_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    term: Term = "short"
    licence: str | None = None


# ---- one row -----------------------------------------------------------------------------------------------


def _fields(row: Row, term: Term) -> tuple[str, Any, Any, Any]:
    """Data set, file name, score and address of a row.

    Raises:
        ValueError: for a row of no layout we know.
    """
    if isinstance(row, str):
        name, score = row.split()
        return "lamem", name, score, None
    if "mem_score" in row:
        return "memento10k", row.get("filename"), row["mem_score"], row.get("url")
    if "video" in row:
        return "videomem", row["video"], row[f"{term}-term_memorability"], None
    raise ValueError("neither mem_score nor video")


def parse(
    row: Row,
    *,
    term: Term = "short",
    delay_s: float | None = None,
    licence: str | None = None,
    where: str = "",
) -> Post | Fault:
    """One line or record of a list to a Post whose media path is still as the list gives it."""
    try:
        layout, name, score, url = _fields(row, term)
        name, url = raw_values.to_text(name), raw_values.to_text(url)
    except (ValueError, KeyError):
        return Fault("row_broken", where)
    if not name:
        return Fault("id_missing", where)
    if "\x00" in name:
        return Fault("id_broken", where)
    kind = raw_values.media_kind(name)
    if kind is None:
        return Fault("not_media", where)
    try:
        recall = raw_values.to_share(score)
    except ValueError:
        return Fault("not_a_number", where)
    if recall is None:
        return Fault("recall_missing", where)
    return Post(
        id=f"{layout}:{name}",
        source="memorability",
        media_kind=kind,
        media_url=url or None,
        media_path=name,
        recall=recall,
        recall_delay_s=delay_s,
        licence=licence,
    )


# ---- files -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """Some rows of a list with their numbers, and the Faults of those that are none."""

    rows: tuple[tuple[int, Row | Fault], ...]

    def __len__(self) -> int:
        return len(self.rows)


def list_parts(config: Config, folder: Path) -> Iterator[Part]:
    """The list.

    Raises:
        UserError: where it or the media folder is not there, or it is of another kind.
    """
    if not config.path.is_file():
        raise UserError("no such file", where=config.path, remedy="set path to the list with the scores")
    if config.path.suffix not in _ROWS:
        raise UserError(
            f"a list of unknown kind {config.path.suffix!r}",
            where=config.path,
            remedy="give LaMem's .txt, Memento10k's .json or VideoMem's .csv; for any other table use the "
            "source table with a column for recall",
        )
    if not config.media.is_dir():
        raise UserError("no such folder", where=config.media, remedy="set media to the folder of the media")
    yield Part(fingerprint([file_key(config.path), folder_state(config.media)]), config.path)


def pieces(config: Config, part: Part) -> Iterator[Piece]:
    """The list's rows, some thousand at a time.

    Raises:
        UserError: where it is of none of the three layouts, or cannot be read.
    """
    rows = _ROWS[config.path.suffix](config.path)
    while block := tuple(islice(rows, PIECE_ROWS)):
        yield Piece(block)


def _lines(path: Path) -> Iterator[tuple[int, Row | Fault]]:
    """LaMem."""
    for number, raw in json_lines.lines(path):
        try:
            if raw is None:
                yield number, Fault("line_too_long", "")
            elif raw.strip():
                yield number, raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            yield number, Fault("not_utf8", "")


def _listed(path: Path) -> Iterator[tuple[int, Row | Fault]]:
    """Memento10k."""
    remedy = "give memento_*_data.json: a list of objects with filename and mem_score"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UserError("too large for a list of videos", where=path, remedy=remedy)
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as fault:
        raise UserError(f"is not JSON ({fault})", where=path, remedy=remedy) from fault
    if not isinstance(found, list) or not any(isinstance(row, dict) and "mem_score" in row for row in found):
        raise UserError("holds no list with mem_score", where=path, remedy=remedy)
    for number, row in enumerate(found):
        yield number, row if isinstance(row, dict) else Fault("row_broken", "")


def _columns(path: Path) -> Iterator[tuple[int, Row | Fault]]:
    """VideoMem."""
    wanted = ("video", "short-term_memorability", "long-term_memorability")
    for file in stores.find(path, table_rows.is_table):
        for piece in table_rows.cut(file, wanted):
            for number, row in piece.rows():
                yield number, Fault(row, "") if isinstance(row, str) else row


_ROWS = {".txt": _lines, ".json": _listed, ".csv": _columns}


def read(config: Config, piece: Piece) -> Iterator[Post | Fault]:
    """A post or a Fault for each row."""
    for number, row in piece.rows:
        where = f"{config.path.name}:{number}"
        if isinstance(row, Fault):
            yield replace(row, where=where)
            continue
        post = parse(row, term=config.term, delay_s=config.delay_s, licence=config.licence, where=where)
        yield _with_file(post, config.media, where) if isinstance(post, Post) else post


def _with_file(post: Post, media: Path, where: str) -> Post | Fault:
    """The post with the whole path of its file; without one where it is not there (yet)."""
    try:
        path = raw_values.file_inside(media, post.media_path or "")
    except ValueError:
        return Fault("media_outside", where)
    return replace(post, media_path=None if path is None else str(path))


EXAMPLES = (
    (
        "00000001.jpg 0.675000",
        Post(
            id="lamem:00000001.jpg",
            source="memorability",
            media_kind="image",
            media_path="00000001.jpg",
            recall=0.675,
        ),
    ),
    (
        {
            "filename": "a/b.mp4",
            "url": "http://a.org/b.mp4",
            "mem_score": 0.81,
            "alpha": -0.0007,
            "captions": ["x"],
        },
        Post(
            id="memento10k:a/b.mp4",
            source="memorability",
            media_kind="video",
            media_url="http://a.org/b.mp4",
            media_path="a/b.mp4",
            recall=0.81,
        ),
    ),
    (
        {
            "video": "video3.webm",
            "short-term_memorability": "0.924",
            "nb_short-term_annotations": "34",
            "long-term_memorability": "0.846",
        },
        Post(
            id="videomem:video3.webm",
            source="memorability",
            media_kind="video",
            media_path="video3.webm",
            recall=0.924,
        ),
    ),
    ("00000001.jpg", "row_broken"),
    ("00000001.jpg 1.01", "not_a_number"),
    ("00000001.txt 0.5", "not_media"),
    ({"filename": "b.mp4", "mem_score": None}, "recall_missing"),
    ({"mem_score": 0.5}, "id_missing"),
)

SOURCE = Source(config=Config, parts=list_parts, pieces=pieces, read=read, parse=parse, examples=EXAMPLES)

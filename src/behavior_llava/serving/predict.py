"""`predict`: what a model expects receivers to do with a folder or table of media, as one Parquet file.

In: a model and a folder of images and videos, or a table (CSV, TSV, Parquet, JSON lines) with a column
`media_path`. Out: a row an item, in the order of the names or of the table; what the model does not say is
null, and an item that cannot be read has a reason in `error`. Items are asked block by block, and a finished
block lies in a file named by what was asked and of which files, so a killed call continues, and only what
changed is asked again. Nothing of the length of the input is held in memory.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from behavior_llava.core import parquet
from behavior_llava.core.cache import file_state
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint, only_one, versions
from behavior_llava.core.media import FrameStore, MediaFault
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import MediaKind
from behavior_llava.data import raw_values
from behavior_llava.data.manner import Manner
from behavior_llava.data.viewing import View, Viewer
from behavior_llava.models import auto
from behavior_llava.models.remote import RemoteConfig, RemoteModel
from behavior_llava.serving.audience import Audience, Counts, Predictor

log = logging.getLogger(__name__)

BLOCK = 64
"""Items that are asked, and kept, together."""
_FORMATS = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json"}

_KINDS = pa.list_(pa.struct([("name", pa.string()), ("share", pa.float64())]))
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("media_path", pa.string()),
        ("media_kind", pa.string()),
        ("error", pa.string()),
        ("description", pa.string()),
        ("likes", pa.float64()),
        ("likes_part", pa.string()),
        ("likes_spread", pa.list_(pa.struct([("value", pa.float64()), ("probability", pa.float64())]))),
        ("comments", pa.list_(pa.string())),
        ("scenes", pa.list_(pa.struct([("start_s", pa.float64()), ("end_s", pa.float64())]))),
        ("replay", pa.list_(pa.float64())),
        ("retention", pa.list_(pa.float64())),
        ("reactions", pa.float64()),
        ("reactions_part", pa.string()),
        ("reaction_kinds", _KINDS),
        ("shares", pa.float64()),
        ("shares_part", pa.string()),
        ("share_services", _KINDS),
        ("raw", pa.string()),
        ("answers", pa.list_(pa.struct([("question", pa.string()), ("answer", pa.string())]))),
    ]
)
"""A row an item; the words are those of serving/audience.Audience."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is asked of every item.

    Attributes:
        questions: one's own, asked besides.
        comments: at most so many an item.
        max_new_tokens: of an answer.
        limit: items at most; None for all.
    """

    questions: tuple[str, ...] = ()
    comments: int = 5
    max_new_tokens: int = 200
    batch_size: int = 8
    seed: int = 0
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One media file; `path` is None where a row names none, and `kind` where its name does not tell."""

    id: str
    path: str | None
    kind: MediaKind | None


def predict(
    model: str | RemoteConfig,
    manner: Manner,
    media: Path,
    out: Path,
    wanted: Wanted = Wanted(),
    *,
    device: str = "auto",
) -> dict[str, int]:
    """Asks the model about every item and writes `out`; the number of items, and of those with an error.

    Args:
        model: a folder or hub name, or an endpoint.
        manner: how the model was taught to speak of behavior.
        media: a folder, which is searched with all below it, or a table.

    Raises:
        UserError: no such model or media, a table without the column, or nothing in it.
    """
    if not out.name.endswith(".parquet"):
        raise UserError("is no name of a Parquet file", where=out, remedy="end it in .parquet")
    if out.is_dir():
        raise UserError("is a folder", where=out, remedy="give a file")
    place = out.with_name(f"{out.name}.parts")
    out.parent.mkdir(parents=True, exist_ok=True)
    with only_one(place):
        asking = _Asking(model, manner, wanted, place, device)
        found = {"items": 0, "errors": 0}
        with progress("predicting", None) as advance:
            files = []
            for block in _blocks(islice(items(media), wanted.limit)):
                files.append(asking.part(block))
                table = pq.read_table(files[-1], columns=["error"])
                found["items"] += len(block)
                found["errors"] += len(block) - table["error"].null_count
                advance(len(block))
        if not files:
            raise UserError(
                "holds no image or video",
                where=media,
                remedy=f"known are {', '.join((*raw_values.IMAGE_SUFFIXES, *raw_values.VIDEO_SUFFIXES))}",
            )
        told = {"model": asking.identity, "versions": versions(), "wanted": repr(wanted)}
        schema = SCHEMA.with_metadata({"behavior_llava": json.dumps(told, sort_keys=True)})
        parquet.write_tables(out, schema, (pq.read_table(file).cast(schema) for file in files))
    shutil.rmtree(place)
    return found


def items(media: Path) -> Iterator[Item]:
    """The media of a folder, by name, or of a table, row by row."""
    if media.is_dir():
        yield from _of_folder(media, media)
    elif media.is_file():
        yield from _of_table(media)
    else:
        raise UserError("no such file or folder", where=media, remedy="give a folder of media, or a table")


def _of_folder(top: Path, folder: Path) -> Iterator[Item]:
    """Links are not followed: they lead out of the folder, or round and round."""
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(
            f"cannot be listed ({error.strerror})",
            where=folder,
            remedy="allow reading it, or give another folder",
        ) from None
    for entry in found:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _of_folder(top, path)
        elif entry.is_file(follow_symlinks=False) and (kind := _kind_of(path.name)) is not None:
            yield Item(path.relative_to(top).as_posix(), str(path.resolve()), kind)


def _kind_of(name: str) -> MediaKind | None:
    suffix = Path(name).suffix.lower()
    if suffix in raw_values.IMAGE_SUFFIXES:
        return "image"
    return "video" if suffix in raw_values.VIDEO_SUFFIXES else None


def _of_table(path: Path) -> Iterator[Item]:
    """A path is looked for beside the table, where it is not absolute."""
    form = _FORMATS.get(path.suffix.lower())
    if form is None:
        raise UserError("is no table we can read", where=path, remedy=f"known are {', '.join(_FORMATS)}")
    try:
        table = ds.dataset(path, format=_csv_format(path) if form == "csv" else form)
        if "media_path" not in table.schema.names:
            raise UserError(
                f"has no column media_path, only {', '.join(table.schema.names[:20])}",
                where=path,
                remedy="call the column of paths media_path; id and media_kind may stand beside it",
            )
        columns = [name for name in ("id", "media_path", "media_kind") if name in table.schema.names]
        number = 0
        for batch in table.to_batches(columns=columns, batch_size=4096):
            for row in batch.to_pylist():
                number += 1
                yield _of_row(row, number, path.resolve().parent)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise UserError(
            f"cannot be read ({' '.join(str(error).split())[:200]})", where=path, remedy="mend the table"
        ) from None


def _csv_format(path: Path) -> ds.CsvFileFormat:
    from pyarrow import csv

    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    # names such as 007 stay as they are
    texts = dict.fromkeys(("id", "media_path", "media_kind"), pa.string())
    convert = csv.ConvertOptions(column_types=texts, strings_can_be_null=True, null_values=[""])
    return ds.CsvFileFormat(csv.ParseOptions(delimiter=delimiter), convert_options=convert)


def _of_row(row: dict[str, Any], number: int, beside: Path) -> Item:
    path, kind = row.get("media_path"), row.get("media_kind")
    name = f"row {number}" if row.get("id") is None else str(row["id"])
    if not isinstance(path, str) or not path:
        return Item(name, None, None)
    known: MediaKind | None = kind if kind in ("image", "video") else _kind_of(path) if kind is None else None
    return Item(name, str(beside / path), known)


def _blocks(found: Iterable[Item]) -> Iterator[list[Item]]:
    left = iter(found)
    while block := list(islice(left, BLOCK)):
        yield block


class _Asking:
    """One call at work."""

    def __init__(
        self, model: str | RemoteConfig, manner: Manner, wanted: Wanted, place: Path, device: str
    ) -> None:
        self._model, self._manner, self._wanted = model, manner, wanted
        self._place, self._device = place, device
        self._store = FrameStore(place / "frames")
        self._viewer = Viewer(
            place / "seen", place / "frames", max_scenes=manner.max_scenes, rule=manner.scenes
        )
        self._predictor: Predictor | None = None
        if isinstance(model, RemoteConfig):
            self.identity = RemoteModel(model, self._store).identity()
        else:
            auto.check(model)
            self.identity = auto.weights_hash(Path(model)) if Path(model).is_dir() else auto.on_hub(model)
        plan = {
            "model": self.identity,
            "manner": manner.model_dump(mode="json"),
            "wanted": repr(replace(wanted, limit=None)),
            "schema": str(SCHEMA),
        }
        self._plan = fingerprint(plan)
        self._numbers = numbers()

    def part(self, block: Sequence[Item]) -> Path:
        """The file of a block's rows; they are asked where it is not there."""
        states = [[item.id, item.path, item.kind, item.path and file_state(item.path)] for item in block]
        mark = fingerprint([self._plan, states])
        file = self._place / f"{next(self._numbers):07d}-{mark}.parquet"
        if not file.exists():
            parquet.write_table(file, pa.Table.from_pylist(list(self._rows(block)), schema=SCHEMA))
        return file

    def _rows(self, block: Sequence[Item]) -> Iterator[dict[str, Any]]:
        looked = self._viewer.views(
            [(item.path, item.kind) if item.path and item.kind else (None, None) for item in block],
            label="looking at media",
        )
        rows = []
        for item, view in zip(block, looked, strict=True):
            row = {"id": item.id, "media_path": item.path, "media_kind": item.kind, "error": None}
            rows.append((row, view))
            if item.path is None:
                row["error"] = "media_missing"
            elif item.kind is None:
                row["error"] = "media_kind_unknown"
            elif not isinstance(view, View):
                row["error"] = view
        views = [view for row, view in rows if row["error"] is None and isinstance(view, View)]
        asked = iter(self._asked(views))
        for row, _ in rows:
            yield row | (next(asked) if row["error"] is None else {})

    def _asked(self, views: Sequence[View]) -> list[dict[str, Any]]:
        """What is said of every item; of one that fails on its way to the model, the reason."""
        try:
            return self._answered(views)
        except MediaFault as fault:
            if len(views) == 1:
                return [{"error": fault.reason}]
            return [row for view in views for row in self._asked([view])]

    def _answered(self, views: Sequence[View]) -> list[dict[str, Any]]:
        if not views:
            return []
        if self._predictor is None:
            self._predictor = self._loaded()
        found = self._predictor.audiences(views, comments=self._wanted.comments)
        pairs = [(view.media(), question) for view in views for question in self._wanted.questions]
        answers = iter(self._predictor.answers([media for media, _ in pairs], [asked for _, asked in pairs]))
        return [
            as_row(one)
            | {"answers": [{"question": q, "answer": next(answers)} for q in self._wanted.questions]}
            for one in found
        ]

    def _loaded(self) -> Predictor:
        model: Any = (
            RemoteModel(self._model, self._store)
            if isinstance(self._model, RemoteConfig)
            else auto.load(self._model, self._store, device=self._device)
        )
        return Predictor(
            model,
            self._manner,
            max_new_tokens=self._wanted.max_new_tokens,
            batch_size=self._wanted.batch_size,
            seed=self._wanted.seed,
        )


def as_row(audience: Audience) -> dict[str, Any]:
    """What was expected, in the columns of SCHEMA."""
    part, likes = audience.likes or (None, None)
    spread = audience.likes_spread
    return {
        "description": audience.description,
        "likes": likes,
        "likes_part": part,
        "likes_spread": None if spread is None else [{"value": v, "probability": p} for v, p in spread],
        "comments": list(audience.comments) or None,
        "scenes": [{"start_s": start, "end_s": end} for start, end in audience.scenes],
        "replay": audience.replay,
        "retention": audience.retention,
        **_counted("reactions", "reaction_kinds", audience.reactions),
        **_counted("shares", "share_services", audience.shares),
        "raw": audience.raw,
    }


def _counted(name: str, kinds: str, found: Counts | None) -> dict[str, Any]:
    if found is None:
        return {}
    named = [{"name": kind, "share": share} for kind, share in found.kinds]
    return {name: found.total, f"{name}_part": found.part, kinds: named or None}

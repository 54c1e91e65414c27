"""`behavior-llava show`: rows of a data set as a person reads them, with what is supervised in color.

A folder of ours in (a run, an arm's rows, a published data set), or one Parquet file; colored text out. With
a model the colors are those of its labels, token by token; without one, what the template puts in the answer.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import PLAN
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Example, Media, example_from_row

PROMPT, DESCRIPTION, BEHAVIOR, ASIDE = "default", "cyan", "green", "dim"
_EXAMPLES = "examples.parquet"


def panels(
    path: Path, *, arm: str | None, ids: tuple[str, ...], limit: int, model: str | None
) -> Iterator[Panel]:
    """The first rows, or those of these ids, ready to be printed.

    Args:
        path: run folder, folder of an arm's rows, published data set, or Parquet file.
        arm: of a run; its behavior arm where none is named.
        model: folder or name of the model whose labels are shown; None for none.

    Raises:
        UserError: nothing of ours is there, or no such arm or row.
    """
    files = _files(path, arm)
    rows = (row for file in files for row in _rows(file))
    chosen = islice((row for row in rows if not ids or row.id in ids), limit)
    found = 0
    separator = _separator(files[0])
    with tempfile.TemporaryDirectory() as frames:  # nothing is written where one only looks
        loaded = None
        if model is not None:
            from behavior_llava.models import auto

            loaded = auto.load(model, FrameStore(Path(frames)))
        for example in chosen:
            found += 1
            lines = _words(example, separator) if loaded is None else _tokens(loaded, example)
            kinds = ", ".join(example.behaviors) or "no behavior"
            yield Panel(Group(*lines), title=Text(f"{_plain(example.id)} · {kinds}"), title_align="left")
    if not found:
        asked = f" of {', '.join(ids)}" if ids else ""
        raise UserError(f"holds no row{asked}", where=path, remedy="show without --id what there is")


def _files(path: Path, arm: str | None) -> list[Path]:
    """The Parquet files with the rows."""
    if path.is_file():
        return [path]
    if (path / _EXAMPLES).exists():
        return [path / _EXAMPLES]
    if found := sorted((path / "data").glob("*.parquet")):
        return found
    built = sorted((path / "build" / "arms").glob(f"seed*/*/{_EXAMPLES}"))
    by_arm = {file.parent.name: file for file in reversed(built)}  # the first seed's
    if not by_arm:
        raise UserError(
            "holds no rows", where=path, remedy="give a run that was built, an arm's folder or a data set"
        )
    name = arm or ("behavior" if "behavior" in by_arm else min(by_arm))
    if name not in by_arm:
        raise UserError(
            f"has no rows of the arm {name!r}", where=path, remedy=f"there are {', '.join(by_arm)}"
        )
    return [by_arm[name]]


def _rows(file: Path) -> Iterator[Example]:
    try:
        reader = pq.ParquetFile(file)
        missing = {"id", "prompt", "completion"} - set(reader.schema_arrow.names)
    except (OSError, ValueError) as error:
        raise UserError(f"is no Parquet file ({error})", where=file, remedy="give rows of ours") from error
    if missing:
        raise UserError(f"has no column {', '.join(sorted(missing))}", where=file, remedy="give rows of ours")
    for batch in reader.iter_batches(batch_size=64):
        for row in batch.to_pylist():
            if not all(isinstance(row[name], str) for name in ("id", "prompt", "completion")):
                raise UserError(
                    "has a row without id, prompt or completion", where=file, remedy="give rows of ours"
                )
            yield example_from_row({"media": None, "behaviors": (), **row} | _published_media(row))


def _published_media(row: dict[str, Any]) -> dict[str, Any]:
    """The media of a published row as ours; nothing for a row that is ours."""
    if "media" in row:
        return {}
    kind = "image" if row.get("image") is not None else "video"
    held = row.get(kind)
    if held is None:
        return {}
    times = [] if kind == "image" else [(scene["start_s"] + scene["end_s"]) / 2 for scene in row["scenes"]]
    known = {"path": held["path"] or "", "kind": kind, "sha256": row["media_sha256"], "times_s": times}
    return {"media": known}


def _separator(file: Path) -> str | None:
    """The template's line between description and behavior, where the stage says it."""
    for folder in file.parents[:2]:
        plan = folder / PLAN
        if plan.exists():
            template = json.loads(plan.read_text(encoding="utf-8"))["config"].get("template")
            if isinstance(template, dict):
                return template["separator"]
    return None


def _plain(text: str) -> str:
    """Without what would command a terminal."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def _seen(media: Media | None) -> str:
    if media is None:
        return "no media"
    frames = f", {len(media.times_s)} frames" if media.times_s else ""
    return f"<{media.kind}{frames}: {_plain(Path(media.path).name)}>"


def _words(example: Example, separator: str | None) -> Iterator[Text]:
    """What is asked, and the answer in color."""
    yield Text(_seen(example.media), style=ASIDE)
    for question, answer in example.earlier:
        yield Text(_plain(question), style=PROMPT)
        yield Text(_plain(answer), style=DESCRIPTION)
    yield Text(_plain(example.prompt), style=PROMPT)
    color = DESCRIPTION
    for line in (example.completion or "").split("\n"):
        if line == separator:
            color = BEHAVIOR
        yield Text(_plain(line), style=ASIDE if line == separator else color)


def _tokens(model: Any, example: Example) -> Iterator[Text]:
    """The row as the model meets it, token by token: supervised ones in color."""
    from behavior_llava.models.auto import IGNORED

    batch = model.inputs([example], supervise=True)
    ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
    text = Text()
    for (is_media, is_label), group in groupby(
        zip(ids, labels, strict=True), key=lambda pair: (pair[0] in model.media_token_ids, pair[1] != IGNORED)
    ):
        tokens = [token for token, _ in group]
        if is_media:
            text.append(f"<media, {len(tokens)} tokens>", style=ASIDE)
        else:
            text.append(_plain(model.tokenizer.decode(tokens)), style=BEHAVIOR if is_label else PROMPT)
    yield text
    supervised = sum(label != IGNORED for label in labels)
    yield Text(f"{supervised} of {len(ids)} tokens are supervised", style=ASIDE)

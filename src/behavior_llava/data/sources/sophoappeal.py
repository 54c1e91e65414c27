"""Photos that people liked, and that others were asked about: SophoAppeal's real photos in one list.

    path: sophoappeal                  # a folder with behaviour.csv and the images it names
    split: 3                           # the photos of this half alone; null for all

`behaviour.csv` has a row a photo: `image` (its path in the folder), `source` (the platform, within which
likes can be compared), `likes`, `views` and `crowd_mos`, the mean of a crowd's votes on a scale of 1 to 5,
empty where nobody voted. The votes are no behavior of the photo's receivers and are not read here: they are
the labels of evaluation/tasks/photo_appeal.py. Both read the same halves, so that no photo whose likes were
learned from is asked about.

Data: https://github.com/Telecommunication-Telemedia-Assessment/sophoappeal_images, images CC0, list GPL-3.0.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault, Part, Post, Source
from behavior_llava.data import raw_values
from behavior_llava.data.parts import file_key

FILE = "behaviour.csv"
COLUMNS = ("image", "source", "likes", "views", "crowd_mos")
NUM_SPLITS = 20
LICENCE = "images CC0, list GPL-3.0"

Row = Mapping[str, str]


class Config(BaseModel):
    """Settings of the source.

    Attributes:
        path: the folder with behaviour.csv.
        split: 1 to 20: the photos of that split's training half; null for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    split: int | None = Field(default=None, ge=1, le=NUM_SPLITS)


def rows_of(folder: Path) -> list[Row]:
    """The rows of the list, in its order.

    Raises:
        UserError: no list, another one, or an image is named twice.
    """
    path = folder / FILE
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = sorted(set(COLUMNS) - set(reader.fieldnames or ()))
            if missing:
                raise UserError(
                    f"has no column {', '.join(missing)}", where=path, remedy=f"expected {', '.join(COLUMNS)}"
                )
            rows: list[Row] = list(reader)
    except FileNotFoundError:
        raise UserError("no such list", where=path, remedy=f"give the folder that holds {FILE}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"cannot be read as CSV ({error})", where=path, remedy="save it as UTF-8, with commas"
        ) from error
    names = [row["image"] for row in rows]
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise UserError(f"{twice!r} is listed twice", where=path, remedy="keep one row a photo")
    return rows


def half(rows: Sequence[Row], split: int, *, of: str) -> list[Row]:
    """One half of the rows, "train" or "test", in their order: of every platform's photos one in two, with
    votes and without apart, by a hash of the split and the name: the halves depend on no random state.
    """
    groups: dict[tuple[str, bool], list[str]] = defaultdict(list)
    for row in rows:
        groups[row["source"], bool(row["crowd_mos"])].append(row["image"])
    learned = set()
    for names in groups.values():
        drawn = sorted(names, key=lambda name: hashlib.sha256(f"{split} {name}".encode()).digest())
        learned |= set(drawn[: len(drawn) // 2])
    return [row for row in rows if (row["image"] in learned) == (of == "train")]


def parse(row: Any, *, where: str = "") -> Post | Fault:
    """One row to a Post whose media path is still relative."""
    if not isinstance(row, Mapping):
        return Fault("row_broken", where)
    name, platform = (raw_values.to_text(row.get(key)) for key in ("image", "source"))
    if not name or not platform:
        return Fault("id_missing", where)
    if "\x00" in name or raw_values.media_kind(name) != "image":
        return Fault("not_media", where)
    try:
        likes, views = (raw_values.to_count(row.get(key)) for key in ("likes", "views"))
    except ValueError:
        return Fault("not_a_number", where)
    return Post(
        id=f"sophoappeal:{Path(name).stem}",
        source="sophoappeal",
        media_kind="image",
        channel=platform,
        media_path=name,
        num_likes=likes,
        num_views=views,
        licence=LICENCE,
    )


def parts(config: Config, folder: Path) -> Iterator[Part]:
    """The list is one part."""
    rows_of(config.path)
    key = f"{file_key(config.path / FILE)} split {config.split}"
    yield Part(key, None)


def read(config: Config, part: Part) -> Iterator[Post | Fault]:
    """A post or a Fault for each row."""
    folder = config.path
    rows = rows_of(folder)
    wanted = rows if config.split is None else half(rows, config.split, of="train")
    for number, row in enumerate(wanted, 1):
        where = f"{FILE}, photo {number}"
        found = parse(row, where=where)
        if isinstance(found, Post):
            try:
                path = raw_values.file_inside(folder, found.media_path or "")
            except ValueError:
                yield Fault("media_outside", where)
                continue
            found = replace(found, media_path=None if path is None else str(path))
        yield found


SOURCE = Source(
    config=Config,
    parts=parts,
    read=read,
    parse=parse,
    examples=(
        (
            {
                "image": "images/500px_cc0_0000.jpg",
                "source": "500px_cc0",
                "likes": "52",
                "views": "152",
                "crowd_mos": "2.88",
            },
            Post(
                id="sophoappeal:500px_cc0_0000",
                source="sophoappeal",
                media_kind="image",
                channel="500px_cc0",
                media_path="images/500px_cc0_0000.jpg",
                num_likes=52,
                num_views=152,
                licence=LICENCE,
            ),
        ),
        (
            {"image": "a.jpg", "source": "x", "likes": "", "views": "9", "crowd_mos": ""},
            Post(
                id="sophoappeal:a",
                source="sophoappeal",
                media_kind="image",
                channel="x",
                media_path="a.jpg",
                num_views=9,
                licence=LICENCE,
            ),
        ),
        ({"image": "", "source": "x", "likes": "1", "views": "2"}, "id_missing"),
        ({"image": "a.txt", "source": "x", "likes": "1", "views": "2"}, "not_media"),
        ({"image": "a.jpg", "source": "x", "likes": "many", "views": "2"}, "not_a_number"),
        ("a.jpg", "row_broken"),
    ),
)

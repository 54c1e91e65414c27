"""Posts and authors taken out of the files the sandbox wrote, and their media with them.

Where a post stands in them says data/sources/sandbox.py. Files are rewritten whole or not at all, and what
tells whose a file or line is goes last, so that a killed call may be made again. Instruction data and
benchmarks are left alone: they hold nobody's posts. Called by forgetting.py as the source's `erase`.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from behavior_llava.data import json_lines, people, youtube_records
from behavior_llava.data.ledger import Forgotten
from behavior_llava.data.world import writers

SALT = people.DEFAULT_SALT
"""The sandbox has none of its own."""


def erase(config: Any, folder: Path, forgotten: Forgotten, is_dry: bool) -> int:
    """Takes the forgotten out of a world; returns the records removed: posts, comments, observers' paths.

    Args:
        config: the sandbox's; which sides there are is seen in the folder.
        is_dry: only count.
    """
    by_author = {post for post, author in _authored(folder) if forgotten.has_author(author)}

    def is_gone(post: str) -> bool:
        return post in by_author or forgotten.has_post(post)

    sides = (_dumps, _films, _page, _looks, _split)
    if not is_dry:
        _truth(folder / "truth.json", is_gone)
    return sum(side(folder, is_gone, forgotten.has_author, is_dry) for side in sides)


IsGone = Callable[[str], bool]
HasAuthor = Callable[[str | None], bool]


def _authored(folder: Path) -> Iterator[tuple[str, str | None]]:
    """Every post that has an author, with their hash."""
    for path in sorted(folder.glob("reddit/RS_*.zst")):
        for record in _records(path):
            yield f"reddit:{record['id']}", people.hash_author(record["author"], SALT, "reddit")
    for path in sorted(folder.glob("youtube/*.info.json")):
        info = json.loads(path.read_text(encoding="utf-8"))
        yield f"youtube:{info['id']}", youtube_records.author(SALT, info["channel_id"], info["channel"])


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for _, raw in json_lines.lines(path):
        yield json.loads(raw or b"")


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(f"{path.suffix}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8", newline="")
    part.replace(path)


def _truth(path: Path, is_gone: IsGone) -> None:
    if path.exists():  # written last
        facts = json.loads(path.read_text(encoding="utf-8"))
        left = {post: fact for post, fact in facts.items() if not is_gone(post)}
        if len(left) < len(facts):
            _replace(path, json.dumps(left, indent=1))


def _dumps(folder: Path, is_gone: IsGone, has_author: HasAuthor, is_dry: bool) -> int:
    """Reddit: comments first, because the post's own line tells whose it is."""

    def is_gone_comment(record: dict[str, Any]) -> bool:
        post = f"reddit:{record['link_id'].removeprefix('t3_')}"
        return is_gone(post) or has_author(people.hash_author(record["author"], SALT, "reddit"))

    def is_gone_post(record: dict[str, Any]) -> bool:
        return is_gone(f"reddit:{record['id']}")

    removed = 0
    for pattern, is_wanted in (("RC_*.zst", is_gone_comment), ("RS_*.zst", is_gone_post)):
        for path in sorted((folder / "reddit").glob(pattern)):
            going = [record["id"] for record in _records(path) if is_wanted(record)]
            removed += len(going)
            if going and not is_dry:
                if is_wanted is is_gone_post:
                    for name in going:
                        (folder / "reddit" / "media" / f"{name}.jpg").unlink(missing_ok=True)
                writers.save_dump(path, (record for record in _records(path) if not is_wanted(record)))
    return removed


def _films(folder: Path, is_gone: IsGone, has_author: HasAuthor, is_dry: bool) -> int:
    """YouTube: a post's files go together, its info.json last; of others the author's comments."""
    removed, place = 0, folder / "youtube"
    for path in sorted(place.glob("*.info.json")):
        info = json.loads(path.read_text(encoding="utf-8"))
        if is_gone(f"youtube:{info['id']}"):
            removed += 1 + len(info["comments"])
            if not is_dry:
                for beside in (*place.glob(f"analytics/{info['id']}.*"), *place.glob(f"{info['id']}.*")):
                    if beside != path:
                        beside.unlink()
                path.unlink()
            continue
        left = [comment for comment in info["comments"] if not has_author(_writer(comment))]
        removed += len(info["comments"]) - len(left)
        if len(left) < len(info["comments"]) and not is_dry:
            _replace(path, json.dumps(info | {"comments": left}, indent=1))
    return removed


def _writer(comment: dict[str, Any]) -> str | None:
    return youtube_records.author(SALT, comment["author_id"], comment["author"])


def _page(folder: Path, is_gone: IsGone, has_author: HasAuthor, is_dry: bool) -> int:
    """The page's own CSV, which names nobody."""
    path = folder / "page" / "export.csv"
    if not path.exists():
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    key, image = header.index("status_id"), header.index("image")
    going = [row for row in rows if is_gone(f"page:{row[key]}")]
    if going and not is_dry:
        for row in going:
            (path.parent / row[image]).unlink(missing_ok=True)
        part = path.with_suffix(f".csv.{os.getpid()}.part")
        with part.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *(row for row in rows if row not in going)])
        part.replace(path)
    return len(going)


def _looks(folder: Path, is_gone: IsGone, has_author: HasAuthor, is_dry: bool) -> int:
    """Fixations and outlines: pictures with all that is said of them, and the paths of observers."""
    removed = 0
    for path in sorted((folder / "perceptual").glob("*.json")):
        told = json.loads(path.read_text(encoding="utf-8"))
        going = {image["id"]: image for image in told["images"] if is_gone(f"salicon:{image['id']}")}
        left = [
            entry
            for entry in told["annotations"]
            if entry["image_id"] not in going
            and not has_author(people.hash_author(entry.get("worker_id"), SALT))
        ]
        count = len(going) + len(told["annotations"]) - len(left)
        removed += count
        if count and not is_dry:
            for image in going.values():
                (path.parent / "images" / image["file_name"]).unlink(missing_ok=True)
            images = [image for image in told["images"] if image["id"] not in going]
            _replace(path, json.dumps(told | {"images": images, "annotations": left}))
    return removed


def _split(folder: Path, is_gone: IsGone, has_author: HasAuthor, is_dry: bool) -> int:
    """A split in LaMem's layout: a file's name and a number a line."""
    removed = 0
    for path in sorted((folder / "memory" / "splits").glob("*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        going = {name for name in (line.split()[0] for line in lines) if is_gone(f"lamem:{name}")}
        removed += len(going)
        if going and not is_dry:
            for name in going:
                (folder / "memory" / "images" / name).unlink(missing_ok=True)
            _replace(path, "".join(line for line in lines if line.split()[0] not in going))
    return removed

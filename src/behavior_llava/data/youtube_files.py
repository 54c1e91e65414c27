"""What lies in a folder of YouTube files: which are ours, what stands beside a video, and in which state.

A JSON or CSV file may be anything, so only its beginning is looked at; what is not ours is left alone. Links
that lead out of the folder are not followed. Called by the youtube source.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from behavior_llava.core.manifest import fingerprint
from behavior_llava.core.schema import Fault
from behavior_llava.data import raw_values, youtube_exports, youtube_trending
from behavior_llava.data.parts import file_key
from behavior_llava.data.youtube_records import API_KINDS

INFO = ".info.json"
SUBTITLES = (".vtt", ".srt")
ANALYTICS = "analytics"
"""Folder beside the videos in which exports may stand."""

MAX_JSON_BYTES = 512 * 2**20
"""A JSON document is held whole; half a million comments stay below this."""

_HEAD_BYTES = 4096
_JSON, _LINES = (".json", ".jsonl", ".ndjson"), (".jsonl", ".ndjson")
_KIND = re.compile(rb'"kind"\s{0,20}:\s{0,20}"([^"\\]{0,60})"')
_EXPORT = re.compile(r"(?:.*\.)?(?:retention|shares)(?:\.json|\.csv|\.tsv)")


_LANGUAGE = re.compile(r"[A-Za-z][\w-]{1,30}", re.ASCII)


def is_language(name: Any) -> bool:
    """Whether a subtitle's language can stand in a file's name."""
    return isinstance(name, str) and _LANGUAGE.fullmatch(name) is not None


def is_info(name: str) -> bool:
    """Whether a file's name is that of an info.json."""
    return name.endswith(INFO)


def is_other(name: str) -> bool:
    """Whether a file of this name may hold Data API answers or a trending list."""
    return name.endswith((*_JSON, ".csv")) and not is_info(name) and not _EXPORT.fullmatch(name)


def _is_beside(name: str) -> bool:
    suffixes = (*SUBTITLES, *raw_values.VIDEO_SUFFIXES)
    return name.endswith(suffixes) or _EXPORT.fullmatch(name) is not None


def leads_out(path: Path, root: Path) -> bool:
    """Whether a file is a link to a place outside of `root`, or to nowhere."""
    try:
        return path.is_symlink() and not path.resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # dangling, or a loop
        return True


# ---- telling what a file is by its beginning ---------------------------------------------------------------


def _is_lines(name: str, head: bytes) -> bool:
    """JSON lines: by the name, or where the first line is an object by itself."""
    line, newline, _ = head.removeprefix(b"\xef\xbb\xbf").lstrip().partition(b"\n")
    is_whole = line.rstrip().endswith(b"}") if newline else len(line) > 1
    return name.endswith(_LINES) or (line.startswith(b"{") and is_whole)


def kind_of(path: Path, root: Path) -> tuple[Literal["pages", "page_lines", "trending"], Any] | None:
    """What a file holds, with the kind of its first answer or its columns; None where it is not ours.

    One that cannot be read counts as ours, so that reading it says so.
    """
    if leads_out(path, root) or not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return "pages", None
    if path.name.endswith(".csv"):
        columns = youtube_trending.columns_of(head)
        return ("trending", columns) if youtube_trending.schema(columns) else None
    found = _KIND.search(head)
    kind = found[1].decode("ascii", "replace") if found else ""
    if kind not in API_KINDS:
        return None
    return "page_lines" if _is_lines(path.name, head) else "pages", (head.lstrip()[:1], kind)


def load_json(path: Path, where: str) -> Any | Fault:
    """A JSON document; a Fault where it is none, too large or not readable."""
    try:
        if not path.is_file():  # a pipe would wait for ever
            return Fault("file_unreadable", where)
        if path.stat().st_size > MAX_JSON_BYTES:
            return Fault("file_too_large", where)
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError:
        return Fault("file_unreadable", where)
    except (ValueError, RecursionError):  # broken JSON or UTF-8, 5,000 digits, 10,000 brackets deep
        return Fault("json_broken", where)


# ---- what stands beside a video ----------------------------------------------------------------------------


class Folder:
    """A folder in which something may stand beside a video; its names are read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        inside = [f"{ANALYTICS}/{file.name}" for file in _files(path / ANALYTICS)]
        self._names = frozenset([*(file.name for file in _files(path)), *inside])

    def first(self, names: Iterable[str], endings: Sequence[str]) -> Path | None:
        """The first `<name><ending>`; None where there is none that stays in the folder."""
        for name in names:
            for ending in endings:
                if name + ending in self._names:
                    try:
                        path = raw_values.file_inside(self._path, name + ending)
                    except ValueError:  # a link that leads out of the folder: not ours to read
                        continue
                    if path is not None:
                        return path
        return None

    def export(self, names: Sequence[str], kind: youtube_exports.Kind) -> Path | None:
        """The first `<name>.<kind>.json`, .csv or .tsv, beside the video or in `analytics/`."""
        stems = [f"{name}.{kind}" for name in names]
        return self.first([*stems, *(f"{ANALYTICS}/{stem}" for stem in stems)], youtube_exports.SUFFIXES)

    def shared_export(self, kind: youtube_exports.Kind) -> Path | None:
        """`<kind>.json`, .csv or .tsv: an export of several videos."""
        return self.first((kind, f"{ANALYTICS}/{kind}"), youtube_exports.SUFFIXES)


class Besides:
    """The state of the media, subtitles and exports of every folder, for the keys of parts.

    A file belongs to the info.json whose name it begins with. Those that begin with none, such as files named
    by a video's id beside an info.json named by its title, may belong to any of their folder.
    """

    def __init__(self) -> None:
        self._found: dict[Path, tuple[dict[str, str], str]] = {}

    def _folder(self, folder: Path) -> tuple[dict[str, str], str]:
        """States by the info.json they belong to, "" for those that belong to none, and the state of all."""
        if folder not in self._found:
            files = _files(folder)
            infos = sorted(path.name.removesuffix(INFO) for path in files if is_info(path.name))
            owned: dict[str, list[Path]] = defaultdict(list)
            for path in [*files, *_files(folder / ANALYTICS)]:
                if _is_beside(path.name):
                    owned[_owner(path.name, infos)].append(path)
            states = {name: file_key(*paths) for name, paths in owned.items()}
            self._found[folder] = states, fingerprint(states)
        return self._found[folder]

    def of_infos(self, paths: Sequence[Path]) -> list[tuple[str | None, str | None]]:
        """The state of what stands beside these info.json."""
        found = ((self._folder(path.parent)[0], path.name.removesuffix(INFO)) for path in paths)
        return [(states.get(name), states.get("")) for states, name in found]

    def of_folders(self, paths: Sequence[Path]) -> list[str]:
        """The state of all that stands beside these files, whatever its name."""
        return [self._folder(folder)[1] for folder in dict.fromkeys(path.parent for path in paths)]


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:  # it is not there, or closed: nothing of it can be read later either
        return []


def _owner(name: str, infos: Sequence[str]) -> str:
    """The longest of the sorted `infos` that the name begins with, up to a dot; "" where there is none."""
    end = len(name)
    while (end := name.rfind(".", 0, end)) > 0:
        place = bisect_left(infos, name[:end])
        if place < len(infos) and infos[place] == name[:end]:
            return name[:end]
    return ""

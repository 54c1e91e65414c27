"""YouTube videos from files people hold; nothing is fetched.

    yt-dlp --write-info-json --write-comments --write-subs --write-auto-subs ...

In a folder and those below it are read

- yt-dlp's `*.info.json`;
- answers of the Data API v3 (`*.json`, `*.jsonl`, `*.ndjson`, by their `kind`): videos, comment threads and
  comments, one answer a file, a list of them, or one a line;
- trending lists (`*.csv`, by their header; see youtube_trending.py);

and for every video what stands beside them under `<name>` or `<id>`: media (.mp4, .webm, .mkv, ...),
subtitles (`.<language>.vtt`, `.srt`), and, for info.json and Data API, the owner's exports
(`.retention.json`, `.shares.json`, also .csv and .tsv), which may stand in a folder `analytics` as well;
`retention.*` and `shares.*` hold several videos (see youtube_exports.py). Other files are left alone;
YTMR500's HDF5 curves are not read.

A post has what its file says: most small channels have no heatmap, a hidden like count is null, the comments
are a part of `num_comments`. A video found in several files is as many posts with one id, of which collect
keeps the latest. A comment whose answer names no video (comments.list by parent does not) is a Fault. An
export or subtitle that cannot be used is a Fault, and the post stays without it; a broken field makes the
post itself a Fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint
from behavior_llava.core.schema import Chapter, Comment, Curve, Fault, Part, Post, Said, Source
from behavior_llava.data import (
    json_lines,
    people,
    raw_values,
    subtitles,
    youtube_curves,
    youtube_exports,
    youtube_files,
    youtube_records,
    youtube_trending,
)
from behavior_llava.data.parts import file_key, walk

parse = youtube_records.parse


class Config(BaseModel):
    """Settings of the youtube source.

    Attributes:
        path: folder, searched with its subfolders; what is read there is said above.
        licence: of the videos' behaviour and texts, as it goes into the ledger.
        salt: of the authors' hashes.
        trending_year: of trending lists whose days have none ("13.09") and whose file's name has none
            either; without it the day of their counts stays unknown, and the first list counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    licence: str | None = None
    salt: str = people.DEFAULT_SALT
    trending_year: int | None = None


FILES_A_PART = 64
PIECE_BYTES = 8 * 2**20
"""Files are read together up to this size; a larger one is read alone."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one process reads at a time: some files, or a block of one.

    Attributes:
        kind: info.json files, files with one JSON document of the Data API, or one of lines, or a trending
            list.
        block: of the one file; None for whole files.
        columns: of a trending list.
    """

    kind: Literal["info", "pages", "page_lines", "trending"]
    paths: tuple[Path, ...]
    block: json_lines.Block | None = None
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths) if self.block is None else len(self.block)


# ---- what there is to read ---------------------------------------------------------------------------------


def _info_parts(config: Config, besides: youtube_files.Besides) -> Iterator[Part]:
    group: list[Path] = []
    for path in chain(walk(config.path, youtube_files.is_info), [None]):
        group += [path] if path else []
        if group and (path is None or len(group) == FILES_A_PART):
            key = fingerprint([file_key(*group), besides.of_infos(group)])
            yield Part(key, Piece("info", tuple(group)))
            group = []


def _other_parts(config: Config, besides: youtube_files.Besides) -> Iterator[Part]:
    """Data API answers and trending lists; small documents together, comments apart from videos."""
    groups: dict[bool, list[Path]] = {True: [], False: []}

    def part(piece: Piece, has_posts: bool = True) -> Part:
        state = besides.of_folders(piece.paths) if has_posts else None
        return Part(fingerprint([file_key(*piece.paths), state]), piece)

    for path in walk(config.path, youtube_files.is_other):
        found = youtube_files.kind_of(path, config.path)
        if found is None:
            continue
        kind, seen = found
        if kind != "pages":
            yield part(Piece(kind, (path,), columns=seen if kind == "trending" else ()))
            continue
        has_posts = seen is None or not (seen[0] == b"{" and "comment" in seen[1])
        groups[has_posts].append(path)
        if len(groups[has_posts]) == FILES_A_PART:
            yield part(Piece("pages", tuple(groups[has_posts])), has_posts)
            groups[has_posts] = []
    for has_posts, paths in groups.items():
        if paths:
            yield part(Piece("pages", tuple(paths)), has_posts)


def parts(config: Config, folder: Path) -> Iterator[Part]:
    """Groups of info.json, then of other JSON, lists and lines one by one, in the order of their names.

    Raises:
        UserError: where the path is no folder or holds nothing of ours.
    """
    if not config.path.is_dir():
        raise UserError(
            "no such folder", where=config.path, remedy="set path to the folder with the info.json files"
        )
    besides, found = youtube_files.Besides(), False
    for part in chain(_info_parts(config, besides), _other_parts(config, besides)):
        found = True
        yield part
    if not found:
        raise UserError(
            "no *.info.json, Data API answer or trending CSV in the folder or below it",
            where=config.path,
            remedy="run yt-dlp with --write-info-json",
        )


def pieces(config: Config, part: Part) -> Iterator[Piece]:
    """Files together up to PIECE_BYTES, or blocks of lines and rows."""
    whole: Piece = part.content
    if whole.kind == "page_lines":
        yield from (replace(whole, block=block) for block in json_lines.blocks(whole.paths[0]))
        return
    if whole.kind == "trending":
        yield from (replace(whole, block=block) for block in youtube_trending.blocks(whole.paths[0]))
        return
    group: list[Path] = []
    size = 0
    for path in whole.paths:
        length = path.stat().st_size if path.exists() else 0
        if group and size + length > PIECE_BYTES:
            yield replace(whole, paths=tuple(group))
            group, size = [], 0
        group.append(path)
        size += length
    yield replace(whole, paths=tuple(group))


# ---- reading -----------------------------------------------------------------------------------------------


def _languages(info: Mapping[str, Any]) -> list[str]:
    """Subtitle languages to look for, the spoken one first; written subtitles before automatic ones."""
    spoken = info.get("language") or "en"
    found = [spoken, f"{spoken}-orig", "en", "en-US", "en-GB", "en-orig"]
    for key in ("requested_subtitles", "subtitles", "automatic_captions"):
        if isinstance(info.get(key), Mapping):
            found += info[key]
    return [name for name in dict.fromkeys(found) if youtube_files.is_language(name)]


class _Reader:
    """Reads one piece; keeps the exports of several videos it has met."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._folders: dict[Path, youtube_files.Folder] = {}
        self._shared: dict[Path, dict[str | None, youtube_exports.Rows]] = {}

    def where(self, path: Path) -> str:
        """The file's place in the folder; what stands beside a video is found with its links resolved."""
        root = self.config.path
        return path.relative_to(root if path.is_relative_to(root) else root.resolve()).as_posix()

    def info(self, path: Path) -> Iterator[Post | Fault]:
        """One info.json."""
        where = self.where(path)
        if youtube_files.leads_out(path, self.config.path):
            yield Fault("file_outside" if path.exists() else "file_unreadable", where)
            return
        info = youtube_files.load_json(path, where)
        if not isinstance(info, Mapping | Fault):
            info = Fault("json_broken", where)
        post = (
            info
            if isinstance(info, Fault)
            else parse(info, salt=self.config.salt, licence=self.config.licence, where=where, is_item=False)
        )
        if isinstance(info, Fault) or isinstance(post, Fault):
            yield post
            return
        names = dict.fromkeys((path.name.removesuffix(youtube_files.INFO), info["id"]))
        yield from self._with_beside(post, path, tuple(names), _languages(info), youtube_exports.KINDS)

    def pages(self, document: Any, path: Path, where: str) -> Iterator[Post | Said | Fault]:
        """Answers of the Data API."""
        config = self.config
        for item in youtube_records.parse_pages(
            document, salt=config.salt, licence=config.licence, where=where
        ):
            yield from self._alone(item, path, youtube_exports.KINDS)

    def page_lines(self, block: json_lines.Block, path: Path) -> Iterator[Post | Said | Fault]:
        """Lines of such answers."""
        for number, line in block.lines():
            if line is not None and not line.strip():
                continue
            where = f"{self.where(path)}:{number}"
            page = json_lines.parse_json(line, where)
            if isinstance(page, Fault):
                yield page
            else:
                yield from self.pages(page, path, where)

    def trending(self, piece: Piece, block: json_lines.Block) -> Iterator[Post | Said | Fault]:
        """Rows of a trending list: anyone's videos, without a duration, so no owner's exports are theirs."""
        path, config = piece.paths[0], self.config
        for item in youtube_trending.parse_block(
            block,
            piece.columns,
            year=youtube_trending.year_of(path.name) or config.trending_year,
            salt=config.salt,
            licence=config.licence,
            where=self.where(path),
        ):
            yield from self._alone(item, path, ())

    def _alone(
        self, item: Post | Said | Fault, path: Path, exports: Sequence[youtube_exports.Kind]
    ) -> Iterator[Post | Said | Fault]:
        """A post that has no file of its own, with what stands under its id; anything else as it is."""
        if isinstance(item, Post):
            names, languages = (item.id.partition(":")[2],), _languages({"language": item.language})
            yield from self._with_beside(item, path, names, languages, exports)
        else:
            yield item

    def _with_beside(
        self,
        post: Post,
        path: Path,
        names: Sequence[str],
        languages: Sequence[str],
        exports: Sequence[youtube_exports.Kind],
    ) -> Iterator[Post | Fault]:
        """The post with its media, subtitles and exports, after the Faults of what cannot be used."""
        if path.parent not in self._folders:
            self._folders[path.parent] = youtube_files.Folder(path.parent)
        folder = self._folders[path.parent]
        media = folder.first(names, raw_values.VIDEO_SUFFIXES)
        post = replace(post, media_path=None if media is None else str(media))
        endings = [f".{language}{suffix}" for language in languages for suffix in youtube_files.SUBTITLES]
        words = folder.first(names, endings)
        if words is not None:
            try:
                said = people.scrub(subtitles.plain_text(words.read_text(encoding="utf-8-sig")))
                post = replace(post, transcript=said)
            except (OSError, UnicodeDecodeError):
                yield Fault("subtitle_broken", self.where(words))
        for kind in exports:
            own = folder.export(names, kind)
            export = own or folder.shared_export(kind)
            if export is None:
                continue
            try:
                found = youtube_exports.load(export, kind) if own else self._of_several(export, kind)
                post = _with_export(post, kind, found)
            except youtube_curves.DurationMissing:
                yield Fault("duration_missing", self.where(export))
            except (OSError, *youtube_records.BROKEN):
                yield Fault("export_broken", self.where(export))
        yield post

    def _of_several(self, path: Path, kind: youtube_exports.Kind) -> dict[str | None, youtube_exports.Rows]:
        """An export of several videos, read once; a broken one is told once and is empty from then on."""
        if path not in self._shared:
            self._shared[path] = {}
            found = youtube_exports.load(path, kind)
            if None in found:
                raise ValueError("it does not say which video")
            self._shared[path] = found
        return self._shared[path]


def _with_export(
    post: Post, kind: youtube_exports.Kind, found: Mapping[str | None, youtube_exports.Rows]
) -> Post:
    """The post with the rows that are its own: those of its id, or all where the file names no video."""
    rows = found.get(post.id.partition(":")[2]) or found.get(None) or []
    if kind == "shares":
        return replace(post, shares=youtube_exports.counts(rows))
    return replace(post, retention=youtube_curves.retention(rows, post.duration_s))


def read(config: Config, piece: Piece | Part) -> Iterator[Post | Said | Fault]:
    """Every post, comment and Fault of a piece; of a whole part where one is given."""
    if isinstance(piece, Part):
        for cut in pieces(config, piece):
            yield from read(config, cut)
        return
    reader = _Reader(config)
    if piece.block is not None and piece.kind == "page_lines":
        yield from reader.page_lines(piece.block, piece.paths[0])
    elif piece.block is not None:
        yield from reader.trending(piece, piece.block)
    else:
        for path in piece.paths:
            if piece.kind == "info":
                yield from reader.info(path)
                continue
            where = reader.where(path)
            document = youtube_files.load_json(path, where)
            if isinstance(document, Fault):
                yield document
            else:
                yield from reader.pages(document, path, where)


EXAMPLES = (
    (
        {
            "id": "dQw4w9WgXcQ",
            "_type": "video",
            "title": "A day at sea",
            "description": "Write to a@b.org",
            "channel": "Someone",
            "channel_id": "UC1234567890123456789012",
            "duration": 12,
            "age_limit": 0,
            "view_count": 1000,
            "like_count": None,
            "comment_count": 44,
            "upload_date": "20200102",
            "epoch": 1600000000,
            "categories": ["Travel & Events"],
            "language": "en",
            "chapters": [{"start_time": 0.0, "end_time": 12.0, "title": "Waves, by @someone"}],
            "heatmap": [
                {"start_time": 0.0, "end_time": 6.0, "value": 1.0},
                {"start_time": 6.0, "end_time": 12.0, "value": 0.25},
            ],
            "comments": [
                {
                    "id": "Ugx1",
                    "parent": "root",
                    "text": "@someone so calm",
                    "like_count": 3,
                    "timestamp": 1590000000,
                    "author": "@other",
                    "is_pinned": True,
                }
            ],
        },
        Post(
            id="youtube:dQw4w9WgXcQ",
            source="youtube",
            media_kind="video",
            channel="UC1234567890123456789012",
            title="A day at sea",
            description="Write to <email>",
            media_url="https://www.youtube.com/watch?v=dQw4w9WgXcQ",
            duration_s=12.0,
            created_utc=1577923200,
            retrieved_utc=1600000000,
            num_views=1000,
            num_comments=44,
            replay=Curve((0.0, 6.0), (6.0, 12.0), (1.0, 0.25)),
            chapters=(Chapter(0.0, 12.0, "Waves, by <user>"),),
            category="Travel & Events",
            language="en",
            is_nsfw=False,
            author_hash=people.hash_author("UC1234567890123456789012", people.DEFAULT_SALT),
            comments=(
                Comment(
                    id="Ugx1",
                    text="<user> so calm",
                    score=3,
                    author_hash=people.hash_author("@other", people.DEFAULT_SALT),
                    created_utc=1590000000,
                    is_pinned=True,
                ),
            ),
        ),
    ),
    (
        {
            "kind": "youtube#video",
            "id": "dQw4w9WgXcQ",
            "snippet": {
                "publishedAt": "2020-01-02T00:00:00Z",
                "channelId": "UC1234567890123456789012",
                "channelTitle": "Someone",
                "title": "A day at sea",
                "description": "",
                "categoryId": "19",
                "defaultLanguage": "en",
                "defaultAudioLanguage": "pt-BR",
            },
            "contentDetails": {"duration": "PT1H2M3S", "contentRating": {"ytRating": "ytAgeRestricted"}},
            "statistics": {"viewCount": "1000", "favoriteCount": "0"},
        },
        Post(
            id="youtube:dQw4w9WgXcQ",
            source="youtube",
            media_kind="video",
            channel="UC1234567890123456789012",
            title="A day at sea",
            media_url="https://www.youtube.com/watch?v=dQw4w9WgXcQ",
            duration_s=3723.0,
            created_utc=1577923200,
            num_views=1000,
            category="Travel & Events",
            language="pt-BR",
            comments_disabled=True,
            is_nsfw=True,
            author_hash=people.hash_author("UC1234567890123456789012", people.DEFAULT_SALT),
        ),
    ),
    ({"id": "PL123", "_type": "playlist", "entries": []}, "not_a_video"),
    ({"id": "123", "extractor_key": "Vimeo"}, "not_youtube"),
    ({"id": "../x"}, "id_broken"),
    ({"kind": "youtube#video", "id": "../x"}, "id_broken"),
    ({"id": "abc", "heatmap": [{"start_time": 0, "end_time": 1, "value": 7}]}, "field_broken"),
    ({"id": "abc", "heatmap": [[0.0, 1.0], [0.5, 0.2]]}, "duration_missing"),
    ({"id": "abc", "view_count": "hidden"}, "field_broken"),
    ({"kind": "youtube#video", "id": "abc", "statistics": {"viewCount": "1.5 M"}}, "field_broken"),
)

SOURCE = Source(config=Config, parts=parts, read=read, parse=parse, pieces=pieces, examples=EXAMPLES)

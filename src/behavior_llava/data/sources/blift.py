"""The released BLIFT data set: Reddit posts with their comments in six columns, from a folder or the hub.

    url, permalink, comments, num_comments, subreddit, title

as Parquet, or as JSON lines of the same columns. `comments` is a list of texts, as released, the most popular
first; lists of structs with `text` or `body`, and `score`, and either as JSON in a text, are read too. The
data set names no author, time or score, so these are null, and it holds addresses of media, not media.

Source: https://huggingface.co/datasets/behavior-in-the-wild/BLIFT (590,721 rows, 3.2 GB, MIT).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint, folder_state
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Comment, Fault, Part, Post, Source
from behavior_llava.data import ledger, people, reddit_records, stores, table_rows
from behavior_llava.data.sources.reddit import media_path

COLUMNS = ("url", "permalink", "comments", "num_comments", "subreddit", "title")
SUFFIXES = (".parquet", ".jsonl", ".ndjson")

_PERMALINK = re.compile(r"/comments/([a-z0-9]{1,16})(?:/|$)")

log = logging.getLogger(__name__)


class Config(BaseModel):
    """Settings of the blift source: one of `path` and `hub`.

    Attributes:
        path: a folder with the data set's files, or one file.
        hub: its name on the hub, e.g. behavior-in-the-wild/BLIFT; fetched into the run's folder.
        revision: of the hub's repository: a commit, tag or branch; None for its main branch as it is at the
            first fetch, which a later start keeps to.
        media: folder with the media, as "<post id>.<suffix>" or under the URL's last name; None for none at
            hand.
        communities: subreddits to read, in any case; None for all.
        licence: of the texts, as it goes into the ledger.
        salt: of the authors' hashes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path | None = None
    hub: str | None = None
    revision: str | None = None
    media: Path | None = None
    communities: tuple[str, ...] | None = None
    licence: str | None = None
    salt: str = people.DEFAULT_SALT

    @field_validator("hub")
    @classmethod
    def _one_place(cls, hub: str | None, info: ValidationInfo) -> str | None:
        if hub is not None and info.data.get("path") is not None:
            raise ValueError("give path or hub, not both")
        return hub


# ---- fetching ----------------------------------------------------------------------------------------------

FETCHED, COMMIT = "hub", "hub.commit"
"""Names in the stage's folder: the files, and the commit they are of."""


def fetch(config: Config, folder: Path) -> None:
    """Brings the Parquet files of the hub's repository; nothing for a path. Whole files stay, also when it is
    stopped; one that was under way begins again.

    The commit is settled first and kept, so that a fetch which was stopped does not end with files of two
    states of the repository, and one that cannot reach the hub is never taken for finished.

    Raises:
        UserError: the hub cannot be reached, does not know the data set, or does not let us in.
    """
    if config.hub is None:
        return
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()  # ours is shown
    mark = folder / COMMIT  # a stage of other settings begins with an empty folder
    commit = mark.read_text(encoding="utf-8") if mark.exists() else config.revision
    api = HfApi(library_name="behavior-llava")
    info = _asked(config, lambda: api.dataset_info(_hub(config), revision=commit))
    names = sorted(item.rfilename for item in info.siblings or () if item.rfilename.endswith(".parquet"))
    if not names:
        raise UserError("no Parquet file in the data set", where=config.hub, remedy="check hub and revision")
    folder.mkdir(parents=True, exist_ok=True)
    part = mark.with_suffix(".part")
    part.write_text(info.sha, encoding="utf-8")
    part.replace(mark)
    # what a killed process leaves is read by nobody again
    for left in (folder / FETCHED).rglob("*.incomplete"):
        left.unlink()
    log.info("fetching %d files of %s at %s", len(names), config.hub, info.sha)
    with progress(f"fetching {config.hub}", len(names)) as advance:
        for name in names:
            _asked(
                config,
                lambda name=name: hf_hub_download(
                    _hub(config),
                    name,
                    repo_type="dataset",
                    revision=info.sha,
                    local_dir=folder / FETCHED,
                ),
            )
            advance()


def _hub(config: Config) -> str:
    return config.hub or ""


def _asked(config: Config, ask: Callable[[], Any]) -> Any:
    """The hub's answer, or what is to be done about there being none."""
    from huggingface_hub import errors

    # HfHubHTTPError is what the hub answers; its base is what the network does, in the library of its choice
    unreached: Any = (*errors.HfHubHTTPError.__bases__, OSError)
    try:
        return ask()
    except errors.GatedRepoError:
        found = "a data set behind a gate"
        remedy = "accept its terms on its page, then give a token: `hf auth login`, or HF_TOKEN"
    except errors.RepositoryNotFoundError:
        found = "no such data set on the hub, or a private one"
        remedy = "check hub, or give a token: `hf auth login`, or HF_TOKEN"
    except errors.RevisionNotFoundError:
        found, remedy = f"no revision {config.revision!r}", "check revision"
    except errors.HFValidationError:
        found, remedy = "no name of a data set", "give hub as <owner>/<name>"
    except errors.OfflineModeIsEnabled:
        found, remedy = (
            "offline mode is on",
            "unset HF_HUB_OFFLINE, or set path to a folder that holds the files",
        )
    except unreached as fault:
        answer = getattr(getattr(fault, "response", None), "status_code", None)
        found = f"the hub cannot be reached ({answer or type(fault).__name__})"
        remedy = "check the network and start again, or set path to a folder that holds the files"
    raise UserError(found, where=config.hub, remedy=remedy) from None


def erase(config: Config, folder: Path, forgotten: ledger.Forgotten, is_dry: bool) -> int:
    """Takes forgotten posts out of the files of the hub, with what was written under them; the data set names
    no author. Returns the rows removed.
    """

    def is_gone(row: dict[str, Any]) -> bool:
        found = _PERMALINK.search(row["permalink"] or "")
        return found is not None and forgotten.has_post(f"reddit:{found[1]}")

    files = sorted((folder / FETCHED).rglob("*.parquet"))
    return sum(ledger.drop_rows(file, ("permalink",), is_gone, is_dry=is_dry) for file in files)


# ---- reading -----------------------------------------------------------------------------------------------


def _is_wanted(name: str) -> bool:
    return stores.suffix(name) in SUFFIXES


def list_parts(config: Config, folder: Path) -> Iterator[Part]:
    """The data set's files.

    Raises:
        UserError: where there is none, or the media folder is not there.
    """
    if config.path is None and config.hub is None:
        raise UserError("neither path nor hub", where="blift", remedy="say where the data set is")
    if config.media is not None and not config.media.is_dir():
        raise UserError("no such folder", where=config.media, remedy="set media to the folder of the media")
    media = None if config.media is None else folder_state(config.media)
    for file in stores.find(config.path or folder / FETCHED, _is_wanted):
        yield Part(fingerprint([file.key, media]), file)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one file, by its name."""

    name: str
    rows: table_rows.Piece

    def __len__(self) -> int:
        return len(self.rows)


def pieces(config: Config, part: Part) -> Iterator[Piece]:
    """A file's rows in pieces, each with the file's name.

    Raises:
        UserError: where it cannot be read or lacks one of the six columns.
    """
    file: stores.File = part.content
    for piece in table_rows.cut(file, COLUMNS):
        yield Piece(file.name, piece)


def read(config: Config, piece: Piece) -> Iterator[Post | Fault]:
    """A post with its comments, or a Fault, for each row of the communities."""
    communities = {community.lower() for community in config.communities or ()}
    for number, row in piece.rows.rows():
        where = f"{piece.name}:{number}"
        if isinstance(row, str):
            yield Fault(row, where)
            continue
        if communities and str(row.get("subreddit")).lower() not in communities:
            continue
        post = parse(row, salt=config.salt, licence=config.licence, where=where)
        if isinstance(post, Post) and config.media is not None:
            post = replace(post, media_path=media_path(config.media, post))
        yield post


def parse(
    row: Mapping[str, Any], *, salt: str = people.DEFAULT_SALT, licence: str | None = None, where: str = ""
) -> Post | Fault:
    """One row to a Post with its comments, without a media path."""
    try:
        found = _PERMALINK.search(row.get("permalink") or "")
        if found is None:
            return Fault("id_missing", where)
        record = {name: row.get(name) for name in ("url", "num_comments", "subreddit", "title")}
        post = reddit_records.parse({"id": found[1], **record}, salt=salt, licence=licence, where=where)
        if isinstance(post, Fault):
            return post
        return replace(post, source="blift", comments=_comments(row.get("comments"), found[1], salt))
    except (ValueError, TypeError, AttributeError, RecursionError):  # a field of a type it never had
        return Fault("field_broken", where)


def _comments(value: Any, post: str, salt: str) -> tuple[Comment, ...]:
    """The comments in the order of the list, which is their popularity; ids are places in it."""
    items = json.loads(value) if isinstance(value, str) else value
    if items is None:
        return ()
    if not isinstance(items, list):
        raise ValueError("comments are a list")
    found = []
    for place, item in enumerate(items):
        text, score = item, None
        if isinstance(item, dict):
            text, score = item.get("text", item.get("body")), item.get("score")
        if text is None:
            continue
        record = {"id": str(place), "link_id": f"t3_{post}", "body": text, "score": score}
        parsed = reddit_records.parse_comment(record, salt=salt)
        if isinstance(parsed, Fault):
            raise ValueError(parsed.reason)
        found.append(parsed[1])
    return tuple(found)


EXAMPLES = (
    (
        {
            "url": "https://i.redd.it/xyz.jpg",
            "permalink": "/r/pics/comments/8abc12/fog_and_frost/",
            "comments": ["Cold &amp; lovely, u/someone", "[deleted]", None, "beep boop"],
            "num_comments": 31,
            "subreddit": "pics",
            "title": "Fog and frost",
        },
        Post(
            id="reddit:8abc12",
            source="blift",
            media_kind="image",
            channel="pics",
            title="Fog and frost",
            media_url="https://i.redd.it/xyz.jpg",
            num_comments=31,
            comments=(
                Comment(id="0", text="Cold & lovely, <user>"),
                Comment(id="1", text=None, removed_by="author"),
                Comment(id="3", text="beep boop"),
            ),
        ),
    ),
    (
        {
            "url": "https://youtu.be/abc",
            "permalink": "https://www.reddit.com/r/videos/comments/9xyz/a_song",
            "comments": '[{"body": "again!", "score": 12}]',
            "num_comments": None,
            "subreddit": "videos",
            "title": "A song",
        },
        Post(
            id="reddit:9xyz",
            source="blift",
            media_kind="video",
            channel="videos",
            title="A song",
            media_url="https://youtu.be/abc",
            comments=(Comment(id="0", text="again!", score=12),),
        ),
    ),
    ({"url": "https://i.redd.it/x.jpg", "permalink": "/r/pics/", "comments": [], "title": "x"}, "id_missing"),
    (
        {"url": "https://example.org/page", "permalink": "/r/pics/comments/8abc14/x/", "title": "x"},
        "not_media",
    ),
    (
        {"url": "https://i.redd.it/x.jpg", "permalink": "/r/pics/comments/8abc15/x/", "comments": [7]},
        "field_broken",
    ),
)

SOURCE = Source(
    config=Config,
    fetch=fetch,
    erase=erase,
    parts=list_parts,
    pieces=pieces,
    read=read,
    parse=parse,
    examples=EXAMPLES,
)

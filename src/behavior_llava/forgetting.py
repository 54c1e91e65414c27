"""Posts and authors taken out of a run for good, and the list of the models that saw them.

`forget` finds what is concerned in the pieces that were read, the collected tables and the material that
sources fetched, puts one-way hashes on the run's list (data/ledger.py), and then removes: caches and files of
media first, what is derived next (the next run makes it again, without them), and last the rows that tell
which media were theirs. So a killed call may be made again, or `finish` goes on at the next start. Models
stay: weights cannot be cleaned. Called by the command line and, for `finish`, by pipeline.py.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import yaml

from behavior_llava.core import cache, config, media
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import MANIFEST, PLAN, only_one
from behavior_llava.data import download, ledger, measuring, people, stores
from behavior_llava.data.collect import CollectConfig, SourceConfig, source_of
from behavior_llava.data.ledger import Forgotten

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

log = logging.getLogger(__name__)

UNFINISHED = "forgetting.unfinished"
"""Lies in the run's folder from before the first removal until after the last."""

DERIVED = ("report", "journal", "blift", "build", "collect")
"""Folders that the next run makes again from what is left."""

_HASH = re.compile(r"u_[0-9a-f]{10}")

_HOLD_REDDIT = frozenset({"reddit", "blift", "sandbox"})
"""Kinds of sources whose people have names of Reddit; a table's may, too, and says so by its platform."""


@dataclass(frozen=True, slots=True)
class Removal:
    """What a call took out of a run, or would; it holds no name.

    Attributes:
        removed: place in the run -> how much of it: records of fetched, rows of read and of SQLite files,
            facts of seen.sqlite, files of all others. Without read where it is only told.
        num_posts, num_comments: found in the pieces, the collected tables and what was built of them, each
            counted once.
        unknown_posts, unknown_authors: places, from 0, in what was given, of those of whom the run has and
            had nothing. They are on its list all the same: what comes later is left out.
        models: folders below the run's of models that saw them; their weights cannot be cleaned.
        unsure_models: of models of which it is unknown whether they saw them; an earlier version made them.
        brought: what a person brought from outside the run and is not changed: "reddit: <path or address>".
        was_unfinished: an earlier call was cut off, and this one ended its work.
    """

    removed: dict[str, int]
    num_posts: int
    num_comments: int
    unknown_posts: tuple[int, ...]
    unknown_authors: tuple[int, ...]
    models: tuple[str, ...]
    unsure_models: tuple[str, ...]
    brought: tuple[str, ...]
    was_unfinished: bool = False

    @property
    def is_nothing(self) -> bool:
        """There was nothing to remove: they are unknown, or were forgotten before."""
        return not self.removed and not self.was_unfinished


def forget(
    run: Path, *, posts: Sequence[str] = (), authors: Sequence[str] = (), is_dry: bool = False
) -> Removal:
    """Takes posts and authors out of every stage folder of a run, and keeps them out for ever.

    With a post go its comments and its media, with an author all their posts and comments. A media file that
    a remaining post uses stays.

    Args:
        run: the run's folder.
        posts: ids, "<platform>:<platform's id>".
        authors: hashes ("u_" and ten digits) or names as the source has them, which are hashed with the salts
            of the run's sources and written nowhere. On YouTube the name is the channel's id where there is
            one; on Reddit it is the same in capitals and small letters.
        is_dry: change nothing, and tell what would be removed.

    Raises:
        UserError: no run's folder, or a run is at work in it.
    """
    sources = _sources(run)
    of_posts = [ledger.post_key(post) for post in posts]
    of_authors = [[ledger.author_key(value) for value in _hashes(author, sources)] for author in authors]
    with only_one(run):
        before = Forgotten.read(run)
        given = {*of_posts, *(key for keys in of_authors for key in keys)}
        found = _remove(run, given, is_dry=is_dry)
        known = before.effective | found.keys
        unsure = ledger.models_unknown(run) if given or found.was_unfinished else []
        if unsure:
            log.warning("models of which it is unknown whether they saw them: %s", ", ".join(unsure))
        return Removal(
            removed={place: count for place, count in found.removed.items() if count},
            num_posts=len(found.posts),
            num_comments=found.num_comments,
            unknown_posts=tuple(place for place, key in enumerate(of_posts) if key not in known),
            unknown_authors=tuple(place for place, keys in enumerate(of_authors) if known.isdisjoint(keys)),
            models=found.models,
            unsure_models=tuple(unsure),
            brought=tuple(f"{kind}: {place}" for kind, settings in sources for place in _brought(settings)),
            was_unfinished=found.was_unfinished,
        )


def read_list(path: Path) -> tuple[list[str], list[str]]:
    """Posts and authors of a list: "post ID" or "author NAME" a line, blank lines aside.

    Raises:
        UserError: it cannot be read, or a line is neither; the message repeats no line, which may be a name.
    """
    found: dict[str, list[str]] = {"post": [], "author": []}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot be read ({type(error).__name__})", where=path, remedy="give a text file, in UTF-8"
        ) from None
    for number, line in enumerate(lines, 1):
        word, _, value = line.strip().partition(" ")
        if word in found and value.strip():
            found[word].append(value.strip())
        elif line.strip():
            raise UserError(
                "names neither a post nor an author",
                where=f"{path}:{number}",
                remedy="write `post ID` or `author NAME`",
            )
    return found["post"], found["author"]


def finish(run: Path) -> None:
    """Ends the work of a `forget` that was cut off; the caller holds the run (manifest.only_one)."""
    if (run / UNFINISHED).exists():
        log.info("forgetting goes on where it was cut off")
        _remove(run, set(), is_dry=False)


def _sources(run: Path) -> list[tuple[str, Any]]:
    """Kind and settings of the run's sources.

    Raises:
        UserError: the folder is no run's.
    """
    path = run / "config.yaml"
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))["collect"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            f"no run's config ({type(error).__name__})", where=path, remedy="give the folder of a run"
        ) from None
    collected = config.check(CollectConfig, values, where=path)
    return [(entry.kind, source_of(entry)[1]) for entry in collected.sources]


def _brought(settings: Any) -> Iterator[str]:
    """Paths and addresses of a source's settings, without credentials and options."""
    for name, declared in type(settings).model_fields.items():
        value = getattr(settings, name)
        if value is None or Path not in (declared.annotation, *get_args(declared.annotation)):
            continue
        try:
            yield str(value) if isinstance(value, Path) else str(stores.place_of(value))
        except UserError as error:  # no store of ours: it is told all the same
            yield str(error.where)


def _hashes(author: str, sources: Iterable[tuple[str, Any]]) -> list[str]:
    """What an author is called in the run: a hash for every salt and way of writing the name."""
    if _HASH.fullmatch(author):
        return [author]
    found: dict[str | None, None] = {}
    for kind, settings in sources:
        salt = getattr(settings, "salt", people.DEFAULT_SALT)
        platform = "reddit" if kind in _HOLD_REDDIT else getattr(settings, "platform", "")
        # as it is written, too: of YouTube, and what an earlier version hashed of Reddit
        found |= dict.fromkeys([people.hash_author(author, salt), people.hash_author(author, salt, platform)])
    return [value for value in found if value is not None]


# ---- what is concerned -------------------------------------------------------------------------------------


@dataclass
class _Found:
    """What is to be removed.

    Attributes:
        posts: ids. keys: of these, and those of the list that were met.
        urls, hashes: of their media, as far as no remaining post uses them.
        models, removed: as of a Removal.
    """

    posts: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    urls: set[str] = field(default_factory=set)
    hashes: set[str] = field(default_factory=set)
    num_comments: int = 0
    was_unfinished: bool = False
    models: tuple[str, ...] = ()
    removed: dict[str, int] = field(default_factory=dict)


_COLUMNS = ["id", "author_hash", "channel", "media_path", "media_url", "media_sha256"]


def _tables(run: Path, kind: str, columns: list[str]) -> Iterator[pa.Table]:
    """The posts or comments of every piece, every collected bucket, and the build that was made of earlier
    ones: who left the source before being forgotten is in that alone.
    """
    for name in ledger.pieces(run):
        table = ledger.rows_of(name, kind)
        if table is not None:
            yield table.select(columns)
    built = (run / "build" / "posts" / kind).glob("*.parquet")
    for file in sorted([*(run / "collect").rglob(f"{kind}/*.parquet"), *built]):
        yield pq.read_table(file, columns=columns)


def _dropped(run: Path, kind: str) -> Iterator[pa.Table]:
    """The lists of the posts or comments that filters dropped: ids alone, and what was measured."""
    for file in sorted((run / "build" / "posts" / "dropped").glob(f"*/*/{kind}/*.parquet")):
        yield pq.read_table(file, columns=["id"] if kind == "posts" else ["id", "post_id"])


def _find(run: Path, forgotten: Forgotten) -> _Found:
    found = _Found()
    for table in _tables(run, "posts", _COLUMNS):
        found.posts |= ledger.forgotten_posts(table, forgotten)
    for table in _dropped(run, "posts"):
        found.posts |= {name for name in table["id"].to_pylist() if forgotten.has_post(name)}
    gone = pa.array(sorted(found.posts), pa.string())
    urls = set[str]()
    of_media: dict[str, set[str]] = {name: set() for name in _COLUMNS[3:]}
    for is_theirs in (True, False):
        for table in _tables(run, "posts", _COLUMNS) if found.posts else ():
            is_gone = pc.is_in(table["id"], value_set=gone)
            rows = table.filter(is_gone if is_theirs else pc.invert(is_gone))
            for name, values in of_media.items():
                column = rows[name].drop_null()
                if is_theirs:
                    values |= set(column.to_pylist())
                else:
                    shared = column.filter(pc.is_in(column, value_set=pa.array(sorted(values), pa.string())))
                    values -= set(shared.to_pylist())
        if is_theirs:
            urls = set(of_media["media_url"])
            of_media["media_sha256"] |= _hashes_of(of_media["media_path"])
            # of a post that collect does not hold, only the downloads know what it showed
            of_media["media_sha256"] |= download.hashes_of(run / "media", urls)
    of_media["media_sha256"] -= download.hashes_of(run / "media", urls - of_media["media_url"])
    found.urls, found.hashes = of_media["media_url"], of_media["media_sha256"]
    comments: set[str] = set()
    for table in _tables(run, "comments", ["id", "post_id", "author_hash"]):
        is_gone = ledger.is_forgotten_comment(table, forgotten, found.posts)
        comments |= set(table["id"].filter(is_gone).to_pylist())
    for table in _dropped(run, "comments"):
        pairs = zip(table["id"].to_pylist(), table["post_id"].to_pylist(), strict=True)
        comments |= {name for name, post in pairs if post in found.posts or forgotten.has_post(post)}
    found.num_comments = len(comments)
    return found


def _hashes_of(paths: Iterable[str]) -> set[str]:
    """Hashes of the files that are there: those of posts that were read and not collected."""
    found = set()
    for path in paths:
        try:
            found.add(media.sha256(Path(path)))
        except media.MediaFault:
            continue  # nothing can have been kept of what cannot be read
    return found


# ---- removing ----------------------------------------------------------------------------------------------


def _remove(run: Path, given: set[str], *, is_dry: bool) -> _Found:
    """Removes what is on the run's list or given; the caller holds the run."""
    before = Forgotten.read(run)
    forgotten = Forgotten(before.keys | given)
    found = _find(run, forgotten)
    fetched = {place: erase(forgotten, True) for place, erase in _erasers(run)}
    found.was_unfinished = (run / UNFINISHED).exists()
    # what a model saw was in the run once, and may be in what was made of it
    seen = ledger.seen_by_models(run, given - before.effective)
    found.keys = forgotten.met | {ledger.post_key(post) for post in found.posts} | seen
    concerned = found.keys | given | (before.keys if found.was_unfinished else set())
    found.models = tuple(ledger.models_that_saw(run, concerned))
    is_something = bool(
        found.posts or found.num_comments or any(fetched.values()) or seen or found.was_unfinished
    )
    if is_dry:
        if is_something:
            found.removed = {**_stores(run, found, is_dry=True), **_derived(run, is_dry=True), **fetched}
        return found
    if is_something:
        (run / UNFINISHED).touch()
        ledger.remember(run, found.keys, was_found=True)
    ledger.remember(run, given, was_found=False)
    if is_something:
        _sweep(run)
        found.removed = {**_stores(run, found, is_dry=False), **_derived(run, is_dry=False)}
        found.removed |= {place: erase(forgotten, False) for place, erase in _erasers(run)}
        found.removed["read"] = _clean(run, forgotten)
        # last, because it tells which media were whose
        found.removed |= _delete_trees(run, ["collect"], is_dry=False)
        (run / UNFINISHED).unlink()
    _tell(found)
    return found


def _sweep(run: Path) -> None:
    """Deletes what a killed run left while it fetched, wrote or deleted."""
    for plan in (run / "fetched").glob(f"*/{PLAN}"):
        if not (plan.parent / MANIFEST).exists():
            shutil.rmtree(plan.parent)  # in no state to be read; it will be fetched again
    for left in (*run.rglob("*.part"), *run.rglob("*.gone")):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def _tell(found: _Found) -> None:
    counts = ", ".join(f"{place} {count}" for place, count in sorted(found.removed.items()) if count)
    log.info(
        "forgotten: %d posts and %d comments (%s)",
        len(found.posts),
        found.num_comments,
        counts or "nothing was there to remove",
    )
    if found.models:
        log.warning(
            "models that saw them: %s; weights cannot be cleaned: delete them, or train again by running the "
            "run's config",
            ", ".join(found.models),
        )


def _erasers(run: Path) -> Iterator[tuple[str, Callable[[Forgotten, bool], int]]]:
    """How fetched material is erased, by its folder; none for what a person brought."""
    for manifest in sorted((run / "fetched").glob(f"*/{MANIFEST}")):
        # what lies there came by these settings, whatever the config says by now
        told = json.loads(manifest.read_text(encoding="utf-8"))["config"]
        source, settings = source_of(SourceConfig(**told))
        if source.erase is not None:
            folder = manifest.parent
            yield folder.relative_to(run).as_posix(), partial(source.erase, settings, folder)


def _stores(run: Path, found: _Found, *, is_dry: bool) -> dict[str, int]:
    """Downloads, frames, and what is known of media; nothing that a remaining post uses."""
    removed = {}
    for path in (*run.glob("seen.sqlite"), *run.glob("*/seen.sqlite")):
        place = path.relative_to(run).as_posix()
        removed[place] = (
            ledger.delete_rows(path, "facts", "sha256", found.hashes, is_dry=True)
            if is_dry
            else cache.forget(path, found.hashes)
        )
    removed["measured"] = measuring.forget(run / "measured", found.hashes, is_dry=is_dry)
    removed |= _delete_trees(
        run, [f"frames/{sha256[:2]}/{sha256}" for sha256 in sorted(found.hashes)], is_dry=is_dry
    )
    # views were kept in folders of their own before they were kept in seen.sqlite; nobody reads them now
    legacy = [path.relative_to(run).as_posix() for path in run.glob("views/*/")]
    removed |= _delete_trees(run, legacy, is_dry=is_dry)
    # last, because they tell what was shown under the addresses
    files, rows = download.forget(run / "media", found.urls, is_dry=is_dry)
    return {**removed, "media": files, f"media/{download.LEDGER}": rows}


def _delete_trees(run: Path, places: Iterable[str], *, is_dry: bool) -> dict[str, int]:
    """Deletes folders of the run whole; the number of files by the first name of their path."""
    removed: dict[str, int] = {}
    for place in places:
        folder = run / place
        if not folder.is_dir():
            continue
        top = place.partition("/")[0]
        removed[top] = removed.get(top, 0) + sum(path.is_file() for path in folder.rglob("*"))
        if not is_dry:
            # not half of it under its name, if this is killed
            gone = folder.with_name(f"{folder.name}.gone")
            if folder.is_symlink():  # a stage that was taken over; the other run forgets on its own
                folder.unlink()
                continue
            folder.rename(gone)
            shutil.rmtree(gone)
    return removed


def _derived(run: Path, *, is_dry: bool) -> dict[str, int]:
    """What is made from the posts, except the models: answers go, a model fine-tuned for them stays."""
    removed = {"evaluate": 0}
    for path in sorted((run / "evaluate").rglob("*"), reverse=True):
        inside = path.relative_to(run / "evaluate").parts
        if "finetuned" in inside or path.name == PLAN:
            continue
        if path.is_symlink():  # a stage that was taken over; the other run forgets on its own
            removed["evaluate"] += 1
            if not is_dry:
                path.unlink()
        elif path.is_file():
            removed["evaluate"] += 1
            if not is_dry:
                path.unlink()
        elif not is_dry and not any(path.iterdir()):
            path.rmdir()
    return removed | _delete_trees(run, DERIVED if is_dry else DERIVED[:-1], is_dry=is_dry)


def _clean(run: Path, forgotten: Forgotten) -> int:
    """Takes rows out of pieces; returns how many."""
    whole = []
    for name in ledger.pieces(run):
        if name.with_suffix(".json").exists():
            whole.append(name)
            continue
        for file in name.parent.glob(f"{name.name}.*"):
            file.unlink()  # it was not read to its end, and will be read again
    before = sum(json.loads(name.with_suffix(".json").read_text(encoding="utf-8"))["rows"] for name in whole)
    return before - sum(piece.rows for piece in ledger.take_out(whole, run, forgotten))

"""Files on this machine and in object stores, found by path, folder or wildcards and opened in one way.

    logs/may.csv      logs/      logs/day=*/part-*.parquet      logs/**/*.csv.gz
    s3://bucket/logs/      gs://bucket/logs/2026-*.csv      s3://bucket/logs?endpoint_override=host:9000&scheme=http

Object stores are opened with the credentials of the environment or the machine (AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, ~/.aws, an instance's role; GOOGLE_APPLICATION_CREDENTIALS); a config holds none, and
no message repeats what a store said or what follows an address's "?". `s3://anonymous@bucket/` and
`gs://anonymous@bucket/` ask without credentials. Called by the sources that read tables.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl

import pyarrow as pa
from pyarrow import fs

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint

RETRIES = 4
"""How often a store is asked before it counts as out of reach."""

RETRY_S = 60
CONNECT_S, ANSWER_S = 10.0, 60.0

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/@]*)@)?([^/?@]*)/?([^?]*)(?:\?(.*))?", re.DOTALL)
_OPTIONS = ("endpoint_override", "region", "scheme")
_WILD = re.compile(r"[*?\[]")
_PACKED = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}

_SAID = re.compile(
    r"AWS Error ([A-Z_]+)|HTTP status (\d{3})"
    r"|\b(PERMISSION_DENIED|UNAUTHENTICATED|UNAVAILABLE|NOT_FOUND|DEADLINE_EXCEEDED|INTERNAL)\b"
)
_UNREACHED = ("", "NETWORK_CONNECTION", "UNAVAILABLE", "DEADLINE_EXCEEDED", "SLOW_DOWN", "INTERNAL")
_REMEDIES = {
    "s3": "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws, that may list and read "
    "it; a public one is s3://anonymous@...",
    "gs": "set GOOGLE_APPLICATION_CREDENTIALS to an account that may list and read it; a public one is "
    "gs://anonymous@...",
}


@dataclass(frozen=True, slots=True)
class Place:
    """An address taken apart.

    Attributes:
        kind: "s3", "gs", or "" for this machine.
        path: on this machine as given, in a store "bucket/key" (taken literally, %20 is no blank).
        options: what followed "?" of a store's address, sorted.
        is_anonymous: whether to ask without credentials.
    """

    kind: str
    path: str
    options: tuple[tuple[str, str], ...] = ()
    is_anonymous: bool = False

    def __str__(self) -> str:
        return f"{self.kind}://{self.path}" if self.kind else self.path

    def at(self, path: str) -> Place:
        """Another path in the same store."""
        return Place(self.kind, path, self.options, self.is_anonymous)


@dataclass(frozen=True, slots=True)
class File:
    """A file in the state it was found in.

    Attributes:
        name: its path below the folder that was searched; names it in messages.
        size, modified_ns: None where the store does not say.
    """

    place: Place
    name: str
    size: int | None
    modified_ns: int | None

    @property
    def key(self) -> str:
        """A name for the file in its present state: equal keys promise equal contents. On this machine its
        place is told behind all links, as in parts.file_key.
        """
        place = str(self.place) if self.place.kind else os.path.realpath(self.place.path)
        return fingerprint([place, self.size, self.modified_ns])

    @property
    def suffix(self) -> str:
        """What kind of file it is, e.g. ".csv", also for one packed as .csv.gz."""
        return suffix(self.name)

    @contextmanager
    def stream(self) -> Iterator[pa.NativeFile]:
        """Its bytes from the first on, unpacked.

        Raises:
            UserError: it cannot be opened, read or unpacked, or breaks off, also within the block.
        """
        packed = _PACKED.get(PurePosixPath(self.name).suffix.lower())
        with (
            _told(self.place),
            _system(self.place).open_input_stream(self.place.path, compression=packed) as stream,
        ):
            yield stream

    @contextmanager
    def seekable(self) -> Iterator[pa.NativeFile]:
        """Its bytes in any order, for formats with a table of contents.

        Raises:
            UserError: as `stream` does.
        """
        with _told(self.place), _system(self.place).open_input_file(self.place.path) as file:
            yield file


def suffix(name: str) -> str:
    """The last suffix of a name in small letters, without that of a packer: ".csv" of a.csv.gz."""
    path = PurePosixPath(name.lower())
    return PurePosixPath(path.stem).suffix if path.suffix in _PACKED else path.suffix


def is_plain(path: str) -> bool:
    """Whether it is the path of one file or folder of this machine: no address of a store, no wildcards."""
    return "://" not in path and not _WILD.search(path)


def place_of(path: str | Path) -> Place:
    """A path or an address taken apart.

    Raises:
        UserError: for another kind of store, an unknown option, or credentials in the address.
    """
    text = str(path)
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return Place("", text.rstrip("/") or "/")
    kind, user, bucket, key, options = (part or "" for part in found.groups())
    kind = {"gcs": "gs"}.get(kind.lower(), kind.lower())
    shown = f"{kind}://{bucket}/{key}"
    if kind not in _REMEDIES:
        raise UserError("an unknown kind of store", where=shown, remedy="there are s3:// and gs://")
    if user not in ("", "anonymous"):
        raise UserError("an address that holds credentials", where=shown, remedy=_REMEDIES[kind])
    pairs = parse_qsl(options, keep_blank_values=True)
    unknown = sorted({name for name, _ in pairs} - set(_OPTIONS))
    if unknown or not bucket:
        what = f"an address with {unknown[0]!r} after '?'" if unknown else "an address without a bucket"
        raise UserError(what, where=shown, remedy=f"{kind}://bucket/path takes {', '.join(_OPTIONS)}")
    return Place(kind, f"{bucket}/{key}".rstrip("/"), tuple(sorted(pairs)), user == "anonymous")


def folder_of(path: str | Path) -> Path | None:
    """The folder of this machine that is searched: a file's, a folder itself, what stands before wildcards;
    None for a store.
    """
    place = place_of(path)
    if place.kind:
        return None
    if Path(place.path).exists() or not _WILD.search(place.path):
        return Path(place.path) if Path(place.path).is_dir() else Path(place.path).parent
    return Path(_fixed(place.path)[0])


def find(path: str | Path, is_wanted: Callable[[str], bool]) -> list[File]:
    """The files at a path in the order of their names; what begins with "." or "_" is passed over: engines
    leave their marks under such names.

    Args:
        path: a file, a folder (all below it whose name is wanted), or wildcards: *, ?, [...] within a name,
            ** for any number of folders; a store's address takes no "?", which begins its options.

    Raises:
        UserError: there is none, or the store cannot be reached or lets nobody in.
    """
    place = place_of(path)
    with _told(place):
        system = _system(place)
        info = system.get_file_info(place.path)
        if info.type == fs.FileType.File:
            return [_file(place, info, str(PurePosixPath(place.path).parent))]
        if info.type == fs.FileType.Directory:
            base = place.path
            found = [each for each in _below(system, place, base) if is_wanted(each.base_name)]
        elif _WILD.search(place.path):
            base, *names = _fixed(place.path)
            found = list(_matching(system, place, base, names))
        else:
            raise UserError("no such file or folder", where=place, remedy="check path in the config")
    if not found:
        raise UserError("no file is there to read", where=place, remedy="check path in the config")
    files = {each.path: _file(place, each, base) for each in found}
    return [files[name] for name in sorted(files)]


def _file(place: Place, info: fs.FileInfo, base: str) -> File:
    name = info.path.removeprefix(base.rstrip("/") + "/")
    return File(place.at(info.path), name, info.size, info.mtime_ns)


def _fixed(path: str) -> list[str]:
    """The folder before the first wildcard, then the names that follow."""
    names = path.split("/")
    first = next(number for number, name in enumerate(names) if _WILD.search(name))
    return ["/".join(names[:first]) or ("/" if path.startswith("/") else "."), *names[first:]]


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))


def _children(system: fs.FileSystem, place: Place, folder: str) -> list[fs.FileInfo]:
    """What lies in a folder itself."""
    is_deep = place.kind == "gs"  # whose client tells of a folder only where a file marks it
    found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=is_deep))
    if not is_deep:
        return found
    children: dict[str, fs.FileInfo] = {}
    for info in found:
        name, _, rest = info.path.removeprefix(f"{folder}/").partition("/")
        path = f"{folder}/{name}"
        children[path] = fs.FileInfo(path, fs.FileType.Directory) if rest else info
    return list(children.values())


def _below(system: fs.FileSystem, place: Place, folder: str) -> Iterator[fs.FileInfo]:
    """All files below a folder; links to folders are not followed, which could lead in circles."""
    if place.kind:  # one listing of a store is thousands of names, whatever their folders
        for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True)):
            inner = info.path.removeprefix(folder + "/").split("/")
            if info.type == fs.FileType.File and not any(map(_is_hidden, inner)):
                yield info
        return
    for info in _children(system, place, folder):
        if _is_hidden(info.base_name):
            continue
        if info.type == fs.FileType.File:
            yield info
        elif info.type == fs.FileType.Directory and not Path(info.path).is_symlink():
            yield from _below(system, place, info.path)


def _matching(system: fs.FileSystem, place: Place, folder: str, names: list[str]) -> Iterator[fs.FileInfo]:
    """The files below a folder whose path fits the names with wildcards."""
    first, rest = names[0], names[1:]
    if first == "**":
        if not rest:
            yield from _below(system, place, folder)
            return
        yield from _matching(system, place, folder, rest)
        for info in _children(system, place, folder):
            is_link = not place.kind and Path(info.path).is_symlink()
            if info.type == fs.FileType.Directory and not is_link and not _is_hidden(info.base_name):
                yield from _matching(system, place, info.path, names)
        return
    if rest and not _WILD.search(first):
        yield from _matching(system, place, f"{folder.rstrip('/')}/{first}", rest)
        return
    for info in _children(system, place, folder):
        if not fnmatchcase(info.base_name, first) or (_is_hidden(info.base_name) and not _is_hidden(first)):
            continue
        if rest and info.type == fs.FileType.Directory:
            yield from _matching(system, place, info.path, rest)
        elif not rest and info.type == fs.FileType.File:
            yield info


def _system(place: Place) -> Any:
    if not place.kind:
        return fs.LocalFileSystem()
    bucket = place.path.partition("/")[0]
    return _store(place.kind, bucket, place.options, place.is_anonymous)


@cache
def _store(kind: str, bucket: str, options: tuple[tuple[str, str], ...], is_anonymous: bool) -> Any:
    given: dict[str, Any] = dict(options)
    if kind == "gs":
        given.pop("region", None)
        return fs.GcsFileSystem(anonymous=is_anonymous, retry_time_limit=timedelta(seconds=RETRY_S), **given)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if "endpoint_override" not in given and endpoint:
        given["endpoint_override"] = endpoint
    if "region" not in given and "endpoint_override" not in given:
        given["region"] = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        anonymous=is_anonymous,
        connect_timeout=CONNECT_S,
        request_timeout=ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=RETRIES),
        **given,
    )


@contextmanager
def _told(place: Place) -> Iterator[None]:
    """Turns what a file system or a decoder raises into a sentence; of a store's own words, which may hold an
    address with its signature, only the kind of failure is kept.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError("no such file or folder", where=place, remedy="check path in the config") from None
    except (OSError, pa.ArrowException, ValueError) as fault:  # ValueError: a file that closed itself
        if not place.kind:
            raise UserError(
                f"cannot be read ({fault})", where=place, remedy="check its rights, or write it again"
            ) from fault
        found = _SAID.search(str(fault))
        word = next(filter(None, found.groups()), "") if found else ""
        raise UserError(
            f"cannot be read ({word or type(fault).__name__})",
            where=place,
            remedy=_remedy(place.kind, word),
        ) from None


def _remedy(kind: str, word: str) -> str:
    if word in ("NO_SUCH_BUCKET", "NOT_FOUND"):
        return "check the bucket's name"
    if word in _UNREACHED:
        return "check the network, the address and its endpoint, and that the file is whole"
    return _REMEDIES[kind]

"""What there is to read, file by file: found in a fixed order, named with the state it was found in.

Sources build their parts from these; collect reads a part again only when its key changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from behavior_llava.core.manifest import fingerprint
from behavior_llava.core.schema import Part


def walk(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[Path]:
    """The files below a folder whose name is wanted, in order of name; links to folders are not followed."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            yield from walk(path, is_wanted)
        elif is_wanted(path.name):
            yield path


def file_key(*paths: Path) -> str:
    """A name for files in their present state: places, sizes and times, not contents.

    Places are told behind all links: what a run took over from another by a link is the other's own.
    """
    states = []
    for path in paths:
        place = os.path.realpath(path)
        try:
            found = path.stat()
            states.append((path.name, place, found.st_size, found.st_mtime_ns))
        except OSError:  # a dangling link: reading it will say so
            states.append((path.name, place, None, None))
    return fingerprint(states)


def groups(
    paths: Iterator[Path], size: int, beside: Callable[[Path], list[Path]] = lambda path: []
) -> Iterator[Part]:
    """Parts of `size` files each, for files so small that one alone is not worth a part.

    Args:
        beside: the files a part's state also depends on, such as the subtitles beside an info.json.
    """
    while group := list(islice(paths, size)):
        yield Part(file_key(*group, *(other for path in group for other in beside(path))), tuple(group))

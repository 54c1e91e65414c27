"""What a model answered, line by line, so that no answer is asked for twice and none outlives its question.

A journal is a folder of `*.jsonl` files that are only ever appended to, one file a writer: any number of
processes may write at once, be killed at any time, and be followed by any number of others. A line is found
again by what its answer depends on: the model's weights, the task and its version, the sample, and a hash of
all that was asked. Another checkpoint, prompt or task meets no line of before.
"""

from __future__ import annotations

import json
import logging
import os
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from behavior_llava.core.errors import UserError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Key:
    """What an answer depends on.

    Attributes:
        weights: hash of the model's weights.
        task, version: of the task; what is asked by several tasks in common has a name of its own.
        sample: the sample's id.
        prompt: hash of all that was asked: words, media as they are seen, given answers, limits.
    """

    weights: str
    task: str
    version: int
    sample: str
    prompt: str


_FIELDS = ("weights", "task", "version", "sample", "prompt", "answer")


class Journal:
    """The answers in a folder; used in a `with` block.

    The answers stay on disk. In memory is where each stands.

    Attributes:
        torn: last lines that were cut off while they were written. They are not read, and their answers are
            asked for again.

    Raises:
        UserError: a line that is not the last of its file is none of ours.
    """

    def __init__(self, folder: Path) -> None:
        self.torn = 0
        self._folder = folder
        self._readers: dict[Path, BinaryIO] = {}
        self._writer: FileIO | None = None
        self._places: dict[Key, tuple[Path, int]] = {}
        for file in sorted(folder.glob("*.jsonl")):
            self._read(file)
        if self.torn:
            log.warning("%s: %d torn last lines are not read; they are asked again", folder, self.torn)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (*self._readers.values(), *([self._writer] if self._writer else [])):
            file.close()
        self._readers, self._writer = {}, None

    def __len__(self) -> int:
        return len(self._places)

    def find(self, key: Key) -> Any:
        """The answer that was given; None where none was, which no answer is."""
        place = self._places.get(key)
        if place is None:
            return None
        file, offset = place
        if file not in self._readers:
            self._readers[file] = file.open("rb")
        reader = self._readers[file]
        reader.seek(offset)
        return json.loads(reader.readline())["answer"]

    def keep(self, answers: Iterable[tuple[Key, Any]]) -> None:
        """Appends answers, any JSON value but null, and returns when they are on the disk."""
        lines = bytearray()
        starts: list[tuple[Key, int]] = []
        for key, answer in answers:
            if answer is None:
                raise ValueError(f"no answer to {key}")
            starts.append((key, len(lines)))
            line = dict(zip(_FIELDS, (*astuple(key), answer), strict=True))
            lines += json.dumps(line, allow_nan=False).encode() + b"\n"
        if not starts:
            return
        # a file whose last line may be torn, on a full disk, is not written to again
        file, self._writer = self._writer or self._new_file(), None
        path, offset = Path(str(file.name)), file.tell()
        try:
            while lines:
                del lines[: file.write(lines)]
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            raise
        self._writer = file
        self._places |= {key: (path, offset + start) for key, start in starts}

    def _new_file(self) -> FileIO:
        self._folder.mkdir(parents=True, exist_ok=True)
        return FileIO(str(self._folder / f"{uuid.uuid4().hex}.jsonl"), "x")

    def _read(self, file: Path) -> None:
        with file.open("rb") as lines:
            offset = 0
            for number, line in enumerate(lines, 1):
                key = _key_of(line)
                if key is not None:
                    self._places[key] = (file, offset)
                elif lines.read(1):
                    raise UserError(
                        "is no line of a journal",
                        where=f"{file}:{number}",
                        remedy="delete this file; what it held is asked again",
                    )
                else:
                    self.torn += 1
                    return
                offset += len(line)


def _key_of(line: bytes) -> Key | None:
    """The key of a whole line; None of one that is torn, or no line of a journal."""
    if not line.endswith(b"\n"):
        return None
    try:
        value = json.loads(line)
    except ValueError:  # of JSON, and of UTF-8
        return None
    if not isinstance(value, Mapping) or tuple(value) != _FIELDS or value["answer"] is None:
        return None
    key = Key(*(value[name] for name in _FIELDS[:-1]))
    is_ours = isinstance(key.version, int) and all(
        isinstance(part, str) for part in (key.weights, key.task, key.sample, key.prompt)
    )
    return key if is_ours else None

"""Lines of a large file, plain or zstd, in bounded memory; the ground under the dump and table readers.

Reddit's dumps are single zstd frames with a window of 2 GiB; a line may break across blocks and inside a
UTF-8 character, so bytes are joined to whole lines before anything is decoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault

MAX_WINDOW = 2**31
"""Source: https://github.com/Watchful1/PushshiftDumps (scripts/single_file.py).

Default decoders refuse the dumps.
"""

MAX_LINE_BYTES = 64 * 2**20
"""Far above any real record; a longer line is skipped and counted, not held."""

BLOCK_BYTES = 8 * 2**20
"""What one process reads at a time."""

# One block of zstd is at least 4 bytes and at most 128 KiB when decoded, so reading in small pieces bounds
# what a hostile file can blow up to (128 MiB).
_READ_BYTES = 4096


def _zstd_chunks(path: Path) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    frame = decompressor.decompressobj()
    with path.open("rb") as file:
        while raw := file.read(_READ_BYTES):
            while raw:
                if frame.eof:
                    frame = decompressor.decompressobj()
                yield frame.decompress(raw)
                raw = frame.unused_data
    if not frame.eof:  # stream readers end here without a word
        raise UserError(
            "the zstd file breaks off", where=path, remedy="fetch it again, or recompress what is left"
        )


def chunks(path: Path) -> Iterator[bytes]:
    """The bytes of a file in pieces, decompressed where its name ends in .zst.

    Raises:
        UserError: where the file cannot be opened or decompressed, or breaks off.
    """
    try:
        if path.suffix == ".zst":
            yield from _zstd_chunks(path)
        else:
            with path.open("rb") as file:
                while piece := file.read(2**20):
                    yield piece
    except zstandard.ZstdError as fault:
        raise UserError(f"not a readable zstd file ({fault})", where=path, remedy="fetch it again") from fault
    except OSError as fault:
        raise UserError(
            f"cannot be read ({fault.strerror})", where=path, remedy="check path and rights"
        ) from fault


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines of a file, to be read by one process.

    Attributes:
        name: of the file. number: of the first line, from 1.
        data: the lines with their ends; None stands for one line over MAX_LINE_BYTES.
    """

    name: str
    number: int
    data: bytes | None

    def __len__(self) -> int:
        return 1 if self.data is None else self.data.count(b"\n") + (not self.data.endswith(b"\n"))

    def lines(self) -> Iterator[tuple[int, bytes | None]]:
        """Number and bytes of every line, without its end; None for a line that is too long."""
        if self.data is None:
            yield self.number, None
            return
        split = self.data.split(b"\n")
        if not split[-1]:
            split.pop()
        for number, raw in enumerate(split, self.number):
            yield number, raw if len(raw) <= MAX_LINE_BYTES else None


def blocks(path: Path, size: int | None = None) -> Iterator[Block]:
    """The lines of a file in blocks of about `size` bytes (BLOCK_BYTES by default), in order.

    Raises:
        UserError: as `chunks` does.
    """
    size = size or BLOCK_BYTES
    number, held, skipping = 1, bytearray(), False
    for piece in chunks(path):
        if skipping:
            end = piece.find(b"\n")
            if end < 0:
                continue
            yield Block(path.name, number, None)
            number, skipping, piece = number + 1, False, piece[end + 1 :]
        held += piece
        while len(held) >= size:
            end = held.rfind(b"\n", 0, size) + 1 or held.find(b"\n", size) + 1
            if not end:
                break
            block = Block(path.name, number, bytes(held[:end]))
            number += len(block)
            del held[:end]
            yield block
        if len(held) > max(size, MAX_LINE_BYTES):
            skipping = True
            held.clear()
    if skipping:
        yield Block(path.name, number, None)
    elif held:
        yield Block(path.name, number, bytes(held))


def lines(path: Path) -> Iterator[tuple[int, bytes | None]]:
    """Number (from 1) and bytes of every line, without its end; None for a line over MAX_LINE_BYTES."""
    for block in blocks(path, 2**20):
        yield from block.lines()


def parse_json(raw: bytes | None, where: str) -> dict[str, Any] | Fault:
    """One JSON object, or the Fault it is."""
    if raw is None:
        return Fault("line_too_long", where)
    try:
        record = json.loads(raw.decode("utf-8-sig"))
    except (
        ValueError,
        RecursionError,
    ):  # broken JSON or UTF-8, a number of 5,000 digits, 10,000 brackets deep
        return Fault("json_broken", where)
    return record if isinstance(record, dict) else Fault("json_broken", where)

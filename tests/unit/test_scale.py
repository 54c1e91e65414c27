"""The data side as a whole: the same bytes whatever the processes, the same rows on Ray, and bombs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import zstandard

from behavior_llava.data import blift, funnel, joining, json_lines
from behavior_llava.data.collect import CollectConfig, SourceConfig, collect
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

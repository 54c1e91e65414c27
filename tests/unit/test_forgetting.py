"""A post and an author are taken out of a whole run: nothing of theirs is found in any byte of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from PIL import Image

from behavior_llava import forgetting
from behavior_llava.core import media
from behavior_llava.core.cache import Cache, Hashes
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import only_one, write_json
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import COMMENTS, POSTS, Media, Post, Said, post_row
from behavior_llava.data import ledger, people, reading
from behavior_llava.data.collect import CollectConfig
from behavior_llava.data.download import Downloaded, Ledger
from behavior_llava.data.sources import sandbox
from behavior_llava.data.world import erase
from behavior_llava.evaluation.evaluator import EvaluateConfig
from behavior_llava.stages import Run, RunConfig, as_yaml

NAME = "walker"
"""A name of the sandbox's Reddit side, of its YouTube side, and of the dump that is brought."""
HASH = people.hash_author(NAME, people.DEFAULT_SALT) or ""

WORLD = {
    "images": 60,
    "videos": 4,
    "page_posts": 6,
    "saliency_images": 3,
    "memory_images": 3,
    "instruction_images": 1,
    "instruction_videos": 0,
    "instruction_texts": 0,
    "benchmark_train": 16,
    "benchmark_test": 16,
    "processes": 1,
}


@dataclass(frozen=True)
class World:
    """A run up to its filters, kept as it was so that each test begins with it.

    Attributes:
        run: always in one place, because rows hold whole paths.
        asked_posts, asked_authors: what is forgotten; names as the sources have them.
        hashes: of all authors who go. gone: ids of all posts that go.
        traces: what may be found nowhere: names, ids, hashes, texts.
    """

    run: Path
    kept: Path
    brought: Path
    asked_posts: list[str]
    asked_authors: list[str]
    hashes: set[str | None]
    gone: set[str]
    traces: set[bytes]

    def restore(self) -> Path:
        shutil.rmtree(self.run, ignore_errors=True)
        shutil.copytree(self.kept, self.run)
        return self.run

    def forget(self, **more: Any) -> forgetting.Removal:
        return forgetting.forget(self.run, posts=self.asked_posts, authors=self.asked_authors, **more)

    def again(self) -> Run:
        """The run's next start, up to the filters."""
        return made(self.run, self.brought)


def config(brought: Path) -> RunConfig:
    sources = (
        {"kind": "sandbox", "settings": WORLD},
        {"kind": "reddit", "settings": {"path": str(brought / "dump"), "media": str(brought / "media")}},
    )
    collected = CollectConfig.model_validate({"sources": sources, "max_fault_rate": 0.5, "processes": 1})
    return RunConfig(name="small", collect=collected, evaluate=EvaluateConfig(tasks=()))


def made(run: Path, brought: Path) -> Run:
    settings = config(brought)
    with only_one(run):
        (run / "config.yaml").write_text(as_yaml(settings))
        work = Run(settings, run)
        work.selected()
    return work


def bring(brought: Path) -> None:
    """A dump: posts of two people, one of the leaver's with the same picture as another's."""
    (brought / "dump").mkdir(parents=True)
    (brought / "media").mkdir()
    post = {"subreddit": "pics", "title": "brought"}
    posts = [("own0001", NAME), ("own0002", NAME), ("oth0001", "stayer"), ("oth0002", "stayer")]
    rows = [post | {"id": name, "author": author, "url": url_of(name)} for name, author in posts]
    said = [
        ("oth0001", NAME, "a word that was said by one who goes away"),
        ("own0001", "stayer", "another word, said below what goes away"),
        ("oth0001", "stayer", "these words were said by one who stays"),
    ]
    comments = [
        {"id": f"c{n}", "link_id": f"t3_{to}", "author": author, "body": text, "subreddit": "pics"}
        for n, (to, author, text) in enumerate(said)
    ]
    for kind, values in (("RS", rows), ("RC", comments)):
        lines = "".join(json.dumps(value) + "\n" for value in values)
        (brought / "dump" / f"{kind}_2021-01.ndjson").write_text(lines)
    for name, color in (("own0001", 1), ("own0002", 2), ("oth0001", 2), ("oth0002", 4)):
        Image.new("RGB", (40, 40), (color, 0, 0)).save(brought / "media" / f"{name}.jpg")


def url_of(name: str) -> str:
    """Two posts show one address, and one of them goes."""
    return f"https://i.redd.it/{'oth0001' if name == 'own0002' else name}.jpg"


def posts_of(run: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows_of(run / "collect" / "posts")}


def comments_of(run: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows_of(run / "collect" / "comments")}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("*.parquet")) for row in pq.read_table(file).to_pylist()]


def later_stages(run: Path, texts: list[str], posts: list[dict[str, Any]]) -> None:
    """Stand-ins for what training, evaluation and report leave, with everything of everybody in them."""
    everything = json.dumps([texts, posts])
    for place in (
        "build/arms/seed0/shuffled/examples",
        "blift/data/train",
        "evaluate/seed0/shuffled/predictions",
    ):
        (run / place).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": texts}), run / f"{place}.parquet", compression="zstd")
    (run / "journal" / "0123").mkdir(parents=True)
    (run / "journal" / "0123" / "4567.jsonl").write_text(everything)
    (run / "report" / "media").mkdir(parents=True)
    (run / "report" / "index.html").write_text(everything)
    arm = run / "train" / "seed0" / "shuffled"
    tuned = run / "evaluate" / "seed0" / "shuffled" / "finetuned" / "lamem-0.1"
    for folder in (arm, tuned, run / "train" / "seed0" / "content_only"):
        (folder / "model").mkdir(parents=True)
        (folder / "model" / "model.safetensors").write_bytes(b"weights")
    for folder in (arm, run / "evaluate" / "seed0" / "shuffled"):
        write_json(folder / "plan.json", {"stage": folder.name})
        write_json(folder / "manifest.json", {"stage": folder.name})
    ledger.save_saw(arm, [post["id"] for post in posts], [post["author_hash"] for post in posts])
    ledger.save_saw(run / "train" / "seed0" / "content_only", ["reddit:oth0002"], [])
    # of earlier versions, and of killed processes
    (run / "views" / "0123").mkdir(parents=True)
    (run / "views" / "0123" / "000000.parquet").write_text(everything)
    (run / "read" / "posts.123.part").write_text(everything)
    (run / "collect.gone").mkdir()
    (run / "collect.gone" / "left.txt").write_text(everything)


def look_at(run: Path, posts: dict[str, dict[str, Any]]) -> None:
    """What looking at the media leaves: facts and frames."""
    found = {post["media_sha256"]: post for post in posts.values() if post["media_sha256"]}
    with Cache(run / "seen" / "seen.sqlite", "captions", {}) as seen:
        seen.keep({sha256: {"0": "a caption"} for sha256 in found})
    with Hashes(run / "seen" / "seen.sqlite") as hashes:
        for sha256, post in found.items():
            hashes.keep(f"state of {post['media_sha256'][:8]}", sha256)
    # a process that was killed left deleted rows in the file and in its log
    place = run / "measured" / "measures.sqlite"
    with closing(sqlite3.connect(place, isolation_level=None)) as database:
        rows = [(f"another {sha256}", json.dumps({"media_sha256": sha256})) for sha256 in found]
        database.executemany("INSERT INTO measures VALUES (?, ?, '')", rows)
        database.execute("DELETE FROM measures WHERE state LIKE 'another%'")
        log = place.with_name(f"{place.name}-wal")
        copies = {path: path.read_bytes() for path in (place, log)}
    for path, content in copies.items():
        path.write_bytes(content)
    with Ledger(run / "media") as downloads:
        for name in ("own0001", "own0002", "oth0001"):
            key = hashlib.sha256(url_of(name).encode()).hexdigest()
            file = run / "media" / key[:2] / f"{key}.jpg"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"a picture")
            downloads.record(key, Downloaded(str(file), None, "0" * 64, 9), "first", "")
    frames = FrameStore(run / "frames")
    for sha256, post in found.items():
        shown = Media(post["media_path"], post["media_kind"], sha256, (0.5, 1.0))
        frames.put(shown, [Image.new("RGB", (8, 8))] * 2)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    base = tmp_path_factory.mktemp("forgetting")
    run, brought = base / "run", base / "brought"
    bring(brought)
    made(run, brought)
    posts, comments = posts_of(run), comments_of(run)
    assert len(posts) > 60
    look_at(run, posts)
    films = [json.loads(path.read_text()) for path in sorted(run.glob("fetched/0/youtube/*.info.json"))]
    # on YouTube a person is an account, whose shown name may be anybody's
    accounts = {c["author_id"] for film in films for c in film["comments"] if c["author"] == f"@{NAME}"}
    assert len(accounts) >= 3
    asked = [f"youtube:{films[0]['id']}", "page:3", "salicon:1", "lamem:00000002.jpg"]
    hashes = {people.hash_author(name, people.DEFAULT_SALT) for name in (NAME, *accounts)}
    gone = {*asked, *(key for key, post in posts.items() if post["author_hash"] in hashes)}
    assert len(gone) >= 8
    going = [row for row in comments.values() if row["author_hash"] in hashes or row["post_id"] in gone]
    staying = {row["text"] for key, row in comments.items() if row not in going}
    texts = {row["text"] for row in going if row["text"]} - staying
    assert len(texts) >= 8
    shared = {post["media_sha256"] for key, post in posts.items() if key not in gone}
    unique = {posts[key]["media_sha256"] for key in gone} - {None} - shared
    assert len(unique) >= 8
    later_stages(run, [str(row["text"]) for row in comments.values()], list(posts.values()))
    traces = {NAME, *(str(value) for value in hashes), *accounts, *texts, *unique}
    # a number alone is no trace, so others are looked for with their platform
    traces |= {f'"{key}"' for key in gone}
    traces |= {key.partition(":")[2] for key in gone if key.startswith(("reddit:", "youtube:"))}
    kept = base / "kept"
    shutil.copytree(run, kept)
    encoded = {trace.encode() for trace in traces}
    return World(run, kept, brought, asked, [NAME, *sorted(accounts)], hashes, gone, encoded)


@pytest.fixture
def world(built: World) -> World:
    built.restore()
    return built


# ---- every byte --------------------------------------------------------------------------------------------


def contents(path: Path) -> Iterator[bytes]:
    """A file's bytes, and what they hold once they are unpacked."""
    yield path.read_bytes()
    if path.suffix == ".zst":
        reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(path.read_bytes())
        yield reader.read()
    elif path.suffix == ".arrow":
        with pa.memory_map(str(path)) as file:
            yield json.dumps(pa.ipc.open_file(file).read_all().to_pylist(), ensure_ascii=False).encode()
    elif path.suffix == ".parquet" and path.name != ledger.SAW and "views" not in path.parts:
        yield json.dumps(pq.read_table(path).to_pylist(), ensure_ascii=False).encode()


def places_of(traces: set[bytes], run: Path) -> dict[str, set[bytes]]:
    """First names of the paths in which traces are, in the name or in the content, and which."""
    found: dict[str, set[bytes]] = {}
    for path in run.rglob("*"):
        inside = path.relative_to(run)
        texts = [inside.as_posix().encode(), *(contents(path) if path.is_file() else ())]
        there = {trace for trace in traces if any(trace in text for text in texts)}
        if there:
            place = inside.parts[0] + (".sqlite" if inside.suffix == ".sqlite" else "")
            found.setdefault(place, set()).update(there)
    return found


def test_a_search_over_all_bytes_finds_nothing_and_the_rest_is_as_it_was(world: World) -> None:
    before, said = posts_of(world.run), comments_of(world.run)
    digests = {before[key]["media_sha256"] for key in world.gone} - {None}
    found = places_of(world.traces, world.run)
    assert found.keys() >= {
        "fetched",
        "read",
        "collect",
        "build",
        "evaluate",
        "blift",
        "report",
        "frames",
        "measured.sqlite",
    }
    untouched = tree(world.run / "fetched" / "0" / "benchmarks")
    untouched |= tree(world.run / "fetched" / "0" / "instruction") | tree(world.run / "train")
    outside = tree(world.brought)

    removal = world.forget()

    assert places_of(world.traces, world.run) == {}
    for place in ("measured/measures.sqlite", "seen/seen.sqlite", "media/ledger.sqlite"):
        with closing(sqlite3.connect(world.run / place)) as database:
            assert database.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert removal.num_posts == len(world.gone)
    assert (removal.unknown_posts, removal.unknown_authors) == ((), ())
    assert removal.removed.keys() >= {
        "fetched/0",
        "read",
        "collect",
        "build",
        "evaluate",
        "blift",
        "report",
        "frames",
    }
    assert removal.models == ("train/seed0/shuffled", "evaluate/seed0/shuffled/finetuned/lamem-0.1")
    assert [text.partition(":")[0] for text in removal.brought] == ["reddit", "reddit"]
    now = tree(world.run / "fetched" / "0" / "benchmarks")
    now |= tree(world.run / "fetched" / "0" / "instruction") | tree(world.run / "train")
    assert now == untouched
    assert len(untouched) > 100
    assert tree(world.brought) == outside

    again = world.again()
    assert places_of(world.traces, world.run) == {}
    left, words = posts_of(world.run), comments_of(world.run)
    assert left == {key: post for key, post in before.items() if key not in world.gone}
    kept = {
        key: row
        for key, row in said.items()
        if row["post_id"] in left and row["author_hash"] not in world.hashes
    }
    assert without_place(words) == without_place(kept)
    assert {row["text"] for row in said.values()} - texts(words) >= {
        "a word that was said by one who goes away"
    }
    assert "these words were said by one who stays" in texts(words)
    # the picture of two posts, of which one is gone, is still known
    stays = before["reddit:oth0001"]["media_sha256"]
    assert stays == before["reddit:own0002"]["media_sha256"]
    assert stays in digests
    assert places_of({stays.encode()}, world.run).keys() >= {"collect", "measured.sqlite"}
    files = [path for path in world.run.rglob("*") if path.is_file()]
    assert {media.sha256(path) for path in files if path.stat().st_size}.isdisjoint(digests - {stays})
    assert again.collected().plan["inputs"]["forgotten"] == ledger.Forgotten.read(world.run).fingerprint()
    assert again.collected().manifest()["forgotten"] >= 3, "the dump that was brought holds them still"


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's content, by its path."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def texts(rows: dict[str, dict[str, Any]]) -> set[str]:
    return {row["text"] for row in rows.values()}


def without_place(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Comments move up where one before them is gone."""
    return {key: row | {"position": None} for key, row in rows.items()}


def test_downloads_go_unless_a_remaining_post_shows_the_same_address(world: World) -> None:
    assert world.forget().removed.items() >= {"media": 1, "media/ledger.sqlite": 1}.items()
    with Ledger(world.run / "media") as downloads:
        assert downloads.lookup(url_of("own0001")) is None
        assert downloads.lookup(url_of("own0002")) == downloads.lookup(url_of("oth0001")) is not None
    assert len(list((world.run / "media").glob("*/*.jpg"))) == 1


# ---- what a call tells -------------------------------------------------------------------------------------


def test_a_dry_run_tells_what_would_go_and_changes_nothing(world: World) -> None:
    before = state(world.run)
    told = world.forget(is_dry=True)
    assert state(world.run) == before
    done = world.forget()
    assert not done.is_nothing
    assert (told.num_posts, told.num_comments, told.models) == (
        done.num_posts,
        done.num_comments,
        done.models,
    )
    assert done.removed.pop("read") > 50
    assert told.removed == done.removed


def test_a_second_call_does_nothing_and_says_so(world: World) -> None:
    first = world.forget()
    before = tree(world.run)
    again = world.forget()
    assert again.is_nothing
    assert (again.removed, again.num_posts, again.num_comments) == ({}, 0, 0)
    assert (again.unknown_posts, again.unknown_authors) == ((), ())
    assert again.models == first.models, "the models are still there"
    assert tree(world.run) == before


def test_who_is_unknown_is_told_and_kept_out_of_what_comes_later(world: World) -> None:
    before, mark = tree(world.run), ledger.Forgotten.read(world.run).fingerprint()
    removal = forgetting.forget(world.run, posts=["reddit:nobody"], authors=["no such name", "u_0000000000"])
    assert removal.is_nothing
    assert (removal.unknown_posts, removal.unknown_authors) == ((0,), (0, 1))
    listed = ledger.Forgotten.read(world.run)
    assert listed.has_post("reddit:nobody")
    assert listed.has_author("u_0000000000")
    assert listed.fingerprint() == mark, "no stage starts again for it"
    changed = {path for path, content in tree(world.run).items() if before.get(path) != content}
    assert changed <= {str(world.run / name) for name in (ledger.FORGOTTEN, ".lock")}
    assert b"no such name" not in (world.run / ledger.FORGOTTEN).read_bytes()


def test_an_author_may_be_given_by_hash_and_stages_are_made_again(world: World) -> None:
    before = {key for key, post in posts_of(world.run).items() if post["author_hash"] == HASH}
    removal = forgetting.forget(world.run, authors=[HASH])
    assert removal.num_posts == len(before) >= 4
    assert ledger.Forgotten.read(world.run).fingerprint() != ledger.Forgotten().fingerprint()


@pytest.mark.slow
def test_a_world_that_is_fetched_again_holds_them_no_more(world: World) -> None:
    before = {key for key, post in posts_of(world.run).items() if post["author_hash"] == HASH}
    forgetting.forget(world.run, authors=[HASH])
    shutil.rmtree(world.run / "fetched" / "0")
    assert world.again().fetched(0).manifest()["forgotten"] > 0  # type: ignore[union-attr]
    assert HASH.encode() not in b"".join(tree(world.run / "read").values())
    assert before.isdisjoint(posts_of(world.run))


def test_what_is_no_run_or_is_at_work_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run's config"):
        forgetting.forget(tmp_path, posts=["reddit:x"])
    assert list(tmp_path.iterdir()) == []
    with only_one(world.run), pytest.raises(UserError, match="another run is at work"):
        world.forget()


def test_a_list_says_of_every_line_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(
        "\ufeffpost reddit:abc\n\n author  a name of three words \r\npost youtube:x\nauthor u_0123456789"
    )
    assert forgetting.read_list(file) == (
        ["reddit:abc", "youtube:x"],
        ["a name of three words", "u_0123456789"],
    )
    for bad in ("walker", "author", "authors walker"):
        file.write_text(f"post reddit:abc\n{bad}\n")
        with pytest.raises(UserError, match=r"list\.txt:2: names neither") as caught:
            forgetting.read_list(file)
        assert NAME not in str(caught.value)
    file.write_bytes(b"author \xff\n")
    with pytest.raises(UserError, match="cannot be read"):
        forgetting.read_list(file)
    with pytest.raises(UserError, match="cannot be read"):
        forgetting.read_list(tmp_path)


def test_a_name_is_hashed_with_the_salt_of_its_source(tmp_path: Path) -> None:
    bring(tmp_path)
    (tmp_path / "run").mkdir()
    settings = {"path": str(tmp_path / "dump"), "salt": "a secret"}
    collected = CollectConfig.model_validate({"sources": [{"kind": "reddit", "settings": settings}]})
    work = RunConfig(name="salted", collect=collected, evaluate=EvaluateConfig(tasks=()))
    (tmp_path / "run" / "config.yaml").write_text(as_yaml(work))
    Run(work, tmp_path / "run").collected()
    assert forgetting.forget(tmp_path / "run", authors=[HASH]).is_nothing
    removal = forgetting.forget(tmp_path / "run", authors=[NAME])
    assert (removal.num_posts, removal.num_comments, removal.unknown_authors) == (2, 2, ())


def test_fetched_files_of_a_hub_lose_their_rows_also_before_they_are_read(tmp_path: Path) -> None:
    settings = {"kind": "blift", "settings": {"hub": "somebody/blift"}}
    collected = CollectConfig.model_validate({"sources": [settings]})
    work = RunConfig(name="hub", collect=collected, evaluate=EvaluateConfig(tasks=()))
    whole, torn = tmp_path / "fetched" / "0", tmp_path / "fetched" / "1"
    for folder in (whole, torn):
        (folder / "hub" / "data").mkdir(parents=True)
        write_json(folder / "plan.json", {"config": settings})
    write_json(whole / "manifest.json", {"config": settings})
    (tmp_path / "config.yaml").write_text(as_yaml(work))
    rows = [
        {"permalink": f"/r/pics/comments/{name}/a_title/", "comments": [f"below {name}"], "title": name}
        for name in ("8abc12", "8abc13", "8abc14")
    ]
    file = whole / "hub" / "data" / "train-00000.parquet"
    pq.write_table(pa.Table.from_pylist(rows), file)
    assert forgetting.forget(tmp_path, posts=["reddit:8abc13"], is_dry=True).removed == {"fetched/0": 1}
    assert pq.read_table(file).to_pylist() == rows
    removal = forgetting.forget(tmp_path, posts=["reddit:8abc13", "reddit:8abc15"])
    assert (removal.removed, removal.unknown_posts) == ({"fetched/0": 1}, (1,))
    assert pq.read_table(file).to_pylist() == [rows[0], rows[2]]
    assert not torn.exists(), "what was not fetched to its end is fetched again"


# ---- cut off in the middle ---------------------------------------------------------------------------------


def state(run: Path) -> dict[str, Any]:
    """What a run holds; of SQLite files and the list, which days and page numbers differ in, the rows."""
    found: dict[str, Any] = {}
    for path, content in tree(run).items():
        if path.endswith(".sqlite"):
            with closing(sqlite3.connect(path)) as database:
                names = [row[0] for row in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
                found[path] = {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in names}
        elif path.endswith(ledger.FORGOTTEN):
            found[path] = ledger.Forgotten.read(run).fingerprint()
        elif not path.endswith(("-wal", "-shm")):
            found[path] = content
    return found


class Killed(BaseException):
    pass


CHANGES = ("unlink", "rmdir", "replace", "rename")
"""How files go or are put in place, of the functions in `os`."""


def killed_at(patch: pytest.MonkeyPatch, at: int | None) -> list[str]:
    """Ends the work before the n-th change; returns the changes as they are made."""
    made: list[str] = []
    for name in CHANGES:
        original = getattr(os, name)

        def change(*given: Any, original: Callable[..., Any] = original, **more: Any) -> Any:
            if len(made) == at:
                raise Killed
            made.append(str(given[0]))
            return original(*given, **more)

        patch.setattr(os, name, change)
    return made


@pytest.mark.slow
def test_wherever_it_was_cut_off_it_ends_alike(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        changes = killed_at(patch, None)
        world.forget()
    expected = state(world.run)
    assert len(changes) > 100
    first, last = 1, len(changes) - 1
    for number, at in enumerate(
        (0, first, 3, 8, len(changes) // 3, len(changes) // 2, last - 30, last - 6, last)
    ):
        world.restore()
        with monkeypatch.context() as patch:
            killed_at(patch, at)
            with pytest.raises(Killed):
                world.forget()
        if number % 2:
            with only_one(world.run):
                forgetting.finish(world.run)
        else:
            world.forget()
        assert state(world.run) == expected, f"cut off before change {at}, {changes[at]}"
        assert not (world.run / forgetting.UNFINISHED).exists()
        assert world.forget().is_nothing


def test_a_killed_process_is_followed_by_one_that_ends_its_work(world: World) -> None:
    code = f"""
import os, signal
from pathlib import Path
from behavior_llava import forgetting
left, original = [60], os.unlink
def unlink(*given, **more):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*given, **more)
os.unlink = unlink
forgetting.forget(Path({str(world.run)!r}), posts={world.asked_posts!r}, authors={world.asked_authors!r})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert NAME not in done.stderr + done.stdout
    assert (world.run / forgetting.UNFINISHED).exists()
    assert places_of(world.traces, world.run)
    removal = world.forget()
    assert removal.was_unfinished
    assert places_of(world.traces, world.run) == {}
    found = state(world.run)
    world.restore()
    world.forget()
    assert state(world.run) == found


# ---- the sandbox's files -----------------------------------------------------------------------------------


def test_what_is_left_of_a_world_reads_as_before(world: World) -> None:
    """By the sources themselves: what is read from it is what was, without them."""
    folder = world.run / "fetched" / "0"
    settings = sandbox.Config(**WORLD)

    def read() -> dict[str, Any]:
        return {repr(item): item for item in reading.all_items(sandbox.SOURCE, settings, folder)}

    before = read()
    forgotten = ledger.Forgotten(
        [ledger.post_key(post) for post in world.asked_posts]
        + [ledger.author_key(value) for value in world.hashes if value is not None]
    )
    counted = erase.erase(settings, folder, forgotten, True)
    assert read() == before
    assert erase.erase(settings, folder, forgotten, False) == counted > 30
    assert erase.erase(settings, folder, forgotten, False) == 0
    after = read()
    posts = {item.id: item for item in after.values() if isinstance(item, Post)}
    gone = {item.id for item in before.values() if isinstance(item, Post)} - posts.keys()
    assert gone == {post for post in world.gone if not post.startswith(("reddit:own", "reddit:oth"))}
    assert len(gone) >= 6
    for item in before.values():
        if isinstance(item, Post) and item.id in posts:
            comments = tuple(said for said in item.comments if said.author_hash not in world.hashes)
            assert posts[item.id] == replace(item, comments=comments)
        elif isinstance(item, Said):
            stays = item.post_id not in gone and item.comment.author_hash not in world.hashes
            assert (repr(item) in after) == stays
    facts = json.loads((folder / "truth.json").read_text())
    assert facts.keys() >= posts.keys()
    assert facts.keys().isdisjoint(gone)


def test_who_left_the_source_before_is_still_found_in_the_build(tmp_path: Path) -> None:
    """Collect has run again without them; what was built earlier still holds them."""
    run = tmp_path / "run"
    (run / "collect" / "posts").mkdir(parents=True)
    row = post_row(Post(id="made:left", source="made", media_kind="image", author_hash="u_0123456789"))
    place = run / "build" / "posts"
    for kind, schema, rows in (("posts", POSTS, [row]), ("comments", COMMENTS, [])):
        (place / kind).mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), place / kind / "made-0000.parquet")
    (run / "config.yaml").write_text("collect: {sources: []}\n", encoding="utf-8")
    told = forgetting.forget(run, posts=["made:left"])
    assert told.num_posts == 1
    assert told.unknown_posts == ()
    assert not (run / "build").exists()
    assert places_of({b"made:left", b"u_0123456789"}, run) == {}


# ---- small runs --------------------------------------------------------------------------------------------


def bare_run(run: Path, *, read: list[Post] = (), sources: str = "[]") -> Path:  # type: ignore[assignment]
    """A run in which these posts were read and not collected."""
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(f"collect: {{sources: {sources}}}\n", encoding="utf-8")
    if read:
        name = run / "read" / "0" / "version" / "part" / "0000000"
        name.parent.mkdir(parents=True)
        reading._save(name, list(read), [], Counter())
    return run


def downloaded(run: Path, url: str, content: bytes) -> str:
    """A file that was fetched, and what was found out about it; its hash."""
    key, sha256 = hashlib.sha256(url.encode()).hexdigest(), hashlib.sha256(content).hexdigest()
    file = run / "media" / key[:2] / f"{key}.jpg"
    with Ledger(run / "media") as downloads:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        downloads.record(key, Downloaded(str(file), None, sha256, len(content)), "first", "")
    with Cache(run / "seen.sqlite", "captions", {}) as seen:
        seen.keep({sha256: {"0": "a caption"}})
    frames = run / "frames" / sha256[:2] / sha256
    frames.mkdir(parents=True)
    (frames / "0.jpg").write_bytes(b"a frame")
    return sha256


def known_of(run: Path) -> set[str]:
    """Hashes of which the run has facts or frames."""
    with closing(sqlite3.connect(run / "seen.sqlite")) as database:
        found = {row[0] for row in database.execute("SELECT sha256 FROM facts")}
    return found | {path.name for path in (run / "frames").glob("*/*")}


def test_what_was_seen_of_downloads_goes_also_where_collect_holds_the_post_no_more(tmp_path: Path) -> None:
    def shown(name: str, url: str) -> Post:
        return Post(id=f"made:{name}", source="made", media_kind="image", media_url=url)

    urls = {name: f"https://a.org/{name}.jpg" for name in ("mine", "both", "copy", "theirs")}
    posts = [shown("1", urls["mine"]), shown("2", urls["both"]), shown("3", urls["copy"])]
    posts += [shown("4", urls["both"]), shown("5", urls["theirs"])]
    run = bare_run(tmp_path / "run", read=posts)
    mine, both = downloaded(run, urls["mine"], b"mine"), downloaded(run, urls["both"], b"both")
    theirs = downloaded(run, urls["theirs"], b"theirs")
    with Ledger(run / "media") as downloads:  # the same bytes under another address
        key = hashlib.sha256(urls["copy"].encode()).hexdigest()
        downloads.record(
            key, Downloaded(str(run / "media" / key[:2] / f"{key}.jpg"), None, theirs, 6), "", ""
        )
    # of the last post collect says what it shows
    place = run / "collect" / "posts"
    place.mkdir(parents=True)
    row = post_row(posts[-1]) | {"media_sha256": theirs}
    pq.write_table(pa.Table.from_pylist([row], schema=POSTS), place / "0000.parquet")
    (run / ".lock").touch()
    before = state(run)
    asked = ["made:1", "made:2", "made:3"]
    told = forgetting.forget(run, posts=asked, is_dry=True)
    assert state(run) == before
    assert known_of(run) == {mine, both, theirs}
    done = forgetting.forget(run, posts=asked)
    assert known_of(run) == {both, theirs}
    expected = {"seen.sqlite": 1, "frames": 1, "media": 1, "media/ledger.sqlite": 2}
    assert told.removed.items() >= expected.items()
    assert done.removed.items() >= expected.items()


def test_who_is_only_in_the_lists_of_dropped_posts_is_found(tmp_path: Path) -> None:
    run = bare_run(tmp_path / "run")
    place = run / "build" / "posts" / "dropped" / "made" / "00_short"
    for kind, values in (
        ("posts", {"id": ["made:left", "made:other"], "measured": [1, 2]}),
        ("comments", {"id": ["made:left/1", "made:other/1"], "post_id": ["made:left", "made:other"]}),
    ):
        (place / kind).mkdir(parents=True)
        pq.write_table(pa.table(values), place / kind / "made-0000.parquet")
    told = forgetting.forget(run, posts=["made:left", "made:never"])
    assert (told.num_posts, told.num_comments, told.unknown_posts) == (1, 1, (1,))
    assert places_of({b"made:left"}, run) == {}
    assert not (run / "build").exists()


def trained(run: Path, arm: str, *, saw: list[str] | None) -> None:
    folder = run / "train" / "seed0" / arm
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "model.safetensors").write_bytes(b"weights")
    if saw is not None:
        ledger.save_saw(folder, saw, [HASH])


def test_whom_only_a_model_saw_is_known_and_what_was_made_of_them_goes(tmp_path: Path) -> None:
    run = bare_run(tmp_path / "run", sources="[{kind: reddit, settings: {path: dump}}]")
    trained(run, "behavior", saw=["made:left"])
    (run / "blift").mkdir()
    (run / "blift" / "rows.txt").write_text("made:left")
    told = forgetting.forget(run, posts=["made:left", "made:never"], authors=[NAME])
    assert (told.unknown_posts, told.unknown_authors) == ((1,), ())
    assert told.models == ("train/seed0/behavior",)
    assert told.unsure_models == ()
    assert not (run / "blift").exists()
    again = forgetting.forget(run, posts=["made:left"], authors=[NAME])
    assert again.is_nothing
    assert (again.unknown_posts, again.unknown_authors) == ((), ())
    (run / "blift").mkdir()
    assert forgetting.forget(run, posts=["made:left"]).is_nothing
    assert (run / "blift").exists(), "made without them since"


def test_a_model_that_tells_nobody_whom_it_saw_is_named_apart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = bare_run(tmp_path / "run")
    trained(run, "old", saw=None)
    trained(run, "new", saw=["made:other"])
    (run / "evaluate" / "seed0" / "old" / "finetuned" / "lamem-0.1" / "model").mkdir(parents=True)
    for is_dry in (True, False):
        caplog.clear()
        told = forgetting.forget(run, posts=["made:left"], is_dry=is_dry)
        assert told.models == ()
        assert told.unsure_models == ("train/seed0/old", "evaluate/seed0/old/finetuned/lamem-0.1")
        assert "unknown whether they saw them: train/seed0/old, " in caplog.text
    assert forgetting.forget(run).unsure_models == (), "nobody is asked for"


def test_tables_in_stores_and_behind_wildcards_are_told_as_brought(tmp_path: Path) -> None:
    columns = "columns: {id: id, media_url: url}"
    paths = (
        "s3://logs/likes/day=*/part-*.parquet?region=eu-west-1",
        "gs://anonymous@logs/likes",
        "logs/2026-*.csv",
        "logs/likes.csv",
        "ftp://somebody:word@logs/likes.csv",
    )
    sources = [f"{{kind: table, settings: {{path: '{path}', {columns}, salt: 'a*b'}}}}" for path in paths]
    run = bare_run(tmp_path / "run", sources=f"[{', '.join(sources)}]")
    told = forgetting.forget(run, posts=["table:1"])
    assert told.brought == (
        "table: s3://logs/likes/day=*/part-*.parquet",
        "table: gs://logs/likes",
        "table: logs/2026-*.csv",
        "table: logs/likes.csv",
        "table: ftp://logs/likes.csv",
    )


def test_names_on_reddit_are_found_in_whatever_letters_and_others_as_they_are(tmp_path: Path) -> None:
    bring(tmp_path)
    (tmp_path / "table.csv").write_text(
        "id,url,by\n1,https://a.org/1.jpg,WALKER\n2,https://a.org/2.jpg,walker\n"
    )
    columns = {"id": "id", "media_url": "url", "author_hash": "by"}
    reddit = {"kind": "reddit", "settings": {"path": str(tmp_path / "dump"), "salt": "one"}}
    table = {
        "kind": "table",
        "settings": {"path": str(tmp_path / "table.csv"), "columns": columns, "salt": "two"},
    }
    collected = CollectConfig.model_validate({"sources": [reddit, table], "max_fault_rate": 1.0})
    work = RunConfig(name="letters", collect=collected, evaluate=EvaluateConfig(tasks=()))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(as_yaml(work))
    with only_one(run):
        Run(work, run).collected()
    told = forgetting.forget(run, authors=["WALKER"])
    assert (told.num_posts, told.num_comments, told.unknown_authors) == (3, 2, ())
    pieces = [ledger.rows_of(name, "posts") for name in ledger.pieces(run)]
    left = {value for piece in pieces if piece is not None for value in piece["id"].to_pylist()}
    assert left == {"reddit:oth0001", "reddit:oth0002", "table:2"}


def test_a_name_with_half_a_character_is_unknown_and_no_crash(tmp_path: Path) -> None:
    run = bare_run(tmp_path / "run")
    told = forgetting.forget(run, posts=["reddit:\ud83d"], authors=["\udcff"])
    assert (told.unknown_posts, told.unknown_authors) == ((0,), (0,))

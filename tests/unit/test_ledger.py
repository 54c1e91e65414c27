"""The list of the forgotten: tells of nobody, loses nobody, and knows which models saw whom."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Comment, Post
from behavior_llava.data import ledger, reading
from behavior_llava.data.ledger import Forgotten

POST, AUTHOR = "reddit:abc123", "u_0123456789"
KEYS = [ledger.post_key(POST), ledger.author_key(AUTHOR)]


def test_keys_are_the_stated_hashes() -> None:
    # printf 'post:reddit:abc123' | sha256sum
    assert KEYS[0] == "1595df6f0f22a92bec6ef5fecfdc7d3d0576859d222831122769cecc7b763ef6"
    assert KEYS[1] == "b0857ff047e03093fb0929b5a9b3ad4b8b5c7878adadbf0a763ccbd08a08f577"


def test_half_characters_have_keys_of_their_own_and_others_keep_theirs() -> None:
    broken = ["reddit:\ud83d", "reddit:\ud83e", "reddit:?"]
    assert len({ledger.post_key(value) for value in broken}) == 3
    assert len({ledger.author_key(value) for value in broken}) == 3
    assert not Forgotten(KEYS).has_post("reddit:\ud83d")
    # printf 'post:reddit:\u00e9' | sha256sum
    assert (
        ledger.post_key("reddit:\u00e9") == "6a9ce468a9fde57594240e5ef29946c391317c3f885746c6ec164d3da0f43098"
    )


# ---- the list ----------------------------------------------------------------------------------------------


def test_the_list_knows_whom_it_is_asked_for_and_holds_nobody(tmp_path: Path) -> None:
    assert not Forgotten.read(tmp_path)
    ledger.remember(tmp_path, KEYS, was_found=True)
    ledger.remember(tmp_path, [ledger.post_key("reddit:later")], was_found=True)
    listed = Forgotten.read(tmp_path)
    assert listed
    assert listed.has_post(POST)
    assert listed.has_post("reddit:later")
    assert listed.has_author(AUTHOR)
    assert listed.met == {*KEYS, ledger.post_key("reddit:later")}
    # a post is no author of the same name, and nobody is nobody
    assert not listed.has_post(AUTHOR)
    assert not listed.has_author(POST)
    assert not listed.has_author(None)
    content = (tmp_path / ledger.FORGOTTEN).read_bytes()
    assert content.count(b"\n") == 3
    for hidden in (b"abc123", b"0123456789", b"later", b"post", b"author"):
        assert hidden not in content
    assert [path.name for path in tmp_path.iterdir()] == [ledger.FORGOTTEN]


def test_only_what_was_found_makes_stages_start_again(tmp_path: Path) -> None:
    empty = Forgotten.read(tmp_path).fingerprint()
    ledger.remember(tmp_path, KEYS, was_found=False)
    assert Forgotten.read(tmp_path).has_post(POST)
    assert Forgotten.read(tmp_path).fingerprint() == empty
    ledger.remember(tmp_path, KEYS[:1], was_found=True)
    first = Forgotten.read(tmp_path).fingerprint()
    ledger.remember(tmp_path, KEYS[1:], was_found=True)
    assert len({empty, first, Forgotten.read(tmp_path).fingerprint()}) == 3
    before = (tmp_path / ledger.FORGOTTEN).read_bytes()
    ledger.remember(tmp_path, KEYS, was_found=True)
    ledger.remember(tmp_path, KEYS, was_found=False)
    assert (tmp_path / ledger.FORGOTTEN).read_bytes() == before


@pytest.mark.parametrize("harm", ['{"sha256": "ab", "da', "[]", '{"date": "2026-01-01"}', "\x80"])
def test_a_list_that_cannot_be_read_is_never_taken_for_an_empty_one(tmp_path: Path, harm: str) -> None:
    ledger.remember(tmp_path, KEYS, was_found=True)
    with (tmp_path / ledger.FORGOTTEN).open("ab") as file:
        file.write(harm.encode("latin-1"))
    with pytest.raises(UserError, match=r"forgotten\.jsonl: cannot be read"):
        Forgotten.read(tmp_path)


# ---- pieces ------------------------------------------------------------------------------------------------


def piece(run: Path, number: int, posts: list[Post], apart: list[tuple[str, Comment]]) -> Path:
    name = run / "read" / "0" / "version" / "part" / f"{number:07d}"
    name.parent.mkdir(parents=True, exist_ok=True)
    reading._save(name, posts, apart, Counter(json_broken=1))
    return name


def people_and_posts(run: Path) -> list[Path]:
    """Two pieces: the author of the list wrote post b and comments; post d stands on their page."""
    by = {"author_hash": AUTHOR}

    def post(name: str, *comments: Comment, **more: str) -> Post:
        return Post(id=name, source="x", media_kind="image", comments=comments, **more)

    posts = [
        post("a", Comment("1", "stays"), Comment("2", "goes", **by)),
        post("b", Comment("1", "goes with it"), **by),
        post(POST, Comment("1", "goes with it, too")),
        post("d", channel=AUTHOR),
    ]
    apart = [("a", Comment("3", "came apart")), ("b", Comment("4", "went apart"))]
    more = [
        ("b", Comment("5", "in another file")),
        ("z", Comment("6", None, **by)),
        ("z", Comment("7", "ok")),
    ]
    return [piece(run, 0, posts, apart), piece(run, 1, [post("b")], more)]


def texts(names: list[Path]) -> set[str | None]:
    tables = [ledger.rows_of(name, "comments") for name in names]
    return {text for table in tables if table is not None for text in table["text"].to_pylist()}


def test_what_is_forgotten_is_taken_out_of_pieces_and_their_accounts_stay_whole(tmp_path: Path) -> None:
    names = people_and_posts(tmp_path)
    ledger.remember(tmp_path, KEYS, was_found=True)
    assert ledger.pieces(tmp_path) == names
    first, second = ledger.take_out(names, tmp_path, Forgotten.read(tmp_path))
    # of 4 posts and 2 comments apart 3 posts and 1 comment go; of 1 post and 3 comments the post and 2
    assert (first.posts, first.comments, first.rows) == (1, 1, 3)
    assert first.faults == {"json_broken": 1, "forgotten": 4}
    assert (second.posts, second.comments, second.rows) == (0, 1, 1)
    assert second.faults == {"json_broken": 1, "forgotten": 3}
    assert texts(names) == {"stays", "came apart", "ok"}
    assert not names[1].with_suffix(".posts.arrow").exists()
    # post b went for its author's sake: a record of it without the author would not come back
    assert Forgotten.read(tmp_path).has_post("b")
    state = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert list(ledger.take_out(names, tmp_path, Forgotten.read(tmp_path))) == [first, second]
    assert state == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(5))
def test_counts_of_a_piece_come_right_wherever_the_work_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    names = people_and_posts(tmp_path)
    ledger.remember(tmp_path, KEYS, was_found=True)
    # at 5 writes or removals: the list, and comments, posts and counts of each piece
    calls = iter(range(100))
    for change in ("replace", "unlink"):
        original = getattr(Path, change)

        def changed(self: Path, *given: object, original: object = original) -> object:
            if next(calls) == at:
                raise Killed
            return original(self, *given)  # type: ignore[operator]

        monkeypatch.setattr(Path, change, changed)
    with pytest.raises(Killed):
        list(ledger.take_out(names, tmp_path, Forgotten.read(tmp_path)))
    monkeypatch.undo()
    first, second = ledger.take_out(names, tmp_path, Forgotten.read(tmp_path))
    assert (first.faults["forgotten"], second.faults["forgotten"]) == (4, 3)
    assert texts(names) == {"stays", "came apart", "ok"}


# ---- Parquet -----------------------------------------------------------------------------------------------


def test_rows_are_dropped_from_parquet_and_the_others_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"key": [f"k{n}" for n in range(20_000)], "deep": [[{"n": n}] for n in range(20_000)]})
    table = table.replace_schema_metadata({"written": "by somebody"})
    pq.write_table(table, path, row_group_size=7_000)
    before, table = path.read_bytes(), pq.read_table(path)

    def is_gone(row: dict[str, str | None]) -> bool:
        return row["key"] in ("k0", "k8191", "k8192", "k19999")

    assert ledger.drop_rows(path, ["key"], is_gone, is_dry=True) == 4
    assert path.read_bytes() == before
    assert ledger.drop_rows(path, ["key"], is_gone, is_dry=False) == 4
    left = pq.read_table(path)
    wanted = [place for place in range(20_000) if place not in (0, 8191, 8192, 19_999)]
    assert left.equals(table.take(wanted), check_metadata=True)
    after = path.read_bytes()
    assert ledger.drop_rows(path, ["key"], is_gone, is_dry=False) == 0
    assert path.read_bytes() == after


# ---- what models saw ---------------------------------------------------------------------------------------


def test_models_are_found_by_what_they_saw(tmp_path: Path) -> None:
    for arm, posts, authors in (
        ("behavior", [POST, "reddit:x"], [AUTHOR, None, AUTHOR]),
        ("shuffled", [POST], []),
        ("content_only", ["reddit:x"], [None]),
    ):
        folder = tmp_path / "train" / "seed0" / arm
        folder.mkdir(parents=True)
        ledger.save_saw(folder, posts, authors)
    (tmp_path / "evaluate" / "seed0" / "behavior" / "finetuned" / "lamem-0.1" / "model").mkdir(parents=True)
    # of one that was asked, the curve alone is left
    (tmp_path / "evaluate" / "seed0" / "behavior" / "finetuned" / "lamem-1" / "logs").mkdir(parents=True)
    found = ["train/seed0/behavior", "evaluate/seed0/behavior/finetuned/lamem-0.1"]
    assert ledger.models_that_saw(tmp_path, KEYS[1:]) == found
    assert ledger.models_that_saw(tmp_path, KEYS) == [*found, "train/seed0/shuffled"]
    assert ledger.models_that_saw(tmp_path, [ledger.post_key("reddit:y")]) == []
    assert ledger.models_that_saw(tmp_path, []) == []
    saw = tmp_path / "train" / "seed0" / "behavior" / ledger.SAW
    assert pq.read_table(saw).num_rows == 3
    values = json.dumps([value.hex() for value in pq.read_table(saw)["sha256"].to_pylist()])
    assert KEYS[0] in values
    for hidden in (POST, AUTHOR, "abc123"):
        assert hidden not in values
        assert hidden.encode() not in saw.read_bytes()


def test_a_model_of_which_nobody_knows_what_it_saw_is_told_apart(tmp_path: Path) -> None:
    """Earlier versions wrote no saw.parquet; what is half trained has weights, too."""
    for place in ("old/model", "half/checkpoints/checkpoint-2", "known/model"):
        folder = tmp_path / "train" / "seed0" / place
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
    ledger.save_saw(tmp_path / "train" / "seed0" / "known", [POST], [])
    (tmp_path / "train" / "seed0" / "planned").mkdir()
    (tmp_path / "evaluate" / "seed0" / "old" / "finetuned" / "lamem-0.1" / "model").mkdir(parents=True)
    assert ledger.models_that_saw(tmp_path, KEYS) == ["train/seed0/known"]
    assert ledger.models_unknown(tmp_path) == [
        "train/seed0/half",
        "train/seed0/old",
        "evaluate/seed0/old/finetuned/lamem-0.1",
    ]


def test_whom_models_saw_is_found_by_key(tmp_path: Path) -> None:
    assert ledger.seen_by_models(tmp_path, KEYS) == set()
    for arm, posts in (("a", [POST]), ("b", ["reddit:x"])):
        (tmp_path / "train" / "seed0" / arm).mkdir(parents=True)
        ledger.save_saw(tmp_path / "train" / "seed0" / arm, posts, [])
    other = ledger.post_key("reddit:x")
    assert ledger.seen_by_models(tmp_path, [*KEYS, other]) == {KEYS[0], other}
    assert ledger.seen_by_models(tmp_path, []) == set()

"""Official layouts made in code: what is read, what is only missing, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample
from behavior_llava.evaluation import benchmarks
from behavior_llava.evaluation.tasks import ekman6, emoset, imdb, lamem, lvu

TASKS = benchmarks.all_tasks()

INFO = {"emotion": {"label2idx": {label: number for number, label in enumerate(emoset.LABELS)}}}
CLASSES = "".join(f"{number} {label}\n" for number, label in enumerate(ekman6.LABELS, 1))
SCENE_HEADER = "class_id class_name youtube_id imdb_id"

BAD_NAMES = (
    "../x.jpg",
    "/etc/x.jpg",
    "..",
    ".",
    "C:x.jpg",
    "a\\b.jpg",
    "a//b.jpg",
    "a/../b.jpg",
    "a\x00b.jpg",
)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def emoset_folder(folder: Path, rows: Any, info: Any = INFO) -> Path:
    return write(folder, {"info.json": json.dumps(info), "test.json": json.dumps(rows)})


def labels_of(samples: list[Sample]) -> list[Any]:
    return [sample.label for sample in samples]


# ---- EmoSet ------------------------------------------------------------------------------------------------


def test_emoset_reads_rows_of_three_and_four_items(tmp_path: Path) -> None:
    rows = [
        ["awe", "awe_1", "image/awe/awe_1.jpg", "annotation/awe/awe_1.json"],
        ["fear", "image/fear/fear_2.jpg", "annotation/fear/fear_2.json"],
    ]
    folder = write(emoset_folder(tmp_path, rows), {"image/awe/awe_1.jpg": b"\xff\xd8"})
    first, second = emoset.load(folder, "test")
    assert (first.id, first.label, first.media_kind) == ("awe_1", "awe", "image")
    assert first.media_path == str(folder / "image/awe/awe_1.jpg")
    assert (second.id, second.label, second.media_path) == ("fear_2", "fear", None)


def test_emoset_reads_a_byte_order_mark(tmp_path: Path) -> None:
    rows = json.dumps([["awe", "image/awe/1.jpg", "annotation/awe/1.json"]])
    write(
        tmp_path,
        {
            "info.json": b"\xef\xbb\xbf" + json.dumps(INFO).encode(),
            "test.json": b"\xef\xbb\xbf" + rows.encode(),
        },
    )
    assert labels_of(emoset.load(tmp_path, "test")) == ["awe"]


@pytest.mark.parametrize(
    "row",
    [
        ["awe"],
        ["awe", "image/awe/1.jpg"],
        ["awe", "1", "image/awe/1.jpg", "annotation/awe/1.json", "more"],
        [1, "image/awe/1.jpg", "annotation/awe/1.json"],
        ["awe", None, "annotation/awe/1.json"],
        "awe",
        {"emotion": "awe"},
        ["Awe", "image/Awe/1.jpg", "annotation/Awe/1.json"],
        ["joy", "image/joy/1.jpg", "annotation/joy/1.json"],
        ["awe", "image/fear/1.jpg", "annotation/awe/1.json"],
        ["awe", "image/awe/../../1.jpg", "annotation/awe/1.json"],
        ["awe", "../image/1.jpg", "annotation/awe/1.json"],
        ["awe", "/image/awe/1.jpg", "annotation/awe/1.json"],
        ["awe", "image\\awe\\1.jpg", "annotation/awe/1.json"],
        ["awe", "image/awe/1.jpg", "../annotation/1.json"],
        ["awe", "image/awe/deep/1.jpg", "annotation/awe/1.json"],
    ],
)
def test_emoset_refuses_a_malformed_row_with_its_number(tmp_path: Path, row: Any) -> None:
    good = ["awe", "image/awe/0.jpg", "annotation/awe/0.json"]
    with pytest.raises(UserError, match=r"test\.json row 2: "):
        emoset.load(emoset_folder(tmp_path, [good, row]), "test")


@pytest.mark.parametrize("rows", [[], {}, None, "rows", 3])
def test_emoset_refuses_what_is_no_list_of_rows(tmp_path: Path, rows: Any) -> None:
    with pytest.raises(UserError, match="expected a list of rows"):
        emoset.load(emoset_folder(tmp_path, rows), "test")


@pytest.mark.parametrize(
    "info",
    [
        {},
        [],
        {"emotion": []},
        {"emotion": {"label2idx": {label: number for number, label in enumerate(emoset.LABELS, 1)}}},
        {"emotion": {"label2idx": {label: number for number, label in enumerate(sorted(emoset.LABELS))}}},
    ],
)
def test_emoset_refuses_other_ids(tmp_path: Path, info: Any) -> None:
    with pytest.raises(UserError, match=r"info\.json: emotion\.label2idx is"):
        emoset.load(
            emoset_folder(tmp_path, [["awe", "image/awe/0.jpg", "annotation/awe/0.json"]], info), "test"
        )


def test_emoset_refuses_an_id_listed_twice(tmp_path: Path) -> None:
    row = ["awe", "image/awe/0.jpg", "annotation/awe/0.json"]
    with pytest.raises(UserError, match="'0' is listed twice"):
        emoset.load(emoset_folder(tmp_path, [row, row]), "test")


def test_emoset_says_where_json_is_broken(tmp_path: Path) -> None:
    write(tmp_path, {"info.json": json.dumps(INFO), "test.json": "[\n[,]\n]"})
    with pytest.raises(UserError, match=r"test\.json:2: not JSON"):
        emoset.load(tmp_path, "test")


# ---- Ekman-6 -----------------------------------------------------------------------------------------------


def test_ekman6_reads_lists_and_finds_videos_of_any_suffix(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "classInd.txt": b"\xef\xbb\xbf" + CLASSES.strip().replace("\n", "\r\n").encode(),
            "trainlist01.txt": "anger/1000 1\r\njoy/a.b 4\r\n\r\n",
            "testlist01.txt": "fear/7\nsurprise/8.avi\nsurprise/9\nfear/8",
            "video/anger/1000.webm": b"v",
            "video/joy/a.b.mkv": b"v",
            "video/fear/7.mp4": b"v",
            "video/fear/7.avi": b"v",
            "video/surprise/8.avi": b"v",
            "video/surprise/9.txt": b"v",
        },
    )
    train, test = ekman6.load(tmp_path, "train"), ekman6.load(tmp_path, "test")
    assert [(sample.id, sample.label) for sample in train] == [("anger/1000", "anger"), ("joy/a.b", "joy")]
    assert labels_of(test) == ["fear", "surprise", "surprise", "fear"]
    found = [Path(sample.media_path).name if sample.media_path else None for sample in train + test]
    assert found == ["1000.webm", "a.b.mkv", "7.mp4", "8.avi", None, None]
    counts = benchmarks.check(TASKS["ekman6"], tmp_path)
    assert counts["splits"]["test"] == {
        "rows": 4,
        "labels": {"anger": 0, "disgust": 0, "fear": 2, "joy": 0, "sadness": 0, "surprise": 2},
        "media_found": 2,
        "media_missing": 2,
    }


@pytest.mark.parametrize(
    ("split", "row"),
    [
        ("train", "anger/1"),
        ("train", "anger/1 2"),
        ("train", "anger/1 x"),
        ("train", "anger/1 1 1"),
        ("train", "anger/a b 1"),
        ("train", "Anger/1 1"),
        ("train", "awe/1 1"),
        ("train", "1000 1"),
        ("train", "../anger/1 1"),
        ("train", "../1 1"),
        ("train", "anger/.. 1"),
        ("train", "/anger/1 1"),
        ("train", "anger\\1 1"),
        ("test", "anger/1 2"),
        ("test", "anger/1 name"),
        ("test", "anger"),
        ("test", "anger/"),
    ],
)
def test_ekman6_refuses_a_malformed_row_with_its_line(tmp_path: Path, split: str, row: str) -> None:
    good = "joy/5 4" if split == "train" else "joy/5"
    write(tmp_path, {"classInd.txt": CLASSES, f"{split}list01.txt": f"{good}\n\n{row}\n"})
    with pytest.raises(UserError, match=rf"{split}list01\.txt:3: "):
        ekman6.load(tmp_path, split)


@pytest.mark.parametrize(
    "classes",
    [
        CLASSES.replace("1 anger\n", ""),
        CLASSES.replace("1 anger", "1 Anger"),
        CLASSES.replace("6", "7"),
        "".join(f"{number} {label}\n" for number, label in enumerate(ekman6.LABELS)),
        CLASSES.replace("1 anger", "anger"),
    ],
)
def test_ekman6_refuses_other_classes(tmp_path: Path, classes: str) -> None:
    write(tmp_path, {"classInd.txt": classes, "testlist01.txt": "joy/5\n"})
    with pytest.raises(UserError, match=r"classInd\.txt"):
        ekman6.load(tmp_path, "test")


# ---- LVU ---------------------------------------------------------------------------------------------------


def scene_folder(folder: Path, *rows: str, header: str = SCENE_HEADER) -> Path:
    return write(folder, {"lvu_1.0/scene/test.csv": "\r\n".join((header, *rows, ""))})


def test_lvu_scene_reads_rows_and_missing_values(tmp_path: Path) -> None:
    folder = scene_folder(
        tmp_path, "0 office -a_bcdefghi tt01", "5 restaurant b.c \\N", r"3 \N ccccccccccc tt02"
    )
    write(folder, {"videos/b.c.mp4": b"v", "videos/-a_bcdefghi.part": b"v"})
    samples = TASKS["lvu_scene"].load(folder, "test")
    assert labels_of(samples) == ["office", "restaurant", None]
    assert [sample.fields["imdb_id"] for sample in samples] == ["tt01", None, "tt02"]
    assert [sample.media_path is not None for sample in samples] == [False, True, False]
    assert sum(benchmarks.check(TASKS["lvu_scene"], folder)["splits"]["test"]["labels"].values()) == 2
    assert benchmarks.majority(TASKS["lvu_scene"], samples) == 0.5
    with pytest.raises(ValueError, match="no label to answer with"):
        TASKS["lvu_scene"].answer(samples[2])


@pytest.mark.parametrize(
    "row",
    [
        "0 office aaaaaaaaaaa",
        "0 office aaaaaaaaaaa tt01 more",
        "0,office,aaaaaaaaaaa,tt01",
        "1 office aaaaaaaaaaa tt01",
        "office office aaaaaaaaaaa tt01",
        "0 Office aaaaaaaaaaa tt01",
        "6 beach aaaaaaaaaaa tt01",
        r"\N office aaaaaaaaaaa tt01",
        r"0 office \N tt01",
        "0 office ../../secret tt01",
        "0 office /secret tt01",
        "0 office .. tt01",
        "0 office a\\b tt01",
    ],
)
def test_lvu_refuses_a_malformed_row_with_its_line(tmp_path: Path, row: str) -> None:
    folder = scene_folder(tmp_path, "2 school bbbbbbbbbbb tt00", row)
    with pytest.raises(UserError, match=r"scene/test\.csv:3: "):
        TASKS["lvu_scene"].load(folder, "test")


def test_lvu_refuses_another_header(tmp_path: Path) -> None:
    folder = scene_folder(tmp_path, "2 school bbbbbbbbbbb tt00", header="view_count youtube_id imdb_id")
    with pytest.raises(UserError, match=r"test\.csv:1: the header is"):
        TASKS["lvu_scene"].load(folder, "test")


def test_lvu_refuses_a_list_without_rows(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no rows after the header"):
        TASKS["lvu_scene"].load(scene_folder(tmp_path), "test")


def test_lvu_parts_with_gaps_and_a_missing_class_are_read_by_the_same_loader(tmp_path: Path) -> None:
    write(tmp_path, {"lvu_1.0/writer/test.csv": f"{SCENE_HEADER}\n0 \\N aaa tt1\n5 nm0000455 bbb tt2\n"})
    samples = lvu.load_classes(tmp_path, "test", part="writer", classes={1: "nm0001220", 5: "nm0000455"})
    assert labels_of(samples) == [None, "nm0000455"]


# ---- LaMem -------------------------------------------------------------------------------------------------


def test_lamem_reads_scores(tmp_path: Path) -> None:
    rows = "00000001.jpg 0.000000\r\n00000002.jpg 1\r\n00000003.jpg 0.5\r\n"
    write(tmp_path, {"splits/test_2.txt": rows, "images/00000003.jpg": b"i"})
    samples = lamem.load(tmp_path, "test_2")
    assert labels_of(samples) == [0.0, 1.0, 0.5]
    assert [TASKS["lamem"].answer(sample) for sample in samples] == ["00", "99", "50"]
    assert [sample.media_path is not None for sample in samples] == [False, False, True]
    counts = benchmarks.check(TASKS["lamem"], tmp_path)
    assert counts["splits"] == {"test_2": {"rows": 3, "labels": {}, "media_found": 1, "media_missing": 2}}
    assert len(counts["absent"]) == 14
    with pytest.raises(ValueError, match="no score to answer with"):
        TASKS["lamem"].answer(Sample(id="x", label=None))


@pytest.mark.parametrize(
    "score", ["", "x", "nan", "inf", "-0.1", "1.1", "1.000001", "67", "1e-1", "0,5", "0.6_7", "0.5 1"]
)
def test_lamem_refuses_a_malformed_score_with_its_line(tmp_path: Path, score: str) -> None:
    write(tmp_path, {"splits/test_1.txt": f"a.jpg 0.5\nb.jpg {score}\n"})
    with pytest.raises(UserError, match=r"test_1\.txt:2: "):
        lamem.load(tmp_path, "test_1")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_lamem_refuses_a_name_that_is_a_path(tmp_path: Path, name: str) -> None:
    write(tmp_path, {"splits/test_1.txt": f"{name} 0.5\n"})
    with pytest.raises(UserError, match=r"test_1\.txt:1: .* inside the benchmark's folder"):
        lamem.load(tmp_path, "test_1")


def test_lamem_refuses_a_file_listed_twice(tmp_path: Path) -> None:
    write(tmp_path, {"splits/test_1.txt": "a.jpg 0.5\na.jpg 0.6\n"})
    with pytest.raises(UserError, match=r"'a\.jpg' is listed twice"):
        lamem.load(tmp_path, "test_1")


# ---- IMDb --------------------------------------------------------------------------------------------------


def imdb_folder(folder: Path, files: dict[str, str | bytes]) -> Path:
    return write(folder, {f"aclImdb/test/{name}": content for name, content in files.items()})


def test_imdb_reads_reviews_by_id_negative_first(tmp_path: Path) -> None:
    folder = imdb_folder(
        tmp_path,
        {
            "neg/10_1.txt": "d",
            "neg/2_4.txt": "b",
            "pos/2_7.txt": "c",
            "pos/0_10.txt": "Caf\u00e9<br />\x85",
            "urls.txt": "x",
        },
    )
    samples = imdb.load(folder, "test")
    assert [sample.id for sample in samples] == ["pos/0", "neg/2", "pos/2", "neg/10"]
    assert [sample.fields["rating"] for sample in samples] == [10, 4, 7, 1]
    assert samples[0].media_path is None
    prompt = benchmarks.to_prompt(TASKS["imdb"], samples[0])
    assert prompt == "Caf\u00e9<br />\x85\n\nIs this review positive or negative?"
    assert benchmarks.check(TASKS["imdb"], folder)["absent"] == ["train"]


@pytest.mark.parametrize(
    "name", ["neg/0_5.txt", "neg/0_7.txt", "neg/0_0.txt", "neg/0.txt", "neg/x_1.txt", "neg/-1_1.txt"]
)
def test_imdb_refuses_a_name_that_is_no_reviews(tmp_path: Path, name: str) -> None:
    folder = imdb_folder(tmp_path, {"neg/1_1.txt": "a", "pos/1_9.txt": "b", name: "c"})
    with pytest.raises(UserError, match="name is not that of a review"):
        imdb.load(folder, "test")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"neg/1_1.txt": b"caf\xe9", "pos/1_9.txt": "b"}, r"neg/1_1\.txt: not UTF-8 \(byte 3\)"),
        ({"neg/1_1.txt": " \n", "pos/1_9.txt": "b"}, r"neg/1_1\.txt: the review is empty"),
        ({"neg/1_1.txt": "a", "neg/1_2.txt": "a", "pos/1_9.txt": "b"}, "'neg/1' is listed twice"),
        ({"neg/1_1.txt": "a"}, r"test/pos: the official layout has this folder"),
        ({"neg/1_1.txt": "a", "pos/notes.md": "b"}, r"test/pos: the folder holds no reviews"),
    ],
)
def test_imdb_refuses_what_is_no_review(tmp_path: Path, files: dict[str, str | bytes], message: str) -> None:
    with pytest.raises(UserError, match=message):
        imdb.load(imdb_folder(tmp_path, files), "test")


def test_imdb_half_a_split_is_broken_not_absent(tmp_path: Path) -> None:
    write(tmp_path, {"aclImdb/train/neg/0_1.txt": "a", "aclImdb/train/pos/0_9.txt": "b"})
    assert benchmarks.check(TASKS["imdb"], tmp_path)["absent"] == ["test"]
    with pytest.raises(UserError, match="test/pos: the official layout has this folder"):
        benchmarks.check(TASKS["imdb"], imdb_folder(tmp_path, {"neg/0_1.txt": "a"}))


# ---- every benchmark ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TASKS))
def test_a_folder_of_another_kind_is_refused_with_the_file_and_the_way_to_get_it(
    name: str, tmp_path: Path
) -> None:
    task = TASKS[name]
    for folder in (tmp_path, tmp_path / "not there"):
        with pytest.raises(UserError, match=r"but it is not there; .*https?://"):
            benchmarks.check(task, folder)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_an_unknown_split_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no split 'holdout'; choose one of "):
        TASKS[name].load(tmp_path, "holdout")


LISTS = {
    "emoset": "test.json",
    "ekman6": "testlist01.txt",
    "lvu_scene": "lvu_1.0/scene/test.csv",
    "lamem": "splits/test_1.txt",
}


@pytest.mark.parametrize("name", sorted(LISTS))
@pytest.mark.parametrize(
    ("content", "message"), [(b"", "."), (b"\n \n", "."), (b"\xff\xfe\x00", "not UTF-8")]
)
def test_an_empty_or_undecodable_list_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    files = {"info.json": json.dumps(INFO), "classInd.txt": CLASSES, LISTS[name]: content}
    with pytest.raises(UserError, match=message) as caught:
        TASKS[name].load(write(tmp_path, files), "test_1" if name == "lamem" else "test")
    assert LISTS[name] in str(caught.value)
    assert not isinstance(caught.value, benchmarks.AbsentFileError)


def test_a_malformed_list_stops_the_check_even_where_other_splits_are_absent(tmp_path: Path) -> None:
    write(tmp_path, {"splits/test_1.txt": "a.jpg high\n"})
    with pytest.raises(UserError, match=r"test_1\.txt:1: "):
        benchmarks.check(TASKS["lamem"], tmp_path)


def test_a_text_sample_without_text_is_our_fault() -> None:
    with pytest.raises(ValueError, match="has no text"):
        benchmarks.to_prompt(TASKS["imdb"], Sample(id="neg/1", label="negative"))


def test_labels_that_differ_only_in_case_cannot_be_told_apart() -> None:
    with pytest.raises(ValueError, match="differ only in case"):
        benchmarks.one_label(("Joy", "joy"))


def test_no_samples_have_no_majority() -> None:
    assert benchmarks.majority(TASKS["emoset"], []) is None

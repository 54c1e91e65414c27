"""LVU, emotion and memorability benchmarks: the real annotations, layouts made in code, what is refused with
its place, and that what the sandbox writes is read.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import av
import pytest

from behavior_llava.core import discover
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample
from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.evaluation import benchmarks, metrics
from behavior_llava.evaluation.tasks import caer, lvu, memcat, videoemotion8

TASKS = benchmarks.all_tasks()

CLASS_COLUMNS = "class_id class_name youtube_id imdb_id"

MEMORABILITY = (
    *("lamem", "lamem_split_2", "lamem_split_3", "lamem_split_4", "lamem_split_5", "sun"),
    *("memcat", "memcat_uncorrected", "memento10k", "videomem", "videomem_long_term"),
    *("mediaeval", "mediaeval_raw", "mediaeval_long_term", "mediaeval_2020", "mediaeval_2020_long_term"),
    "lambda_ads",
)
LVU = (
    *("relationship", "way_speaking", "scene", "director", "genre", "writer", "year"),
    *("like_ratio", "like_ratio_official", "view_count", "view_count_official"),
)


def write(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def labels_of(samples: list[Sample]) -> list[Any]:
    return [sample.label for sample in samples]


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "benchmarks" / "data"


# ---- real files: LVU ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "sizes", "majority"),
    [
        ("relationship", (149, 53, 42), 0.524),
        ("way_speaking", (939, 205, 201), 0.294),
        ("scene", (557, 120, 86), 0.267),
        ("director", (680, 163, 107), 0.411),
        ("genre", (3063, 597, 647), 0.274),
        # 68 of the 159 rows with a writer; of all 168 it is the 40.5 % that count a missing writer as one
        ("writer", (769, 174, 168), 0.428),
        ("year", (770, 165, 143), 0.175),
        ("like_ratio", (658, 142, 140), None),
        ("view_count", (577, 124, 126), None),
    ],
)
def test_lvu_has_the_official_sizes_and_majorities(
    data: Path, part: str, sizes: tuple[int, ...], majority: float | None
) -> None:
    task = TASKS[f"lvu_{part}"]
    counted = benchmarks.check(task, data / "lvu")
    assert counted["absent"] == []
    assert tuple(counted["splits"][split]["rows"] for split in ("train", "val", "test")) == sizes
    if majority is not None:
        samples = task.load(data / "lvu", "test")
        assert benchmarks.majority(task, samples) == pytest.approx(majority, abs=5e-4)


def test_lvu_label_counts_of_test(data: Path) -> None:
    def counts(part: str) -> dict[str, int]:
        return benchmarks.check(TASKS[f"lvu_{part}"], data / "lvu")["splits"]["test"]["labels"]

    assert counts("relationship") == {
        "friend": 22,
        "ex_boyfriend_ex_girlfriend": 0,
        "husband_wife": 12,
        "boyfriend_girlfriend": 8,
    }
    assert tuple(counts("way_speaking").values()) == (54, 43, 59, 18, 27)
    assert tuple(counts("genre").values()) == (137, 176, 177, 157)
    assert tuple(counts("year").values()) == (14, 8, 10, 6, 20, 25, 12, 25, 23)
    assert tuple(counts("director").values()) == (44, 12, 8, 15, 10, 10, 8, 0)
    assert tuple(counts("writer").values()) == (8, 29, 14, 20, 68, 20)


def test_lvu_missing_writers_have_no_label(data: Path) -> None:
    missing = {
        split: labels_of(TASKS["lvu_writer"].load(data / "lvu", split)).count(None) for split in lvu.SPLITS
    }
    assert missing == {"train": 261, "val": 41, "test": 9}
    assert 68 / (68 + 29 + 14 + 20 + 8 + 20 + missing["test"]) == pytest.approx(0.405, abs=5e-4)


def test_lvu_every_class_occurs_in_train(data: Path) -> None:
    for part in ("relationship", "way_speaking", "scene", "director", "genre", "writer", "year"):
        counts = benchmarks.check(TASKS[f"lvu_{part}"], data / "lvu")["splits"]["train"]["labels"]
        assert min(counts.values()) > 0, part


@pytest.mark.parametrize(
    ("name", "of_train_mean", "of_zero"),
    [
        ("lvu_view_count_official", 4.0839, 4.0895),
        ("lvu_view_count", 4.0839, 4.0895),
        ("lvu_like_ratio_official", 0.6062, 0.6056),
    ],
)
def test_lvu_errors_of_a_constant(data: Path, name: str, of_train_mean: float, of_zero: float) -> None:
    train, test = (labels_of(TASKS[name].load(data / "lvu", split)) for split in ("train", "test"))
    score = metrics.named("mse").score
    assert score([sum(train) / len(train)] * len(test), test) == pytest.approx(of_train_mean, abs=5e-5)
    # what the official labels are shifted by is nearly, but not exactly, the mean of train
    assert score([0.0] * len(test), test) == pytest.approx(of_zero, abs=5e-5)


def test_lvu_like_ratio_is_a_hundredth_of_the_official_error(data: Path) -> None:
    train, test = (
        labels_of(TASKS["lvu_like_ratio"].load(data / "lvu", split)) for split in ("train", "test")
    )
    constant = [sum(train) / len(train)] * len(test)
    assert metrics.named("mse").score(constant, test) == pytest.approx(0.00606, abs=5e-6)


@pytest.mark.parametrize("name", ["lvu_view_count", "lvu_view_count_official", "lvu_like_ratio_official"])
def test_lvu_scales_are_the_range_of_train(data: Path, name: str) -> None:
    task = TASKS[name]
    samples = task.load(data / "lvu", "train")
    assert task.scale == pytest.approx((min(labels_of(samples)), max(labels_of(samples))))
    assert {"00", "99"} <= {task.answer(sample) for sample in samples}


# ---- real files: the others --------------------------------------------------------------------------------


def test_videoemotion8_counts_and_agreement(data: Path, tmp_path: Path) -> None:
    task, folder = TASKS["videoemotion8"], data / "videoemotion8"
    counted = benchmarks.check(task, folder)["splits"]
    assert {split: part["rows"] for split, part in counted.items()} == {"train": 732, "test": 367}
    assert tuple(counted["train"]["labels"].values()) == (74, 64, 76, 113, 114, 64, 166, 61)
    assert tuple(counted["test"]["labels"].values()) == (27, 36, 39, 54, 66, 36, 70, 39)
    assert benchmarks.majority(task, task.load(folder, "test")) == pytest.approx(0.191, abs=5e-4)
    # the agreement was looked at: one changed entry is found
    for path in folder.iterdir():
        shutil.copy(path, tmp_path)
    text = (tmp_path / "ve8_01.json").read_text(encoding="utf-8")
    entry = '"8931828341_360p": {"subset": "training", "annotations": {"label": "%s"}}'
    assert entry % "Trust" in text
    changed = text.replace(entry % "Trust", entry % "Joy")
    (tmp_path / "ve8_01.json").write_text(changed, encoding="utf-8")
    with pytest.raises(UserError, match=r"ve8_01\.json: '8931828341_360p' is .*trainlist01\.txt"):
        task.load(tmp_path, "train")
    assert len(task.load(tmp_path, "test")) == 367


def test_memcat_counts_scores_and_own_split(data: Path) -> None:
    for name, mean in (("memcat", 0.693), ("memcat_uncorrected", 0.758)):
        parts = {split: TASKS[name].load(data / "memcat", split) for split in ("train", "test")}
        assert {split: len(samples) for split, samples in parts.items()} == {"train": 7982, "test": 2018}
        labels = labels_of(parts["train"]) + labels_of(parts["test"])
        assert sum(labels) / len(labels) == pytest.approx(mean, abs=5e-4)
    assert Counter(sample.fields["category"] for sample in parts["test"]) == {
        "animal": 412,
        "food": 405,
        "landscape": 366,
        "sports": 434,
        "vehicle": 401,
    }
    first = parts["test"][0]
    assert (first.id, first.label) == ("000000011552.jpg", pytest.approx(0.721153846153846))


def mediaeval_folder(data: Path, folder: Path) -> Path:
    """The shared lists, which hold the first 200 rows and say so in their names, under their own names."""
    for target, source in {
        "2020/scores_v2.csv": "2020/scores_v2.first200.csv",
        "2020/dev_scores.csv": "2020/dev_scores.first200.csv",
        "2021/trecvid/train_scores.csv": "2021_trecvid/train_scores.first200.csv",
        "2021/trecvid/dev_scores.csv": "2021_trecvid/dev_scores.first200.csv",
    }.items():
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(data / "mediaeval" / source, folder / target)
    return folder


@pytest.mark.parametrize(
    ("name", "first", "mean"),
    [
        ("mediaeval", ("11", 0.6874999938844716), 0.79756),
        ("mediaeval_raw", ("11", 0.69), 0.80715),
        ("mediaeval_long_term", ("11", 0.57), 0.69025),
        ("mediaeval_2020", ("34", 0.92), 0.9527),
        ("mediaeval_2020_long_term", ("34", 0.86), 0.77145),
    ],
)
def test_mediaeval_first_rows(
    data: Path, tmp_path: Path, name: str, first: tuple[str, float], mean: float
) -> None:
    task, folder = TASKS[name], mediaeval_folder(data, tmp_path)
    samples = task.load(folder, task.test_split)
    assert (samples[0].id, samples[0].label) == first
    assert sum(labels_of(samples)) / 200 == pytest.approx(mean, abs=5e-6)
    assert {split: part["rows"] for split, part in benchmarks.check(task, folder)["splits"].items()} == {
        "train": 200,
        "dev": 200,
    }


def test_lamem_tasks_read_their_own_split(data: Path, tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    shutil.copy(data / "lamem/splits/test_1.first200.txt", tmp_path / "splits/test_3.txt")
    task = TASKS["lamem_split_3"]
    assert (task.test_split, task.train_split) == ("test_3", "train_3")
    assert len(task.load(tmp_path, task.test_split)) == 200
    with pytest.raises(benchmarks.AbsentFileError):
        TASKS["lamem"].load(tmp_path, TASKS["lamem"].test_split)


def test_lambda_counts_and_what_is_asked(data: Path) -> None:
    task = TASKS["lambda_ads"]
    counted = benchmarks.check(task, data / "lambda")
    assert counted["splits"]["test"]["rows"] == 220
    assert counted["absent"] == ["train"]
    samples = task.load(data / "lambda", "test")
    said = Counter(task.answer(sample) for sample in samples)
    assert (said["99"], said["00"], len(said)) == (82, 29, 19)
    listed = json.loads((data / "lambda" / "bs_test_a.json").read_text(encoding="utf-8"))
    assert [task.answer(sample) for sample in samples] == [row["answer"] for row in listed]
    for sample in samples:
        prompt = benchmarks.to_prompt(task, sample)
        assert prompt.startswith("Students are shown ads and their memorability is tested after 1 to 3 days.")
        assert prompt.endswith("\n\nHow memorable is this, from 00 to 99?")
        assert "<image>" not in prompt
        assert "memorability score" not in prompt


# ---- two digits on a scale ---------------------------------------------------------------------------------


def test_two_digits_stand_for_places_on_the_scale() -> None:
    say, read = benchmarks.number_words((-2.0, 97.0)), benchmarks.one_number((-2.0, 97.0))
    spoken = {-2.0: "00", -1.51: "00", -1.5: "01", 65.0: "67", 97.0: "99", -50.0: "00", 1000.0: "99"}
    assert {value: say(Sample(id="x", label=value)) for value in spoken} == spoken
    assert {text: read(text) for text in ("00", "67", "99", "(01)", "67.")} == {
        "00": -2.0,
        "67": 65.0,
        "99": 97.0,
        "(01)": -1.0,
        "67.": 65.0,
    }
    for text in ("", "7", "100", "067", "-05", "67%", "0.67", "67/99", "about 67", "67 68", "+67"):
        assert read(text) is None, text
    with pytest.raises(ValueError, match="no score to answer with"):
        say(Sample(id="x", label=None))


@pytest.mark.parametrize("name", [*MEMORABILITY, *(f"lvu_{part}" for part in LVU[7:])])
def test_numbers_said_and_read_are_half_a_step_apart_at_most(name: str) -> None:
    task = TASKS[name]
    low, high = task.scale
    assert (task.answers, task.scoring, task.labels) == ("number", "expectation", ())
    for step in range(1001):
        label = low + (high - low) * step / 1000
        read = task.parse(task.answer(Sample(id="x", label=label)))
        assert abs(read - label) <= (high - low) * 0.5 / 99 + 1e-9


def test_all_seven_memorability_tasks_of_the_paper_ask_the_same() -> None:
    of_paper = [name for name in MEMORABILITY if TASKS[name].paper]
    assert of_paper == ["lamem", "sun", "memcat", "memento10k", "videomem", "mediaeval", "lambda_ads"]
    assert {TASKS[name].question for name in MEMORABILITY} == {"How memorable is this, from 00 to 99?"}
    assert [TASKS[name].published for name in of_paper] == [0.21, 0.13, 0.17, 0.12, 0.08, 0.07, 0.16]
    assert all(TASKS[name].published is None for name in MEMORABILITY if name not in of_paper)
    assert sum(TASKS[f"lvu_{part}"].paper for part in LVU) == 9
    assert [part for part in LVU if TASKS[f"lvu_{part}"].low_level] == ["scene"]


# ---- our own split -----------------------------------------------------------------------------------------


def test_own_split_is_a_fifth_and_depends_on_the_id_alone() -> None:
    samples = [Sample(id=f"{number}.jpg", label=number) for number in range(5000)]
    train, test = (benchmarks.own_split(samples, split) for split in ("train", "test"))
    assert len(train) + len(test) == 5000
    assert not set(labels_of(train)) & set(labels_of(test))
    # a fifth, to three standard deviations
    assert abs(len(test) - 1000) < 3 * (5000 * 0.2 * 0.8) ** 0.5
    assert benchmarks.own_split(samples[::-1], "test") == test[::-1]
    assert benchmarks.own_split(samples[2000:], "test") == [one for one in test if one.label >= 2000]
    # worked out with sha256sum and bc: 7a5df5ffa0dec222 % 5 is 0, 40510175845988f1 % 5 is 1
    assert len(benchmarks.own_split([Sample(id="1010", label=0)], "test")) == 1
    assert len(benchmarks.own_split([Sample(id="1000", label=0)], "test")) == 0


# ---- LVU: what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "row"),
    [
        ("relationship", "1 friend aaaaaaaaaaa tt01"),
        ("relationship", "4 father_son aaaaaaaaaaa tt01"),
        ("way_speaking", "0 explain aaaaaaaaaaa tt01"),
        ("director", "2 nm0000229 aaaaaaaaaaa tt01"),
        ("director", "0 nm0000001 aaaaaaaaaaa tt01"),
        ("writer", "0 nm0000175 aaaaaaaaaaa tt01"),
        ("genre", "0 comedy aaaaaaaaaaa tt01"),
        ("year", "1930 1930 aaaaaaaaaaa tt01"),
        ("year", "9 2020 aaaaaaaaaaa tt01"),
        ("like_ratio", "5 aaaaaaaaaaa tt01"),
        ("like_ratio", "0 0 aaaaaaaaaaa tt01"),
        ("like_ratio", "-5 1 aaaaaaaaaaa tt01"),
        ("like_ratio", "5 1.5 aaaaaaaaaaa tt01"),
        ("view_count", "0 aaaaaaaaaaa tt01"),
        ("view_count", "1e5 aaaaaaaaaaa tt01"),
        ("view_count", "many aaaaaaaaaaa tt01"),
        ("view_count", r"5 \N tt01"),
        ("view_count", "5 ../../secret tt01"),
    ],
)
def test_lvu_refuses_a_malformed_row_with_its_line(tmp_path: Path, part: str, row: str) -> None:
    columns, good = CLASS_COLUMNS, None
    if part == "like_ratio":
        columns, good = "like_count dislike_count youtube_id imdb_id", "3 1 bbbbbbbbbbb tt00"
    elif part == "view_count":
        columns, good = "view_count youtube_id imdb_id", "3 bbbbbbbbbbb tt00"
    good = good or r"0 \N bbbbbbbbbbb tt00"
    write(tmp_path, {f"lvu_1.0/{part}/test.csv": f"{columns}\n{good}\n{row}\n"})
    with pytest.raises(UserError, match=rf"{part}/test\.csv:3: "):
        TASKS[f"lvu_{part}"].load(tmp_path, "test")


def test_lvu_numbers_are_made_of_the_counts(tmp_path: Path) -> None:
    rows = "like_count dislike_count youtube_id imdb_id\n3 1 aaaaaaaaaaa tt01\n" + "\\N 4 bbbbbbbbbbb tt02\n"
    write(
        tmp_path,
        {
            "lvu_1.0/like_ratio/test.csv": rows,
            "lvu_1.0/view_count/test.csv": "view_count youtube_id imdb_id\n100000 aaaaaaaaaaa tt01\n",
            "videos/aaaaaaaaaaa.mp4": b"v",
        },
    )
    share = TASKS["lvu_like_ratio"].load(tmp_path, "test")
    assert labels_of(share) == [0.75, None]
    assert [sample.media_path is not None for sample in share] == [True, False]
    official = TASKS["lvu_like_ratio_official"].load(tmp_path, "test")
    assert labels_of(official) == [pytest.approx(7.5 - 9.138220535629456), None]
    # ln 100000 = 5 * ln 10 = 11.512925464970229
    views = TASKS["lvu_view_count"].load(tmp_path, "test")
    assert labels_of(views) == [pytest.approx(11.512925464970229 - 11.76425435683139)]


# ---- emotions: what is read and refused --------------------------------------------------------------------

VE8_CLASSES = "".join(f"{number} {label}\n" for number, label in enumerate(videoemotion8.LABELS, 1))


def ve8_json(**entries: tuple[str, str]) -> str:
    database = {
        name: {"subset": subset, "annotations": {"label": label}} for name, (subset, label) in entries.items()
    }
    return json.dumps({"labels": list(videoemotion8.LABELS), "database": database})


def test_videoemotion8_takes_one_name_in_two_classes(tmp_path: Path) -> None:
    files = {"classInd.txt": VE8_CLASSES, "trainlist01.txt": "Disgust/a 3\nFear/a 4\nJoy/b 5\n"}
    write(tmp_path, {**files, "ve8_01.json": ve8_json(a=("training", "Fear"), b=("training", "Joy"))})
    assert [sample.id for sample in videoemotion8.load(tmp_path, "train")] == ["Disgust/a", "Fear/a", "Joy/b"]
    for wrong in (
        ve8_json(a=("training", "Joy"), b=("training", "Joy")),
        ve8_json(a=("training", "Fear"), b=("validation", "Joy")),
        ve8_json(a=("training", "Fear")),
        "[]",
        '{"labels": []}',
    ):
        write(tmp_path, {"ve8_01.json": wrong})
        with pytest.raises(UserError, match=r"ve8_01\.json"):
            videoemotion8.load(tmp_path, "train")


def caer_folder(folder: Path, **more: str) -> Path:
    return write(folder, {f"CAER/test/{label}/0002.avi": "v" for label in caer.LABELS} | dict(more))


def test_caer_labels_are_folders_and_rows_go_by_number(tmp_path: Path) -> None:
    folder = caer_folder(tmp_path, **{"CAER/test/Sad/0001.avi": "v", "CAER/test/Sad/.DS_Store": "x"})
    samples = caer.load(folder, "test")
    assert [sample.id for sample in samples] == [
        "Sad/0001",
        *(f"{label}/0002" for label in sorted(caer.LABELS)),
    ]
    assert all(sample.media_path == str(folder / f"CAER/test/{sample.id}.avi") for sample in samples)
    assert benchmarks.check(TASKS["caer"], folder)["absent"] == ["train", "validation"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CAER/test/Angry/0001.avi", r"CAER/test: it holds .*Angry"),
        ("CAER/test/notes.txt", r"CAER/test: it holds .*notes\.txt"),
        ("CAER/test/Sad/0001.txt", r"Sad/0001\.txt: the file is no video"),
        ("CAER/test/Sad/0002.mp4", "'Sad/0002' is listed twice"),
    ],
)
def test_caer_refuses_what_is_no_scene(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        caer.load(caer_folder(tmp_path, **{name: "v"}), "test")


def test_caer_refuses_a_class_without_scenes(tmp_path: Path) -> None:
    folder = caer_folder(tmp_path)
    (folder / "CAER/test/Sad/0002.avi").unlink()
    with pytest.raises(UserError, match=r"test/Sad: the folder holds no videos"):
        caer.load(folder, "test")
    (folder / "CAER/test/Sad").rmdir()
    with pytest.raises(UserError, match=r"CAER/test: it holds") as caught:
        caer.load(folder, "test")
    assert not isinstance(caught.value, benchmarks.AbsentFileError)


def test_iapsa_reads_pictures_with_a_point_in_their_number(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "labels.csv": "picture,category\r\n1010,awe\r\n1000,fear\r\n1035,sadness\r\n2375.1,anger\r\n",
            "images/1010.jpg": b"i",
            "images/2375.1.jpg": b"i",
        },
    )
    samples = [one for split in ("train", "test") for one in TASKS["iapsa"].load(tmp_path, split)]
    assert {one.id: (one.label, one.media_path is not None) for one in samples} == {
        "1010": ("awe", True),
        "1000": ("fear", False),
        "1035": ("sadness", False),
        "2375.1": ("anger", True),
    }


@pytest.mark.parametrize("row", ["1010,Awe", "1010,joy", "1010", "1010,awe,1", "../1010,awe", ",awe"])
def test_iapsa_refuses_a_malformed_row_with_its_line(tmp_path: Path, row: str) -> None:
    write(tmp_path, {"labels.csv": f"picture,category\n1000,fear\n{row}\n"})
    with pytest.raises(UserError, match=r"labels\.csv:3: "):
        TASKS["iapsa"].load(tmp_path, "test")


ABSTRACT = "'',Amusement,Anger,Awe,Content,Disgust,Excitement,Fear,Sad\n"


def test_abstract_leaves_ties_out_and_finds_images_without_quotes(tmp_path: Path) -> None:
    rows = (
        "'abstract_0007.jpg',0,0,0,5,0,0,0,4\n"
        "'abstract_0011.jpg',0,5,0,5,0,0,0,4\n"
        "'abstract_0013.jpg',0,0,0,0,0,0,0,1\n"
        "'abstract_0015.jpg',0,0,0,0,0,0,0,0\n"
        "'abstract_0001.jpg',0,0,0,0,0,10,9,0\n"
    )
    write(tmp_path, {"ABSTRACT_groundTruth.csv": ABSTRACT + rows, "abstract_0013.jpg": b"i"})
    samples = TASKS["abstract"].load(tmp_path, "test")
    assert [(one.id, one.label, one.media_path is not None) for one in samples] == [
        ("abstract_0007.jpg", "contentment", False),
        ("abstract_0013.jpg", "sadness", True),
    ]
    assert labels_of(TASKS["abstract"].load(tmp_path, "train")) == ["excitement"]


@pytest.mark.parametrize(
    "header",
    [
        ABSTRACT.replace("Amusement,Anger", "Anger,Amusement"),
        ABSTRACT.replace(",Sad", ""),
        "'',Amusement,Awe,Content,Excitement,Anger,Disgust,Fear,Sad\n",
        ABSTRACT.replace("Sad", "Joy"),
    ],
)
def test_abstract_refuses_another_order_of_columns(tmp_path: Path, header: str) -> None:
    row = "'abstract_0007.jpg'" + ",1" * header.count(",") + "\n"
    write(tmp_path, {"ABSTRACT_groundTruth.csv": header + row})
    with pytest.raises(UserError, match=r"ABSTRACT_groundTruth\.csv: the columns are"):
        TASKS["abstract"].load(tmp_path, "test")


@pytest.mark.parametrize(
    "row",
    [
        "'abstract_0001.jpg',0,0,0,5,0,0,0",
        "'abstract_0001.jpg',0,0,0,5,0,0,0,x",
        "'abstract_0001.jpg',0,0,0,5,0,0,0,-1",
        "'../abstract_0001.jpg',0,0,0,5,0,0,0,4",
        "'',0,0,0,5,0,0,0,4",
    ],
)
def test_abstract_refuses_a_malformed_row_with_its_line(tmp_path: Path, row: str) -> None:
    write(tmp_path, {"ABSTRACT_groundTruth.csv": f"{ABSTRACT}'abstract_0007.jpg',1,0,0,0,0,0,0,0\n{row}\n"})
    with pytest.raises(UserError, match=r"ABSTRACT_groundTruth\.csv:3: "):
        TASKS["abstract"].load(tmp_path, "test")


EMOTION6 = "\t".join(
    (
        *("[image_filename]", "[valence]", "[arousal]"),
        *(f"[prob. ({one})]" for one in (*TASKS["emotion6"].labels, "neutral")),
    )
)


def test_emotion6_label_is_the_vote_or_the_keyword(tmp_path: Path) -> None:
    rows = (
        "anger/3.jpg\t3.1\t5.0\t0.2\t0.4\t0\t0\t0\t0\t0.4\n"
        "anger/6.jpg\t3.1\t5.0\t0.2\t0.2\t0\t0\t0\t0\t0.6\n"
        "joy/4.jpg\t7\t5.0\t0\t0\t0\t0.066667\t0\t0\t0.933333\n"
    )
    write(tmp_path, {"ground_truth.txt": f"{EMOTION6}\n{rows}", "images/joy/4.jpg": b"i"})
    by_votes = TASKS["emotion6"].load(tmp_path, "test")
    assert [(one.id, one.label) for one in by_votes] == [("anger/3.jpg", "disgust"), ("joy/4.jpg", "joy")]
    by_keyword = TASKS["emotion6_keyword"].load(tmp_path, "test")
    assert labels_of(by_keyword) == ["anger", "anger", "joy"]
    assert [one.media_path is not None for one in by_keyword] == [False, False, True]


@pytest.mark.parametrize(
    "row",
    [
        "anger/3.jpg\t3.1\t5.0\t0.2\t0.4\t0\t0\t0\t0",
        "anger/3.jpg\t3.1\t5.0\t0.2\t0.4\t0\t0\t0\tx\t0.4",
        "anger/3.jpg\t3.1\t5.0\t0.2\t1.4\t0\t0\t0\t0\t0.4",
        "3.jpg\t3.1\t5.0\t0.2\t0.4\t0\t0\t0\t0\t0.4",
        "awe/3.jpg\t3.1\t5.0\t0.2\t0.4\t0\t0\t0\t0\t0.4",
        "../3.jpg\t3.1\t5.0\t0.2\t0.4\t0\t0\t0\t0\t0.4",
        "anger/3.jpg 3.1 5.0 0.2 0.4 0 0 0 0 0.4",
    ],
)
def test_emotion6_refuses_a_malformed_row_with_its_line(tmp_path: Path, row: str) -> None:
    good = "anger/1.jpg\t3.1\t5.0\t0.2\t0.4\t0\t0\t0\t0\t0.4"
    write(tmp_path, {"ground_truth.txt": f"{EMOTION6}\n{good}\n{row}\n"})
    with pytest.raises(UserError, match=r"ground_truth\.txt:3: "):
        TASKS["emotion6"].load(tmp_path, "test")


def test_emotion6_refuses_another_order_of_columns(tmp_path: Path) -> None:
    header = EMOTION6.replace("anger", "x").replace("disgust", "anger").replace("x", "disgust")
    row = "anger/1.jpg\t3.1\t5.0\t0.2\t0.4\t0\t0\t0\t0\t0.4"
    with pytest.raises(UserError, match=r"ground_truth\.txt: the columns are"):
        TASKS["emotion6"].load(write(tmp_path, {"ground_truth.txt": f"{header}\n{row}\n"}), "test")


# ---- memorability: what is read and refused ----------------------------------------------------------------


def test_memcat_finds_images_sorted_or_in_one_folder(tmp_path: Path) -> None:
    header = ["", "image_file", "category", "subcategory", memcat.UNCORRECTED, memcat.CORRECTED]
    names = ("000000000008.jpg", "000000000013.jpg", "000000000022.jpg")
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(
        [header, *(["1", name, "animal", "bear", "0.9", "0.25"] for name in names)]
    )
    write(
        tmp_path,
        {
            "memcat_image_data.csv": text.getvalue(),
            f"images/animal/bear/{names[0]}": b"i",
            f"images/{names[1]}": b"i",
        },
    )
    samples = TASKS["memcat"].load(tmp_path, "test")
    assert labels_of(samples) == [0.25, 0.25, 0.25]
    assert labels_of(TASKS["memcat_uncorrected"].load(tmp_path, "test")) == [0.9, 0.9, 0.9]
    folders = [Path(one.media_path).parent.name if one.media_path else None for one in samples]
    assert folders == ["bear", "images", None]


def memento(*rows: Any) -> dict[str, str | bytes]:
    return {"memento_val_data.json": json.dumps(rows)}


def test_memento10k_tests_val(tmp_path: Path) -> None:
    rows = ({"filename": "a.mp4", "mem_score": 0.5}, {"filename": "b/c.mp4", "mem_score": 1})
    write(tmp_path, {**memento(*rows), "videos/b/c.mp4": b"v"})
    task = TASKS["memento10k"]
    samples = task.load(tmp_path, task.test_split)
    assert [(one.id, one.label, one.media_path is not None) for one in samples] == [
        ("a.mp4", 0.5, False),
        ("b/c.mp4", 1.0, True),
    ]
    assert benchmarks.check(task, tmp_path)["absent"] == ["train"]


@pytest.mark.parametrize(
    "row",
    [
        {},
        [],
        "a.mp4",
        {"filename": "a.mp4"},
        {"filename": "a.mp4", "mem_score": None},
        {"filename": "a.mp4", "mem_score": "0.5"},
        {"filename": "a.mp4", "mem_score": True},
        {"filename": "a.mp4", "mem_score": 1.5},
        {"filename": "a.mp4", "mem_score": -0.1},
        {"filename": "a.mp4", "mem_score": float("nan")},
        {"filename": 3, "mem_score": 0.5},
        {"filename": "../a.mp4", "mem_score": 0.5},
        {"filename": "/a.mp4", "mem_score": 0.5},
    ],
)
def test_memento10k_refuses_a_malformed_row_with_its_number(tmp_path: Path, row: Any) -> None:
    write(tmp_path, memento({"filename": "b.mp4", "mem_score": 0.5}, row))
    with pytest.raises(UserError, match=r"memento_val_data\.json row 2: "):
        TASKS["memento10k"].load(tmp_path, "val")


VIDEOMEM = (
    "\ufeffvideo,short-term_memorability,nb_short-term_annotations,long-term_memorability,"
    "nb_long-term_annotations\n"
)


def test_videomem_reads_both_terms(tmp_path: Path) -> None:
    text = f"{VIDEOMEM}video7.webm,0.9,30,0.8,9\nvideo1.webm,0.7,30,0.6,9\nvideo12.webm,0.5,30,0.4,9\n"
    write(
        tmp_path,
        {"ground-truth_dev-set.csv": text, "videos/video7.webm": b"v", "videos/video12.webm.mp4": b"v"},
    )
    short = TASKS["videomem"].load(tmp_path, "test")
    assert labels_of(short) == [0.9, 0.5]
    assert all(one.media_path for one in short)
    assert labels_of(TASKS["videomem_long_term"].load(tmp_path, "test")) == [0.8, 0.4]
    assert labels_of(TASKS["videomem"].load(tmp_path, "train")) == [0.7]


@pytest.mark.parametrize(
    ("name", "file", "header", "good", "bad"),
    [
        ("videomem", "ground-truth_dev-set.csv", VIDEOMEM, "v1,0.5,30,0.4,9", "v2,{score},30,0.4,9"),
        (
            "mediaeval_2020",
            "2020/dev_scores.csv",
            "video_id,video_url,ann_1,ann_2,part_1_scores,part_2_scores\n",
            "1,http://a.example/1.mp4,13,7,0.92,0.86",
            "2,http://a.example/2.mp4,13,7,{score},0.86",
        ),
        ("sun", "splits/test_1.txt", "", "a.jpg 0.5\nb.jpg 0.5", "c.jpg {score}"),
    ],
)
@pytest.mark.parametrize("score", ["", "x", "nan", "-0.1", "1.1", "67", "1e-1", "67%"])
def test_a_malformed_score_is_refused_with_its_line(
    tmp_path: Path, name: str, file: str, header: str, good: str, bad: str, *, score: str
) -> None:
    task = TASKS[name]
    write(tmp_path, {file: f"{header}{good}\n{bad.format(score=score)}\n"})
    with pytest.raises(UserError, match=rf"{re.escape(file)}:3: "):
        task.load(tmp_path, task.test_split)


def test_a_table_without_a_column_or_with_one_twice_is_refused(tmp_path: Path) -> None:
    for header in ("video,long-term_memorability", "video,video,short-term_memorability"):
        row = ",".join("0" for _ in header.split(","))
        write(tmp_path, {"ground-truth_dev-set.csv": f"{header}\n{row}\n"})
        with pytest.raises(UserError, match=r"csv:1: the columns are"):
            TASKS["videomem"].load(tmp_path, "test")
    write(tmp_path, {"ground-truth_dev-set.csv": VIDEOMEM})
    with pytest.raises(UserError, match="no rows after the header"):
        TASKS["videomem"].load(tmp_path, "test")
    write(tmp_path, {"ground-truth_dev-set.csv": f"{VIDEOMEM}{'v' * 200_000},0.5,1,0.5,1\n"})
    # which of the two depends on csv's own limit, which is the process's
    with pytest.raises(UserError, match=r"csv:2: (field larger|'v+' is no path)"):
        TASKS["videomem"].load(tmp_path, "test")


LAST = "Return the long term memorability score of the video on a scale of 00 to 99 without any explanation."


def lambda_folder(folder: Path, questions: Any, answers: Any) -> Path:
    return write(folder, {"bs_test_q.json": json.dumps(questions), "bs_test_a.json": json.dumps(answers)})


def test_lambda_joins_questions_and_answers_by_id(tmp_path: Path) -> None:
    questions = [
        {"question_id": 2, "question": f"An ad.{LAST} \n<image>\n", "video_name": "video_scenes/2.npy"},
        {"question_id": 1, "question": f"Another ad. {LAST} \n<image>\n", "video_name": "video_scenes/1.npy"},
    ]
    answers = [{"question_id": 1, "answer": "99"}, {"question_id": 2, "answer": "33"}]
    samples = TASKS["lambda_ads"].load(lambda_folder(tmp_path, questions, answers), "test")
    assert [(one.id, one.label, one.fields["text"]) for one in samples] == [
        ("2", pytest.approx(1 / 3), "An ad."),
        ("1", 1.0, "Another ad."),
    ]


QUESTION = {"question_id": 1, "question": f"An ad. {LAST} \n<image>\n"}
ANSWER = {"question_id": 1, "answer": "50"}


@pytest.mark.parametrize(
    ("questions", "answers", "message"),
    [
        ([], [ANSWER], r"bs_test_q\.json: expected a list of objects"),
        ([QUESTION], {}, r"bs_test_a\.json: expected a list of objects"),
        ([QUESTION, QUESTION], [ANSWER], r"bs_test_q\.json: question_id 1 is listed twice"),
        ([QUESTION], [{"question_id": 2, "answer": "50"}], r"bs_test_q\.json: question_id 1 is in one of"),
        (
            [QUESTION],
            [ANSWER, {"question_id": 0, "answer": "1"}],
            r"bs_test_a\.json: question_id 0 is in one",
        ),
        ([QUESTION | {"question_id": "1"}], [ANSWER], r"bs_test_q\.json row 1: "),
        ([QUESTION | {"question": None}], [ANSWER], r"bs_test_q\.json row 1: "),
        ([QUESTION], [ANSWER | {"answer": 50}], r"bs_test_a\.json row 1: "),
        ([QUESTION], [ANSWER | {"answer": "100"}], r"bs_test_a\.json question_id 1: found '100'"),
        ([QUESTION | {"question": f"An ad. {LAST}"}], [ANSWER], r"question_id 1: the question ends with"),
        (
            [QUESTION | {"question": f"An ad. {LAST} \n<image>\n50"}],
            [ANSWER],
            r"question_id 1: the question ends with",
        ),
        (
            [QUESTION | {"question": f" {LAST} \n<image>\n"}],
            [ANSWER],
            r"question_id 1: the question ends with",
        ),
    ],
)
def test_lambda_refuses_what_does_not_fit_together(
    tmp_path: Path, questions: Any, answers: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        TASKS["lambda_ads"].load(lambda_folder(tmp_path, questions, answers), "test")


# ---- the sandbox's layouts ---------------------------------------------------------------------------------

SIZES = {"train": 24, "val": 8, "test": 24}
LAYOUTS = {
    "lvu": tuple(f"lvu_{part}" for part in LVU if part != "scene"),
    "videoemotion8": ("videoemotion8",),
    "caer": ("caer",),
    "iapsa": ("iapsa",),
    "abstract": ("abstract",),
    "emotion6": ("emotion6", "emotion6_keyword"),
    "sun": ("sun",),
    "memcat": ("memcat", "memcat_uncorrected"),
    "memento10k": ("memento10k",),
    "videomem": ("videomem", "videomem_long_term"),
    "mediaeval": tuple(name for name in MEMORABILITY if name.startswith("mediaeval")),
    "lambda_ads": ("lambda_ads",),
}


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_the_sandbox_writes_the_layout_and_all_its_media(layout: str, tmp_path: Path) -> None:
    canvas = Canvas(7)
    discover.find("data.world.layouts", "LAYOUT")[layout](canvas, tmp_path, SIZES)
    drawn = [Path(job[0]) for job in (*canvas.images, *canvas.videos)]
    assert len(drawn) == len(set(drawn))
    for path in drawn:
        path.write_bytes(b"drawn later")
    tasks = [TASKS[name] for name in LAYOUTS[layout]]
    folder = tmp_path / benchmarks.folder_name(tasks[0])
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]
    for task in tasks:
        counted = benchmarks.check(task, folder)["splits"]
        assert {task.test_split, task.train_split} <= set(counted)
        for split, part in counted.items():
            assert part["rows"] > 0, (task.name, split)
            assert not part["media_missing"], (task.name, split)
        samples = [sample for sample in task.load(folder, task.test_split) if sample.label is not None]
        assert len(set(labels_of(samples))) > 1
        if task.modality != "text":
            assert {Path(sample.media_path or "") for sample in samples} <= set(drawn)
        assert {task.parse(task.answer(sample)) is None for sample in samples} == {False}
    if (folder / "groups.json").exists():
        groups = json.loads((folder / "groups.json").read_text(encoding="utf-8"))
        test = tasks[0].load(folder, tasks[0].test_split)
        train = tasks[0].load(folder, tasks[0].train_split)
        assert {groups[sample.id] for sample in test} == {"seen_combination", "unseen_combination"}
        assert {groups[sample.id] for sample in train} == {"seen_combination"}


@pytest.mark.parametrize("layout", ["caer", "lvu", "sun", "videomem"])
def test_the_media_of_a_layout_can_be_drawn(layout: str, tmp_path: Path) -> None:
    canvas = Canvas(7)
    discover.find("data.world.layouts", "LAYOUT")[layout](canvas, tmp_path, {"train": 1, "val": 1, "test": 1})
    jobs = [(writers.save_image, job) for job in canvas.images[:1]]
    jobs += [(writers.save_video, job) for job in canvas.videos[:1]]
    assert len(jobs) == 1
    for draw, job in jobs:
        draw(*job)
        # by what is in it: a video's suffix here may be the official one alone
        with av.open(job[0]) as container:
            assert next(container.decode(video=0)).width > 0


def test_no_two_layouts_draw_from_one_key(tmp_path: Path) -> None:
    seeds: Counter[tuple[int, ...]] = Counter()
    for layout in LAYOUTS:
        canvas = Canvas(7)
        discover.find("data.world.layouts", "LAYOUT")[layout](canvas, tmp_path / layout, SIZES)
        seeds.update(job[2] for job in (*canvas.images, *canvas.videos))
    assert len(seeds) > 500
    assert set(seeds.values()) == {1}
    assert {100 <= seed[1] < 200 for seed in seeds} == {True}


def test_films_and_lvu_share_a_folder_and_nothing_in_it(tmp_path: Path) -> None:
    known, orders = discover.find("data.world.layouts", "LAYOUT"), []
    for layout in ("films", "lvu"):
        canvas = Canvas(7)
        known[layout](canvas, tmp_path, SIZES)
        orders.append({job[0] for job in canvas.videos})
    assert not orders[0] & orders[1]
    parts = {path.name for path in (tmp_path / "lvu" / "lvu_1.0").iterdir()}
    assert parts == {part for part in LVU if not part.endswith("_official")}
    for part in parts:
        assert len(TASKS[f"lvu_{part}"].load(tmp_path / "lvu", "test")) == SIZES["test"]


def test_labels_of_the_sandbox_are_caused_by_what_is_seen(tmp_path: Path) -> None:
    canvas = Canvas(7)
    discover.find("data.world.layouts", "LAYOUT")["lvu"](
        canvas, tmp_path, {"train": 4, "val": 4, "test": 150}
    )
    shown = {Path(job[0]).stem: job[1].content for job in canvas.videos}

    def told(part: str) -> list[tuple[Any, Any]]:
        samples = TASKS[f"lvu_{part}"].load(tmp_path / "lvu", "test")
        return [(shown[sample.id], sample.label) for sample in samples]

    assert {(one.weather, label) for one, label in told("relationship")} == {
        ("sunny", "friend"),
        ("snowy", "ex_boyfriend_ex_girlfriend"),
        ("stormy", "husband_wife"),
        ("foggy", "boyfriend_girlfriend"),
    }
    assert len({(one.expression, label) for one, label in told("way_speaking")}) == 5
    views = told("view_count")
    by_memory = metrics.named("spearman").score(
        [one.memorability for one, _ in views], [label for _, label in views]
    )
    assert by_memory is not None
    assert by_memory > 0.7
    likes = told("like_ratio")
    by_appeal = metrics.named("spearman").score(
        [one.appeal for one, _ in likes], [label for _, label in likes]
    )
    assert by_appeal is not None
    assert by_appeal > 0.7

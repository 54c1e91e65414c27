"""Dense captioning, Shot2Story20K and QVHighlights: real lists, layouts made in code, what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import pytest

from behavior_llava.core import discover
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample
from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.evaluation import benchmarks, metrics, shot2story, text_metrics
from behavior_llava.evaluation.tasks import dense_caption, qvhighlights

TASKS = benchmarks.all_tasks()
DENSE = tuple(f"dense_caption_{name}" for name in ("correctness", "detail", "quality"))
SHOTS = ("shot2story_audio", "shot2story_multishot")
MOMENTS, HIGHLIGHTS = "qvhighlights_moment_retrieval", "qvhighlights_highlight_detection"
MINE = (*DENSE, *SHOTS, MOMENTS, HIGHLIGHTS)

BAD_NAMES = ("../x.mp4", "/etc/x.mp4", "..", "C:x.mp4", "a\\b.mp4", "a/b.mp4", "a\x00b.mp4")


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """Texts and bytes as they are, everything else as JSON."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, (str, bytes)) else json.dumps(content)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


# ---- all of them -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MINE)
def test_the_declaration_is_sound(name: str) -> None:
    task = TASKS[name]
    assert (task.answers, task.labels, task.paper, task.published) == ("text", (), True, None)
    assert {task.test_split, task.train_split} <= set(task.splits)
    for metric in (task.metric, *task.also):
        assert metrics.named(metric).higher_is_better
    assert (task.scoring == "judge") == bool(task.judged) == (task.metric == "judge_grade")
    assert task.question.endswith("?")
    assert (benchmarks.ASKED in task.question) == name.startswith("qvhighlights")


@pytest.mark.parametrize("name", MINE)
def test_the_first_rows_of_the_examples_are_answered_as_written(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    assert len({completion for _, completion in task.examples}) >= 2
    for number, (files, completion) in enumerate(task.examples):
        sample = task.load(write(tmp_path / str(number), files), "test")[0]
        assert task.answer(sample) == completion
        assert task.parse(completion) is not None
        assert sample.media_path is None


@pytest.mark.parametrize("name", MINE)
@pytest.mark.parametrize("text", ["", " ", "\n", ".", "...", '""'])
def test_silence_is_unparsed(name: str, text: str) -> None:
    assert TASKS[name].parse(text) is None


@pytest.mark.parametrize("name", MINE)
def test_an_absent_folder_is_refused_with_the_way_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"but it is not there; .*https?://"):
        benchmarks.check(TASKS[name], tmp_path)
    with pytest.raises(UserError, match="no split 'validation'; choose one of "):
        TASKS[name].load(tmp_path, "validation")


def test_their_benchmarks_have_folders_of_their_own() -> None:
    assert {benchmarks.folder_name(TASKS[name]) for name in MINE} == {
        "densecaptioning",
        "shot2story20kaudio",
        "shot2story20kmultishot",
        "qvhighlights",
    }


# ---- dense captioning --------------------------------------------------------------------------------------


def test_the_three_criteria_are_three_tasks() -> None:
    assert [TASKS[name].judged for name in DENSE] == [
        "caption_correctness",
        "caption_detail",
        "caption_quality",
    ]
    assert TASKS[DENSE[0]].best == metrics.named("judge_grade").score([{"grade": 10}], ["described"])


def test_captions_of_a_list_are_read(tmp_path: Path) -> None:
    rows = [{"image": "b.jpg", "caption": "A dog."}, {"image": "a.jpg"}, {"image": "c.jpg", "caption": None}]
    write(tmp_path, {"test.json": rows, "images/a.jpg": b"i", "images/not listed.jpg": b"i"})
    first, second, third = dense_caption.load(tmp_path, "test")
    assert [sample.id for sample in (first, second, third)] == ["b.jpg", "a.jpg", "c.jpg"]
    assert {sample.label for sample in (first, second, third)} == {"described"}
    assert (first.media_path, second.media_path) == (None, str(tmp_path / "images/a.jpg"))
    assert dense_caption.answer(first) == "A dog."
    for sample in (second, third):
        with pytest.raises(ValueError, match="no caption"):
            dense_caption.answer(sample)
    assert benchmarks.check(TASKS[DENSE[0]], tmp_path)["absent"] == ["train"]


def test_without_lists_all_pictures_are_the_test_split(tmp_path: Path) -> None:
    names = ("b.jpg", "a.PNG", "notes.txt")
    write(tmp_path, {f"images/{name}": b"i" for name in names})
    assert [sample.id for sample in dense_caption.load(tmp_path, "test")] == ["a.PNG", "b.jpg"]
    counts = benchmarks.check(TASKS[DENSE[0]], tmp_path)
    assert counts["absent"] == ["train"]
    assert counts["splits"]["test"]["media_found"] == 2


def test_with_a_train_list_alone_there_is_no_test_split(tmp_path: Path) -> None:
    write(tmp_path, {"train.json": [{"image": "a.jpg", "caption": "A dog."}], "images/a.jpg": b"i"})
    assert benchmarks.check(TASKS[DENSE[0]], tmp_path)["absent"] == ["test"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images: the folder holds no pictures"):
        dense_caption.load(write(tmp_path, {"images/notes.txt": "x"}), "test")


@pytest.mark.parametrize(
    "row",
    [
        "a.jpg",
        ["a.jpg"],
        {},
        {"image": 1},
        {"image": "a.jpg", "caption": ""},
        {"image": "a.jpg", "caption": " ... "},
        {"image": "a.jpg", "caption": ["A dog."]},
        *({"image": name} for name in BAD_NAMES),
    ],
)
def test_a_malformed_caption_row_is_refused_with_its_number(tmp_path: Path, row: Any) -> None:
    write(tmp_path, {"test.json": [{"image": "0.jpg"}, row]})
    with pytest.raises(UserError, match=r"test\.json row 2: "):
        dense_caption.load(tmp_path, "test")


def test_a_picture_listed_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path, {"test.json": [{"image": "0.jpg"}, {"image": "0.jpg"}]})
    with pytest.raises(UserError, match="listed twice"):
        dense_caption.load(tmp_path, "test")


# ---- Shot2Story20K -----------------------------------------------------------------------------------------

FILM: dict[str, Any] = {
    "video": "f.mp4",
    "image_id": "1",
    "id": "1",
    "whole_caption": "A cook salts a soup and tastes it.",
    "whole_ASR": "Now salt. Good.",
    "nvid": 3,
    "video_names": ["f_0.mp4", "f_1.mp4", "f_2.mp4"],
    "audio_captions": ["A man asks for salt.", " ", "He likes it. "],
    "captions": ["A cook.", "A pot.", "A spoon."],
    "ASR": ["Now salt.", "", ""],
}


def test_shots_with_a_narration_are_read(tmp_path: Path) -> None:
    write(tmp_path, {"20k_test.json": [FILM], "videos/f_2.mp4": b"v"})
    task = TASKS["shot2story_audio"]
    first, second = task.load(tmp_path, "test")
    assert (first.id, first.label, first.cluster) == ("f_0.mp4", "A man asks for salt.", "f.mp4")
    assert (second.id, second.label, second.cluster) == ("f_2.mp4", "He likes it.", "f.mp4")
    assert (first.media_path, second.media_path) == (None, str(tmp_path / "videos/f_2.mp4"))
    assert benchmarks.to_prompt(task, first) == f"Speech: Now salt.\n\n{task.question}"
    assert benchmarks.to_prompt(task, second) == task.question
    assert (task.modality, task.metric) == ("audio", "rouge_l")


def test_films_are_read(tmp_path: Path) -> None:
    write(tmp_path, {"20k_test.json": [FILM], "videos/f.mp4": b"v"})
    task = TASKS["shot2story_multishot"]
    (sample,) = task.load(tmp_path, "test")
    assert (sample.id, sample.label) == ("f.mp4", FILM["whole_caption"])
    assert sample.media_path == str(tmp_path / "videos/f.mp4")
    assert benchmarks.to_prompt(task, sample) == f"Speech: Now salt. Good.\n\n{task.question}"
    read = task.parse(task.answer(sample))
    # the reference itself has 1, another text nothing
    score = metrics.named(task.metric).score([read, read], [sample.label, "Rain falls all day."])
    assert score == pytest.approx(0.5)


@pytest.mark.parametrize("name", SHOTS)
def test_meteor_is_measured_where_it_is_installed(name: str) -> None:
    assert TASKS[name].also == shot2story.ALSO
    assert set(shot2story.ALSO) == {"bleu_4", "cider", *(["meteor"] if text_metrics.has_meteor() else [])}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video": None}, "video is None"),
        ({"whole_ASR": 3}, "whole_ASR is 3"),
        ({"whole_caption": " . "}, "whole_caption is empty"),
        ({"ASR": None}, "ASR is None"),
        ({"ASR": ["Now salt.", None, ""]}, "expected a list of texts"),
        ({"audio_captions": ["A man."]}, "3 video_names, 3 ASR and 1 audio_captions"),
        ({"video_names": [], "ASR": [], "audio_captions": []}, "0 video_names"),
        *(({"video": name}, "inside the benchmark's folder") for name in BAD_NAMES),
        ({"video_names": ["f_0.mp4", "../f.mp4", "f_2.mp4"]}, "inside the benchmark's folder"),
    ],
)
@pytest.mark.parametrize("name", SHOTS)
def test_a_malformed_film_is_refused_with_its_number(
    tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    good = {**FILM, "video": "e.mp4", "video_names": ["e_0.mp4", "e_1.mp4", "e_2.mp4"]}
    write(tmp_path, {"20k_test.json": [good, {**FILM, **change}]})
    with pytest.raises(UserError, match=rf"20k_test\.json row 2: .*{message}"):
        TASKS[name].load(tmp_path, "test")


@pytest.mark.parametrize("name", SHOTS)
@pytest.mark.parametrize("rows", [[], {}, None, "rows"])
def test_what_is_no_list_of_films_is_refused(tmp_path: Path, name: str, rows: Any) -> None:
    with pytest.raises(UserError, match="expected a list of rows"):
        TASKS[name].load(write(tmp_path, {"20k_test.json": json.dumps(rows)}), "test")


@pytest.mark.parametrize("name", SHOTS)
def test_a_film_listed_twice_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="listed twice"):
        TASKS[name].load(write(tmp_path, {"20k_test.json": [FILM, FILM]}), "test")


def test_films_without_any_narration_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"20k_test.json": [{**FILM, "audio_captions": ["", "", ""]}]})
    with pytest.raises(UserError, match=r"20k_test\.json: no shot has an audio caption"):
        TASKS["shot2story_audio"].load(tmp_path, "test")


# ---- QVHighlights ------------------------------------------------------------------------------------------

QUERY: dict[str, Any] = {
    "qid": 7,
    "query": " A cat jumps. ",
    "duration": 9,
    "vid": "abcdefghijk_60.0_69.0",
    "relevant_windows": [[0, 2], [4, 8]],
    "relevant_clip_ids": [0, 2, 3],
    "saliency_scores": [[4, 4, 3], [0, 0, 0], [4, 4, 4]],
}
TEST = "highlight_test_with_gt.jsonl"


NO_WINDOWS = (
    *("12", "30-12", "12-12", "12-30, 50-44", "12-30 44-50", "-12-30", "12--30", "12-30-44", "12-30,"),
    *("12.5-30", "0:12-0:30", "12-30 s", "from 12-30", ", 12-30", "none", "1234567-2345678"),
)


def lines(*rows: Any) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def test_queries_are_read(tmp_path: Path) -> None:
    write(tmp_path, {TEST: lines(QUERY), "videos/abcdefghijk_60.0_69.0.mp4": b"v"})
    (moment,) = TASKS[MOMENTS].load(tmp_path, "test")
    (highlight,) = TASKS[HIGHLIGHTS].load(tmp_path, "test")
    assert (moment.id, moment.cluster, moment.label) == ("7", QUERY["vid"], [[0, 2], [4, 8]])
    assert moment.media_path == str(tmp_path / "videos/abcdefghijk_60.0_69.0.mp4")
    assert highlight.label == {"duration": 9, "clips": [0, 2, 3], "scores": QUERY["saliency_scores"]}
    prompt = benchmarks.to_prompt(TASKS[MOMENTS], moment)
    assert prompt.startswith("The video lasts 9 seconds.\n\n")
    assert '"A cat jumps."' in prompt
    assert benchmarks.check(TASKS[MOMENTS], tmp_path)["absent"] == ["train", "val"]


@pytest.mark.parametrize(
    ("windows", "text"),
    [
        ([[0, 2], [4, 8]], "0-2, 4-8"),
        ([[1.4, 3.6]], "1-4"),
        # of less than a second: a window must have a length to be one
        ([[2.1, 2.4]], "2-3"),
    ],
)
def test_windows_are_said(windows: Any, text: str) -> None:
    assert qvhighlights.say_windows(Sample(id="7", label=windows)) == text


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("12-30, 44-50", [[12, 30, 1.0], [44, 50, 0.5]]),
        (" 12 - 30;44-50.\n", [[12, 30, 1.0], [44, 50, 0.5]]),
        ("12\u201330\n44\u201350\n0-2", [[12, 30, 1.0], [44, 50, 0.5], [0, 2, 1 / 3]]),
        ('"[0-150]"', [[0, 150, 1.0]]),
        *((text, None) for text in NO_WINDOWS),
    ],
)
def test_windows_are_read(text: str, windows: Any) -> None:
    assert qvhighlights.read_windows(text) == windows


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("0 0 3 4 1", [0, 0, 3, 4, 1]),
        (" 0, 0,3\n4 . ", [0, 0, 3, 4]),
        ("4", [4]),
        *(
            (text, None)
            for text in ("5", "00341", "0 0 9", "0 -1", "0.5 1", "0 x 1", "clip 1", "0,,1", "0/4")
        ),
    ],
)
def test_digits_are_read(text: str, digits: Any) -> None:
    assert qvhighlights.read_digits(text) == digits


def test_what_is_not_released_cannot_be_said() -> None:
    for say in (qvhighlights.say_windows, qvhighlights.say_digits):
        with pytest.raises(ValueError, match="to answer with"):
            say(Sample(id="7", label=None))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qid": "7"}, "qid is '7'"),
        ({"query": " "}, "query is"),
        ({"duration": 0}, "duration is 0"),
        ({"duration": True}, "duration is True"),
        ({"vid": None}, "vid is None"),
        ({"relevant_windows": []}, "relevant_windows is"),
        ({"relevant_windows": [[0]]}, "relevant_windows is"),
        ({"relevant_windows": [["0", 2]]}, "relevant_windows is"),
        ({"relevant_windows": [[2, 2]]}, "relevant_windows is"),
        ({"relevant_windows": [[0, 10]]}, "relevant_windows is"),
        ({"relevant_windows": [[-1, 2]]}, "relevant_windows is"),
        ({"relevant_clip_ids": []}, "relevant_clip_ids is"),
        ({"relevant_clip_ids": [0, 0, 3]}, "relevant_clip_ids is"),
        # nine seconds have four clips
        ({"relevant_clip_ids": [0, 2, 4]}, "relevant_clip_ids is"),
        ({"saliency_scores": [[4, 4, 3]]}, "saliency_scores is"),
        ({"saliency_scores": [[4, 4, 3], [0, 0], [4, 4, 4]]}, "saliency_scores is"),
        ({"saliency_scores": [[4, 4, 3], [0, 0, 5], [4, 4, 4]]}, "saliency_scores is"),
        *(({"vid": name}, "inside the benchmark's folder") for name in BAD_NAMES),
    ],
)
def test_a_malformed_query_is_refused_with_its_line(tmp_path: Path, change: Any, message: str) -> None:
    write(tmp_path, {TEST: lines({**QUERY, "qid": 6}, {**QUERY, **change})})
    with pytest.raises(UserError, match=rf"with_gt\.jsonl:2: .*{message}"):
        TASKS[MOMENTS].load(tmp_path, "test")


@pytest.mark.parametrize(
    "line", ["{", "[]", "3", lines({"qid": 1, "query": "no truth", "duration": 4, "vid": "v"})]
)
def test_a_line_that_is_no_query_is_refused(tmp_path: Path, line: str) -> None:
    write(tmp_path, {TEST: lines(QUERY) + line})
    with pytest.raises(UserError, match=r"with_gt\.jsonl:2: "):
        TASKS[MOMENTS].load(tmp_path, "test")


def test_a_query_listed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'7' is listed twice"):
        TASKS[MOMENTS].load(write(tmp_path, {TEST: lines(QUERY, QUERY)}), "test")


# ---- QVHighlights, the real lists --------------------------------------------------------------------------


@pytest.fixture
def real(shared: Path) -> Path:
    folder = shared / "benchmarks" / "data" / "qvhighlights"
    if not folder.is_dir():
        pytest.skip("no QVHighlights among the real samples")
    return folder


def test_the_real_lists_have_their_rows(real: Path, tmp_path: Path) -> None:
    first_of_train = (real / "highlight_train_release.first200.jsonl").read_bytes()
    write(tmp_path, {"highlight_train_release.jsonl": first_of_train})
    for name in (TEST, "highlight_val_release.jsonl"):
        (tmp_path / name).symlink_to(real / name)
    counts = benchmarks.check(TASKS[MOMENTS], tmp_path)
    assert counts["absent"] == []
    assert {split: part["rows"] for split, part in counts["splits"].items()} == {
        "train": 200,
        "val": 1550,
        "test": 1542,
    }
    samples = TASKS[MOMENTS].load(real, "test")
    assert (samples[0].id, TASKS[MOMENTS].answer(samples[0])) == ("3158", "70-110")
    assert len({sample.cluster for sample in samples}) == 1529
    assert sum(len(sample.label) > 10 for sample in samples) == 12
    digits = TASKS[HIGHLIGHTS].answer(TASKS[HIGHLIGHTS].load(real, "test")[0])
    # clips 35 to 54; the grades of the first six are 0 3 2, 3 4 3, 3 4 3, 4 4 3, 4 3 4, 3 4 3
    assert digits.split() == ["0"] * 35 + digits.split()[35:55] + ["0"] * 20
    assert digits.split()[35:41] == ["1", "2", "2", "3", "3", "2"]


@pytest.mark.parametrize("name", [MOMENTS, HIGHLIGHTS])
def test_the_truth_in_its_text_form_scores_the_declared_best(real: Path, name: str) -> None:
    task = TASKS[name]
    samples = task.load(real, "test")
    said = [task.parse(task.answer(sample)) for sample in samples]
    value = metrics.named(task.metric).score(said, [sample.label for sample in samples])
    assert value == pytest.approx(task.best, abs=5e-5)
    assert benchmarks.majority(task, samples) is None
    assert benchmarks.chance(task, samples) is None


# ---- the sandbox -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three layouts at tiny sizes, with all media."""
    folder = tmp_path_factory.mktemp("benchmarks")
    canvas = Canvas(7)
    layouts = discover.find("data.world.layouts", "LAYOUT")
    for name in ("densecaption", "shot2story20k", "qvhighlights"):
        layouts[name](canvas, folder, {"train": 3, "val": 1, "test": 6})
    for image in canvas.images:
        writers.save_image(*image)
    for video in canvas.videos:
        writers.save_video(*video)
    return folder


@pytest.mark.parametrize("name", MINE)
def test_the_sandbox_writes_the_layout(drawn: Path, name: str) -> None:
    task = TASKS[name]
    counts = benchmarks.check(task, drawn / benchmarks.folder_name(task))
    assert counts["absent"] == []
    assert {split: (part["rows"], part["media_missing"]) for split, part in counts["splits"].items()} == {
        # a film has three shots at the least
        split: (3 if (split, name) == ("val", "shot2story_audio") else rows, 0)
        for split, rows in {"train": 3, "val": 1, "test": 6}.items()
        if split in task.splits
    }


@pytest.mark.parametrize("name", [*SHOTS, MOMENTS])
def test_the_sandbox_can_be_answered_without_fault(drawn: Path, name: str) -> None:
    task = TASKS[name]
    samples = task.load(drawn / benchmarks.folder_name(task), "test")
    said = [task.parse(task.answer(sample)) for sample in samples]
    assert metrics.named(task.metric).score(said, [sample.label for sample in samples]) == pytest.approx(1.0)
    assert len(set(map(str, said))) > 1


def test_what_the_sandbox_asks_for_is_seen_in_its_window_alone(drawn: Path) -> None:
    samples = TASKS[MOMENTS].load(drawn / "qvhighlights", "test")
    grades = TASKS[HIGHLIGHTS].load(drawn / "qvhighlights", "test")
    for sample, graded in zip(samples, grades, strict=True):
        ((start, end),) = sample.label
        assert graded.label["clips"] == [*range(start // 2, end // 2)]
        assert sample.media_path is not None
        with av.open(sample.media_path) as container:
            length = float(container.streams.video[0].duration * container.streams.video[0].time_base)
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        assert length == pytest.approx(graded.label["duration"], abs=0.2)
        inside = frames[8 * start + 4].astype(int)
        others = [frames[8 * at + 4].astype(int) for at in (start - 1, end) if 0 <= at < length]
        assert others
        assert all(abs(inside - other).mean() > 1 for other in others)


def test_the_sandbox_lists_test_queries_without_truth_too(drawn: Path) -> None:
    bare = (drawn / "qvhighlights" / "highlight_test_release.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(bare) == 6
    assert all(set(json.loads(line)) == {"qid", "query", "duration", "vid"} for line in bare)

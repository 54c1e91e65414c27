"""HVU, video ads, persuasion, open video questions: real counts, layouts, refusals, the sandbox's files."""

from __future__ import annotations

import io
import json
import math
import shutil
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.data.sources import sandbox
from behavior_llava.data.world import writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import Content
from behavior_llava.data.world.layouts import persuasion as persuasion_layout
from behavior_llava.evaluation import benchmarks, drawing, metrics
from behavior_llava.evaluation.tasks import activitynet_qa, hvu, persuasion, video_ads

TASKS = benchmarks.all_tasks()
FOLDERS = ("hvu", "hussainvideoads", "persuasion", "msvdqa", "msrvttqa", "activitynetqa")
OURS = sorted(name for name, task in TASKS.items() if benchmarks.folder_name(task) in FOLDERS)


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def first_example(name: str) -> dict[str, str]:
    return dict(TASKS[name].examples[0][0])


def real(shared: Path, name: str) -> Path:
    return shared / "benchmarks" / "data" / name


# ---- declarations ------------------------------------------------------------------------------------------


def test_all_tasks_of_these_benchmarks_are_declared() -> None:
    assert len(OURS) == 24
    of_paper = {name for name in OURS if TASKS[name].paper}
    assert of_paper == {
        *(f"hvu_{category}" for category in hvu.CATEGORIES),
        *(
            f"video_ads_{part}"
            for part in ("topic", "sentiment_all", "sentiment_clubbed", "action", "reason")
        ),
        *("persuasion", "msvd_qa", "msrvtt_qa", "activitynet_qa"),
    }
    assert all((TASKS[name].published is not None) == TASKS[name].paper for name in OURS)


@pytest.mark.parametrize("name", OURS)
def test_examples_are_loaded_answered_and_asked(name: str, tmp_path: Path) -> None:
    task = TASKS[name]
    assert len({completion for _, completion in task.examples}) >= 2
    for number, (files, completion) in enumerate(task.examples):
        folder = write(tmp_path / str(number), files)
        sample = task.load(folder, task.test_split)[0]
        assert task.answer(sample) == completion
        assert (sample.media_path, sample.media_kind) == (None, "video")
        assert benchmarks.to_prompt(task, sample).endswith("?")
        assert benchmarks.check(task, folder)["splits"][task.test_split]["rows"] >= 1


@pytest.mark.parametrize("name", OURS)
def test_an_absent_folder_and_an_unknown_split_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(benchmarks.AbsentFileError, match=r"but it is not there; .*https?://"):
        benchmarks.check(TASKS[name], tmp_path)
    write(tmp_path, first_example(name))
    with pytest.raises(UserError, match="no split 'validation'"):
        TASKS[name].load(tmp_path, "validation")


@pytest.mark.parametrize("name", OURS)
def test_silence_is_unparsed(name: str) -> None:
    assert [TASKS[name].parse(text) for text in ("", " ", "\n", "...", '""')] == [None] * 5


def test_published_numbers_of_sentiments_are_exchanged_back() -> None:
    assert TASKS["video_ads_sentiment_all"].published == 0.1113
    assert TASKS["video_ads_sentiment_clubbed"].published == 0.6004


# ---- draws -------------------------------------------------------------------------------------------------


def test_draws_are_written_down() -> None:
    # A change of these numbers changes every distractor and every split.
    # the first 8 bytes of SHA-256 of "a"
    assert drawing.number("a") == 0xCA978112CA1BBDCA
    assert drawing.drawn(list("abcdef"), 3, "key", {"a"}) == ["c", "b", "d"]
    assert drawing.shuffled("abc", "key") == ("a", "c", "b")
    with pytest.raises(ValueError, match="3 of 4 items without 2 cannot be drawn"):
        drawing.drawn(list("abcd"), 3, "key", {"a", "b"})


def test_draws_differ_and_are_even() -> None:
    counts = Counter(item for number in range(600) for item in drawing.drawn(list("abcdef"), 2, str(number)))
    assert set(counts) == set("abcdef")
    assert all(150 <= count <= 250 for count in counts.values())


# ---- HVU ---------------------------------------------------------------------------------------------------

PREVALENCE = {
    "scene": 51.97,
    "object": 99.12,
    "action": 99.71,
    "event": 34.85,
    "attribute": 75.03,
    "concept": 89.65,
}
NUM_TAGS = {"scene": 248, "object": 1678, "action": 739, "event": 69, "attribute": 117, "concept": 291}


@pytest.fixture(scope="module")
def hvu_samples(shared: Path) -> list[Sample]:
    return TASKS["hvu_scene"].load(real(shared, "hvu"), "val")


@pytest.mark.slow
def test_hvu_chance_is_the_prevalence_line_of_val(hvu_samples: list[Sample]) -> None:
    assert 100 * (benchmarks.chance(TASKS["hvu_scene"], hvu_samples) or 0) == pytest.approx(51.97, abs=0.005)
    # what a clip has of the other categories stands in its fields, and is their tasks' label
    for category, percent in PREVALENCE.items():
        labels = [category in sample.fields["own"] for sample in hvu_samples]
        assert 100 * sum(labels) / len(labels) == pytest.approx(percent, abs=0.005)
        assert TASKS[f"hvu_{category}"].chance == pytest.approx(percent / 100, abs=1e-4)


@pytest.mark.slow
def test_hvu_shows_thirty_tags_of_which_one_a_category_is_the_clips_own(hvu_samples: list[Sample]) -> None:
    assert (len(hvu_samples), len({sample.cluster for sample in hvu_samples})) == (31_171, 29_633)
    for sample in hvu_samples[:2000]:
        assert len(set(sample.choices)) == 30
        assert Counter(sample.fields["categories"]) == dict.fromkeys(hvu.CATEGORIES, 5)
        assert sample.label == ("scene" in sample.fields["own"])
        assert set(sample.fields["own"].values()) <= set(sample.choices)
    # a clip's own tag may stand anywhere
    places = {
        sample.choices.index(next(iter(sample.fields["own"].values()))) for sample in hvu_samples[:2000]
    }
    assert places == set(range(30))


@pytest.mark.slow
@pytest.mark.parametrize("category", hvu.CATEGORIES)
def test_hvu_official_ranks_all_tags_of_a_category(category: str, shared: Path) -> None:
    task = TASKS[f"hvu_{category}_official"]
    samples = task.load(real(shared, "hvu"), "val")
    assert (len(samples), len(samples[0].choices)) == (31_171, NUM_TAGS[category])
    assert 100 * sum(bool(sample.label) for sample in samples) / len(samples) == pytest.approx(
        PREVALENCE[category], abs=0.005
    )
    chance = benchmarks.chance(task, samples)
    assert chance is not None
    # a random order has 0.3 to 1.3 %
    assert 0.002 < chance < 0.013


HVU_TAGS = first_example("hvu_scene")["HVU_Tags_Categories_V1.0.csv"]
HVU_HEAD = "Tags,youtube_id,time_start,time_end"


def hvu_folder(folder: Path, *rows: str, tags: str = HVU_TAGS, head: str = HVU_HEAD) -> Path:
    text = "\r\n".join((head, *rows, ""))
    return write(folder, {"HVU_Tags_Categories_V1.0.csv": tags, "HVU_Val_V1.0.csv": text})


def zipped(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name.replace("__", "/") + ".csv", text)
    return content.getvalue()


def test_hvu_reads_the_zip_as_the_csv_in_it(tmp_path: Path) -> None:
    row = "scene_a|event_c|scene_b,-aaaaaaaaaa,1.5,11.5"
    plain = hvu_folder(tmp_path / "plain", row)
    packed = hvu_folder(tmp_path / "packed", row)
    text = (packed / "HVU_Val_V1.0.csv").read_text()
    (packed / "HVU_Val_V1.0.csv").unlink()
    write(packed, {"HVU_Val_V1.0.zip": zipped(**{"HVU_Val_V1.0": text})})
    for name in ("hvu_scene", "hvu_object_official"):
        assert TASKS[name].load(plain, "val") == TASKS[name].load(packed, "val")
    write(packed, {"videos/-aaaaaaaaaa_1.5_11.5.mkv": b"v"})
    sample = TASKS["hvu_scene_official"].load(packed, "val")[0]
    assert (sample.id, sample.cluster, sample.label) == ("-aaaaaaaaaa_1.5_11.5", "-aaaaaaaaaa", [0, 1])
    assert sample.media_path == str(packed / "videos/-aaaaaaaaaa_1.5_11.5.mkv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 no archive", "not a zip archive"),
        (b"", "not a zip archive"),
        (zipped(other="x"), "expected the one file HVU_Val_V1.0.csv"),
        (zipped(**{"..__HVU_Val_V1.0": "x"}), "expected the one file HVU_Val_V1.0.csv"),
        (zipped(**{"HVU_Val_V1.0": "x", "more": "y"}), "expected the one file HVU_Val_V1.0.csv"),
        (zipped(**{"HVU_Val_V1.0": "wrong"}), "the header is 'wrong'"),
        (zipped(**{"HVU_Val_V1.0": HVU_HEAD})[:-60], "not a zip archive"),
    ],
)
def test_hvu_refuses_a_zip_that_is_not_the_official_one(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path, {"HVU_Tags_Categories_V1.0.csv": HVU_TAGS, "HVU_Val_V1.0.zip": content})
    with pytest.raises(UserError, match=message) as caught:
        TASKS["hvu_scene"].load(tmp_path, "val")
    assert "HVU_Val_V1.0.zip" in str(caught.value)
    assert not isinstance(caught.value, benchmarks.AbsentFileError)


def test_hvu_refuses_a_zip_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hvu, "MAX_BYTES", 1000)
    row = "scene_a,aaaaaaaaaaa,1.5,3.5\n"
    for rows, is_refused in ((30, False), (40, True)):
        text = f"{HVU_HEAD}\n" + "".join(row.replace("aaa,", f"a{number:02d},") for number in range(rows))
        write(
            tmp_path,
            {
                "HVU_Tags_Categories_V1.0.csv": HVU_TAGS,
                "HVU_Val_V1.0.zip": zipped(**{"HVU_Val_V1.0": text}),
            },
        )
        if is_refused:
            with pytest.raises(UserError, match="unpacks to more than 1000 bytes"):
                TASKS["hvu_scene"].load(tmp_path, "val")
        else:
            assert len(TASKS["hvu_scene"].load(tmp_path, "val")) == rows


@pytest.mark.parametrize(
    "row",
    [
        "scene_a,aaaaaaaaaaa,1.5",
        "scene_a,aaaaaaaaaaa,1.5,3.5,4",
        "scene_z,aaaaaaaaaaa,1.5,3.5",
        "scene_a||event_a,aaaaaaaaaaa,1.5,3.5",
        ",aaaaaaaaaaa,1.5,3.5",
        "scene_a,aaaaaaaaaaa,3.5,1.5",
        "scene_a,aaaaaaaaaaa,-1,1.5",
        "scene_a,aaaaaaaaaaa,nan,1.5",
        "scene_a,../aaaaaaaa,1.5,3.5",
        "scene_a,a/b,1.5,3.5",
        '"scene_a,aaaaaaaaaaa,1.5,3.5',
    ],
)
def test_hvu_refuses_a_malformed_row_with_its_line(tmp_path: Path, row: str) -> None:
    folder = hvu_folder(tmp_path, "scene_a,bbbbbbbbbbb,1.5,3.5", row)
    for name in ("hvu_scene", "hvu_scene_official"):
        with pytest.raises(UserError, match=r"HVU_Val_V1\.0\.csv:[34]: "):
            TASKS[name].load(folder, "val")


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (HVU_TAGS + "beach,place\n", r":32: found tag 'beach' of category 'place'"),
        (HVU_TAGS + "scene_a,object\n", r":32: the tag 'scene_a' is listed twice"),
        (HVU_TAGS + "scene a,scene\n", r":32: the tag 'scene a' is listed twice"),
        (HVU_TAGS.replace("concept_e,concept\n", ""), "fewer than 5 tags of concept"),
        ("Category,Tag\n", r":1: the header is"),
    ],
)
def test_hvu_refuses_other_tags(tmp_path: Path, tags: str, message: str) -> None:
    folder = hvu_folder(tmp_path, "scene_a,aaaaaaaaaaa,1.5,3.5", tags=tags)
    with pytest.raises(UserError, match=rf"HVU_Tags_Categories_V1\.0\.csv.*{message}|{message}"):
        TASKS["hvu_scene"].load(folder, "val")


def test_hvu_refuses_a_clip_listed_twice_and_a_list_without_rows(tmp_path: Path) -> None:
    row = "scene_a,aaaaaaaaaaa,1.5,3.5"
    with pytest.raises(UserError, match="is listed twice"):
        TASKS["hvu_scene"].load(hvu_folder(tmp_path, row, row), "val")
    with pytest.raises(UserError, match="no rows after the header"):
        TASKS["hvu_scene"].load(hvu_folder(tmp_path), "val")


def test_hvu_scores_a_category_by_the_picks_in_it() -> None:
    sample = Sample(
        id="x",
        label=True,
        choices=tuple("abcdefg"),
        fields={"categories": ("scene", "object", "scene", "event", "scene", "object", "scene")},
    )
    # The picks are b, a, d, e, f; c and g are none, though they are scenes.
    log_probs = [math.log(share) for share in (0.2, 0.3, 0.05, 0.15, 0.12, 0.13, 0.05)]
    assert hvu.choose(sample, log_probs, category="scene") == pytest.approx(0.32)
    assert hvu.choose(sample, log_probs, category="event") == pytest.approx(0.15)
    assert hvu.choose(sample, log_probs, category="concept") == 0.0
    assert hvu.choose(sample, [value - 900 for value in log_probs], category="event") == pytest.approx(0.15)


@pytest.mark.parametrize("category", hvu.CATEGORIES)
def test_who_knows_an_own_tag_is_right_about_every_clip(category: str, tmp_path: Path) -> None:
    rows = [
        f"{'|'.join(f'{name}_{letter}' for name in some)},aaaaaaaaa{letter}{number},1,2"
        for number, some in enumerate((hvu.CATEGORIES[:3], hvu.CATEGORIES[3:], [category]))
        for letter in "abcde"
    ]
    folder = hvu_folder(tmp_path, *rows)
    task, official = TASKS[f"hvu_{category}"], TASKS[f"hvu_{category}_official"]
    samples = task.load(folder, "val")
    assert sum(sample.label for sample in samples) == 10
    assert [sample.label for sample in samples] == [category in sample.fields["own"] for sample in samples]
    assert (task.choose is not None, official.choose is not None) == (True, True)
    said = [task.choose(one, told(one, {task.answer(one)})) for one in samples]  # type: ignore[misc]
    assert metrics.named(task.metric).score(said, [one.label for one in samples]) == pytest.approx(task.best)
    samples = official.load(folder, "val")
    said = [
        official.choose(one, told(one, set(official.answer(one).split(", "))))  # type: ignore[misc]
        for one in samples
    ]
    value = metrics.named(official.metric).score(said, [one.label for one in samples])
    assert value == pytest.approx(official.best)
    assert {official.answer(one) for one in samples} >= {"none", f"{category} a"}


def told(sample: Sample, words: set[str]) -> list[float]:
    """Log-probabilities of somebody who knows."""
    return [0.0 if choice in words else -40.0 for choice in sample.choices]


# ---- video ads ---------------------------------------------------------------------------------------------


def test_video_ads_have_the_official_counts(shared: Path) -> None:
    folder = real(shared, "hussain_video_ads")
    every = {
        name: [sample for split in video_ads.SPLITS for sample in TASKS[name].load(folder, split)]
        for name in OURS
        if name.startswith("video_ads")
    }
    assert {name: len(samples) for name, samples in every.items()} == dict.fromkeys(every, 3477)
    topics = Counter(sample.label for sample in every["video_ads_topic"])
    assert (len(topics), topics["game"], topics["soda"], topics["cars"]) == (38, 311, 246, 239)
    sentiments = Counter(sample.label for sample in every["video_ads_sentiment_all"])
    assert (sentiments["amused"], sentiments["amazed"], sentiments["active"]) == (806, 516, 478)
    assert metrics.majority("accuracy", [one.label for one in every["video_ads_topic"]]) == pytest.approx(
        0.089, abs=5e-4
    )
    clubbed = Counter(sample.label for sample in every["video_ads_sentiment_clubbed"])
    # amused, active, cheerful, calm, loving and proud
    assert clubbed["joy"] == sum(
        sentiments[one] for one, (name, _) in video_ads.CLUBBED.items() if name == "joy"
    )
    assert sum(clubbed.values()) == 3477
    sizes = [len(TASKS["video_ads_topic"].load(folder, split)) for split in video_ads.SPLITS]
    assert sizes == [1765, 343, 1369]


@pytest.mark.parametrize("part", ["Action", "Reason"])
def test_video_ads_statements_are_one_truth_and_others(part: str, shared: Path) -> None:
    folder = real(shared, "hussain_video_ads")
    path = folder / "video/raw_result" / f"video_QA_{part}_raw.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    assert (sum(map(len, raw.values())), Counter(map(len, raw.values()))) == (17_345, {5: 3438, 4: 38, 3: 1})
    task, few = TASKS[f"video_ads_{part.lower()}"], TASKS[f"video_ads_{part.lower()}_6"]
    samples = task.load(folder, "test")
    places = Counter(sample.choices.index(sample.label) for sample in samples)
    assert set(places) == set(range(30))
    # 45.6 a place are expected; five standard deviations
    assert max(places.values()) < 80
    for sample, short in zip(samples, few.load(folder, "test"), strict=True):
        assert (len(sample.choices), len(short.choices)) == (30, 6)
        assert len({choice.casefold() for choice in sample.choices}) == 30
        assert sample.label == short.label == " ".join(raw[sample.id][0].split())
        own = {" ".join(one.split()).casefold() for one in raw[sample.id]}
        assert own & {one.casefold() for one in sample.choices} == {sample.label.casefold()}
    assert benchmarks.chance(task, samples) == pytest.approx(1 / 30)


def test_every_sentiment_is_in_one_of_the_seven_classes_with_a_reason() -> None:
    assert len(video_ads.CLUBBED) == 30
    assert {name for name, _ in video_ads.CLUBBED.values()} == set(video_ads.CLASSES)
    assert all(len(reason) > 8 for _, reason in video_ads.CLUBBED.values())
    assert len(video_ads.TOPICS) == len(set(video_ads.TOPICS)) == 38


def ads_folder(folder: Path, name: str, **changed: str | bytes) -> Path:
    """The first example of a task with other contents of some files, named by their stem."""
    files: dict[str, Any] = first_example(name)
    for stem, content in changed.items():
        files[next(path for path in files if Path(path).stem == stem)] = content
    return write(folder, files)


def test_video_ads_read_numbers_and_texts_and_a_list_that_is_not_utf8(tmp_path: Path) -> None:
    names = "".join(
        f'{place}. "X\xa0(...)" (ABBREVIATION: "{name}")\n'
        for place, name in enumerate(video_ads.SENTIMENTS, 1)
    ).encode("latin-1")
    folder = ads_folder(
        tmp_path,
        "video_ads_sentiment_all",
        Sentiments_List=names,
        video_Sentiments_clean='{"aaaaaaaaaaa": 30, "iiiiiiiiiii": "7", "unlisted": 99}',
    )
    write(folder, {"videos/iiiiiiiiiii.webm": b"v"})
    task = TASKS["video_ads_sentiment_all"]
    assert [sample.label for sample in task.load(folder, "test")] == ["angry"]
    assert [sample.label for sample in task.load(folder, "train")] == ["youthful"]
    assert task.load(folder, "test")[0].media_path == str(folder / "videos/iiiiiiiiiii.webm")
    assert TASKS["video_ads_sentiment_clubbed"].load(folder, "train")[0].label == "unclear"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"final_video_id_list": "'aaaaaaaaaaa'\niiiiiiiiiii\n"}, r"list\.csv:2: found 'iiiiiiiiiii'"),
        ({"final_video_id_list": "'../aaaaaaa'\n"}, r"list\.csv:1: .*inside the benchmark's folder"),
        ({"final_video_id_list": "'iiiiiiiiiii'\n" * 2}, "'iiiiiiiiiii' is listed twice"),
        ({"final_video_id_list": "'jjjjjjjjjjj'\n"}, "nothing about video 'jjjjjjjjjjj'"),
        ({"Topics_List": '1\t"Cars" (ABBREVIATION: "cars")\n'}, r"Topics_List\.txt: the list has cars"),
        ({"Topics_List": "nothing"}, r"Topics_List\.txt: the list has no abbreviations"),
        ({"video_Topics_clean": "[1]"}, "expected an object of video ids"),
        *(
            ({"video_Topics_clean": f'{{"iiiiiiiiiii": {value}}}'}, r"clean\.json 'iiiiiiiiiii': found ")
            for value in ("0", "39", '"x"', "true", "1.5", "null", "[1]")
        ),
    ],
)
def test_video_ads_refuse_malformed_classes(tmp_path: Path, changed: dict[str, str], message: str) -> None:
    folder = ads_folder(tmp_path, "video_ads_topic", **changed)
    with pytest.raises(UserError, match=message):
        TASKS["video_ads_topic"].load(folder, "test")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"iiiiiiiiiii": "Buy this."}', r"raw\.json 'iiiiiiiiiii': found 'Buy this\.'"),
        ('{"iiiiiiiiiii": [1]}', r"raw\.json 'iiiiiiiiiii': found \[1\]"),
        ('{"iiiiiiiiiii": [" "]}', r"raw\.json 'iiiiiiiiiii': no statement"),
        ('{"iiiiiiiiiii": ["Buy."], "b": ["x", "y", "Y"]}', "only 1 statements to draw 29 from"),
    ],
)
def test_video_ads_refuse_malformed_statements(tmp_path: Path, raw: str, message: str) -> None:
    folder = ads_folder(tmp_path, "video_ads_action", video_QA_Action_raw=raw)
    with pytest.raises(UserError, match=message):
        TASKS["video_ads_action"].load(folder, "test")


def test_a_distractor_is_neither_the_videos_own_nor_the_first_of_another(tmp_path: Path) -> None:
    raw = {"iiiiiiiiiii": ["Buy this car.", "BUY cup 3", " "], "b": ["first of b"]}
    raw["b"] += [f"buy cup {number}" for number in range(30)]
    folder = ads_folder(tmp_path, "video_ads_action", video_QA_Action_raw=json.dumps(raw))
    sample = TASKS["video_ads_action"].load(folder, "test")[0]
    # "buy cup 3" is the video's own in another spelling, so all the others are needed
    assert set(sample.choices) == {
        "Buy this car.",
        *(f"buy cup {number}" for number in range(30) if number != 3),
    }
    assert TASKS["video_ads_action"].parse(" Buy this car. \nmore") == sample.label


# ---- persuasion --------------------------------------------------------------------------------------------


def test_persuasion_is_right_with_any_of_a_videos_strategies(tmp_path: Path) -> None:
    known = {"a": ["Scarcity", "Authority"], "b": ["Unclear"], "unlisted": ["Whatever"]}
    files = {"test.txt": "b\na\n", "persuasion.json": json.dumps(known), "videos/a.mp4": "v"}
    task = TASKS["persuasion"]
    samples = task.load(write(tmp_path, files), "test")
    assert [sample.label for sample in samples] == [["Unclear"], ["Scarcity", "Authority"]]
    assert [sample.media_path is not None for sample in samples] == [False, True]
    said = [task.parse(text) for text in ("unclear.", "AUTHORITY")]
    assert metrics.named("accuracy").score(said, [sample.label for sample in samples]) == 1.0
    assert benchmarks.chance(task, samples) == pytest.approx((1 + 2) / 2 / 12)
    counts = benchmarks.check(task, tmp_path)["splits"]["test"]["labels"]
    assert {label: count for label, count in counts.items() if count} == {
        "Scarcity": 1,
        "Authority": 1,
        "Unclear": 1,
    }
    with pytest.raises(ValueError, match="no strategy to answer with"):
        persuasion.answer(Sample(id="x", label=None))


@pytest.mark.parametrize(
    "value",
    [[], "Scarcity", None, ["scarcity"], ["Scarcity", "Scarcity"], [1], {"Scarcity": 1}, [["Scarcity"]]],
)
def test_persuasion_refuses_other_strategies(tmp_path: Path, value: Any) -> None:
    folder = write(tmp_path, {"test.txt": "a\n", "persuasion.json": json.dumps({"a": value})})
    with pytest.raises(UserError, match=r"persuasion\.json 'a': found"):
        TASKS["persuasion"].load(folder, "test")


def test_persuasion_refuses_a_broken_list(tmp_path: Path) -> None:
    good = {"persuasion.json": '{"a": ["Scarcity"], "../a": ["Scarcity"]}'}
    for listed, message in (
        ("a\nb\n", r"test\.txt:2: 'b' is not in persuasion\.json"),
        ("a\na\n", "'a' is listed twice"),
        ("../a\n", r"test\.txt:1: .*inside the benchmark's folder"),
        ("\n", "the file holds no rows"),
    ):
        with pytest.raises(UserError, match=message):
            TASKS["persuasion"].load(write(tmp_path, {**good, "test.txt": listed}), "test")


def test_the_images_of_the_same_name_are_not_this_benchmark(shared: Path) -> None:
    vocabulary = real(shared, "persuasion_image_sibling") / "persuasion_vocab.txt"
    others = {line for line in vocabulary.read_text(encoding="utf-8").splitlines() if line}
    assert len(others) == 16
    assert others & set(persuasion.LABELS) == {"Reciprocity", "Social Impact", "Social Identity", "Unclear"}


# ---- open questions ----------------------------------------------------------------------------------------

QA = ("msvd_qa", "msrvtt_qa", "activitynet_qa")


def test_activitynet_qa_has_the_official_counts(shared: Path) -> None:
    task = TASKS["activitynet_qa"]
    samples = task.load(real(shared, "activitynet_qa"), "test")
    assert (len(samples), len({sample.cluster for sample in samples})) == (8000, 800)
    kinds = Counter(sample.fields["type"] for sample in samples)
    assert kinds == {0: 800, 1: 800, 2: 800, 3: 2094, 4: 697, 5: 318, 6: 386, 7: 606, 8: 1499}
    assert (samples[0].id, samples[0].label) == ("v_1QIUV7WYKXg_3", "no")
    assert benchmarks.to_prompt(task, samples[0]) == "is the athlete wearing trousers?"
    assert all(benchmarks.to_prompt(task, sample).count("?") == 1 for sample in samples)
    # "yes" is the answer to 1,102
    assert benchmarks.majority(TASKS["activitynet_qa_official"], samples) == pytest.approx(1102 / 8000)
    assert benchmarks.majority(task, samples) is None


def test_activitynet_qa_first_rows_of_the_other_splits(shared: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind in "qa":
            source = real(shared, "activitynet_qa") / f"{split}_{kind}.first200.json"
            shutil.copy(source, tmp_path / f"{split}_{kind}.json")
    counts = benchmarks.check(TASKS["activitynet_qa"], tmp_path)
    assert {split: part["rows"] for split, part in counts["splits"].items()} == {"train": 200, "val": 200}
    assert counts["absent"] == ["test"]


def test_msvd_qa_first_rows(shared: Path, tmp_path: Path) -> None:
    source = real(shared, "msvd_qa") / "derived_official_shape" / "test_qa.first200.json"
    shutil.copy(source, tmp_path / "test_qa.json")
    write(tmp_path, {"video/jfrrO5K_vKM_55_65.avi": b"v"})
    samples = TASKS["msvd_qa"].load(tmp_path, "test")
    assert (len(samples), len({sample.cluster for sample in samples})) == (200, 7)
    assert (samples[0].id, samples[0].label, samples[-1].id) == ("37348", "someone", "37547")
    assert samples[0].media_path == str(tmp_path / "video/jfrrO5K_vKM_55_65.avi")
    assert samples[-1].media_path is None


def rows_folder(folder: Path, name: str, *rows: Any) -> Path:
    """Rows of a benchmark's questions; ActivityNet's are told apart by what stands in them."""
    if name != "activitynet_qa":
        return write(folder, {"test_qa.json": json.dumps(rows)})
    halves = {
        "q": [row if not isinstance(row, dict) else {**row, "answer": None} for row in rows],
        "a": [row for row in rows if isinstance(row, dict)],
    }
    return write(folder, {f"test_{half}.json": json.dumps(some) for half, some in halves.items()})


def row(name: str, number: int, **changed: Any) -> dict[str, Any]:
    if name == "activitynet_qa":
        key = f"v_{number}"
        return {"video_name": "aaa", "question": "q", "question_id": key, "answer": "x", "type": 8} | changed
    return {"answer": "x", "id": number, "question": "q", "video_id": 7} | changed


@pytest.mark.parametrize("name", QA)
def test_questions_end_with_one_mark_and_answers_are_read_by_line(name: str, tmp_path: Path) -> None:
    asked = ["who sings", "who  sings ?", "who sings??", " who\nsings? "]
    some = [row(name, number, question=words, answer=" a man ") for number, words in enumerate(asked)]
    task = TASKS[name]
    samples = task.load(rows_folder(tmp_path, name, *some), "test")
    assert [benchmarks.to_prompt(task, sample) for sample in samples] == ["who sings?"] * 4
    assert {sample.label for sample in samples} == {"a man"}
    assert len({sample.cluster for sample in samples}) == 1
    assert task.parse("\n A man, singing. \nHe sings.") == "A man, singing."


@pytest.mark.parametrize("name", QA)
@pytest.mark.parametrize("changed", [{"question": " "}, {"question": 3}, {"answer": ""}, {"answer": ["x"]}])
def test_questions_refuse_a_malformed_row_with_its_number(
    name: str, changed: dict[str, Any], tmp_path: Path
) -> None:
    folder = rows_folder(tmp_path, name, row(name, 1), row(name, 2, **changed))
    with pytest.raises(UserError, match=rf"json row 2: {next(iter(changed))} is "):
        TASKS[name].load(folder, "test")


@pytest.mark.parametrize("name", QA)
def test_questions_refuse_what_is_no_list_of_rows(name: str, tmp_path: Path) -> None:
    lists = [path for path in TASKS[name].examples[0][0] if path.endswith(".json")]
    for content, message in (
        ("[]", "expected a list of rows"),
        ("{}", "expected a list of rows"),
        ("[3]", r"row 1: found 3"),
        ("[\n[,]\n]", r"json:2: not JSON"),
    ):
        with pytest.raises(UserError, match=message):
            TASKS[name].load(write(tmp_path, dict.fromkeys(lists, content)), "test")


@pytest.mark.parametrize("name", ["msvd_qa", "msrvtt_qa"])
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"id": "1"}, "row 2: id is '1'"),
        ({"id": True}, "row 2: id is True"),
        ({"id": 1}, "'1' is listed twice"),
        ({"video_id": None}, "row 2: video_id is None"),
        ({"video_id": "../7"}, r"row 2: .*inside the benchmark's folder"),
        ({"video_id": -7.5}, "row 2: video_id is"),
    ],
)
def test_ids_are_checked(name: str, changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = rows_folder(tmp_path, name, row(name, 1), row(name, 2, **changed))
    with pytest.raises(UserError, match=message):
        TASKS[name].load(folder, "test")


def test_msvd_clips_are_found_by_number_and_by_name(tmp_path: Path) -> None:
    some = [row("msvd_qa", place, video_id=video) for place, video in enumerate((1, 2, "clip_c", "vid4", 5))]
    folder = rows_folder(tmp_path, "msvd_qa", *some)
    found = dict.fromkeys(("vid1.avi", "clip_b.mp4", "vid3.avi", "clip_d.avi"), b"v")
    write(folder, {f"video/{name}": content for name, content in found.items()})
    mapping = "clip_a vid1\nclip_b vid2\nclip_c vid3\nclip_d vid4\n"
    write(folder, {"youtube_mapping.txt": mapping})
    paths = [sample.media_path for sample in TASKS["msvd_qa"].load(folder, "test")]
    assert [path and Path(path).name for path in paths] == [*found, None]
    for broken, message in (
        ("clip_a 1\n", "mapping.txt:1: found"),
        ("x vid1\n../a vid1\n", "mapping.txt:2: "),
    ):
        write(folder, {"youtube_mapping.txt": broken})
        with pytest.raises(UserError, match=message):
            TASKS["msvd_qa"].load(folder, "test")


def test_msrvtt_keeps_a_category_where_there_is_one(tmp_path: Path) -> None:
    some = [row("msrvtt_qa", 1), row("msrvtt_qa", 2, category_id=9)]
    folder = write(rows_folder(tmp_path, "msrvtt_qa", *some), {"video/video7.mp4": b"v"})
    samples = TASKS["msrvtt_qa"].load(folder, "test")
    assert [sample.fields["category_id"] for sample in samples] == [None, 9]
    assert {sample.media_path for sample in samples} == {str(folder / "video/video7.mp4")}
    rows_folder(tmp_path, "msrvtt_qa", row("msrvtt_qa", 1, category_id="music"))
    with pytest.raises(UserError, match="row 1: category_id is 'music'"):
        TASKS["msrvtt_qa"].load(tmp_path, "test")


def test_activitynet_joins_questions_and_answers_by_id(tmp_path: Path) -> None:
    asked = [{"video_name": "aaa", "question": f"q{n}", "question_id": f"v_{n}"} for n in (1, 2)]
    answered = [{"answer": f"a{n}", "type": n, "question_id": f"v_{n}"} for n in (2, 1)]

    def load(asked: Any, answered: Any) -> list[Sample]:
        files = {"test_q.json": json.dumps(asked), "test_a.json": json.dumps(answered)}
        return activitynet_qa.load(write(tmp_path, files), "test")

    write(tmp_path, {"videos/v_aaa.mp4": b"v"})
    found = load(asked, answered)
    assert [(one.fields["asked"], one.label, one.fields["type"]) for one in found] == [
        ("q1?", "a1", 1),
        ("q2?", "a2", 2),
    ]
    assert found[0].media_path == str(tmp_path / "videos/v_aaa.mp4")
    for questions, answers, message in (
        (asked, answered[1:], r"test_q\.json row 2: 'v_2' has no answer in test_a\.json"),
        (asked[1:], answered, r"test_a\.json: 'v_1' has no question in test_q\.json"),
        (asked, answered * 2, r"test_a\.json row 3: 'v_2' is answered twice"),
        (asked * 2, answered, "'v_1' is listed twice"),
        (asked, [{**answered[0], "type": 9}, answered[1]], r"test_a\.json row 1: type is 9"),
        ([{**asked[0], "video_name": "../a"}, asked[1]], answered, r"test_q\.json row 1: .*inside the"),
    ):
        with pytest.raises(UserError, match=message):
            load(questions, answers)


# ---- the sandbox -------------------------------------------------------------------------------------------

SIZES = {"train": 10, "val": 2, "test": 8}
LAYOUTS = ("hvu", "video_ads", "persuasion", "msvd_qa", "msrvtt_qa", "activitynet_qa")


@pytest.fixture(scope="module")
def drawn_benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    canvas = draw(folder)
    # one film is drawn; the others stand in for themselves as files
    path, film, seed, _ = canvas.videos[0]
    writers.save_video(path, film, seed)
    for other, *_ in canvas.videos[1:]:
        shutil.copy(path, other)
    return folder


def draw(folder: Path) -> Canvas:
    canvas = Canvas(seed=3)
    known = sandbox.discover.find("data.world.layouts", "LAYOUT")
    for name in LAYOUTS:
        known[name](canvas, folder, SIZES)
    return canvas


def sizes_of(task: Task) -> dict[str, int]:
    if task.benchmark == "HVU":
        return {"train": SIZES["train"], "val": SIZES["test"]}
    return SIZES


@pytest.mark.parametrize("name", OURS)
def test_the_sandbox_writes_the_layout_with_all_media(name: str, drawn_benchmarks: Path) -> None:
    task = TASKS[name]
    counts = benchmarks.check(task, drawn_benchmarks / benchmarks.folder_name(task))
    assert counts["absent"] == []
    found = {split: part["rows"] for split, part in counts["splits"].items()}
    if task.benchmark == "Hussain Video Ads":
        assert sum(found.values()) == sum(SIZES.values())
        assert found["test"] >= 4
    else:
        assert found == sizes_of(task)
    assert all(part["media_missing"] == 0 for part in counts["splits"].values())


def test_the_sandbox_writes_the_same_bytes_again(drawn_benchmarks: Path, tmp_path: Path) -> None:
    draw(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 25
    for path in files:
        assert path.read_bytes() == (drawn_benchmarks / path.relative_to(tmp_path)).read_bytes()


def test_no_two_films_of_the_sandbox_are_drawn_from_one_seed(tmp_path: Path) -> None:
    seeds = [seed for _, _, seed, _ in draw(tmp_path).videos]
    assert len(set(seeds)) == len(seeds)
    assert {200 <= seed[1] < 300 for seed in seeds} == {True}


def test_questions_of_the_sandbox_are_about_the_film(drawn_benchmarks: Path) -> None:
    for name in QA:
        task = TASKS[name]
        samples = [
            sample
            for split in task.splits
            for sample in task.load(drawn_benchmarks / benchmarks.folder_name(task), split)
        ]
        assert len({sample.id for sample in samples}) == sum(SIZES.values())
        assert len({sample.cluster for sample in samples}) == 10
        assert all(len(sample.label.split()) == 1 for sample in samples)
        assert len({sample.label for sample in samples}) > 5
    assert task.benchmark == "ActivityNet-QA"
    kinds = {sample.fields["type"] for sample in samples if "place" in sample.fields["asked"]}
    assert kinds == {6}


def test_strategies_of_the_sandbox_follow_from_what_is_seen() -> None:
    def strategies(**changed: Any) -> list[str]:
        plain = {"scene": "office", "action": "sitting", "weather": "sunny", "expression": None}
        plain |= {"event": None, "left": "dog", "right": "cup", "is_contrasty": False}
        return persuasion_layout.strategies(Content(**(plain | changed)))

    assert strategies() == ["Concreteness"]
    assert strategies(weather="foggy", left="crown") == ["Unclear"]
    assert strategies(left="crown", event="match") == ["Scarcity", "Social Proof", "Concreteness"]
    every = {*persuasion_layout.BY_SCENE.values(), "Unclear"}
    for changed in ({"right": "robot", "expression": "smiling"}, {"event": "farewell"}, {"left": "crown"}):
        every |= {*strategies(**changed)}
    assert every | {"Social Proof"} == set(persuasion.LABELS)

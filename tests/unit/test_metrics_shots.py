"""Windows, highlights, texts and grades: hand cases, QVHighlights' shipped numbers, outside libraries."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core.errors import UserError
from behavior_llava.evaluation import moments, text_metrics
from behavior_llava.evaluation.metrics import METRICS, majority, named

MOMENTS = ("moment_map", "moment_map_50", "moment_map_75", "moment_recall_50", "moment_recall_70")
HIGHLIGHTS = tuple(f"highlight_{name}{grade}" for name in ("map", "hit1") for grade in ("", "_good", "_fair"))
TEXTS = ("bleu_4", "rouge_l", "cider", "meteor")


def test_all_are_there_and_higher_is_better() -> None:
    for name in (*MOMENTS, *HIGHLIGHTS, *TEXTS, "judge_grade"):
        metric = METRICS[name]
        assert metric.higher_is_better
        assert metric.per_item == (name not in ("bleu_4", "meteor"))
        # points are of a common scale from 0 to 1
        assert metric.point == (None if name in ("cider", "judge_grade") else 0.01)
        assert metric.constant is None
        assert metric.chance is None
    assert set(text_metrics.IMPLEMENTATIONS) == set(TEXTS)
    assert majority("rouge_l", ["a"]) is None


@pytest.mark.parametrize("name", [*MOMENTS, *HIGHLIGHTS, "bleu_4", "rouge_l", "cider", "judge_grade"])
def test_no_items_have_no_score(name: str) -> None:
    assert named(name).score([], []) is None
    assert len(named(name).columns([], [])) == 0


# ---- windows -----------------------------------------------------------------------------------------------

ONE, TWO = [[0, 10]], [[0, 10], [20, 30]]
MISS = [40.0, 50.0]


@pytest.mark.parametrize(
    ("said", "true", "expected"),
    [
        ([[20, 30, 0.5], [0, 10, 1.0]], TWO, (1.0, 1.0, 1.0, 1.0, 1.0)),
        # half of the union: right at 0.5 alone, one threshold of ten
        ([[0, 5, 1.0]], ONE, (0.1, 1.0, 0.0, 1.0, 0.0)),
        # 0.75: right at 0.5, 0.55, ..., 0.75
        ([[0, 7.5, 1.0]], ONE, (0.6, 1.0, 1.0, 1.0, 1.0)),
        # said twice: the second has no true one left, half of the true ones are missed
        ([[0, 10, 1.0], [0, 10, 0.9]], TWO, (0.5, 0.5, 0.5, 1.0, 1.0)),
        # the first misses: precision 1/2 where the true one is found
        ([[*MISS, 1.0], [0, 10, 0.9]], ONE, (0.5, 0.5, 0.5, 0.0, 0.0)),
        # ranked by score, so nothing is lost; the one given first misses all the same
        ([[*MISS, 0.1], [0, 10, 0.9]], ONE, (1.0, 1.0, 1.0, 0.0, 0.0)),
        # hit, miss, hit: (1 + 2/3) / 2
        ([[0, 10, 1.0], [*MISS, 0.9], [20, 30, 0.8]], TWO, (5 / 6, 5 / 6, 5 / 6, 1.0, 1.0)),
        # miss, hit, hit: 2/3 at full recall is better than 1/2 at half of it, and counts for both
        ([[*MISS, 1.0], [0, 10, 0.9], [20, 30, 0.8]], TWO, (2 / 3, 2 / 3, 2 / 3, 0.0, 0.0)),
        ([], ONE, (0.0,) * 5),
        (None, ONE, (0.0,) * 5),
    ],
)
def test_windows_by_hand(said: Any, true: Any, expected: tuple[float, ...]) -> None:
    for name, value in zip(MOMENTS, expected, strict=True):
        assert named(name).score([said], [true]) == pytest.approx(value), name


def test_an_unparsed_answer_stays_in_the_count() -> None:
    assert named("moment_map").score([[[0, 10, 1.0]], None], [ONE, ONE]) == 0.5


def test_ten_windows_are_looked_at() -> None:
    true = [[20 * number, 20 * number + 10] for number in range(12)]
    said = [[*window, 1 / place] for place, window in enumerate(true, 1)]
    assert named("moment_map").score([said], [true]) == pytest.approx(10 / 12)


def test_a_window_takes_the_true_one_it_overlaps_most() -> None:
    # [0, 10] overlaps [2, 12] by 8/12 and [0, 9] by 9/10; were [2, 12] taken, [3, 13] would have none.
    said, true = [[0, 10, 1.0], [3, 13, 0.9]], [[2, 12], [0, 9]]
    assert named("moment_map_50").score([said], [true]) == 1.0


# ---- highlights --------------------------------------------------------------------------------------------

GRADED = {"duration": 8, "clips": [0, 1, 2], "scores": [[4, 4, 0], [4, 3, 0], [1, 0, 0]]}
"""Four clips, the last not graded; the third annotator finds nothing."""


@pytest.mark.parametrize(
    ("said", "very_good", "good", "hit"),
    [
        # first annotator clips 0 and 1, second clip 0 (of grade 3: 0 and 1), third none, which is 0
        ([3, 2, 1, 0], 2 / 3, 2 / 3, 1.0),
        # cut to four clips
        ([3, 2, 1, 0, 9], 2 / 3, 2 / 3, 1.0),
        # clip 3 first, then three at once: precision 2/4, 1/4 and 0; of grade 3: 2/4, 2/4 and 0
        ([0, 0, 0, 1], 0.25, 1 / 3, 0.0),
        # filled with 0: clip 0 first (1), then the rest at once (2/4): 3/4; second 1; of grade 3: 3/4 twice
        ([3], 1.75 / 3, 0.5, 1.0),
        # miss (0), hit 1/2, hit 2/3: the best from there on is 2/3, twice; second: 2nd place, 1/2
        ([3, 2, 0, 4], (2 / 3 + 1 / 2) / 3, (2 / 3 + 2 / 3) / 3, 0.0),
        # all alike: found at once; of equals the first clip is the top
        ([0, 0, 0, 0], (0.5 + 0.25) / 3, (0.5 + 0.5) / 3, 1.0),
        (None, 0.0, 0.0, 0.0),
    ],
)
def test_highlights_by_hand(said: Any, very_good: float, good: float, hit: float) -> None:
    assert named("highlight_map").score([said], [GRADED]) == pytest.approx(very_good)
    assert named("highlight_map_good").score([said], [GRADED]) == pytest.approx(good)
    assert named("highlight_hit1").score([said], [GRADED]) == hit


def test_grades_tell_the_variants_apart() -> None:
    label = {"duration": 5, "clips": [0, 1], "scores": [[2, 2, 2], [3, 3, 3]]}
    found = {name: named(name).score([[1, 0]], [label]) for name in HIGHLIGHTS}
    # two clips of 2 seconds; nothing is of grade 4, clip 1 of grade 3 comes second, all are of grade 2
    assert found == {
        "highlight_map": 0.0,
        "highlight_map_good": 0.5,
        "highlight_map_fair": 1.0,
        "highlight_hit1": 0.0,
        "highlight_hit1_good": 0.0,
        "highlight_hit1_fair": 1.0,
    }


# ---- QVHighlights' own numbers -----------------------------------------------------------------------------


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_shipped_predictions_have_the_shipped_numbers(shared: Path) -> None:
    folder = shared / "benchmarks" / "data" / "qvhighlights"
    if not folder.is_dir():
        pytest.skip("no QVHighlights among the real samples")
    truth = {row["qid"]: row for row in rows_of(folder / "highlight_val_release.jsonl")}
    said = rows_of(folder / "standalone_eval" / "sample_val_preds.jsonl")
    shipped = json.loads((folder / "standalone_eval/sample_val_preds_metrics_raw.json").read_text("utf-8"))
    true = [truth[row["qid"]] for row in said]
    windows = [row["relevant_windows"] for row in true]
    grades = [
        {"duration": row["duration"], "clips": row["relevant_clip_ids"], "scores": row["saliency_scores"]}
        for row in true
    ]

    def percent(scores: Any) -> float:
        return round(100 * float(np.mean(scores)), 2)

    for name, key in {
        "moment_map": "MR-full-mAP",
        "moment_map_50": "MR-full-mAP@0.5",
        "moment_map_75": "MR-full-mAP@0.75",
        "moment_recall_50": "MR-full-R1@0.5",
        "moment_recall_70": "MR-full-R1@0.7",
    }.items():
        answers = [row["pred_relevant_windows"] for row in said]
        assert percent(named(name).score(answers, windows)) == shipped["brief"][key]
    for grade, suffix in {"Fair": "_fair", "Good": "_good", "VeryGood": ""}.items():
        answers = [row["pred_saliency_scores"] for row in said]
        found = [
            percent(named(f"highlight_{kind}{suffix}").score(answers, grades)) for kind in ("map", "hit1")
        ]
        own = shipped[f"HL-min-{grade}"]
        assert found == [own["HL-mAP"], own["HL-Hit1"]]
    answers = [row["pred_relevant_windows"] for row in said]
    for iou in moments.IOUS:
        key = str(round(iou, 2))
        assert percent(moments.average_precisions(answers, windows, (iou,))) == shipped["full"]["MR-mAP"][key]
        assert percent(moments.first_hits(answers, windows, iou)) == shipped["full"]["MR-R1"][key]


# ---- texts by hand -----------------------------------------------------------------------------------------

SAT = "The cat sat on the mat."


def test_words_are_runs_of_letters_and_digits_in_lower_case() -> None:
    assert text_metrics.words("Don't  ÜBER-multi_shot 3.5!\n") == [
        "don",
        "t",
        "über",
        "multi",
        "shot",
        "3",
        "5",
    ]


def test_bleu_by_hand() -> None:
    bleu = named("bleu_4")
    # "the" counts once: 5/6; then 3/5, 2/4 and 1/3: 1/12 in all
    assert bleu.score([SAT], ["the cat sat on a mat"]) == pytest.approx((1 / 12) ** 0.25, abs=1e-8)
    # nothing said adds six words to the reference alone: half as long is exp(1 - 2)
    both = ["the cat sat on a mat", "a b c d e f"]
    assert bleu.score([SAT, None], both) == pytest.approx((1 / 12) ** 0.25 / math.e, abs=1e-8)
    # another reference has "the" twice, and "on the", "the mat", and all longer runs
    assert bleu.score([SAT], [["the cat sat on a mat", SAT]]) == pytest.approx(1.0, abs=1e-8)
    assert bleu.score([None], [SAT]) == 0.0
    assert bleu.score([""], [SAT]) == 0.0


def test_bleu_takes_the_closest_reference_of_equals_the_shorter() -> None:
    columns = text_metrics.bleu_columns(["a b c", "a b c"], [["x y", "x y z w"], ["x", "x y z w"]])
    assert columns[:, 1].tolist() == [2, 4]


@pytest.mark.parametrize(
    ("said", "true", "expected"),
    [
        # 3 of 3 and 3 of 6 words: 2.44 * 0.5 / (0.5 + 1.44)
        ("The cat sat!", "the cat on the mat sat", 1.22 / 1.94),
        # in the other order only one is common: 1/2 and 1/2
        ("b a", "a b", 0.5),
        # the best precision is of the first, the best recall of the second
        ("a b", ["a b c d", "a"], 1.0),
        ("x", "a b", 0.0),
        ("...", "a b", 0.0),
        (None, "a b", 0.0),
    ],
)
def test_rouge_by_hand(said: Any, true: Any, expected: float) -> None:
    assert named("rouge_l").score([said], [true]) == pytest.approx(expected)
    assert named("rouge_l").score([said, "z"], [true, "z"]) == pytest.approx((expected + 1) / 2)


def test_cider_by_hand() -> None:
    cider = named("cider")
    labels = ["a b c d", "e f g h"]
    assert cider.score(labels, labels) == pytest.approx(10.0)
    assert cider.score(["a b c d", None], labels) == pytest.approx(5.0)
    # "x" is as rare as the others. Of 4, 3, 2 and 1 runs 3, 2, 1 and 0 are common: (3/4 + 2/3 + 1/2) / 4
    assert cider.score(["a b c x", "e f g h"], labels) == pytest.approx(5 * (1 + (3 / 4 + 2 / 3 + 1 / 2) / 4))
    # a word of all references counts nothing: "b c d" are 3 of 3, and the runs are as they were
    assert cider.score(["z b c d", "q"], ["a b c d", "a f g h"]) == pytest.approx(
        10 * (3 / math.sqrt(3 * 4) + 2 / 3 + 1 / 2) / 4 / 2
    )
    # three runs of two words more: exp(-9 / 72) of what is common. Words 4 of sqrt(4 * 7), and so on
    longer = cider.score(["a b c d x y z", "e f g h"], labels)
    common = (4 / math.sqrt(4 * 7) + 3 / math.sqrt(3 * 6) + 2 / math.sqrt(2 * 5) + 1 / math.sqrt(1 * 4)) / 4
    assert longer == pytest.approx(5 * (1 + common * math.exp(-9 / 72)))
    # nothing is rare among one
    assert cider.score(["a b c d"], ["a b c d"]) is None


METEOR_ROW = [8, 6, 5, 3, 2, 2, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 3, 4, 4]
"""What the jar says of "a cat is sitting on a mat ." and "the cat sat on the mat", and scores 0.33133."""


def test_meteor_by_hand() -> None:
    # exact: 2 of content and 1 function word; one synonym at 0.8
    met = 0.75 * 2 + 0.25 * 1 + 0.8 * 0.75
    precision, recall = met / (0.75 * 3 + 0.25 * 5), met / (0.75 * 3 + 0.25 * 3)
    mean = 1 / (0.15 / precision + 0.85 / recall)
    expected = mean * (1 - 0.6 * (3 / 4) ** 0.2)
    assert expected == pytest.approx(0.33132897856071164)
    row = np.array([METEOR_ROW], dtype=np.float64)
    assert text_metrics.meteor(row, np.ones((1, 1)))[0] == pytest.approx(expected)
    silent = np.zeros((1, 23))
    silent[0, [1, 3]] = 6, 3
    assert text_metrics.meteor(silent, np.ones((1, 1)))[0] == 0.0
    assert math.isnan(text_metrics.meteor(row, np.zeros((1, 1)))[0])


@pytest.mark.parametrize(("missing", "named_so"), [("_jar", "pycocoevalcap"), ("_java", "Java")])
def test_meteor_says_what_to_install(monkeypatch: pytest.MonkeyPatch, missing: str, named_so: str) -> None:
    monkeypatch.setattr(text_metrics, "_jar", lambda: Path("meteor-1.5.jar"))
    monkeypatch.setattr(text_metrics, "_java", lambda: "java")
    assert text_metrics.has_meteor()
    monkeypatch.setattr(text_metrics, missing, lambda: None)
    assert not text_metrics.has_meteor()
    with pytest.raises(UserError, match=rf"METEOR needs {named_so}.*behavior-llava\[captions\]"):
        named("meteor").score(["a"], ["a"])


@pytest.mark.parametrize("label", ["", "...", [], ["a", " "]])
@pytest.mark.parametrize("name", ["bleu_4", "rouge_l", "cider"])
def test_a_reference_without_words_is_a_fault(name: str, label: Any) -> None:
    with pytest.raises(ValueError, match="without words"):
        named(name).score(["a", "a"], ["a", label])


# ---- grades ------------------------------------------------------------------------------------------------


def test_grades_by_hand() -> None:
    grade = named("judge_grade")
    labels = ["described"] * 3
    assert grade.score([{"grade": 7}, {"grade": 10}, {"grade": 1}], labels) == 6.0
    # what could not be read is 0 and stays in the count
    assert grade.score([{"grade": 7}, None, {"grade": 2}], labels) == 3.0
    for wrong in (0, 11, -1):
        with pytest.raises(ValueError, match="not within 1 to 10"):
            grade.score([{"grade": wrong}], ["described"])
    with pytest.raises(ValueError, match="one for each label"):
        grade.score([{"grade": 1}], labels)


# ---- weights, and outside implementations ------------------------------------------------------------------

texts = st.lists(st.sampled_from("a b c d the".split()), min_size=1, max_size=9).map(" ".join)
weights = st.integers(0, 3)
windows = st.lists(
    st.tuples(st.integers(0, 20), st.integers(1, 10), st.integers(0, 3)).map(
        lambda drawn: [drawn[0], drawn[0] + drawn[1], drawn[2] / 3]
    ),
    min_size=1,
    max_size=4,
)
graded = st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=4).map(
    lambda scores: {"duration": 8, "clips": [*range(len(scores))], "scores": scores}
)


def weights_equal_repetition(name: str, rows: list[tuple[Any, Any, int]], *, anew: bool = True) -> None:
    """A weight of w gives exactly what the item standing there w times gives."""
    metric = named(name)
    predictions, labels, counts = ([row[part] for row in rows] for part in range(3))
    columns_NF = metric.columns(predictions, labels)
    value = metric.weighted(columns_NF, np.array(counts, dtype=np.float64)[:, None])[0]
    places = np.repeat(np.arange(len(rows)), counts)
    repeated = [predictions[place] for place in places], [labels[place] for place in places]
    columns_RF = metric.columns(*repeated) if anew else columns_NF[places]
    expected = metric.weighted(columns_RF, np.ones((len(places), 1)))[0]
    assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


@given(
    st.lists(
        st.tuples(st.none() | texts, texts | st.lists(texts, min_size=1, max_size=3), weights), min_size=1
    )
)
@settings(deadline=None)
def test_weights_of_texts_equal_repetition(rows: list[tuple[Any, Any, int]]) -> None:
    weights_equal_repetition("bleu_4", rows)
    weights_equal_repetition("rouge_l", rows)
    # how rare a run of words is stays that of all references
    weights_equal_repetition("cider", rows, anew=False)


@given(
    st.lists(
        st.tuples(st.none() | windows, windows.map(lambda some: [one[:2] for one in some]), weights),
        min_size=1,
    )
)
@settings(deadline=None)
def test_weights_of_windows_equal_repetition(rows: list[tuple[Any, Any, int]]) -> None:
    for name in MOMENTS:
        weights_equal_repetition(name, rows)


@given(st.lists(st.tuples(st.none() | st.lists(st.integers(0, 4), max_size=6), graded, weights), min_size=1))
@settings(deadline=None)
def test_weights_of_highlights_equal_repetition(rows: list[tuple[Any, Any, int]]) -> None:
    for name in HIGHLIGHTS:
        weights_equal_repetition(name, rows)


@given(st.lists(st.tuples(st.lists(st.integers(0, 9), min_size=23, max_size=23), weights), min_size=1))
@settings(deadline=None)
def test_weights_of_meteor_equal_repetition(rows: list[tuple[list[int], int]]) -> None:
    columns_NF = np.array([numbers for numbers, _ in rows], dtype=np.float64)
    columns_NF[:, :2] += columns_NF[:, 2:4]
    counts = np.array([count for _, count in rows])
    value = text_metrics.meteor(columns_NF, counts[:, None].astype(np.float64))
    repeated_NF = np.repeat(columns_NF, counts, axis=0)
    expected = text_metrics.meteor(repeated_NF, np.ones((len(repeated_NF), 1)))
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_common_words_equal_the_usual_table(first: list[str], second: list[str]) -> None:
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    for row, one in enumerate(first, 1):
        for place, other in enumerate(second, 1):
            table[row, place] = (
                table[row - 1, place - 1] + 1
                if one == other
                else max(table[row - 1, place], table[row, place - 1])
            )
    assert text_metrics._common(first, second) == table[-1, -1]


WORDS = (
    "the a cat dog dogs sits sitting sat on mat of quick quickly runs house home big large and with".split()
)


def corpus(seed: int, *, shortest: int = 1) -> tuple[list[str], list[list[str]]]:
    """Texts that share words with their references, one of them none and one all."""
    rng = np.random.default_rng(seed)

    def text() -> str:
        return " ".join(rng.choice(WORDS, size=rng.integers(shortest, 14)))

    references = [[text() for _ in range(rng.integers(1, 4))] for _ in range(30)]
    said = []
    for some in references:
        words = some[-1].split()
        for place in rng.integers(0, len(words), size=3):
            words[place] = str(rng.choice(WORDS))
        said.append(" ".join(words))
    return ["", references[1][0], *said[2:]], references


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("name", "module", "scorer"),
    [("bleu_4", "bleu.bleu", "Bleu"), ("rouge_l", "rouge.rouge", "Rouge"), ("cider", "cider.cider", "Cider")],
)
def test_texts_equal_pycocoevalcap(name: str, module: str, scorer: str, seed: int) -> None:
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed (behavior-llava[captions])")
    said, references = corpus(seed)
    library = getattr(importlib.import_module(f"pycocoevalcap.{module}"), scorer)()
    given_to_it = dict(enumerate(references)), {number: [text] for number, text in enumerate(said)}
    whole, of_items = library.compute_score(*given_to_it, **({"verbose": 0} if name == "bleu_4" else {}))
    expected = whole[3] if name == "bleu_4" else whole
    assert named(name).score(said, references) == pytest.approx(expected, abs=1e-12)
    if METRICS[name].per_item:
        np.testing.assert_allclose(named(name).columns(said, references)[:, 0], of_items, atol=1e-12)


@pytest.mark.slow
def test_meteor_equals_pycocoevalcap_in_every_resample() -> None:
    """The jar adds up and scores resamples itself; one of them is the whole corpus, as the library's."""
    jar, java = text_metrics._jar(), text_metrics._java()
    if jar is None or java is None:
        pytest.skip("pycocoevalcap or Java is not installed (behavior-llava[captions])")
    said, references = corpus(0)
    pairs = [" ||| ".join(["SCORE", *some, text]) for some, text in zip(references, said, strict=True)]
    raw = text_metrics._run(java, jar, pairs)
    rng = np.random.default_rng(0)
    resamples = [np.arange(30), *(rng.integers(0, 30, size=30) for _ in range(10)), *np.arange(30)[:, None]]
    told = text_metrics._run(
        java, jar, [" ||| ".join(["EVAL", *(raw[place] for place in places)]) for places in resamples]
    )
    ends = np.cumsum([len(places) + 1 for places in resamples]) - 1
    weights_ND = np.stack([np.bincount(places, minlength=30) for places in resamples], axis=1)
    columns_NF = text_metrics.meteor_columns(said, references)
    found = text_metrics.meteor(columns_NF, weights_ND.astype(np.float64))
    np.testing.assert_allclose(found, [float(told[end]) for end in ends], atol=1e-12)
    assert named("meteor").score(said, references) == pytest.approx(found[0])
    assert named("meteor").score([None, "über ||| café\n x"], ["a b", ["über café x"]]) > 0.5

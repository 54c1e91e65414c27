"""The page loads nothing, escapes everything, says "synthetic", shows chance beside numbers, draws charts."""

import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from behavior_llava.data import arms
from behavior_llava.evaluation.summary import Config, summarize
from behavior_llava.reporting import charts, tables
from behavior_llava.reporting.content import BehaviorScore, PageContent, SampleAnswer, SampleRow
from behavior_llava.reporting.page import duration, render, write_page

HOSTILE = "</td><script>alert('x')</script><img src=x onerror=alert(1)>\"'{{ 7*7 }}$&\x00"

ARMS = ["base", "content_only", "shuffled", "behavior", "only_comments"]
TASKS = {"emotion": "accuracy", "topic": "accuracy", "memorability": "spearman", "likes": "mse"}


def make_rows(names=TASKS, seeds=(0, 1), n=40):
    """`behavior` is nearly always right, the others mostly wrong; content_only's memorability is constant."""
    found = []
    for name, metric in names.items():
        for arm in ARMS:
            for seed in (0,) if arm == "base" else seeds:
                for item in range(n):
                    label = item % 4 if metric == "accuracy" else float(item)
                    is_right = item % 10 != seed if arm == "behavior" else (item + seed) % 5 == 0
                    prediction = label if is_right else (9 if metric == "accuracy" else float(item * 7 % 11))
                    if name == "memorability" and arm == "content_only":
                        prediction = 1.0
                    found.append(
                        {
                            "benchmark": "bench",
                            "task": name,
                            "metric": metric,
                            "setting": "zero_shot",
                            "arm": arm,
                            "seed": seed,
                            "label_fraction": None,
                            "shots": 0,
                            "scoring": "sum",
                            "primary": True,
                            "sample_id": f"s{item}",
                            "cluster": f"m{item}",
                            "prediction": None if arm == "base" and item == 3 else json.dumps(prediction),
                            "label": json.dumps(label),
                            "group": "unseen_combination" if item < 10 else None,
                        }
                    )
    return found


def make_tasks(names=TASKS):
    return {
        name: {
            "benchmark": "bench",
            "metric": metric,
            "modality": "image",
            "chance": 0.2468 if metric == "accuracy" else None,
            "majority": 0.1357 if metric == "accuracy" else None,
            "low_level": name == "topic",
            "published": None,
            "higher_is_better": metric != "mse",
            "listed": 50,
        }
        for name, metric in names.items()
    }


def make_summary(names=TASKS, **fields):
    return summarize(make_rows(names, **fields), make_tasks(names), ARMS, Config(draws=200, flips=2000))


@pytest.fixture(scope="module")
def summary():
    return make_summary()


def picture(size=(640, 480)):
    buffer = io.BytesIO()
    Image.new("RGB", size, (10, 90, 160)).save(buffer, "PNG")
    return buffer.getvalue()


def make_content(summary, **fields):
    def survivors(table, rows_in, kept):
        return {
            "filter": "nsfw",
            "table": table,
            "rows_in": rows_in,
            "kept": kept,
            "dropped": rows_in - kept,
            "pooled": None,
        }

    known = {
        "title": "demo",
        "summary": summary,
        "tasks": make_tasks(),
        "config_text": "seed: 0\n",
        "survivors": {"sandbox": [survivors("posts", 100, 80), survivors("comments", 900, 700)]},
        "faults": {"json_broken": 2},
        "losses": {("behavior", 0): [(0, 3.0), (10, 2.0)], ("shuffled", 0): [(0, 3.0), (10, float("nan"))]},
        "behavior_scores": [
            BehaviorScore(arm="behavior", metric="R2 of likes", value=None, baseline=0.0, n=9)
        ],
        "samples": [
            SampleRow(
                task="emotion",
                sample_id="s1",
                question="Which emotion?",
                label="awe",
                media_kind="image",
                pictures=[picture(), b"not a picture"],
                context="a story",
                answers=[
                    SampleAnswer(arm="base", text="no idea", is_parsed=False),
                    SampleAnswer(arm="behavior", text="awe", is_right=True),
                ],
            )
        ],
        "agreement": {"likes": None},
        "costs": {"collect": 3.2, "train": 4000.0},
    }
    return PageContent(**{**known, **fields})


class Tags(HTMLParser):
    """Every tag with its attributes, and the text outside tags."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join("".join(self.words).split())


def line_of(page, task):
    """The first table line of a task."""
    return re.findall(rf'<tr>\s*<th scope="row">{task}<small>.*?</tr>', page, flags=re.S)[0]


def test_page_loads_nothing_from_anywhere(summary):
    page = render(make_content(summary))
    found = Tags(page).tags
    assert not {"script", "link", "iframe", "object", "embed", "form", "base"} & {tag for tag, _ in found}
    addresses = [
        attrs[name]
        for _, attrs in found
        for name in ("src", "href", "srcset", "poster", "data")
        if name in attrs
    ]
    assert len(addresses) > 10
    assert all(one.startswith(("#", "data:image/jpeg;base64,")) for one in addresses)
    assert not re.search(r"https?://|@import|url\((?!#)", page)
    policy = [attrs for tag, attrs in found if tag == "meta" and attrs.get("http-equiv")]
    assert policy[0]["content"].startswith("default-src 'none'; img-src data:;")


def test_hostile_text_is_shown_and_never_run(summary):
    sample = SampleRow(
        task=HOSTILE,
        sample_id=HOSTILE,
        question=HOSTILE,
        label=HOSTILE,
        media_kind="video",
        context=HOSTILE,
        answers=[SampleAnswer(arm=HOSTILE, text=HOSTILE)],
    )
    row = {"filter": HOSTILE, "table": "posts", "rows_in": 3, "kept": 1, "dropped": 2, "pooled": 1}
    content = make_content(
        summary,
        title=HOSTILE,
        config_text=HOSTILE,
        survivors={HOSTILE: [row]},
        faults={HOSTILE: 1},
        losses={(HOSTILE, 0): [(0, 1.0)]},
        samples=[sample],
        agreement={HOSTILE: 0.1},
        costs={HOSTILE: 1.0},
        notes=[HOSTILE],
    )
    found = Tags(render(content))
    assert "script" not in {tag for tag, _ in found.tags}
    assert not [attrs for _, attrs in found.tags if any(name.startswith("on") for name in attrs)]
    assert not [tag for tag, attrs in found.tags if attrs.get("src") == "x"]
    assert found.text.count("<script>alert('x')</script>") >= 10
    assert "{{ 7*7 }}" in found.text


def test_hostile_task_names_are_safe_in_charts():
    names = {
        HOSTILE: "accuracy",
        "$\\frac{a}{b": "accuracy",
        "_hidden #010101": "accuracy",
        "好き": "spearman",
    }
    content = make_content(make_summary(names), tasks=make_tasks(names))
    found = Tags(render(content))
    assert "script" not in {tag for tag, _ in found.tags}
    assert found.text.count("_hidden #010101") >= 4
    assert found.text.count("好き") >= 4


def test_synthetic_is_said_only_where_it_applies(summary):
    assert "synthetic" not in Tags(render(make_content(summary))).text.lower()
    for page in (
        render(make_content(summary, synthetic=True)),
        render(make_content({**summary, "synthetic": True})),
    ):
        text = Tags(page).text
        assert "Synthetic data" in text
        assert "positive control by construction" in text
        assert "does not test the paper's claim about the world" in text


def test_chance_majority_and_unparsed_stand_beside_the_numbers(summary):
    page = render(make_content(summary))
    words = Tags(line_of(page, "emotion")).text
    assert "0.247" in words
    assert "0.136" in words
    assert "coverage 80.0 %" in words
    assert "unparsed 2.5 %" in words
    assert words.count("[") == len(ARMS)


def test_sections_come_in_order_and_tables_have_captions(summary):
    page = render(make_content(summary))
    heads = re.findall(r"<h2[^>]*>([^<]+)", page)
    assert heads == [
        *("Headline: relative gain over the base", "What was compared", "Results", "Differences"),
        *("Test samples in training data", "Low-level tasks", "Ablations and learning curves", "Charts"),
        *("Training", "Data lineage", "What the filters left", "Predicting behavior", "Samples", "Cost"),
        "Config",
    ]
    assert page.index('class="claim"') < page.index("<h2")
    found = Tags(page).tags
    assert len([tag for tag, _ in found if tag == "table"]) == len(
        [tag for tag, _ in found if tag == "caption"]
    )
    assert all(attrs.get("scope") in ("row", "col") for tag, attrs in found if tag == "th")
    assert all(attrs.get("alt") for tag, attrs in found if tag == "img")
    ids = [attrs["id"] for _, attrs in found if "id" in attrs]
    assert len(ids) == len(set(ids))


FACTS = {
    "tasks": {"emotion": {"samples": 40, "hits": 0}, "topic": {"samples": 40, "hits": 0}},
    "media": 1234,
    "texts": 20,
    "training_media": 5,
    "training_rows": 70,
    "plain": {"benchmark": 0, "training": 3},
    "unreadable": {"benchmark": {}, "training": {}},
    "short_texts": 0,
}


def test_page_says_what_was_looked_for_in_training_data(summary):
    assert "Nobody looked whether" in Tags(render(make_content(summary))).text
    page = Tags(render(make_content(summary, contamination={"": FACTS}))).text
    said = "No hit among 1,234 media and 20 texts of the test splits, against 5 media and 70 rows"
    assert said in page
    assert "Not compared" not in page
    untold = {"benchmark": {"image_broken": 1}, "training": {"media_missing": 2, "video_broken": 1}}
    facts = {**FACTS, "unreadable": untold, "short_texts": 6, "plain": {"benchmark": 7, "training": 0}}
    page = Tags(render(make_content(summary, contamination={"": facts}))).text
    assert "Not compared: 4 media could not be read; 7 test media have too little" in page
    assert "6 texts have too few words" in page


def test_page_shows_scores_with_and_without_hits():
    hits = {"emotion": [f"s{item}" for item in range(0, 40, 5)], "topic": [f"s{item}" for item in range(40)]}
    checked = summarize(make_rows(), make_tasks(), ARMS, Config(draws=200, flips=2000), contaminated=hits)
    facts = {**FACTS, "tasks": {"emotion": {"samples": 40, "hits": 8}, "topic": {"samples": 40, "hits": 40}}}
    page = render(make_content(checked, contamination={"": facts}))
    part = page[page.index('id="contamination"') : page.index('id="low-level"')]
    assert "48 test samples are hits" in part
    lines = [Tags(line).text for line in re.findall(r'<tr><th scope="row">.*?</tr>', part, flags=re.S)]
    assert len(lines) == 2 * len(ARMS)
    for arm in ARMS:
        rows = [
            next(
                row
                for row in checked[where]
                if (row["task"], row["arm"], row["seed"]) == ("emotion", arm, None)
            )
            for where in ("results", "without_contamination")
        ]
        with_hits, without = (f"{tables.number(row['value'])}" for row in rows)
        (line,) = [line for line in lines if line.startswith("emotion") and f"40{arm}" in line]
        assert line.startswith("emotionaccuracy8 of 40")
        assert line.index(with_hits) < line.rindex(without)
        (line,) = [line for line in lines if line.startswith("topic") and f"40{arm}" in line]
        assert "40 of 40" in line
        assert "undefined" in line


def test_every_chart_is_there_and_says_what_it_shows(summary):
    found = Tags(render(make_content(summary))).tags
    labels = [attrs["aria-label"] for tag, attrs in found if tag == "svg"]
    kinds = [label.split()[0] for label in labels]
    assert kinds == ["Heat", "Radar", "Forest", "Training", "Bars", "Bars"]
    assert all(attrs["role"] == "img" for tag, attrs in found if tag == "svg")


def test_what_was_measured_while_training_has_a_curve_each(summary):
    """Of the arms it was measured of; hostile names stay text."""
    tracked = {
        ("base", 0): [(5, {"accuracy": 0.5})],
        ("behavior", 0): [(5, {"accuracy": 0.25, "<b>R²": None}), (10, {"accuracy": 0.75, "<b>R²": 0.1})],
    }
    page = render(make_content(summary, tracked=tracked))
    found = Tags(page).tags
    labels = [attrs["aria-label"] for tag, attrs in found if tag == "svg"]
    assert labels[4:6] == [f"{name} over the steps of training." for name in ("accuracy", "<b>R²")]
    assert "Measured while training" in page
    assert "<b>R²" not in page
    shown = page[page.index("Measured while training") :]
    of_r2 = shown[shown.index("&lt;b&gt;R²</h3>") : shown.index("Last loss of every run")]
    assert "behavior" in of_r2
    assert "base" not in of_r2
    assert "Measured while training" not in render(make_content(summary))


def test_undefined_is_a_word_and_not_a_zero(summary):
    page = render(make_content(summary))
    cells = re.findall(r'<td class="num[^"]*">\s*<span class="value">([^<]+)', line_of(page, "memorability"))
    assert cells[1] == "undefined"
    assert "R2 of likes" in page
    assert "picture 2 cannot be read (UnidentifiedImageError)" in page


def test_same_content_gives_the_same_bytes(tmp_path, summary):
    content = make_content(summary, synthetic=True)
    first = write_page(tmp_path / "a", content)
    second = write_page(tmp_path / "b" / "c", content)
    assert first.name == "index.html"
    assert first.read_bytes() == second.read_bytes()


def test_pictures_are_small_jpegs(tmp_path, summary):
    path = tmp_path / "photo.png"
    path.write_bytes(picture((1000, 2000)))
    row = SampleRow(
        task="t", sample_id="s", question="q", label="l", answers=[], pictures=[path], media_kind="image"
    )
    (image,) = [
        attrs for tag, attrs in Tags(render(make_content(summary, samples=[row]))).tags if tag == "img"
    ]
    assert image["src"].startswith("data:image/jpeg;base64,")
    assert (image["width"], image["height"]) == ("80", "160")


def test_a_page_without_anything_claims_nothing():
    empty = {"schema": 1, "arms": [], "results": [], "differences": []}
    text = Tags(render(PageContent(title="t", summary=empty, tasks={}, config_text=""))).text
    assert "Nothing was evaluated, so there is nothing to claim." in text


def test_claim_counts_tasks_that_beat_both_controls(summary):
    (claim,) = tables.claims(summary)
    # memorability has an undefined difference to content_only: it cannot be won, and stays in n.
    assert claim.tasks == ("emotion", "likes", "memorability", "topic")
    assert claim.won == ("emotion", "likes", "topic")
    assert claim.won_over["shuffled"] == ("emotion", "likes", "memorability", "topic")
    assert "on 3 of 4 tasks after Holm" in claim.sentence
    assert "each of 2 seeds" in claim.sentence


def changed(summary, **fields):
    """The summary with fields of the emotion row of behavior against shuffled, seed 1, replaced."""
    names = {"task": "emotion", "arm": "behavior", "against": "shuffled", "seed": fields.pop("of_seed", 1)}
    rows = [
        {**row, **fields} if all(row[name] == value for name, value in names.items()) else row
        for row in summary["differences"]
    ]
    return {**summary, "differences": rows}


@pytest.mark.parametrize(
    "fields",
    [
        {"low": -0.01},
        {"low": None, "high": None},
        {"of_seed": None, "p_holm": 0.06},
        {"of_seed": None, "p_holm": None},
    ],
)
def test_one_weak_seed_or_p_takes_the_claim_away(summary, fields):
    (claim,) = tables.claims(changed(summary, **fields))
    assert claim.won == ("likes", "topic")
    assert claim.lost == ()


def test_losing_is_said(summary):
    rows = [
        {**row, "low": -0.3, "high": -0.1}
        if row["task"] == "emotion" and row["against"] == "shuffled"
        else row
        for row in summary["differences"]
    ]
    (claim,) = tables.claims({**summary, "differences": rows})
    assert claim.lost == ("emotion",)
    assert "Worse than a control: emotion." in claim.details


def test_a_seed_a_control_lacks_cannot_be_won(summary):
    """`behavior` has seeds 0 and 1; the claim says "each of 2 seeds", so both must have met the control."""
    rows = [
        row
        for row in summary["differences"]
        if not (row["task"] == "emotion" and row["against"] == "shuffled" and row["seed"] == 1)
    ]
    fewer = {**summary, "differences": rows}
    (claim,) = tables.claims(fewer)
    assert claim.won == ("likes", "topic")
    (table,) = tables.difference_tables(fewer)
    verdicts = {(line["task"], line["against"]): line["verdict"] for line in table["lines"]}
    assert verdicts["emotion", "shuffled"] == "better in 1 of 2 seeds"
    assert verdicts["topic", "shuffled"] == "better"


def test_how_many_media_it_would_take_stands_beside_what_is_not_shown(summary):
    unclear = {"low": -0.02, "high": 0.3, "n_clusters": 40, "of_seed": None}
    page = Tags(render(make_content(changed(summary, media_needed=1851, **unclear)))).text
    assert "not shown about 1,900 media to see 2 points; there were 40" in page
    for needed in (None, 40):
        (table,) = tables.difference_tables(changed(summary, media_needed=needed, **unclear))
        (line,) = [
            line for line in table["lines"] if (line["task"], line["against"]) == ("emotion", "shuffled")
        ]
        assert (line["verdict"], line["needed"]) == ("not shown", None)
    # Nothing is needed where the verdict is there.
    assert "to see 2 points" not in line_of(render(make_content(summary)), "emotion")
    (first, *_) = tables.equivalence_lines(summary)
    assert (first["verdict"], first["n"]) == ("inconclusive", 40)
    assert re.fullmatch(
        r"about [\d,]+ media for a verdict if nothing changed; there were 40", first["needed"]
    )


def test_no_claim_without_the_placebo(summary):
    rows = [row for row in summary["differences"] if row["against"] != "shuffled"]
    (claim,) = tables.claims({**summary, "differences": rows})
    assert claim.won == ()
    assert "no claim can be made on 4 tasks, because shuffled was not compared" in claim.sentence


def test_charts_need_something_to_draw():
    assert charts.radar({"base": {"a": 0.1, "b": 0.2}}, {}, name="r", alt="x") is None
    assert charts.forest([charts.Difference("t", "base", None, None, None)], name="f", alt="x") is None
    assert charts.loss_curves({("base", 0): []}, name="l", alt="x") is None
    assert charts.funnel([], name="f", alt="x") is None


@given(st.text(max_size=60), st.one_of(st.none(), st.floats(-1, 1)))
@settings(deadline=None, max_examples=25)
def test_any_name_makes_a_chart(name, value):
    values = {"behavior": {name: value, "b": 0.4, "c": -0.2, "d": 0.1}}
    chart = charts.radar(values, {name: 0.1}, name="radar", alt=name)
    assert chart is not None
    assert "script" not in {tag for tag, _ in Tags(chart.inline()).tags}


def test_numbers_read_well():
    assert [tables.number(value) for value in (None, 0.12345, -0.5, 12.34)] == [
        "undefined",
        "0.123",
        "\u22120.500",
        "12.3",
    ]
    assert tables.p_value(0.00005) == "< 0.0001"
    assert tables.signed(0.1) == "+0.100"
    assert [duration(seconds) for seconds in (3.21, 75, 3725)] == ["3.2 s", "1 min 15 s", "1 h 2 min"]


def test_the_page_opens_with_the_setting_named_first():
    rows = make_rows({"emotion": "accuracy"}, seeds=(0,))
    other = [{**row, "setting": "zero_shot_verbalized"} for row in rows]
    both = summarize(rows + other, make_tasks(), ARMS, Config(draws=100, flips=100))
    for first, second in (
        ("zero_shot", "zero_shot_verbalized: behavior"),
        ("zero_shot_verbalized", "zero_shot: behavior"),
    ):
        text = Tags(render(make_content(both, opens_with=first, config_text=""))).text
        assert text.index(f"{first}: behavior") < text.index(second)
    untouched = Tags(render(make_content(both, config_text=""))).text
    assert untouched.index("zero_shot: behavior") < untouched.index("zero_shot_verbalized: behavior")


def test_what_is_left_after_shuffling_is_said_in_words(summary):
    fields = {field.name for field in dataclasses.fields(arms.Agreement)}
    # what is compared by kind brings its own words
    assert fields - {"by_kind"} == set(tables.AGREEMENT_WORDS)
    told = {"num_likes": 4557, "same_like_bucket": 0.2034, "replay: pairs of posts compared": 12}
    text = Tags(render(make_content(summary, agreement=told))).text
    assert "replay: pairs of posts compared" in text
    assert "pairs of posts compared by their likes" in text
    assert "4,557" in text
    assert "0.203" in text

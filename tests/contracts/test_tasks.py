"""What every declared task must hold, and proof that each of these checks catches a planted fault."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from behavior_llava.core import discover
from behavior_llava.core.schema import Sample, Task
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.evaluation import benchmarks, deciding, judge, metrics

TASKS = benchmarks.all_tasks()

# The 46 tasks of the paper, by its tables.
PAPER = {
    *(f"lvu_{part}" for part in ("relationship", "way_speaking", "scene", "like_ratio", "view_count")),
    *(f"lvu_{part}" for part in ("director", "genre", "writer", "year")),
    *(f"hvu_{part}" for part in ("scene", "object", "action", "event", "attribute", "concept")),
    *("msvd_qa", "msrvtt_qa", "activitynet_qa", "persuasion"),
    *(f"video_ads_{part}" for part in ("topic", "sentiment_all", "sentiment_clubbed", "action", "reason")),
    *("videoemotion8", "caer", "ekman6", "iapsa", "abstract", "emotion6", "emoset"),
    *(f"dense_caption_{part}" for part in ("correctness", "detail", "quality")),
    *("lamem", "sun", "memcat", "memento10k", "videomem", "mediaeval", "lambda_ads"),
    *("shot2story_audio", "shot2story_multishot", "imdb"),
    *("qvhighlights_moment_retrieval", "qvhighlights_highlight_detection"),
}

NUM_TASKS = 70
GUESSES = 20_000

# The best answer in the task's form is not quite the truth: whole seconds, one digit.
IN_A_COARSE_FORM = ("moment_map", "highlight_map")

HEADER = ("benchmark:", "paper:", "license:", "splits:", "metric:", "published:", "protocol:")

BAD_NUMBERS = (
    *(
        "100",
        "-5",
        "-05",
        "7",
        "0.67",
        ".67",
        "67.5",
        "67%",
        "1e1",
        "6 7",
        "67 68",
        "67, 68",
        "67/99",
        "067",
        "67th",
    ),
    *("about 67", "sixty-seven", "\uff16\uff17", "\u0666\u0667", "+67", "67-99", "67\n68"),
)


SIZES = {"train": 240, "val": 60, "test": 60}


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lists of every benchmark in its official layout, as the sandbox writes them, no media drawn."""
    folder = tmp_path_factory.mktemp("benchmarks")
    layouts = discover.find("data.world.layouts", "LAYOUT")
    canvas = Canvas(seed=3)
    for write in layouts.values():
        write(canvas, folder, SIZES)
    assert len(canvas.images) + len(canvas.videos) > 1000
    # CAER has no list: the folders are the labels, and files the rows
    for path, *_ in canvas.videos:
        if Path(path).is_relative_to(folder / "caer"):
            Path(path).touch()
    return folder


def samples_of(task: Task, world: Path) -> list[Sample]:
    """The labeled samples of the sandbox's test split."""
    loaded = task.load(world / benchmarks.folder_name(task), task.test_split)
    found = [sample for sample in loaded if sample.label is not None]
    assert len(found) >= 12
    return found


def right_choices(task: Task, sample: Sample) -> set[str]:
    return {one for one in benchmarks.choices(task, sample) if one in task.answer(sample).split(", ")}


def shares_a_stem(word: str, label: str) -> bool:
    """Amusing and amusement, angry and anger, sad and sadness; rather too often than too seldom."""
    stem = label[: min(4, max(3, (len(label) + 1) // 2))]
    return word.startswith(stem) or label.startswith(word)


# ---- the contract ------------------------------------------------------------------------------------------


def oracle_reaches_best(task: Task, world: Path, folder: Path) -> None:
    """Answering with the truth, said and read back, is right on every sample."""
    samples = samples_of(task, world)
    if task.answers == "number":
        # both ends and all between: the world's labels may lie in the middle
        low, high = task.scale
        samples += [
            dataclasses.replace(samples[0], label=low + (high - low) * place / 50) for place in range(51)
        ]
    labels = [sample.label for sample in samples]
    if task.judged:
        # what a judge that is pleased with everything gives; that one's words are read back is tested with it
        best: Any = {"correct": True, "score": 5} if task.judged == "qa" else {"grade": 10}
        assert metrics.named(task.metric).score([best] * len(labels), labels) == task.best
        said = [task.parse(task.answer(sample)) for sample in samples]
        for name in task.also:
            if not name.startswith("judge_"):
                assert metrics.named(name).score(said, labels) == 1.0
        return
    if task.choose is not None:
        read: list[Any] = []
        for sample in samples:
            right, choices = right_choices(task, sample), benchmarks.choices(task, sample)
            read.append(task.choose(sample, [0.0 if one in right else -20.0 for one in choices]))
    else:
        read = [task.parse(task.answer(sample)) for sample in samples]
        assert None not in read
    if task.answers == "number":
        assert all(low - 1e-9 <= number <= high + 1e-9 for number in read)
        # Two digits hold a value to half a step of 1/99 of the scale; beyond its ends they hold the end.
        assert all(
            abs(number - min(max(label, low), high)) <= 0.5 * (high - low) / 99 + 1e-9
            for number, label in zip(read, labels, strict=True)
        )
    value = metrics.named(task.metric).score(read, labels)
    assert value is not None
    if task.metric in IN_A_COARSE_FORM:
        # how good it can be depends on how far annotators agree; `best` is that of the real test split
        others = metrics.named(task.metric).score([*read[1:], read[0]], labels)
        assert others is not None
        assert others < value <= 1
    elif task.metric == "mse":
        # halves of a step, squared
        assert value == pytest.approx(task.best, abs=(task.scale[1] - task.scale[0]) ** 2 / 99**2)
    else:
        assert value == pytest.approx(task.best, abs=2e-3)


def silence_is_unparsed(task: Task, world: Path, folder: Path) -> None:
    """Saying nothing is no answer, and no answer is not the best one."""
    assert [task.parse(text) for text in ("", " ", "\n", "\t \n", ".", "...", '""')] == [None] * 7
    labels = [sample.label for sample in samples_of(task, world)]
    value = metrics.named(task.metric).score([None] * len(labels), labels)
    if value is not None and metrics.named(task.metric).higher_is_better:
        # an order without information scores the prevalence, which may be high
        assert value < task.best / 2 or task.metric in ("average_precision", "mean_average_precision")


def guesser_is_near_chance(task: Task, world: Path, folder: Path) -> None:
    """A seeded guesser over the answers the task accepts scores what is said of chance on the split.

    Where the answer is in words, or wrong by a distance, there is nothing to guess among, and chance is null.
    """
    rng = random.Random(0)
    samples = samples_of(task, world)
    if task.answers == "text" or task.metric == "mse":
        assert task.chance is None
        assert benchmarks.chance(task, samples) is None
        return
    chance = benchmarks.chance(task, samples)
    many = samples * (GUESSES // len(samples) if task.metric != "mean_average_precision" else 100)
    read: list[Any] = []
    for sample in many:
        choices = deciding.NUMBERS if task.answers == "number" else benchmarks.choices(task, sample)
        if task.choose is not None:
            read.append(task.choose(sample, [rng.gauss(0, 3) for _ in choices]))
        elif task.labels or task.answers == "number":
            read.append(task.parse(rng.choice(choices)))
        else:
            read.append(rng.choice(choices))
    assert None not in read
    value = metrics.named(task.metric).score(read, [sample.label for sample in many])
    # Four standard errors of a share or a rank correlation are below 0.03 at this n.
    assert value == pytest.approx(chance, abs=0.03)
    is_plain = task.metric in ("accuracy", "spearman") and not isinstance(samples[0].label, list)
    if is_plain:
        assert chance == pytest.approx(task.chance)


def completions_equal_the_hand_checked(task: Task, world: Path, folder: Path) -> None:
    """The first row of an example's test split, loaded and answered, is the completion written by hand."""
    assert len({completion for _, completion in task.examples}) >= 2, "one completion alone hides a constant"
    for number, (files, completion) in enumerate(task.examples):
        root = folder / str(number)
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        sample = task.load(root, task.test_split)[0]
        assert task.answer(sample) == completion
        if sample.media_path is not None:
            inside = Path(sample.media_path).relative_to(root)
            assert str(inside) in files, "no other media was written, so none can be found"


def prompt_tells_nothing(task: Task, world: Path, folder: Path) -> None:
    """The prompt depends on no label, path or id; the question names no label, but for a text's choice."""
    samples = samples_of(task, world)
    for sample in samples[:30]:
        prompt = benchmarks.to_prompt(task, sample)
        other = next(one.label for one in reversed(samples))
        changed = dataclasses.replace(
            sample, label=other, id="SECRET", media_path="/SECRET/x.jpg", cluster="SECRET"
        )
        assert benchmarks.to_prompt(task, changed) == prompt
        assert "SECRET" not in benchmarks.to_prompt(task, changed)
        assert prompt.endswith("?")
        asked = sample.fields.get("asked")
        if asked is None:
            assert prompt.endswith(task.question)
        if sample.fields.get("text") is None and asked is None:
            assert prompt == task.question
    question = task.question.replace(benchmarks.ASKED, "")
    assert not re.search(r"[/\\{}<>]|\.\w", question), "a path or a placeholder"
    words = re.findall(r"[a-z]{3,}", question.lower())
    said = {label for label in task.labels if any(shares_a_stem(word, label.lower()) for word in words)}
    # Naming some labels only would favor them; of an emotion, none may be named.
    assert said == (set(task.labels) if task.name == "imdb" else set())


def declaration_is_sound(task: Task, world: Path, folder: Path) -> None:
    """Names, labels, splits and numbers agree with one another."""
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", task.name)
    assert len({label.casefold() for label in task.labels}) == len(task.labels)
    assert {task.test_split, task.train_split} <= set(task.splits)
    assert task.test_split != task.train_split
    assert task.paper == (task.name in PAPER)
    assert task.obtain
    assert task.license
    if task.published is not None:
        assert task.metric in ("accuracy", "spearman", "average_precision", "judge_accuracy", "mse")
        assert 0 <= task.published <= 1 or task.metric == "mse"
    metric = metrics.named(task.metric)
    assert len({metric.name, *(metrics.named(name).name for name in task.also)}) == 1 + len(task.also)
    assert not task.labels or task.answers == "choice"
    if task.metric == "accuracy" and task.labels:
        assert task.chance == pytest.approx(1 / len(task.labels))
    # a primary answer that every run has, whatever else of the benchmark is there
    of_answers = {
        "choice": ("sum", "mean", "content_free") if task.labels else ("sum", "mean"),
        "number": ("expectation", "argmax"),
        "text": ("judge",) if metric.name.startswith("judge_") else ("generate",),
    }
    assert task.scoring in of_answers[task.answers]
    assert bool(task.judged) == any(name.startswith("judge_") for name in (task.metric, *task.also))
    assert task.judged in ("", *judge.CRITERIA)


def parse_never_guesses(task: Task, world: Path, folder: Path) -> None:
    """One answer and nothing else is read; a sentence, two answers or a part of one is not."""
    if task.answers == "text" or (not task.labels and task.answers == "choice"):
        # whatever is written is the answer, or a statement that is compared as a whole
        return
    garbage = ["I do not know", "???", "none", "nan", "null", "answer:", "\x00", "0", "999"]
    assert [task.parse(text) for text in garbage] == [None] * len(garbage)
    if task.answers == "number":
        assert {text: task.parse(text) for text in BAD_NUMBERS} == dict.fromkeys(BAD_NUMBERS)
        accepted = {"00": 0, "99": 99, " 07\n": 7, "67.": 67, '"67"': 67, "**67**": 67, "(67)": 67}
        low, high = task.scale
        for text, number in accepted.items():
            assert task.parse(text) == pytest.approx(low + (high - low) * number / 99)
        return
    for label, other in zip(task.labels, task.labels[1:] + task.labels[:1], strict=True):
        wrong = [f"{label}{join}{other}" for join in (" ", ", ", " or ", "/", "\n", "")]
        wrong += [
            f"{label} {label}",
            f"not {label}",
            f"I feel {label}.",
            f"{label}x",
            label[:-1],
            f"Answer: {label}",
        ]
        assert {text: task.parse(text) for text in wrong} == dict.fromkeys(wrong)
        right = [
            label,
            label.upper(),
            label.title(),
            f" {label}\n",
            f"{label}.",
            f'"{label}"',
            f"**{label}**",
        ]
        assert {text: task.parse(text) for text in right} == dict.fromkeys(right, label)


Check = Callable[[Task, Path, Path], None]

CHECKS: tuple[Check, ...] = (
    oracle_reaches_best,
    silence_is_unparsed,
    guesser_is_near_chance,
    completions_equal_the_hand_checked,
    prompt_tells_nothing,
    declaration_is_sound,
    parse_never_guesses,
)


def test_all_declared_tasks_are_seen() -> None:
    # A loop over files that finds none would pass; so the number is written down.
    assert len(PAPER) == 46
    assert {name for name, task in TASKS.items() if task.paper} == PAPER
    assert len(TASKS) == NUM_TASKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", sorted(TASKS))
def test_contract(name: str, check: Check, world: Path, tmp_path: Path) -> None:
    check(TASKS[name], world, tmp_path)


def test_task_files_open_with_the_fixed_header() -> None:
    modules = discover.find("evaluation.tasks", "TASKS")
    assert len(modules) == 28
    for module in modules:
        file = importlib.import_module(f"behavior_llava.evaluation.tasks.{module}").__file__
        assert file is not None
        lines = (ast.get_docstring(ast.parse(Path(file).read_text(encoding="utf-8"))) or "").splitlines()
        keys = [key for line in lines for key in HEADER if line.startswith(key)]
        assert keys == list(HEADER), module


def test_a_name_declared_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    twice = {"a": (TASKS["imdb"],), "b": (TASKS["imdb"],)}
    monkeypatch.setattr(discover, "find", lambda package, constant: twice)
    with pytest.raises(ValueError, match="'imdb' is declared by tasks/a and tasks/b"):
        benchmarks.all_tasks()


# ---- planted faults: each must be caught by the check that is there for it ---------------------------------


def _off_by_one(task: Task) -> Task:
    def load(folder: Path, split: str) -> list[Sample]:
        def shifted(sample: Sample) -> str:
            return task.labels[(task.labels.index(sample.label) + 1) % len(task.labels)]

        return [dataclasses.replace(sample, label=shifted(sample)) for sample in task.load(folder, split)]

    return dataclasses.replace(task, load=load)


def _greedy(task: Task) -> Task:
    def parse(text: str) -> str | None:
        return next((label for label in task.labels if label in text.lower()), None)

    return dataclasses.replace(task, parse=parse)


def _random_when_unparsable(task: Task) -> Task:
    rng = random.Random(3)
    return dataclasses.replace(task, parse=lambda text: task.parse(text) or rng.choice(task.labels))


def _case_sensitive(task: Task) -> Task:
    return dataclasses.replace(task, parse=lambda text: text if text in task.labels else None)


def _zero_when_unparsable(task: Task) -> Task:
    return dataclasses.replace(task, parse=lambda text: task.parse(text) or 0)


def _first_number_found(task: Task) -> Task:
    def parse(text: str) -> int | None:
        found = re.search(r"[0-9]+", text)
        return min(int(found[0]), 99) if found else None

    return dataclasses.replace(task, parse=parse)


def _cut_not_rounded(task: Task) -> Task:
    return dataclasses.replace(task, answer=lambda sample: f"{int(99 * sample.label):02d}")


def _one_digit(task: Task) -> Task:
    return dataclasses.replace(task, answer=lambda sample: str(round(99 * sample.label)))


def _blind(task: Task) -> Task:
    def choose(sample: Sample, log_probs: Sequence[float]) -> Any:
        assert task.choose is not None
        return task.choose(sample, [0.0] * len(log_probs))

    return dataclasses.replace(task, choose=choose)


def _upside_down(task: Task) -> Task:
    return dataclasses.replace(task, scale=task.scale[::-1])


def _label_told(task: Task) -> Task:
    def load(folder: Path, split: str) -> list[Sample]:
        return [
            dataclasses.replace(sample, fields={"text": f"SECRET {sample.id}"})
            for sample in task.load(folder, split)
        ]

    return dataclasses.replace(task, load=load)


FAULTS: tuple[tuple[str, str, Callable[[Task], Task], Check], ...] = (
    ("off_by_one_label", "emoset", _off_by_one, completions_equal_the_hand_checked),
    ("off_by_one_label", "ekman6", _off_by_one, completions_equal_the_hand_checked),
    ("off_by_one_label", "lvu_scene", _off_by_one, completions_equal_the_hand_checked),
    ("off_by_one_label", "imdb", _off_by_one, completions_equal_the_hand_checked),
    (
        "constant_answer",
        "ekman6",
        lambda task: dataclasses.replace(task, answer=lambda sample: "joy"),
        oracle_reaches_best,
    ),
    (
        "constant_parse",
        "ekman6",
        lambda task: dataclasses.replace(task, parse=lambda text: "joy"),
        silence_is_unparsed,
    ),
    ("greedy_parse", "emoset", _greedy, parse_never_guesses),
    ("random_when_unparsable", "emoset", _random_when_unparsable, silence_is_unparsed),
    ("case_sensitive_parse", "imdb", _case_sensitive, parse_never_guesses),
    ("zero_when_unparsable", "lamem", _zero_when_unparsable, silence_is_unparsed),
    ("first_number_found", "lamem", _first_number_found, parse_never_guesses),
    ("cut_not_rounded", "lamem", _cut_not_rounded, oracle_reaches_best),
    ("one_digit_answer", "lamem", _one_digit, oracle_reaches_best),
    ("chance", "ekman6", lambda task: dataclasses.replace(task, chance=1 / 8), guesser_is_near_chance),
    ("chance", "lamem", lambda task: dataclasses.replace(task, chance=0.5), guesser_is_near_chance),
    (
        "chance_of_words",
        "msvd_qa",
        lambda task: dataclasses.replace(task, chance=0.5),
        guesser_is_near_chance,
    ),
    ("blind_choice", "hvu_event", _blind, oracle_reaches_best),
    ("blind_choice", "hvu_event_official", _blind, oracle_reaches_best),
    ("scale", "lvu_view_count", _upside_down, oracle_reaches_best),
    ("label_in_prompt", "imdb", _label_told, prompt_tells_nothing),
    (
        "not_of_the_paper",
        "emoset",
        lambda task: dataclasses.replace(task, paper=False),
        declaration_is_sound,
    ),
    (
        "nothing_to_get",
        "emoset",
        lambda task: dataclasses.replace(task, obtain=""),
        declaration_is_sound,
    ),
    ("best", "imdb", lambda task: dataclasses.replace(task, best=100.0), oracle_reaches_best),
    (
        "label_in_question",
        "emoset",
        lambda task: dataclasses.replace(task, question="What emotion, amusing or not, do viewers feel?"),
        prompt_tells_nothing,
    ),
    (
        "one_label_offered",
        "imdb",
        lambda task: dataclasses.replace(task, question="Is this review positive?"),
        prompt_tells_nothing,
    ),
    (
        "path_in_question",
        "emoset",
        lambda task: dataclasses.replace(task, question="What emotion does image/1.jpg evoke?"),
        prompt_tells_nothing,
    ),
    (
        "label_twice",
        "ekman6",
        lambda task: dataclasses.replace(task, labels=(*task.labels, "Anger")),
        declaration_is_sound,
    ),
    (
        "label_missing",
        "ekman6",
        lambda task: dataclasses.replace(task, labels=task.labels[:-1]),
        declaration_is_sound,
    ),
    (
        "scoring_of_labels",
        "lamem",
        lambda task: dataclasses.replace(task, scoring="sum"),
        declaration_is_sound,
    ),
    (
        "percent_published",
        "imdb",
        lambda task: dataclasses.replace(task, published=84.1),
        declaration_is_sound,
    ),
    (
        "wrong_example",
        "lamem",
        lambda task: dataclasses.replace(task, examples=(task.examples[0], (task.examples[1][0], "98"))),
        completions_equal_the_hand_checked,
    ),
)


@pytest.mark.parametrize(
    ("name", "plant", "check"),
    [pytest.param(*row, id=f"{fault}-{row[0]}") for fault, *row in FAULTS],
)
def test_planted_fault_is_caught(
    name: str, plant: Callable[[Task], Task], check: Check, world: Path, tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        check(plant(TASKS[name]), world, tmp_path)


def test_prompt_that_leaks_an_id_is_caught(
    monkeypatch: pytest.MonkeyPatch, world: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(benchmarks, "to_prompt", lambda task, sample: f"{sample.id} {task.question}")
    with pytest.raises(AssertionError):
        prompt_tells_nothing(TASKS["emoset"], world, tmp_path)


def test_every_check_has_a_planted_fault() -> None:
    assert {check for _, _, _, check in FAULTS} == set(CHECKS)

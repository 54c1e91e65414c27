"""What every declared task must hold, and proof that each of these checks catches a planted fault."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from behavior_llava.core import discover
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation import benchmarks, metrics

TASKS = benchmarks.all_tasks()

GUESSES = 20_000

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


def samples_of(task: Task, count: int) -> list[Sample]:
    """Samples with known truth, whose id and path give it away."""
    rng = random.Random(1)
    truths = [rng.random() for _ in range(count)]
    if task.labels:
        truths = [task.labels[number % len(task.labels)] for number in range(count)]
    fields = {"text": "Some text."} if task.modality == "text" else {}
    return [
        Sample(id=f"{truth}/{number}", label=truth, media_path=f"image/{truth}/{number}.jpg", fields=fields)
        for number, truth in enumerate(truths)
    ]


def shares_a_stem(word: str, label: str) -> bool:
    """Amusing and amusement, angry and anger, sad and sadness; rather too often than too seldom."""
    stem = label[: min(4, max(3, (len(label) + 1) // 2))]
    return word.startswith(stem) or label.startswith(word)


# ---- the contract ------------------------------------------------------------------------------------------


def oracle_reaches_best(task: Task, folder: Path) -> None:
    """Answering with the truth, said and read back, is right on every sample."""
    samples = samples_of(task, 600)
    read = [task.parse(task.answer(sample)) for sample in samples]
    if task.labels:
        assert read == [sample.label for sample in samples]
    else:
        # Two digits hold a score to half a step of 1/99.
        assert all(isinstance(number, int) and 0 <= number <= 99 for number in read)
        assert all(
            abs(number / 99 - sample.label) <= 0.5 / 99 + 1e-9
            for number, sample in zip(read, samples, strict=True)
        )
    value = metrics.named(task.metric).score(read, [sample.label for sample in samples])
    assert value == pytest.approx(task.best, abs=1e-3)


def silence_is_unparsed(task: Task, folder: Path) -> None:
    """Saying nothing is no answer."""
    assert [task.parse(text) for text in ("", " ", "\n", "\t \n", ".", "...", '""')] == [None] * 7


def guesser_is_near_chance(task: Task, folder: Path) -> None:
    """A seeded guesser over the answers the task accepts scores the declared chance."""
    rng = random.Random(0)
    samples = samples_of(task, GUESSES)
    answers = task.labels or tuple(f"{number:02d}" for number in range(100))
    read = [task.parse(rng.choice(answers)) for _ in samples]
    assert None not in read
    value = metrics.named(task.metric).score(read, [sample.label for sample in samples])
    # Four standard errors of a share or a rank correlation are below 0.03 at this n.
    assert value == pytest.approx(task.chance, abs=0.03)


def completions_equal_the_hand_checked(task: Task, folder: Path) -> None:
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
        assert sample.media_path is None, "no media was written, so none can be found"


def prompt_tells_nothing(task: Task, folder: Path) -> None:
    """The prompt is the same for every label; no path, no id and, but for a text task's choice, no label."""
    prompts = {benchmarks.to_prompt(task, sample) for sample in samples_of(task, 50)}
    assert len(prompts) == 1
    prompt = prompts.pop()
    assert prompt.endswith(task.question)
    assert task.question.endswith("?")
    assert not re.search(r"[/\\{}<>]|\.\w", task.question), "a path or a placeholder"
    words = re.findall(r"[a-z]{3,}", task.question.lower())
    said = {label for label in task.labels if any(shares_a_stem(word, label.lower()) for word in words)}
    # Naming some labels only would favor them; of an emotion, none may be named.
    assert said == (set(task.labels) if task.modality == "text" else set())


def declaration_is_sound(task: Task, folder: Path) -> None:
    """Names, labels, splits and numbers agree with one another."""
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", task.name)
    assert len({label.casefold() for label in task.labels}) == len(task.labels)
    assert {task.test_split, task.train_split} <= set(task.splits)
    assert task.paper
    assert task.published is not None
    assert 0 <= task.published <= 1
    if task.metric == "accuracy":
        assert task.chance == pytest.approx(1 / len(task.labels))
    # a primary answer that every run has, whatever else of the benchmark is there
    assert task.scoring in (("sum", "mean", "content_free") if task.labels else ("expectation", "argmax"))


def parse_never_guesses(task: Task, folder: Path) -> None:
    """One answer and nothing else is read; a sentence, two answers or a part of one is not."""
    garbage = ["I do not know", "???", "none", "nan", "null", "answer:", "\x00", "0", "999"]
    assert [task.parse(text) for text in garbage] == [None] * len(garbage)
    if not task.labels:
        assert {text: task.parse(text) for text in BAD_NUMBERS} == dict.fromkeys(BAD_NUMBERS)
        accepted = {"00": 0, "99": 99, " 07\n": 7, "67.": 67, '"67"': 67, "**67**": 67, "(67)": 67}
        assert {text: task.parse(text) for text in accepted} == accepted
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


CHECKS: tuple[Callable[[Task, Path], None], ...] = (
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
    assert len(TASKS) == 5
    assert set(TASKS) == {"emoset", "ekman6", "lvu_scene", "lamem", "imdb"}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", sorted(TASKS))
def test_contract(name: str, check: Callable[[Task, Path], None], tmp_path: Path) -> None:
    check(TASKS[name], tmp_path)


def test_task_files_open_with_the_fixed_header() -> None:
    modules = discover.find("evaluation.tasks", "TASKS")
    assert len(modules) == 5
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


FAULTS: tuple[tuple[str, str, Callable[[Task], Task], Callable[[Task, Path], None]], ...] = (
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
    name: str, plant: Callable[[Task], Task], check: Callable[[Task, Path], None], tmp_path: Path
) -> None:
    with pytest.raises(AssertionError):
        check(plant(TASKS[name]), tmp_path)


def test_prompt_that_leaks_an_id_is_caught(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(benchmarks, "to_prompt", lambda task, sample: f"{sample.id} {task.question}")
    with pytest.raises(AssertionError):
        prompt_tells_nothing(TASKS["emoset"], tmp_path)


def test_every_check_has_a_planted_fault() -> None:
    assert {check for _, _, _, check in FAULTS} == set(CHECKS)

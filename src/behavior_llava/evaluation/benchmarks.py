"""What all benchmarks share: the declared tasks, their prompts, and strict reading of official layouts.

In: a benchmark's folder exactly as its authors ship it. Out: samples, counts, or a `UserError` that names the
file, the line and where the benchmark is to be had. The files in `tasks/` are built on the readers below;
`evaluator.py` and `tasks check` call `all_tasks`, `to_prompt`, `check` and `majority`.

A media file that is not there is no error: its sample has `media_path` None, and coverage counts it.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from behavior_llava.core import discover
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation import drawing, metrics

VIDEO_SUFFIXES = ("mp4", "avi", "mkv", "webm")
"""Tried in this order, so that a folder with two encodings of one video always gives the same one."""

LONGEST_NAME = 240
"""Bytes of a file's name in a list; file systems take 255, a suffix included."""

_DRIVE = re.compile(r"[A-Za-z]:")
_ANY_NUMBER = re.compile(r"[0-9]+")
_SCORE = re.compile(r"[01](\.[0-9]+)?")
# A sign, a point or a percent sign around the digits makes another number of them, so they are not stripped.
_TWO_DIGITS = re.compile(r"[\s\"'*(\[]*([0-9]{2})(?:[\s\"'*)\]!]|\.(?![0-9]))*")


class AbsentFileError(UserError):
    """A file of the official layout is not there, as opposed to being there and broken."""


# ---- tasks -------------------------------------------------------------------------------------------------


def all_tasks() -> dict[str, Task]:
    """Every declared task by its name, sorted.

    Raises:
        ValueError: two files declare a task of the same name.
    """
    found: dict[str, Task] = {}
    module_of: dict[str, str] = {}
    for module, tasks in discover.find("evaluation.tasks", "TASKS").items():
        for task in tasks:
            if task.name in found:
                raise ValueError(
                    f"task {task.name!r} is declared by tasks/{module_of[task.name]} and tasks/{module}"
                )
            found[task.name], module_of[task.name] = task, module
    return dict(sorted(found.items()))


def task_named(name: str, *, where: object = "tasks", known: Mapping[str, Task] | None = None) -> Task:
    """A declared task, or one of `known`.

    Raises:
        UserError: there is none of that name.
    """
    known = all_tasks() if known is None else known
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        remedy = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(
            f"no task called {name!r}", where=where, remedy=f"{remedy}`behavior-llava list tasks` shows all"
        )
    return known[name]


def folder_name(task: Task) -> str:
    """The folder of a task's benchmark among others: its name in lower-case letters and digits, e.g.
    "ekman6".
    """
    return re.sub(r"[^a-z0-9]", "", task.benchmark.lower())


ASKED = "{asked}"
"""Where a question has the sample's own words."""


def to_prompt(task: Task, sample: Sample) -> str:
    """The user's words for one sample: the question, after the sample's text where it has one.

    Nothing else of a sample may enter: an id or a path can be the label (EmoSet's path is).

    Raises:
        ValueError: a sample of a text task without a text, or one without the words its question needs.
    """
    question, text = task.question, sample.fields.get("text")
    if ASKED in question:
        asked = sample.fields.get("asked")
        if not asked:
            raise ValueError(f"sample {sample.id} of {task.name} has nothing that is asked")
        question = question.replace(ASKED, asked)
    if text:
        return f"{text}\n\n{question}"
    if task.modality == "text":
        raise ValueError(f"sample {sample.id} of the text task {task.name} has no text")
    return question


def choices(task: Task, sample: Sample) -> tuple[str, ...]:
    """Of which one is to be chosen; empty where the task has no choices."""
    return sample.choices or task.labels


def check(task: Task, folder: Path) -> dict[str, Any]:
    """Counts of a benchmark's folder, for `tasks check`.

    Returns:
        `splits`: per split `rows`, `labels` (label -> rows, in official order, a row with several labels in
        each; empty for numeric and open tasks; rows without a released label are in none), `media_found` and
        `media_missing` (None for text tasks).
        `absent`: the splits whose list is not in the folder.

    Raises:
        UserError: a row is malformed, or no split is there at all.
    """
    splits: dict[str, dict[str, Any]] = {}
    absent: dict[str, AbsentFileError] = {}
    for split in task.splits:
        try:
            samples = task.load(folder, split)
        except AbsentFileError as error:
            absent[split] = error
            continue
        counted = Counter(one for sample in samples for one in _labels(sample)) if task.labels else Counter()
        found = sum(sample.media_path is not None for sample in samples)
        has_media = task.modality != "text"
        splits[split] = {
            "rows": len(samples),
            "labels": {label: counted[label] for label in task.labels},
            "media_found": found if has_media else None,
            "media_missing": len(samples) - found if has_media else None,
        }
    if not splits:
        raise absent[task.test_split]
    return {"splits": splits, "absent": list(absent)}


def missing_words(task: Task, found: Mapping[str, Any]) -> list[str]:
    """What of a benchmark is missing, where one gets it and under which terms, in words.

    Args:
        found: what `check` returned.
    """
    said = [f"missing: the list of {split}" for split in found["absent"]]
    for split, counts in found["splits"].items():
        if counts["media_missing"]:
            said.append(f"missing: {counts['media_missing']:,} of {counts['rows']:,} media of {split}")
    if said:
        said.append(f"to get them: {task.obtain}")
    return [*(said or ["nothing is missing"]), f"licence: {task.license}"]


def _labels(sample: Sample) -> Sequence[Any]:
    return sample.label if isinstance(sample.label, (list, tuple)) else [sample.label]


def chance(task: Task, samples: Sequence[Sample], metric: str | None = None) -> float | None:
    """What a guesser is expected to score on `samples`, by `metric` or else the task's own.

    By the split's own labels and choices where the metric tells how; else what the task declares of its own
    metric, and None of another.
    """
    name = metric or task.metric
    known = [sample for sample in samples if sample.label is not None]
    told = metrics.named(name).chance
    if told is not None and known:
        return told([sample.label for sample in known], [len(choices(task, sample)) for sample in known])
    return task.chance if name == task.metric else None


def majority(task: Task, samples: Sequence[Sample], metric: str | None = None) -> float | None:
    """What the best constant answer scores on `samples`, by `metric` or else the task's own.

    Rows without a released label are left out. None where a constant scores nothing: it has no rank
    correlation.
    """
    labels = [sample.label for sample in samples if sample.label is not None]
    return metrics.majority(metric or task.metric, labels)


# ---- answers -----------------------------------------------------------------------------------------------


def label_words(sample: Sample) -> str:
    """The completion of a choice task: its label.

    Raises:
        ValueError: the sample's label is not released, so it can teach nothing.
    """
    if sample.label is None:
        raise ValueError(f"sample {sample.id} has no label to answer with")
    return str(sample.label)


def one_label(labels: Sequence[str]) -> Callable[[str], str | None]:
    """A parser that reads a text which is one label and nothing else.

    Case, and spaces and punctuation around the label, do not matter. Two labels, a sentence, a part of a
    label or nothing at all give None: there is no guessing.
    """
    by_key = {label.casefold(): label for label in labels}
    if len(by_key) != len(labels):
        raise ValueError(f"labels that differ only in case: {', '.join(labels)}")

    def parse(text: str) -> str | None:
        return by_key.get(text.strip(metrics.AROUND_AN_ANSWER).casefold())

    return parse


def free_text(text: str) -> str | None:
    """A parser of whatever is written, without the spaces around it; None where there is no letter and no
    digit.
    """
    return text.strip() if any(letter.isalnum() for letter in text) else None


def first_line(text: str) -> str | None:
    """The parser of a task answered in words of one's own: the first line that says something, as written."""
    lines = (line.strip() for line in text.splitlines())
    return next((line for line in lines if line.strip(metrics.AROUND_AN_ANSWER)), None)


def unread(text: str) -> None:
    """The parser of a task whose prediction is made of how likely its choices are, which no text tells."""


def number_words(scale: tuple[float, float] = (0.0, 1.0)) -> Callable[[Sample], str]:
    """What says the label of a numeric task in two digits: its place on the scale, "00" to "99".

    The paper gives the digits but not the rounding: here round(99 * place), halves up, so that both ends can
    be said. A label beyond an end is said as that end.

    Raises (the function returned):
        ValueError: the sample's label is not released, so it can teach nothing.
    """
    low, high = scale

    def answer(sample: Sample) -> str:
        if sample.label is None:
            raise ValueError(f"sample {sample.id} has no score to answer with")
        place = min(1.0, max(0.0, (sample.label - low) / (high - low)))
        return f"{math.floor(99 * place + 0.5):02d}"

    return answer


def one_number(scale: tuple[float, float] = (0.0, 1.0)) -> Callable[[str], float | None]:
    """A parser that reads a text which is two digits and nothing else, as a value on the scale.

    One digit may be another scale, and a sentence may hold other numbers: None.
    """
    low, high = scale

    def parse(text: str) -> float | None:
        found = _TWO_DIGITS.fullmatch(text)
        return low + (high - low) * int(found[1]) / 99 if found else None

    return parse


# ---- files -------------------------------------------------------------------------------------------------


def known_split(split: str, splits: Sequence[str]) -> None:
    """Refuse a split the benchmark does not have."""
    if split not in splits:
        raise UserError(f"no split {split!r}", remedy=f"choose one of {', '.join(splits)}")


def read_text(path: Path, obtain: str) -> str:
    """A file as text, without a byte order mark and with plain newlines.

    Raises:
        AbsentFileError: it is not there; the message ends with `obtain`, how to get the benchmark.
        UserError: it is not UTF-8.
    """
    if not path.is_file():
        raise AbsentFileError(
            "the official layout has this file, but it is not there", where=path, remedy=obtain
        )
    return decoded(path.read_bytes(), path)


def decoded(content: bytes, where: object) -> str:
    """What a file holds as text, without a byte order mark and with plain newlines.

    Raises:
        UserError: it is not UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"not UTF-8 (byte {error.start})", where=where, remedy="unpack the official archive again"
        ) from error
    return text.replace("\r\n", "\n")


def read_rows(path: Path, obtain: str) -> list[tuple[str, str]]:
    """(place, line) of every line that is not blank; the place is "<file>:<line number>", for messages.

    Raises:
        UserError: the file is absent, not UTF-8, or holds no rows.
    """
    # Not splitlines: it also breaks at characters that may stand inside a name.
    lines = read_text(path, obtain).split("\n")
    rows = [(f"{path}:{number}", line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise UserError("the file holds no rows", where=path, remedy=obtain)
    return rows


def read_json(path: Path, obtain: str) -> Any:
    """A JSON file's value.

    Raises:
        UserError: the file is absent, not UTF-8 or not JSON.
    """
    try:
        return json.loads(read_text(path, obtain))
    except json.JSONDecodeError as error:
        raise UserError(f"not JSON ({error.msg})", where=f"{path}:{error.lineno}", remedy=obtain) from error


def read_table(
    path: Path, columns: Sequence[str], obtain: str, *, delimiter: str = ","
) -> list[tuple[str, dict[str, str]]]:
    """(place, column -> value) of every row of a file whose first line names its columns.

    Args:
        columns: those that are needed; others may be there too.

    Raises:
        UserError: the file is absent, not UTF-8 or without rows, a column is missing or named twice, or a row
            has more or fewer values than there are columns.
    """
    (head_at, header), *rows = [
        (where, _values(where, line, delimiter)) for where, line in read_rows(path, obtain)
    ]
    if not set(columns) <= set(header) or len(set(header)) != len(header):
        raise UserError(
            f"the columns are {', '.join(header)}", where=head_at, remedy=f"expected {', '.join(columns)}"
        )
    if not rows:
        raise UserError("no rows after the header", where=path, remedy=obtain)
    for where, row in rows:
        if len(row) != len(header):
            raise UserError(
                f"{len(row)} values in {len(header)} columns", where=where, remedy="use the official list"
            )
    return [(where, dict(zip(header, row, strict=True))) for where, row in rows]


def _values(where: str, line: str, delimiter: str) -> list[str]:
    try:
        (row,) = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
    except csv.Error as error:
        raise UserError(f"{error}", where=where, remedy="use the official list") from error
    return [value.strip() for value in row]


def unit_score(text: str, where: str) -> float:
    """A score from 0 to 1, as memorability lists have it.

    Raises:
        UserError: it is no plain decimal number, or outside.
    """
    if not _SCORE.fullmatch(text) or float(text) > 1:
        raise UserError(f"found {text!r}", where=where, remedy="expected a score from 0 to 1")
    return float(text)


def safe_name(name: str, where: str, *, depth: int = 1) -> PurePosixPath:
    """A relative path of exactly `depth` parts from a benchmark's list.

    Raises:
        UserError: it is absolute, climbs (".."), has empty parts, backslashes or control characters, is
            longer than a file's name can be, or is of another depth. Lists come from strangers; a name must
            not reach outside the benchmark's folder.
    """
    parts = name.split("/")
    is_plain = all(part not in ("", ".", "..") for part in parts) and not _DRIVE.match(name)
    is_printable = "\\" not in name and all(letter.isprintable() for letter in name)
    is_short = all(len(part.encode("utf-8", "replace")) <= LONGEST_NAME for part in parts)
    if not (is_plain and is_printable and is_short and len(parts) == depth):
        shown, many = name[:LONGEST_NAME], "s" if depth > 1 else ""
        raise UserError(
            f"{shown!r} is no path of {depth} part{many} inside the benchmark's folder",
            where=where,
            remedy="use the official list",
        )
    return PurePosixPath(name)


def media_file(path: Path) -> str | None:
    """The absolute path of a media file; None where it is not there."""
    return str(path.absolute()) if path.is_file() else None


def video_file(folder: Path, name: str | PurePosixPath) -> str | None:
    """The video called `name`, under any of VIDEO_SUFFIXES; None where there is none.

    Names are kept whole: some lists have names with dots, or that end in a suffix already.
    """
    whole = folder / name
    candidates = [whole.parent / f"{whole.name}.{suffix}" for suffix in VIDEO_SUFFIXES]
    if whole.suffix.lower().lstrip(".") in VIDEO_SUFFIXES:
        candidates.append(whole)
    return next((found for path in candidates if (found := media_file(path)) is not None), None)


def distinct(samples: list[Sample], where: object) -> list[Sample]:
    """The samples, after a check that no id stands twice: scores are kept by id, so one would hide the other.

    Raises:
        UserError: an id stands twice.
    """
    repeated = [name for name, count in Counter(sample.id for sample in samples).items() if count > 1]
    if repeated:
        raise UserError(f"{repeated[0]!r} is listed twice", where=where, remedy="use the official list")
    return samples


# ---- benchmarks without an official split ------------------------------------------------------------------

OWN_SPLITS = ("train", "test")
"""What a benchmark without an official split has here, so that something can be trained on."""


def own_split(samples: Sequence[Sample], split: str) -> list[Sample]:
    """Those of `samples` that our rule puts into `split`, in their order.

    A fifth is the test split, one fold of the usual five: the ids whose SHA-256, its first eight bytes read
    as a number with the highest first, is divisible by five. It depends on the id alone, so it is the same on
    every machine and for a list of which some rows are missing.
    """
    return [sample for sample in samples if _is_test(sample.id) == (split == "test")]


def _is_test(name: str) -> bool:
    return drawing.number(name) % 5 == 0


# ---- lists of images with a score (LaMem, SUN) -------------------------------------------------------------


def score_list(folder: Path, split: str, obtain: str) -> list[Sample]:
    """The rows of `splits/<split>.txt`, lines "<file>.jpg <score>", in its order; images lie in `images/`.

    Raises:
        UserError: the file is absent, or a row is malformed or has a score outside 0..1.
    """
    path = folder / "splits" / f"{split}.txt"
    samples = []
    for where, row in read_rows(path, obtain):
        name, *scores = row.split()
        if len(scores) != 1:
            raise UserError(f"found {row!r}", where=where, remedy='expected "<file>.jpg <score from 0 to 1>"')
        image = media_file(folder / "images" / safe_name(name, where))
        score = unit_score(scores[0], where)
        samples.append(Sample(id=name, label=score, media_path=image, media_kind="image"))
    return distinct(samples, path)


# ---- lists of videos by class (VideoEmotion-8, Ekman-6) ----------------------------------------------------


def class_list(folder: Path, split: str, labels: Sequence[str], obtain: str) -> list[Sample]:
    """Samples of "<split>list01.txt", as VideoEmotion-8 and Ekman-6 ship it.

    `classInd.txt` has lines "id class" with ids from 1; a line of the list is "class/name id", and in the
    test list "class/name" alone. Videos lie in `video/<class>/<name>.<suffix>`. Names repeat across classes
    (VideoEmotion-8), so the sample's id is "class/name".

    Raises:
        UserError: classInd.txt does not give `labels` in this order; a row is malformed, names an unknown
            class or has an id that is not its class's.
    """
    index_path = folder / "classInd.txt"
    index = dict(_class_index_row(where, row) for where, row in read_rows(index_path, obtain))
    if index != {label: number for number, label in enumerate(labels, 1)}:
        raise UserError(
            f"the classes are {', '.join(index)}",
            where=index_path,
            remedy=f"expected 1..{len(labels)}: {', '.join(labels)}",
        )
    path = folder / f"{split}list01.txt"
    samples = []
    for where, row in read_rows(path, obtain):
        name, *numbers = row.split()
        label = str(safe_name(name, where, depth=2).parent)
        if label not in index:
            raise UserError(
                f"unknown class {label!r}", where=where, remedy=f"expected one of {', '.join(labels)}"
            )
        if numbers != [str(index[label])] and (numbers or split != "test"):
            raise UserError(
                f"found {row!r}",
                where=where,
                remedy=f'expected "class/name id" with id {index[label]} for {label}',
            )
        video = video_file(folder / "video", name)
        samples.append(Sample(id=name, label=label, media_path=video, media_kind="video"))
    return distinct(samples, path)


def _class_index_row(where: str, row: str) -> tuple[str, int]:
    number, _, label = row.partition(" ")
    if not _ANY_NUMBER.fullmatch(number) or not label.strip():
        raise UserError(f"found {row!r}", where=where, remedy='expected "id class"')
    return label.strip(), int(number)

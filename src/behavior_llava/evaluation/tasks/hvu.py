"""HVU: what a clip shows, by 3,142 tags of six categories.

benchmark: HVU 1.0; `HVU_{Train,Val}_V1.0.csv`, as it is or in the zip it comes in, with columns Tags (joined
    with "|"), youtube_id, time_start, time_end; `HVU_Tags_Categories_V1.0.csv` with columns Tag, Category
paper: Diba et al., ECCV 2020, https://arxiv.org/abs/1904.11451; lists:
    https://github.com/holistic-video-understanding/HVU-Dataset
license: none stated; the clips are YouTube's and are had through a form
splits: train about 476,000 clips, val 31,171 of 29,633 videos; the annotations of test (65,000) are not
    released, so val is tested
metric: here average precision of "the clip has a tag of this category"; officially (hvu_*_official) the mean
    over a category's tags of the average precision over clips, of which a random order has 0.3 to 1.3 %
published: scene 52.03, object 65.33, action 77.95, event 32.66, attribute 45.67, concept 51.20 %
    (Behavior-LLaVA, zero-shot, without a story)
protocol: The paper follows Video-4096 (https://arxiv.org/abs/2305.09758): 30 random tags are shown, 5 of each
    category; the model picks 5; the picks' categories are what it predicts. Nearly every clip has a tag of
    some categories, so an order without information scores the prevalence: on val scene 51.97, object 99.12,
    action 99.71, event 34.85, attribute 75.03, concept 89.65 %. The published numbers with a story lie on
    that line, those without below it for all but scene: neither tells what is recognized, hvu_*_official
    does. Not stated and so ours: whether the clip's own tags are among the 30 (of each category that the clip
    has, exactly one is; without any there would be nothing to find), the draw (by a hash of the clip), the
    score of a category (the likelihood, among the 30, of those of the five picks that are in it; tags are
    compared by the mean of their tokens, as they are of one to five words), the question. A clip is looked
    for as `videos/<youtube_id>_<time_start>_<time_end>.<suffix>`, with the times as listed.
"""

from __future__ import annotations

import csv
import io
import math
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    decoded,
    distinct,
    known_split,
    read_text,
    safe_name,
    unread,
    video_file,
)
from behavior_llava.evaluation.drawing import drawn, shuffled

SPLITS = ("train", "val")

# Source: the six columns of the paper's table of HVU, in its order.
CATEGORIES = ("scene", "object", "action", "event", "attribute", "concept")

# Source: Video-4096 (https://arxiv.org/abs/2305.09758), its protocol for HVU.
SHOWN_OF_EACH, PICKS = 5, 5

OBTAIN = (
    "get HVU_Train_V1.0.zip, HVU_Val_V1.0.zip and HVU_Tags_Categories_V1.0.csv from "
    "https://github.com/holistic-video-understanding/HVU-Dataset and give the folder that holds them, with "
    "the clips in videos/"
)
LICENSE = "none stated; the clips are YouTube's and are had through a form"

MAX_BYTES = 1 << 29
"""Of an unpacked list: the train list has about 90 MB, and a small archive can hold gigabytes."""

DIGITS = 6
"""Of a predicted score: as many as the log-probabilities of the journal have."""

_TAGS = "HVU_Tags_Categories_V1.0.csv"
_COLUMNS = ["Tags", "youtube_id", "time_start", "time_end"]
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


# ---- files -------------------------------------------------------------------------------------------------


def _csv(text: str, path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(place, values) of every row after the header; blank lines are passed over."""
    reader = csv.reader(io.StringIO(text), strict=True)
    expected = f'expected "{",".join(columns)}"'
    try:
        header = next(reader, [])
        if header != list(columns):
            raise UserError(f"the header is {','.join(header)!r}", where=f"{path}:1", remedy=expected)
        for values in reader:
            where = f"{path}:{reader.line_num}"
            if values and len(values) != len(columns):
                raise UserError(f"found {','.join(values)!r}", where=where, remedy=expected)
            if values:
                yield where, values
    except csv.Error as error:
        raise UserError(f"not CSV ({error})", where=f"{path}:{reader.line_num}", remedy=OBTAIN) from error


def categories(folder: Path) -> dict[str, tuple[str, ...]]:
    """The tags of each category, in the order of the list.

    Raises:
        UserError: the list is absent, or a row is malformed, of another category, or a tag stands twice.
    """
    path = folder / _TAGS
    tags: dict[str, list[str]] = {category: [] for category in CATEGORIES}
    known: set[str] = set()
    for where, (tag, category) in _csv(read_text(path, OBTAIN), path, ("Tag", "Category")):
        if category not in tags or not tag:
            raise UserError(
                f"found tag {tag!r} of category {category!r}",
                where=where,
                remedy=f"expected one of {', '.join(CATEGORIES)}",
            )
        if _words(tag) in known:
            raise UserError(f"the tag {tag!r} is listed twice", where=where, remedy="use the official list")
        known.add(_words(tag))
        tags[category].append(tag)
    few = [category for category in CATEGORIES if len(tags[category]) < SHOWN_OF_EACH]
    if few:
        raise UserError(f"fewer than {SHOWN_OF_EACH} tags of {', '.join(few)}", where=path, remedy=OBTAIN)
    return {category: tuple(some) for category, some in tags.items()}


def _words(tag: str) -> str:
    """A tag as it is said."""
    return tag.replace("_", " ")


def _list(folder: Path, split: str) -> tuple[str, Path]:
    """The text of a split's list, and the file it came from: the csv, or else the zip."""
    plain = folder / f"HVU_{split.title()}_V1.0.csv"
    packed = plain.with_suffix(".zip")
    if plain.is_file() or not packed.is_file():
        return read_text(plain, OBTAIN), plain
    return decoded(_unpacked(packed, plain.name), packed), packed


def _unpacked(path: Path, name: str) -> bytes:
    """The one file of that name in an archive; nothing is written, so no other name can do harm.

    Raises:
        UserError: it is no archive, holds anything else, or more than MAX_BYTES.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.namelist() != [name] or archive.infolist()[0].flag_bits & 1:
                raise UserError(f"expected the one file {name}, not encrypted", where=path, remedy=OBTAIN)
            with archive.open(name) as file:
                # read and not believed: the size that stands in an archive may be wrong
                content = file.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"not a zip archive that can be read ({error})", where=path, remedy=OBTAIN) from error
    if len(content) > MAX_BYTES:
        raise UserError(f"{name} unpacks to more than {MAX_BYTES} bytes", where=path, remedy=OBTAIN)
    return content


@dataclass(frozen=True, slots=True)
class _Clip:
    """A row of a list. `own`: category -> the clip's tags, in the order of the row."""

    id: str
    youtube_id: str
    media_path: str | None
    own: Mapping[str, tuple[str, ...]]


def _clips(folder: Path, split: str, tags: Mapping[str, Sequence[str]]) -> list[_Clip]:
    category_of = {tag: category for category, some in tags.items() for tag in some}
    text, path = _list(folder, split)
    clips = []
    for where, (joined, youtube_id, start, end) in _csv(text, path, _COLUMNS):
        own: dict[str, list[str]] = {category: [] for category in CATEGORIES}
        for tag in dict.fromkeys(joined.split("|")):
            if tag not in category_of:
                raise UserError(f"unknown tag {tag!r}", where=where, remedy=f"expected tags of {_TAGS}")
            own[category_of[tag]].append(tag)
        times = [start, end]
        if not all(map(_SECONDS.fullmatch, times)) or float(start) >= float(end):
            raise UserError(
                f"found the times {start!r} and {end!r}", where=where, remedy="expected a start before an end"
            )
        name = safe_name(f"{youtube_id}_{start}_{end}", where)
        video = video_file(folder / "videos", name)
        clips.append(_Clip(str(name), youtube_id, video, {key: tuple(some) for key, some in own.items()}))
    if not clips:
        raise UserError("no rows after the header", where=path, remedy=OBTAIN)
    return clips


# ---- the paper's protocol ----------------------------------------------------------------------------------


def load(folder: Path, split: str, *, category: str) -> list[Sample]:
    """The clips of a split, in its order; the label is whether the clip has a tag of the category.

    `choices` are 30 tags, `fields` has them as `asked`, their categories as `categories`, and the clip's own
    among them as `own` (category -> tag).

    Raises:
        UserError: a list is absent, or a row is malformed or has an unknown tag.
    """
    known_split(split, SPLITS)
    tags = categories(folder)
    samples = [_shown(clip, tags, category) for clip in _clips(folder, split, tags)]
    return distinct(samples, folder)


def _shown(clip: _Clip, tags: Mapping[str, Sequence[str]], category: str) -> Sample:
    category_of: dict[str, str] = {}
    found: dict[str, str] = {}
    for name, some in tags.items():
        own = clip.own[name]
        key = f"hvu|{clip.id}|{name}"
        mine = drawn(own, min(1, len(own)), f"{key}|own")
        found.update((name, _words(tag)) for tag in mine)
        # a category whose tags are nearly all the clip's has too few others: then more of them are its own
        without = own if len(some) - len(own) + len(mine) >= SHOWN_OF_EACH else mine
        others = drawn(some, SHOWN_OF_EACH - len(mine), key, without)
        category_of |= {_words(tag): name for tag in (*mine, *others)}
    shown = shuffled(category_of, f"hvu|{clip.id}")
    return Sample(
        id=clip.id,
        label=bool(clip.own[category]),
        media_path=clip.media_path,
        media_kind="video",
        cluster=clip.youtube_id,
        choices=shown,
        fields={
            "asked": ", ".join(shown),
            "categories": tuple(category_of[tag] for tag in shown),
            "own": found,
        },
    )


def answer(sample: Sample, *, category: str) -> str:
    """One of the clip's own tags among the choices: of the category, where it has one."""
    own: Mapping[str, str] = sample.fields["own"]
    return own.get(category) or next(iter(own.values()))


def choose(sample: Sample, log_probs: Sequence[float], *, category: str) -> float:
    """The likelihood, 0..1 among all choices, of those of the five likeliest that are in the category."""
    shares = [math.exp(value - max(log_probs)) for value in log_probs]
    picked = sorted(range(len(shares)), key=lambda place: -shares[place])[:PICKS]
    inside = sum(shares[place] for place in picked if sample.fields["categories"][place] == category)
    return round(inside / sum(shares), DIGITS)


# ---- the official protocol ---------------------------------------------------------------------------------


def load_official(folder: Path, split: str, *, category: str) -> list[Sample]:
    """The clips of a split, in its order; `choices` are all tags of the category, the label is the list of
    the indices of those the clip has, ascending; often it has none.

    Raises:
        UserError: a list is absent, or a row is malformed or has an unknown tag.
    """
    known_split(split, SPLITS)
    tags = categories(folder)
    choices = tuple(map(_words, tags[category]))
    index = {tag: number for number, tag in enumerate(tags[category])}
    samples = [
        Sample(
            id=clip.id,
            label=sorted(index[tag] for tag in clip.own[category]),
            media_path=clip.media_path,
            media_kind="video",
            cluster=clip.youtube_id,
            choices=choices,
        )
        for clip in _clips(folder, split, tags)
    ]
    return distinct(samples, folder)


def answer_official(sample: Sample) -> str:
    """The clip's tags of the category; "none" where it has none."""
    return ", ".join(sample.choices[number] for number in sample.label) or "none"


def choose_official(sample: Sample, log_probs: Sequence[float]) -> list[float]:
    """The score of every tag."""
    return [round(value, DIGITS) for value in log_probs]


# ---- tasks -------------------------------------------------------------------------------------------------

_EXAMPLE_TAGS = "Tag,Category\n" + "".join(
    f"{category}_{letter},{category}\n" for category in CATEGORIES for letter in "abcde"
)


def _example(row: str) -> dict[str, str]:
    return {_TAGS: _EXAMPLE_TAGS, "HVU_Val_V1.0.csv": f"{','.join(_COLUMNS)}\n{row}\n"}


# Source: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), HVU table, zero-shot without a story.
_PUBLISHED = {
    "scene": 0.5203,
    "object": 0.6533,
    "action": 0.7795,
    "event": 0.3266,
    "attribute": 0.4567,
    "concept": 0.5120,
}
# Source: counted in HVU_Val_V1.0.csv; the share of clips with a tag of the category.
_PREVALENCE = {
    "scene": 0.5197,
    "object": 0.9912,
    "action": 0.9971,
    "event": 0.3485,
    "attribute": 0.7503,
    "concept": 0.8965,
}
_LOW_LEVEL = ("scene", "object", "action")


def _paper(category: str) -> Task:
    return Task(
        name=f"hvu_{category}",
        benchmark="HVU",
        metric="average_precision",
        modality="video",
        splits=SPLITS,
        load=partial(load, category=category),
        question="Which of these tags fit best: {asked}?",
        labels=(),
        answer=partial(answer, category=category),
        parse=unread,
        choose=partial(choose, category=category),
        scoring="mean",
        best=1.0,
        chance=_PREVALENCE[category],
        examples=(
            (_example(f"{category}_b,aaaaaaaaaaa,1.5,3.5"), f"{category} b"),
            (_example(f"{category}_e,-bbbbbbbbbb,0,10"), f"{category} e"),
        ),
        obtain=OBTAIN,
        license=LICENSE,
        protocol="paper",
        paper=True,
        published=_PUBLISHED[category],
        low_level=category in _LOW_LEVEL,
        test_split="val",
    )


def _official(category: str) -> Task:
    return Task(
        name=f"hvu_{category}_official",
        benchmark="HVU",
        metric="mean_average_precision",
        modality="video",
        splits=SPLITS,
        load=partial(load_official, category=category),
        question="Which tag fits this video?",
        labels=(),
        answer=answer_official,
        parse=unread,
        choose=choose_official,
        scoring="mean",
        best=1.0,
        chance=None,
        examples=(
            (_example(f"{category}_b,aaaaaaaaaaa,1.5,3.5"), f"{category} b"),
            (_example(f"{category}_e|{category}_a,-bbbbbbbbbb,0,10"), f"{category} a, {category} e"),
        ),
        obtain=OBTAIN,
        license=LICENSE,
        low_level=category in _LOW_LEVEL,
        test_split="val",
    )


TASKS = (*map(_paper, CATEGORIES), *map(_official, CATEGORIES))

"""Video advertisements: what one is about, what viewers feel, what they should do and why.

benchmark: the video ads of Hussain et al.; folder `video` of annotations_videos.zip with
    `final_video_id_list.csv`, `{Topics,Sentiments}_List.txt`,
    `cleaned_result/video_{Topics,Sentiments}_clean.json`, `raw_result/video_QA_{Action,Reason}_raw.json`
paper: Hussain et al., CVPR 2017, https://arxiv.org/abs/1707.03067; files:
    https://people.cs.pitt.edu/~kovashka/ads
license: none stated; the videos are YouTube's and many are gone
splits: none official of 3,477 videos; ours by a hash of the id: train 1,765, val 343, test 1,369
metric: accuracy; over 38 topics (the most frequent has 8.9 % of all videos), 30 sentiments (23.2 %), 7
    clubbed ones (48.0 % as clubbed here); of statements, the one that is the video's among 30 or 6 (chance
    3.33 and 16.67 %)
published: topic 22.65, sentiments 11.13, clubbed 60.04, action 42.66, reason 33.33 % (Behavior-LLaVA,
    zero-shot, with the video alone)
protocol: The paper follows Video-4096 (https://arxiv.org/abs/2305.09758), on the 1,785 videos that YouTube
    still had. Its tables exchange the headers "Clubbed" and "All labels": the column in which chance is 3.37
    must be of 30 sentiments, that with 14.3 of 7; read so here. Not published and so ours: which sentiment is
    in which of the seven classes (CLUBBED, with reasons; another assignment gives other numbers), which of a
    video's statements (mostly five) is the truth (the first), where the distractors come from (statements of
    other videos that are not the first there, by a hash of the video's id, none of them the video's own), the
    splits, the questions. The statements are compared by the mean of their tokens, for they are of any
    length; so are topics, of one to four words. Video-4096 gives its fine-tuned baseline 5 distractors: *_6.
    A video is looked for as `videos/<id>.<suffix>` beside `video`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Sample, Task
from behavior_llava.evaluation.benchmarks import (
    distinct,
    first_line,
    known_split,
    label_words,
    one_label,
    read_json,
    read_rows,
    safe_name,
    video_file,
)
from behavior_llava.evaluation.drawing import drawn, number, shuffled

SPLITS = ("train", "val", "test")
_SPLIT_OF_TENTH = (*["train"] * 5, "val", *["test"] * 4)

# Source: annotations_videos.zip, video/Topics_List.txt, the abbreviations in the order of their ids from 1.
TOPICS = (
    *("restaurant", "chocolate", "chips", "seasoning", "petfood", "alcohol", "coffee", "soda", "cars"),
    *("electronics", "phone_tv_internet_providers", "financial", "education", "security", "software"),
    *("other_service", "beauty", "healthcare", "clothing", "baby", "game", "cleaning", "home_improvement"),
    *("home_appliance", "travel", "media", "sports", "shopping", "gambling", "environment", "animal_right"),
    *("human_right", "safety", "smoking_alcohol_abuse", "domestic_violence", "self_esteem", "political"),
    "charities",
)

# Source of the classes: Video-4096 (https://arxiv.org/abs/2305.09758), its clubbed sentiments.
CLASSES = ("joy", "trust", "fear", "anger", "disgust", "anticipation", "unclear")

# Source of the sentiments: annotations_videos.zip, video/Sentiments_List.txt, the abbreviations in the order
# of their ids from 1; what a reason quotes stands there too. Source of the wheel: Plutchik, The Nature of
# Emotions, American Scientist 89 (2001): eight emotions with a weaker and a stronger form each, and what two
# of them make together. Surprise and sadness are on the wheel and not among the classes.
CLUBBED: Mapping[str, tuple[str, str]] = {
    "active": ("joy", '"enthusiastic, playful": a form of joy'),
    "afraid": ("fear", "fear itself"),
    "alarmed": ("fear", '"worried, anxious": apprehension, the weaker form of fear'),
    "alert": ("anticipation", '"attentive, curious": interest and vigilance are its two forms'),
    "amazed": ("anticipation", 'surprise is no class; "fascinated, intrigued" is interest'),
    "amused": ("joy", '"laughing": joy itself'),
    "angry": ("anger", '"annoyed": annoyance, the weaker form of anger'),
    "calm": ("joy", '"peaceful": serenity, the weaker form of joy'),
    "cheerful": ("joy", '"joyful": joy itself'),
    "confident": ("trust", '"assured": trust in oneself'),
    "conscious": ("anticipation", '"aware, prepared": vigilance, its stronger form'),
    "creative": ("unclear", '"inventive, productive" is an ability and not on the wheel'),
    "disturbed": ("disgust", '"disgusted": disgust itself'),
    "eager": ("anticipation", '"hungry, thirsty": looking forward to what comes'),
    "educated": ("unclear", '"informed, smart" is a state of knowledge and not on the wheel'),
    "emotional": ("trust", '"moved, nostalgic": sentimentality is trust and sadness, which is no class'),
    "empathetic": ("trust", '"receptive": acceptance, the weaker form of trust'),
    "fashionable": ("unclear", '"trendy, elegant" is a look and not on the wheel'),
    "feminine": ("unclear", "not on the wheel"),
    "grateful": ("trust", '"thankful": admiration, its stronger form, for somebody who gave'),
    "inspired": ("anticipation", '"hopeful, determined": hope is anticipation and trust'),
    "jealous": ("anger", "envy is anger and sadness, which is no class"),
    "loving": ("joy", "love is joy and trust; joy is named first"),
    "manly": ("unclear", "not on the wheel"),
    "persuaded": ("trust", '"impressed": admiration, its stronger form'),
    "pessimistic": (
        "disgust",
        '"skeptical": cynicism is disgust and anticipation',
    ),
    "proud": ("joy", "pride is anger and joy; nothing is resented here"),
    "sad": ("disgust", "sadness is no class; of its neighbors on the wheel only disgust is one"),
    "thrifty": ("unclear", '"frugal" is a habit and not on the wheel'),
    "youthful": ("unclear", '"childlike" is an age and not on the wheel'),
}
SENTIMENTS = tuple(CLUBBED)

OBTAIN = (
    "unpack annotations_videos.zip of https://people.cs.pitt.edu/~kovashka/ads and give the folder that "
    "holds video, with the videos in videos/ beside it"
)
LICENSE = "none stated; the videos are YouTube's and many are gone"

_QUOTED = re.compile(r"'([^']+)'")
_NAMED = re.compile(r'\s*([0-9]+)\b.*\(ABBREVIATION:\s*"([^"]+)"\)\s*')


# ---- files -------------------------------------------------------------------------------------------------


def split_of(video: str) -> str:
    """The split of a video: a tenth, told by a hash of its id, has one place in it."""
    return _SPLIT_OF_TENTH[number(f"hussain video ads|{video}") % len(_SPLIT_OF_TENTH)]


def _videos(folder: Path, split: str) -> list[tuple[str, str]]:
    """(place, id) of the split's videos, in the order of the list."""
    known_split(split, SPLITS)
    found = []
    for where, row in read_rows(folder / "video" / "final_video_id_list.csv", OBTAIN):
        quoted = _QUOTED.fullmatch(row)
        if quoted is None:
            raise UserError(f"found {row!r}", where=where, remedy="expected a video's id in single quotes")
        name = str(safe_name(quoted[1], where))
        if split_of(name) == split:
            found.append((where, name))
    return found


def _check_names(path: Path, names: Sequence[str]) -> None:
    """Refuse a list whose ids 1, 2, ... are not `names`; its texts are not UTF-8 and not used."""
    if not path.is_file():
        read_rows(path, OBTAIN)
    lines = path.read_bytes().decode("latin-1").splitlines()
    found = [match.groups() for line in lines if (match := _NAMED.fullmatch(line))]
    if found != [(str(place), name) for place, name in enumerate(names, 1)]:
        raise UserError(
            f"the list has {', '.join(name for _, name in found) or 'no abbreviations'}",
            where=path,
            remedy=f"expected 1..{len(names)}: {', '.join(names)}",
        )


def _by_video(path: Path) -> dict[str, Any]:
    values = read_json(path, OBTAIN)
    if not isinstance(values, dict):
        raise UserError("expected an object of video ids", where=path, remedy=OBTAIN)
    return values


def _value(values: Mapping[str, Any], video: str, path: Path) -> Any:
    if video not in values:
        raise UserError(f"nothing about video {video!r} of the list", where=path, remedy=OBTAIN)
    return values[video]


def _sample(folder: Path, video: str, label: str, choices: tuple[str, ...] = ()) -> Sample:
    path = video_file(folder / "videos", video)
    return Sample(id=video, label=label, media_path=path, media_kind="video", choices=choices)


def load_classes(folder: Path, split: str, *, part: str, names: Sequence[str]) -> list[Sample]:
    """The split's videos, in the order of the list; the label is one of `names`.

    Args:
        part: "Topics" or "Sentiments".
        names: what its ids 1, 2, ... are called in the official list.

    Raises:
        UserError: a file is absent or malformed, has nothing about a video, or an id that is none.
    """
    base = folder / "video"
    videos = _videos(folder, split)
    _check_names(base / f"{part}_List.txt", names)
    path = base / "cleaned_result" / f"video_{part}_clean.json"
    values = _by_video(path)
    # the other files of the release write ids as strings
    name_of = {spelled: name for place, name in enumerate(names, 1) for spelled in (place, str(place))}
    samples = []
    for _, video in videos:
        value = _value(values, video, path)
        if not isinstance(value, (int, str)) or isinstance(value, bool) or value not in name_of:
            raise UserError(
                f"found {value!r}", where=f"{path} {video!r}", remedy=f"expected an id from 1 to {len(names)}"
            )
        samples.append(_sample(folder, video, name_of[value]))
    return distinct(samples, base / "final_video_id_list.csv")


def load_topics(folder: Path, split: str) -> list[Sample]:
    """As `load_classes`; a topic in words."""
    samples = load_classes(folder, split, part="Topics", names=TOPICS)
    return [replace(sample, label=sample.label.replace("_", " ")) for sample in samples]


def load_clubbed(folder: Path, split: str) -> list[Sample]:
    """As `load_classes`; the class a sentiment is in."""
    samples = load_classes(folder, split, part="Sentiments", names=SENTIMENTS)
    return [replace(sample, label=CLUBBED[sample.label][0]) for sample in samples]


def load_statements(folder: Path, split: str, *, part: str, num_choices: int) -> list[Sample]:
    """The split's videos, in the order of the list; `choices` are statements, the label is the video's first.

    Args:
        part: "Action" or "Reason".

    Raises:
        UserError: a file is absent or malformed, a video has no statement, or there are too few to draw from.
    """
    path = folder / "video" / "raw_result" / f"video_QA_{part}_raw.json"
    videos = _videos(folder, split)
    statements = {video: _statements(value, f"{path} {video!r}") for video, value in _by_video(path).items()}
    # what differs in case only is one statement
    spelled: dict[str, str] = {}
    for some in statements.values():
        for statement in some[1:]:
            spelled.setdefault(statement.casefold(), statement)
    pool = tuple(spelled)
    samples = []
    for _, video in videos:
        own = _value(statements, video, path)
        mine = {statement.casefold() for statement in own} & spelled.keys()
        if len(pool) - len(mine) < num_choices - 1:
            raise UserError(
                f"only {len(pool)} statements to draw {num_choices - 1} from", where=path, remedy=OBTAIN
            )
        keys = drawn(pool, num_choices - 1, f"hussain video ads|{part}|{video}", mine)
        shown = shuffled([own[0], *(spelled[key] for key in keys)], f"hussain video ads|{part}|{video}")
        samples.append(_sample(folder, video, own[0], shown))
    return distinct(samples, folder / "video" / "final_video_id_list.csv")


def _statements(value: Any, where: str) -> list[str]:
    """A video's statements in one line each, without empty ones."""
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UserError(f"found {value!r}", where=where, remedy="expected a list of statements")
    found = [line for line in (" ".join(one.split()) for one in value) if line]
    if not found:
        raise UserError("no statement", where=where, remedy=OBTAIN)
    return found


# ---- tasks -------------------------------------------------------------------------------------------------


def _words(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name.replace("_", " ") for name in names)


def _names_file(names: Sequence[str]) -> str:
    return "".join(f'{place}. "..." (ABBREVIATION: "{name}")\n' for place, name in enumerate(names, 1))


# By their hashes the first is in train and the second in test.
_IDS = "'aaaaaaaaaaa'\n'iiiiiiiiiii'\n"


def _class_example(part: str, names: Sequence[str], value: int | str) -> dict[str, str]:
    quoted = f'"{value}"' if isinstance(value, str) else value
    return {
        "video/final_video_id_list.csv": _IDS,
        f"video/{part}_List.txt": _names_file(names),
        f"video/cleaned_result/video_{part}_clean.json": f'{{"aaaaaaaaaaa": 1, "iiiiiiiiiii": {quoted}}}',
    }


def _statement_example(part: str, statement: str) -> dict[str, str]:
    others = ", ".join(f'"Buy {count} cups."' for count in range(40))
    return {
        "video/final_video_id_list.csv": "'iiiiiiiiiii'\n",
        f"video/raw_result/video_QA_{part}_raw.json": (
            f'{{"aaaaaaaaaaa": [{others}], "iiiiiiiiiii": ["{statement}", "buy 7 cups."]}}'
        ),
    }


def _class_task(
    name: str,
    question: str,
    labels: tuple[str, ...],
    load: Any,
    examples: Sequence[tuple[dict[str, str], str]],
    published: float,
) -> Task:
    return Task(
        name=name,
        benchmark="Hussain Video Ads",
        metric="accuracy",
        modality="video",
        splits=SPLITS,
        load=load,
        question=question,
        labels=labels,
        answer=label_words,
        parse=one_label(labels),
        best=1.0,
        chance=1 / len(labels),
        examples=examples,
        obtain=OBTAIN,
        license=LICENSE,
        protocol="paper",
        paper=True,
        published=published,
        scoring="mean" if any(" " in label for label in labels) else "sum",
    )


def _statement_task(name: str, question: str, part: str, num_choices: int, published: float | None) -> Task:
    return Task(
        name=name,
        benchmark="Hussain Video Ads",
        metric="accuracy",
        modality="video",
        splits=SPLITS,
        load=partial(load_statements, part=part, num_choices=num_choices),
        question=question,
        labels=(),
        answer=label_words,
        parse=first_line,
        best=1.0,
        chance=1 / num_choices,
        examples=(
            (_statement_example(part, "Buy  this car. "), "Buy this car."),
            (_statement_example(part, "Because it is fast"), "Because it is fast"),
        ),
        obtain=OBTAIN,
        license=LICENSE,
        protocol="paper",
        paper=published is not None,
        published=published,
        scoring="mean",
    )


_FEELING = "What do viewers of this advertisement feel?"
_ACTION = "What does this advertisement want viewers to do?"
_REASON = "Why should viewers do what this advertisement wants?"

# Source of the published numbers: Behavior-LLaVA (https://arxiv.org/abs/2405.00942), advertisement table,
# zero-shot, the row with the video alone; the headers of the sentiments exchanged, see the protocol above.
TASKS = (
    _class_task(
        "video_ads_topic",
        "What is this advertisement about?",
        _words(TOPICS),
        load_topics,
        (
            (_class_example("Topics", TOPICS, 27), "sports"),
            (_class_example("Topics", TOPICS, "11"), "phone tv internet providers"),
        ),
        0.2265,
    ),
    _class_task(
        "video_ads_sentiment_all",
        _FEELING,
        SENTIMENTS,
        partial(load_classes, part="Sentiments", names=SENTIMENTS),
        (
            (_class_example("Sentiments", SENTIMENTS, 6), "amused"),
            (_class_example("Sentiments", SENTIMENTS, 30), "youthful"),
        ),
        0.1113,
    ),
    _class_task(
        "video_ads_sentiment_clubbed",
        _FEELING,
        CLASSES,
        load_clubbed,
        (
            (_class_example("Sentiments", SENTIMENTS, 6), "joy"),
            (_class_example("Sentiments", SENTIMENTS, 2), "fear"),
        ),
        0.6004,
    ),
    _statement_task("video_ads_action", _ACTION, "Action", 30, 0.4266),
    _statement_task("video_ads_reason", _REASON, "Reason", 30, 0.3333),
    _statement_task("video_ads_action_6", _ACTION, "Action", 6, None),
    _statement_task("video_ads_reason_6", _REASON, "Reason", 6, None),
)

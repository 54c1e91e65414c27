"""The sample browser: a page of its own, for any number of samples, that works from a file and offline.

In: predictions, and where the media are. Out: `samples.html` and a folder `samples/` with the program, an
index that is read at once, chunks of rows and of texts that are read when they are needed (a page opened from
a file may load scripts, but not fetch data, so chunks are scripts), and one small JPEG a medium.

Predictions are read a batch at a time; what grows with their number in memory is Arrow's, and a few bytes a
sample for the index. A sample here is one question in one setting and seed, with the answers of all arms.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from behavior_llava.core.media import MediaFault
from behavior_llava.evaluation import metrics
from behavior_llava.reporting import charts, thumbnails
from behavior_llava.reporting.content import Picture
from behavior_llava.reporting.page import environment
from behavior_llava.reporting.tables import variant_name

FILE_NAME, FOLDER = "samples.html", "samples"
ROWS_A_CHUNK, TEXTS_A_CHUNK = 200, 5000
"""Rows are read to be shown, 20 at a time; texts to be searched, all of them."""

_LONGEST_SHOWN, _LONGEST_SEARCHED = 2000, 300
_BATCH = 4096
_THREADS = 4
_KEY_LENGTH = 16
_HIT_METRICS = ("accuracy", "exact_match", "judge_accuracy")
RIGHT, WRONG, UNPARSED, NOT_JUDGED, NOT_RUN = "rwun-"
"""What is said of an answer, a letter each."""


_SAME = ("task", "setting", "label_fraction", "shots", "seed", "sample_id")
_READ = (*_SAME, "arm", "metric", "prediction", "label", "answer", "context", "cluster")
_LATER = ("media_path", "likely")
"""Columns that predictions of earlier versions lack; they are shown as not recorded."""


@dataclass(frozen=True, slots=True)
class Look:
    """What is shown of a medium.

    Attributes:
        key: equal for equal media, which have one thumbnail.
        pictures: gives the image, or frames of the video; a MediaFault where they cannot be had.
    """

    key: str
    kind: Literal["image", "video"]
    pictures: Callable[[], Sequence[Picture]]


@dataclass(frozen=True, kw_only=True)
class Browsed:
    """What a browser is made of.

    Attributes:
        table: rows of PREDICTIONS; only primary ones are shown.
        arms: in the order to show them.
        question: (task, sample id) -> the words asked.
        look: a sample's row of predictions -> the medium; None for a text.
        most: samples shown; of more, evenly many of all are left out, and the page says so.
    """

    title: str
    table: pa.Table
    arms: Sequence[str]
    question: Callable[[str, str], str]
    look: Callable[[Mapping[str, Any]], Look | None]
    most: int
    synthetic: bool


@dataclass
class _Index:
    """What the page knows of every sample before it reads any chunk."""

    contests: list[dict[str, Any]] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)

    def add(self, first: Mapping[str, Any], verdicts: str) -> None:
        fraction, shots = first["label_fraction"], first["shots"]
        contest = {
            "task": first["task"],
            "setting": variant_name(first["setting"], fraction, shots),
            "seed": first["seed"],
        }
        if not self.contests or any(self.contests[-1][name] != value for name, value in contest.items()):
            self.contests.append({**contest, "count": 0})
        self.contests[-1]["count"] += 1
        self.verdicts.append(verdicts)
        self.keys.append(sample_key(first))


def sample_key(row: Mapping[str, Any]) -> str:
    """What a link to a sample ends with: the same in every report on the same question, setting and seed."""
    told = json.dumps([row[name] for name in _SAME], ensure_ascii=True)
    return hashlib.sha256(told.encode()).hexdigest()[:_KEY_LENGTH]


def write(browsed: Browsed, folder: Path) -> int:
    """Writes the browser beside the report's page; returns how many samples it shows."""
    place = folder / FOLDER
    place.mkdir(parents=True, exist_ok=True)
    index, pictures = _Index(), _Pictures(place)
    rows, total = _sorted(browsed.table)
    chosen = _evenly(_samples(rows, browsed.arms), total, browsed.most)
    waiting: list[str] = []
    texts = 0
    for number, some in enumerate(_batched(chosen, ROWS_A_CHUNK)):
        shown = [_Shown(browsed, answers) for answers in some]
        files = pictures.files([one.look for one in shown])
        for one in shown:
            index.add(one.first, one.verdicts)
            waiting.append(one.text)
        _write_chunk(place, "rows", number, [one.row(file) for one, file in zip(shown, files, strict=True)])
        if len(waiting) >= TEXTS_A_CHUNK:
            _write_chunk(place, "texts", texts, waiting[:TEXTS_A_CHUNK])
            del waiting[:TEXTS_A_CHUNK]
            texts += 1
    if waiting:
        _write_chunk(place, "texts", texts, waiting)
    _write_chunk(
        place,
        "index",
        0,
        {
            "arms": [{"name": arm, "color": f"var(--arm-{charts.arm_slot(arm)})"} for arm in browsed.arms],
            "contests": index.contests,
            "verdicts": "".join(index.verdicts),
            "keys": "".join(index.keys),
            "rowsAChunk": ROWS_A_CHUNK,
            "textsAChunk": TEXTS_A_CHUNK,
        },
    )
    program = resources.files("behavior_llava.reporting").joinpath("templates", "samples.js")
    (place / "samples.js").write_text(program.read_text(encoding="utf-8"), encoding="utf-8")
    page = environment().get_template("samples.html.j2")
    (folder / FILE_NAME).write_text(
        page.render(title=browsed.title, count=len(index.keys), total=total, is_synthetic=browsed.synthetic),
        encoding="utf-8",
    )
    return len(index.keys)


# ---- from predictions to samples ---------------------------------------------------------------------------


def _sorted(table: pa.Table) -> tuple[Iterator[dict[str, Any]], int]:
    """The primary rows, those of one sample together; the number of samples."""
    for name in _LATER:
        if name not in table.schema.names:
            table = table.append_column(name, pa.nulls(table.num_rows))
    primary = table.filter(pc.field("primary")).select([*_READ, *_LATER])
    total = primary.group_by(list(_SAME)).aggregate([]).num_rows
    options = pc.SortOptions(sort_keys=[(name, "ascending") for name in (*_SAME, "arm")])
    order = pc.call_function("sort_indices", [primary], options)
    batches = (primary.take(order.slice(start, _BATCH)).to_pylist() for start in range(0, len(order), _BATCH))
    return itertools.chain.from_iterable(batches), total


def _samples(rows: Iterator[dict[str, Any]], arms: Sequence[str]) -> Iterator[list[dict[str, Any] | None]]:
    """Every sample's row of each arm, in the order of the arms; None where an arm was not asked."""
    for _, same in itertools.groupby(rows, key=lambda row: [row[name] for name in _SAME]):
        of_arm = {row["arm"]: row for row in same}
        yield [of_arm.get(arm) for arm in arms]


def _evenly(samples: Iterator[Any], total: int, most: int) -> Iterator[Any]:
    """All of them, or `most` spread over the whole."""
    for number, one in enumerate(samples):
        if total <= most or (number + 1) * most // total > number * most // total:
            yield one


def _batched(samples: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while some := list(itertools.islice(samples, size)):
        yield some


class _Shown:
    """One sample with all arms' answers, on its way to the page."""

    def __init__(self, browsed: Browsed, answers: Sequence[Mapping[str, Any] | None]) -> None:
        self.answers = answers
        self.first = next(row for row in answers if row is not None)
        task, sample_id = self.first["task"], self.first["sample_id"]
        self.question = browsed.question(task, sample_id)
        self.label = label_words(self.first["label"])
        self.look = browsed.look(self.first)
        self.verdicts = "".join(NOT_RUN if row is None else verdict(row) for row in answers)

    @property
    def text(self) -> str:
        """What is searched: in lower case, with letters that look alike made equal."""
        said = [text for row in self.answers if row is not None for text in (row["answer"], row["context"])]
        whole = [self.first["sample_id"], self.question, self.label, *said]
        short = "\n".join(dict.fromkeys(one[:_LONGEST_SEARCHED] for one in whole if one))
        return unicodedata.normalize("NFKC", short).lower()

    def row(self, picture: Mapping[str, Any] | None) -> dict[str, Any]:
        """What is shown."""
        return {
            "id": self.first["sample_id"],
            "question": _cut(self.question),
            "label": _cut(self.label),
            "picture": picture,
            "answers": [
                None
                if row is None
                else {
                    "text": _cut(row["answer"] or ""),
                    "context": None if row["context"] is None else _cut(row["context"]),
                    "likely": None
                    if row["likely"] is None
                    else [[one["label"], round(one["probability"], 4)] for one in row["likely"]],
                }
                for row in self.answers
            ],
        }


def verdict(row: Mapping[str, Any]) -> str:
    """One letter: right, wrong, unparsed; or not judged: numbers, and words without a judge."""
    if row["prediction"] is None:
        return UNPARSED
    if row["metric"] not in _HIT_METRICS:
        return NOT_JUDGED
    said, true = json.loads(row["prediction"]), json.loads(row["label"])
    return RIGHT if metrics.named(row["metric"]).columns([said], [true])[0, 0] == 1 else WRONG


def label_words(label: str) -> str:
    """A label as a person reads it, from its JSON."""
    value = json.loads(label)
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cut(text: str) -> str:
    if len(text) <= _LONGEST_SHOWN:
        return text
    return f"{text[:_LONGEST_SHOWN]} … (cut; {len(text):,} characters in all)"


# ---- files -------------------------------------------------------------------------------------------------


class _Pictures:
    """Thumbnails, written once a medium."""

    def __init__(self, place: Path) -> None:
        self._folder = place / "media"
        self._folder.mkdir(exist_ok=True)
        self._known: dict[str, dict[str, Any]] = {}

    def files(self, looks: Sequence[Look | None]) -> list[dict[str, Any] | None]:
        """Each medium's file and size, or the fault that it cannot be shown for; None for a text."""
        new = {one.key: one for one in looks if one is not None and one.key not in self._known}
        with ThreadPoolExecutor(_THREADS) as threads:
            self._known |= dict(zip(new, threads.map(self._write, new.values()), strict=True))
        return [None if one is None else self._known[one.key] for one in looks]

    def _write(self, look: Look) -> dict[str, Any]:
        try:
            pictures = look.pictures()
        except MediaFault as fault:
            return {"kind": look.kind, "fault": str(fault)}
        if not pictures:
            return {"kind": look.kind, "fault": "no frame"}
        small = thumbnails.strip(pictures)
        if isinstance(small, str):
            return {"kind": look.kind, "fault": small}
        name = f"{hashlib.sha256(look.key.encode()).hexdigest()[:_KEY_LENGTH]}.jpg"
        (self._folder / name).write_bytes(thumbnails.jpeg(small))
        size = {"width": small.width, "height": small.height}
        return {"kind": look.kind, "file": name, "frames": len(pictures), **size}


def _write_chunk(place: Path, kind: str, number: int, value: Any) -> None:
    """A script that hands over a value as text: JSON in JSON, so that nothing in it can be anything else."""
    text = json.dumps(json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False))
    # in a .js file "<" has no meaning, but a file may be pasted into a page
    text = text.replace("<", "\\u003c")
    (place / f"{kind}-{number}.js").write_text(
        f'behaviorLlavaSamples("{kind}", {number}, {text});\n', encoding="ascii"
    )

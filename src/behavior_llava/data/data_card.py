"""The data card of a published data set, in Hugging Face's form: what is in it, where from, and its biases.

In: what was counted while the rows were written (`Tally`) and what earlier stages know (`CardFacts`). Out:
the text of README.md. Whatever people or sources wrote is hostile: it goes into the card inert, on one line
and shortened; no comment, title or channel of a person goes in at all. Called by data/publishing.py.
"""

from __future__ import annotations

import inspect
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from behavior_llava.core import discover
from behavior_llava.core.schema import Example, Post
from behavior_llava.data import comment_signals
from behavior_llava.data.comment_signals import SIGNALS, Counts
from behavior_llava.data.exposure import WITHIN
from behavior_llava.data.splits import Config as SplitConfig
from behavior_llava.data.verbalizer import Template

CONTENT_ONLY = "content only"

_MOST_LICENSES = 1000
"""Different texts kept apart; a source that states another one for every post must not fill the memory."""
_SHOWN_LICENSES = 20
_LONGEST_TEXT = 120
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
"""Source: `size_categories` in the metadata of Hugging Face's data set cards."""
_TASKS = {"image": "image-text-to-text", "video": "video-text-to-text"}
_HOUR_S, _DAY_H = 3600, 24


@dataclass(frozen=True, kw_only=True)
class CardFacts:
    """What the card says that is not counted from the rows.

    Attributes:
        arm: which training data this is.
        template: that the rows were said in.
        splits: how posts were divided.
        survivors: source -> the funnel's lines: filter, table, rows_in, kept, dropped, pooled.
        left_out: reason -> kept posts of all splits that could not be said, e.g. no_caption.
    """

    arm: str
    template: Template
    splits: SplitConfig
    survivors: Mapping[str, Sequence[Mapping[str, Any]]]
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Tally:
    """What is counted of the rows, one after the other; its size does not grow with their number."""

    splits: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    media: Counter[str] = field(default_factory=Counter)
    licenses: Counter[str | None] = field(default_factory=Counter)
    other_licenses: int = 0
    ages_h: dict[str, Counter[int]] = field(default_factory=dict)
    unknown_ages: Counter[str] = field(default_factory=Counter)
    within: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    synthetic: int = 0
    comments: Counts = field(default_factory=lambda: comment_signals.measure(()))
    example: Example | None = None

    def add(self, example: Example, post: Post, split: str, label_age_s: Mapping[str, float | None]) -> None:
        """Counts a row."""
        self.splits[split] += 1
        self.media[post.media_kind] += 1
        for kind in example.behaviors or (CONTENT_ONLY,):
            self.kinds[kind, post.source, post.media_kind] += 1
        stated = None if post.licence is None else _one_line(post.licence) or None
        if stated in self.licenses or len(self.licenses) < _MOST_LICENSES:
            self.licenses[stated] += 1
        else:
            self.other_licenses += 1
        for kind, age in label_age_s.items():
            if age is None:
                self.unknown_ages[kind] += 1
            else:
                self.ages_h.setdefault(kind, Counter())[int(age // _HOUR_S)] += 1
        for count, adjusted in (post.adjusted or {}).items():
            self.within[count, adjusted.percentile_within] += 1
        if post.is_synthetic:
            self.synthetic += 1
            self.example = self.example or example
        self.comments += comment_signals.measure(comment.text for comment in post.comments if comment.text)


# ---- hostile text ------------------------------------------------------------------------------------------


def _one_line(text: str) -> str:
    """On one line, without control and direction marks, cut to a length."""
    plain = "".join(
        letter for letter in " ".join(text.split()) if not unicodedata.category(letter).startswith("C")
    )
    return plain if len(plain) <= _LONGEST_TEXT else f"{plain[:_LONGEST_TEXT]}\u2026"


# All but letters, digits, blanks, the underscore inside a word, and signs that mean nothing within a line.
_MEANS_SOMETHING = re.compile(r"""[^\w\s.,:;'"()%?!+=-]|(?<![^\W_])_|_(?![^\W_])|(?<=www)\.""", re.IGNORECASE)


def _inert(value: Any) -> Any:
    """Text that neither Markdown nor HTML gives a meaning to, not even that of a link: signs that may have
    one are written as their numbers.

    Numbers, and what is already marked as safe, stay as they are.
    """
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return Markup(_MEANS_SOMETHING.sub(lambda sign: f"&#{ord(sign[0])};", value))


def _inert_line(text: str) -> Markup:
    return _inert(_one_line(text))


def _block(text: str) -> Markup:
    """Lines for a <pre>."""
    return Markup("\n").join(_inert(line) for line in text.splitlines())


# ---- rows of the tables ------------------------------------------------------------------------------------


def _summary(package: str, constant: str, name: str) -> str | None:
    """The first sentence of the file that declares a thing; None where there is no such file."""
    if name not in discover.find(package, constant):
        return None
    words = inspect.cleandoc(sys.modules[f"behavior_llava.{package}.{name}"].__doc__ or "")
    return re.split(r"(?<=\.)\s|\n\n|:\n", words)[0].replace("\n", " ")


def _kind_rows(tally: Tally) -> list[dict[str, Any]]:
    rows = []
    for (kind, source, media), samples in sorted(tally.kinds.items()):
        what = "What is seen, without behavior." if kind == CONTENT_ONLY else None
        what = what or _summary("data.behaviors", "BEHAVIOR", kind)
        origin = _summary("data.sources", "SOURCE", source)
        rows.append(
            {
                "kind": _inert_line(kind),
                "what": _inert(what or "not described"),
                "source": _inert_line(source),
                "origin": _inert(origin or "not described"),
                "media": media,
                "samples": samples,
            }
        )
    return rows


def _license_rows(tally: Tally) -> list[tuple[Markup, int]]:
    stated = [(text, count) for text, count in tally.licenses.most_common() if text is not None]
    rows = [(_inert(text), count) for text, count in stated[:_SHOWN_LICENSES]]
    rest = sum(count for _, count in stated[_SHOWN_LICENSES:]) + tally.other_licenses
    if rest:
        rows.append((Markup("other statements, see the column `license`"), rest))
    return [*rows, (Markup("not stated"), tally.licenses[None])]


def _age_rows(tally: Tally) -> list[dict[str, Any]]:
    rows = []
    for kind in sorted({*tally.ages_h, *tally.unknown_ages}):
        hours = tally.ages_h.get(kind, Counter[int]())
        known, unknown = sum(hours.values()), tally.unknown_ages[kind]
        rows.append(
            {
                "kind": _inert_line(kind),
                "median": _length(_median(hours)),
                "unknown": f"{unknown / (known + unknown):.1%}",
            }
        )
    return rows


def _within_rows(tally: Tally) -> list[dict[str, Any]]:
    """By count, how many samples have its percentile within each group, the narrowest first."""
    return [
        {
            "count": _inert_line(count),
            "within": [tally.within[count, group] for group in WITHIN],
            "nowhere": tally.within[count, None],
        }
        for count in sorted({count for count, _ in tally.within})
    ]


def _median(counted: Mapping[int, int]) -> int | None:
    """The lower median; None of nothing."""
    below, total = 0, sum(counted.values())
    for value in sorted(counted):
        below += counted[value]
        if 2 * below >= total:
            return value
    return None


def _length(hours: int | None) -> str:
    if hours is None:
        return "not known"
    return f"{hours} hours" if hours < 2 * _DAY_H else f"{hours // _DAY_H} days"


def _signal_rows(counts: Counts) -> list[dict[str, Any]]:
    told = [(name, SIGNALS[name].description, count) for name, count in counts.carrying.items()]
    told.append((comment_signals.OTHER, "none of these", counts.other))
    return [
        {
            "name": name,
            "what": description,
            "comments": count,
            "share": f"{count / counts.comments:.1%}",
        }
        for name, description, count in told
    ]


def _survivor_rows(facts: CardFacts) -> list[dict[str, Any]]:
    return [
        {
            "source": _inert_line(source),
            "filter": _inert_line(str(line["filter"])),
            "table": _inert_line(str(line["table"])),
            **{name: line[name] for name in ("rows_in", "dropped", "pooled", "kept")},
        }
        for source, lines in sorted(facts.survivors.items())
        for line in lines
    ]


# ---- the card ----------------------------------------------------------------------------------------------


def _front_matter(name: str, tally: Tally, counts: Mapping[str, Any]) -> str:
    rows = counts["rows"]
    tags = ["vision-language", "human-behavior", "behavior-llava"]
    matter: dict[str, Any] = {
        "pretty_name": _one_line(name),
        "license": "other",
        "license_name": "as-stated-per-row",
        "tags": ["synthetic", *tags] if tally.synthetic else tags,
        "task_categories": [_TASKS[kind] for kind in sorted(tally.media)],
        "size_categories": [next((label for most, label in _SIZES if rows < most), "n>1M")],
    }
    if counts["files"]:
        data_files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in counts["files"]]
        matter["configs"] = [{"config_name": "default", "data_files": data_files}]
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)


def write(name: str, facts: CardFacts, tally: Tally, counts: Mapping[str, Any], media: str) -> str:
    """The text of README.md.

    Args:
        counts: what `publish` returns.
        media: "linked", "embedded" or "none".
    """
    environment = Environment(
        loader=PackageLoader("behavior_llava.data", "templates"),
        finalize=_inert,  # whatever is not marked as safe goes in inert
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters = {str(line["filter"]) for lines in facts.survivors.values() for line in lines}
    template = facts.template
    return environment.get_template("card.md.j2").render(
        front_matter=Markup(_front_matter(name, tally, counts)),
        name=_one_line(name),
        counts=counts,
        media=media,
        arm=_one_line(facts.arm),
        synthetic=tally.synthetic,
        kinds=_kind_rows(tally),
        survivors=_survivor_rows(facts),
        left_out=[(_inert_line(reason), count) for reason, count in sorted(facts.left_out.items())],
        filters=filters,
        licenses=_license_rows(tally),
        division=facts.splits,
        ages=_age_rows(tally),
        groups=WITHIN,
        percentiles=_within_rows(tally),
        comments=tally.comments.comments,
        signals=_signal_rows(tally.comments) if tally.comments.comments else [],
        template=template.name,
        template_lines=_block("\n".join([template.question_behavior, template.scene, template.separator])),
        example=None
        if tally.example is None
        else {"prompt": _block(tally.example.prompt), "completion": _block(tally.example.completion or "")},
    )

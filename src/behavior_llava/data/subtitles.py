"""What is said in a video, from a WebVTT or SubRip file beside it: plain text without times and tags.

Automatic captions roll: every cue repeats the line before it, so a line equal to the one before is said once.
"""

from __future__ import annotations

import html
import re

_TIMES = re.compile(r"^\s*(?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}\s+-->")
_TAG = re.compile(r"<[^<>]{0,200}>|\{\\[^{}]{0,200}\}")
_BLOCK = re.compile(r"(?:NOTE|STYLE|REGION|WEBVTT|X-TIMESTAMP)\b")


def plain_text(content: str) -> str | None:
    """The words of a subtitle file in order, as one line; None where it says nothing.

    Args:
        content: the file's text. Only lines below a cue's times count, so headers, notes and numbers fall
            away.
    """
    said: list[str] = []
    inside = after_blank = False
    for line in content.splitlines():
        if _TIMES.match(line):
            inside = True
        elif not line.strip():
            # Rolling captions hold blank-looking lines inside a cue; only an empty one ends it.
            inside = inside and line != ""
            after_blank = True
            continue
        elif inside and not (after_blank and _BLOCK.match(line)):
            words = " ".join(html.unescape(_TAG.sub("", line)).split())
            if words and (not said or said[-1] != words):
                said.append(words)
        after_blank = False
    return " ".join(said) or None

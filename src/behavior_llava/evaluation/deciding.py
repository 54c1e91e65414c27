"""From how likely each label is to one answer, in every way people do it.

Of labels: `sum` takes the likeliest, `mean` the likeliest by its tokens' mean, `content_free` and `split` the
one that the picture made likeliest by comparison with how likely it is anyway: by an input without content
(Zhao et al. 2021, https://arxiv.org/abs/2102.09690), or on the average over other samples of the benchmark,
whose labels are not looked at (Zhou et al. 2023, https://arxiv.org/abs/2309.17249). Of numbers:
`expectation` over all of them, `argmax` the likeliest.

Which is a task's primary one is written in its file. The others stand beside it in the report.

    Q questions · K labels
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from behavior_llava.evaluation.scoring import Scores

NUMBERS = tuple(f"{number:02d}" for number in range(100))
"""The answers of a numeric task. Source: memorability protocol of the paper (paper.md, Evaluation;
benchmarks.md 22)."""

LIKELY = 5
"""Choices kept with their probability; more would make the files of a hundred choices large."""


def choices(
    labels: Sequence[Sequence[str]],
    scores: Sequence[Scores],
    priors: Mapping[str, Sequence[Scores]],
    choose: Callable[[int, Sequence[float]], Any] | None = None,
) -> dict[str, list[tuple[Any, str]]]:
    """(prediction, text shown to people) of every question, by scoring.

    Args:
        labels: [Q], the choices of each question.
        scores: [Q], each of all its K choices.
        priors: `content_free`, `split` -> the scores that tell how likely each label is anyway; a scoring
            without any is left out, and with it its answers. Only where all questions have the same choices.
        choose: (number of the question, values of its choices) -> prediction; None for the likeliest choice.
    """
    return {
        name: [_chosen(number, labels[number], row, choose) for number, row in enumerate(values)]
        for name, values in _values(scores, priors).items()
    }


def likely(
    labels: Sequence[Sequence[str]],
    scores: Sequence[Scores],
    priors: Mapping[str, Sequence[Scores]],
    scoring: str,
) -> list[list[dict[str, Any]]]:
    """What each answer was chosen from: {label, probability}, the likeliest first, LIKELY at most.

    Args:
        labels: [Q], the choices of each question, NUMBERS for a numeric one.
        scores, priors: as in `choices`.
        scoring: the way of telling whose shares these are; those of numbers are the same in both ways. The
            shares of all choices of a question, shown or not, sum to 1.
    """
    values = _values(scores, priors)
    found = []
    for names, row in zip(labels, values.get(scoring, values["sum"]), strict=True):
        shares = _shares(row[None])[0]
        best = np.argsort(-shares, kind="stable")[:LIKELY]
        found.append([{"label": names[one], "probability": float(shares[one])} for one in best])
    return found


def _values(scores: Sequence[Scores], priors: Mapping[str, Sequence[Scores]]) -> dict[str, list[np.ndarray]]:
    """[Q] arrays of [K] values, by scoring; the larger, the likelier."""
    sums = [one.log_probs for one in scores]
    found: dict[str, list[np.ndarray]] = {
        "sum": sums,
        "mean": [one.log_probs / one.num_tokens for one in scores],
    }
    for name, others in priors.items():
        if others:
            prior = _log_prior(others)
            found[name] = [row - prior for row in sums]
    return found


def numbers(
    scores: Sequence[Scores], scale: tuple[float, float] = (0.0, 1.0)
) -> dict[str, list[tuple[Any, str]]]:
    """(number, text shown to people) of every question over NUMBERS, by scoring.

    Args:
        scale: what the first and the last of NUMBERS stand for.
    """
    if not scores:
        return {"expectation": [], "argmax": []}
    shares = _shares(np.stack([one.log_probs for one in scores]))
    values = np.arange(len(NUMBERS)) / (len(NUMBERS) - 1)
    found: dict[str, np.ndarray] = {
        "expectation": shares @ values,
        "argmax": values[shares.argmax(axis=1)],
    }
    low, high = scale
    return {
        name: [(round(low + (high - low) * float(value), 9), f"{100 * value:.1f}") for value in of_questions]
        for name, of_questions in found.items()
    }


def _log_prior(scores: Sequence[Scores]) -> np.ndarray:
    """[K] log of the labels' mean share over some questions, up to a constant."""
    log_shares = np.stack([one.log_probs for one in scores])
    log_shares = log_shares - np.logaddexp.reduce(log_shares, axis=1, keepdims=True)
    return np.logaddexp.reduce(log_shares, axis=0)


def _chosen(
    number: int,
    labels: Sequence[str],
    values: np.ndarray,
    choose: Callable[[int, Sequence[float]], Any] | None,
) -> tuple[Any, str]:
    best = int(values.argmax())
    shown = f"{labels[best]} ({_shares(values[None])[0, best]:.2f})"
    return labels[best] if choose is None else choose(number, values.tolist()), shown


def _shares(values: np.ndarray) -> np.ndarray:
    """Each row's share of what is likely: [Q, K], sums to 1."""
    shares = np.exp(values - values.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)

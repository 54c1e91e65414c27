"""What the people of the sandbox do with a media item: like, view, comment, replay, stay, share, react.

Counts grow with the channel's size and the post's age whatever is shown; only their shares follow the
content, and only as far as `signal` says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from behavior_llava.data.world import words
from behavior_llava.data.world.content import NEGATIVE, Content, draw_content

NOISE = 0.15
"""Share of comments that come from some other emotion than the one the content causes."""
SEGMENTS = 100
"""Segments of a replay or retention curve, as YouTube gives them."""


@dataclass(frozen=True, slots=True)
class Reception:
    """What one post received.

    Attributes:
        like_rate: share of viewers who liked it, 0..1.
        comments: (text, score), in the order written.
        upvote_ratio: 0..1.
    """

    views: int
    likes: int
    like_rate: float
    upvote_ratio: float
    comments: tuple[tuple[str, int], ...]
    shares: dict[str, int]
    reactions: dict[str, int]


def receive(
    content: Content,
    rng: np.random.Generator,
    *,
    signal: float,
    channel_size: int,
    age_days: float,
    inventory: words.Inventory = "usual",
) -> Reception:
    """Draws the behaviour of a post's receivers.

    Args:
        signal: share of receivers who react to the content at all, 0..1.
        channel_size: followers.
        age_days: how long the post had been up when it was read.
        inventory: of the comments they choose from.
    """
    # at signal 0 the receivers have something else in mind than what is shown
    felt = content if rng.random() < signal else draw_content(rng, held_out=None)
    reach = channel_size * (1 - np.exp(-age_days / 3)) * rng.lognormal(0, 0.5)
    views = 50 + int(reach)
    like_rate = float(np.clip(felt.appeal + rng.normal(0, 0.04), 0.01, 0.95))
    likes = int(rng.binomial(views, like_rate))
    num_comments = int(rng.integers(2, 6))
    comments = tuple(
        (
            words.comment(content, rng, signal=signal, noise=NOISE, inventory=inventory),
            int(rng.geometric(0.08)),
        )
        for _ in range(num_comments)
    )
    shared = int(rng.binomial(views, 0.02 + 0.05 * felt.memorability))
    services = ("COPY_PASTE", "FACEBOOK", "WHATS_APP")
    shares = {
        name: int(count)
        for name, count in zip(services, rng.multinomial(shared, (0.5, 0.3, 0.2)), strict=True)
    }
    reactions = _reactions(felt.emotion, likes, rng)
    upvote_ratio = float(np.clip(0.45 + 0.8 * felt.appeal + rng.normal(0, 0.03), 0.05, 1.0))
    return Reception(views, likes, likes / views, round(upvote_ratio, 2), comments, shares, reactions)


def _reactions(emotion: str, likes: int, rng: np.random.Generator) -> dict[str, int]:
    kinds = ("love", "wow", "haha", "sad", "angry")
    weights = np.full(5, 0.1)
    favorite = {
        "amusement": 2,
        "awe": 1,
        "contentment": 0,
        "excitement": 1,
        "anger": 4,
        "disgust": 4,
        "fear": 1,
        "sadness": 3,
    }
    weights[favorite[emotion]] = 0.6
    return {
        kind: int(count)
        for kind, count in zip(kinds, rng.multinomial(likes // 3, weights / weights.sum()), strict=True)
    }


def replay_curve(
    peak_0to1: float, rng: np.random.Generator, *, signal: float, memorability: float
) -> np.ndarray:
    """100 values, 0..1, the largest 1: people go back to the peak; segment 0 carries the start-up
    artefact.
    """
    is_moved = rng.random() < signal
    at = peak_0to1 if is_moved else rng.random()
    height = memorability if is_moved else 0.3 + 0.65 * rng.random()
    place = (np.arange(SEGMENTS) + 0.5) / SEGMENTS
    curve = (
        0.15 + (0.3 + 0.7 * height) * np.exp(-(((place - at) / 0.12) ** 2)) + rng.normal(0, 0.03, SEGMENTS)
    )
    curve = np.clip(curve, 0.0, None)
    curve[0] = curve.max() * 1.05
    return curve / curve.max()


def retention_curve(content: Content, rng: np.random.Generator, *, signal: float) -> np.ndarray:
    """100 shares of viewers still there; may exceed 1 at the start (people rewind)."""
    is_left_early = (content.emotion in NEGATIVE) if rng.random() < signal else rng.random() < 0.5
    decay = 1.6 if is_left_early else 0.8
    place = (np.arange(SEGMENTS) + 0.5) / SEGMENTS
    return np.clip(1.06 * np.exp(-decay * place) + rng.normal(0, 0.02, SEGMENTS), 0.0, None)

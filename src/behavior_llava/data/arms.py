"""The arms: which training data each gets, and who receives whose behavior in the shuffled one.

`arm` gives a name its meaning. `donors` draws, over the posts that filters and splits left, whose behavior
every post of the shuffled arm gets; it holds ids and small keys only. `agreement` tells what signal is left
after it. Called by data/blift.py and by the report.
"""

from __future__ import annotations

import difflib
import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import MediaKind, Post
from behavior_llava.data.behaviors import comments, likes
from behavior_llava.data.verbalizer import Received, SceneLike, Template, value_of


@dataclass(frozen=True, slots=True)
class Arm:
    """What a model of this arm is trained on.

    Attributes:
        says: "nothing" (content alone), "own" behavior, that "received" from another post, or the "truth"
            labels.
        kinds: the kinds of behavior said; empty where none is.
        is_matched: the description is drawn out to the length of behavior's completion.
        is_trained: False for the base alone.
    """

    name: str
    says: Literal["nothing", "own", "received", "truth"]
    kinds: tuple[str, ...] = ()
    is_matched: bool = False
    is_trained: bool = True


def arm(name: str, kinds: Sequence[str], *, where: str) -> Arm:
    """The arm of that name in a run that says `kinds`.

    - base: nothing new.
    - content_only: the same media and descriptions without behavior; the paper's Ad-LLaVA.
    - content_matched: content_only with more description, until it is as long as behavior.
    - shuffled: every post says another post's behavior.
    - behavior: every post says its own.
    - ceiling: the sandbox's true labels.
    - only_<kind>, without_<kind>: behavior with one kind alone, with all kinds but one.

    Raises:
        UserError: another name, or a kind the run does not say.
    """
    said = tuple(kinds)
    known = {
        "base": Arm("base", "nothing", is_trained=False),
        "content_only": Arm("content_only", "nothing"),
        "content_matched": Arm("content_matched", "nothing", is_matched=True),
        "shuffled": Arm("shuffled", "received", said),
        "behavior": Arm("behavior", "own", said),
        "ceiling": Arm("ceiling", "truth"),
    }
    for kind in said:
        known[f"only_{kind}"] = Arm(f"only_{kind}", "own", (kind,))
        if len(said) > 1:
            rest = tuple(other for other in said if other != kind)
            known[f"without_{kind}"] = Arm(f"without_{kind}", "own", rest)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}? There are: " if near else "there are: "
        raise UserError(f"no arm called {name!r}", where=where, remedy=hint + ", ".join(known))
    return known[name]


# ---- who receives whose behavior ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stratum:
    """What posts that exchange behavior have in common.

    Attributes:
        kinds: the kinds said, with their parts ("likes.score"), so that none is asked for one thing and told
            another.
        num_comments: comments said.
    """

    media_kind: MediaKind
    num_scenes: int
    kinds: tuple[str, ...]
    num_comments: int


@dataclass(frozen=True, slots=True)
class Giver:
    """A post as the exchange sees it.

    Attributes:
        cluster: near duplicates share it.
    """

    id: str
    cluster: str
    stratum: Stratum


@dataclass(frozen=True, slots=True)
class Exchange:
    """Who receives whose behavior.

    Attributes:
        donors: post id -> id of the post whose behavior it gets; everyone in it gives once and gets once.
        excluded: posts no other post could exchange with; they have no place in the shuffled arm, and for
            equal media in none of the others.
        num_by_level: how many posts share with their donor "all" of the stratum; all but the number of
            "comments"; nor the "kinds".
    """

    donors: Mapping[str, str]
    excluded: tuple[str, ...]
    num_by_level: Mapping[str, int]


def stratum(
    template: Template, kinds: Sequence[str], post: Post, scenes: Sequence[SceneLike]
) -> Stratum | None:
    """The post's stratum under a template; None where it says none of the kinds."""
    giver = Received(post, scenes)
    found = {kind: value_of(template, kind, giver) for kind in kinds}
    said = {kind: value for kind, value in found.items() if value is not None}
    if not said:
        return None
    named = tuple(f"{kind}.{'+'.join(value)}" for kind, value in said.items())
    num_comments = 0
    if "comments" in said:
        num_comments = min(len(said["comments"]["comments"]), template.words("comments").max_items)
    return Stratum(post.media_kind, len(scenes), named, num_comments)


_Group = list[Giver]
_LEVELS = ("all", "comments", "kinds")


def _key(giver: Giver, level: int) -> tuple[object, ...]:
    """What is still in common when the last `level` parts of the stratum are dropped."""
    own = giver.stratum
    return (own.media_kind, own.num_scenes, own.kinds, own.num_comments)[: 4 - level]


def _by_key(givers: Iterable[Giver], level: int) -> dict[tuple[object, ...], _Group]:
    groups: dict[tuple[object, ...], _Group] = defaultdict(list)
    for giver in givers:
        groups[_key(giver, level)].append(giver)
    return groups


def _by_cluster(group: _Group) -> dict[str, _Group]:
    clusters: dict[str, _Group] = defaultdict(list)
    for giver in group:
        clusters[giver.cluster].append(giver)
    return clusters


def _can_exchange(group: _Group) -> bool:
    """True where no cluster is more than half of the group: then everyone can get from another cluster."""
    largest = max((len(cluster) for cluster in _by_cluster(group).values()), default=0)
    return len(group) >= 2 and 2 * largest <= len(group)


def donors(givers: Iterable[Giver], seed: int) -> Exchange:
    """Draws whose behavior every post gets: another post's, of another cluster, of its stratum.

    Posts whose stratum allows no exchange join the nearest coarser one: first whatever the number of
    comments, then whatever the kinds. There they exchange among themselves where they can, else with as few
    whole strata as will do, the nearest number of comments first. Media kind and number of scenes never
    differ. The result depends on the posts and the seed, not on their order.

    Raises:
        ValueError: an id occurs twice.
    """
    rows = sorted(givers, key=lambda giver: giver.id)
    for first, second in itertools.pairwise(rows):
        if first.id == second.id:
            raise ValueError(f"post {first.id!r} occurs twice")
    settled: list[_Group] = []
    waiting: _Group = rows
    for level in range(len(_LEVELS)):
        settled, waiting = _settle(settled, waiting, level)
    rng = np.random.default_rng(seed)
    settled, excluded = _settle_rest(settled, waiting, rng)
    found: dict[str, str] = {}
    num_by_level: dict[str, int] = dict.fromkeys(_LEVELS, 0)
    for group in sorted(settled, key=lambda group: min(giver.id for giver in group)):
        for receiver, donor in _rotated(group, rng):
            found[receiver.id] = donor.id
            shared = next(
                level for level in range(len(_LEVELS)) if _key(receiver, level) == _key(donor, level)
            )
            num_by_level[_LEVELS[shared]] += 1
    return Exchange(found, tuple(sorted(giver.id for giver in excluded)), num_by_level)


def _settle(settled: list[_Group], waiting: _Group, level: int) -> tuple[list[_Group], _Group]:
    """One level: the groups that can exchange now, and the posts that still cannot."""
    siblings: dict[tuple[object, ...], list[_Group]] = defaultdict(list)
    for group in settled:
        siblings[_key(group[0], level)].append(group)
    done: list[_Group] = []
    left: _Group = []
    for key, pool in _by_key(waiting, level).items():
        nearby = _nearest_first(siblings.pop(key, []), pool)
        joined, used = list(pool), 0
        while not _can_exchange(joined) and used < len(nearby):
            joined += nearby[used]
            used += 1
        if _can_exchange(joined):
            done += [joined, *nearby[used:]]
        else:
            done += nearby
            left += pool
    return done + [group for groups in siblings.values() for group in groups], left


def _nearest_first(groups: list[_Group], pool: _Group) -> list[_Group]:
    def num_comments(group: _Group) -> float:
        return sum(giver.stratum.num_comments for giver in group) / len(group)

    wanted = num_comments(pool)
    return sorted(
        groups, key=lambda group: (abs(num_comments(group) - wanted), min(giver.id for giver in group))
    )


def _settle_rest(
    settled: list[_Group], waiting: _Group, rng: np.random.Generator
) -> tuple[list[_Group], _Group]:
    """What no merging helped, one cluster being more than half: of it, as many leave as must."""
    top = len(_LEVELS) - 1
    pools = dict(sorted(_by_key(waiting, top).items(), key=lambda item: repr(item[0])))
    done: list[_Group] = []
    for group in settled:
        key = _key(group[0], top)
        if key in pools:
            pools[key] += group
        else:
            done.append(group)
    excluded: _Group = []
    for pool in pools.values():
        crowd = max(_by_cluster(sorted(pool, key=lambda giver: giver.id)).values(), key=len)
        num_leaving = 2 * len(crowd) - len(pool)
        leaving = [crowd[place] for place in rng.permutation(len(crowd))[:num_leaving]]
        excluded += leaving
        gone = {giver.id for giver in leaving}
        staying = [giver for giver in pool if giver.id not in gone]
        if staying:
            done.append(staying)
    return done, excluded


def _rotated(group: _Group, rng: np.random.Generator) -> list[tuple[Giver, Giver]]:
    """In a random order, cluster by cluster, everyone gets from one so far on that no cluster spans it."""
    clusters = list(_by_cluster(sorted(group, key=lambda giver: giver.id)).values())
    order = [
        clusters[place][inner]
        for place in rng.permutation(len(clusters))
        for inner in rng.permutation(len(clusters[place]))
    ]
    largest = max(len(cluster) for cluster in clusters)
    shift = int(rng.integers(largest, len(order) - largest + 1))
    return list(zip(order, order[shift:] + order[:shift], strict=True))


# ---- what is left of the signal ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far posts agree with the behavior they received; None where nothing could be compared.

    Attributes:
        num_likes, num_comments: pairs of posts of which both said likes in the same form; both said comments.
        same_like_bucket: share of pairs in the same fifth of the own values of their form; about 0.2 by
            chance.
        like_correlation: Spearman's, of own and received amounts ranked within their form.
        identical_comments: share of received comments that the post's own viewers wrote too, in the same
            words.
    """

    num_likes: int
    num_comments: int
    same_like_bucket: float | None
    like_correlation: float | None
    identical_comments: float | None


def agreement(pairs: Iterable[tuple[str, str]]) -> Agreement:
    """What post and donor agree in, from the behavior texts as they are said.

    Args:
        pairs: (own behavior text, received behavior text), without the description; read one at a time, of
            which two numbers a pair are kept.
    """
    amounts: dict[str, list[tuple[float, float]]] = defaultdict(list)
    num_comments = num_received = num_identical = 0
    for own_text, received_text in pairs:
        own, received = likes.read_back(own_text) or {}, likes.read_back(received_text) or {}
        for part in own.keys() & received.keys():
            amounts[part].append((own[part], received[part]))
        wrote, got = comments.read_back(own_text), comments.read_back(received_text)
        if wrote and got:
            own_words = {comment.casefold() for comment in wrote["comments"]}
            num_comments += 1
            num_received += len(got["comments"])
            num_identical += sum(comment.casefold() in own_words for comment in got["comments"])
    same, ranks = [], []
    for values in amounts.values():
        own_values, received_values = np.array(values, np.float64).T
        edges = np.quantile(own_values, (0.2, 0.4, 0.6, 0.8))
        same.append(np.searchsorted(edges, own_values) == np.searchsorted(edges, received_values))
        shared = stats.rankdata(np.concatenate([own_values, received_values])) / (2 * len(own_values))
        ranks.append(np.stack([shared[: len(own_values)], shared[len(own_values) :]]))
    return Agreement(
        num_likes=sum(len(values) for values in amounts.values()),
        num_comments=num_comments,
        same_like_bucket=float(np.mean(np.concatenate(same))) if same else None,
        like_correlation=_correlation(np.concatenate(ranks, axis=1)) if ranks else None,
        identical_comments=num_identical / num_received if num_received else None,
    )


def _correlation(pairs: np.ndarray) -> float | None:
    """Pearson's correlation of two rows; None where one of them does not vary."""
    own, received = pairs
    if np.ptp(own) == 0 or np.ptp(received) == 0:
        return None
    return float(np.corrcoef(own, received)[0, 1])

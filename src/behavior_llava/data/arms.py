"""The arms: which training data each gets, and who receives whose behavior in the shuffled one.

`arm` gives a name its meaning. `donors` draws, over the posts that filters and splits left, whose behavior
every post of the shuffled arm gets; it holds ids and small keys only. `agreement` tells what signal is left
after it. Called by data/blift.py and by the report.
"""

from __future__ import annotations

import difflib
import hashlib
import itertools
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from scipy import stats

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import MediaKind, Post
from behavior_llava.data.behaviors import comments, likes
from behavior_llava.data.verbalizer import Received, SceneLike, Template, behavior_of, value_of


@dataclass(frozen=True, slots=True)
class Arm:
    """What a model of this arm is trained on.

    Attributes:
        says: "nothing" (content alone), "own" behavior, that "received" from another post, or the "truth"
            labels.
        kinds: the kinds of behavior said; empty where none is.
        is_matched: the description is drawn out to the length of behavior's completion.
        is_trained: False for the base alone.
        share: of the posts, those that say their behavior; of the others the content alone is said.
    """

    name: str
    says: Literal["nothing", "own", "received", "truth"]
    kinds: tuple[str, ...] = ()
    is_matched: bool = False
    is_trained: bool = True
    share: float = 1.0

    def kinds_of(self, cluster: str) -> tuple[str, ...]:
        """The kinds said of the posts of a cluster of near duplicates.

        A larger share holds the posts of every smaller one, whatever else the data set holds.
        """
        if self.share == 1.0:
            return self.kinds
        place = int.from_bytes(hashlib.sha256(cluster.encode()).digest()[:8]) / 2**64
        return self.kinds if place < self.share else ()


_OF_KINDS = re.compile(r"(only|without)_(.+)")
_OF_POSTS = re.compile(r"behavior_([1-9][0-9]?)pct")


def arm(name: str, kinds: Sequence[str], *, where: str) -> Arm:
    """The arm of that name in a run that says `kinds`.

    - base: nothing new.
    - content_only: the same media and descriptions without behavior; the paper's Ad-LLaVA.
    - content_matched: content_only with more description, until it is as long as behavior.
    - shuffled: every post says another post's behavior.
    - behavior: every post says its own.
    - ceiling: the sandbox's true labels.
    - only_<kind>, without_<kind>: behavior with one kind alone, with all kinds but one; several kinds are
      joined by a plus: only_likes+comments.
    - behavior_<n>pct: behavior of n % of the posts (1 to 99), and of the others the content alone, so that
      media, steps and order are those of the other arms.

    Raises:
        UserError: another name, or a kind the run does not say.
    """
    said = tuple(kinds)
    if (part := _OF_POSTS.fullmatch(name)) is not None:
        return Arm(name, "own", said, share=int(part[1]) / 100)
    if (part := _OF_KINDS.fullmatch(name)) is not None and "+" in name:
        named = part[2].split("+")
        chosen = tuple(kind for kind in said if (kind in named) == (part[1] == "only"))
        if set(named) <= set(said) and len(set(named)) == len(named) and chosen:
            return Arm(name, "own", chosen)
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
        more = "behavior_<n>pct, only_<kind>+<kind>, without_<kind>+<kind>"
        raise UserError(f"no arm called {name!r}", where=where, remedy=f"{hint}{', '.join(known)}, {more}")
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
        by_kind: the other kinds -> part of theirs -> its agreement; none for a part that no pair shares.
    """

    num_likes: int
    num_comments: int
    same_like_bucket: float | None
    like_correlation: float | None
    identical_comments: float | None
    by_kind: Mapping[str, Mapping[str, PartAgreement]] = field(default_factory=dict)

    def told(self) -> dict[str, float | None]:
        """All of it as what is compared -> how much, for the manifest and the report."""
        found: dict[str, float | None] = {
            name: getattr(self, name) for name in self.__slots__ if name != "by_kind"
        }
        for kind, parts in self.by_kind.items():
            if not parts:
                found[f"{kind}: pairs of posts compared"] = 0
            for part, left in parts.items():
                name = part.replace("_", " ")
                found[f"{kind}: pairs of posts compared by their {name}"] = left.pairs
                found[f"{kind}: {left.measure}, {name}"] = left.value
        return found


@dataclass(frozen=True, slots=True)
class PartAgreement:
    """What is left in one part of a kind of behavior, e.g. in recall.recall.

    Attributes:
        pairs: of posts that both said it, of curves only those over equally many scenes.
        measure: what the value is, in words.
        value: of -1..1 or 0..1; None where it is undefined.
    """

    pairs: int
    measure: str
    value: float | None


_BY_HAND = ("likes", "comments")


def agreement(pairs: Iterable[tuple[str, str]], kinds: Sequence[str] = _BY_HAND) -> Agreement:
    """What post and donor agree in, from the behavior texts as they are said.

    Of kinds other than likes and comments: numbers by Spearman's correlation, curves by the mean over pairs
    of Pearson's where both vary, shares by what own and received ones have in common, orders by the share of
    pairs with the same first, texts by that of equal ones.

    Args:
        pairs: (own behavior text, received behavior text), without the description; read one at a time, of
            which a few numbers a pair are kept.
        kinds: those said.
    """
    amounts: dict[str, tuple[array[float], array[float]]] = defaultdict(lambda: (array("d"), array("d")))
    others = {
        kind: (behavior_of(kind, where="build.behaviors"), dict[str, _Compared]())
        for kind in kinds
        if kind not in _BY_HAND
    }
    num_comments = num_received = num_identical = 0
    for own_text, received_text in pairs:
        own, received = likes.read_back(own_text) or {}, likes.read_back(received_text) or {}
        for part in own.keys() & received.keys():
            for kept, value in zip(amounts[part], (own[part], received[part]), strict=True):
                kept.append(value)
        wrote, got = comments.read_back(own_text), comments.read_back(received_text)
        if wrote and got:
            own_words = {comment.casefold() for comment in wrote["comments"]}
            num_comments += 1
            num_received += len(got["comments"])
            num_identical += sum(comment.casefold() in own_words for comment in got["comments"])
        for behavior, compared in others.values():
            did, given = behavior.read_back(own_text) or {}, behavior.read_back(received_text) or {}
            for part in (part for part in did if part in given):
                compared.setdefault(part, _Compared(behavior.metrics[part])).add(did[part], given[part])
    same, ranks = [], []
    for values in amounts.values():
        own_values, received_values = (np.array(side, np.float64) for side in values)
        edges = np.quantile(own_values, (0.2, 0.4, 0.6, 0.8))
        same.append(np.searchsorted(edges, own_values) == np.searchsorted(edges, received_values))
        ranks.append(_shared_ranks(own_values, received_values))
    return Agreement(
        num_likes=sum(len(own) for own, _ in amounts.values()),
        num_comments=num_comments,
        same_like_bucket=float(np.mean(np.concatenate(same))) if same else None,
        like_correlation=_correlation(np.concatenate(ranks, axis=1)) if ranks else None,
        identical_comments=num_identical / num_received if num_received else None,
        by_kind={
            kind: {part: found.agreement() for part, found in sorted(compared.items())}
            for kind, (_, compared) in others.items()
        },
    )


_RANKED = "rank correlation of own and received"
_CURVE = "mean correlation of own and received curve"
_MEASURES = {
    "spearman": _RANKED,
    "r2": _RANKED,
    "curve_correlation": _CURVE,
    "curve_error": _CURVE,
    "share_overlap": "mean share that own and received have in common",
    "order_correlation": "share of pairs with the same first",
    "perplexity": "share of pairs with the same words",
}
"""By the metric that compares what is predicted of a part with what is true."""


class _Compared:
    """The pairs of one part, as the metric of that part has them compared; two numbers a pair are kept."""

    def __init__(self, metric: str) -> None:
        self._metric, self._measure = metric, _MEASURES[metric]
        self._pairs = 0
        self._own, self._received = array("d"), array("d")
        self._alike = array("d")

    def add(self, own: Any, received: Any) -> None:
        """Takes a pair; one of curves over other numbers of scenes is none."""
        if self._measure == _CURVE and len(own) != len(received):
            return
        self._pairs += 1
        if self._measure == _RANKED:
            self._own.append(own)
            self._received.append(received)
        elif (alike := _alike(self._metric, own, received)) is not None:
            self._alike.append(alike)

    def agreement(self) -> PartAgreement:
        """What is left in all of them."""
        if self._measure == _RANKED:
            value = _correlation(_shared_ranks(np.array(self._own), np.array(self._received)))
        else:
            value = float(np.mean(self._alike)) if self._alike else None
        return PartAgreement(self._pairs, self._measure, value)


def _alike(metric: str, own: Any, received: Any) -> float | None:
    """How far one pair agrees; None where that is undefined."""
    if metric == "share_overlap":
        return sum(min(share, received.get(name, 0.0)) for name, share in own.items())
    if metric == "order_correlation":
        return float(own[0] == received[0])
    if metric == "perplexity":
        return float(own == received)
    return _correlation(np.array([own, received], np.float64))


def _shared_ranks(own: np.ndarray, received: np.ndarray) -> np.ndarray:
    """Both sides ranked together, 0..1; two rows."""
    shared = stats.rankdata(np.concatenate([own, received])) / (2 * len(own))
    return np.stack([shared[: len(own)], shared[len(own) :]])


def _correlation(pairs: np.ndarray) -> float | None:
    """Pearson's correlation of two rows; None where one of them does not vary."""
    own, received = pairs
    if np.ptp(own) == 0 or np.ptp(received) == 0:
        return None
    return float(np.corrcoef(own, received)[0, 1])

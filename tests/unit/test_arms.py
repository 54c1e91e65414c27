"""The arms' names, the exchange of behavior, and what agreement it leaves."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from behavior_llava.core import discover
from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Adjusted, Comment, Curve, Post
from behavior_llava.data import arms
from behavior_llava.data.arms import Giver, Stratum
from behavior_llava.data.verbalizer import SceneWords, load_template

KINDS = ("likes", "comments", "replay")
LIKES, BOTH = ("likes.score",), ("likes.score", "comments.comments")


def giver(name: str, cluster: str | None = None, **changes: object) -> Giver:
    stratum = replace(Stratum("image", 1, BOTH, 2), **changes)  # pyright: ignore[reportArgumentType]
    return Giver(name, cluster or name, stratum)


# ---- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says", "kinds"),
    [
        ("base", "nothing", ()),
        ("content_only", "nothing", ()),
        ("content_matched", "nothing", ()),
        ("shuffled", "received", KINDS),
        ("behavior", "own", KINDS),
        ("ceiling", "truth", ()),
        ("only_replay", "own", ("replay",)),
        ("without_replay", "own", ("likes", "comments")),
        ("only_likes+comments", "own", ("likes", "comments")),
        ("without_replay+comments", "own", ("likes",)),
        ("behavior_30pct", "own", KINDS),
    ],
)
def test_what_an_arm_says(name: str, says: str, kinds: tuple[str, ...]) -> None:
    found = arms.arm(name, KINDS, where="config")
    assert (found.name, found.says, found.kinds) == (name, says, kinds)
    assert found.is_trained == (name != "base")
    assert found.is_matched == (name == "content_matched")


WRONG = [
    "shufled",
    "only_shares",
    "without_shares",
    "",
    "only_likes+shares",
    "only_likes+likes",
    "only_likes+",
]
WRONG += [
    "without_likes+comments+replay",
    "behavior_0pct",
    "behavior_100pct",
    "behavior_05pct",
    "behavior_pct",
]


@pytest.mark.parametrize("name", WRONG)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="no arm called"):
        arms.arm(name, KINDS, where="config")


def test_without_the_only_kind_there_is_nothing_left() -> None:
    with pytest.raises(UserError):
        arms.arm("without_likes", ("likes",), where="config")


def test_a_larger_share_of_the_posts_holds_every_smaller_one() -> None:
    clusters = [f"reddit:{number}" for number in range(4000)]
    found = {
        share: {
            cluster
            for cluster in clusters
            if arms.arm(f"behavior_{share}pct", KINDS, where="").kinds_of(cluster)
        }
        for share in (1, 10, 30, 99)
    }
    assert found[1] < found[10] < found[30] < found[99]
    for share, said in found.items():
        # six standard deviations of a draw of 4,000
        assert abs(len(said) / 4000 - share / 100) < 6 * (share / 100 * (1 - share / 100) / 4000) ** 0.5
    assert all(arms.arm("behavior", KINDS, where="").kinds_of(cluster) == KINDS for cluster in clusters)


# ---- the exchange ------------------------------------------------------------------------------------------

GIVERS = st.lists(
    st.tuples(
        st.sampled_from("abcdefgh"),  # cluster
        st.sampled_from(["image", "video"]),
        st.integers(1, 2),
        st.sampled_from([LIKES, BOTH]),
        st.integers(0, 3),
    ),
    max_size=40,
).map(
    lambda rows: [
        Giver(f"p{place:02d}", cluster, Stratum(kind, scenes, kinds, comments))  # pyright: ignore[reportArgumentType]
        for place, (cluster, kind, scenes, kinds, comments) in enumerate(rows)
    ]
)


def coarsest(one: Giver) -> tuple[str, int]:
    return (one.stratum.media_kind, one.stratum.num_scenes)


@given(givers=GIVERS, seed=st.integers(0, 5))
def test_it_is_a_derangement_in_which_clusters_never_exchange(givers: list[Giver], seed: int) -> None:
    exchange = arms.donors(givers, seed)
    by_id = {one.id: one for one in givers}
    assert set(exchange.donors) | set(exchange.excluded) == set(by_id)
    assert not set(exchange.donors) & set(exchange.excluded)
    assert sorted(exchange.donors.values()) == sorted(exchange.donors)
    for receiver, donor in exchange.donors.items():
        assert receiver != donor
        assert by_id[receiver].cluster != by_id[donor].cluster
        assert coarsest(by_id[receiver]) == coarsest(by_id[donor])
    assert sum(exchange.num_by_level.values()) == len(exchange.donors)


@given(givers=GIVERS, seed=st.integers(0, 5), order=st.randoms())
def test_it_depends_on_posts_and_seed_alone(givers: list[Giver], seed: int, order: object) -> None:
    shuffled = list(givers)
    order.shuffle(shuffled)  # pyright: ignore[reportAttributeAccessIssue]
    assert arms.donors(iter(shuffled), seed) == arms.donors(givers, seed)


@given(givers=GIVERS, seed=st.integers(0, 5))
def test_strata_are_left_only_where_they_allow_no_exchange(givers: list[Giver], seed: int) -> None:
    """Where every stratum can exchange, nobody gets from another."""
    members = defaultdict(list)
    for one in givers:
        members[one.stratum].append(one.cluster)
    can = all(2 * max(Counter(clusters).values()) <= len(clusters) for clusters in members.values())
    exchange = arms.donors(givers, seed)
    if can:
        by_id = {one.id: one for one in givers}
        assert not exchange.excluded
        assert exchange.num_by_level == {"all": len(givers), "comments": 0, "kinds": 0}
        assert all(by_id[left].stratum == by_id[right].stratum for left, right in exchange.donors.items())


@given(givers=GIVERS, seed=st.integers(0, 5))
def test_no_more_are_excluded_than_must_be(givers: list[Giver], seed: int) -> None:
    """In the coarsest groups a cluster of more than half leaves its surplus, and no one else leaves."""
    groups = defaultdict(list)
    for one in givers:
        groups[coarsest(one)].append(one.cluster)
    surplus = sum(max(0, 2 * max(Counter(group).values()) - len(group)) for group in groups.values())
    assert len(arms.donors(givers, seed).excluded) == surplus


def test_nobody_and_nothing_to_exchange_with() -> None:
    assert arms.donors([], 0).donors == {}
    alone = arms.donors([giver("a")], 0)
    assert (alone.donors, alone.excluded) == ({}, ("a",))
    copies = arms.donors([giver("a", "x"), giver("b", "x")], 0)
    assert (copies.donors, copies.excluded) == ({}, ("a", "b"))
    kinds = arms.donors([giver("a"), giver("b", media_kind="video")], 0)
    assert kinds.excluded == ("a", "b")


def test_the_number_of_comments_goes_before_the_kinds() -> None:
    rows = [
        giver("a", num_comments=1),
        giver("b", num_comments=2),
        *(giver(f"c{n}", kinds=LIKES) for n in range(4)),
    ]
    exchange = arms.donors(rows, 0)
    assert exchange.donors["a"] == "b"
    assert exchange.donors["b"] == "a"
    assert exchange.num_by_level == {"all": 4, "comments": 2, "kinds": 0}


def test_a_lonely_post_joins_the_stratum_with_the_nearest_number_of_comments() -> None:
    rows = [
        giver("lonely", num_comments=5),
        *(giver(f"far{n}", num_comments=1) for n in range(4)),
        *(giver(f"near{n}", num_comments=4) for n in range(4)),
    ]
    exchange = arms.donors(rows, 0)
    assert exchange.donors["lonely"].startswith("near")
    assert {exchange.donors[f"far{n}"][:3] for n in range(4)} == {"far"}
    assert exchange.num_by_level == {"all": 7, "comments": 2, "kinds": 0}


def test_seeds_draw_differently() -> None:
    rows = [giver(f"{n:03d}") for n in range(100)]
    first, second = arms.donors(rows, 0).donors, arms.donors(rows, 1).donors
    assert sum(first[key] == second[key] for key in first) < 10


def test_every_donor_is_about_as_likely() -> None:
    rows = [giver(name) for name in "abcde"]
    drawn = Counter(arms.donors(rows, seed).donors["a"] for seed in range(400))
    assert set(drawn) == set("bcde")
    assert min(drawn.values()) > 60


def test_an_id_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="occurs twice"):
        arms.donors([giver("a"), giver("a")], 0)


def test_ten_thousand_posts_are_quick() -> None:
    rng = np.random.default_rng(0)
    rows = [
        giver(
            f"{n}",
            f"{rng.integers(9000)}",
            num_scenes=int(rng.integers(1, 9)),
            num_comments=int(rng.integers(6)),
        )
        for n in range(10_000)
    ]
    exchange = arms.donors(rows, 0)
    assert not exchange.excluded
    assert exchange.num_by_level["all"] > 9_990


# ---- strata ------------------------------------------------------------------------------------------------

POST = Post(
    id="a",
    source="made",
    media_kind="video",
    num_likes=1,
    num_views=4,
    comments=(Comment("1", "x"), Comment("2", None), Comment("3", "y"), Comment("4", "z")),
    replay=Curve((0.0,), (4.0,), (0.5,)),
)
SCENES = (SceneWords(0.0, 2.0, "a dog"), SceneWords(2.0, 4.0, "a cat"))


def test_a_stratum_is_of_what_is_said() -> None:
    short, paper = load_template("short"), load_template("paper")
    assert arms.stratum(short, KINDS, POST, SCENES) == Stratum(
        "video", 2, ("likes.like_rate", "comments.comments", "replay.replay"), 2
    )
    found = arms.stratum(paper, KINDS, POST, SCENES)
    assert found is not None
    assert found.num_comments == 3
    rated = replace(POST, num_views=None, num_likes=None, score=3, comments=(), replay=None)
    assert arms.stratum(short, KINDS, rated, SCENES) == Stratum("video", 2, ("likes.score",), 0)
    assert arms.stratum(short, ("comments",), rated, SCENES) is None


def test_only_posts_that_say_the_same_parts_in_the_same_form_are_in_a_stratum() -> None:
    short = load_template("short")
    shared = replace(POST, shares={"all": 7}, adjusted={"num_likes": Adjusted(percentile=0.5)})
    both = replace(shared, shares={"facebook": 7, "mail": 3})
    assert arms.stratum(short, ("shares",), shared, SCENES) == Stratum("video", 2, ("shares.num_shares",), 0)
    assert arms.stratum(short, ("shares",), both, SCENES) == Stratum(
        "video", 2, ("shares.num_shares+services",), 0
    )
    by_rank = short.for_run({"likes": {"measure": "percentile"}})
    assert arms.stratum(by_rank, ("likes",), shared, SCENES) == Stratum(
        "video", 2, ("likes.likes_percentile",), 0
    )
    assert arms.stratum(by_rank, ("likes",), POST, SCENES) is None


# ---- agreement ---------------------------------------------------------------------------------------------


def text(percent: int, *comments: str) -> str:
    lines = [f"{percent}% of viewers like it."]
    return "\n".join(lines + [f"{number}. {comment}" for number, comment in enumerate(comments, 1)])


def test_own_behavior_agrees_wholly() -> None:
    texts = [text(n, f"comment {n}", "nice") for n in range(50)]
    found = arms.agreement((one, one) for one in texts)
    assert (found.num_likes, found.num_comments) == (50, 50)
    assert (found.same_like_bucket, found.identical_comments) == (1.0, 1.0)
    assert found.like_correlation == pytest.approx(1.0)


def test_drawn_behavior_agrees_by_chance() -> None:
    rng = np.random.default_rng(0)
    texts = [text(int(value), f"comment {place}") for place, value in enumerate(rng.integers(0, 101, 2000))]
    drawn = arms.donors([giver(f"{n}") for n in range(2000)], 0).donors
    found = arms.agreement((texts[int(own)], texts[int(other)]) for own, other in drawn.items())
    assert found.same_like_bucket == pytest.approx(0.2, abs=0.03)
    assert found.like_correlation == pytest.approx(0.0, abs=0.06)
    assert found.identical_comments == 0.0


def test_identical_comments_are_counted_without_case() -> None:
    found = arms.agreement(
        [(text(1, "Wow", "nice"), text(2, "wow", "other")), (text(3, "a"), text(4, "b", "c"))]
    )
    assert found.identical_comments == pytest.approx(1 / 4)


def test_amounts_of_different_forms_are_not_compared() -> None:
    pairs = [("It has a score of 5.", "23% of viewers like it."), ("1. hi", "23% of viewers like it.")]
    assert arms.agreement(pairs) == arms.Agreement(0, 0, None, None, None)
    pairs = [("Liked more than 23% of posts.", "23% of viewers like it.")]
    assert arms.agreement(pairs) == arms.Agreement(0, 0, None, None, None)
    assert arms.agreement([]) == arms.Agreement(0, 0, None, None, None)


@pytest.mark.parametrize(
    "sentence",
    ["It has a score of {0}.", "Liked more than {0}% of posts.", "{0}.00 times the likes expected."],
)
def test_amounts_of_every_form_are_compared(sentence: str) -> None:
    texts = [sentence.format(number) for number in range(50)]
    found = arms.agreement(zip(texts, reversed(texts), strict=True))
    assert found.num_likes == 50
    assert found.like_correlation == pytest.approx(-1.0)


def test_amounts_that_do_not_vary_have_no_correlation() -> None:
    assert arms.agreement([(text(5), text(5))] * 4).like_correlation is None


def other_kinds(pairs: list[tuple[str, str]], *kinds: str) -> dict[str, dict[str, tuple[int, float | None]]]:
    """Kind -> part -> (pairs, agreement)."""
    found = arms.agreement(pairs, ("likes", *kinds))
    assert list(found.by_kind) == list(kinds)
    return {
        kind: {part: (left.pairs, left.value) for part, left in parts.items()}
        for kind, parts in found.by_kind.items()
    }


def test_every_kind_is_compared_as_fits_its_parts() -> None:
    pairs = [
        (
            "Remembered by 10%.\nShared 4 times: 75% mail, 25% sms.\nReplay: 0.1 0.5 1.0\nObjects: dog, cat.",
            "Remembered by 30%.\nShared 9 times: 50% mail, 50% fax.\nReplay: 1.0 0.5 0.1\nObjects: dog, car.",
        ),
        (
            "Remembered by 20%.\nShared 5 times.\nReplay: 0.10 0.50 1.00\nObjects: dog, cat.",
            "Remembered by 50%.\nShared 7 times.\nReplay: 0.20 0.60 1.00\nObjects: cat, dog.",
        ),
        (
            "Remembered by 40%.\nShared 6 times.\nReplay: 0.10 0.50\nTitle: A hat",
            "Remembered by 90%.\nShared 8 times.\nReplay: 0.10 0.50 1.00\nTitle: A hat",
        ),
        ("Title: A hat", "Title: Two hats\nRemembered by 3%."),
    ]
    found = other_kinds(pairs, "recall", "shares", "replay", "saliency_objects", "titles", "retention")
    # both sides rise together; among all six, own ranks are 1, 2, 4 and received ones 3, 5, 6
    own, received = np.array([1, 2, 4]) / 6, np.array([3, 5, 6]) / 6
    assert found["recall"] == {"recall": (3, pytest.approx(np.corrcoef(own, received)[0, 1]))}
    assert found["shares"]["num_shares"] == (3, pytest.approx(np.corrcoef([1, 2, 3], [6, 4, 5])[0, 1]))
    assert found["shares"]["services"] == (1, pytest.approx(0.5))  # half by mail, a quarter of it not
    second = np.corrcoef([0.1, 0.5, 1.0], [0.2, 0.6, 1.0])[0, 1]
    first = np.corrcoef([0.1, 0.5, 1.0], [1.0, 0.5, 0.1])[0, 1]
    assert found["replay"] == {"replay": (2, pytest.approx((first + second) / 2))}  # the third has no partner
    assert found["saliency_objects"] == {"object_order": (2, pytest.approx(0.5))}
    assert found["titles"] == {"title": (2, pytest.approx(0.5))}
    assert found["retention"] == {}


def test_curves_that_do_not_vary_are_counted_and_have_no_agreement() -> None:
    found = other_kinds([("Replay: 0.50 0.50 0.50", "Replay: 0.10 0.50 1.00")], "replay")
    assert found == {"replay": {"replay": (1, None)}}
    assert other_kinds([("Remembered by 5%.", "Remembered by 5%.")], "recall") == {
        "recall": {"recall": (1, None)}
    }


def test_what_is_told_names_every_kind() -> None:
    pairs = [(f"Remembered by {n}%.", f"Remembered by {n}%.") for n in (10, 20)]
    told = arms.agreement(pairs, ("likes", "recall", "replay")).told()
    assert told == {
        "num_likes": 0,
        "num_comments": 0,
        "same_like_bucket": None,
        "like_correlation": None,
        "identical_comments": None,
        "recall: pairs of posts compared by their recall": 2,
        "recall: rank correlation of own and received, recall": pytest.approx(1.0),
        "replay: pairs of posts compared": 0,
    }


def test_every_metric_of_a_behavior_has_a_way_to_compare_pairs() -> None:
    behaviors = discover.find("data.behaviors", "BEHAVIOR")
    assert len(behaviors) >= 11
    for kind, behavior in behaviors.items():
        if kind not in ("likes", "comments"):
            assert set(behavior.metrics.values()) <= set(arms._MEASURES)

"""What media without a post are asked is what training asked of posts with such media."""

from __future__ import annotations

from behavior_llava.core.schema import Adjusted, Comment, Curve, Post
from behavior_llava.data import blift, verbalizer
from behavior_llava.data.verbalizer import About, SceneWords
from behavior_llava.data.viewing import View

KINDS = ("likes", "comments", "replay")
SCENES = (SceneWords(0.0, 2.0, "a dog"),)


def row(post: Post) -> blift.Row:
    view = View("x", post.media_kind, "0" * 64, (), 0, None, 1, 1)
    return blift.Row(blift.Selected(post, "train", "c"), view, SCENES, About())


def image(number: int, **fields: object) -> blift.Row:
    return row(
        Post(id=f"made:{number}", source="made", media_kind="image", title=f"title {number}", **fields)
    )  # pyright: ignore[reportArgumentType]


COMMENT = (Comment("a", "nice"),)
ROWS = [
    image(0, score=3, comments=COMMENT),
    image(1, score=9, comments=COMMENT),
    image(2, num_likes=1, num_views=4),
    image(3),
    row(
        Post(
            id="made:4",
            source="made",
            media_kind="video",
            num_likes=1,
            num_views=4,
            replay=Curve((0.0,), (2.0,), (1.0,)),
        )
    ),
]


def test_the_question_is_the_one_asked_most_of_such_media() -> None:
    template = verbalizer.load_template("paper").for_run({kind: {} for kind in KINDS})
    asked = blift.usual_question(template, KINDS, ROWS, "image")
    assert asked.endswith(
        "then give the score it would get from its viewers and the five most popular comments."
    )
    assert "title" not in asked
    asked = blift.usual_question(template, KINDS, ROWS, "video")
    assert asked.endswith(
        "Describe this video scene by scene, then give the percentage of viewers that would like it "
        "and a replay value between 0 and 1 for every scene."
    )


def test_a_percentile_is_asked_for_as_one() -> None:
    template = verbalizer.load_template("paper").for_run({"likes": {"measure": "percentile"}})
    rows = [image(0, num_likes=3, adjusted={"num_likes": Adjusted(percentile=0.5)})]
    asked = blift.usual_question(template, ("likes",), rows, "image")
    assert asked.endswith("the percentage of comparable posts that would be liked less.")


def test_without_such_media_all_kinds_are_asked_for() -> None:
    template = verbalizer.load_template("paper").for_run({"likes": {}})
    asked = blift.usual_question(template, ("likes",), ROWS[:1], "video")
    assert asked.endswith("the percentage of viewers that would like it.")

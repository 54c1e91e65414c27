"""The salicon source: shares by hand, on real fixations and against naive counting; and hostile files."""

from __future__ import annotations

import json
import math
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from behavior_llava.core.errors import UserError
from behavior_llava.core.schema import Fault, Post
from behavior_llava.data import doctor
from behavior_llava.data.sources import salicon

Reader = Callable[..., tuple[list[Post], list[Fault]]]


def paths_of(*observers: list[list[float]]) -> list[dict[str, Any]]:
    """A path an observer."""
    return [
        {"image_id": 7, "worker_id": f"w{place}", "fixations": points}
        for place, points in enumerate(observers)
    ]


def record_of(
    paths: list[Any], *, width: int = 6, height: int = 3, outlines: list[Any] | None = None
) -> dict[str, Any]:
    return {
        "image": {"id": 7, "file_name": "a.jpg", "width": width, "height": height},
        "paths": paths,
        "outlines": outlines or [],
        "categories": {1: "dog", 2: "car"},
        "licences": {},
    }


def outline_of(segmentation: Any, category: int = 1) -> dict[str, Any]:
    return {"image_id": 7, "category_id": category, "segmentation": segmentation}


def items_of(record: dict[str, Any], min_observers: int = 1) -> tuple[Post | Fault, list[str]]:
    """The last item, and the reasons before it."""
    *faults, last = salicon._items(record, min_observers=min_observers, where="x")
    return last, [fault.reason for fault in faults if isinstance(fault, Fault)]


def post_of(record: dict[str, Any]) -> Post:
    post, faults = items_of(record)
    assert isinstance(post, Post)
    assert faults == []
    return post


# ---- real fixations ----------------------------------------------------------------------------------------

REAL = {
    # counted with fractions: the mean over observers of each one's share, to 4 digits
    123855: (60, "by/2.0", (0.1061, 0.0131, 0.025, 0.2545, 0.3166, 0.1541, 0.0272, 0.061, 0.0424)),
    123749: (67, "by/2.0", (0.0378, 0.0299, 0.0136, 0.1804, 0.195, 0.2568, 0.0608, 0.1396, 0.0861)),
    123891: (60, "by/2.0", (0.0634, 0.0513, 0.0899, 0.0365, 0.6009, 0.0293, 0.0234, 0.0748, 0.0305)),
    123909: (55, "by/2.0", (0.0759, 0.0369, 0.0971, 0.213, 0.2574, 0.2305, 0.0654, 0.0122, 0.0116)),
    123067: (56, "by-sa/2.0", (0.0607, 0.102, 0.0828, 0.312, 0.2369, 0.0554, 0.086, 0.0277, 0.0364)),
}


def test_real_fixations(shared: Path, read_source: Reader) -> None:
    folder = shared / "behaviour" / "data" / "perceptual" / "salicon"
    made = salicon.Config(fixations=folder / "fixations_5images.json", media=folder)
    posts, faults = read_source(salicon.SOURCE, made, folder)
    assert faults == []
    assert [post.id for post in posts] == [f"salicon:{number}" for number in REAL]
    for post, (_, licence, tiles) in zip(posts, REAL.values(), strict=True):
        assert tuple(round(share, 4) for share in post.saliency_tiles or ()) == tiles
        assert sum(post.saliency_tiles or ()) == pytest.approx(1, abs=1e-12)
        assert post.saliency_objects is None
        assert str(post.licence).endswith(f"(http://creativecommons.org/licenses/{licence}/)")
        assert str(post.media_url).startswith("http://farm")
        assert Path(str(post.media_path)).is_file()
    annotations = json.loads(made.fixations.read_text())["annotations"]
    assert len(annotations) == 298
    workers = {annotation["worker_id"] for annotation in annotations}
    assert len(workers) >= 60
    assert not [worker for worker in workers if worker in repr(posts)]


def test_real_pictures_need_their_observers(shared: Path, read_source: Reader) -> None:
    folder = shared / "behaviour" / "data" / "perceptual" / "salicon"
    made = salicon.Config(fixations=folder / "fixations_5images.json", media=folder, min_observers=57)
    posts, faults = read_source(salicon.SOURCE, made, folder)
    enough = [number for number, (observers, *_) in REAL.items() if observers >= 57]
    assert [post.id for post in posts] == [f"salicon:{number}" for number in enough]
    assert [fault.reason for fault in faults] == ["cohort_too_small"] * 2


# ---- tiles -------------------------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_tiles_are_what_counting_gives(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    point = st.tuples(st.integers(1, height), st.integers(1, width))
    observers = data.draw(st.lists(st.lists(point, min_size=1, max_size=8), min_size=1, max_size=6))
    tiles = [Fraction(0)] * 9
    for points in observers:
        for row, column in points:
            # the middle of pixel r lies at r - 1/2; a tile begins at 0, 1/3 and 2/3 of the side
            down = sum(Fraction(2 * row - 1, 2) >= Fraction(height * edge, 3) for edge in (1, 2))
            right = sum(Fraction(2 * column - 1, 2) >= Fraction(width * edge, 3) for edge in (1, 2))
            tiles[3 * down + right] += Fraction(1, len(points) * len(observers))
    post = post_of(record_of(paths_of(*observers), width=width, height=height))
    assert post.saliency_tiles == pytest.approx([float(share) for share in tiles], abs=1e-12)
    assert sum(post.saliency_tiles or ()) == pytest.approx(1, abs=1e-12)


def test_every_observer_weighs_the_same() -> None:
    long, short = [[1, 1]] * 30, [[3, 6]]
    tiles = post_of(record_of(paths_of(long, short))).saliency_tiles
    assert tiles == pytest.approx((0.5, 0, 0, 0, 0, 0, 0, 0, 0.5))


def test_two_paths_of_one_worker_are_one_observer() -> None:
    paths = paths_of([[1, 1]], [[3, 6]], [[3, 6]])
    paths[1]["worker_id"] = "w0"
    record = record_of(paths)
    assert post_of(record).saliency_tiles == (0.25, 0, 0, 0, 0, 0, 0, 0, 0.75)
    assert items_of(record, min_observers=3)[0] == Fault("cohort_too_small", "x:7")
    for path in paths:  # nobody knows whose they are: three
        path["worker_id"] = None
    assert isinstance(items_of(record, min_observers=3)[0], Post)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ([[0, 1]], "point_outside"),
        ([[1, 0]], "point_outside"),
        ([[4, 1]], "point_outside"),
        ([[1, 7]], "point_outside"),
        ([[1, 1], [2, math.nan]], "point_outside"),
        ([[1, math.inf]], "point_outside"),
        ([[1, 10**40]], "point_outside"),
        ([], "fixations_missing"),
        ([[1, 1, 1]], "fixations_broken"),
        ([[1]], "fixations_broken"),
        ([["1", "1"]], "fixations_broken"),
        ([[True, True]], "fixations_broken"),
        ([None], "fixations_broken"),
        (None, "fixations_broken"),
        ({"0": [1, 1]}, "fixations_broken"),
    ],
)
def test_a_path_that_cannot_be_used_costs_itself_alone(points: Any, reason: str) -> None:
    post, faults = items_of(record_of(paths_of([[1, 1]], points, [[3, 6]])))
    assert isinstance(post, Post)
    assert post.saliency_tiles == (0.5, 0, 0, 0, 0, 0, 0, 0, 0.5)
    assert faults == [reason]
    last, faults = items_of(record_of(paths_of(points)))
    assert (last, faults) == (Fault("cohort_too_small", "x:7"), [reason])


def test_a_path_that_is_no_record() -> None:
    post, faults = items_of(record_of([*paths_of([[1, 1]]), None, 7, [], "x", b"{broken", b"\xff"]))
    assert isinstance(post, Post)
    assert faults == ["fixations_broken"] * 6


# ---- objects -----------------------------------------------------------------------------------------------


def is_inside(polygon: list[tuple[int, int]], x: Fraction, y: Fraction) -> bool:
    """Even-odd: how many edges a ray to the right crosses."""
    crossed = 0
    for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y1 > y) != (y2 > y):
            crossed += x < x1 + (y - y1) * Fraction(x2 - x1, y2 - y1)
    return crossed % 2 == 1


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_shares_of_polygons_are_what_a_naive_test_of_every_point_gives(data: st.DataObject) -> None:
    corner = st.tuples(st.integers(0, 10), st.integers(0, 10))
    polygons = data.draw(st.lists(st.lists(corner, min_size=3, max_size=7), min_size=1, max_size=3))
    # a point on an edge may count on either side, so such points are left out
    shifted = [[(3 * x - 1, 3 * y + 1) for x, y in polygon] for polygon in polygons]
    rows = data.draw(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=12))
    edges = [edge for polygon in shifted for edge in zip(polygon, polygon[1:] + polygon[:1], strict=True)]
    points = [
        (row, column)
        for row, column in rows
        if not any(
            (x2 - x1) * (Fraction(2 * row - 1, 2) - y1) == (y2 - y1) * (Fraction(2 * column - 1, 2) - x1)
            for (x1, y1), (x2, y2) in edges
        )
    ]
    assume(points)
    flat = [[value for corner in polygon for value in corner] for polygon in shifted]
    one = post_of(
        record_of(
            paths_of([list(point) for point in points]), width=30, height=30, outlines=[outline_of(flat)]
        )
    )
    hits = sum(
        any(is_inside(polygon, Fraction(2 * column - 1, 2), Fraction(2 * row - 1, 2)) for polygon in shifted)
        for row, column in points
    )
    assert one.saliency_objects == pytest.approx({"dog": hits / len(points)})


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_shares_of_masks_are_what_the_mask_drawn_out_gives(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 8))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width)))
    counts, before = [0], False
    for value in mask:
        if value != before:
            counts.append(0)
        counts[-1] += 1
        before = value
    assert sum(counts) == height * width
    drawn = mask.reshape(width, height).T  # COCO counts down the columns
    point = st.tuples(st.integers(1, height), st.integers(1, width))
    points = data.draw(st.lists(point, min_size=1, max_size=10))
    outline = outline_of({"size": [height, width], "counts": counts})
    post = post_of(record_of(paths_of(points), width=width, height=height, outlines=[outline]))
    hits = sum(bool(drawn[row - 1, column - 1]) for row, column in points)
    assert post.saliency_objects == pytest.approx({"dog": hits / len(points)})


LEFT, RIGHT = [[0, 0, 3, 0, 3, 3, 0, 3]], [[3, 0, 6, 0, 6, 3, 3, 3]]
EVERYWHERE = [[0, 0, 6, 0, 6, 3, 0, 3]]


def test_outlines_of_one_category_are_one_object_and_categories_may_overlap() -> None:
    paths = paths_of([[1, 1], [1, 2], [1, 5], [1, 6]])
    outlines = [outline_of(LEFT), outline_of(EVERYWHERE), outline_of(RIGHT, 2)]
    post = post_of(record_of(paths, outlines=outlines))
    assert post.saliency_objects == {"dog": 1.0, "car": 0.5}


def test_what_was_outlined_and_not_looked_at_has_a_zero_and_the_rest_is_not_there() -> None:
    post = post_of(record_of(paths_of([[1, 1]]), outlines=[outline_of(RIGHT, 2)]))
    assert post.saliency_objects == {"car": 0.0}
    assert post_of(record_of(paths_of([[1, 1]]))).saliency_objects is None


def test_observers_weigh_the_same_in_objects() -> None:
    paths = paths_of([[1, 1]] * 9, [[1, 6]], [[1, 6], [1, 1]])
    post = post_of(record_of(paths, outlines=[outline_of(LEFT), outline_of(EVERYWHERE, 2)]))
    assert post.saliency_objects == pytest.approx({"dog": (1 + 0 + 0.5) / 3, "car": 1.0})
    assert post.saliency_objects is not None
    assert post.saliency_objects["car"] <= 1


@pytest.mark.parametrize(
    ("outline", "reason"),
    [
        (outline_of({"size": [3, 6], "counts": "PPYo1"}), "rle_compressed"),
        (outline_of({"size": [6, 3], "counts": [0, 18]}), "outline_broken"),
        (outline_of({"size": [3, 6], "counts": [0, 17]}), "outline_broken"),
        (outline_of({"size": [3, 6], "counts": [-1, 19]}), "outline_broken"),
        (outline_of({"size": [3, 6], "counts": [2**62, 2**62]}), "outline_broken"),
        (outline_of([[0, 0, 1, 1]]), "outline_broken"),
        (outline_of([[0, 0, 1, 1, 1, 0, 5]]), "outline_broken"),
        (outline_of([[0, 0, 1, math.nan, 1, 0]]), "outline_broken"),
        (outline_of([]), "outline_broken"),
        (outline_of(None), "outline_broken"),
        (None, "outline_broken"),
        (outline_of(LEFT, 99), "category_unknown"),
    ],
)
def test_an_outline_that_cannot_be_read_costs_the_objects_of_its_picture(outline: Any, reason: str) -> None:
    whole = outline_of(EVERYWHERE, 2)
    post, faults = items_of(record_of(paths_of([[1, 1]]), outlines=[whole, outline]))
    assert isinstance(post, Post)
    assert (post.saliency_objects, faults) == (None, [reason])
    assert post.saliency_tiles == (1, 0, 0, 0, 0, 0, 0, 0, 0)


# ---- files -------------------------------------------------------------------------------------------------


def image_of(number: int, **changes: Any) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number}.jpg", "width": 6, "height": 3} | changes


def annotations_of(*numbers: int, observers: int = 5) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "worker_id": f"w{place}", "fixations": [[1, 1]]}
        for place in range(observers)
        for number in numbers
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    return tmp_path


def config_of(folder: Path, document: Any, instances: Any = None, **settings: Any) -> salicon.Config:
    (folder / "fixations.json").write_text(json.dumps(document), encoding="utf-8")
    if instances is not None:
        (folder / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
        settings["instances"] = folder / "instances.json"
    return salicon.Config(fixations=folder / "fixations.json", media=folder / "media", **settings)


def read_all(made: salicon.Config) -> tuple[list[Post], Counter[str]]:
    """Posts and fault counts, by way of what goes to another process."""
    (part,) = salicon.list_parts(made, made.media)
    pieces = pickle.loads(pickle.dumps(list(salicon.pieces(made, part))))
    items = [item for piece in pieces for item in salicon.read(made, piece)]
    posts = [item for item in items if isinstance(item, Post)]
    assert sum(len(piece) for piece in pieces) >= len(posts)
    return posts, Counter(item.reason for item in items if isinstance(item, Fault))


def test_pictures_find_their_paths_and_outlines_in_any_order(folder: Path) -> None:
    (folder / "media" / "2.jpg").write_bytes(b"x")
    document = {
        "info": {"year": 2014},
        "type": "fixations",
        "annotations": annotations_of(2, 1),
        "licenses": [{"id": 4, "name": "BY", "url": "http://b"}, {"id": 5, "name": "none"}, {"id": 6}],
        "images": [
            image_of(2, license=4, url="http://farm.example/2.jpg"),
            image_of(1, license=5),
            image_of(3, license=6),
        ],
    }
    instances = {
        "images": [],
        "categories": [{"id": 1, "name": "dog", "supercategory": "animal"}],
        "annotations": [
            {"id": 0, "image_id": 1, "category_id": 1, "segmentation": RIGHT, "iscrowd": 0},
            {"id": 1, "image_id": 99, "category_id": 1, "segmentation": LEFT, "iscrowd": 0},
        ],
    }
    posts, faults = read_all(config_of(folder, document, instances))
    assert faults == {"cohort_too_small": 1}
    assert [(post.id, post.licence, post.media_url) for post in posts] == [
        ("salicon:2", "BY (http://b)", "http://farm.example/2.jpg"),
        ("salicon:1", "none", None),
    ]
    assert [post.media_path for post in posts] == [str((folder / "media" / "2.jpg").resolve()), None]
    assert [post.saliency_objects for post in posts] == [None, {"dog": 0.0}]
    assert all(post.saliency_tiles == (1, 0, 0, 0, 0, 0, 0, 0, 0) for post in posts)


def test_what_belongs_to_no_picture_is_counted(folder: Path) -> None:
    images = [image_of(1), image_of(2), image_of(2, width=8), image_of(3, height=-1), {"id": 4}, 5]
    strays = [{"image_id": 9, "fixations": [[1, 1]]}, {"image_id": "1", "fixations": [[1, 1]]}, 7]
    document = {"images": images, "annotations": annotations_of(1, 2) + strays}
    posts, faults = read_all(config_of(folder, document))
    assert [post.id for post in posts] == ["salicon:1"]
    # an id that stands twice with two sizes says nothing about where its five paths went
    assert faults == {"image_id_twice": 2, "image_broken": 3, "image_missing": 6, "fixations_broken": 2}


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "/etc/passwd", "a/../../secret.jpg", "link.jpg", "n\x00.jpg", "n" * 5000]
)
def test_paths_never_lead_outside(folder: Path, name: str) -> None:
    (folder / "secret.jpg").write_bytes(b"x")
    (folder / "media" / "link.jpg").symlink_to(folder / "secret.jpg")
    document = {"images": [image_of(1, file_name=name)], "annotations": annotations_of(1)}
    assert read_all(config_of(folder, document)) == ([], {"media_outside": 1})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"annotations": []}', "missing required field `images`"),
        ('{"images": []}', "missing required field `annotations`"),
        ('{"images": {}, "annotations": []}', "Expected `array`"),
        ("[]", "Expected `object`"),
        ("", "cannot be read"),
        ('{"images": [], "annotations": [', "cannot be read"),
        ('{"images": [], "annotations": [{"fixations": [[NaN, 1]]}]}', "malformed"),
        ('{"images": [' + "[" * 100_000, "cannot be read"),
    ],
)
def test_files_of_another_kind_are_refused(folder: Path, text: str, said: str) -> None:
    made = config_of(folder, {})
    made.fixations.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"fixations\.json") as error:
        read_all(made)
    assert said in str(error.value)


def test_files_that_are_not_there_or_not_of_these_pictures(folder: Path) -> None:
    document = {"images": [image_of(1)], "annotations": annotations_of(1)}
    made = config_of(folder, document)
    for changes in ({"fixations": folder / "x.json"}, {"instances": folder / "media"}):
        with pytest.raises(UserError, match="no such file"):
            read_all(made.model_copy(update=changes))
    with pytest.raises(UserError, match="set media"):
        read_all(made.model_copy(update={"media": folder / "nowhere"}))
    others = {"annotations": [outline_of(LEFT) | {"image_id": 2}], "categories": []}
    with pytest.raises(UserError, match="outlines none of the pictures"):
        read_all(config_of(folder, document, others))
    with pytest.raises(UserError, match="missing required field `categories`"):
        read_all(config_of(folder, document, {"annotations": []}))


def test_pictures_that_arrive_later_are_read_again(folder: Path) -> None:
    made = config_of(folder, {"images": [image_of(1)], "annotations": annotations_of(1)})
    (before,) = salicon.list_parts(made, folder)
    (folder / "media" / "1.jpg").write_bytes(b"x")
    (after,) = salicon.list_parts(made, folder)
    assert before.key != after.key
    assert read_all(made)[0][0].media_path is not None


def test_a_large_file_is_cut_without_being_held(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salicon, "PIECE_BYTES", 2**20)
    numbers = range(60)
    long = [[1, 1]] * 8000
    annotations = [annotation | {"fixations": long} for annotation in annotations_of(*numbers)]
    made = config_of(folder, {"images": [image_of(number) for number in numbers], "annotations": annotations})
    size = made.fixations.stat().st_size
    del annotations
    assert size > 15 * 2**20
    (part,) = salicon.list_parts(made, folder)
    tracemalloc.start()
    sizes = [len(piece) for piece in salicon.pieces(made, part)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sum(sizes) == 60
    assert len(sizes) > 10
    assert peak < 4 * 2**20


def test_a_picture_with_too_much_is_refused_and_the_others_are_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(salicon, "MAX_IMAGE_BYTES", 100_000)
    many = [annotation | {"fixations": [[1, 1]] * 4000} for annotation in annotations_of(1)]
    document = {"images": [image_of(1), image_of(2)], "annotations": many + annotations_of(2)}
    posts, faults = read_all(config_of(folder, document))
    assert [post.id for post in posts] == ["salicon:2"]
    assert faults == {"image_too_large": 1}


def test_its_folder_is_known(tmp_path: Path) -> None:
    (tmp_path / "fixations_train2014.json").touch()
    settings = {"fixations": str(tmp_path / "fixations_train2014.json"), "media": str(tmp_path)}
    assert doctor.guess_source(tmp_path) == ("salicon", settings)
    (tmp_path / "fixations_train2014.json").unlink()
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images").mkdir()
    for kind in ("fixations", "instances"):
        (tmp_path / "annotations" / f"{kind}_val2014.json").touch()
    settings = {
        kind: str(tmp_path / "annotations" / f"{kind}_val2014.json") for kind in ("fixations", "instances")
    }
    assert doctor.guess_source(tmp_path) == ("salicon", settings | {"media": str(tmp_path / "images")})

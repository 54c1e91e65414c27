"""SALICON: where some sixty people looked in each picture; shares of tiles and of outlined objects.

    fixations: annotations/fixations_train2014.json
    instances: annotations/instances_train2014.json
    media: images/train

Fixations in COCO's layout, points as [row, column] counted from 1, come in; a post a picture goes out. Every
observer weighs the same, however long their path is: a share is the mean over observers of each one's share
of points. Worker ids tell whether two paths are one person's, and leave in no form.

The files (0.9 and 0.3 GB for the whole training set) are mapped, not loaded: the process that cuts them holds
some 70 bytes a path and an outline, 80 MB in all, beside pages of the files that the machine takes back when
it needs them.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import fingerprint, folder_state
from behavior_llava.core.schema import Fault, Part, Post, Source
from behavior_llava.data import json_lines, raw_values
from behavior_llava.data.parts import file_key

GRID = 3
PIECE_BYTES = json_lines.BLOCK_BYTES
"""What one process reads at a time, about."""

MAX_IMAGE_BYTES = 16 * 2**20
"""Of one picture's paths and outlines; a real one has 0.1 MB."""

T = TypeVar("T")


class Config(BaseModel):
    """Settings of the salicon source.

    Attributes:
        fixations: JSON with info, images, licenses and annotations of image_id, worker_id and fixations.
        media: folder that the pictures' file_name is relative to.
        instances: COCO's JSON with the outlines and categories of the same pictures; None for no objects.
        min_observers: pictures that fewer people looked at are refused as "cohort_too_small".
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fixations: Path
    media: Path
    instances: Path | None = None
    min_observers: int = Field(default=5, ge=1)


# ---- the layout --------------------------------------------------------------------------------------------


class _Licence(msgspec.Struct):
    id: int
    name: str | None = None
    url: str | None = None


class _Category(msgspec.Struct):
    id: int
    name: str


class _Fixations(msgspec.Struct):
    images: list[msgspec.Raw]
    annotations: list[msgspec.Raw]
    licenses: list[_Licence] = []


class _Instances(msgspec.Struct):
    annotations: list[msgspec.Raw]
    categories: list[_Category]


_Pixels = Annotated[int, msgspec.Meta(ge=1, le=2**20)]


class _Image(msgspec.Struct):
    id: int
    file_name: Annotated[str, msgspec.Meta(min_length=1)]
    width: _Pixels
    height: _Pixels
    license: int | None = None
    url: str | None = None


class _OfImage(msgspec.Struct):
    image_id: int


class _Path(msgspec.Struct):
    fixations: list[tuple[float, float]]
    worker_id: str | int | None = None


class _RunLengths(msgspec.Struct):
    """A mask as COCO's crowds have it: lengths of runs outside and inside in turn, down the columns."""

    size: tuple[int, int]
    counts: list[Annotated[int, msgspec.Meta(ge=0, le=2**40)]] | str


_Polygons = Annotated[list[Annotated[list[float], msgspec.Meta(min_length=6)]], msgspec.Meta(min_length=1)]
"""x, y, x, y, ... of each, in pixels from the top left corner."""


class _Outline(msgspec.Struct):
    category_id: int
    segmentation: _Polygons | _RunLengths


def _typed(value: Any, kind: type[T]) -> T | None:
    """A record from JSON bytes or from plain values; None where it is no such record."""
    try:
        if isinstance(value, bytes | msgspec.Raw):
            return msgspec.json.decode(value, type=kind)
        return msgspec.convert(value, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


# ---- one picture -------------------------------------------------------------------------------------------


class _Refused(ValueError):
    """Something that is there and cannot be used; its text is the Fault's reason."""


def _points(path: Any, image: _Image) -> tuple[Any, np.ndarray]:
    """The observer and the (row, column) of every point, at the middle of its pixel in units of pixels."""
    found = _typed(path, _Path)
    if found is None:
        raise _Refused("fixations_broken")
    if not found.fixations:
        raise _Refused("fixations_missing")
    points = np.array(found.fixations)
    # also refuses NaN, which is not 1 or more
    if not ((points >= 1) & (points <= (image.height, image.width))).all():
        raise _Refused("point_outside")
    return found.worker_id, points - 0.5


def _is_inside(outline: _Outline, points: np.ndarray, image: _Image) -> np.ndarray:
    """For every point whether it lies in the outline: in any of its polygons, or in its mask."""
    shape = outline.segmentation
    if isinstance(shape, _RunLengths):
        if isinstance(shape.counts, str):
            raise _Refused("rle_compressed")
        if shape.size != (image.height, image.width) or sum(shape.counts) != image.height * image.width:
            raise _Refused("outline_broken")
        row, column = points.astype(np.int64).T
        ends = np.cumsum(np.array(shape.counts, dtype=np.int64))
        return np.searchsorted(ends, column * image.height + row, side="right") % 2 == 1
    from matplotlib.path import Path as Polygon  # even-odd rule

    inside = np.zeros(len(points), dtype=bool)
    for flat in shape:
        if len(flat) % 2 or not np.isfinite(flat).all():
            raise _Refused("outline_broken")
        inside |= Polygon(np.reshape(flat, (-1, 2))).contains_points(points[:, ::-1])
    return inside


def _object_shares(
    outlines: Iterable[Any],
    names: Mapping[int, str],
    image: _Image,
    points: np.ndarray,
    weights: np.ndarray,
) -> dict[str, float] | None:
    """Category -> share of the points in any of its outlines; 0 for one nobody looked at."""
    inside: dict[str, np.ndarray] = {}
    for raw in outlines:
        outline = _typed(raw, _Outline)
        if outline is None:
            raise _Refused("outline_broken")
        if outline.category_id not in names:
            raise _Refused("category_unknown")
        name = names[outline.category_id]
        inside[name] = inside.get(name, False) | _is_inside(outline, points, image)
    # a point in two outlines of one category counts once; rounding must not lead above 1
    return {name: min(1.0, float(weights[where].sum())) for name, where in inside.items()} or None


def _items(record: Mapping[str, Any], *, min_observers: int, where: str) -> Iterator[Post | Fault]:
    """A Fault for each path that cannot be used, and for outlines that cannot; last the Post, or why none."""
    image = _typed(record["image"], _Image)
    if image is None:
        yield Fault("image_broken", where)
        return
    where = f"{where}:{image.id}"
    observers: dict[Any, list[np.ndarray]] = {}
    for number, path in enumerate(record["paths"]):
        try:
            worker, points = _points(path, image)
            observers.setdefault(("unnamed", number) if worker is None else worker, []).append(points)
        except _Refused as fault:
            yield Fault(str(fault), where)
    if len(observers) < min_observers:
        yield Fault("cohort_too_small", where)
        return
    paths = [np.concatenate(found) for found in observers.values()]
    points = np.concatenate(paths)
    weights = np.concatenate([np.full(len(path), 1 / (len(path) * len(paths))) for path in paths])
    row, column = (points * GRID / (image.height, image.width)).astype(int).T
    tiles = np.bincount(row * GRID + column, weights, GRID * GRID)
    objects = None
    try:
        objects = _object_shares(record["outlines"], record["categories"], image, points, weights)
    except _Refused as fault:  # shares without one of the objects would be shares of something else
        yield Fault(str(fault), where)
    yield Post(
        id=f"salicon:{image.id}",
        source="salicon",
        media_kind="image",
        media_url=image.url or None,
        media_path=image.file_name,
        saliency_tiles=tuple((tiles / tiles.sum()).tolist()),
        saliency_objects=objects,
        licence=record["licences"].get(image.license),
    )


def parse(record: Mapping[str, Any], *, min_observers: int = 5, where: str = "") -> Post | Fault:
    """One picture with all its paths to a Post whose media path is still as the file gives it.

    Args:
        record: `image`, `paths` and `outlines` as the files have them, `categories` and `licences` by id.
    """
    *_, last = _items(record, min_observers=min_observers, where=where)
    return last


# ---- files -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Piece:
    """Some pictures with all that belongs to them, still as JSON.

    Attributes:
        records: (image, paths, outlines) of each.
        licences, categories: their words by id. faults: reason -> count, of what belongs to no picture.
    """

    records: tuple[tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]], ...] = ()
    licences: Mapping[int, str] = field(default_factory=dict)
    categories: Mapping[int, str] = field(default_factory=dict)
    faults: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.records) + sum(self.faults.values())


def list_parts(config: Config, folder: Path) -> Iterator[Part]:
    """The fixations and outlines, which are read together.

    Raises:
        UserError: where a file or the media folder is not there.
    """
    if not config.media.is_dir():
        raise UserError(
            "no such folder", where=config.media, remedy="set media to the folder of the pictures"
        )
    files = [path for path in (config.fixations, config.instances) if path is not None]
    for path in files:
        if not path.is_file():
            raise UserError("no such file", where=path, remedy="check fixations and instances")
    yield Part(fingerprint([file_key(*files), folder_state(config.media)]), config.fixations)


def _mapped(path: Path, kind: type[T], remedy: str) -> T:
    """A JSON document of which long lists stay where they are, in the file."""
    try:
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return msgspec.json.decode(data, type=kind)  # what stays keeps the map open
    except (msgspec.MsgspecError, OSError, ValueError, RecursionError) as fault:
        raise UserError(f"cannot be read ({fault})", where=path, remedy=remedy) from fault


def _by_image(
    annotations: Sequence[msgspec.Raw], ids: Iterable[int], faults: Counter[str], reasons: tuple[str, str]
) -> dict[int, list[msgspec.Raw]]:
    """Picture -> its annotations, in order; those of others are counted.

    Args:
        reasons: for one without an image_id, and for one of a picture that is not among `ids`; "" for none.
    """
    found: dict[int, list[msgspec.Raw]] = {key: [] for key in ids}
    broken, apart = reasons
    for raw in annotations:
        named = _typed(raw, _OfImage)
        if named is None:
            faults[broken] += 1
        elif named.image_id in found:
            found[named.image_id].append(raw)
        elif apart:
            faults[apart] += 1
    return found


def _images(raw_images: Sequence[msgspec.Raw], faults: Counter[str]) -> dict[int, bytes]:
    """Id -> record; of an id that stands twice nobody knows whose the paths are, so all of it are refused."""
    found: dict[int, bytes] = {}
    twice: Counter[int] = Counter()
    for raw in raw_images:
        image = _typed(raw, _Image)
        if image is None:
            faults["image_broken"] += 1
            continue
        twice[image.id] += 1
        found[image.id] = bytes(raw)
    for key in [key for key, count in twice.items() if count > 1]:
        faults["image_id_twice"] += twice[key]
        del found[key]
    return found


def pieces(config: Config, part: Part) -> Iterator[Piece]:
    """The pictures in the file's order, a few megabytes at a time; then what belongs to none.

    Raises:
        UserError: where a file is none of its kind, or the outlines are those of other pictures.
    """
    faults: Counter[str] = Counter()
    fixations = _mapped(config.fixations, _Fixations, "give fixations_*.json as SALICON ships it")
    images = _images(fixations.images, faults)
    paths = _by_image(fixations.annotations, images, faults, ("fixations_broken", "image_missing"))
    outlines: dict[int, list[msgspec.Raw]] = {}
    categories: dict[int, str] = {}
    if config.instances is not None:
        instances = _mapped(config.instances, _Instances, "give instances_*.json as COCO ships it")
        outlines = _by_image(instances.annotations, images, faults, ("outline_broken", ""))
        categories = {category.id: category.name for category in instances.categories}
        if not any(outlines.values()):
            raise UserError(
                "outlines none of the pictures",
                where=config.instances,
                remedy="give the instances of the same pictures, e.g. train2014 with train2014",
            )
    licences = {each.id: _words(each) for each in fixations.licenses if each.name or each.url}
    held: list[tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]] = []
    size = 0
    for key, image in images.items():
        of_image = tuple(bytes(raw) for raw in paths[key]), tuple(bytes(raw) for raw in outlines.get(key, ()))
        own = sum(len(raw) for raws in of_image for raw in raws)
        if own > MAX_IMAGE_BYTES:
            faults["image_too_large"] += 1
            continue
        held.append((image, *of_image))
        size += own
        if size >= PIECE_BYTES:
            yield Piece(tuple(held), licences, categories)
            held, size = [], 0
    yield Piece(tuple(held), licences, categories, dict(faults))


def _words(licence: _Licence) -> str:
    return (
        f"{licence.name} ({licence.url})"
        if licence.name and licence.url
        else str(licence.name or licence.url)
    )


def read(config: Config, piece: Piece) -> Iterator[Post | Fault]:
    """A post a picture, and a Fault for each path or file that cannot be used."""
    name = config.fixations.name
    for reason, count in piece.faults.items():
        yield from [Fault(reason, name)] * count
    for image, paths, outlines in piece.records:
        record = {
            "image": image,
            "paths": paths,
            "outlines": outlines,
            "categories": piece.categories,
            "licences": piece.licences,
        }
        for item in _items(record, min_observers=config.min_observers, where=name):
            yield _with_file(item, config.media, name) if isinstance(item, Post) else item


def _with_file(post: Post, media: Path, where: str) -> Post | Fault:
    """The post with the whole path of its picture; without one where it is not there (yet)."""
    try:
        path = raw_values.file_inside(media, post.media_path or "")
    except ValueError:
        return Fault("media_outside", f"{where}:{post.id}")
    return replace(post, media_path=None if path is None else str(path))


_PICTURE = {"id": 7, "file_name": "a.jpg", "width": 6, "height": 3, "license": 4, "url": "http://a.org/a.jpg"}
_RECORD = {
    "image": _PICTURE,
    "paths": [
        # top left twice, middle, bottom right
        {"image_id": 7, "worker_id": "w1", "fixations": [[1, 1], [1, 2], [2, 3], [3, 6]]},
        *({"image_id": 7, "worker_id": f"w{number}", "fixations": [[2, 4]]} for number in range(2, 9)),
    ],
    "outlines": [
        {"image_id": 7, "category_id": 18, "segmentation": [[0, 0, 2, 0, 2, 1, 0, 1]]},
        {"image_id": 7, "category_id": 3, "segmentation": {"size": [3, 6], "counts": [0, 3, 15]}},
        {"image_id": 7, "category_id": 5, "segmentation": [[4, 0, 6, 0, 6, 1, 4, 1]]},
    ],
    "categories": {18: "dog", 3: "car", 5: "airplane"},
    "licences": {4: "Attribution License"},
}
EXAMPLES = (
    (
        _RECORD,
        Post(
            id="salicon:7",
            source="salicon",
            media_kind="image",
            media_url="http://a.org/a.jpg",
            media_path="a.jpg",
            # of eight observers the first has four points: 1/32 each
            saliency_tiles=(2 / 32, 0.0, 0.0, 0.0, 29 / 32, 0.0, 0.0, 0.0, 1 / 32),
            saliency_objects={"dog": 2 / 32, "car": 1 / 32, "airplane": 0.0},
            licence="Attribution License",
        ),
    ),
    (_RECORD | {"paths": _RECORD["paths"][:4]}, "cohort_too_small"),
    (_RECORD | {"image": _PICTURE | {"width": 0}}, "image_broken"),
)

SOURCE = Source(config=Config, parts=list_parts, pieces=pieces, read=read, parse=parse, examples=EXAMPLES)

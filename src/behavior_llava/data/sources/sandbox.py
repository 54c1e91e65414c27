"""A small synthetic world that writes real file formats: the quickstart's source, and a positive control.

How the world is made. Contents are drawn at random (data/world/content.py): a place, a weather, two objects,
a figure, perhaps a face and an event. Combinations of them cause one of eight emotions; a face, a rare object
or strong contrast make it memorable. Drawings show the contents (drawing.py). Receivers feel the emotion and
like, write, replay, stay, share and react accordingly, as far as `signal` says (receivers.py, words.py); 15 %
of the comments come from some other emotion. Channels differ in size and posts in age, so that counts mostly
measure exposure. Bots, deleted and NSFW posts, reposts, repeated comments, other languages, and corrupt,
missing or unreadable files are mixed in at the rates below.

Written: `reddit/` (RS and RC dumps, media), `youtube/` (info.json, mp4, subtitles, Analytics exports),
`page/` (a page's own CSV), where they are asked for `perceptual/` (SALICON's fixations, COCO's outlines) and
`memory/` (LaMem's split), `instruction/` (LLaVA JSON for the base stage), `benchmarks/` (in their official
layouts, by default EmoSet, Ekman-6, LVU, LaMem and IMDb; data/world/layouts has all) and `truth.json` (read
by the ceiling arm alone). All of it is synthetic and says so.

What stands where of a post, so that it can be taken out again:

    reddit:<id>         a line of reddit/RS_2020-06.zst (id), lines of RC_2020-06.zst (link_id t3_<id>),
                        reddit/media/<id>.jpg
    youtube:<id>        youtube/<id>.info.json, .mp4, .en.vtt; youtube/analytics/<id>.retention.json,
                        .shares.json
    page:<number>       a row of page/export.csv (status_id), page/media/<number as 00000>.jpg
    salicon:<number>    perceptual/fixations_train2014.json and instances_train2014.json (images, id;
                        annotations, image_id), perceptual/images/<file_name of its image>
    lamem:<file>        a line of memory/splits/train_1.txt, memory/images/<file>
    all of them         a key of truth.json

An author is the `author` of a dump's line or of a comment in an info.json, an observer the `worker_id` of a
path. Instruction data and benchmarks hold nobody's posts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sized
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from behavior_llava.core import discover
from behavior_llava.core.config import Config as Settings
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import progress
from behavior_llava.core.schema import Fault, Part, Post, Said, Source
from behavior_llava.core.workers import Workers
from behavior_llava.data.sources import memorability, reddit, salicon, table, youtube
from behavior_llava.data.world import erase, looking, receivers, words, writers
from behavior_llava.data.world.canvas import Canvas
from behavior_llava.data.world.content import (
    EKMAN,
    PRODUCTS,
    Content,
    draw_content,
)
from behavior_llava.data.world.drawing import SIZE

LICENCE = "synthetic, CC0"
DAY_S = 86_400
START_UTC = 1_590_969_600
"""1 June 2020: the month of the dumps."""

RATES = {
    "deleted": 0.02,
    "nsfw": 0.02,
    "bot_post": 0.01,
    "repost": 0.03,
    "corrupt": 0.01,
    "missing": 0.01,
    "bot_comment": 0.08,
    "deleted_comment": 0.04,
    "repeated_comment": 0.05,
    "foreign_comment": 0.03,
    "spam_comment": 0.02,
}
"""How often each kind of dirt occurs; a share of posts, or of posts that get one such comment."""


class Config(Settings):
    """How large the world is and how its receivers behave.

    Attributes:
        seed: of the world; runs with other training seeds share it.
        signal: share of receivers who react to the content; 0 is the null world.
        inventory: which comments they choose from; with "brief" the instruction rows on media are in few
            words too, for models whose rows must be short, and no talk stands around their questions.
        images, videos: posts on the Reddit and on the YouTube side; page_posts: rows of the page's own CSV.
        saliency_images: pictures that people were watched looking at; memory_images: those they were asked
            about later.
        instruction_*: rows of the base stage's data, by media.
        benchmarks: the files of data/world/layouts that are written; `films` is Ekman-6 and the scenes of
            LVU.
        benchmark_train, benchmark_test: media of every benchmark's splits.
        processes: for drawing.
    """

    seed: int = 7
    signal: float = Field(default=1.0, ge=0.0, le=1.0)
    inventory: words.Inventory = "usual"
    images: int = Field(default=5000, ge=0)
    videos: int = Field(default=1600, ge=0)
    page_posts: int = Field(default=200, ge=0)
    saliency_images: int = Field(default=0, ge=0)
    memory_images: int = Field(default=0, ge=0)
    instruction_images: int = Field(default=4500, ge=1)
    instruction_videos: int = Field(default=1200, ge=0)
    instruction_texts: int = Field(default=3000, ge=0)
    benchmarks: tuple[str, ...] = ("emoset", "films", "lamem", "imdb")
    benchmark_train: int = Field(default=480, ge=16)
    benchmark_test: int = Field(default=480, ge=16)
    processes: int = Field(default=2, ge=1)


def fetch(config: Config, folder: Path) -> None:
    """Writes the whole world to `folder`; media that are there already are kept."""
    for part in folder.rglob("*.part"):
        part.unlink()  # left by a killed call
    canvas = Canvas(config.seed)
    facts: dict[str, dict[str, Any]] = {}
    _write_reddit(config, folder / "reddit", canvas, facts)
    _write_youtube(config, folder / "youtube", canvas, facts)
    _write_page(config, folder / "page", canvas, facts)
    if config.saliency_images:
        _write_perceptual(config, folder / "perceptual", canvas, facts)
    if config.memory_images:
        _write_memory(config, folder / "memory", canvas, facts)
    _write_instruction(config, folder / "instruction", canvas)
    _write_benchmarks(config, folder / "benchmarks", canvas)
    for label, function, jobs in (
        ("drawing images", writers.save_image, canvas.images),
        ("drawing videos", writers.save_video, canvas.videos),
        ("copying reposts", writers.save_near_copy, canvas.near_copies),
        ("copying films", writers.copy, canvas.copies),
    ):
        if not jobs:
            continue
        with (
            progress(label, len(jobs)) as advance,
            Workers(function, processes=config.processes, timeout_s=120) as workers,
        ):
            for result in workers.map(jobs):
                if isinstance(result, Exception):
                    raise RuntimeError(f"{label} failed: {result}")
                advance()
    writers.save_json(folder / "truth.json", facts)
    (folder / "README.txt").write_text(
        "Synthetic: made by behavior-llava's sandbox. No real person, post or film.\n", encoding="utf-8"
    )


def _rng(config: Config, *key: int) -> np.random.Generator:
    return np.random.default_rng((config.seed, *key))


def _post_id(number: int) -> str:
    """A Reddit-like id: base 36, seven characters, without a meaning."""
    digits, value = "", 2_000_000_000 + number * 7919
    while value:
        value, rest = divmod(value, 36)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[rest] + digits
    return digits


def _fact(content: Content) -> dict[str, Any]:
    return {
        "emotion": content.emotion,
        "ekman": EKMAN[content.emotion],
        "memorability": round(content.memorability, 3),
        "scene": content.scene,
    }


_TITLES = (
    "from today",
    "seen on my way",
    "a snapshot",
    "my latest one",
    "found on my phone",
    "untitled",
    "taken last week",
    "another one",
)
_USERS = (
    "walker",
    "peter_m",
    "lin77",
    "abbotleather",
    "quiet_fox",
    "mapmaker",
    "oona",
    "tomtom",
    "SHAZBOT_fan",
    "green_tea",
)


def _write_reddit(config: Config, folder: Path, canvas: Canvas, facts: dict[str, dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    submissions: list[dict[str, Any]] = []
    comments: list[dict[str, Any]] = []
    drawn: list[tuple[int, Content]] = []
    for number in range(config.images):
        rng = _rng(config, 1, number)
        content = draw_content(rng)
        name = _post_id(number)
        original = drawn[int(rng.integers(len(drawn)))] if drawn and rng.random() < RATES["repost"] else None
        if original is not None:
            content = original[1]
        large = rng.random() < 0.5
        created = START_UTC + int(rng.integers(0, 29 * DAY_S))
        age_days = float(rng.choice((0.1, 2.0, 10.0, 30.0), p=(0.05, 0.15, 0.4, 0.4)))
        received = receivers.receive(
            content,
            rng,
            signal=config.signal,
            channel_size=20_000 if large else 800,
            age_days=age_days,
            inventory=config.inventory,
        )
        drawing_path = folder / "media" / f"{name}.jpg"
        if original is not None:
            canvas.near_copies.append((str(drawing_path), content, (config.seed, 1, original[0])))
        elif rng.random() >= RATES["missing"]:
            is_corrupt = bool(rng.random() < RATES["corrupt"])
            canvas.image(drawing_path, content, 1, number, is_corrupt=is_corrupt)
            drawn.append((number, content))
        facts[f"reddit:{name}"] = _fact(content)
        record = {
            "id": name,
            "subreddit": "pics" if large else "itookapicture",
            "author": str(rng.choice(_USERS)) if rng.random() >= RATES["bot_post"] else "AutoModerator",
            "title": _TITLES[int(rng.integers(len(_TITLES)))],
            "selftext": "",
            "is_self": False,
            "is_video": False,
            "post_hint": "image",
            "domain": "i.redd.it",
            "url": f"https://i.redd.it/{name}.jpg",
            "permalink": f"/r/pics/comments/{name}/_/",
            "created_utc": created,
            "retrieved_on": created + int(age_days * DAY_S),
            "over_18": bool(rng.random() < RATES["nsfw"]),
            "score": int(received.likes * (2 * received.upvote_ratio - 1)),
            "upvote_ratio": received.upvote_ratio,
            "num_comments": len(received.comments),
            "removed_by_category": None,
        }
        if rng.random() < RATES["deleted"]:
            record |= {"author": "[deleted]", "selftext": "[deleted]", "removed_by_category": "deleted"}
        submissions.append(record)
        comments += _reddit_comments(name, created, received.comments, rng)
    writers.save_dump(folder / "RS_2020-06.zst", submissions)
    writers.save_dump(folder / "RC_2020-06.zst", comments)


def _reddit_comments(
    post: str, created: int, written: tuple[tuple[str, int], ...], rng: np.random.Generator
) -> list[dict[str, Any]]:
    lines: list[tuple[str, int, str, str | None]] = [
        (text, score, str(rng.choice(_USERS)), None) for text, score in written
    ]
    if rng.random() < RATES["bot_comment"]:
        lines.append((words.BOT, 1, "AutoModerator", "moderator"))
    if rng.random() < RATES["deleted_comment"]:
        lines.append(("[deleted]", 1, "[deleted]", None))
    if rng.random() < RATES["repeated_comment"]:
        lines.append((lines[0][0] + "!", 1, str(rng.choice(_USERS)), None))
    if rng.random() < RATES["foreign_comment"]:
        lines.append((words.FOREIGN[int(rng.integers(len(words.FOREIGN)))], 1, str(rng.choice(_USERS)), None))
    if rng.random() < RATES["spam_comment"]:
        lines.append((words.SPAM[int(rng.integers(len(words.SPAM)))], 1, "promo_bot", None))
    return [
        {
            "id": f"{post}{place}",
            "link_id": f"t3_{post}",
            "parent_id": f"t3_{post}",
            "subreddit": "pics",
            "author": author,
            "body": text,
            "score": score,
            "created_utc": created + 60 * (place + 1),
            "retrieved_on": created + 40 * DAY_S,
            "distinguished": distinguished,
            "stickied": distinguished is not None,
        }
        for place, (text, score, author, distinguished) in enumerate(lines)
    ]


def _write_youtube(config: Config, folder: Path, canvas: Canvas, facts: dict[str, dict[str, Any]]) -> None:
    (folder / "analytics").mkdir(parents=True, exist_ok=True)
    for number in range(config.videos):
        rng = _rng(config, 2, number)
        content = draw_content(rng, is_filmed=True)
        film = writers.draw_film(content, rng)
        name = f"Vd{_post_id(number)}xy"[:11].ljust(11, "0")
        product = PRODUCTS[int(rng.integers(len(PRODUCTS)))] if rng.random() < 0.3 else None
        spoken = [
            "welcome back everyone",
            f"look at the {content.left} here",
            f"brought to you by {product}" if product else "see you next time",
        ]
        writers.save_subtitles(folder / f"{name}.en.vtt", film, spoken)
        is_corrupt = bool(rng.random() < RATES["corrupt"])
        canvas.video(folder / f"{name}.mp4", film, 2, number, is_corrupt=is_corrupt)
        channel = int(rng.integers(12))
        size = 30_000 * 3 ** (channel % 6)
        age_days = float(rng.choice((0.2, 5.0, 30.0, 400.0), p=(0.05, 0.15, 0.4, 0.4)))
        received = receivers.receive(
            content,
            rng,
            signal=config.signal,
            channel_size=size,
            age_days=age_days,
            inventory=config.inventory,
        )
        curve = receivers.replay_curve(
            film.peak_0to1, rng, signal=config.signal, memorability=content.memorability
        )
        created = START_UTC + int(rng.integers(0, 300 * DAY_S))
        facts[f"youtube:{name}"] = _fact(content)
        step = film.duration_s / receivers.SEGMENTS
        writers.save_json(
            folder / f"{name}.info.json",
            {
                "_type": "video",
                "id": name,
                "title": _TITLES[int(rng.integers(len(_TITLES)))],
                "description": "synthetic, made by a program",
                "duration": round(film.duration_s),
                "view_count": received.views,
                "like_count": received.likes if rng.random() > 0.03 else None,
                "comment_count": len(received.comments),
                "average_rating": None,
                "age_limit": 0,
                "categories": ["People & Blogs"],
                "tags": [],
                "chapters": None,
                "heatmap": [
                    {
                        "start_time": round(step * index, 3),
                        "end_time": round(step * (index + 1), 3),
                        "value": round(float(value), 4),
                    }
                    for index, value in enumerate(curve)
                ]
                if rng.random() < 0.9
                else None,
                "language": "en",
                "channel": f"channel {channel}",
                "channel_id": f"UC{channel:022d}",
                "channel_follower_count": size,
                "timestamp": created,
                "upload_date": "20200601",
                "epoch": created + int(age_days * DAY_S),
                "availability": "public",
                "live_status": "not_live",
                "comments": [
                    {
                        "id": f"Ug{name}{place}",
                        "parent": "root",
                        "text": text,
                        "like_count": score,
                        "timestamp": created + 60 * place,
                        "author": f"@{_USERS[int(rng.integers(len(_USERS)))]}",
                        "author_id": f"UCa{int(rng.integers(1000))}",
                        "author_is_uploader": False,
                        "is_favorited": False,
                        "is_pinned": False,
                    }
                    for place, (text, score) in enumerate(received.comments)
                ],
            },
        )
        _write_analytics(folder / "analytics", name, content, received.shares, rng, config.signal)


def _write_analytics(
    folder: Path, name: str, content: Content, shares: dict[str, int], rng: np.random.Generator, signal: float
) -> None:
    """The owner's exports in the Analytics API's form: audience retention, and shares by service."""
    kept = receivers.retention_curve(content, rng, signal=signal)
    for kind, columns, rows in (
        (
            "retention",
            (("elapsedVideoTimeRatio", "DIMENSION", "FLOAT"), ("audienceWatchRatio", "METRIC", "FLOAT")),
            [
                [round((index + 1) / receivers.SEGMENTS, 2), round(float(value), 4)]
                for index, value in enumerate(kept)
            ],
        ),
        (
            "shares",
            (("sharingService", "DIMENSION", "STRING"), ("shares", "METRIC", "INTEGER")),
            [[service, count] for service, count in shares.items()],
        ),
    ):
        headers = [{"name": column, "columnType": role, "dataType": data} for column, role, data in columns]
        writers.save_json(
            folder / f"{name}.{kind}.json",
            {"kind": "youtubeAnalytics#resultTable", "columnHeaders": headers, "rows": rows},
        )


_PAGE_COLUMNS = (
    "status_id",
    "image",
    "published",
    "num_views",
    "num_likes",
    "num_shares",
    "num_loves",
    "num_wows",
    "num_hahas",
    "num_sads",
    "num_angrys",
)


def _write_page(config: Config, folder: Path, canvas: Canvas, facts: dict[str, dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "export.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_PAGE_COLUMNS)
        for number in range(config.page_posts):
            rng = _rng(config, 3, number)
            content = draw_content(rng)
            canvas.image(folder / "media" / f"{number:05d}.jpg", content, 3, number)
            received = receivers.receive(
                content,
                rng,
                signal=config.signal,
                channel_size=5000,
                age_days=30.0,
                inventory=config.inventory,
            )
            reactions = [received.reactions[kind] for kind in ("love", "wow", "haha", "sad", "angry")]
            shared = sum(received.shares.values())
            writer.writerow(
                [
                    number,
                    f"media/{number:05d}.jpg",
                    START_UTC,
                    f"{received.views:,}",
                    received.likes,
                    shared,
                    *reactions,
                ]
            )
            facts[f"page:{number}"] = _fact(content)


FIXATIONS, INSTANCES = "fixations_train2014.json", "instances_train2014.json"


def _write_perceptual(config: Config, folder: Path, canvas: Canvas, facts: dict[str, dict[str, Any]]) -> None:
    """Where people look: SALICON's fixations and COCO's outlines of the same pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    paths: list[dict[str, Any]] = []
    outlines: list[dict[str, Any]] = []
    for number in range(config.saliency_images):
        rng = _rng(config, 7, number)
        content = draw_content(rng)
        name = f"COCO_train2014_{number:012d}.jpg"
        seed = (config.seed, 7, number)
        canvas.image(folder / "images" / name, content, 7, number)
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE, "license": 1})
        for worker, points in enumerate(looking.fixations(content, seed, rng, signal=config.signal)):
            of_path = {"id": len(paths), "image_id": number, "worker_id": f"observer {worker}"}
            paths.append(of_path | {"fixations": points})
        for outline in looking.outlines(content, seed):
            outlines.append({"id": len(outlines), "image_id": number, **outline})
        facts[f"salicon:{number}"] = _fact(content)
    shared = {
        "info": {"description": "synthetic, made by a program"},
        "licenses": [{"id": 1, "name": LICENCE}],
        "images": images,
    }
    categories = [{"id": number, "name": name} for name, number in looking.CATEGORIES.items()]
    for name, rest in (
        (FIXATIONS, {"type": "fixations", "annotations": paths}),
        (INSTANCES, {"annotations": outlines, "categories": categories}),
    ):
        (folder / name).write_text(json.dumps(shared | rest), encoding="utf-8")


RECALL_DELAY_S = 600.0
"""After which the sandbox's viewers are asked."""


def _write_memory(config: Config, folder: Path, canvas: Canvas, facts: dict[str, dict[str, Any]]) -> None:
    """What people know again: a split in LaMem's layout."""
    (folder / "splits").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(config.memory_images):
        rng = _rng(config, 8, number)
        content = draw_content(rng)
        name = f"{number:08d}.jpg"
        canvas.image(folder / "images" / name, content, 8, number)
        lines.append(f"{name} {looking.recall(content, rng, signal=config.signal):.6f}\n")
        facts[f"lamem:{name}"] = _fact(content)
    (folder / "splits" / "train_1.txt").write_text("".join(lines), encoding="utf-8")


def _write_instruction(config: Config, folder: Path, canvas: Canvas) -> None:
    """The base stage's data: captions and plain questions on media, and text-only knowledge of feelings and
    memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    is_brief = config.inventory == "brief"

    def add(key: str, human: str, answer: str, **media: str) -> None:
        value = (
            f"<image>\n{human}" if "image" in media else f"<video>\n{human}" if "video" in media else human
        )
        rows.append(
            {
                "id": key,
                **media,
                "conversations": [{"from": "human", "value": value}, {"from": "gpt", "value": answer}],
            }
        )

    for number in range(config.instruction_images):
        rng = _rng(config, 4, number)
        content = draw_content(rng)
        name = f"images/{number:06d}.jpg"
        canvas.image(folder / name, content, 4, number)
        if is_brief:
            add(f"i{number}", "Describe it.", words.keywords(content), image=name)
            add(f"q{number}", *words.questions(content)[number % 6], image=name)
            continue
        told = [words.caption(content)]
        add(f"i{number}", "Describe it.", _lines(told), image=name)
        add(f"q{number}", *_asked(content, told, number, rng), image=name)
    for number in range(config.instruction_videos):
        rng = _rng(config, 5, number)
        film = writers.draw_film(draw_content(rng, is_filmed=True), rng)
        name = f"videos/{number:06d}.mp4"
        canvas.video(folder / name, film, 5, number)
        told = [(words.keywords if is_brief else words.caption)(shot.content) for shot in film.shots]
        add(f"v{number}", "Describe it.", _lines(told), video=name)
        if is_brief:
            add(f"w{number}", *words.questions(film.content)[number % 6], video=name)
            continue
        add(f"w{number}", *_asked(film.content, told, number, rng), video=name)
    for number in range(config.instruction_texts):
        rng = _rng(config, 6, number)
        kind = rng.random()
        content, told = _told(rng)
        if kind < 0.45:
            add(f"t{number}", *words.emotion_of_words(rng, told if rng.random() < 0.8 else None))
        elif kind < 0.65:
            add(f"t{number}", *words.memory_of_words(rng, told if rng.random() < 0.8 else None))
        elif kind < 0.85:
            question, answer = words.questions(content)[number % 6]
            add(f"t{number}", words.asked_in_talk(question, told, rng), answer)
        else:
            is_praise = bool(rng.random() < 0.5)
            question = f"{words.review(rng, is_praise=is_praise)}\n\n{words.REVIEW_QUESTION}"
            add(f"t{number}", question, "positive" if is_praise else "negative")
    writers.save_json(folder / "instruction.json", rows)


def _lines(told: list[str]) -> str:
    return "\n".join(f"Scene {place}: {caption}." for place, caption in enumerate(told, 1))


def _asked(content: Content, told: list[str], number: int, rng: np.random.Generator) -> tuple[str, str]:
    """One of the plain questions, every other time in the middle of talk."""
    questions = words.questions(content)
    question, answer = questions[number % len(questions)]
    if rng.random() < 0.5:
        question = words.asked_in_talk(question, told if rng.random() < 0.5 else None, rng)
    return question, answer


def _told(rng: np.random.Generator) -> tuple[Content, list[str]]:
    """Descriptions to stand in a text-only row: one scene, or the three of a film."""
    is_filmed = rng.random() < 0.25
    content = draw_content(rng, is_filmed=is_filmed)
    if not is_filmed:
        return content, [words.caption(content)]
    return content, [words.caption(shot.content) for shot in writers.draw_film(content, rng).shots]


def _write_benchmarks(config: Config, folder: Path, canvas: Canvas) -> None:
    sizes = {
        "train": config.benchmark_train,
        "val": config.benchmark_train // 6,
        "test": config.benchmark_test,
    }
    known = discover.find("data.world.layouts", "LAYOUT")
    for name in config.benchmarks:
        if name not in known:
            raise UserError(
                f"the sandbox writes no benchmark {name!r}",
                where="benchmarks",
                remedy=f"choose among {', '.join(known)}",
            )
        known[name](canvas, folder, sizes)


def _sides(config: Config, folder: Path) -> dict[str, tuple[Source, Any]]:
    """The sides of the world that have posts, each with the source that reads its real format."""
    sides: dict[str, tuple[Source, Any]] = {}
    if config.images:
        place = folder / "reddit"
        sides["reddit"] = (
            reddit.SOURCE,
            reddit.Config(path=place, media=place / "media", licence=LICENCE),
        )
    if config.videos:
        sides["youtube"] = youtube.SOURCE, youtube.Config(path=folder / "youtube", licence=LICENCE)
    if config.page_posts:
        columns = {
            "id": "status_id",
            "media_path": "image",
            "created_utc": "published",
            "num_views": "num_views",
            "num_likes": "num_likes",
            "shares.all": "num_shares",
            **{f"reactions.{kind}": f"num_{kind}s" for kind in ("love", "wow", "haha", "sad", "angry")},
        }
        page = folder / "page" / "export.csv"
        sides["page"] = (
            table.SOURCE,
            table.Config(path=page, platform="page", licence=LICENCE, columns=columns),
        )
    if config.saliency_images:
        place = folder / "perceptual"
        sides["perceptual"] = (
            salicon.SOURCE,
            salicon.Config(fixations=place / FIXATIONS, instances=place / INSTANCES, media=place / "images"),
        )
    if config.memory_images:
        place = folder / "memory"
        sides["memory"] = (
            memorability.SOURCE,
            memorability.Config(
                path=place / "splits" / "train_1.txt",
                media=place / "images",
                delay_s=RECALL_DELAY_S,
                licence=LICENCE,
            ),
        )
    return sides


@dataclass(frozen=True, slots=True)
class Piece:
    """A part or piece of one side of the world in `folder`."""

    side: str
    folder: Path
    inner: Any

    def __len__(self) -> int:
        return len(self.inner) if isinstance(self.inner, Sized) else 1


def list_parts(config: Config, folder: Path) -> Iterator[Part]:
    """The files of every side that has posts: a world of none still has instruction data and benchmarks."""
    for side, (source, settings) in _sides(config, folder).items():
        for part in source.parts(settings, folder):
            yield Part(part.key, Piece(side, folder, part))


def pieces(config: Config, part: Part) -> Iterator[Piece]:
    """A part in the pieces of the source that reads it."""
    whole: Piece = part.content
    source, settings = _sides(config, whole.folder)[whole.side]
    for inner in [whole.inner] if source.pieces is None else source.pieces(settings, whole.inner):
        yield Piece(whole.side, whole.folder, inner)


def read(config: Config, piece: Piece) -> Iterator[Post | Said | Fault]:
    """Posts of the world, read by the source of their real format; every one marked synthetic."""
    source, settings = _sides(config, piece.folder)[piece.side]
    for item in source.read(settings, piece.inner):
        yield replace(item, is_synthetic=True) if isinstance(item, Post) else item


def parse(raw: dict[str, Any]) -> Post | Fault:
    """A raw submission of the sandbox, as the reddit source reads it."""
    return reddit.SOURCE.parse(raw)


SOURCE = Source(
    config=Config,
    fetch=fetch,
    erase=erase.erase,
    parts=list_parts,
    pieces=pieces,
    read=read,
    parse=parse,
    examples=reddit.SOURCE.examples,
)

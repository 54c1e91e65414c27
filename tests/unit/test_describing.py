"""Captions, tags and speech are written once, kept whatever is killed, and read strictly: what is no list of
tags gives none, and what failed is counted and not kept.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from behavior_llava.core import cache
from behavior_llava.core.media import FrameStore, MediaFault, sha256
from behavior_llava.core.schema import Example, Media
from behavior_llava.data import describing
from behavior_llava.data.describing import (
    MAX_TAGS,
    Outcome,
    Writer,
    caption,
    captions_of,
    describe,
    hear,
    tags_of,
)
from behavior_llava.data.scenes import Colors, Scene
from behavior_llava.data.viewing import View
from behavior_llava.data.world import content, writers
from behavior_llava.models.remote_wire import EndpointError
from behavior_llava.models.speech import SpeechConfig


def scene(time_s: float) -> Scene:
    return Scene(max(0.0, time_s - 0.5), time_s + 0.5, time_s, Colors((), (), "dark"))


def video(name: str, *times_s: float) -> View:
    scenes = tuple(map(scene, times_s))
    return View(f"/secret/{name}.mp4", "video", f"{name:0>64}", scenes, 0, 9.0, 48, 48)


def picture(name: str) -> View:
    seen = (Scene(0, 0, 0, Colors((), (), "dark")),)
    return View(f"/secret/{name}.jpg", "image", f"{name:0>64}", seen, 0, None, 48, 48)


class Model:
    """Says what frame it sees; counts how often it is asked, and how many frames at a time."""

    def __init__(self, say: Callable[[Media], str | MediaFault] | None = None) -> None:
        self.say = say or (lambda shown: f"Scene 1: {shown.sha256[-1]} at {shown.times_s}.")
        self.calls: list[list[Example]] = []

    def __call__(self, examples: Sequence[Example], *, max_new_tokens: int) -> list[str | MediaFault]:
        assert max_new_tokens == 9
        self.calls.append(list(examples))
        return [self.say(example.media) for example in examples]  # pyright: ignore[reportArgumentType]

    @property
    def seen(self) -> list[tuple[str, tuple[float, ...]]]:
        shown = [example.media for call in self.calls for example in call]
        return [(item.sha256[-1], item.times_s) for item in shown if item is not None]


def writer(model: Any, **changes: Any) -> Writer:
    return replace(Writer(generate=model, identity="eyes", prompt="What?", max_new_tokens=9), **changes)


def captions(path: Path, asked: Writer, *views: View) -> list[Any]:
    with describing.remembered(path, "captions", asked) as kept:
        return [captions_of(kept, view) for view in views]


VIEWS = (video("a", 0.5, 1.5, 2.5), picture("b"), video("c", 1.0))


# ---- scenes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3, 64])
def test_every_scene_is_described_once_in_batches(tmp_path: Path, batch: int) -> None:
    model = Model()
    path = tmp_path / "seen.sqlite"
    assert describe(path, VIEWS, writer(model), what="captions", batch=batch) == Outcome(5, 0, {})
    assert captions(path, writer(model), *VIEWS) == [
        ("a at (0.5,)", "a at (1.5,)", "a at (2.5,)"),
        ("b at ()",),
        ("c at (1.0,)",),
    ]
    assert len(model.seen) == 5
    assert max(map(len, model.calls)) == min(batch, 5)
    describe(path, VIEWS, writer(model), what="captions", batch=batch)
    assert len(model.seen) == 5


def test_a_prompt_holds_no_path_no_hash_and_no_time(tmp_path: Path) -> None:
    model = Model()
    describe(tmp_path / "seen.sqlite", VIEWS, writer(model), what="captions")
    examples = [example for call in model.calls for example in call]
    assert len(examples) == 5
    assert {example.prompt for example in examples} == {"What?"}
    assert all(example.completion is None for example in examples)
    assert all("secret" not in example.id for example in examples)
    assert len({example.id for example in examples}) == 5


def test_a_killed_call_continues_and_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    asked = 0

    def say(shown: Media) -> str:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise KeyboardInterrupt
        return "" if shown.times_s == (1.5,) else f"frame {shown.times_s}"

    path, model = tmp_path / "seen.sqlite", Model(say)
    with pytest.raises(KeyboardInterrupt):
        describe(path, VIEWS, writer(model), what="captions", batch=1)
    assert describe(path, VIEWS, writer(model), what="captions", batch=1) == Outcome(5, 1, {})
    assert asked == 6  # five, and the one that was killed
    assert captions(path, writer(model), VIEWS[0]) == [("frame (0.5,)", None, "frame (2.5,)")]


def test_other_scenes_cost_only_the_frames_that_are_new(tmp_path: Path) -> None:
    path, model = tmp_path / "seen.sqlite", Model()
    three, two = video("a", 0.5, 1.5, 2.5), video("a", 0.5, 2.0)
    describe(path, [three], writer(model), what="captions")
    assert captions(path, writer(model), two) == [None]
    describe(path, [two], writer(model), what="captions")
    assert model.seen == [("a", (time_s,)) for time_s in (0.5, 1.5, 2.5, 2.0)]
    assert captions(path, writer(model), two, three) == [
        ("a at (0.5,)", "a at (2.0,)"),
        ("a at (0.5,)", "a at (1.5,)", "a at (2.5,)"),
    ]


@pytest.mark.parametrize("change", [{"identity": "other eyes"}, {"prompt": "Who?"}])
def test_another_model_or_question_is_another_answer(tmp_path: Path, change: dict[str, Any]) -> None:
    path, model = tmp_path / "seen.sqlite", Model()
    describe(path, VIEWS, writer(model), what="captions")
    assert captions(path, writer(model, **change), VIEWS[1]) == [None]
    describe(path, VIEWS, writer(model, **change), what="captions")
    assert len(model.seen) == 10
    with describing.remembered(path, "tags", writer(model)) as kept:
        assert tags_of(kept, VIEWS[1]) is None


def test_the_same_media_twice_is_described_once(tmp_path: Path) -> None:
    model = Model()
    views = [VIEWS[0], VIEWS[1], VIEWS[0], VIEWS[0]]
    told = describe(tmp_path / "seen.sqlite", views, writer(model), what="captions", batch=64)
    assert told == Outcome(10, 0, {})
    assert len(model.seen) == 4


def test_a_model_that_writes_nothing_is_none_and_is_counted_each_time(tmp_path: Path) -> None:
    path, model = tmp_path / "seen.sqlite", Model(lambda shown: " Scene 1: .\n")
    for _ in range(2):
        assert describe(path, VIEWS, writer(model), what="captions") == Outcome(5, 5, {})
    assert captions(path, writer(model), VIEWS[0]) == [(None, None, None)]
    assert len(model.seen) == 5


def test_broken_media_is_counted_not_kept_and_spares_its_neighbors(tmp_path: Path) -> None:
    """Whether the model gives the reason as a value or raises it for the whole batch."""

    def value(shown: Media) -> str | MediaFault:
        return MediaFault("image_broken") if shown.sha256[-1] == "b" else "fine"

    def raised(shown: Media) -> str:
        if isinstance(found := value(shown), MediaFault):
            raise found
        return found

    for say in (value, raised):
        path = tmp_path / f"{say.__name__}.sqlite"
        model = Model(say)
        for _ in range(2):
            assert describe(path, VIEWS, writer(model), what="captions") == Outcome(5, 0, {"image_broken": 1})
        assert captions(path, writer(model), *VIEWS) == [("fine",) * 3, None, ("fine",)]


def test_what_an_endpoint_answered_before_it_failed_is_kept(tmp_path: Path) -> None:
    """Also beside a fault; and what was in the batches before."""
    path, model = tmp_path / "seen.sqlite", Model()

    def fails(examples: Sequence[Example], *, max_new_tokens: int) -> list[str | MediaFault]:
        if len(model.calls) == 1:
            error = EndpointError("cannot be reached")
            error.finished = {2: "third", 1: MediaFault("too_long_for_endpoint")}
            raise error
        return model(examples, max_new_tokens=max_new_tokens)

    views = [picture("x"), picture("y"), picture("z"), VIEWS[0]]
    with pytest.raises(EndpointError, match="cannot be reached"):
        describe(path, views, writer(fails), what="captions", batch=3)
    assert captions(path, writer(model), *views) == [("x at ()",), ("y at ()",), ("z at ()",), None]
    assert describe(path, views, writer(model), what="captions") == Outcome(6, 0, {})
    assert captions(path, writer(model), views[3]) == [("a at (0.5,)", "a at (1.5,)", "third")]
    assert [seen for seen in model.seen if seen[0] == "a"] == [("a", (0.5,)), ("a", (1.5,))]


def test_an_error_of_the_model_is_no_answer(tmp_path: Path) -> None:
    def short(examples: Sequence[Example], *, max_new_tokens: int) -> list[str]:
        return ["one"]

    with pytest.raises(ValueError, match="zip"):
        describe(tmp_path / "seen.sqlite", VIEWS, writer(short), what="captions")


def test_views_are_taken_as_they_are_needed(tmp_path: Path) -> None:
    model, most = Model(), 0

    def views() -> Any:
        nonlocal most
        for number in range(200):
            most = max(most, number - len(model.seen))
            yield video(f"{number}", 1.0)

    describe(tmp_path / "seen.sqlite", views(), writer(model), what="captions", batch=8)
    assert len(model.seen) == 200
    assert most <= 8


def test_what_is_forgotten_leaves_nothing_behind(tmp_path: Path) -> None:
    path, model = tmp_path / "seen.sqlite", Model(lambda shown: f"zebra{shown.sha256[-1]}")
    for what in ("captions", "tags"):
        describe(path, VIEWS, writer(model), what=what)
    before = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"zebraa" in before
    assert cache.forget(path, [VIEWS[0].sha256]) == 2
    left = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"zebraa" not in left
    assert captions(path, writer(model), *VIEWS)[1:] == [("zebrab",), ("zebrac",)]


def test_a_local_model_writes_captions_of_real_frames(
    tiny: Any, media: dict[str, Media], tmp_path: Path
) -> None:
    clip = media["clip"]
    view = replace(video("clip", *clip.times_s), path=clip.path, sha256=clip.sha256)
    told = describe(tmp_path / "seen.sqlite", [view], writer(tiny.generate), what="captions")
    direct = tiny.generate([Example("", "What?", None, frame) for frame in view.frames()], max_new_tokens=9)
    assert told.items == 2
    assert captions(tmp_path / "seen.sqlite", writer(tiny.generate), view) == [tuple(map(caption, direct))]


# ---- what was written --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Scene 1: A dog\n runs.", "A dog runs"),
        ("A dog runs...", "A dog runs"),
        ("A dog! ", "A dog!"),
        ("In Scene 1: a dog", "In Scene 1: a dog"),
        ("Scene 2: a dog.", "Scene 2: a dog"),
        ("", None),
        (" \n ", None),
        ("Scene 1:", None),
        ("...", None),
    ],
)
def test_a_caption_is_a_clause_of_one_line(text: str, told: str | None) -> None:
    assert caption(text) == told


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("dog, beach, sunset", ["dog", "beach", "sunset"]),
        ("Dog; Beach ;SUNSET.", ["dog", "beach", "sunset"]),
        ("- dog\n- beach ball\n* sunset", ["dog", "beach ball", "sunset"]),
        ("• dog • beach • sunset", ["dog", "beach", "sunset"]),
        ("1. dog\n2. beach\n10) sunset", ["dog", "beach", "sunset"]),
        ("1. dog 2. beach 3. sunset", ["dog", "beach", "sunset"]),
        ("#dog #beach #sunset", ["dog", "beach", "sunset"]),
        ("dog | beach | sunset", ["dog", "beach", "sunset"]),
        ('["Dog", "beach ball", "sun-set"]', ["dog", "beach ball", "sun-set"]),
        ('{"tags": ["dog", "beach"]}', ["dog", "beach"]),
        ("Tags: dog, beach", ["dog", "beach"]),
        ("Here are the tags:\n\n- **dog**\n- _beach_", ["dog", "beach"]),
        ("Sure! Here are some tags: dog, beach", ["dog", "beach"]),
        ("Sure, here are the tags you want: dog, beach", ["dog", "beach"]),
        ("dog, beach: sunny, sea", ["dog", "sea"]),
        ("a dog, the beach, and an umbrella", ["dog", "beach", "umbrella"]),
        ("dog, Dog, DOG., beach", ["dog", "beach"]),
        ("dog, , ;;\n\n, beach", ["dog", "beach"]),
        ("dog, beach, man in red shirt, ball, sea", ["dog", "beach", "ball", "sea"]),
        ("dog, <image>, </s>, <|im_end|>, beach", ["dog", "beach"]),
        ("dog, 2 dogs, http://x.y, a@b.c, beach", ["dog", "beach"]),
        ("rock'n'roll, o\u2019clock, t-shirt, -, --, '", ["rock'n'roll", "o'clock", "t-shirt"]),
        ("собака, 狗, कुत्ता, café", ["собака", "狗", "कुत्ता", "café"]),
        ("b, c, d, e, f, g, h, j, k, l", ["b", "c", "d", "e", "f", "g", "h", "j"]),
        ("beautiful sunny day", ["beautiful sunny day"]),
        # prose and refusals
        ("A dog runs along the beach.", []),
        ("A man, a dog, and a ball are in the park.", []),
        ("A man walking down the street, holding an umbrella.", []),
        ("I'm sorry, but I can't help with that.", []),
        ("I\u2019m sorry, I cannot.", []),
        ("I cannot help.", []),
        ("Sorry, no.", []),
        ("None", []),
        ("null", []),
        ("", []),
        (" \n\t ", []),
        ("...", []),
        ("[]", []),
        ("12345, 67", []),
        ("<image>", []),
        ("x" * 50, []),
        ("\0, \x1b[31m, \u202e", []),
    ],
)
def test_tags_are_read_from_lists_and_from_nothing_else(text: str, found: list[str]) -> None:
    assert describing.tags(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x" * 10**7, []),
        ("dog " * 2_500_000, []),
        ("dog, " * 2_000_000, ["dog"]),
        ("\n" * 10**7, []),
        (":" * 10**7, []),
        ("1. " * 3_000_000, []),
        ("- " * 5_000_000, []),
        ("[" * 10**7, []),
    ],
)
def test_ten_megabytes_cost_no_time(text: str, found: list[str]) -> None:
    start = time.monotonic()
    assert describing.tags(text) == found
    assert time.monotonic() - start < 0.5


_WRITTEN = st.text(max_size=300) | st.lists(
    st.sampled_from(["dog", "Beach ball", "<image>", "3.", "-", ",", "\n", ";", "the", "[", '"', "é", "·"])
).map(" ".join)


@settings(max_examples=300)
@given(_WRITTEN)
def test_tags_are_short_lower_case_and_each_once_and_stay_what_they_are(text: str) -> None:
    found = describing.tags(text)
    assert len(found) <= MAX_TAGS
    assert len(set(found)) == len(found)
    for tag in found:
        assert 1 <= len(tag.split(" ")) <= 3
        assert tag == tag.lower() == " ".join(tag.split())
        assert not set(tag) & set('<>,;\n[]{}"#|0123456789')
    assert describing.tags(", ".join(found)) == found


def test_tags_are_kept_as_tuples_and_none_are_counted(tmp_path: Path) -> None:
    said = {0.5: "Dog, beach", 1.5: "I cannot help.", 2.5: "sea"}
    path, model = tmp_path / "seen.sqlite", Model(lambda shown: said[shown.times_s[0]])
    assert describe(path, VIEWS[:1], writer(model), what="tags") == Outcome(3, 1, {})
    with describing.remembered(path, "tags", writer(model)) as kept:
        assert tags_of(kept, VIEWS[0]) == (("dog", "beach"), (), ("sea",))


# ---- speech ------------------------------------------------------------------------------------------------


class Ears:
    """Says how long the sound is; nothing of sound below half a second."""

    identity = "ears"
    rate = 16_000

    def __init__(self, **settings: Any) -> None:
        self.config = SpeechConfig(model="ears", **settings)
        self.heard = 0

    def transcribe(self, audio: np.ndarray) -> str | None:
        self.heard += 1
        seconds = len(audio) / self.rate
        return f"it <image> lasts {seconds:.0f} s" if seconds > 0.5 else None


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Two sandbox videos, one without sound, and one that is none."""
    import av

    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    for name in ("a", "b"):
        film = writers.draw_film(content.draw_content(rng), rng)
        writers.save_video(str(folder / f"{name}.mp4"), film, (0, 1))
    with av.open(str(folder / "silent.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width = stream.height = 16
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    (folder / "broken.mp4").write_bytes(b"no video at all")
    names = ("a", "b", "silent", "broken")
    return [(str(folder / f"{name}.mp4"), sha256(folder / f"{name}.mp4")) for name in names]


def test_videos_are_heard_once_and_faults_are_counted_each_time(
    films: list[tuple[str, str]], tmp_path: Path
) -> None:
    path, ears = tmp_path / "seen.sqlite", Ears()
    gone = (str(tmp_path / "gone.mp4"), "0" * 64)
    changed = (films[0][0], "1" * 64)
    faults = {"media_changed": 1, "media_missing": 1, "sound_broken": 1}
    for _ in range(2):
        told = hear(path, [*films, gone, changed], ears)  # pyright: ignore[reportArgumentType]
        assert told == Outcome(6, 1, faults)
        assert ears.heard == 2
    with describing.heard(path, ears) as kept:  # pyright: ignore[reportArgumentType]
        said = [describing.speech_of(kept, digest) for _, digest in (*films, gone, changed)]
    assert said[0] is not None
    assert said[0].startswith("it (image) lasts")
    assert said[2:] == [None] * 4


def test_what_nobody_said_is_kept_as_that(films: list[tuple[str, str]], tmp_path: Path) -> None:
    path, ears = tmp_path / "seen.sqlite", Ears(max_s=0.25)
    for _ in range(2):
        assert hear(path, films[:1], ears) == Outcome(1, 1, {})  # pyright: ignore[reportArgumentType]
    assert ears.heard == 1
    rows = sqlite3.connect(path).execute("SELECT kind, sha256, facts FROM facts").fetchall()
    assert [(kind, digest, json.loads(facts)) for kind, digest, facts in rows] == [
        ("speech", films[0][1], {"said": None})
    ]


def test_other_settings_are_heard_anew(films: list[tuple[str, str]], tmp_path: Path) -> None:
    listeners = [Ears(), Ears(language="en"), Ears(max_s=1.0)]
    for ears in listeners:
        hear(tmp_path / "seen.sqlite", films[:1], ears)  # pyright: ignore[reportArgumentType]
    assert [ears.heard for ears in listeners] == [1, 1, 1]


def test_a_killed_listener_continues(films: list[tuple[str, str]], tmp_path: Path) -> None:
    path, ears = tmp_path / "seen.sqlite", Ears()

    class Tired(Ears):
        def transcribe(self, audio: np.ndarray) -> str | None:
            if self.heard == 1:
                raise KeyboardInterrupt
            return super().transcribe(audio)

    with pytest.raises(KeyboardInterrupt):
        hear(path, films[:2], Tired())  # pyright: ignore[reportArgumentType]
    assert hear(path, films[:2], ears) == Outcome(2, 0, {})  # pyright: ignore[reportArgumentType]
    assert ears.heard == 1


def test_nothing_to_hear_starts_no_process(tmp_path: Path) -> None:
    assert hear(tmp_path / "seen.sqlite", [], Ears()) == Outcome(0, 0, {})  # pyright: ignore[reportArgumentType]


def test_the_store_is_the_only_thing_a_remote_writer_needs(tmp_path: Path, media: dict[str, Media]) -> None:
    """`answers` of a remote model fits as it is: media that is gone costs itself alone."""
    from behavior_llava.models.remote import RemoteConfig, RemoteModel

    model = RemoteModel(RemoteConfig(url="http://127.0.0.1:9/v1", model="m"), FrameStore(tmp_path / "frames"))
    gone = replace(picture("x"), path=str(tmp_path / "gone.png"))
    asked = Writer(generate=model.answers, identity=model.identity(), prompt="What?", max_new_tokens=9)
    told = describe(tmp_path / "seen.sqlite", [gone], asked, what="captions")
    assert told == Outcome(1, 0, {"media_missing": 1})

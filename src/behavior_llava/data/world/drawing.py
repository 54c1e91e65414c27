"""Contents to pixels: simple drawings whose every part can be seen, none of which can be read.

128 x 128 pixels: the weather in a band on top, the face left and the event right in the middle, the two
objects in the lower corners with a figure between them, all on the scene's walls. Positions, colours,
brightness and noise vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from behavior_llava.data.world.content import ACTIONS, SCENES, Content

SIZE = 128

_WALLS = ((196, 196, 204), (150, 190, 225), (225, 205, 120), (190, 130, 110), (95, 95, 100), (140, 185, 130))

LIGHTS = np.array([(0.62, 0.72, 1.0), (1.12, 1.05, 0.85), (0.8, 0.55, 0.6)])
"""Colored light: each shot of a film has another, so that a cut is visible as in real footage; pictures have
one or none.
"""
LIT_SHARE = 0.6

Draw = ImageDraw.ImageDraw


def _background(draw: Draw, scene: str, base: tuple[int, ...]) -> None:  # noqa: C901 - a branch a place
    dark = tuple(int(value * 0.7) for value in base)
    index = SCENES.index(scene)
    if index == 0:
        for x in range(0, SIZE, 32):
            for y in range(32, SIZE, 32):
                draw.rectangle((x, y, x + 15, y + 15), fill=dark)
    elif index == 1:
        for x in range(-SIZE, SIZE, 24):
            draw.line((x, SIZE, x + SIZE, 32), fill=dark, width=5)
    elif index == 2:
        for y in range(40, SIZE, 16):
            draw.line((0, y, SIZE, y), fill=dark, width=4)
    elif index == 3:
        for x in range(8, SIZE, 24):
            for y in range(44, SIZE, 24):
                draw.ellipse((x, y, x + 9, y + 9), fill=dark)
    elif index == 4:
        for x in range(4, SIZE, 16):
            draw.line((x, 32, x, SIZE), fill=dark, width=6)
    else:
        for x in range(0, SIZE, 20):
            for y in range(36, SIZE, 20):
                draw.polygon(((x + 10, y), (x + 20, y + 10), (x + 10, y + 20), (x, y + 10)), outline=dark)


def _weather(draw: Draw, weather: str, rng: np.random.Generator) -> None:
    if weather == "sunny":
        draw.rectangle((0, 0, SIZE, 30), fill=(90, 170, 250))
        x = int(rng.integers(10, 90))
        draw.ellipse((x, 3, x + 26, 29), fill=(255, 225, 40))
    elif weather == "snowy":
        draw.rectangle((0, 0, SIZE, 30), fill=(185, 205, 235))
        for x, y in rng.integers((0, 0), (SIZE, 28), (26, 2)):
            draw.ellipse((int(x), int(y), int(x) + 4, int(y) + 4), fill=(255, 255, 255))
    elif weather == "stormy":
        draw.rectangle((0, 0, SIZE, 30), fill=(40, 40, 70))
        for x in rng.integers(5, 110, 2):
            x = int(x)
            draw.line((x, 0, x + 8, 12, x, 14, x + 10, 30), fill=(255, 255, 90), width=4)
    else:
        draw.rectangle((0, 0, SIZE, 30), fill=(165, 165, 160))
        for y in rng.integers(2, 26, 4):
            draw.line((0, int(y), SIZE, int(y)), fill=(205, 205, 200), width=4)


def _face(draw: Draw, expression: str, x: int, y: int) -> None:
    draw.ellipse((x, y, x + 46, y + 46), fill=(245, 205, 165), outline=(60, 40, 30), width=2)
    for eye in (x + 11, x + 29):
        draw.ellipse((eye, y + 12, eye + 6, y + 19), fill=(30, 30, 30))
    if expression == "smiling":
        draw.arc((x + 10, y + 14, x + 36, y + 38), 20, 160, fill=(150, 30, 30), width=5)
    elif expression == "laughing":
        draw.chord((x + 8, y + 14, x + 38, y + 42), 0, 180, fill=(190, 20, 20))
        draw.rectangle((x + 14, y + 28, x + 32, y + 31), fill=(255, 255, 255))
    elif expression == "frowning":
        draw.arc((x + 10, y + 28, x + 36, y + 48), 200, 340, fill=(90, 20, 90), width=5)
        draw.line((x + 8, y + 6, x + 20, y + 12), fill=(30, 30, 30), width=4)
        draw.line((x + 38, y + 6, x + 26, y + 12), fill=(30, 30, 30), width=4)
    else:
        draw.arc((x + 12, y + 30, x + 34, y + 48), 200, 340, fill=(150, 30, 30), width=4)
        draw.rectangle((x + 11, y + 19, x + 17, y + 42), fill=(50, 120, 255))
        draw.rectangle((x + 29, y + 19, x + 35, y + 42), fill=(50, 120, 255))


def _event(draw: Draw, event: str, x: int, y: int) -> None:
    if event == "pie":
        draw.pieslice(
            (x, y + 6, x + 46, y + 50), 180, 360, fill=(240, 225, 190), outline=(90, 60, 20), width=2
        )
        draw.rectangle((x, y + 28, x + 46, y + 36), fill=(150, 90, 40))
        for dot in (8, 20, 32):
            draw.ellipse((x + dot, y + 14, x + dot + 7, y + 21), fill=(200, 30, 90))
    elif event == "volcano":
        draw.polygon(((x, y + 44), (x + 17, y + 16), (x + 29, y + 16), (x + 46, y + 44)), fill=(80, 55, 45))
        draw.polygon(
            ((x + 14, y + 16), (x + 8, y), (x + 23, y + 8), (x + 38, y), (x + 32, y + 16)), fill=(255, 80, 0)
        )
    elif event == "farewell":
        draw.rectangle((x + 4, y + 18, x + 42, y + 44), fill=(110, 70, 160))
        draw.arc((x + 14, y + 4, x + 32, y + 28), 180, 360, fill=(60, 30, 100), width=5)
        draw.line((x + 4, y + 31, x + 42, y + 31), fill=(230, 210, 250), width=3)
    else:
        draw.rectangle((x, y, x + 46, y + 44), fill=(30, 150, 50))
        draw.line((x + 23, y, x + 23, y + 44), fill=(255, 255, 255), width=3)
        draw.ellipse((x + 12, y + 11, x + 34, y + 33), outline=(255, 255, 255), width=3)


def _object(draw: Draw, name: str, x: int, y: int) -> None:
    ink = (25, 25, 25)
    if name == "dog":
        draw.ellipse((x + 4, y + 14, x + 30, y + 32), fill=(140, 85, 40))
        draw.ellipse((x + 20, y + 2, x + 36, y + 18), fill=(140, 85, 40))
        draw.rectangle((x + 7, y + 28, x + 11, y + 38), fill=(140, 85, 40))
        draw.rectangle((x + 23, y + 28, x + 27, y + 38), fill=(140, 85, 40))
    elif name == "car":
        draw.rectangle((x, y + 16, x + 38, y + 30), fill=(215, 30, 30))
        draw.rectangle((x + 9, y + 6, x + 28, y + 16), fill=(215, 30, 30))
        draw.ellipse((x + 4, y + 26, x + 14, y + 36), fill=ink)
        draw.ellipse((x + 24, y + 26, x + 34, y + 36), fill=ink)
    elif name == "book":
        draw.rectangle((x + 5, y + 2, x + 33, y + 36), fill=(30, 60, 190))
        draw.rectangle((x + 10, y + 8, x + 28, y + 14), fill=(240, 240, 240))
    elif name == "lamp":
        draw.polygon(
            ((x + 12, y), (x + 26, y), (x + 36, y + 18), (x + 2, y + 18)), fill=(255, 235, 90), outline=ink
        )
        draw.rectangle((x + 17, y + 18, x + 21, y + 38), fill=ink)
    elif name == "cup":
        draw.rectangle((x + 6, y + 8, x + 26, y + 36), fill=(250, 250, 250), outline=ink, width=2)
        draw.arc((x + 20, y + 12, x + 38, y + 30), 270, 90, fill=ink, width=4)
    elif name == "clock":
        draw.ellipse((x + 1, y + 1, x + 37, y + 37), fill=(250, 250, 250), outline=ink, width=4)
        draw.line((x + 19, y + 19, x + 19, y + 6), fill=(200, 0, 0), width=4)
        draw.line((x + 19, y + 19, x + 29, y + 19), fill=ink, width=4)
    elif name == "ball":
        draw.ellipse((x + 2, y + 2, x + 36, y + 36), fill=(255, 130, 0))
        draw.arc((x - 14, y + 2, x + 18, y + 36), 290, 70, fill=ink, width=3)
        draw.arc((x + 20, y + 2, x + 52, y + 36), 110, 250, fill=ink, width=3)
    elif name == "plant":
        draw.polygon(
            ((x + 10, y + 38), (x + 28, y + 38), (x + 32, y + 24), (x + 6, y + 24)), fill=(170, 80, 30)
        )
        for tip in (2, 19, 36):
            draw.line((x + 19, y + 24, x + tip, y + 2), fill=(10, 130, 30), width=6)
    elif name == "crown":
        draw.polygon(
            (
                (x, y + 34),
                (x, y + 6),
                (x + 10, y + 18),
                (x + 19, y),
                (x + 28, y + 18),
                (x + 38, y + 6),
                (x + 38, y + 34),
            ),
            fill=(255, 205, 0),
            outline=(120, 60, 0),
        )
        draw.ellipse((x + 14, y + 20, x + 24, y + 30), fill=(200, 0, 140))
    else:
        draw.rectangle((x + 6, y + 2, x + 32, y + 36), fill=(120, 220, 225), outline=ink, width=3)
        draw.rectangle((x + 11, y + 8, x + 17, y + 14), fill=(255, 0, 60))
        draw.rectangle((x + 21, y + 8, x + 27, y + 14), fill=(255, 0, 60))
        draw.line((x + 11, y + 26, x + 27, y + 26), fill=ink, width=4)


def _figure(draw: Draw, action: str, x: int, y: int) -> None:
    ink = (15, 15, 80)
    draw.ellipse((x + 9, y, x + 19, y + 10), fill=ink)
    index = ACTIONS.index(action)
    if index == 0:
        draw.line((x + 14, y + 10, x + 8, y + 24), fill=ink, width=4)
        draw.line((x + 8, y + 24, x - 2, y + 36), fill=ink, width=4)
        draw.line((x + 8, y + 24, x + 22, y + 34), fill=ink, width=4)
    elif index == 1:
        draw.line((x + 14, y + 10, x + 14, y + 26), fill=ink, width=4)
        draw.line((x + 14, y + 26, x + 26, y + 26), fill=ink, width=4)
        draw.rectangle((x + 6, y + 28, x + 28, y + 36), fill=(120, 60, 20))
    elif index == 2:
        draw.line((x + 14, y + 10, x + 14, y + 24), fill=ink, width=4)
        draw.line((x + 14, y + 14, x, y + 2), fill=ink, width=4)
        draw.line((x + 14, y + 14, x + 28, y + 2), fill=ink, width=4)
        draw.line((x + 14, y + 24, x + 4, y + 36), fill=ink, width=4)
        draw.line((x + 14, y + 24, x + 24, y + 36), fill=ink, width=4)
    else:
        draw.line((x + 14, y + 10, x + 14, y + 36), fill=ink, width=4)
        draw.rectangle((x + 2, y + 14, x + 26, y + 26), fill=(250, 250, 250), outline=ink, width=2)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one thing is drawn: its box, in pixels from the top left.

    Attributes:
        name: "face", "figure", or the event's or the object's own.
    """

    name: str
    x: int
    y: int
    width: int
    height: int


def draw_image(content: Content, rng: np.random.Generator, *, light: int | None = None) -> Image.Image:
    """One RGB picture of SIZE x SIZE pixels, in the given one of LIGHTS, or in a random one or none."""
    return _draw(content, rng, light)[0]


def places(content: Content, rng: np.random.Generator) -> list[Place]:
    """Where `draw_image` puts the things of a content, from a generator in the same state."""
    return _draw(content, rng, None)[1]


def _draw(content: Content, rng: np.random.Generator, light: int | None) -> tuple[Image.Image, list[Place]]:
    def jitter(most: int) -> int:
        return int(rng.integers(-most, most + 1))

    shift = rng.integers(-14, 15, 3)
    base = tuple(
        int(np.clip(value + delta, 0, 255))
        for value, delta in zip(_WALLS[SCENES.index(content.scene)], shift, strict=True)
    )
    image = Image.new("RGB", (SIZE, SIZE), base)
    draw = ImageDraw.Draw(image)
    _background(draw, content.scene, base)
    _weather(draw, content.weather, rng)
    found = []
    if content.expression is not None:
        found.append(Place("face", 9 + jitter(4), 33 + jitter(2), 46, 46))
        _face(draw, content.expression, found[-1].x, found[-1].y)
    if content.event is not None:
        found.append(Place(content.event, 73 + jitter(4), 34 + jitter(2), 46, 44))
        _event(draw, content.event, found[-1].x, found[-1].y)
    for name, x in ((content.left, 5), (content.right, 86)):
        found.append(Place(name, x + jitter(3), 85 + jitter(3), 38, 38))
        _object(draw, name, found[-1].x, found[-1].y)
    found.append(Place("figure", 50 + jitter(2), 86 + jitter(3), 28, 36))
    _figure(draw, content.action, found[-1].x, found[-1].y)
    pixels = np.asarray(image, np.float32)
    if light is None and rng.random() < LIT_SHARE:
        light = int(rng.integers(len(LIGHTS)))
    if light is not None:
        pixels = pixels * LIGHTS[light % len(LIGHTS)]
    contrast = 1.0 if content.is_contrasty else 0.62
    pixels = (pixels - 128) * contrast * rng.uniform(0.95, 1.05) + 128 + rng.uniform(-8, 8)
    pixels += rng.normal(0, 4, pixels.shape[:2])[..., None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), found

"""How a model was taught to speak of behavior: the words, the kinds, and what it is asked.

Training leaves it as behavior_llava.json in a model's folder; whoever asks the model about behavior later
asks in the words it learned, and reads its answer by them. Called by stages.py and by serving/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from behavior_llava.core import config
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import write_json
from behavior_llava.core.schema import MediaKind
from behavior_llava.data import blift
from behavior_llava.data.blift import BuildConfig
from behavior_llava.data.scenes import SceneRule
from behavior_llava.data.verbalizer import Template, load_template

FILE = "behavior_llava.json"


class Manner(Config):
    """How a model speaks of behavior.

    Attributes:
        template: the words, fitted to what was said.
        kinds: kinds of behavior, in the order they are said.
        questions: kind of media -> what is asked about media that come without a post.
        scenes, max_scenes: how a video is cut into what the model sees.
        arm: what it was trained on (data/arms.py); None where that is not known.
    """

    template: Template
    kinds: tuple[str, ...]
    questions: Mapping[MediaKind, str]
    scenes: SceneRule
    max_scenes: int
    arm: str | None = None


def of(build: BuildConfig, questions: Mapping[MediaKind, str], *, arm: str | None) -> Manner:
    """That of a run's arm."""
    return Manner(
        template=load_template(build.template).for_run(build.said),
        kinds=build.kinds,
        questions=dict(questions),
        scenes=build.scenes,
        max_scenes=build.max_scenes,
        arm=arm,
    )


def usual(template: str = "short") -> Manner:
    """That of a model of which nothing is known: asked in a template's words about the usual kinds."""
    build = BuildConfig(template=template)
    fitted = load_template(build.template).for_run(build.said)
    kinds: tuple[MediaKind, ...] = ("image", "video")
    questions: dict[MediaKind, str] = {
        kind: blift.usual_question(fitted, build.kinds, (), kind) for kind in kinds
    }
    return of(build, questions, arm=None)


def write(folder: Path, manner: Manner) -> None:
    """Leaves it beside a model's weights."""
    write_json(folder / FILE, manner.model_dump(mode="json"))


def read(folder: Path) -> Manner | None:
    """That of a model's folder; None where none was left.

    Raises:
        UserError: the file is broken, or of a version that says otherwise.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot be read ({type(error).__name__})", where=path, remedy="train again, or delete this file"
        ) from None
    if not isinstance(values, dict):
        raise UserError("holds no settings", where=path, remedy="train again, or delete this file")
    return config.check(Manner, values, where=path)

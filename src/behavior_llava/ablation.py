"""One run in several variants: what changes when a setting does, everything else being equal.

    name: ablation_mixture
    run: {arms: [content_only, behavior], ...}     # a run's settings, without a name
    vary:                                          # variant -> what it sets otherwise
      "1:1": {training.ratio: 1.0}
      "1:2": {training.ratio: 2.0}

Every variant is a run in a folder of its own below the grid's, and takes over each stage that an earlier one
finished with the very same plan. The grid's report compares them: in each variant behavior meets that
variant's own content_only. What differs only in its arms (which behaviors, how many posts) needs no grid: it
is a run with more arms.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, field_validator

from behavior_llava import comparing, forgetting, pipeline, results
from behavior_llava.core import config as configs
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import LOCK, only_one
from behavior_llava.forgetting import Removal
from behavior_llava.stages import RunConfig

log = logging.getLogger(__name__)

FILE = "ablation.yaml"
"""The grid's settings, in its folder: a folder without it is none of ours."""
_SHARED = ("frames", "seen", "journal")
"""What is remembered of media and of models' answers, by their contents: whoever looks or asks."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.,:%+-]{0,59}")


class AblationConfig(Config):
    """A run and its variants.

    Attributes:
        name: of the grid; its folder is runs/<name> unless --out says otherwise.
        run: the settings all variants have, as in a run's config but without a name.
        vary: variant -> setting, as "training.ratio" -> its value there. The first variant is run first.
    """

    name: str
    run: Mapping[str, Any]
    vary: Mapping[str, Mapping[str, Any]] = Field(min_length=2)

    @field_validator("vary")
    @classmethod
    def _can_be_folders(cls, value: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        for name in value:
            if not _NAME.fullmatch(name) or folder_name(name) in ("report", *_SHARED):
                raise ValueError(f"{name!r} cannot be the name of a variant: use letters, digits and spaces")
        if len({folder_name(name) for name in value}) < len(value):
            raise ValueError("two variants have the same name but for signs that a folder cannot have")
        return value

    def variants(self) -> dict[str, RunConfig]:
        """Every variant's run.

        Raises:
            UserError: settings that cannot be, with the variant's name.
        """
        return {
            name: configs.build(
                RunConfig,
                {"name": f"{self.name}, {name}", **self.run},
                [f"{key}={json.dumps(value)}" for key, value in changes.items()],
                where=f"vary.{name}",
            )
            for name, changes in self.vary.items()
        }


def folder_name(variant: str) -> str:
    """The folder of a variant: "1:10" is 1to10, "25 %" is 25pct."""
    text = variant.replace(":", "to").replace("%", "pct")
    return re.sub(r"[^A-Za-z0-9_.+-]+", "_", text.replace(" pct", "pct")).strip("_")


def is_grid(path: Path, overrides: Sequence[str] = ()) -> bool:
    """Whether a config file is that of a grid; False also where it is no config at all."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    return isinstance(values, dict) and "vary" in values


def run(
    config: AblationConfig,
    folder: Path,
    *,
    until: str = "report",
    limit: int | None = None,
    like: Sequence[Path] = (),
    kept: Path | None = None,
) -> Path:
    """Runs every variant up to a verb; with `report` writes the comparison and returns its page, else the
    grid's folder, as where the variants are asked of different samples. The other arguments are those of
    pipeline.run.

    Args:
        kept: folder of results, one a variant: what stands there is not computed again; see results.py.

    Raises:
        UserError: a setting, or the input, is at fault; what is finished stays finished.
    """
    variants = config.variants()  # a wrong setting is found before hours of work
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FILE).exists():
        raise UserError("holds files that no grid wrote", where=folder, remedy="choose another --out")
    with only_one(folder):
        (folder / FILE).write_text(
            yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
            encoding="utf-8",
        )
        places = {name: folder / folder_name(name) for name in variants}
        for number, (name, variant) in enumerate(variants.items(), 1):
            log.info("variant %d of %d: %s", number, len(variants), name)
            _share(folder, places[name])
            others = [*(place for other, place in places.items() if other != name), *like]
            if kept is not None:
                results.complete(variant, places[name], kept / folder_name(name), limit=limit, like=others)
                continue
            pipeline.run(
                variant,
                places[name],
                until="evaluate" if until == "report" else until,
                limit=limit,
                like=others,
            )
        if until != "report":
            return folder
        first = next(iter(variants.values()))
        if any(one.evaluate.splits != first.evaluate.splits for one in variants.values()):
            log.info("the variants are asked of different samples: no page compares them")
            return folder
        found = [place if kept is None else kept / place.name for place in places.values()]
        return comparing.compare(found, folder / "report", first.report.statistics)


def forget(folder: Path, *, posts: Sequence[str], authors: Sequence[str], is_dry: bool = False) -> Removal:
    """Takes posts and authors out of every variant of a grid; see forgetting.forget.

    Places and models are named with their variant's folder. Unknown is who is unknown to all.
    """
    settings = configs.load(AblationConfig, folder / FILE)
    places = [folder / folder_name(name) for name in settings.vary]
    # those that took stages over first: what they took still tells them who is concerned
    found = {
        place.name: forgetting.forget(place, posts=posts, authors=authors, is_dry=is_dry)
        for place in reversed(places)
        if place.is_dir()
    }
    if not found:
        raise UserError("none of its variants has begun", where=folder, remedy="there is nothing to forget")
    told = list(found.values())
    if not is_dry and any(not one.is_nothing for one in told):
        for place in (folder / "report", folder / "journal"):
            if place.is_dir():
                shutil.rmtree(place)
    return Removal(
        removed={
            f"{name}/{place}": count for name, one in found.items() for place, count in one.removed.items()
        },
        num_posts=max(one.num_posts for one in told),
        num_comments=max(one.num_comments for one in told),
        unknown_posts=_in_all([one.unknown_posts for one in told]),
        unknown_authors=_in_all([one.unknown_authors for one in told]),
        models=tuple(f"{name}/{model}" for name, one in found.items() for model in one.models),
        unsure_models=tuple(f"{name}/{model}" for name, one in found.items() for model in one.unsure_models),
        brought=tuple(dict.fromkeys(place for one in told for place in one.brought)),
        was_unfinished=any(one.was_unfinished for one in told),
    )


def _in_all(places: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted(set.intersection(*map(set, places))))


def _share(folder: Path, place: Path) -> None:
    """Lets a variant remember media where all do."""
    if not place.exists():
        place.mkdir()
        (place / LOCK).touch()
    for name in _SHARED:
        (folder / name).mkdir(exist_ok=True)
        link = place / name
        if not link.is_symlink() and not link.exists():
            link.symlink_to(Path("..") / name)

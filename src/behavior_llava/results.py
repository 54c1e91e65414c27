"""What finished cells answered, in files small enough for a repository: `run CONFIG --results DIR`.

A cell is an arm with a seed. What stands in DIR is not computed again, on whatever machine and in whatever
clone, so that an experiment of many hours can be done piece by piece; docs/results.py makes its tables from
it. The layout is that of a run's evaluation, and `behavior-llava report DIR` reads it like a run:

    config.yaml                                      the run's settings
    evaluate/scores/tasks.json                       what is known of its tasks
    evaluate/seed0/behavior/predictions.parquet      answers, without paths
    evaluate/seed0/behavior/manifest.json            of what settings, what its stages took, and where
    evaluate/seed0/contamination.json                test samples that stand in what its arms learned from
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from behavior_llava import comparing, pipeline
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import MANIFEST, fingerprint, only_one, versions, write_json
from behavior_llava.evaluation import scores
from behavior_llava.pipeline import Cell
from behavior_llava.stages import Run, RunConfig, as_yaml

log = logging.getLogger(__name__)

ANSWERS, CONTAMINATION = "predictions.parquet", "contamination.json"
_IRRELEVANT = {"name", "seeds", "side_by_side", "device", "report"}
"""Settings that change nothing of what a cell answers, but for last digits."""


def run(
    config: RunConfig, folder: Path, kept: Path, *, limit: int | None = None, like: Sequence[Path] = ()
) -> Path:
    """Completes what is kept, and returns the page of all; the arguments are those of `complete`."""
    complete(config, folder, kept, limit=limit, like=like)
    return comparing.compare([kept], folder / "report", config.report.statistics)


def complete(
    config: RunConfig, folder: Path, kept: Path, *, limit: int | None = None, like: Sequence[Path] = ()
) -> None:
    """Computes the cells that are not kept yet, and keeps each when it is finished.

    Args:
        folder: of the run, where a killed call continues.
        kept: the folder of results.
        limit, like: as of pipeline.run.

    Raises:
        UserError: `kept` holds cells of other settings, or the input is at fault.
    """
    key = _key(config, limit)
    cells = [(name, seed) for seed in config.seeds for name in config.arms]
    missing = [cell for cell in cells if not _is_kept(kept, cell, key)]
    if len(missing) < len(cells):
        log.info("%d of %d cells stand in %s", len(cells) - len(missing), len(cells), kept)
    for seed in config.seeds:
        ours = [cell for cell in missing if cell[1] == seed]
        # one seed alone: what is not asked for of the others is not made ready either
        alone = config.model_copy(update={"seeds": (seed,)})
        for start in range(0, len(ours), config.side_by_side):
            some = ours[start : start + config.side_by_side]
            work = pipeline.run(alone, folder, until="evaluate", limit=limit, like=like, only=some)
            for cell in some:
                _keep(work, cell, kept, key)
                log.info("%s, seed %d, is kept in %s", *cell, kept)
            (kept / "config.yaml").write_text(as_yaml(config), encoding="utf-8")
            if start + config.side_by_side >= len(ours):
                with only_one(folder):
                    _keep_contamination(work, kept / "evaluate" / f"seed{seed}")


def _key(config: RunConfig, limit: int | None) -> str:
    """Of the settings a cell depends on, but for defaults, so that a setting that comes new with another
    release changes nothing of what is kept. All arms are among them: who is left out for want of a partner
    to exchange behavior with is left out of all.
    """
    told = config.model_dump(mode="json", exclude=_IRRELEVANT, exclude_defaults=True)
    return fingerprint({"config": told, "limit": limit})


def place_of(kept: Path, cell: Cell) -> Path:
    """The folder of a cell."""
    name, seed = cell
    return kept / "evaluate" / f"seed{seed}" / name


def _is_kept(kept: Path, cell: Cell, key: str) -> bool:
    place = place_of(kept, cell)
    if not (place / MANIFEST).exists() or not (place / ANSWERS).exists():
        return False
    told = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
    if told["key"] != key:
        raise UserError(
            "is of other settings than the config's",
            where=place,
            remedy="remove it there to compute it again, or name another folder as --results",
        )
    return True


def _keep(work: Run, cell: Cell, kept: Path, key: str) -> None:
    """Writes a cell's files; the manifest last, without which it is not kept."""
    place = place_of(kept, cell)
    place.mkdir(parents=True, exist_ok=True)
    stage = work.evaluated(*cell)
    table = pq.read_table(stage.folder / ANSWERS)
    column = table.schema.get_field_index("media_path")
    # where the pictures lay is nobody's business, and of no use elsewhere
    table = table.set_column(column, "media_path", pa.nulls(len(table), pa.string()))
    pq.write_table(table, place / ANSWERS, compression="zstd", compression_level=19)
    _write_facts(work, kept)
    write_json(
        place / MANIFEST,
        {
            "stage": f"evaluate/seed{cell[1]}/{cell[0]}",
            "key": key,
            "seconds": stage.manifest()["seconds"],
            "costs": {name: took for name, took in work.costs().items() if _is_of(name, cell)},
            "commit": stage.manifest()["commit"],
            "versions": versions(),
            "machine": _machine(work.config.device),
        },
    )


def _keep_contamination(work: Run, place: Path) -> None:
    """Of every task: how many of its samples stand in what the seed's arms learned from."""
    hits = pq.read_table(work.contaminated().folder / "hits.parquet", columns=["task", "sample_id"])
    found: dict[str, set[str]] = {}
    for hit in hits.to_pylist():
        found.setdefault(hit["task"], set()).add(hit["sample_id"])
    write_json(place / CONTAMINATION, {name: len(found.get(name, ())) for name in work.config.evaluate.tasks})


def _is_of(stage: str, cell: Cell) -> bool:
    """Whether a cell needs this stage: it is of all cells, of its seed, or its own."""
    name, seed = cell
    found = re.search(r"/seed(\d+)(?:/(.+))?$", stage)
    return found is None or (int(found[1]) == seed and found[2] in (None, name))


def _write_facts(work: Run, kept: Path) -> None:
    place = kept / "evaluate" / "scores" / scores.TASKS
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, work.task_facts())


def _machine(device: str) -> dict[str, Any]:
    """What the time depends on; nothing that names the machine."""
    return {
        "device": device,
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
    }

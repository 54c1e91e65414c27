"""`behavior-llava check`: a folder of data, a run or a config, to the doctor's findings.

The sources are read like a run reads them, into a scratch folder; a run that has collected is looked at as it
lies.
"""

from __future__ import annotations

import json
from pathlib import Path

from behavior_llava.core.config import load
from behavior_llava.core.errors import UserError
from behavior_llava.data import doctor
from behavior_llava.data.collect import CollectConfig, SourceConfig, collect, fetched_folder, source_of
from behavior_llava.data.download import DownloadConfig
from behavior_llava.stages import RunConfig


def findings(path: Path, scratch: Path, *, limit: int | None) -> list[doctor.Finding]:
    """What the doctor finds.

    Args:
        path: folder of data, run folder, or config.
        scratch: an empty folder; a source that fetches does so into it.

    Raises:
        UserError: nothing of ours is there, or a source's files are not.
    """
    if not path.exists():
        raise UserError("no such file or folder", where=path, remedy="give a folder, a run or a config")
    manifest = path / "collect" / "manifest.json"
    if manifest.is_file():
        told = json.loads(manifest.read_text(encoding="utf-8"))
        return doctor.examine(path / "collect", told)
    if path.is_file():
        config = load(RunConfig, path, ()).collect
    else:
        kind, settings = doctor.guess_source(path)
        config = CollectConfig(sources=(SourceConfig(kind=kind, settings=settings),))
    # the doctor is to see what would stop a run, and asks no network
    config = config.model_copy(update={"max_fault_rate": float("inf"), "download": DownloadConfig()})
    for number, entry in enumerate(config.sources):
        source, settings = source_of(entry)
        if source.fetch is not None:
            fetched_folder(scratch, number).mkdir(parents=True)
            source.fetch(settings, fetched_folder(scratch, number))
    folder = scratch / "collect"
    folder.mkdir()
    return doctor.examine(folder, collect(config, scratch, folder, limit=limit))

"""A stage folder: when it may be skipped, when it continues, when it starts again.

A stage writes `plan.json` first (what it is going to do) and `manifest.json` last (what it did). A folder
whose plan equals the present one and that has a manifest is finished and skipped; one without a manifest
continues where it stopped; one with another plan starts again, and the log says what changed. The fingerprint
of a stage covers its settings and the fingerprints of the stages it reads, so a change travels to everything
that depends on it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from behavior_llava.core.config import differences
from behavior_llava.core.errors import UserError

log = logging.getLogger(__name__)

PLAN, MANIFEST, LOCK = "plan.json", "manifest.json", ".lock"
_REMEMBERED = {"frames", "seen", "journal", "measured", "read"}
"""Folders of a run that no stage lies in; some hold thousands of others."""
_VERSIONED = (
    "behavior-llava",
    "torch",
    "transformers",
    "accelerate",
    "daft",
    "datasets",
    "pyarrow",
    "numpy",
    "av",
    "pillow",
)


def write_json(path: Path, value: Any) -> None:
    """Writes `value` so that a reader sees the old file or the whole new one, never a part."""
    temporary = path.with_suffix(f"{path.suffix}.{os.getpid()}.part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, sort_keys=True, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def fingerprint(value: Any) -> str:
    """A hash of any JSON value that does not depend on the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:20]


def folder_state(folder: Path) -> str:
    """A hash of the names, sizes and times of all files under `folder` (or of the one file it is).

    Contents are not read: a dump has hundreds of gigabytes.

    Raises:
        UserError: there is no such file or folder.
    """
    if not folder.exists():
        raise UserError("no such file or folder", where=folder, remedy="check the path in the config")
    files = [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
    return fingerprint(
        [
            (path.relative_to(folder.parent).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
            for path in files
        ]
    )


@cache
def _commit() -> str | None:
    """The commit of the checkout this package runs from; None where it is installed without one."""
    place = Path(__file__).resolve().parent
    result = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=place, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or None if result.returncode == 0 else None


def code_version() -> str:
    """Names the code that runs, by release and commit: what is kept between runs holds for one code only."""
    return f"{metadata.version('behavior-llava')} {_commit()}"


@cache
def versions() -> dict[str, str]:
    """The installed releases of what results depend on, by package."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def finished_stages(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """What every finished stage of a run wrote, in a fixed order, and the folder it really lies in, which is
    another run's where it was taken over.
    """
    # a pattern with ** would not follow the links by which stages are taken over
    for place, folders, files in os.walk(folder, followlinks=True):
        is_stage = PLAN in files or MANIFEST in files
        folders[:] = [] if is_stage else sorted(set(folders) - _REMEMBERED)
        if MANIFEST in files:
            yield Path(place).resolve(), json.loads((Path(place) / MANIFEST).read_text(encoding="utf-8"))


class Stage:
    """One folder and the work that fills it.

    Args:
        folder: created when the work begins.
        name: as people read it, e.g. "train/behavior/seed0".
        config: the settings this stage depends on, and no others.
        inputs: name -> fingerprint of whatever it reads.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], inputs: Mapping[str, str]) -> None:
        self.folder = folder
        self.name = name
        self.plan = json.loads(
            json.dumps({"stage": name, "config": config, "inputs": inputs}, sort_keys=True, default=str)
        )
        self.fingerprint = fingerprint(self.plan)
        self._started = 0.0

    @property
    def is_finished(self) -> bool:
        """True where a manifest of just this plan lies in the folder."""
        return (self.folder / MANIFEST).exists() and self._stored_plan() == self.plan

    @property
    def invalidated_by(self) -> list[str]:
        """What differs from the plan of the folder as it lies; empty where nothing does or nothing is
        there.
        """
        stored = self._stored_plan()
        return [] if stored is None else differences(stored, self.plan)

    def manifest(self) -> dict[str, Any]:
        """What the finished stage wrote."""
        return json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))

    @contextmanager
    def work(self) -> Iterator[dict[str, Any]]:
        """The body runs the stage and fills in facts (rows, counts); the manifest is written when it ends
        well.

        Raises:
            UserError: the folder holds files that no stage of ours wrote.
        """
        stored = self._stored_plan()
        if stored is not None and stored != self.plan:
            log.info("%s starts again: %s", self.name, "; ".join(differences(stored, self.plan)))
        self._make_way(keep=stored == self.plan)
        if stored == self.plan:
            log.info("%s continues", self.name)
            (self.folder / MANIFEST).unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / PLAN, self.plan)
        started = time.monotonic()
        facts: dict[str, Any] = {}
        yield facts
        seconds = round(time.monotonic() - started, 1)
        write_json(
            self.folder / MANIFEST,
            {
                **self.plan,
                **facts,
                "fingerprint": self.fingerprint,
                "seconds": seconds,
                "commit": _commit(),
                "versions": versions(),
            },
        )

    def adopt(self, folder: Path) -> bool:
        """Takes over just this stage where it is finished in a folder of another run, by a link to it; False
        where it is not.

        Raises:
            UserError: the stage's own folder holds files that no stage of ours wrote.
        """
        other = Stage(folder, self.name, self.plan["config"], self.plan["inputs"])
        if not other.is_finished:
            return False
        self._make_way(keep=False)
        if self.folder.exists():  # what a killed write left
            shutil.rmtree(self.folder)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # relative: both may be moved together
        self.folder.symlink_to(os.path.relpath(folder.resolve(), self.folder.parent.resolve()))
        return True

    def _make_way(self, *, keep: bool) -> None:
        """Removes what lies in the folder, but not what is to be kept, nor what is none of ours."""
        gone = self.folder.with_name(f"{self.folder.name}.gone")
        if gone.exists():
            shutil.rmtree(gone)
        if self.folder.is_symlink():
            # another run's: not to be worked in
            self.folder.unlink()
            return
        if not self.folder.exists() or keep:
            return
        is_ours = (self.folder / PLAN).exists()
        if is_ours:
            # renamed first: a removal that is cut off must not leave half a stage under its name
            self.folder.rename(gone)
            shutil.rmtree(gone)
        elif any(path.suffix != ".part" for path in self.folder.iterdir()):
            raise UserError("holds files that no run wrote", where=self.folder, remedy="choose another --out")

    def _stored_plan(self) -> dict[str, Any] | None:
        try:
            return json.loads((self.folder / PLAN).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            raise UserError(
                f"cannot be read ({type(error).__name__})",
                where=self.folder / PLAN,
                remedy="delete this folder; the stage runs again",
            ) from error


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Holds `folder` for this process; a UserError where another process is at work in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                "another run is at work in this folder",
                where=folder,
                remedy="wait for it or choose another --out",
            ) from None
        yield

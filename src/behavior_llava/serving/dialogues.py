"""Dialogues that visitors allowed to store: a folder each, with nothing that tells who they were.

Written only after an opt-in, deleted for good by its code. The folder's name is a hash of the code, so that
whoever reads the stored dialogues cannot delete them. Called by demo.py.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from behavior_llava.core.errors import UserError
from behavior_llava.core.media import write_whole
from behavior_llava.serving.uploads import remove

LICENSE = "CC-BY-4.0"
_FILE = "dialogue.json"


@dataclass(frozen=True)
class Dialogues:
    """A folder of stored dialogues."""

    folder: Path

    def open(self) -> None:
        """Makes the folder, for this user alone.

        Raises:
            UserError: it cannot be made or written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.folder / f".{secrets.token_hex(8)}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"cannot be written ({type(error).__name__})",
                where=self.folder,
                remedy="give --store a folder of yours",
            ) from None

    def keep(
        self, code: str, *, model: str, rounds: Sequence[tuple[str, str]], pictures: Sequence[Path]
    ) -> None:
        """Stores a dialogue as it stands, in place of what was stored under this code.

        Args:
            pictures: what the model saw, as JPEG files without notes about place or camera.
        """
        place = self._place(code)
        place.mkdir(mode=0o700, exist_ok=True)
        names = [f"{number}.jpg" for number in range(1, len(pictures) + 1)]
        for old in place.glob("*.jpg"):
            if old.name not in names:
                old.unlink()
        for name, picture in zip(names, pictures, strict=True):
            write_whole(place / name, picture.read_bytes())
        told = {
            "schema": 1,
            "license": LICENSE,
            # a day tells enough of when, and less of whom
            "day": datetime.now(UTC).date().isoformat(),
            "model": model,
            "pictures": names,
            "rounds": [{"question": question, "answer": answer} for question, answer in rounds],
        }
        write_whole(place / _FILE, json.dumps(told, ensure_ascii=False, indent=1).encode())

    def delete(self, code: str) -> bool:
        """Deletes a dialogue with its pictures; False where there is none."""
        place = self._place(code)
        if not place.is_dir():
            return False
        remove(place)
        return not place.exists()

    def _place(self, code: str) -> Path:
        return self.folder / hashlib.sha256(code.strip().encode()).hexdigest()[:40]


def new_code() -> str:
    """What a visitor keeps to delete a dialogue later."""
    return secrets.token_urlsafe(12)

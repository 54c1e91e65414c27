"""Who is there: visitors, the terms they accepted, their dialogues, and how often they may ask.

A visitor is a browser, known by a random cookie; a session is one tab of it. Everything lives in memory
and in a private folder a session, and ends with the session or after an hour. Called by demo.py and gate.py.
"""

from __future__ import annotations

import logging
import secrets
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from behavior_llava.data.viewing import View
from behavior_llava.serving.uploads import Refused, remove

log = logging.getLogger(__name__)

HOUR_S = 3600.0
MOST_SESSIONS = 1000
"""More at once are refused: each may hold files."""
MOST_OF_ADDRESS = 100
"""Sessions from one address, so that nobody alone takes all there are; a lecture hall may share one."""
_MINUTE_S = 60.0

NOT_ACCEPTED = "Please accept the terms first."
NOT_THERE = "The file did not arrive. Please upload it again."
BUSY = "Too many visitors are here now. Please come back later."
BUSY_ADDRESS = "Too many tabs of this demo are open at your address. Please close some, or come back later."


@dataclass(frozen=True, slots=True)
class Key:
    """One tab: the browser's cookie, and the tab's own number. Neither alone opens anything."""

    visitor: str
    tab: str


@dataclass
class Session:
    """What one tab has sent and was told.

    Attributes:
        folder: of its files.
        address: where it comes from, for counting alone.
        view: what is seen of the upload; None before there is one.
        uploaded_s, used_s: by the clock of `Sessions`.
        rounds: questions and answers, in order.
        code: opens the stored dialogue; None where nothing is stored.
        is_stored_wanted: the visitor opted in.
        stop: set, ends the answer that is being written.
        num_forgotten: how often the upload was deleted: a look during which this changes is void.
        is_ended: nobody is there any more.
        looking: held while an upload is looked at: two at once would write the same files.
        lock: held to change what is said here or seen, and while it is stored.
    """

    folder: Path
    used_s: float
    address: str
    uploaded_s: float = 0.0
    view: View | None = None
    rounds: list[tuple[str, str]] = field(default_factory=list)
    code: str | None = None
    is_stored_wanted: bool = False
    stop: threading.Event = field(default_factory=threading.Event)
    num_forgotten: int = 0
    is_ended: bool = False
    looking: threading.Lock = field(default_factory=threading.Lock)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def begin_anew(self) -> None:
        """Ends what is being written and forgets the dialogue; what was stored of it stays."""
        with self.lock:
            self.stop.set()
            self.rounds, self.code, self.is_stored_wanted = [], None, False

    def forget_upload(self) -> None:
        """Deletes the files of the upload, and the folder where the session has ended."""
        with self.lock:
            self.view = None
            self.num_forgotten += 1
            for place in [self.folder] if self.is_ended else list(self.folder.iterdir()):
                remove(place)

    def forget(self) -> None:
        """Ends the session: nothing is written any more, and files and dialogue are deleted."""
        with self.lock:
            self.is_ended = True
            self.begin_anew()
            self.forget_upload()


class Rate:
    """At most so many requests a minute from one address; addresses are forgotten after that minute."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._times: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, address: str) -> None:
        """Counts one request.

        Raises:
            Refused: there were too many; it says when the next may come.
        """
        with self._lock:
            now_s = self._clock()
            for known in [one for one, times in self._times.items() if now_s - times[-1] > _MINUTE_S]:
                del self._times[known]
            times = self._times.setdefault(address, deque(maxlen=self._per_minute))
            if len(times) == self._per_minute and now_s - times[0] <= _MINUTE_S:
                wait_s = max(1, round(_MINUTE_S - (now_s - times[0])))
                raise Refused(f"That was a lot in a minute. Please wait {wait_s} seconds.")
            times.append(now_s)


class Sessions:
    """All who are there; safe for several threads.

    Args:
        folder: private; each session gets one in it.
        clock: seconds, for tests.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._clock = folder, clock
        self._sessions: dict[Key, Session] = {}
        self._uploads: dict[str, dict[Path, float]] = {}
        self._lock = threading.RLock()

    def accept(self, key: Key, address: str) -> None:
        """Someone accepts the terms in one tab.

        Raises:
            Refused: too many are here or come from this address, or there is no cookie.
        """
        with self._lock:
            if not key.visitor or not key.tab:
                raise Refused("Please allow the cookie of this page, and load it again.")
            if key not in self._sessions:
                if len(self._sessions) >= MOST_SESSIONS:
                    raise Refused(BUSY)
                if sum(one.address == address for one in self._sessions.values()) >= MOST_OF_ADDRESS:
                    raise Refused(BUSY_ADDRESS)
                folder = Path(tempfile.mkdtemp(prefix="session-", dir=self._folder))
                self._sessions[key] = Session(folder, self._clock(), address)

    def of(self, key: Key) -> Session:
        """The session of a tab in which the terms were accepted.

        Raises:
            Refused: they were not.
        """
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                raise Refused(NOT_ACCEPTED)
            session.used_s = self._clock()
            return session

    def everybody(self) -> list[Session]:
        """All sessions there are now."""
        with self._lock:
            return list(self._sessions.values())

    def has_accepted(self, visitor: str) -> bool:
        """Whether a browser has accepted the terms in some tab."""
        with self._lock:
            return bool(visitor) and any(key.visitor == visitor for key in self._sessions)

    def end(self, key: Key) -> None:
        """A tab is closed, or is to be forgotten: its files are deleted and the terms count no more."""
        with self._lock:
            session = self._sessions.pop(key, None)
        if session is not None:
            session.forget()
        if not self.has_accepted(key.visitor):
            with self._lock:
                left = self._uploads.pop(key.visitor, {})
            for path in left:
                remove(path)

    # ---- files that have come and were not looked at yet ----

    def note_upload(self, visitor: str, path: Path) -> None:
        """A file of this visitor's lies there."""
        with self._lock:
            self._uploads.setdefault(visitor, {})[path] = self._clock()

    def owns(self, visitor: str, path: Path) -> bool:
        """Whether this visitor uploaded that file."""
        with self._lock:
            return path in self._uploads.get(visitor, {})

    def take_upload(self, visitor: str, path: Path) -> None:
        """The file is being looked at, which deletes it.

        Raises:
            Refused: it is not this visitor's.
        """
        with self._lock:
            if self._uploads.get(visitor, {}).pop(path, None) is None:
                raise Refused(NOT_THERE)

    def sweep(self) -> None:
        """Deletes what is older than an hour: uploads by when they came, sessions by when they were used."""
        with self._lock:
            now_s = self._clock()
            ended = [key for key, one in self._sessions.items() if now_s - one.used_s > HOUR_S]
            old = [
                one
                for one in self._sessions.values()
                if one.view is not None and now_s - one.uploaded_s > HOUR_S
            ]
            left = [
                (visitor, path)
                for visitor, paths in self._uploads.items()
                for path, since_s in paths.items()
                if now_s - since_s > HOUR_S
            ]
            for visitor, path in left:
                del self._uploads[visitor][path]
        for key in ended:
            self.end(key)
        for session in old:
            session.forget_upload()
        for _, path in left:
            remove(path)

    def now_s(self) -> float:
        """By the clock of all times here."""
        return self._clock()


def new_visitor() -> str:
    """A cookie nobody guesses."""
    return secrets.token_urlsafe(24)

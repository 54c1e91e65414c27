"""What the demo does when a visitor asks, without the page: terms, upload, chat, comparison, prediction.

Every method first looks whether the terms were accepted in that tab, so that no request goes round them. What
a visitor cannot have is `Refused`, with a sentence. Called by app.py, one model call at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from behavior_llava.core.media import MediaFault
from behavior_llava.core.schema import Example
from behavior_llava.data.viewing import View
from behavior_llava.models.auto import VisionLanguageModel
from behavior_llava.models.streaming import stream
from behavior_llava.serving import pictures, uploads
from behavior_llava.serving.audience import Predictor
from behavior_llava.serving.dialogues import Dialogues, new_code
from behavior_llava.serving.sessions import NOT_THERE, Key, Session, Sessions
from behavior_llava.serving.targets import Model, Models
from behavior_llava.serving.uploads import Door, Refused

MOST_LETTERS = 2000
"""Of a question."""
MOST_ROUNDS = 20
NUM_COMMENTS = 5
NO_MEDIA = "Please upload an image or a video first."
DELETED = "The file was deleted while it was looked at."
TOO_LONG = "This is too long for the model. Please start a new dialogue."
STOPPED = " (stopped)"


@dataclass
class Demo:
    """A target served to many visitors.

    Attributes:
        dialogues: where opted-in dialogues go; None where none are stored.
        max_new_tokens: of an answer.
    """

    models: Models
    sessions: Sessions
    door: Door
    dialogues: Dialogues | None
    max_new_tokens: int

    # ---- media ----

    def upload(self, key: Key, path: Path | None) -> str:
        """Looks at a file this visitor sent; what is seen, as HTML. The dialogue begins anew.

        Raises:
            Refused: the terms are not accepted, the file cannot be taken, or was deleted meanwhile.
        """
        session = self.sessions.of(key)
        with session.looking:
            session.begin_anew()
            session.forget_upload()
            num_forgotten = session.num_forgotten
            if path is None:
                raise Refused(NOT_THERE)
            self.sessions.take_upload(key.visitor, path)
            view = None
            try:
                looked = self.door.look(path, session.folder)
                seen = _seen(looked, session.folder)
                view = looked
            finally:
                with session.lock:
                    is_void = session.is_ended or session.num_forgotten != num_forgotten
                    if view is None or is_void:
                        session.forget_upload()  # also what the look wrote after the visitor's own deletion
                    if is_void:
                        raise Refused(DELETED)
                    session.view, session.uploaded_s = view, self.sessions.now_s()
            return seen

    # ---- chat ----

    def chat(self, key: Key, question: str) -> Iterator[list[tuple[str, str]]]:
        """All rounds, again with every piece of the new answer.

        Raises:
            Refused: the terms are not accepted, or the question cannot be asked.
        """
        session = self.sessions.of(key)
        if len(session.rounds) >= MOST_ROUNDS:
            raise Refused("This dialogue is as long as it may be. Please start a new one.")
        session.stop.clear()
        rounds, answer = session.rounds, ""
        earlier = tuple(rounds)
        model, example = self._prepared(self.models.target.chat, session, question, earlier)
        yield [*earlier, (question, "")]
        for answer in self._written(model, example, session):
            if session.rounds is not rounds:
                return  # deleted meanwhile, or nobody is there any more
            yield [*earlier, (question, answer)]
        with session.lock:
            if session.rounds is not rounds:
                return
            rounds.append((question, answer + STOPPED if session.stop.is_set() else answer))
            self._store(session)
        yield list(rounds)

    def stop(self, key: Key) -> None:
        """Ends the answer that is being written in this tab."""
        self.sessions.of(key).stop.set()

    def compare(self, key: Key, question: str) -> Iterator[dict[str, str]]:
        """The compared models' answers to one question, again with every piece.

        Raises:
            Refused: the terms are not accepted, or the question cannot be asked.
        """
        session = self.sessions.of(key)
        session.stop.clear()
        view = session.view
        answers = dict.fromkeys(self.models.target.compared, "")
        for name in answers:
            if session.stop.is_set():
                return
            model, example = self._prepared(name, session, question, ())
            for answer in self._written(model, example, session):
                if session.view is not view:
                    return  # these would be answers about a file that is gone
                answers[name] = answer
                yield dict(answers)

    def _prepared(
        self, name: str, session: Session, question: str, earlier: tuple[tuple[str, str], ...]
    ) -> tuple[Model, Example]:
        """The model, and what it is asked; Refused where it cannot be."""
        if not question.strip():
            raise Refused("Please write a question.")
        if len(question) > MOST_LETTERS:
            raise Refused(f"Please ask in at most {MOST_LETTERS:,} letters.")
        shown = None if session.view is None else session.view.media()
        example = Example("chat", question.strip(), None, shown, earlier=earlier)
        model = self.models.get(name, uploads.frame_store(session.folder))
        try:
            self._refuse_unaskable(model, example)
        except MediaFault as fault:
            raise Refused(uploads.sentence_of(fault)) from None
        return model, example

    def _written(self, model: Model, example: Example, session: Session) -> Iterator[str]:
        """An answer as far as it is written, longer every time."""
        written = ""
        try:
            pieces = stream(model, example, max_new_tokens=self.max_new_tokens, stop=session.stop)
            with closing(pieces):
                for piece in pieces:
                    written += piece
                    yield written
        except MediaFault as fault:
            raise Refused(uploads.sentence_of(fault)) from None

    def _refuse_unaskable(self, model: Model, example: Example) -> None:
        if not isinstance(model, VisionLanguageModel):
            return
        if any(token in example.prompt for token in model.media_tokens):
            raise Refused("The question holds a word that the model keeps for itself.")
        config = model.network.config.get_text_config()
        most = getattr(config, "max_position_embeddings", None)
        if most is not None and sum(model.num_tokens(example)) + self.max_new_tokens > most:
            raise Refused(TOO_LONG)

    # ---- prediction ----

    def audience(self, key: Key) -> str:
        """What viewers are expected to do with the upload, as HTML.

        Raises:
            Refused: the terms are not accepted, or there is no upload.
        """
        session = self.sessions.of(key)
        view = session.view
        if view is None:
            raise Refused(NO_MEDIA)
        target = self.models.target
        model = self.models.get(target.chat, uploads.frame_store(session.folder))
        predictor = Predictor(model, target.manner, max_new_tokens=self.max_new_tokens)
        try:
            found = predictor.audience(view, comments=NUM_COMMENTS)
            files = uploads.shown_files(view, session.folder)
        except MediaFault as fault:
            raise Refused(uploads.sentence_of(fault)) from None
        if session.view is not view:
            raise Refused(DELETED)
        return pictures.audience(found, files, is_video=view.kind == "video")

    # ---- storing and deleting ----

    def want_stored(self, key: Key, is_wanted: bool) -> str | None:
        """The visitor opts in, or takes it back, which deletes; the code, or None where nothing is stored."""
        session = self.sessions.of(key)
        with session.lock:
            session.is_stored_wanted = is_wanted and self.dialogues is not None
            if not session.is_stored_wanted:
                self._unstore(session)
            self._store(session)
            return session.code

    def code(self, key: Key) -> str | None:
        """What deletes this tab's stored dialogue; None where nothing is stored."""
        return self.sessions.of(key).code

    def new_dialogue(self, key: Key) -> None:
        """Begins anew about the same upload. What was stored stays, and the new one needs its own opt-in."""
        self.sessions.of(key).begin_anew()

    def delete(self, key: Key) -> None:
        """Deletes dialogue and upload of this tab, and what was stored of them."""
        session = self.sessions.of(key)
        with session.lock:
            self._unstore(session)
            session.begin_anew()
            session.forget_upload()

    def delete_stored(self, key: Key, code: str) -> bool:
        """Deletes a dialogue that was stored earlier; False where no such is there.

        A tab in which it still goes on stores it no more.
        """
        self.sessions.of(key)
        for session in self.sessions.everybody():
            with session.lock:
                if session.code == code.strip():
                    session.code, session.is_stored_wanted = None, False
        return self.dialogues is not None and self.dialogues.delete(code)

    def _unstore(self, session: Session) -> None:
        """Deletes what is stored; called under the session's lock, lest an answer be stored meanwhile."""
        if session.code is not None and self.dialogues is not None:
            self.dialogues.delete(session.code)
        session.code = None

    def _store(self, session: Session) -> None:
        """Stores what was said, if that is wanted; called under the session's lock."""
        if self.dialogues is None or not session.is_stored_wanted or not session.rounds:
            return
        session.code = session.code or new_code()
        files = [] if session.view is None else uploads.shown_files(session.view, session.folder)
        self.dialogues.keep(
            session.code, model=self.models.target.title, rounds=session.rounds, pictures=files
        )


def _seen(view: View, folder: Path) -> str:
    """What is seen of an upload, as HTML."""
    spans = [(scene.start_s, scene.end_s) for scene in view.scenes]
    return pictures.upload(uploads.shown_files(view, folder), spans, is_video=view.kind == "video")

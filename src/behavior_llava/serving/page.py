"""The demo's page, in Gradio: parts, their wiring, and sentences for what goes wrong.

Nothing of Gradio opens an uploaded file, renders what a model wrote, or sends anything anywhere. Imported by
app.py after the library was told so.
"""

from __future__ import annotations

import html
import logging
import secrets
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import gradio as gr
from gradio import route_utils
from gradio.themes import Base
from starlette.middleware import Middleware

from behavior_llava.serving import pictures
from behavior_llava.serving.demo import MOST_LETTERS, Demo
from behavior_llava.serving.gate import Gate, address_of, visitor_of
from behavior_llava.serving.sessions import Key, Rate
from behavior_llava.serving.uploads import Refused

log = logging.getLogger(__name__)

_HERE = Path(__file__).parent
FAULT = "Something went wrong here. Please try again; if it stays so, tell those who run this demo."
WAITING = "…"
"""What stands for an answer of which nothing is written yet."""
_ONE_AT_A_TIME = {"concurrency_id": "model", "concurrency_limit": 1, "show_progress": "hidden"}
_QUICK = {"concurrency_limit": 8, "show_progress": "hidden"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a visitor may send; see app.ServeConfig."""

    max_mb: int
    max_seconds: float
    queue: int


class PlaceOfItsOwn(route_utils.GradioUploadFile):
    """An upload whose place nobody else's has.

    Gradio names it by the content alone: where two visitors send the same file, the first who is done with
    it would delete it for the other.
    """

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.sha.update(secrets.token_bytes(16))


class Told:
    """Turns whatever goes wrong into a sentence for the visitor; what it was goes to the log.

    The log gets the kind of error and where it happened, not its words, which may be a visitor's.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if isinstance(error, Refused):
            sentence = str(error)
        else:
            sentence = FAULT
            places = "".join(traceback.format_tb(trace))
            log.error("%s in the demo, at\n%s", type(error).__name__, places)
        raise gr.Error(sentence, title="", print_exception=False) from None


class Page:
    """The page's parts and what they call."""

    def __init__(self, demo: Demo, rate: Rate, limits: Limits) -> None:
        self._demo, self._rate, self._limits = demo, rate, limits
        self._target = demo.models.target

    def open(self, host: str, port: int) -> Callable[[], None]:
        """Starts the server in a thread; returns what ends it."""
        route_utils.GradioUploadFile = PlaceOfItsOwn
        blocks = self._built()
        blocks.queue(max_size=self._limits.queue, default_concurrency_limit=8, api_open=False)
        gate = Middleware(
            Gate,
            sessions=self._demo.sessions,
            rate=self._rate,
            max_bytes=self._limits.max_mb * 2**20,
        )
        blocks.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            inbrowser=False,
            share=False,
            quiet=True,
            show_error=False,
            footer_links=[],
            max_file_size=self._limits.max_mb * 2**20,
            allowed_paths=[],
            enable_monitoring=False,
            run_history=False,
            ssr_mode=False,
            mcp_server=False,
            app_kwargs={"middleware": [gate], "docs_url": None, "redoc_url": None, "openapi_url": None},
            theme=_theme(),
            css=(_HERE / "templates" / "page.css").read_text(encoding="utf-8"),
        )
        return partial(blocks.close, verbose=False)

    # ---- the parts ----

    def _built(self) -> Any:
        name = self._target.title
        with gr.Blocks(title=f"behavior-llava: {name}", analytics_enabled=False, fill_width=False) as blocks:
            gr.HTML(
                "<h1>behavior-llava</h1><p>A research preview of <strong>"
                f"{html.escape(name)}</strong>: it answers about pictures and videos, and guesses how people "
                "react to them.</p>",
                elem_id="title",
            )
            gate, accepted, start = self._terms()
            # made before its tab, as another file or none clears it
            found = gr.HTML("", elem_id="audience", render=False)
            answers = [
                gr.Textbox(
                    label=name,
                    lines=5,
                    interactive=False,
                    elem_id=f"answer-{name}",
                    min_width=220,
                    render=False,
                )
                for name in self._target.compared
            ]
            with gr.Column(visible=False, elem_id="main") as main:
                file, seen = self._media()
                with gr.Tabs(elem_id="tabs"):
                    with gr.Tab("Chat"):
                        self._chat(file, seen, [found, *answers])
                    with gr.Tab("Audience"):
                        self._audience(found)
                    if answers:
                        with gr.Tab("Compare"):
                            self._compare(answers)
            self._on(start.click, self._accept, [accepted], [gate, main], **_QUICK)
            blocks.unload(self._end)
        return blocks

    def _terms(self) -> tuple[Any, Any, Any]:
        with gr.Column(elem_id="terms") as gate:
            text = (_HERE / "terms.md").read_text(encoding="utf-8")
            if self._demo.dialogues is not None:
                text += (_HERE / "terms_storing.md").read_text(encoding="utf-8")
            gr.Markdown("## Terms of use\n" + text)
            accepted = gr.Checkbox(label="I have read these terms and accept them", value=False)
            start = gr.Button("Start", variant="primary", elem_id="start")
        return gate, accepted, start

    def _media(self) -> tuple[Any, Any]:
        file = gr.File(
            label=f"Image or video (at most {self._limits.max_mb} MB, {self._limits.max_seconds:g} seconds)",
            file_count="single",
            type="filepath",
            height=120,
            elem_id="upload",
        )
        seen = gr.HTML("", elem_id="seen")
        return file, seen

    def _chat(self, file: Any, seen: Any, predicted: list[Any]) -> None:
        # as plain text: nothing that a model writes becomes a picture, a link or a command
        talk = gr.Chatbot(
            label="Dialogue",
            elem_id="dialogue",
            height=360,
            render_markdown=False,
            sanitize_html=True,
            latex_delimiters=[],
            buttons=[],
            layout="bubble",
            group_consecutive_messages=False,
            allow_file_downloads=False,
        )
        question = gr.Textbox(label="Your question", elem_id="question", lines=2, max_length=MOST_LETTERS)
        with gr.Row():
            send = gr.Button("Send", variant="primary", elem_id="send")
            stop = gr.Button("Stop", elem_id="stop")
            anew = gr.Button("New dialogue", elem_id="anew")
            delete = gr.Button("Delete dialogue and file", variant="stop", elem_id="delete")
        stored, code = self._storing()
        dialogue = [talk, stored, code]
        self._on(send.click, self._ask, [question], [talk, question, code], **_ONE_AT_A_TIME)
        self._on(question.submit, self._ask, [question], [talk, question, code], **_ONE_AT_A_TIME)
        self._on(stop.click, self._stop, [], [], **_QUICK)
        self._on(anew.click, self._anew, [], dialogue, **_QUICK)
        self._on(delete.click, self._delete, [], [seen, *dialogue, *predicted], **_QUICK)
        shown = [file, seen, *dialogue, *predicted]
        self._on(file.upload, self._upload, [file], shown, concurrency_limit=2)
        if self._demo.dialogues is not None:
            self._on(stored.input, self._want_stored, [stored], [code], **_QUICK)

    def _storing(self) -> tuple[Any, Any]:
        """The opt-in; hidden, and without effect, where nothing is stored."""
        is_offered = self._demo.dialogues is not None
        stored = gr.Checkbox(
            label="Store this dialogue, without my IP address; it may be published under CC BY 4.0",
            value=False,
            visible=is_offered,
            elem_id="stored",
        )
        code = gr.HTML("", elem_id="code", visible=is_offered)
        if is_offered:
            with gr.Accordion("Delete a dialogue stored earlier", open=False):
                earlier = gr.Textbox(label="Its code", elem_id="earlier", max_length=100)
                told = gr.HTML("", elem_id="earlier-told")
                remove = gr.Button("Delete it", elem_id="delete-earlier")
                self._on(remove.click, self._delete_earlier, [earlier], [told, stored, code], **_QUICK)
        return stored, code

    def _audience(self, found: Any) -> None:
        predict = gr.Button("Predict the audience", variant="primary", elem_id="predict")
        found.render()
        self._on(predict.click, self._predict, [], [found], **_ONE_AT_A_TIME)

    def _compare(self, answers: list[Any]) -> None:
        names = self._target.compared
        sizes = {name: self._target.size_mb(name) for name in names}
        told = ", ".join(f"{name} {size:,} MB" for name, size in sizes.items() if size is not None)
        sizes_told = f" (weights: {told})" if told else ""
        gr.Markdown(f"One question to each model. A model is loaded when it is first asked{sizes_told}.")
        question = gr.Textbox(label="Question to all", elem_id="compare-question", max_length=MOST_LETTERS)
        with gr.Row():
            ask = gr.Button("Ask all", variant="primary", elem_id="ask-all")
            stop = gr.Button("Stop", elem_id="compare-stop")
        with gr.Row(elem_id="answers"):
            for answer in answers:
                answer.render()
        self._on(ask.click, self._ask_all, [question], answers, **_ONE_AT_A_TIME)
        self._on(question.submit, self._ask_all, [question], answers, **_ONE_AT_A_TIME)
        self._on(stop.click, self._stop, [], [], **_QUICK)

    def _on(self, event: Any, call: Any, given: list[Any], shown: list[Any], **how: Any) -> None:
        event(call, given, shown, api_visibility="private", **how)

    # ---- what they call ----

    def _key(self, request: gr.Request, *, is_counted: bool = False) -> Key:
        if is_counted:
            self._rate.take(address_of(request))
        return Key(visitor_of(request.headers), request.session_hash or "")

    def _accept(self, accepted: bool, request: gr.Request) -> tuple[Any, Any]:
        with Told():
            if accepted is not True:
                raise Refused("Please read the terms, and accept them with the tick.")
            self._demo.sessions.accept(self._key(request, is_counted=True), address_of(request))
        return gr.update(visible=False), gr.update(visible=True)

    def _end(self, request: gr.Request) -> None:
        with Told():
            self._demo.sessions.end(self._key(request))

    def _upload(self, file: str | None, request: gr.Request) -> tuple[Any, ...]:
        """The file field is emptied: the file is gone, and what is seen of it stands below."""
        with Told():
            key = self._key(request)
            try:
                seen = self._demo.upload(key, None if file is None else Path(file))
            except Refused as refused:
                seen = pictures.error(str(refused))
            return None, seen, *self._dialogue(key), *self._nothing_predicted()

    def _ask(self, question: str, request: gr.Request) -> Iterator[tuple[Any, Any, Any]]:
        with Told():
            key = self._key(request, is_counted=True)
            for rounds in self._demo.chat(key, question):
                yield _messages(rounds), "", gr.skip()
            yield gr.skip(), gr.skip(), self._code(key)

    def _stop(self, request: gr.Request) -> None:
        with Told():
            self._demo.stop(self._key(request))

    def _anew(self, request: gr.Request) -> tuple[Any, ...]:
        with Told():
            key = self._key(request)
            self._demo.new_dialogue(key)
            return self._dialogue(key)

    def _delete(self, request: gr.Request) -> tuple[Any, ...]:
        with Told():
            key = self._key(request)
            self._demo.delete(key)
            note = pictures.note("Dialogue and file are deleted.")
            return note, *self._dialogue(key), *self._nothing_predicted()

    def _want_stored(self, is_wanted: bool, request: gr.Request) -> str:
        with Told():
            key = self._key(request)
            self._demo.want_stored(key, is_wanted is True)
            return self._code(key)

    def _delete_earlier(self, code: str, request: gr.Request) -> tuple[Any, ...]:
        with Told():
            key = self._key(request, is_counted=True)
            if self._demo.delete_stored(key, code or ""):
                # it may be the one that goes on here, which is stored no more then
                return pictures.note("That dialogue is deleted."), *self._dialogue(key)[1:]
            raise Refused("No dialogue is stored under this code.")

    def _predict(self, request: gr.Request) -> str:
        with Told():
            return self._demo.audience(self._key(request, is_counted=True))

    def _ask_all(self, question: str, request: gr.Request) -> Iterator[tuple[str, ...]]:
        with Told():
            key = self._key(request, is_counted=True)
            for answers in self._demo.compare(key, question):
                yield tuple(answers[name] for name in self._target.compared)

    def _dialogue(self, key: Key) -> tuple[Any, ...]:
        """What is said, whether it is stored, and its code, as they stand: the tick shows nothing else."""
        session = self._demo.sessions.of(key)
        return _messages(session.rounds), session.is_stored_wanted, self._code(key)

    def _nothing_predicted(self) -> list[str]:
        """In place of the audience and of the compared answers."""
        return [""] * (1 + len(self._target.compared))

    def _code(self, key: Key) -> str:
        code = self._demo.code(key)
        if code is None:
            return ""
        return pictures.note(f"This dialogue is stored. Keep its code to delete it later: {code}")


def _theme() -> Any:
    """Calm, with fonts of the visitor's machine alone and letters dark enough to be read."""
    fonts = ["system-ui", "sans-serif"]
    base = Base(primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "monospace"])
    return base.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        block_label_text_color="*neutral_700",
        block_title_text_color="*neutral_700",
        block_info_text_color="*neutral_600",
        input_placeholder_color="*neutral_500",
    )


def _messages(rounds: list[tuple[str, str]]) -> list[dict[str, str]]:
    """What the dialogue shows: letters alone, since the part would take tags in them for its own."""
    return [
        {"role": role, "content": html.escape(text, quote=False)}
        for question, answer in rounds
        for role, text in (("user", question), ("assistant", answer or WAITING))
    ]

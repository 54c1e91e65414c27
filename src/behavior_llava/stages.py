"""The stages of a run: what each reads, what it is keyed by, and what fills its folder.

`RunConfig` is everything one run is made of; `Run` is a config at work in a folder. Each method that ends in
a stage runs the stages it reads first; a finished one is skipped, a cut-off one continues, and one whose
settings or inputs changed starts again and says why. pipeline.py says in which order they are called.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import Field, model_validator

from behavior_llava.core import parquet, together
from behavior_llava.core.config import Config
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import (
    Stage,
    fingerprint,
    finished_stages,
    folder_state,
    versions,
    write_json,
)
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Behavior, Example, Media, MediaKind, Post, Scoring, Task
from behavior_llava.data import arms, blift, funnel, instruction, ledger, manner, publishing, verbalizer
from behavior_llava.data.blift import BuildConfig
from behavior_llava.data.collect import CollectConfig, collect, fetched_folder, source_of
from behavior_llava.data.data_card import CardFacts
from behavior_llava.data.describing import Generate, Writer
from behavior_llava.data.ledger import Forgotten
from behavior_llava.data.splits import SPLITS
from behavior_llava.evaluation import benchmarks, contamination, evaluator, judge, probing, scores
from behavior_llava.evaluation.evaluator import Asked, EvaluateConfig, Prepared, Question
from behavior_llava.evaluation.judge import Judge
from behavior_llava.evaluation.summary import PREDICTIONS
from behavior_llava.models import auto, smol, speech
from behavior_llava.models.remote import RemoteModel
from behavior_llava.models.speech import Recognizer
from behavior_llava.reporting import lineage, report, site
from behavior_llava.reporting.report import ReportConfig
from behavior_llava.training import base, model_card, readable, tower
from behavior_llava.training.base import BaseConfig
from behavior_llava.training.tracking import TRACKED, Probe, measured
from behavior_llava.training.trainer import TrainConfig, loss_curve, step_rows, train
from behavior_llava.training.trainer import arguments as training_arguments

log = logging.getLogger(__name__)


class ArmsConfig(Config):
    """How the arms are trained.

    Attributes:
        ratio: instruction rows for one behavior row; 1 as in the paper.
        train: epochs count the behavior rows.
        probe_items: validation posts, and questions a task, that are measured every `track_every` steps of
            this training and of the base's; the seed says which, the same for every arm.
    """

    ratio: float = Field(default=1.0, ge=0)
    probe_items: int = Field(default=32, gt=1)
    train: TrainConfig = TrainConfig(epochs=2, freeze=("vision_tower",))


class RunConfig(Config):
    """Everything one run is made of.

    Attributes:
        name: of the run; its folder is runs/<name> unless --out says otherwise.
        model: "tiny" or "smol", which the base stage makes (training/base.py), or the folder or hub name of
            an image-text-to-text model.
        device: auto, cpu or cuda.
        arms: which data sets are compared; see data/arms.py.
        seeds: of initialisation, data order, shuffle and decoding.
        side_by_side: arms (and base models) at work at a time, each in a process with its share of the cores.
            More than 1 pays for small models on a CPU; numbers may differ in their last digits from those of
            another value.
    """

    name: str
    model: str = "tiny"
    device: str = "auto"
    side_by_side: int = Field(default=1, ge=1)
    arms: tuple[str, ...] = ("base", "content_only", "shuffled", "behavior")
    seeds: tuple[int, ...] = (0,)
    collect: CollectConfig
    build: BuildConfig = BuildConfig()
    base: BaseConfig = BaseConfig()
    training: ArmsConfig = ArmsConfig()
    evaluate: EvaluateConfig
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _names_exist(self) -> RunConfig:
        for name in self.arms:
            arms.arm(name, self.build.kinds, where="arms")
        if len(set(self.arms)) < len(self.arms) or len(set(self.seeds)) < len(self.seeds):
            raise UserError("an arm or a seed is named twice", where="arms, seeds", remedy="name each once")
        for name in (*self.evaluate.tasks, *self.evaluate.finetune.tasks):
            self.evaluate.task_named(name)
        if self.evaluate.primary not in self.evaluate.settings:
            raise UserError(
                f"{self.evaluate.primary!r} is not evaluated",
                where="evaluate.primary",
                remedy=f"name one of {', '.join(self.evaluate.settings)}",
            )
        verbalizer.load_template(self.build.template).for_run(self.build.said)
        for entry in self.collect.sources:
            source_of(entry)
        for filters in (blift.DEFAULT_FILTERS | self.build.filters).values():
            funnel.ready([blift.named(entry, "build.filters") for entry in filters])
        return self


@dataclass
class Run:
    """A config at work in a folder.

    Attributes:
        limit: posts a source and samples a task, at most; None for all.
        like: folders of other runs, whose finished stages are taken over where they are the very same.
        is_looking: True to raise Unfinished where a stage would begin to work.
        told: stages of which the log has spoken.
    """

    config: RunConfig
    folder: Path
    limit: int | None = None
    like: tuple[Path, ...] = ()
    is_looking: bool = False
    told: set[str] = field(default_factory=set)
    _states: dict[int, str] = field(default_factory=dict)
    _identities: dict[str, str] = field(default_factory=dict)
    _task_probes: dict[int, list[Probe]] = field(default_factory=dict)
    _known_priors: dict[tuple[str, bool], dict[Scoring, tuple[Question, ...]]] = field(default_factory=dict)
    _writer: tuple[str, auto.VisionLanguageModel] | None = None

    def check(self, until: str) -> None:
        """What can be known to be wrong before hours of work: device, paths, model, arguments, benchmarks.

        Raises:
            UserError: the first thing at fault.
        """
        config = self.config
        auto.pick_device(config.device)
        for entry in config.collect.sources:
            for path in _paths(source_of(entry)[1]):
                if not path.exists():
                    raise UserError(
                        "no such file or folder",
                        where=path,
                        remedy=f"check the paths of collect.sources ({entry.kind})",
                    )
        if until == "collect":
            return
        if "ceiling" in config.arms and self.sandbox is None:
            raise UserError(
                "the arm ceiling needs the sandbox's true labels",
                where="arms",
                remedy="leave ceiling out for real data",
            )
        if config.model == "smol":
            smol.check()
        elif config.model not in base.BUILT:
            auto.check(config.model)
        self._check_writer()
        if config.model in base.BUILT or config.training.ratio:
            given = self.instruction
            if config.base.instruction is not None and not given.is_file():
                raise UserError(
                    "no such instruction file",
                    where=given,
                    remedy="give LLaVA JSON in base.instruction, or null for the sandbox's",
                )
        self._check_training(until)
        if until in ("evaluate", "report"):
            self._check_benchmarks()

    def _check_training(self, until: str) -> None:
        config = self.config
        alone = {"base.tower": config.base.tower, "evaluate.finetune.train": config.evaluate.finetune.train}
        for name, settings in alone.items():
            if settings.track_every is not None:
                raise UserError(
                    "nothing is measured in this training",
                    where=f"{name}.track_every",
                    remedy="set track_every in base.train or training.train alone",
                )
        for settings in (*alone.values(), config.base.train, config.training.train):
            training_arguments(settings, self.folder / "checked", seed=0, on_cpu=True)
        if until != "build" and self.tracks and config.evaluate.benchmarks is not None:
            for task in self._probed_tasks():
                task.load(self.benchmark(task), task.train_split)

    def _check_writer(self) -> None:
        captions = self.config.build.captions
        if captions.endpoint is not None:
            RemoteModel(captions.endpoint, self.store)  # which looks for its key
        elif captions.model is not None:
            auto.check(captions.model)
        if self.config.build.speech is not None:
            speech.check(self.config.build.speech.model, self.config.build.speech.language)

    def _check_benchmarks(self) -> None:
        self._judge  # noqa: B018 - which looks for its folder or key
        known, settings = self.config.evaluate.known(), self.config.evaluate
        for name in dict.fromkeys((*settings.tasks, *settings.finetune.tasks)):
            folder = self.benchmark(known[name])
            if settings.benchmarks is None:
                evaluator.check_judge(known[name], settings)
                continue  # the sandbox writes them later
            if not folder.is_dir():
                raise UserError(
                    "no such benchmark folder",
                    where=folder,
                    remedy=f"put {known[name].benchmark} there, or leave {name} out of evaluate.tasks",
                )
            evaluator.check(known[name], settings, folder, is_tuned=name in settings.finetune.tasks)

    # ---- what stages share ----

    @cached_property
    def template(self) -> verbalizer.Template:
        """The template of the config, fitted to what the run says."""
        return verbalizer.load_template(self.config.build.template).for_run(self.config.build.said)

    @cached_property
    def store(self) -> FrameStore:
        """Frames of the run's videos."""
        return FrameStore(self.folder / "frames")

    @cached_property
    def viewer(self) -> Any:
        """How media are looked at."""
        return blift.viewer(self.config.build, self.folder)

    @cached_property
    def sandbox(self) -> Path | None:
        """The sandbox's world, where the run has one."""
        for number, entry in enumerate(self.config.collect.sources):
            if entry.kind == "sandbox":
                # where it really lies: paths in it mean the same to every run that takes it over
                return fetched_folder(self.folder, number).resolve()
        return None

    def _from_sandbox(self, path: Path | None, name: str, key: str) -> Path:
        if path is not None:
            return path
        if self.sandbox is None:
            raise UserError(
                f"{key} is not given and there is no sandbox to take it from",
                where=self.config.name,
                remedy=f"set {key}",
            )
        return self.sandbox / name

    @property
    def instruction(self) -> Path:
        """The base's instruction data."""
        return self._from_sandbox(
            self.config.base.instruction, "instruction/instruction.json", "base.instruction"
        )

    def benchmark(self, task: Task) -> Path:
        """The folder of a task's benchmark."""
        return self._from_sandbox(
            self.config.evaluate.benchmarks, "benchmarks", "evaluate.benchmarks"
        ) / benchmarks.folder_name(task)

    def load(self, folder: str | Path) -> auto.VisionLanguageModel:
        """A model on the run's device."""
        return auto.load(str(folder), self.store, device=self.config.device)

    @contextmanager
    def stage(
        self, name: str, config: Any, inputs: dict[str, Stage | str]
    ) -> Iterator[tuple[Stage, dict[str, Any] | None]]:
        """A stage and the facts to fill in; None in their place where it is finished and to be skipped."""
        marks = {key: value if isinstance(value, str) else value.fingerprint for key, value in inputs.items()}
        stage = Stage(self.folder / name, name, config, marks)
        if stage.is_finished or any(stage.adopt(other / name) for other in self.like):
            if name not in self.told:
                self.told.add(name)
                log.info("%s is finished", name)
            yield stage, None
            return
        if self.is_looking:
            raise Unfinished(name)
        self.told.add(name)
        log.info("%s ...", name)
        with stage.work() as facts:
            yield stage, facts
        log.info("%s done in %s s", name, stage.manifest()["seconds"])

    # ---- stages ----

    def fetched(self, number: int) -> Stage | str:
        """One source's raw material as fetched by us; a word where a person brings it."""
        entry = self.config.collect.sources[number]
        source, settings = source_of(entry)
        if source.fetch is None:
            return "brought"
        with self.stage(
            f"fetched/{number}", {"kind": entry.kind, "settings": settings.model_dump(mode="json")}, {}
        ) as (stage, facts):
            if facts is not None:
                source.fetch(settings, stage.folder)
                forgotten = Forgotten.read(self.folder)
                if forgotten and source.erase is not None:
                    # what they left has come again
                    facts["forgotten"] = source.erase(settings, stage.folder, forgotten, False)
        return stage

    def source_state(self, number: int) -> str:
        """What identifies a source's raw material: its parts, in the state they are found in."""
        if number not in self._states:
            fetched = self.fetched(number)
            mark = fetched if isinstance(fetched, str) else fetched.fingerprint
            source, settings = source_of(self.config.collect.sources[number])
            parts = source.parts(settings, fetched_folder(self.folder, number))
            beside = [folder_state(path) for path in _paths(settings)]
            self._states[number] = fingerprint([mark, beside, *(part.key for part in parts)])
        return self._states[number]

    def collected(self) -> Stage:
        """Posts and comments of all sources."""
        inputs: dict[str, Stage | str] = {
            f"source {number}": self.source_state(number)
            for number in range(len(self.config.collect.sources))
        }
        inputs["forgotten"] = Forgotten.read(self.folder).fingerprint()
        config = {"collect": self.config.collect.model_dump(mode="json"), "limit": self.limit}
        with self.stage("collect", config, inputs) as (stage, facts):
            if facts is not None:
                facts |= collect(self.config.collect, self.folder, stage.folder, limit=self.limit)
        return stage

    def selected(self) -> Stage:
        """Posts that passed the filters, divided."""
        collected = self.collected()
        config = self.config.build.model_dump(mode="json", include={"filters", "splits", "exposure"})
        config["default filters"] = fingerprint(blift.DEFAULT_FILTERS)
        with self.stage("build/posts", config, {"collect": collected}) as (stage, facts):
            if facts is not None:
                facts |= blift.select(
                    self.config.build, collected.folder, stage.folder, self._measures_of(collected)
                )
        return stage

    def _measures_of(self, collected: Stage) -> funnel.Store:
        """Where the filters' measures of these posts are kept; those of other posts are let go."""
        folder = self.folder / "build" / "measures"
        for other in folder.glob("*"):
            if other.name != collected.fingerprint:
                shutil.rmtree(other)
        return funnel.Store(folder / collected.fingerprint, collected.fingerprint)

    def nothing_left(self) -> str | None:
        """Why no post passed the filters, as a clause; None where some did."""
        told = self.selected().manifest()
        return (
            None
            if told["kept"]
            else f"none of {told['rows_in']} posts is left (dropped: {told['nothing_left']})"
        )

    def require_posts(self) -> None:
        """Refuses to train arms on nothing.

        Raises:
            UserError: no post is left to learn from.
        """
        if self.trained_arms() and (nothing := self.nothing_left()) is not None:
            raise UserError(
                nothing,
                where=self.selected().folder,
                remedy="loosen the filters, or put the media where the source looks for them",
            )

    def built(self) -> list[Stage]:
        """What every arm learns, and the published data set; a build that leaves no post ends well and says
        so.
        """
        if (nothing := self.nothing_left()) is not None:
            log.warning(
                "%s; there is nothing to build, see %s", nothing, self.selected().folder / "manifest.json"
            )
            return []
        arms_of_seeds = [self.arm(name, seed) for seed in self.config.seeds for name in self.trained_arms()]
        return [*arms_of_seeds, self.published()]

    def trained_arms(self) -> list[str]:
        """The arms that are trained: all but base."""
        kinds = self.config.build.kinds
        return [name for name in self.config.arms if arms.arm(name, kinds, where="arms").is_trained]

    def instruction_rows(self) -> dict[str, list[Example]]:
        """The base's instruction rows, by data set."""
        if not hasattr(self, "_instruction"):
            unreadable = readable.listed(self.instruction_media().folder)
            rows = base.instruction_rows(self.instruction, self.viewer, unreadable)
            if self.limit is not None:
                rows = {name: values[: 4 * self.limit] for name, values in rows.items()}
            self._instruction = rows
        return self._instruction

    def instruction_media(self) -> Stage:
        """Which rows of the instruction data have media that cannot be read."""
        inputs = {"sandbox": self.fetched_sandbox(), "instruction": folder_state(self.instruction)}
        config = {"max_fault_rate": self.config.collect.max_fault_rate, "told": "content"}
        with self.stage("base/instruction", config, inputs) as (stage, facts):
            if facts is not None:
                rows = instruction.rows(self.instruction)
                shown = ((row.id, row.media) for row in rows if row.media is not None)
                rate, name = self.config.collect.max_fault_rate, "the instruction data"
                facts |= readable.find(shown, self.viewer, stage.folder, name=name, max_fault_rate=rate)
                with self.instruction.open("rb") as file:
                    facts["words"] = hashlib.file_digest(file, "sha256").hexdigest()
        return stage

    def post_media(self, seed: int) -> Stage:
        """Which posts that the arms of a seed learn from have media that cannot be read any more."""
        config = {"max_fault_rate": self.config.collect.max_fault_rate}
        # below build, which goes where a post is forgotten
        with self.stage(f"build/media/seed{seed}", config, {"posts": self.captions(seed)}) as (stage, facts):
            if facts is not None:
                shown = ((row.item.post.id, row.view.media()) for row in self.rows(seed, "train"))
                facts |= readable.find(shown, self.viewer, stage.folder, name="the posts", **config)
        return stage

    def find_unreadable(self) -> None:
        """Looks at all media that arms are trained on, before several processes would."""
        if self.trained_arms():
            for seed in self.config.seeds:
                self.post_media(seed)
            if self.config.training.ratio:
                self.instruction_media()

    def fetched_sandbox(self) -> Stage | str:
        """The sandbox's world where there is one; else a word."""
        for number, entry in enumerate(self.config.collect.sources):
            if entry.kind == "sandbox":
                return self.fetched(number)
        return "none"

    def base(self, seed: int) -> tuple[str, Stage | str]:
        """Where the base model is, and what identifies it."""
        model = self.config.model
        if model not in base.BUILT:
            return model, model
        settings = self.config.base
        config: dict[str, Any] = {"base": settings.of(model), "limit": self.limit}
        if model == "tiny":
            config["words"] = self.template.repeated_words(self.config.build.kinds)
        else:
            config["model"] = model
        seen = self.instruction_media()
        shown = seen.manifest()
        # by what the rows say and show, wherever they lie: worlds with other receivers have the same base
        inputs = {"words": shown["words"], "media": shown["content"]}
        with self.stage(f"base/seed{seed}", config, inputs) as (stage, facts):
            if facts is not None:
                facts["left_out"] = {"instruction": shown["unreadable"]}
                rows = self.instruction_rows()
                if model == "tiny":
                    start, told = self._sighted(stage.folder, rows, seed)
                    facts |= told
                else:
                    start = stage.folder / "joined"
                    if not start.exists():
                        smol.build(settings.smol, start, seed=seed)
                sizes = {name: float(len(values)) for name, values in rows.items()}
                label = f"training the base, seed {seed}"
                # the posts are described by the base itself: there are none to ask about yet
                probes = [] if settings.train.track_every is None else self.task_probes(seed)
                facts |= self._train(start, rows, sizes, settings.train, stage.folder, seed, label, probes)
        return str(stage.folder / "model"), stage

    def _sighted(
        self, folder: Path, rows: dict[str, list[Example]], seed: int
    ) -> tuple[Path, dict[str, Any]]:
        """The model `tiny`, of which only the vision tower has learned; with what is told of that."""
        settings, start = self.config.base, folder / "sighted"
        # written last: a model folder may be a part of one
        learned = start / "tower.json"
        if not learned.exists():
            random = folder / "random"
            words = self.template.repeated_words(self.config.build.kinds)
            base.build_tiny(settings.tiny, rows, words, random, seed=seed)
            model = self.load(random)
            seen = [row for values in rows.values() for row in values]
            told = tower.pretrain(model, seen, settings.tower, folder / "tower", seed=seed)
            model.save(start)
            write_json(learned, told)
        return start, json.loads(learned.read_text(encoding="utf-8"))

    @property
    def tracks(self) -> bool:
        """Whether anything is measured while a base or an arm trains."""
        settings = [self.config.training.train]
        if self.config.model in base.BUILT:
            settings.append(self.config.base.train)
        return any(one.track_every is not None for one in settings)

    def _probed_tasks(self) -> list[Task]:
        known = self.config.evaluate.known()
        return [known[name] for name in self.config.evaluate.tasks if probing.split_of(known[name])]

    def task_probes(self, seed: int) -> list[Probe]:
        """What is measured of the run's tasks while a model trains, on questions of their training splits."""
        if seed not in self._task_probes:
            self.fetched_sandbox()
            self._task_probes[seed] = [
                probing.questions(
                    evaluator.prepare(
                        task,
                        self.benchmark(task),
                        task.train_split,
                        self.viewer,
                        limit=self.config.training.probe_items,
                        seed=seed,
                    )
                )
                for task in self._probed_tasks()
            ]
        return self._task_probes[seed]

    def _probes(self, seed: int) -> list[Probe]:
        """What is measured while an arm trains: behavior of validation posts, and the run's tasks."""
        kinds, found = self.config.build.kinds, []
        asked = {
            kind: probing.posts(
                self.template,
                kinds,
                kind,
                self.rows(seed, "validation"),
                most=self.config.training.probe_items,
                seed=seed,
            )
            for kind in ("comments", "likes")
            if kind in kinds
        }
        if "comments" in asked:
            found.append(probing.comments(asked["comments"]))
        if "likes" in asked:
            tokens = self.config.evaluate.context_tokens
            found.append(probing.likes(asked["likes"], self._behaviors["likes"], max_new_tokens=tokens))
        return [*found, *self.task_probes(seed)]

    def _train(
        self,
        start: str | Path,
        rows: Mapping[str, Sequence[Example]],
        ratio: Mapping[str, float],
        settings: TrainConfig,
        folder: Path,
        seed: int,
        label: str,
        probes: Sequence[Probe] = (),
    ) -> dict[str, Any]:
        """Trains the model in `start` on the mixed rows; the facts for a manifest."""
        size = step_rows(settings)
        ordered = base.ordered(
            rows,
            ratio,
            epochs=settings.epochs,
            seed=seed,
            step_rows=size,
            max_passes=settings.max_passes,
            together=settings.keep_together,
        )
        learn = partial(_learn, seed=seed, label=label, probes=probes)
        load = partial(auto.load, str(start), self.store, device=self.config.device)
        facts = together.call(learn, load, ordered, settings, folder)
        return {**facts, "passes": ordered.passes, "step_rows": size}

    def describing(self, seed: int) -> blift.Describing:
        """Who describes the media of the kept posts."""
        config = self.config.build.captions
        generate: Generate
        if config.endpoint is not None:
            # a picture that the endpoint refuses is a counted fault, not the end
            identity, generate = self._remote.identity(), self._remote.answers
        else:
            place = config.model or self.base(seed)[0]
            identity, generate = self._identity(place), partial(self._generate, place)

        def writer(prompt: str, tokens: int) -> Writer:
            return Writer(generate=generate, identity=identity, prompt=prompt, max_new_tokens=tokens)

        is_trained_here = config.endpoint is None and config.model is None and self.config.model in base.BUILT
        says_tags = any("{tags}" in clause for clause in self.template.scene_more)
        has_tags = (says_tags and not is_trained_here) if config.tags is None else config.tags
        return blift.Describing(
            path=self.viewer.folder / "seen.sqlite",
            captions=writer(self.template.question.format(media="image"), config.tokens),
            tags=writer(config.ask_tags, config.tag_tokens) if has_tags else None,
            ears=self._ears,
        )

    def _identity(self, place: str) -> str:
        """The weights of a model folder, or the name and commit of one on the hub."""
        if place not in self._identities:
            folder = Path(place)
            self._identities[place] = auto.weights_hash(folder) if folder.is_dir() else auto.on_hub(place)
        return self._identities[place]

    @cached_property
    def _ears(self) -> Recognizer | None:
        config = self.config.build.speech
        return None if config is None else Recognizer(config)

    def _generate(self, place: str, examples: Sequence[Example], *, max_new_tokens: int) -> list[str]:
        """What a model writes; it is loaded when there is something to write."""
        if self._writer is None or self._writer[0] != place:
            self._writer = (place, self.load(place))
        return self._writer[1].generate(examples, max_new_tokens=max_new_tokens)

    @cached_property
    def _remote(self) -> RemoteModel:
        assert self.config.build.captions.endpoint is not None
        return RemoteModel(self.config.build.captions.endpoint, self.store)

    def captions(self, seed: int) -> Stage:
        """What every scene of the kept posts shows and what is said in them, in words; and the posts that can
        be said with these words.
        """
        selected, described = self.selected(), self.describing(seed)
        build = self.config.build
        config = {
            **build.model_dump(mode="json", include={"scenes", "max_scenes"}),
            "question": described.captions.prompt,
            "tokens": described.captions.max_new_tokens,
            "tags": None
            if described.tags is None
            else [described.tags.prompt, described.tags.max_new_tokens],
            "speech": None
            if build.speech is None
            else build.speech.model_dump(mode="json", exclude={"device"}),
            "rows": blift.ROWS_FORMAT,
        }
        inputs: dict[str, Stage | str] = {"writer": described.captions.identity, "posts": selected}
        if described.ears is not None:
            inputs["recognizer"] = described.ears.identity
        with self.stage(f"build/captions/seed{seed}", config, inputs) as (stage, facts):
            if facts is not None:
                posts = selected.manifest()["kept"]
                facts |= described.describe(selected.folder, self.viewer, build, posts)
                self._writer = None  # not beside the models that are trained
                if build.captions.endpoint is not None:
                    log.info("%s: %s", described.captions.identity, self._remote.usage.told())
                left_out = blift.write_rows(selected.folder, self.viewer, described, stage.folder)
                facts["left_out"] = left_out
                for split, reasons in left_out.items():
                    log.info("%s posts of %s are left out: %s", sum(reasons.values()), split, reasons)
        return stage

    def rows(self, seed: int, split: str) -> blift.Rows:
        """The posts of a split, ready to be said."""
        return blift.Rows(blift.rows_path(self.captions(seed).folder, split))

    def left_out(self, seed: int, split: str) -> dict[str, int]:
        """Why posts of a split cannot be said: reason -> posts."""
        return self.captions(seed).manifest()["left_out"].get(split, {})

    def arm(self, name: str, seed: int) -> Stage:
        """What one arm learns."""
        meaning = arms.arm(name, self.config.build.kinds, where="arms")
        config = {
            "arm": name,
            "template": self.template.model_dump(mode="json"),
            "build": self.config.build.model_dump(mode="json", include={"behaviors"}),
        }
        inputs: dict[str, Stage | str] = {"posts": self.selected(), "captions": self.captions(seed)}
        if meaning.is_matched:
            inputs["tokenizer"] = self.base(seed)[1]  # which counts how long the answers are
        with self.stage(f"build/arms/seed{seed}/{name}", config, inputs) as (stage, facts):
            if facts is not None:
                kinds, rows = self.config.build.kinds, self.rows(seed, "train")
                drawn = blift.exchange(self.template, kinds, rows, seed=seed)
                tokenizer = self._tokenizer(seed)
                examples = blift.arm_examples(
                    meaning,
                    self.template,
                    kinds,
                    rows,
                    drawn,
                    truth=blift.truth_of(self.sandbox or self.folder) if meaning.says == "truth" else {},
                    count=lambda text: len(tokenizer(text, add_special_tokens=False).input_ids),
                )
                facts["rows"] = blift.save(stage.folder / "examples.parquet", examples)
                facts["excluded"] = len(drawn.excluded)
                if not facts["rows"]:
                    reasons = ", ".join(
                        f"{reason} {count}" for reason, count in sorted(self.left_out(seed, "train").items())
                    )
                    raise UserError(
                        f"no post is left to learn from ({reasons or 'none could exchange its behavior'})",
                        where=stage.folder,
                        remedy="where captions are missing, train the base longer; else collect more posts",
                    )
                self._save_saw(stage.folder, meaning, rows, drawn)
                if meaning.says == "received":
                    left = blift.agreement(self.template, kinds, rows, drawn)
                    facts["agreement"] = left.told()
                    facts["shared_with_donor"] = dict(drawn.num_by_level)
        return stage

    def published(self) -> Stage:
        """The data set as others read it, with its card; described by the first seed's writer."""
        seed, build = self.config.seeds[0], self.config.build
        config = {
            "template": self.template.model_dump(mode="json"),
            "build": build.model_dump(mode="json", include={"behaviors", "media", "splits"}),
            "name": self.config.name,
        }
        inputs: dict[str, Stage | str] = {"posts": self.selected(), "captions": self.captions(seed)}
        with self.stage("blift", config, inputs) as (stage, facts):
            if facts is not None:
                left_out: Counter[str] = Counter()
                for split in SPLITS:
                    left_out.update(self.left_out(seed, split))
                facts |= publishing.publish(
                    (
                        sample
                        for split in SPLITS
                        for sample in blift.samples(self.template, build.kinds, self.rows(seed, split))
                    ),
                    stage.folder,
                    name=self.config.name,
                    facts=CardFacts(
                        arm="behavior",
                        template=self.template,
                        splits=build.splits,
                        survivors=self.selected().manifest()["survivors"],
                        left_out=left_out,
                    ),
                    media=build.media,
                )
        return stage

    def _tokenizer(self, seed: int) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.base(seed)[0])

    def trained(self, name: str, seed: int) -> tuple[str, Stage | str]:
        """Where one arm's model is, and what identifies it."""
        place, mark = self.base(seed)
        if not arms.arm(name, self.config.build.kinds, where="arms").is_trained:
            return place, mark
        built, settings = self.arm(name, seed), self.config.training
        config = {"training": settings.model_dump(mode="json"), "limit": self.limit}
        seen = {"behavior": self.post_media(seed)}
        if settings.ratio:
            seen["instruction"] = self.instruction_media()
        inputs = {
            "base": mark,
            "rows": built,
            "instruction": folder_state(self.instruction) if settings.ratio else "none",
            **{f"unreadable, {key}": readable.mark(found.folder) for key, found in seen.items()},
        }
        with self.stage(f"train/seed{seed}/{name}", config, inputs) as (stage, facts):
            if facts is not None:
                self._require_equal_steps(stage)
                # before the training: where that is cut off, a checkpoint has seen them
                part = stage.folder / f"{ledger.SAW}.part"
                shutil.copyfile(built.folder / ledger.SAW, part)
                part.replace(stage.folder / ledger.SAW)
                unreadable = readable.listed(seen["behavior"].folder)
                examples = blift.load(built.folder / "examples.parquet")
                own, left_out = readable.readable(examples, unreadable, name=f"arm {name}")
                facts["left_out"] = {key: found.manifest()["unreadable"] for key, found in seen.items()}
                facts["left_out"]["behavior"] = left_out
                others = self.instruction_rows() if settings.ratio else {}
                ratio = {"behavior": float(len(own))}
                total = sum(map(len, others.values()))
                ratio |= {key: settings.ratio * len(own) * len(rows) / total for key, rows in others.items()}
                mixed, label = {"behavior": own, **others}, f"training {name}, seed {seed}"
                probes = [] if settings.train.track_every is None else self._probes(seed)
                facts |= self._train(place, mixed, ratio, settings.train, stage.folder, seed, label, probes)
                self._write_card(stage.folder / "model", name, seed, built, mixed, facts["steps"])
        return str(stage.folder / "model"), stage

    def _require_equal_steps(self, stage: Stage) -> None:
        """Refuses to train an arm in steps of another size than the arms it is compared with."""
        size = step_rows(self.config.training.train)
        for path in self.folder.glob("train/seed*/*/manifest.json"):
            other = json.loads(path.read_text(encoding="utf-8"))
            if other["config"] == stage.plan["config"] and other.get("step_rows", size) != size:
                raise UserError(
                    f"a step would take {size} rows; those of {other['stage']} took {other['step_rows']}",
                    where=stage.name,
                    remedy="start as many processes as for the other arms",
                )

    def _write_card(
        self,
        folder: Path,
        name: str,
        seed: int,
        built: Stage,
        rows: Mapping[str, Sequence[Example]],
        steps: int,
    ) -> None:
        """What the model of an arm says of itself, to people and to those who ask it."""
        config = self.config
        manner.write(folder, manner.of(config.build, self._usual_questions(seed), arm=name))
        others = {key: folder_state(self.instruction) for key in rows if key != "behavior"}
        is_synthetic = self.sandbox is not None
        learned = (
            model_card.DataSet(
                f"{config.name}, rows of {name}",
                len(rows["behavior"]),
                built.fingerprint,
                is_synthetic=is_synthetic,
            ),
            *(
                model_card.DataSet(
                    key, len(rows[key]), mark, is_synthetic=is_synthetic and config.base.instruction is None
                )
                for key, mark in others.items()
            ),
        )
        said = {kind for row in rows["behavior"] for kind in row.behaviors}
        base_model = base.BUILT.get(config.model, config.model)
        if Path(base_model).exists():
            base_model = Path(base_model).name
        facts = model_card.Facts(
            name=f"{config.name}: {name}",
            arm=name,
            base_model=base_model,
            license=smol.LICENSE if config.model == "smol" else None,
            data=learned,
            behaviors=tuple(kind for kind in config.build.kinds if kind in said),
            num_steps=steps,
            weights_hash=auto.weights_hash(folder),
            seeds={"training": seed},
            settings=config.training.model_dump(mode="json"),
            versions=versions(),
        )
        model_card.write(folder, facts)

    def _save_saw(self, folder: Path, arm: arms.Arm, rows: Sequence[blift.Row], drawn: arms.Exchange) -> None:
        """Writes down, as one-way hashes, whose data an arm learns from: its posts, their authors, and where
        it says behavior everyone who commented, on the posts or on those whose behavior they got.
        """
        # a donor may be any of them
        excluded = frozenset() if arm.says == "received" else frozenset(drawn.excluded)

        def seen() -> Iterator[blift.Row]:
            return (row for row in rows if row.item.post.id not in excluded)

        def authors() -> Iterator[str | None]:
            for row in seen():
                yield row.item.post.author_hash
                if arm.says in ("own", "received") and arm.kinds_of(row.item.cluster):
                    yield from (comment.author_hash for comment in row.item.post.comments)

        ledger.save_saw(folder, (row.item.post.id for row in seen()), authors())

    # ---- evaluation ----

    def prepared(self, task: Task, split: str) -> Prepared:
        """A split of a task with its media measured; kept for the other arms."""
        key = f"_prepared_{task.name}_{split}"
        if not hasattr(self, key):
            self.fetched_sandbox()
            limits = [limit for limit in (self.limit, self.config.evaluate.limit) if limit is not None]
            limit = min(limits) if limits and split == task.test_split else None
            setattr(self, key, evaluator.prepare(task, self.benchmark(task), split, self.viewer, limit=limit))
        return getattr(self, key)

    def evaluated(self, name: str, seed: int) -> Stage:
        """All answers of one arm."""
        place, mark = self.trained(name, seed)
        settings = self.config.evaluate
        tasks = settings.known()
        config = {
            "evaluate": settings.model_dump(mode="json"),
            "template": self.template.model_dump(mode="json"),
            "build": self.config.build.model_dump(mode="json", include={"behaviors"}),
            "limit": self.limit,
        }
        inputs = {"model": mark, "captions": self.captions(seed), "sandbox": self.fetched_sandbox()}
        if settings.benchmarks is not None:
            inputs |= {task: folder_state(self.benchmark(tasks[task])) for task in settings.tasks}
        with self.stage(f"evaluate/seed{seed}/{name}", config, inputs) as (stage, facts):
            if facts is not None:
                tables = itertools.chain(
                    [self._answers(place, name, seed)],
                    (
                        self._finetuned(place, name, seed, tasks[key], fraction, stage)
                        for key in settings.finetune.tasks
                        for fraction in settings.finetune.fractions
                    ),
                )
                facts["predictions"] = parquet.write_tables(
                    stage.folder / "predictions.parquet", PREDICTIONS, itertools.chain.from_iterable(tables)
                )
                # asked, the models are of no more use: an arm has one for every task and share of labels
                for place in stage.folder.glob("finetuned/*/model"):
                    place.with_name("trained.json").unlink(missing_ok=True)
                    shutil.rmtree(place)
        return stage

    def _answers(self, place: str, name: str, seed: int) -> Iterator[pa.Table]:
        """Those of an arm to all tasks, and what it predicts of held-out posts."""
        settings, tasks = self.config.evaluate, self.config.evaluate.known()
        contests = [contest for key in settings.tasks for contest in self._contests(tasks[key])]
        asked = self._asked(place, name, seed)
        return evaluator.ask(
            asked,
            contests,
            settings,
            self._journal(asked),
            self._heldout(seed),
            self._behaviors,
            self._judge,
        )

    def _contests(self, task: Task) -> list[evaluator.Contest]:
        """A task in every setting; kept for the other arms."""
        key = f"_contests_{task.name}"
        if not hasattr(self, key):
            prepared = self.prepared(task, task.test_split)
            found = evaluator.contests(
                prepared, self.config.evaluate, self.benchmark(task), self.viewer, self._priors(task)
            )
            setattr(self, key, found)
        return getattr(self, key)

    @cached_property
    def _judge(self) -> Judge | None:
        config = self.config.evaluate.judge
        return None if config is None else judge.of(config, self.store, self.config.device)

    def _journal(self, asked: Asked) -> Path:
        """Apart from the stages: what a model answered outlives a change of what else is asked."""
        return self.folder / "journal" / fingerprint(asked.weights)

    def _priors(self, task: Task, *, is_trained: bool = False) -> dict[Scoring, tuple[Question, ...]]:
        """Questions whose answers tell how likely each label of a task is anyway; kept for the other arms.

        Args:
            is_trained: on the task's training split.
        """
        key = (task.name, is_trained)
        if key not in self._known_priors:
            self._known_priors[key] = evaluator.priors(
                self.prepared(task, task.test_split),
                self.config.evaluate,
                self.benchmark(task),
                self.viewer,
                self.store,
                without=(task.train_split,) if is_trained else (),
            )
        return self._known_priors[key]

    def _asked(self, place: str, name: str, seed: int) -> Asked:
        return Asked(
            load=partial(auto.load, place, self.store, device=self.config.device),
            weights=self._identity(place),
            arm=name,
            seed=seed,
            describe={
                kind: verbalizer.ask(self.template, (), Post(id="", source="", media_kind=kind))
                for kind in ("image", "video")
            },
            verbalize=self._usual_questions(seed),
            separator=self.template.separator,
        )

    def _usual_questions(self, seed: int) -> dict[MediaKind, str]:
        """What is asked of media that come without a post, such as a benchmark's: what training asked."""
        rows = self.rows(seed, "train")
        kinds = self.config.build.kinds
        return {kind: blift.usual_question(self.template, kinds, rows, kind) for kind in ("image", "video")}

    def _heldout(self, seed: int) -> list[evaluator.HeldOut]:
        found = []
        kinds = self.config.build.kinds
        for row, example, given in blift.heldout(self.template, kinds, self.rows(seed, "heldout")):
            giver = verbalizer.Received(row.item.post, row.scenes)
            values = {kind: blift.sayable(self.template, kind, giver) for kind in kinds}
            found.append(
                evaluator.HeldOut(
                    post_id=row.item.post.id,
                    cluster=row.item.cluster,
                    example=example,
                    given=given,
                    values={kind: value for kind, value in values.items() if value is not None},
                )
            )
        return found

    @property
    def _behaviors(self) -> dict[str, Behavior[Any]]:
        kinds = self.config.build.kinds
        return {kind: verbalizer.behavior_of(kind, where="build.behaviors") for kind in kinds}

    def _finetuned(
        self, place: str, name: str, seed: int, task: Task, fraction: float, stage: Stage
    ) -> Iterator[pa.Table]:
        settings = self.config.evaluate.finetune
        folder = stage.folder / "finetuned" / f"{task.name}-{fraction:g}"
        questions = self.prepared(task, task.train_split).questions
        # written last: a model folder may be a part of one
        if not (folder / "trained.json").exists():
            rows = [question.example for question in questions]
            order = base.mixture.order({"labels": len(rows)}, {"labels": 1.0}, epochs=1, seed=seed)[0][1]
            share = [rows[index] for index in order[: max(1, round(fraction * len(rows)))]]
            label = f"{name}: fine-tuning on {len(share)} labels of {task.name}"
            told = self._train(place, {"labels": share}, {"labels": 1.0}, settings.train, folder, seed, label)
            write_json(folder / "trained.json", told)
        asked = self._asked(str(folder / "model"), name, seed)
        prepared, priors = self.prepared(task, task.test_split), self._priors(task, is_trained=True)
        contest = evaluator.Contest(prepared, "finetuned", priors, fraction)
        return evaluator.ask(asked, [contest], self.config.evaluate, self._journal(asked), judge=self._judge)

    def scored(self) -> Stage:
        """Every arm's scores as tables, without statistics."""
        cells = {
            (name, seed): self.evaluated(name, seed)
            for seed in self.config.seeds
            for name in self.config.arms
        }
        inputs: dict[str, Stage | str] = {
            f"{name} seed {seed}": stage for (name, seed), stage in cells.items()
        }
        with self.stage("evaluate/scores", {"limit": self.limit}, inputs) as (stage, facts):
            if facts is not None:
                answers = [one.folder / "predictions.parquet" for one in cells.values()]
                tasks = self._asked_tasks()
                missing = {task.name: self.prepared(task, task.test_split).missing for task in tasks}
                facts["scores"] = scores.write(answers, self.task_facts(), missing, stage.folder)
        return stage

    # ---- test samples in training data ----

    def contaminated(self) -> Stage:
        """Which test samples stand in what the arms were trained on."""
        tasks, settings = self._asked_tasks(), self.config.evaluate
        learned = {
            f"{name} seed {seed}": self.arm(name, seed)
            for seed in self.config.seeds
            for name in self.trained_arms()
        }
        config = {
            "tasks": {task.name: [task.version, task.test_split, task.question] for task in tasks},
            "limit": self.limit,
            "samples": settings.limit,
            "check": contamination.settings(),
        }
        inputs: dict[str, Stage | str] = {"sandbox": self.fetched_sandbox(), **learned}
        inputs["instruction"] = folder_state(self.instruction) if self._learns_instruction else "none"
        if settings.benchmarks is not None:
            inputs |= {task.name: folder_state(self.benchmark(task)) for task in tasks}
        with self.stage("evaluate/contamination", config, inputs) as (stage, facts):
            if facts is not None:
                found = contamination.check(
                    [self.prepared(task, task.test_split) for task in tasks],
                    partial(self._learned_rows, learned),
                    self.viewer,
                )
                parquet.write_table(stage.folder / "hits.parquet", found.hits)
                facts |= found.facts
        return stage

    def _asked_tasks(self) -> list[Task]:
        known, settings = self.config.evaluate.known(), self.config.evaluate
        return [known[name] for name in dict.fromkeys((*settings.tasks, *settings.finetune.tasks))]

    @property
    def _learns_instruction(self) -> bool:
        """Whether instruction data were trained on: by a base made here, or beside the arms' rows."""
        config = self.config
        return config.model in base.BUILT or (config.training.ratio > 0 and bool(self.trained_arms()))

    def _learned_rows(self, learned: Mapping[str, Stage]) -> Iterator[tuple[str, Example]]:
        """All rows that something was trained on, with the name of their data set."""
        if self._learns_instruction:
            for name, rows in self.instruction_rows().items():
                yield from ((name, row) for row in rows)
        for name, stage in learned.items():
            yield from ((name, row) for row in blift.load(stage.folder / "examples.parquet"))

    # ---- report ----

    def reported(self) -> Stage:
        """The page and summary.json."""
        cells = self._evaluated_cells()
        config = {
            "report": self.config.report.model_dump(mode="json"),
            "name": self.config.name,
            "limit": self.limit,
            "format": report.FORMAT,
        }
        inputs: dict[str, Stage | str] = {
            f"{name} seed {seed}": stage for (name, seed), stage in cells.items()
        }
        checked = inputs["contamination"] = self.contaminated()
        scored = inputs["scores"] = self.scored()
        with self.stage("report", config, inputs) as (stage, facts):
            if facts is not None:
                facts |= report.write(
                    self._material(cells, checked, scored), self.config.report, stage.folder
                )
        return stage

    def site(self, folder: Path) -> Path:
        """Writes the project page of the finished report to a folder; returns the page's path.

        Raises:
            UserError: the folder has a page that is not ours.
        """
        finished = self.reported()
        material = self._material(self._evaluated_cells(), self.contaminated(), self.scored())
        result = json.loads((finished.folder / report.SUMMARY).read_text(encoding="utf-8"))
        table = report.predictions(material.predictions)
        return site.write(report.content(material, result, table, self.config.report), folder)

    def _evaluated_cells(self) -> dict[tuple[str, int], Stage]:
        return {
            (name, seed): self.evaluated(name, seed)
            for seed in self.config.seeds
            for name in self.config.arms
        }

    def _material(
        self, cells: dict[tuple[str, int], Stage], checked: Stage, scored: Stage
    ) -> report.Material:
        tasks, questions, media = self._task_facts()
        trained = {cell: Path(self.trained(*cell)[0]).parent for cell in cells}
        shuffled = [self.arm(name, seed).manifest() for name, seed in cells if name == "shuffled"]
        collected = self.collected().manifest()
        contaminated: dict[str, set[str]] = {}
        for hit in pq.read_table(checked.folder / "hits.parquet").to_pylist():
            contaminated.setdefault(hit["task"], set()).add(hit["sample_id"])
        return report.Material(
            title=self.config.name,
            primary=self.config.evaluate.primary,
            arms=self.config.arms,
            predictions=[stage.folder / "predictions.parquet" for stage in cells.values()],
            tasks=tasks,
            questions=questions,
            media=media,
            store=self.store,
            config_text=as_yaml(self.config),
            survivors=self.selected().manifest()["survivors"],
            faults=collected["faults"],
            losses={
                cell: [(int(step), loss) for step, loss in loss_curve(folder)]
                for cell, folder in trained.items()
                if (folder / "loss.json").exists()
            },
            tracked={
                cell: measured(folder) for cell, folder in trained.items() if (folder / TRACKED).exists()
            },
            agreement=shuffled[0]["agreement"] if shuffled else {},
            contaminated=contaminated,
            contamination=checked.manifest(),
            costs=self.costs(),
            synthetic=self.sandbox is not None,
            notes=[
                "The primary setting, written in the config before arms were compared, is "
                f"{self.config.evaluate.primary}.",
                *scores.notes(pq.read_table(scored.folder / "scores.parquet").to_pylist(), tasks),
            ],
            lineage=lineage.steps(self.folder),
            cards={
                name: card
                for (name, seed) in cells
                if name in self.trained_arms()
                and seed == self.config.seeds[0]
                and (card := trained[name, seed] / "model" / model_card.CARD).exists()
            },
            data_card=self.published().folder / publishing.README,
        )

    def task_facts(self) -> dict[str, dict[str, Any]]:
        """What is known of every task, as `summarize` takes it."""
        return self._task_facts()[0]

    def _task_facts(self) -> tuple[dict[str, dict[str, Any]], dict[str, str], dict[tuple[str, str], Media]]:
        """What the report says about tasks: facts, the question asked, and the media of their samples."""
        tasks: dict[str, dict[str, Any]] = {}
        questions: dict[str, str] = {}
        media: dict[tuple[str, str], Media] = {}
        known = self.config.evaluate.known()
        for name in dict.fromkeys((*self.config.evaluate.tasks, *self.config.evaluate.finetune.tasks)):
            task = known[name]
            prepared = self.prepared(task, task.test_split)
            # the paper's numbers are of the real benchmarks
            tasks[name] = evaluator.facts(prepared, is_real=self.config.evaluate.benchmarks is not None)
            questions[name] = task.question
            if benchmarks.ASKED in task.question:
                questions |= {
                    f"{name}:{question.sample_id}": question.example.prompt for question in prepared.questions
                }
            media |= {
                (name, question.sample_id): question.example.media
                for question in prepared.questions
                if question.example.media is not None
            }
        posts = self._heldout(self.config.seeds[0])
        question = self._usual_questions(self.config.seeds[0])["image"]
        for name, facts in evaluator.heldout_tasks(posts, self._behaviors).items():
            tasks[name] = {**facts, "low_level": False, "published": None, "listed": None}
            questions[name] = question
            media |= {
                (name, post.post_id): post.example.media for post in posts if post.example.media is not None
            }
        return tasks, questions, media

    def costs(self) -> dict[str, float]:
        """Seconds of every finished stage; of one that was taken over, what it took where it was done."""
        return {told["stage"]: told["seconds"] for _, told in finished_stages(self.folder)}


def _learn(
    load: Callable[[], auto.VisionLanguageModel],
    rows: Sequence[Example],
    settings: TrainConfig,
    folder: Path,
    *,
    seed: int,
    label: str,
    probes: Sequence[Probe],
) -> dict[str, Any]:
    """Loads a model and trains it, in every process that takes part."""
    return train(load(), rows, settings, folder, seed=seed, label=label, probes=probes)


class Unfinished(Exception):
    """A stage that is not finished, met by one who only looks."""


def as_yaml(config: RunConfig) -> str:
    """A config with every default written out."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _paths(settings: Any) -> list[Path]:
    return [value for _, value in settings if isinstance(value, Path)]

"""`evaluate --model`: one model, some benchmarks' folders, and nothing else of a run.

In: a folder or hub name of a model and a folder with one sub-folder a benchmark. Out, in a folder laid out as
a run's: predictions, scores and a Markdown table, which `report` compares with those of other models or runs.
Answers are kept in a journal, so a killed call continues.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa

from behavior_llava.core import parquet
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import Stage, fingerprint, folder_state, only_one
from behavior_llava.core.media import FrameStore
from behavior_llava.core.schema import Post, Task
from behavior_llava.data import blift, verbalizer
from behavior_llava.evaluation import benchmarks, evaluator, judge, scores
from behavior_llava.evaluation.evaluator import Asked, EvaluateConfig
from behavior_llava.evaluation.summary import PREDICTIONS
from behavior_llava.models import auto


def evaluate(
    model: str, config: EvaluateConfig, folder: Path, *, device: str = "auto", limit: int | None = None
) -> Path:
    """Asks one model all tasks of the config in all its settings; returns the folder of the scores.

    Args:
        config: `benchmarks` is the folder of benchmarks.
        folder: where predictions and scores go; laid out as a run's folder.

    Raises:
        UserError: no such model, task or benchmark, or what a setting needs is missing.
    """
    if config.benchmarks is None:
        raise UserError("no folder of benchmarks", where="evaluate", remedy="give it as --data")
    if config.finetune.tasks:
        raise UserError(
            "a model alone is not fine-tuned", where="finetune", remedy="write a config for a run"
        )
    for task in map(config.task_named, config.tasks):
        place = config.benchmarks / benchmarks.folder_name(task)
        if not place.is_dir():
            raise UserError(
                "no such benchmark folder",
                where=place,
                remedy=f"put {task.benchmark} there, or leave {task.name} out of --tasks",
            )
        evaluator.check(task, config, place, is_tuned=False)
    auto.check(model)
    with only_one(folder):
        alone = _Alone(model, config, folder, device, limit)
        arm = alone.answered()
        return alone.scored(arm)


def name_of(model: str) -> str:
    """What a model is called: its folder's or hub name's last part; an arm, whose folder is called model, by
    the arm.
    """
    place = Path(model).resolve() if Path(model).is_dir() else Path(model)
    return place.parent.name if place.name == "model" else place.name


class _Alone:
    """One call at work."""

    def __init__(
        self, model: str, config: EvaluateConfig, folder: Path, device: str, limit: int | None
    ) -> None:
        self._model, self._config, self._folder = model, config, folder
        self._device, self._limit = device, limit
        self._build = blift.BuildConfig()
        self._store = FrameStore(folder / "frames")
        self._viewer = blift.viewer(self._build, folder)
        self._tasks = [config.task_named(name) for name in config.tasks]
        self._prepared = {
            task.name: evaluator.prepare(
                task, self._place(task), task.test_split, self._viewer, limit=self._least()
            )
            for task in self._tasks
        }

    def _place(self, task: Task) -> Path:
        assert self._config.benchmarks is not None
        return self._config.benchmarks / benchmarks.folder_name(task)

    def _least(self) -> int | None:
        limits = [limit for limit in (self._limit, self._config.limit) if limit is not None]
        return min(limits) if limits else None

    def answered(self) -> Stage:
        place = Path(self._model)
        weights = auto.weights_hash(place) if place.is_dir() else auto.on_hub(self._model)
        name = name_of(self._model)
        inputs = {"model": weights} | {task.name: folder_state(self._place(task)) for task in self._tasks}
        config = {"evaluate": self._config.model_dump(mode="json"), "limit": self._limit}
        stage = Stage(self._folder / "evaluate" / "seed0" / name, f"evaluate/seed0/{name}", config, inputs)
        if not stage.is_finished:
            with stage.work() as facts:
                facts["predictions"] = parquet.write_tables(
                    stage.folder / "predictions.parquet", PREDICTIONS, self._answers(weights, name)
                )
        return stage

    def _answers(self, weights: str, name: str) -> Iterator[pa.Table]:
        template = verbalizer.load_template(self._build.template).for_run(self._build.said)
        kinds = self._build.kinds
        asked = Asked(
            load=partial(auto.load, self._model, self._store, device=self._device),
            weights=weights,
            arm=name,
            seed=0,
            describe={
                kind: verbalizer.ask(template, (), Post(id="", source="", media_kind=kind))
                for kind in ("image", "video")
            },
            verbalize={kind: blift.usual_question(template, kinds, (), kind) for kind in ("image", "video")},
            separator=template.separator,
        )
        contests = itertools.chain.from_iterable(
            evaluator.contests(
                self._prepared[task.name],
                self._config,
                self._place(task),
                self._viewer,
                evaluator.priors(
                    self._prepared[task.name], self._config, self._place(task), self._viewer, self._store
                ),
            )
            for task in self._tasks
        )
        wanted = self._config.judge
        return evaluator.ask(
            asked,
            list(contests),
            self._config,
            self._folder / "journal" / fingerprint(weights),
            judge=None if wanted is None else judge.of(wanted, self._store, self._device),
        )

    def scored(self, arm: Stage) -> Path:
        stage = Stage(
            self._folder / "evaluate" / "scores", "evaluate/scores", {}, {arm.name: arm.fingerprint}
        )
        if not stage.is_finished:
            with stage.work() as facts:
                assert self._config.benchmarks is not None
                # the sandbox's benchmarks lie beside its truth
                is_real = not (self._config.benchmarks.resolve().parent / "truth.json").exists()
                told = {
                    name: evaluator.facts(prepared, is_real=is_real)
                    for name, prepared in self._prepared.items()
                }
                missing = {name: prepared.missing for name, prepared in self._prepared.items()}
                facts["scores"] = scores.write(
                    [arm.folder / "predictions.parquet"], told, missing, stage.folder
                )
        return stage.folder

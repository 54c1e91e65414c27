"""The whole way through: a config, and the five verbs that take it to a report.

    collect   sources are fetched and read: posts, comments, what their media files are
    build     filters, splits, what is seen; the base model is made ready and writes the captions; each
              arm's rows
    train     every arm from the same base, on equally many rows in the same order
    evaluate  every arm on every task, in every setting; fine-tuned on shares of the labels
    report    one page and summary.json

Each verb runs what it needs before itself. Stages talk through folders under the run's folder; a finished one
is skipped, a cut-off one continues, and one whose settings or inputs changed starts again and says why.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from behavior_llava import forgetting
from behavior_llava.core import together
from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import LOCK, only_one
from behavior_llava.core.processes import run as run_side_by_side
from behavior_llava.stages import Run, RunConfig, Unfinished, as_yaml
from behavior_llava.training import base

VERBS = ("collect", "build", "train", "evaluate", "report")


def run(
    config: RunConfig,
    folder: Path,
    *,
    until: str = "report",
    limit: int | None = None,
    like: Sequence[Path] = (),
    only: Sequence[Cell] | None = None,
) -> Run:
    """Runs the stages up to and including a verb.

    In a program of one's own that torchrun starts, `core.together.work` calls this.

    Args:
        config: of the run.
        folder: where its stages lie.
        until: the last verb.
        limit: posts a source and samples a task, at most; None for all.
        like: folders of other runs: their finished stages are taken over where they are the very same.
        only: cells that are trained or evaluated; with it, `evaluate` leaves out the scores of all. None for
            all.

    Raises:
        UserError: the input is at fault; what is finished stays finished.
    """
    work = Run(config, folder, limit, tuple(like))
    steps: dict[str, Callable[[], Any]] = {
        "collect": work.collected,
        "build": lambda: _built(work),
        "train": lambda: _cells(work, "train", only),
        "evaluate": lambda: (_cells(work, "evaluate", only), None if only is not None else work.scored()),
        "report": lambda: (_cells(work, "evaluate"), work.scored(), work.reported()),
    }
    _refuse_foreign(folder)
    _refuse_processes(config)
    work.check(until)
    with only_one(folder):
        forgetting.finish(folder)
        (folder / "config.yaml").write_text(as_yaml(config), encoding="utf-8")
        if until not in ("collect", "build"):
            work.require_posts()
        steps[until]()
    return work


def _refuse_foreign(folder: Path) -> None:
    if folder.is_file():
        raise UserError("is a file", where=folder, remedy="give a folder as --out")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LOCK).exists():
        raise UserError("holds files that no run wrote", where=folder, remedy="choose another --out")


def _refuse_processes(config: RunConfig) -> None:
    if together.count() == 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError(
            "several processes run the same stages",
            where="WORLD_SIZE",
            remedy="call this through behavior_llava.core.together.work",
        )
    if config.side_by_side > 1 and together.count() > 1:
        raise UserError(
            f"{config.side_by_side} arms at a time, by {together.count()} processes that train each together",
            where="side_by_side",
            remedy="add --set side_by_side=1, or start one process",
        )


# ---- arms and seeds side by side ---------------------------------------------------------------------------

Cell = tuple[str, int]
"""An arm and a seed."""
Job = tuple[str, tuple[Any, ...]]
"""A method of Run that makes a stage, and its arguments."""


def _built(work: Run) -> None:
    """What every arm learns; base models and captions of several seeds are made side by side."""
    if work.nothing_left() is None:
        seeds, captions = work.config.seeds, work.config.build.captions
        processes = min(work.config.side_by_side, len(seeds))
        # a writer that all seeds share is asked by one after the other, so that nothing is asked twice
        is_shared = captions.model is not None or captions.endpoint is not None
        _side_by_side(work, [("base" if is_shared else "captions", (seed,)) for seed in seeds], processes)
    work.built()


def _cells(work: Run, verb: Literal["train", "evaluate"], only: Sequence[Cell] | None = None) -> None:
    """Trains or evaluates the cells, by default all, as many at a time as the config says."""
    # what all share is made ready once, before several processes would
    _built(work)
    work.find_unreadable()
    cells = [(name, seed) for seed in work.config.seeds for name in work.config.arms]
    if only is not None:
        cells = [cell for cell in cells if cell in only]
    if work.tracks:
        for seed in work.config.seeds:
            work.task_probes(seed)
    jobs: list[Job] = [("trained", cell) for cell in cells if cell[0] in work.trained_arms()]
    if verb == "evaluate":
        settings = work.config.evaluate
        tasks = settings.known()
        for name in settings.tasks:
            work.prepared(tasks[name], tasks[name].test_split)
        for name in settings.finetune.tasks:
            work.prepared(tasks[name], tasks[name].train_split)
        jobs += [("evaluated", cell) for cell in cells]
    _side_by_side(work, jobs, work.config.side_by_side)


def _side_by_side(work: Run, jobs: list[Job], processes: int) -> None:
    """Does the jobs in so many processes, or here if it is one.

    A process's share of the cores follows from the config alone, never from the verb or from what is left to
    do: the last digits of all numbers depend on it.
    """
    if processes == 1:
        for method, cell in jobs:
            getattr(work, method)(*cell)
        return
    threads = max(1, (os.cpu_count() or 1) // processes)
    unfinished = [job for job in jobs if not _is_finished(work, job)]
    if unfinished and work.config.model in base.BUILT:
        work.instruction_rows()
    told = frozenset(work.told)
    number_of = {job: number for number, job in enumerate(unfinished)}
    run_side_by_side(
        _work,
        [(work.config, work.folder, (work.limit, work.like), told, threads, job) for job in unfinished],
        processes=processes,
        after={
            number: number_of["trained", cell]
            for (method, cell), number in number_of.items()
            if method == "evaluated" and ("trained", cell) in number_of
        },
    )


def _is_finished(work: Run, job: Job) -> bool:
    method, cell = job
    work.is_looking = True
    try:
        getattr(work, method)(*cell)
    except Unfinished:
        return False
    finally:
        work.is_looking = False
    return True


def _work(
    config: RunConfig,
    folder: Path,
    bounds: tuple[int | None, tuple[Path, ...]],
    told: frozenset[str],
    threads: int,
    job: Job,
) -> None:
    """One job of a run in a process of its own."""
    import torch
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(threads)
    transformers_logging.disable_progress_bar()
    method, cell = job
    getattr(Run(config, folder, *bounds, told=set(told)), method)(*cell)

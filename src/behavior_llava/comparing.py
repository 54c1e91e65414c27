"""`report RUN RUN ...`: the answers of several runs, or of single models, in one report.

In: folders that `evaluate` or `report` wrote. Out: a page and a summary.json in which an arm is called
"<run>/<arm>". Within a run behavior meets its own controls; across runs an arm meets the arm of the same name
in the first run. What only some of the runs were asked is shown for these; where two were asked the same but
of other samples, that is an error, as nothing could be compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import MANIFEST
from behavior_llava.core.progress import progress
from behavior_llava.evaluation import benchmarks, evaluator, scores, summary
from behavior_llava.reporting import report, samples
from behavior_llava.reporting.content import PageContent
from behavior_llava.training.trainer import loss_curve

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_FACTS = ("benchmark", "metric", "modality", "low_level")


@dataclass(frozen=True)
class _Run:
    """One run's answers.

    Attributes:
        arms: in the order they stand in its files.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    tasks: Mapping[str, Mapping[str, Any]]
    arms: tuple[str, ...]


def compare(folders: Sequence[Path], out: Path, config: summary.Config | None = None) -> Path:
    """Writes summary.json, the page, the sample browser, charts and tables to `out`; returns the page's path.

    Raises:
        UserError: a folder holds no finished evaluation, two runs have one name, or they differ in what a
            task is or in its samples.
    """
    runs = [_read(folder) for folder in folders]
    if len({run.name for run in runs}) < len(runs):
        raise UserError(
            "two of the runs have the same name",
            where=", ".join(str(run.folder) for run in runs),
            remedy="rename one of the folders: arms are told apart by it",
        )
    tasks = _tasks(runs)
    table = pa.concat_tables([_table(run) for run in runs], promote_options="default")
    other = _other_posts(table)
    table = table.filter(pc.invert(pc.is_in(table["task"], value_set=pa.array(sorted(other), pa.string()))))
    tasks = {name: facts for name, facts in tasks.items() if name not in other}
    arms = [f"{run.name}/{arm}" for run in runs for arm in run.arms]
    with progress("statistics", None) as advance:
        synthetic = any(facts.get("synthetic") for facts in tasks.values())
        found = summary.summarize(table, tasks, arms, config, synthetic=synthetic, duels=_duels(runs))
        advance()
    out.mkdir(parents=True, exist_ok=True)
    (out / report.SUMMARY).write_text(summary.to_json(found), encoding="utf-8")
    title = " and ".join(run.name for run in runs)
    browsed = samples.Browsed(
        title=title,
        table=table,
        arms=arms,
        question=_question,
        look=lambda task, _, path: _look(tasks[task]["modality"], path),
        most=report.ReportConfig().browse,
        synthetic=synthetic,
    )
    content = PageContent(
        title=title,
        summary=found,
        tasks=tasks,
        config_text="\n".join(_config_text(run) for run in runs),
        survivors=_survivors(runs),
        losses={
            (f"{run.name}/{folder.name}", int(folder.parent.name.removeprefix("seed"))): [
                (int(step), loss) for step, loss in loss_curve(folder)
            ]
            for run in runs
            for folder in sorted((run.folder / "train").glob("seed*/*"))
            if (folder / "loss.json").exists()
        },
        costs={f"{run.name}: {stage}": seconds for run in runs for stage, seconds in _costs(run).items()},
        synthetic=synthetic,
        notes=[
            f"The runs held out other posts, or their receivers did other things: {', '.join(sorted(other))} "
            "cannot be compared and stand in each run's own report."
        ]
        if other
        else (),
        is_comparison=True,
        num_browsable=samples.write(browsed, out),
        has_files=True,
    )
    return report.write_files(content, out)


def _config_text(run: _Run) -> str:
    """A run's settings; of a model that was evaluated alone there are none."""
    path = run.folder / "config.yaml"
    return f"# {run.name}\n{path.read_text(encoding='utf-8')}" if path.is_file() else ""


def _survivors(runs: Sequence[_Run]) -> dict[str, list[dict[str, Any]]]:
    """What the filters of every run left, by run and source."""
    found = {}
    for run in runs:
        path = run.folder / "build" / "posts" / MANIFEST
        if path.is_file():
            told = json.loads(path.read_text(encoding="utf-8"))["survivors"]
            found |= {f"{run.name}: {source}": rows for source, rows in told.items()}
    return found


def _costs(run: _Run) -> dict[str, float]:
    """Seconds of every stage that this run worked at; one taken over from another counts there."""
    manifests = [path for path in run.folder.glob(f"**/{MANIFEST}") if not path.parent.is_symlink()]
    told = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(manifests)]
    return {one["stage"]: one["seconds"] for one in told}


def _question(task: str, _: str) -> str:
    """The words of the task's declaration: what a single sample was asked stands in no file of answers."""
    known = benchmarks.all_tasks().get(task)
    return f"a question of {task}" if known is None else known.question


def _look(modality: str, path: str | None) -> samples.Look | None:
    """A picture by the place it was read from; of a film no frame is at hand."""
    if path is None:
        return None
    if modality == "video":
        return samples.Look(key=path, kind="video", pictures=list)
    return samples.Look(key=path, kind="image", pictures=lambda: [Path(path)])


def _read(folder: Path) -> _Run:
    told = folder / "evaluate" / "scores" / scores.TASKS
    files = tuple(sorted((folder / "evaluate").glob("seed*/*/predictions.parquet")))
    finished = tuple(path for path in files if (path.parent / "manifest.json").exists())
    if not told.exists() or not finished:
        raise UserError(
            "no finished evaluation",
            where=folder,
            remedy="give the folder of a run that went through `evaluate`, or of `evaluate --model`",
        )
    columns = [pq.read_table(path, columns=["arm"])["arm"] for path in finished]
    arms = [arm for column in columns for arm in column.unique().to_pylist()]
    names = tuple(dict.fromkeys(arms))
    tasks = json.loads(told.read_text(encoding="utf-8"))
    return _Run(folder.resolve().name, folder, finished, tasks, names)


def _table(run: _Run) -> pa.Table:
    table = report.predictions(run.files)
    named = pa.array([f"{run.name}/{arm}" for arm in table["arm"].to_pylist()])
    return table.set_column(table.schema.get_field_index("arm"), "arm", named)


def _tasks(runs: Sequence[_Run]) -> dict[str, Mapping[str, Any]]:
    """What is known of every task; the runs must agree on what it is."""
    found: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        for name, facts in run.tasks.items():
            known = found.setdefault(name, facts)
            other = [key for key in _FACTS if known[key] != facts[key]]
            if other:
                raise UserError(
                    f"{name} has another {other[0]} than in {runs[0].name}",
                    where=run.folder,
                    remedy="evaluate all runs with the same version",
                )
    return found


def _other_posts(table: pa.Table) -> set[str]:
    """The tasks on held-out posts that are not the same in all runs that have them: with other filters or
    sources other posts are held out, and their receivers did other things.
    """
    held = table.filter(pc.field("benchmark") == evaluator.HELDOUT)
    seen: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for batch in held.select(["task", "arm", "sample_id", "label"]).to_batches():
        for row in batch.to_pylist():
            run = row["arm"].rpartition("/")[0]
            seen.setdefault((row["task"], run), set()).add((row["sample_id"], row["label"]))
    of_task: dict[str, list[set[tuple[str, str]]]] = {}
    for (task, _), posts in seen.items():
        of_task.setdefault(task, []).append(posts)
    return {task for task, found in of_task.items() if any(posts != found[0] for posts in found)}


def _duels(runs: Sequence[_Run]) -> list[tuple[str, str]]:
    first, *others = runs
    within = [
        (f"{run.name}/{arm}", f"{run.name}/{other}")
        for run in runs
        for arm, other in summary.default_duels(run.arms)
    ]
    across = [
        (f"{run.name}/{arm}", f"{first.name}/{arm}")
        for run in others
        for arm in run.arms
        if arm in first.arms
    ]
    if not across and all(len(run.arms) == 1 for run in runs):
        # single models, each called by its own name
        across = [(f"{run.name}/{run.arms[0]}", f"{first.name}/{first.arms[0]}") for run in others]
    return within + across

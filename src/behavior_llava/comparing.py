"""`report RUN RUN ...`: the answers of several runs, or of single models, in one report.

In: folders that `evaluate` or `report` wrote, or `run --results` keeps. Out: a page and a summary.json in
which an arm is called "<run>/<arm>". Within a run behavior meets its own controls, and claims are made run by
run; across runs an arm meets the arm of the same name in the first run. What only some of the runs were asked
is shown for these; where two were asked the same but of other samples, that is an error, as nothing could be
compared. One folder alone is shown as a run is.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import yaml

from behavior_llava.core.errors import UserError
from behavior_llava.core.manifest import MANIFEST, PLAN, finished_stages
from behavior_llava.core.progress import progress
from behavior_llava.evaluation import benchmarks, evaluator, scores, summary
from behavior_llava.reporting import exports, lineage, page, report, samples
from behavior_llava.reporting.content import PageContent
from behavior_llava.training.trainer import loss_curve

pc: Any = pyarrow.compute  # its functions are made at import, unseen by type checkers

_FACTS = ("benchmark", "metric", "modality", "low_level")
_COLLECTED, _SELECTED, _CHECKED = "collect", "build/posts", "evaluate/contamination"
_TOLD_BY = {_COLLECTED: "what could not be read", _SELECTED: "what the filters left"}
"""What a report tells of a run by a stage that single models and kept answers lack."""


@dataclass(frozen=True)
class _Run:
    """One run's answers.

    Attributes:
        name: what it is called beside the others; empty where it is alone.
        folder: where it really lies.
        config: its settings; empty where a model was evaluated alone.
        arms: in the order of its settings.
    """

    name: str
    folder: Path
    files: tuple[Path, ...]
    tasks: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    arms: tuple[str, ...]

    def arm(self, own: str) -> str:
        """What one of its arms is called beside those of the others."""
        return f"{self.name}/{own}" if self.name else own

    def said(self, words: str) -> str:
        """What is said of it, so that it is told from what is said of the others."""
        return f"{self.name}: {words}" if self.name else words

    def told(self, stage: str) -> dict[str, Any] | None:
        """What a stage of it wrote; None where it is not there."""
        path = self.folder / stage / MANIFEST
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def compare(folders: Sequence[Path], out: Path, config: summary.Config | None = None) -> Path:
    """Writes summary.json, the page, the sample browser, charts and tables to `out`; returns the page's path.

    Raises:
        UserError: a folder holds no finished evaluation, two runs have one name, they differ in what a task
            is or in its samples, or `out` holds files that no report wrote.
    """
    _refuse_foreign(out)
    runs = [_read(folder, is_alone=len(folders) == 1) for folder in folders]
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
    arms = [run.arm(own) for run in runs for own in run.arms]
    with progress("statistics", None) as advance:
        synthetic = any(facts.get("synthetic") for facts in tasks.values())
        found = summary.summarize(
            table,
            tasks,
            arms,
            config,
            synthetic=synthetic,
            contaminated=_contaminated(runs),
            duels=_duels(runs),
        )
        advance()
    _make_room(out)
    (out / report.SUMMARY).write_text(summary.to_json(found), encoding="utf-8")
    title = " and ".join(run.folder.name for run in runs)
    browsed = samples.Browsed(
        title=title,
        table=table,
        arms=arms,
        question=_question,
        look=lambda row: _look(runs, tasks[row["task"]]["modality"], row),
        most=report.ReportConfig().browse,
        synthetic=synthetic,
    )
    content = PageContent(
        title=title,
        summary=found,
        tasks=tasks,
        config_text="\n".join(_config_text(run) for run in runs),
        survivors=_survivors(runs),
        faults=_faults(runs),
        losses={
            (run.arm(folder.name), int(folder.parent.name.removeprefix("seed"))): [
                (int(step), loss) for step, loss in loss_curve(folder)
            ]
            for run in runs
            for folder in sorted((run.folder / "train").glob("seed*/*"))
            if (folder / "loss.json").exists()
        },
        behavior_scores=report.behavior_scores(found),
        contamination={run.name: _contamination(run) for run in runs},
        costs=_costs(runs),
        synthetic=synthetic,
        notes=_notes(runs, other),
        opens_with=runs[0].config.get("evaluate", {}).get("primary"),
        is_comparison=len(runs) > 1,
        lineage=[step for run in runs for step in lineage.steps(run.folder, run.name)],
        num_browsable=samples.write(browsed, out),
        has_files=True,
    )
    return report.write_files(content, out)


def _refuse_foreign(out: Path) -> None:
    """Lets a folder that is to be written be empty, or an earlier report."""
    written = out / page.FILE_NAME
    is_ours = written.is_file() and page.OURS in written.read_text(encoding="utf-8", errors="replace")
    if not is_ours and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise UserError("holds files that no report wrote", where=out, remedy="choose another --out")


def _make_room(out: Path) -> None:
    """Leaves nothing of an earlier report in the folder that could be taken for a part of this one."""
    if out.is_symlink() and (out / PLAN).exists():
        out.unlink()  # the report of another run, taken over: there it stays
    out.mkdir(parents=True, exist_ok=True)
    # a run's own report is then written again when it is wanted
    (out / MANIFEST).unlink(missing_ok=True)
    # whoever is killed from here on finds the folder to be ours
    (out / page.FILE_NAME).write_text(f"<!doctype html><p>Not finished. {page.OURS}.</p>", encoding="utf-8")
    for name in (exports.CHARTS, exports.TABLES, samples.FOLDER, report.CARDS):
        if (out / name).is_dir():
            shutil.rmtree(out / name)


def _config_text(run: _Run) -> str:
    """A run's settings; of a model that was evaluated alone there are none."""
    path = run.folder / "config.yaml"
    heading = f"# {run.name}\n" if run.name else ""
    return heading + path.read_text(encoding="utf-8") if path.is_file() else ""


def _survivors(runs: Sequence[_Run]) -> dict[str, list[dict[str, Any]]]:
    """What the filters of every run left, by run and source."""
    found = {}
    for run in runs:
        if told := run.told(_SELECTED):
            found |= {run.said(source): rows for source, rows in told["survivors"].items()}
    return found


def _faults(runs: Sequence[_Run]) -> dict[str, int] | None:
    """What could not be read in all runs, once where they share the reading; None where that is not known."""
    places = {(run.folder / _COLLECTED).resolve(): told for run in runs if (told := run.told(_COLLECTED))}
    found: Counter[str] = Counter()
    for told in places.values():
        found.update(told["faults"])
    return dict(sorted(found.items())) if places else None


def _contamination(run: _Run) -> Mapping[str, Any]:
    """What was looked for in a run's training data; of kept answers the most hits of any seed."""
    if told := run.told(_CHECKED):
        return told
    hits: dict[str, int] = {}
    for path in sorted(run.folder.glob("evaluate/seed*/contamination.json")):
        for task, count in json.loads(path.read_text(encoding="utf-8")).items():
            hits[task] = max(count, hits.get(task, 0))
    return {"tasks": {task: {"hits": count} for task, count in hits.items()}} if hits else {}


def _contaminated(runs: Sequence[_Run]) -> dict[str, set[str]]:
    """The samples of every task that stand in the training data of any run."""
    found: dict[str, set[str]] = {}
    for run in runs:
        if run.told(_CHECKED):
            table = pq.read_table(run.folder / _CHECKED / "hits.parquet", columns=["task", "sample_id"])
            for hit in table.to_pylist():
                found.setdefault(hit["task"], set()).add(hit["sample_id"])
    return found


def _costs(runs: Sequence[_Run]) -> dict[str, float]:
    """Seconds of every stage, once: one that runs share is told of the run that did it, or of the first."""
    stages = [(run, *one) for run in runs for one in finished_stages(run.folder)]
    teller = {place: run for run, place, _ in reversed(stages)}
    teller |= {place: run for run, place, _ in stages if place.is_relative_to(run.folder)}
    return {
        run.said(name): seconds
        for run, place, told in stages
        if teller[place] is run
        # a kept cell tells of all the stages it needed
        for name, seconds in told.get("costs", {told["stage"]: told["seconds"]}).items()
    }


def _notes(runs: Sequence[_Run], other: set[str]) -> list[str]:
    """What the page says in words; `other` are the tasks on posts that the runs do not share."""
    primary: dict[str, list[str]] = {}
    for run in runs:
        if named := run.config.get("evaluate", {}).get("primary"):
            primary.setdefault(named, []).append(run.name)
    notes = []
    for setting, names in primary.items():
        whose = f" of {', '.join(names)}" if any(names) else ""
        notes.append(
            f"The primary setting{whose}, written in the config before arms were compared, is {setting}."
        )
    if other:
        notes.append(
            f"The runs held out other posts, or their receivers did other things: {', '.join(sorted(other))} "
            "cannot be compared and stand in each run's own report."
        )
    for run in runs:
        unknown = [words for stage, words in _TOLD_BY.items() if run.told(stage) is None]
        if unknown:
            notes.append(run.said(f"not known here is {' and '.join(unknown)}."))
    return notes


def _question(task: str, _: str) -> str:
    """The words of the task's declaration: what a single sample was asked stands in no file of answers."""
    known = benchmarks.all_tasks().get(task)
    return f"a question of {task}" if known is None else known.question


def _look(runs: Sequence[_Run], modality: str, row: Mapping[str, Any]) -> samples.Look | None:
    """A picture by the place it was read from; of a film the frames that a run keeps."""
    path = row["media_path"]
    if path is None:
        return None
    if modality == "video":
        return samples.Look(key=path, kind="video", pictures=lambda: _frames(runs, row["cluster"]))
    return samples.Look(key=path, kind="image", pictures=lambda: [Path(path)])


def _frames(runs: Sequence[_Run], cluster: str) -> list[Path]:
    """Frames of a film whose cluster is its file's hash, as it is where a benchmark names no other."""
    if not re.fullmatch(r"[0-9a-f]{64}", cluster):
        return []
    places = [run.folder / "frames" / cluster[:2] / cluster for run in runs]
    return next((report.spread(files) for place in places if (files := sorted(place.glob("*.jpg")))), [])


def _read(folder: Path, *, is_alone: bool) -> _Run:
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
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    order = config.get("arms", [])
    names = sorted(dict.fromkeys(arms), key=lambda arm: order.index(arm) if arm in order else len(order))
    tasks = json.loads(told.read_text(encoding="utf-8"))
    place = folder.resolve()
    return _Run("" if is_alone else place.name, place, finished, tasks, config, tuple(names))


def _table(run: _Run) -> pa.Table:
    table = report.predictions(run.files)
    named = pa.array([run.arm(own) for own in table["arm"].to_pylist()], pa.string())
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
            run, _ = summary.parted(row["arm"])
            seen.setdefault((row["task"], run), set()).add((row["sample_id"], row["label"]))
    of_task: dict[str, list[set[tuple[str, str]]]] = {}
    for (task, _), posts in seen.items():
        of_task.setdefault(task, []).append(posts)
    return {task for task, found in of_task.items() if any(posts != found[0] for posts in found)}


def _duels(runs: Sequence[_Run]) -> list[tuple[str, str]]:
    first, *others = runs
    within = [
        (run.arm(arm), run.arm(other)) for run in runs for arm, other in summary.default_duels(run.arms)
    ]
    across = [(run.arm(arm), first.arm(arm)) for run in others for arm in run.arms if arm in first.arms]
    if not across and all(len(run.arms) == 1 for run in runs):
        # single models, each called by its own name
        across = [(run.arm(run.arms[0]), first.arm(first.arms[0])) for run in others]
    return within + across

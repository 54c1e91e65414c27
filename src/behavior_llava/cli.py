"""The command line: thin words around pipeline.py."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from behavior_llava.core import together
from behavior_llava.core.errors import UserError
from behavior_llava.core.progress import console

if TYPE_CHECKING:
    from behavior_llava.ablation import AblationConfig

log = logging.getLogger(__name__)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Behaviour data in, trained model out, next to the controls that prove what behaviour was worth.",
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, e.g. configs/quickstart.yaml")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Changes a setting; may be repeated.")
]
Out = Annotated[Path | None, typer.Option(help="The run's folder; runs/<name> by default.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many posts a source and samples a task.")]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Only say what would be read, trained and scored, and what it would take."
    ),
]
GpuName = Annotated[
    str | None, typer.Option("--gpu", help="With --dry-run: the forecast for this GPU, e.g. A100-80GB.")
]
Like = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="RUN", help="A run's folder: its finished stages are taken over, by links, where equal."
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="What finished arms answered is kept here, small, and never computed again."
    ),
]
GpuCount = Annotated[int, typer.Option("--gpus", min=1, help="How many of it.")]


class Kind(StrEnum):
    """What `list` can list."""

    sources = "sources"
    filters = "filters"
    behaviors = "behaviors"
    templates = "templates"
    tasks = "tasks"
    arms = "arms"


_MOST_LABELS = 40


def _quiet() -> None:
    """Before the libraries are imported: nothing may be fetched or sent that the config does not ask for."""
    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _go(
    until: str,
    path: Path,
    overrides: list[str] | None,
    out: Path | None,
    limit: int | None,
    dry_run: bool,
    gpu: str | None = None,
    gpus: int = 1,
    like: list[Path] | None = None,
    kept: Path | None = None,
) -> None:
    like = [place for place in like or () if _is_run(place, is_needed=kept is None)]
    if gpu is not None and not dry_run:
        raise UserError(f"--gpu {gpu} only forecasts", remedy="add --dry-run, or set `device` in the config")
    from transformers.utils import logging as transformers_logging

    from behavior_llava import ablation, pipeline, results
    from behavior_llava.core.config import load

    transformers_logging.disable_progress_bar()
    if ablation.is_grid(path):
        grid = load(ablation.AblationConfig, path, overrides or ())
        folder = out or Path("runs") / grid.name
        if dry_run:
            _forecast_grid(grid, folder, until=until, limit=limit, gpu=gpu, gpus=gpus)
            return
        place = ablation.run(grid, folder, until=until, limit=limit, like=like, kept=kept)
        console.print(
            f"[bold]{'The report is at' if place.is_file() else 'Done; see'}[/bold] {place}", soft_wrap=True
        )
        return
    config = load(pipeline.RunConfig, path, overrides or ())
    folder = out or Path("runs") / config.name
    if dry_run:
        from behavior_llava import forecast

        forecast.show(config, folder, until=until, limit=limit, gpu=gpu, gpus=gpus)
        return
    if kept is not None:
        page = results.run(config, folder, kept, limit=limit, like=like)
        console.print(f"[bold]The report is at[/bold] {page}", soft_wrap=True)
        return
    work = pipeline.run(config, folder, until=until, limit=limit, like=like)
    if until == "build":
        for source, rows in work.selected().manifest()["survivors"].items():
            console.print(_survivors(source, rows))
    place = folder / {"report": "report/index.html"}.get(until, "")
    console.print(
        f"[bold]{'The report is at' if until == 'report' else 'Done; see'}[/bold] {place}", soft_wrap=True
    )
    if until == "report":
        console.print(f"Its numbers: {folder / 'report' / 'summary.json'}", soft_wrap=True)


def _is_run(place: Path, *, is_needed: bool) -> bool:
    """Whether a folder to take stages over from is there; it need not where all may be kept already."""
    if (place / "config.yaml").is_file():
        return True
    if is_needed:
        raise UserError("is no folder of a run", where=place, remedy="give one that a run wrote as --like")
    log.warning("%s is no folder of a run: nothing is taken over from it", place)
    return False


def _forecast_grid(
    grid: AblationConfig, folder: Path, *, until: str, limit: int | None, gpu: str | None, gpus: int
) -> None:
    """What every variant of a grid would do."""
    from behavior_llava import ablation, forecast

    for name, variant in grid.variants().items():
        console.print(f"[bold]variant {escape(name)}[/bold]", soft_wrap=True)
        forecast.show(
            variant, folder / ablation.folder_name(name), until=until, limit=limit, gpu=gpu, gpus=gpus
        )


def _survivors(source: str, rows: list[dict[str, Any]]) -> Table:
    """The paper's table: what is left of posts and comments after every filter."""
    table = Table("filter", title=f"{source}: what the filters left", title_justify="left")
    for name in ("posts left", "dropped", "comments left", "dropped", "moved"):
        table.add_column(name, justify="right")
    steps: dict[int, dict[str, dict[str, Any]]] = {}
    for row in rows:
        # a filter of posts has two rows in a row
        place = len(steps) - 1
        if not steps or row["table"] == "posts" or "posts" not in steps[place] or len(steps[place]) == 2:
            place += 1
        steps.setdefault(place, {})[row["table"]] = row
    for step in steps.values():
        posts, comments = step.get("posts"), step["comments"]
        left = ("", "") if posts is None else (f"{posts['kept']:,}", f"{posts['dropped']:,}")
        moved = f"{comments['pooled']:,}" if comments["pooled"] else ""
        table.add_row(comments["filter"], *left, f"{comments['kept']:,}", f"{comments['dropped']:,}", moved)
    return table


@app.command()
def run(
    config: ConfigPath,
    set_: Overrides = None,
    out: Out = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    gpu: GpuName = None,
    gpus: GpuCount = 1,
    like: Like = None,
    results: Results = None,
) -> None:
    """The whole way: collect, build, train, evaluate, report; continues where an earlier start stopped."""
    _go("report", config, set_, out, limit, dry_run, gpu, gpus, like, results)


@app.command()
def collect(
    config: ConfigPath, set_: Overrides = None, out: Out = None, limit: Limit = None, dry_run: DryRun = False
) -> None:
    """Reads the sources: posts, comments, and what their media files are."""
    _go("collect", config, set_, out, limit, dry_run)


@app.command()
def build(
    config: ConfigPath, set_: Overrides = None, out: Out = None, limit: Limit = None, dry_run: DryRun = False
) -> None:
    """Filters, splits, captions, and each arm's rows."""
    _go("build", config, set_, out, limit, dry_run)


@app.command()
def train(
    config: ConfigPath,
    set_: Overrides = None,
    out: Out = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    gpu: GpuName = None,
    gpus: GpuCount = 1,
) -> None:
    """Trains the base and every arm."""
    _go("train", config, set_, out, limit, dry_run, gpu, gpus)


@app.command()
def evaluate(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="YAML file of a run, or none with --model.")
    ] = None,
    set_: Overrides = None,
    out: Out = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    model: Annotated[
        str | None, typer.Option(help="Folder or hub name of a model, to be evaluated alone.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="With --model: names of tasks, separated by commas; see `list tasks`.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="With --model: the folder with one sub-folder a benchmark.")
    ] = None,
) -> None:
    """Asks every arm of a run, or one model alone, every task in every setting.

    With --model, --set changes the settings of an `evaluate` section, as --set settings=[zero_shot].
    """
    if (config is None) == (model is None):
        raise UserError("give a config, or a model with --model", remedy="not both, and not neither")
    if model is None:
        if tasks is not None or data is not None:
            raise UserError("--tasks and --data belong to --model", remedy="use --set evaluate.tasks=[...]")
        assert config is not None
        _go("evaluate", config, set_, out, limit, dry_run)
        return
    if tasks is None or data is None:
        raise UserError("--model wants --tasks and --data", remedy="see `behavior-llava list tasks`")
    if dry_run:
        raise UserError("--dry-run is for a run's config", remedy="leave it out")
    from transformers.utils import logging as transformers_logging

    from behavior_llava import evaluating
    from behavior_llava.core.config import build
    from behavior_llava.evaluation.evaluator import EvaluateConfig

    transformers_logging.disable_progress_bar()
    names = [name.strip() for name in tasks.split(",") if name.strip()]
    if not names:
        raise UserError("--tasks names no task", remedy="see `behavior-llava list tasks`")
    given = {"tasks": names, "benchmarks": str(data)}
    settings = build(EvaluateConfig, given, set_ or ())
    place = evaluating.evaluate(
        model, settings, out or Path("runs") / f"evaluate-{evaluating.name_of(model)}", limit=limit
    )
    console.print((place / "scores.md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)
    console.print(f"[bold]Done; see[/bold] {place}", soft_wrap=True)


@app.command()
def report(
    configs: Annotated[
        list[Path],
        typer.Argument(metavar="CONFIG|RUN...", help="A run's YAML file, or folders of runs to compare."),
    ],
    set_: Overrides = None,
    out: Out = None,
    limit: Limit = None,
    dry_run: DryRun = False,
    site: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Writes the project page of one run there as well."),
    ] = None,
) -> None:
    """Writes the page and summary.json of a run, or of several runs that are to be compared."""
    if site is not None:
        _site(configs, site, set_, out, limit, dry_run)
        return
    if len(configs) == 1 and not configs[0].is_dir():
        _go("report", configs[0], set_, out, limit, dry_run)
        return
    if files := [path for path in configs if not path.is_dir()]:
        raise UserError("is no folder of a run", where=files[0], remedy="give one config, or folders of runs")
    if set_ or limit or dry_run:
        raise UserError(
            "finished runs are compared as they are", remedy="leave --set, --limit, --dry-run out"
        )
    from behavior_llava import comparing

    page = comparing.compare(configs, out or Path("runs") / "comparison")
    console.print(f"[bold]The report is at[/bold] {page}", soft_wrap=True)
    console.print(f"Its numbers: {page.with_name('summary.json')}", soft_wrap=True)


@app.command()
def predict(
    model: Annotated[
        str,
        typer.Argument(
            help="Folder or hub name of a model, or a run's folder; with --endpoint its name there."
        ),
    ],
    media: Annotated[
        Path, typer.Argument(help="A folder of images and videos, or a table with a column media_path.")
    ],
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")] = Path("predictions.parquet"),
    question: Annotated[
        list[str] | None, typer.Option(help="One of your own, asked about every item; may be repeated.")
    ] = None,
    comments: Annotated[int, typer.Option(min=0, help="At most so many an item.")] = 5,
    template: Annotated[
        str | None, typer.Option(help="Words in which a model is asked that does not tell its own.")
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible server in place of a local model.")
    ] = None,
    key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds its key.")
    ] = None,
    taught: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --endpoint: the model's folder, which tells how it speaks."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 200,
    batch_size: Annotated[int, typer.Option(min=1, help="Items at a time.")] = 8,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many items.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """What receivers are expected to do with images and videos; continues where an earlier call stopped."""
    from transformers.utils import logging as transformers_logging

    from behavior_llava.models.remote import RemoteConfig
    from behavior_llava.serving import predict as predicting
    from behavior_llava.serving import targets

    transformers_logging.disable_progress_bar()
    if endpoint is None and (key_env is not None or taught is not None):
        raise UserError("--key-env and --taught belong to --endpoint", remedy="leave them out")
    if endpoint is None:
        target = targets.of(model, template=template)
    else:
        served = RemoteConfig(url=endpoint, model=model, key_env=key_env)
        target = targets.of_endpoint(served, template=template, taught=taught)
    wanted = predicting.Wanted(
        questions=tuple(question or ()),
        comments=comments,
        max_new_tokens=max_new_tokens,
        batch_size=batch_size,
        limit=limit,
    )
    told = predicting.predict(target.models[target.chat], target.manner, media, out, wanted, device=device)
    errors = f", {told['errors']:,} of them with an error" if told["errors"] else ""
    console.print(f"[bold]{told['items']:,} items{errors}; see[/bold] {out}", soft_wrap=True)


def _site(
    configs: list[Path],
    site: Path,
    overrides: list[str] | None,
    out: Path | None,
    limit: int | None,
    dry_run: bool,
) -> None:
    """The project page of a config's run, which is finished first, or of a finished run's folder."""
    if len(configs) > 1 or dry_run:
        raise UserError(
            "a project page is of one run", where="--site", remedy="name one run, without --dry-run"
        )
    from behavior_llava.core.config import load
    from behavior_llava.core.manifest import PLAN
    from behavior_llava.stages import Run, RunConfig, Unfinished

    path, folder = configs[0], out
    if path.is_dir():
        if overrides or out or limit:
            raise UserError("a finished run is shown as it is", remedy="leave --set, --out, --limit out")
        path, folder = path / "config.yaml", path
        if not (folder / "report" / PLAN).is_file() or not path.is_file():
            raise UserError("no finished report", where=folder, remedy="finish the run first")
        plan = json.loads((folder / "report" / PLAN).read_text(encoding="utf-8"))
        limit = plan["config"]["limit"]
    else:
        _go("report", path, overrides, out, limit, dry_run)
    config = load(RunConfig, path, overrides or ())
    try:
        page = Run(config, folder or Path("runs") / config.name, limit, is_looking=True).site(site)
    except Unfinished as stage:
        raise UserError(
            f"{stage} is not finished, or was made of other inputs",
            where=folder,
            remedy="run `behavior-llava report` on its config first",
        ) from None
    console.print(f"[bold]The project page is at[/bold] {page}", soft_wrap=True)


@app.command()
def serve(
    target: Annotated[
        str | None,
        typer.Argument(metavar="TARGET", help="A run's folder, a model's folder or a hub name."),
    ] = None,
    host: Annotated[str, typer.Option(help="Listens here; others than 127.0.0.1 need a reverse proxy.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="An OpenAI-compatible server in place of TARGET.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="With --endpoint: the model's name there.")] = None,
    key_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="The environment variable that holds its key.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="Words in which a model is asked that does not tell its own.")
    ] = None,
    taught: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --endpoint: the model's folder, which tells how it speaks."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where opted-in dialogues go; without it none do.")
    ] = None,
    max_mb: Annotated[int, typer.Option(min=1, max=4096, help="Of an uploaded file.")] = 50,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Of a video.")] = 60.0,
    per_minute: Annotated[int, typer.Option(min=1, help="Uploads, questions, terms of a visitor.")] = 20,
    queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 20,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 200,
) -> None:
    """A page to chat with a model, see the audience it predicts, and compare it with the controls."""
    if (target is None) == (endpoint is None):
        raise UserError("give a run, a model, or --endpoint URL --model NAME", remedy="one of them")
    if (endpoint is None) != (model is None) or (endpoint is None and (key_env or taught)):
        raise UserError(
            "--model, --key-env and --taught belong to --endpoint", remedy="give --endpoint URL --model NAME"
        )
    from transformers.utils import logging as transformers_logging

    from behavior_llava.core.config import build
    from behavior_llava.models.remote import RemoteConfig
    from behavior_llava.serving import app as serving
    from behavior_llava.serving import targets

    transformers_logging.disable_progress_bar()
    limits = {"max_mb": max_mb, "max_seconds": max_seconds, "per_minute": per_minute, "queue": queue}
    place = {"host": host, "port": port, "device": device, "store": store}
    config = build(serving.ServeConfig, {**limits, **place, "max_new_tokens": max_new_tokens}, where="serve")
    if endpoint is not None:
        asked = build(RemoteConfig, {"url": endpoint, "model": model, "key_env": key_env}, where="--endpoint")
        found = targets.of_endpoint(asked, template=template, taught=taught)
    else:
        assert target is not None
        found = targets.of(target, template=template)
    serving.serve(
        found, config, told=lambda url: console.print(f"[bold]The demo is at[/bold] {url}", soft_wrap=True)
    )


tasks_app = typer.Typer(no_args_is_help=True, help="Looks at benchmarks' folders.")
app.add_typer(tasks_app, name="tasks")


@tasks_app.callback()
def _tasks() -> None:
    """Looks at benchmarks' folders."""


@tasks_app.command("check")
def tasks_check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A task; see `list tasks`.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The benchmark's folder as released.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Counts what is in a benchmark's folder and says what is missing, where it is had, and its licence."""
    from behavior_llava.evaluation import benchmarks

    task = benchmarks.task_named(name)
    found = benchmarks.check(task, folder)
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    table = Table("split", title=f"{task.name}: {task.benchmark}", title_justify="left")
    for column in ("rows", "media found", "media missing"):
        table.add_column(column, justify="right")
    table.add_column("labels", overflow="fold")
    for split, counts in found["splits"].items():
        shown = [f"{label} {count:,}" for label, count in counts["labels"].items()]
        more = f", and {len(shown) - _MOST_LABELS} more" if len(shown) > _MOST_LABELS else ""
        media = [
            "" if counts[key] is None else f"{counts[key]:,}" for key in ("media_found", "media_missing")
        ]
        table.add_row(split, f"{counts['rows']:,}", *media, escape(", ".join(shown[:_MOST_LABELS]) + more))
    Console().print(table)
    for line in benchmarks.missing_words(task, found):
        console.print(escape(line), soft_wrap=True)


@app.command()
def check(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", help="Folder of dumps, downloads or Parquet; a run's folder; or a config."
        ),
    ],
    limit: Limit = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Looks for what is wrong with the data; exit code 1 where something is to be mended, else 0."""
    import tempfile

    from behavior_llava import checking

    with tempfile.TemporaryDirectory() as scratch:
        findings = checking.findings(path, Path(scratch), limit=limit)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        table = Table("", "found")
        for name in ("count", "of"):
            table.add_column(name, justify="right")
        table.add_column("what to do", overflow="fold")
        for finding in findings:
            mark = "ok" if not finding.count else finding.level
            color = {"ok": "green", "note": "yellow", "problem": "red"}[mark]
            table.add_row(
                f"[{color}]{mark}[/{color}]",
                finding.what,
                f"{finding.count:,}",
                f"{finding.of:,}",
                finding.remedy if finding.count else "",
            )
        Console().print(table)
    if any(finding.count and finding.level == "problem" for finding in findings):
        raise typer.Exit(1)


@app.command()
def forget(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, or a grid's.")],
    posts: Annotated[
        list[str] | None, typer.Option("--post", metavar="ID", help="E.g. reddit:abc123; may be repeated.")
    ] = None,
    authors: Annotated[
        list[str] | None,
        typer.Option("--author", help="A name as the source has it, or its hash (u_...); may be repeated."),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="A list, one a line: post ID or author NAME, with that word before it."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Takes posts and people out of a run for good, and lists the models that saw them.

    Exit code 1 where the run has and had nothing of one of them.
    """
    from behavior_llava import ablation, forgetting

    listed_posts, listed_authors = forgetting.read_list(file) if file is not None else ([], [])
    all_posts, all_authors = [*(posts or ()), *listed_posts], [*(authors or ()), *listed_authors]
    if not all_posts and not all_authors:
        raise UserError("nobody is named", where="forget", remedy="give --post, --author or --file")
    forget_all = ablation.forget if (run / ablation.FILE).is_file() else forgetting.forget
    told = forget_all(run, posts=all_posts, authors=all_authors, is_dry=dry_run)
    table = Table("place", title="would be removed" if dry_run else "removed", title_justify="left")
    table.add_column("how much", justify="right")
    for place, count in told.removed.items():
        table.add_row(place, f"{count:,}")
    console.print(table if told.removed else "Nothing of them is there.")
    if told.models:
        console.print(
            "[bold]Models that saw them:[/bold] "
            + escape(", ".join(told.models))
            + ". Weights cannot be cleaned: delete them, or train again by running the run's config."
        )
    if told.unsure_models:
        console.print(
            "[bold]Models of an earlier version, of which it is not known whether they saw them:[/bold] "
            + escape(", ".join(told.unsure_models))
        )
    if told.brought:
        console.print(
            "Files brought from outside the run are not changed, and not read into it again: "
            + escape(", ".join(told.brought))
        )
    unknown = [f"post {place + 1}" for place in told.unknown_posts]
    unknown += [f"author {place + 1}" for place in told.unknown_authors]
    if unknown:
        console.print(
            f"[yellow]Unknown here:[/yellow] {', '.join(unknown)} of those given. "
            "They are on the run's list: what comes later of them is left out."
        )
        raise typer.Exit(1)


@app.command()
def show(
    path: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run's folder, an arm's rows, or a published data set.")
    ],
    arm: Annotated[str | None, typer.Option(help="Of a run; behavior where none is named.")] = None,
    rows: Annotated[int, typer.Option(min=1, help="At most so many.")] = 3,
    ids: Annotated[list[str] | None, typer.Option("--id", help="Only this row; may be repeated.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Folder or name of a model: shows its own labels, token by token.")
    ] = None,
) -> None:
    """Prints rows as a person reads them; what a model is to learn is in color."""
    from behavior_llava import showing

    for panel in showing.panels(path, arm=arm, ids=tuple(ids or ()), limit=rows, model=model):
        Console().print(panel)


class Original(StrEnum):
    """What `convert` reads."""

    llama_vid = "llama-vid"


class Precision(StrEnum):
    """Types of weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@app.command()
def convert(
    original: Annotated[Original, typer.Argument(metavar="FORMAT", help="llama-vid")],
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="The checkpoint's folder, as published.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder for the model.")],
    vision: Annotated[
        Path | None, typer.Option(help="The separate vision file (eva_vit_g.pth), if not in SOURCE.")
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the language model, where SOURCE is a stage-1 adapter (mm_projector.bin)."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="Folder of the language model's tokenizer; SOURCE or --base by default."),
    ] = None,
    qformer_tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the Q-Former's tokenizer (bert-base-uncased).")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels along a side; as the checkpoint says by default.")
    ] = None,
    dtype: Annotated[Precision | None, typer.Option(help="Of all weights; each as it is by default.")] = None,
    sizes: Annotated[
        Path | None,
        typer.Option(
            help="JSON with vision_heads, vision_layers, qformer_heads, qformer_layers; only for checkpoints "
            "of other sizes than the published ones."
        ),
    ] = None,
) -> None:
    """Turns an original checkpoint into a model folder; every weight is accounted for or none is written."""
    import torch

    from behavior_llava.models.llama_vid import convert as llama_vid

    llama_vid.convert(
        source,
        out,
        vision=vision,
        base=base,
        tokenizer=tokenizer,
        qformer_tokenizer=qformer_tokenizer,
        image_size=image_size,
        dtype=None if dtype is None else getattr(torch, dtype.value),
        sizes=None if sizes is None else llama_vid.read_sizes(sizes),
    )
    console.print(f"[bold]{escape(str(out))}[/bold] is ready: give it as `model` in a config", soft_wrap=True)


@app.command()
def compose(
    vision: Annotated[
        str, typer.Option(metavar="TOWER", help="CLIP, SigLIP or EfficientNet: folder or hub name.")
    ],
    language: Annotated[str, typer.Option(metavar="LM", help="A causal language model: folder or hub name.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for the model.")],
    select_layer: Annotated[
        int | None, typer.Option(help="Whose output of the tower is used; -2 is the last but one.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the fresh projector.")] = 0,
) -> None:
    """Joins a vision tower and a language model into a LLaVA, with a projector yet to be trained."""
    from behavior_llava.models import compose as composing

    told = composing.compose(vision, language, out, select_layer=select_layer, seed=seed)
    for name, value in told.items():
        console.print(f"{name}: {escape(str(value))}", soft_wrap=True)
    console.print(
        f"[bold]{escape(str(out))}[/bold] is ready: its projector has learned nothing yet", soft_wrap=True
    )


@app.command("list")
def list_(kind: Kind, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Lists what there is of a kind."""
    from behavior_llava.core.discover import find
    from behavior_llava.data import verbalizer
    from behavior_llava.evaluation import benchmarks

    if kind is Kind.tasks:
        fields = ("name", "benchmark", "metric", "modality", "protocol", "format", "paper")
        rows = [{field: getattr(task, field) for field in fields} for task in benchmarks.all_tasks().values()]
    elif kind is Kind.templates:
        rows = [{"name": path.stem} for path in sorted(verbalizer.TEMPLATES.glob("*.yaml"))]
    elif kind is Kind.arms:
        rows = [
            {"name": name}
            for name in (
                "base",
                "content_only",
                "content_matched",
                "shuffled",
                "behavior",
                "ceiling",
                "behavior_<n>pct",
                "only_<kind>",
                "without_<kind>",
            )
        ]
    elif kind is Kind.behaviors:
        rows = [
            {
                "name": name,
                "needs": ", ".join(behavior.columns),
                "choices": ", ".join(behavior.params.model_fields),
                "not said where": behavior.unsaid,
                "scored by": ", ".join(f"{part} {metric}" for part, metric in behavior.metrics.items()),
            }
            for name, behavior in find("data.behaviors", "BEHAVIOR").items()
        ]
    else:
        package = {Kind.sources: "data.sources", Kind.filters: "data.filters"}[kind]
        rows = [{"name": name} for name in find(package, kind.value.removesuffix("s").upper())]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif kind in (Kind.behaviors, Kind.tasks):
        table = Table()
        for name in rows[0]:
            table.add_column(name, overflow="fold", no_wrap=name == "name")
        for row in rows:
            table.add_row(
                *("yes" if one is True else "" if one is False else str(one) for one in row.values())
            )
        Console().print(table)
    else:
        typer.echo("\n".join("  ".join(str(value) for value in row.values()) for row in rows))


def main() -> None:
    """The console script: a UserError is one sentence and exit code 2, in one process or several."""
    _quiet()
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("behavior_llava").setLevel(logging.INFO)
    try:
        together.work(app)
    except UserError as error:
        console.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True)
        raise SystemExit(2) from None

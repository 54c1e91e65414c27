"""Makes docs/results.md and its figures from the answers in results/, without training anything.

    python docs/results.py            writes them
    python docs/results.py --check    fails where they are not what the answers say
    python docs/results.py --ceiling data/photos/sophoappeal     also how far the photos' likes tell votes

Every experiment is a folder that `behavior-llava run CONFIG --results DIR` filled. What is primary was
written in its config before any arm was trained; the sentence under a table is derived from its numbers here,
whatever they are.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import and_
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from matplotlib import pyplot as plt

from behavior_llava.core.manifest import write_json
from behavior_llava.data.sources import sophoappeal
from behavior_llava.evaluation import metrics, statistics
from behavior_llava.evaluation.tasks import photo_appeal

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
FIGURES = ROOT / "docs" / "results"
CONTROLS = ("content_only", "content_matched", "shuffled")
PRIMARY = (("emoset_feel", "emoset_evokes", "emoset_choice"), "zero_shot", "split")
"""Tasks whose mean is taken, setting, scoring: see configs/smol.yaml."""
LOW_LEVEL = (("lvu_scene",), "zero_shot", "sum")

Asked = tuple[Sequence[str], str, str]
Cell = tuple[str, int]


@dataclass(frozen=True)
class Experiment:
    """The kept answers of one config.

    Attributes:
        folder: as `run --results` left it.
        share: answers after training with this share of a task's labels alone; None for all answers.
    """

    folder: Path
    share: float | None = None

    @cached_property
    def config(self) -> dict[str, Any]:
        """The settings, with every default."""
        return yaml.safe_load((self.folder / "config.yaml").read_text(encoding="utf-8"))

    @cached_property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """What is known of every task."""
        return json.loads((self.folder / "evaluate" / "scores" / "tasks.json").read_text(encoding="utf-8"))

    @cached_property
    def cells(self) -> dict[Cell, dict[str, Any]]:
        """Manifest of every finished cell, in the config's order."""
        found = {
            (path.parent.name, int(path.parent.parent.name.removeprefix("seed"))): json.loads(
                path.read_text(encoding="utf-8")
            )
            for path in sorted(self.folder.glob("evaluate/seed*/*/manifest.json"))
        }
        order = self.config["arms"]
        return dict(sorted(found.items(), key=lambda item: (item[0][1], order.index(item[0][0]))))

    def file(self, cell: Cell) -> Path:
        """A cell's answers."""
        return self.folder / "evaluate" / f"seed{cell[1]}" / cell[0] / "predictions.parquet"

    @cached_property
    def answers(self) -> dict[Cell, pa.Table]:
        """The answers of every cell."""
        asked = None if self.share is None else pc.field("label_fraction") == self.share
        return {cell: pq.read_table(self.file(cell), filters=asked) for cell in self.cells}

    @property
    def arms(self) -> list[str]:
        """Those with a finished cell."""
        return list(dict.fromkeys(arm for arm, _ in self.cells))

    @property
    def seeds(self) -> list[int]:
        """Those with a finished cell."""
        return sorted({seed for _, seed in self.cells})

    @cached_property
    def missing(self) -> list[Cell]:
        """The config's cells that are not finished."""
        wanted = [(arm, seed) for seed in self.config["seeds"] for arm in self.config["arms"]]
        return [cell for cell in wanted if cell not in self.cells]

    @cached_property
    def whole(self) -> list[int]:
        """Seeds in which every arm is finished: all that is averaged is averaged over these."""
        return [seed for seed in self.seeds if seed not in {seed for _, seed in self.missing}]


def contest(table: pa.Table, task: str, setting: str, scoring: str) -> pa.Table:
    """The answers to one task in one setting under one scoring."""
    fields = {"task": task, "setting": setting, "scoring": scoring}
    return table.filter(reduce(and_, (pc.field(name) == value for name, value in fields.items())))


def right(table: pa.Table, asked: Asked) -> tuple[list[str], np.ndarray]:
    """The media of an arm's answers and, of each, in which share of the tasks it is right.

    Raises:
        ValueError: the tasks were asked of different samples, or of none.
    """
    tasks, setting, scoring = asked
    found: list[dict[str, tuple[str, float]]] = []
    for task in tasks:
        rows = contest(table, task, setting, scoring).to_pylist()
        found.append({row["sample_id"]: (row["cluster"], row["prediction"] == row["label"]) for row in rows})
    if not found[0] or any(one.keys() != found[0].keys() for one in found):
        raise ValueError(f"{', '.join(tasks)} are not asked of the same samples in {setting}, {scoring}")
    ids = sorted(found[0])
    values = np.array([[one[id][1] for one in found] for id in ids], float).mean(1)
    return [found[0][id][0] for id in ids], values


@dataclass(frozen=True)
class Difference:
    """Of two arms, in one seed or pooled over all (seed None)."""

    against: str
    seed: int | None
    value: float
    low: float | None
    high: float | None
    low90: float | None
    high90: float | None
    n: int


def differences(experiment: Experiment, asked: Asked, arm: str, controls: Sequence[str]) -> list[Difference]:
    """An arm against each control, in every seed that has both, and pooled over those that are whole.

    Raises:
        ValueError: the arms were asked of different samples.
    """
    metric = metrics.named("accuracy")
    found = []
    for control in controls:
        seeds = [seed for seed in experiment.seeds if {(arm, seed), (control, seed)} <= set(experiment.cells)]
        if not seeds:
            continue
        runs, shown = [], []
        for seed in seeds:
            for name in (arm, control):
                media, values = right(experiment.answers[name, seed], asked)
                runs.append(values[:, None])
                shown.append(media)
        media = same(shown)
        drawn = statistics.bootstrap(metric, runs, media)
        own, other = drawn[0::2], drawn[1::2]
        observed = [float(a.mean() - b.mean()) for a, b in zip(runs[0::2], runs[1::2], strict=True)]
        each: list[tuple[int | None, float, np.ndarray]] = [
            (seed, value, own[place] - other[place])
            for place, (seed, value) in enumerate(zip(seeds, observed, strict=True))
        ]
        pooled = [seeds.index(seed) for seed in experiment.whole if seed in seeds]
        if len(pooled) > 1:
            drawn_of = (own[pooled] - other[pooled]).mean(0)
            each.append((None, float(np.mean([observed[place] for place in pooled])), drawn_of))
        for seed, value, draws in each:
            low, high = statistics.interval(draws)
            low90, high90 = statistics.interval(draws, 0.90)
            found.append(Difference(control, seed, value, low, high, low90, high90, len(set(media))))
    return found


def same(shown: Sequence[list[str]]) -> list[str]:
    """The media that all were asked of.

    Raises:
        ValueError: they were asked of different ones.
    """
    if any(media != shown[0] for media in shown):
        raise ValueError("two arms are not asked of the same samples")
    return shown[0]


# ---- words -------------------------------------------------------------------------------------------------


def mean(values: Sequence[float | None]) -> float | None:
    """None of no values, and where one is undefined."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def number(value: float | None) -> str:
    """Three decimals; a dash for what is undefined."""
    return "-" if value is None else f"{value:.3f}"


def with_interval(one: Difference) -> str:
    """A difference in points with its 95 % interval."""
    if one.low is None or one.high is None:
        return f"{100 * one.value:+.1f}"
    return f"{100 * one.value:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}]"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def verdict(
    found: Sequence[Difference], controls: Sequence[str], seeds: Sequence[int], *, are_scenes_equal: bool
) -> str:
    """What the differences per seed say about "behavior is above its controls in every seed, and what has
    nothing to do with feelings stays as it was".
    """
    single = {(one.against, one.seed): one for one in found if one.seed is not None}
    above = [one for one in single.values() if one.low is not None and one.low > 0]
    below = [one for one in single.values() if one.high is not None and one.high < 0]
    said = (
        f"{len(above)} of {len(single)} comparisons (a control in a seed) have their whole interval above 0"
        f"{f', {len(below)} below' if below else ''}."
    )
    missing = [
        f"{control} in seed {seed}" for seed in seeds for control in controls if (control, seed) not in single
    ]
    if missing:
        return f"**Not finished**: {', '.join(missing)}: missing. So far {said}"
    if len(above) == len(single) and are_scenes_equal:
        return f"**Supported**: behavior is above every control in every seed, scenes equivalent. {said}"
    if len(above) == len(single):
        return f"**Supported in part**: behavior is above every control in every seed. {said}"
    return f"**Not supported** as stated before the runs. {said}"


def outcome(named: Mapping[str, tuple[float | None, float | None]]) -> str:
    """Which differences, by their intervals, lie above 0, below, or cannot be told apart from it."""
    order = ("above 0", "below 0", "not told apart from 0", "undefined")
    groups: dict[str, list[str]] = {where: [] for where in order}
    for name, (low, high) in named.items():
        if low is None or high is None:
            where = "undefined"
        else:
            where = "above 0" if low > 0 else "below 0" if high < 0 else "not told apart from 0"
        groups[where].append(name)
    return "; ".join(f"{where}: {', '.join(names)}" for where, names in groups.items() if names) + "."


def scenes(found: Sequence[Difference]) -> tuple[bool, str]:
    """Whether what has nothing to do with feelings stayed as it was, within 5 points; and that in words."""
    pooled = [one for one in found if one.seed is None] or list(found)
    verdicts = [statistics.equivalence(one.low90, one.high90, one.n, 0.01) for one in pooled]
    told = [
        f"{one.against} {with_interval(one)}: {equal or 'undefined'}"
        for one, equal in zip(pooled, verdicts, strict=True)
    ]
    words = f"Scenes, behavior against {'; '.join(told)} (equivalent: the 90 % interval within 5 points)."
    return bool(verdicts) and all(equal == "equivalent" for equal in verdicts), words


# ---- sections ----------------------------------------------------------------------------------------------


def provenance(folder: Path, experiments: Sequence[Experiment], command: str) -> Iterator[str]:
    """Command, and of what is finished: time, machines, hashes."""
    yield f"```\n{command}\n```\n\n"
    rows, minutes, machines = [], 0.0, set()
    for experiment in experiments:
        variant = "" if experiment.folder == folder else f"{experiment.folder.name}: "
        for cell, told in experiment.cells.items():
            digest = hashlib.sha256(experiment.file(cell).read_bytes()).hexdigest()[:12]
            own = sum(
                told["costs"].get(f"{verb}/seed{cell[1]}/{cell[0]}", 0) for verb in ("train", "evaluate")
            )
            minutes += own / 60
            rows.append(
                [
                    f"{variant}{cell[0]}, seed {cell[1]}",
                    f"{own / 60:.1f}",
                    told["key"][:12],
                    digest,
                    (told["commit"] or "unknown")[:12],
                ]
            )
            machine, packages = told["machine"], told["versions"]
            machines.add(
                f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB, "
                f"device {machine['device']}; "
                f"Python {machine['python']}, torch {packages['torch']}, "
                f"transformers {packages['transformers']}"
            )
    if not rows:
        yield "Not run yet.\n\n"
        return
    yield f"<details><summary>{len(rows)} cells, {minutes:.0f} minutes to train and ask</summary>\n\n"
    yield table(["cell", "minutes", "settings", "answers (sha256)", "code"], rows)
    yield "\nA training that was killed and continued counts from its last start.\n\n</details>\n\n"
    yield f"Machine: {'; or '.join(sorted(machines))}.\n\n"
    missing = [
        f"{'' if one.folder == folder else f'{one.folder.name}: '}{arm} in seed {seed}"
        for one in experiments
        for arm, seed in one.missing
    ]
    if missing:
        yield f"**Not finished**: {', '.join(missing)}. Means are over seeds in which every arm is.\n\n"
    yield from contaminated(experiments)


def contaminated(experiments: Sequence[Experiment]) -> Iterator[str]:
    """How many test samples stand in what was learned from; the most of any seed."""
    found: dict[str, int] = {}
    looked = [
        json.loads(path.read_text(encoding="utf-8"))
        for one in experiments
        for path in sorted(one.folder.glob("evaluate/seed*/contamination.json"))
    ]
    for counts in looked:
        for task, count in counts.items():
            found[task] = max(count, found.get(task, 0))
    if found:
        told = ", ".join(f"{task} {count}" for task, count in sorted(found.items()))
        yield f"Test samples that stand in training data too, by copies or texts: {told}.\n\n"
    else:
        yield "Nobody looked yet whether test samples stand in training data.\n\n"


def primary(experiment: Experiment) -> Iterator[str]:
    """The primary's table, differences, verdicts."""
    tasks, setting, scoring = PRIMARY
    facts = experiment.tasks[tasks[0]]
    head = ["arm", *(f"seed {seed}" for seed in experiment.seeds), "mean"]
    rows = []
    for arm in experiment.arms:
        values = [
            float(right(experiment.answers[arm, seed], PRIMARY)[1].mean())
            if (arm, seed) in experiment.cells
            else None
            for seed in experiment.seeds
        ]
        of = dict(zip(experiment.seeds, values, strict=True))
        rows.append([arm, *map(number, values), number(mean([of[seed] for seed in experiment.whole]))])
    yield (
        f"**Primary**: accuracy of image emotion, {setting}, mean over {len(tasks)} questions, scoring "
        f"`{scoring}`; chance {number(facts['chance'])}, most frequent label {number(facts['majority'])}.\n\n"
    )
    yield table(head, rows) + "\n"
    controls = [one for one in CONTROLS if one in experiment.config["arms"]]
    found = differences(experiment, PRIMARY, "behavior", controls)
    if found:
        columns = [*experiment.seeds, *([None] if len(experiment.seeds) > 1 else [])]
        by = {(one.against, one.seed): one for one in found}
        yield "Differences in points, 95 % interval over media:\n\n"
        yield (
            table(
                [
                    "behavior against",
                    *("all seeds" if seed is None else f"seed {seed}" for seed in columns),
                ],
                [
                    [
                        control,
                        *(
                            with_interval(by[control, seed]) if (control, seed) in by else "-"
                            for seed in columns
                        ),
                    ]
                    for control in dict.fromkeys(one.against for one in found)
                ],
            )
            + "\n"
        )
        are_equal, words = scenes(differences(experiment, LOW_LEVEL, "behavior", controls))
        seeds = experiment.config["seeds"]
        yield verdict(found, controls, seeds, are_scenes_equal=are_equal) + f"\n\n{words}\n\n"


def secondary(experiment: Experiment) -> Iterator[str]:
    """Every score of every task, setting and scoring, as the mean over seeds."""
    keys: dict[tuple[str, str, str, str], dict[str, list[float]]] = {}
    for (arm, seed), answers in experiment.answers.items():
        if seed not in experiment.whole:
            continue
        grouped = answers.group_by(["task", "metric", "setting", "scoring"], use_threads=False).aggregate(
            [("prediction", "list"), ("label", "list")]
        )
        for row in grouped.to_pylist():
            said = [None if one is None else json.loads(one) for one in row["prediction_list"]]
            labels = [json.loads(one) for one in row["label_list"]]
            value = metrics.named(row["metric"]).score(said, labels)
            key = (row["task"], row["setting"], row["scoring"], row["metric"])
            if value is not None:
                keys.setdefault(key, {}).setdefault(arm, []).append(value)
    rows = []
    for (task, setting, scoring, metric), values in sorted(keys.items()):
        chance = experiment.tasks.get(task, {}).get("chance")
        rows.append(
            [
                f"{task}, {setting}, {scoring}",
                metric,
                number(chance),
                *(number(mean(values.get(arm, []))) for arm in experiment.arms),
            ]
        )
    yield "<details><summary>All other scores (secondary), mean over seeds</summary>\n\n"
    yield table(["task, setting, scoring", "metric", "chance", *experiment.arms], rows)
    yield "\n</details>\n\n"


def figure(experiment: Experiment, name: str) -> str:
    """Writes a forest plot of the primary's differences; the Markdown that shows it."""
    found = differences(experiment, PRIMARY, "behavior", [one for one in CONTROLS if one in experiment.arms])
    if not found:
        return ""
    FIGURES.mkdir(exist_ok=True)
    mpl.rcParams["svg.hashsalt"] = name  # equal answers give an equal file
    plot, axes = plt.subplots(figsize=(7, 0.6 + 0.3 * len(found)), layout="constrained")
    for place, one in enumerate(reversed(found)):
        low = one.value if one.low is None else one.low
        high = one.value if one.high is None else one.high
        weight = 2.5 if one.seed is None else 1.2
        axes.plot([100 * low, 100 * high], [place, place], color="#3465a4", lw=weight)
        axes.plot([100 * one.value], [place], "o", color="#3465a4", ms=3 + weight)
    axes.axvline(0, color="0.5", lw=0.8)
    labels = [
        f"{one.against}, {'all seeds' if one.seed is None else f'seed {one.seed}'}" for one in reversed(found)
    ]
    axes.set_yticks(range(len(found)), labels)
    axes.set_xlabel("behavior minus control, points of accuracy, 95 % interval")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    plot.savefig(FIGURES / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(plot)
    return f"![Differences of the primary with intervals](results/{name}.svg)\n\n"


# ---- ablations, photos, texts ------------------------------------------------------------------------------


def found_in(folder: Path) -> list[Experiment]:
    """What is finished of a run, or of the variants of a grid, by name."""
    places = [folder, *sorted(path.parent for path in folder.glob("*/config.yaml"))]
    found = [Experiment(place) for place in places if (place / "config.yaml").exists()]
    return [one for one in found if one.cells]


def ablations(folder: Path, command: str) -> Iterator[str]:
    """The primary of every arm of every variant, and what it gains over that variant's content_only."""
    experiments = found_in(folder)
    yield from provenance(folder, experiments, command)
    rows: list[list[str]] = []
    gains: dict[str, tuple[float | None, float | None]] = {}
    for experiment in experiments:
        for (arm, seed), answers in experiment.answers.items():
            value = float(right(answers, PRIMARY)[1].mean())
            gain = ""
            if arm != "content_only" and ("content_only", seed) in experiment.cells:
                (one,) = (
                    each
                    for each in differences(experiment, PRIMARY, arm, ["content_only"])
                    if each.seed == seed
                )
                gain = with_interval(one)
                gains[f"{experiment.folder.name}, {arm}"] = (one.low, one.high)
            rows.append([f"{experiment.folder.name}: {arm}", number(value), gain])
    if rows:
        yield table(["variant and arm", "primary", "points over its content_only"], rows) + "\n"
    if gains:
        yield f"Gain over content_only, by its 95 % interval: {outcome(gains)}\n\n"


SHARES = (0.1, 1.0)
FINETUNED = (("emoset_feel",), "finetuned", "sum")


def finetuned(folder: Path, command: str) -> Iterator[str]:
    """Accuracy of every arm after training with labels, and behavior's differences to the others."""
    yield from provenance(folder, found_in(folder), command)
    if not found_in(folder):
        return
    rows = []
    gains: dict[str, tuple[float | None, float | None]] = {}
    for share in SHARES:
        experiment = Experiment(folder, share)
        others = [arm for arm in experiment.arms if arm != "behavior"]
        found = differences(experiment, FINETUNED, "behavior", others)
        last = {one.against: one for one in found}  # pooled over the seeds where there are several
        gains |= {f"{name} with {share:.0%}": (one.low, one.high) for name, one in last.items()}
        for arm in experiment.arms:
            values = [
                float(right(experiment.answers[arm, seed], FINETUNED)[1].mean()) for seed in experiment.whole
            ]
            gain = with_interval(last[arm]) if arm in last else ""
            rows.append([f"{share:.0%} of the labels: {arm}", number(mean(values)), gain])
    yield table(["labels and arm", "accuracy", "behavior's points over it"], rows) + "\n"
    yield f"Behavior minus the other arm, by its 95 % interval: {outcome(gains)}\n\n"


PHOTOS = (
    ("photo_appeal_more", "zero_shot", None),
    ("photo_appeal", "zero_shot", None),
    ("photo_appeal_more", "zero_shot_verbalized", None),
    ("photo_appeal", "zero_shot_verbalized", None),
    ("photo_appeal_more", "finetuned", 0.061),
    ("photo_appeal_more", "finetuned", 0.1525),
    ("photo_appeal_more", "finetuned", 0.305),
    ("ai_image_appeal_more", "zero_shot", None),
    ("ai_image_appeal_more", "zero_shot_verbalized", None),
)
"""Task, setting, share of the labels; the first is the primary, the last two are out of domain."""
DRAWS = 2000
CEILING = "ceiling.json"


TEXTS = (("imdb", "accuracy", "sum"), ("lambda_ads", "spearman", "expectation"))
"""Task, metric, scoring."""


def answered(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Predictions, None where an answer could not be read, and labels."""
    said = [None if row["prediction"] is None else json.loads(row["prediction"]) for row in rows]
    return said, [json.loads(row["label"]) for row in rows]


@dataclass(frozen=True)
class Votes:
    """An arm's answers on one half: of every photo its platform, its place among all, and (answer, vote)."""

    platforms: np.ndarray
    photos: np.ndarray
    pairs: np.ndarray


def votes(answers: pa.Table, asked: tuple[str, str, float | None], index: dict[str, int]) -> Votes | None:
    """What an arm said of the photos; None where it was not asked."""
    task, setting, share = asked
    table = contest(answers, task, setting, "expectation")
    if share is not None:
        table = table.filter(pc.field("label_fraction") == share)
    rows = table.sort_by("sample_id").to_pylist()
    if not rows:
        return None
    pairs = metrics.named("spearman").columns(*answered(rows))
    ids = [row["sample_id"] for row in rows]
    photos = np.array([index.setdefault(id, len(index)) for id in ids])
    return Votes(np.array([id.partition(":")[0] for id in ids]), photos, pairs)


def within(found: Votes, weights_PD: np.ndarray) -> np.ndarray:
    """Spearman's rho within each platform, averaged over these, for every draw of the photos."""
    weighted = metrics.named("spearman").weighted
    each = [
        weighted(found.pairs[found.platforms == name], weights_PD[found.photos[found.platforms == name]])
        for name in sorted(set(found.platforms))
    ]
    return np.mean(each, axis=0)


def photos(folder: Path, command: str) -> Iterator[str]:
    """Mean over the halves, with intervals over photos: a photo is drawn in all halves together."""
    experiments = found_in(folder)
    yield from provenance(folder, experiments, command)
    told = folder / CEILING
    if told.exists():
        rhos = json.loads(told.read_text(encoding="utf-8"))
        yield (
            f"The ceiling, the photos' own behavior against the votes: likes {rhos['likes']:.2f}; secondary, "
            f"likes over views {rhos['likes_over_views']:.2f}.\n\n"
        )
    arms = experiments[0].config["arms"] if experiments else []
    whole = [one for one in experiments if {(arm, 0) for arm in arms} <= set(one.cells)]
    if not whole:
        return
    yield f"{len(whole)} of {sophoappeal.NUM_SPLITS} halves are finished.\n\n"
    index: dict[str, int] = {}
    read = {
        (asked, arm): [votes(one.answers[arm, 0], asked, index) for one in whole]
        for asked in PHOTOS
        for arm in arms
    }
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(index), np.full(len(index), 1 / len(index)), size=DRAWS).T.astype(float)
    weights = np.concatenate([np.ones((len(index), 1)), drawn], axis=1)
    rows = []
    primary: dict[str, tuple[float | None, float | None]] = {}
    for asked in PHOTOS:
        means = {}
        for arm in arms:
            found = [one for one in read[asked, arm] if one is not None]
            if found:
                means[arm] = np.mean([within(one, weights) for one in found], axis=0)
        if not means:
            continue
        label = f"{asked[0]}, {asked[1]}" + ("" if asked[2] is None else f", {round(164 * asked[2])} labels")
        told = [_rho(means[arm]) if arm in means else "-" for arm in arms]
        gains = {
            arm: means["behavior"] - means[arm]
            for arm in ("content_only", "shuffled")
            if {"behavior", arm} <= means.keys()
        }
        if asked == PHOTOS[0]:
            primary = {arm: statistics.interval(draws[1:]) for arm, draws in gains.items()}
        both = (_rho(gains[arm]) if arm in gains else "-" for arm in ("content_only", "shuffled"))
        rows.append([label, *told, *both])
    head = ["asked", *arms, "behavior - content_only", "behavior - shuffled"]
    yield table(head, rows) + "\n"
    yield f"The primary, behavior minus its control, by the 95 % interval over photos: {outcome(primary)}\n\n"


def ceiling(data: Path) -> dict[str, float]:
    """Spearman's rho of likes, and of likes over views, with the votes: within each platform and averaged,
    on each test half, and averaged over these.
    """
    rows = {Path(row["image"]).stem: row for row in sophoappeal.rows_of(data)}
    found: dict[str, list[float]] = {"likes": [], "likes_over_views": []}
    for split in range(1, sophoappeal.NUM_SPLITS + 1):
        samples = photo_appeal.load(data, f"test_{split}")
        platforms = np.array([sample.id.partition(":")[0] for sample in samples])
        told = [rows[sample.id.partition(":")[2]] for sample in samples]
        likes = [float(row["likes"]) for row in told]
        shares = [float(row["likes"]) / max(1.0, float(row["views"])) for row in told]
        for name, values in (("likes", likes), ("likes_over_views", shares)):
            pairs = metrics.named("spearman").columns(values, [sample.label for sample in samples])
            at = Votes(platforms, np.arange(len(samples)), pairs)
            found[name].append(float(within(at, np.ones((len(samples), 1)))[0]))
    return {name: round(float(np.mean(values)), 4) for name, values in found.items()}


def _rho(values: np.ndarray) -> str:
    """The observed value, and the 95 % interval of its draws."""
    low, high = statistics.interval(values[1:])
    if not np.isfinite(values[0]):
        return "-"
    return f"{values[0]:.2f}" + ("" if low is None or high is None else f" [{low:.2f}, {high:.2f}]")


def texts(folder: Path, command: str) -> Iterator[str]:
    """Every arm's scores on texts of real people, mean over seeds, each beside base."""
    yield from provenance(folder, found_in(folder), command)
    if not found_in(folder):
        return
    rows = []
    gains: dict[str, tuple[float | None, float | None]] = {}
    arms = found_in(folder)[0].config["arms"]
    for task, metric_name, scoring in TEXTS:
        metric = metrics.named(metric_name)
        for setting in ("zero_shot", "few_shot"):
            runs: dict[Cell, np.ndarray] = {}
            shown: list[list[str]] = []
            for cell, answers in ((c, a) for one in found_in(folder) for c, a in one.answers.items()):
                found = contest(answers, task, setting, scoring).sort_by("sample_id").to_pylist()
                if found:
                    runs[cell] = metric.columns(*answered(found))
                    shown.append([row["cluster"] for row in found])
            if not runs:
                continue
            media = same(shown)
            whole = {seed for _, seed in runs if all((arm, seed) in runs for arm in arms)}
            drawn = dict(zip(runs, statistics.bootstrap(metric, list(runs.values()), media), strict=True))
            ones = np.ones((len(media), 1))
            observed = {cell: float(metric.weighted(run, ones)[0]) for cell, run in runs.items()}
            row = [f"{task}, {setting}, {metric_name}, n = {len(media)}"]
            for arm in arms:
                seeds = sorted(whole)
                value = mean([observed[arm, seed] for seed in seeds])
                gain = ""
                if arm != "base" and seeds:
                    gained = np.mean([observed[arm, seed] - observed["base", seed] for seed in seeds])
                    draws = np.mean([drawn[arm, seed] - drawn["base", seed] for seed in seeds], axis=0)
                    low, high = gains[f"{arm} ({task}, {setting})"] = statistics.interval(draws)
                    bounds = "" if low is None or high is None else f" [{low:+.3f}, {high:+.3f}]"
                    gain = f" ({gained:+.3f}{bounds})"
                row.append(number(value) + gain)
            rows.append(row)
    yield "In brackets the difference to base with its 95 % interval.\n\n"
    yield table(["task", *arms], rows) + "\n"
    yield f"Difference to base, by its interval: {outcome(gains)}\n\n"


SMOL = """## A pretrained language model

SmolLM2-135M-Instruct under EfficientNet-Lite0 (both Apache-2.0, from packages), in a synthetic world: drawn
pictures, simulated viewers, comments that name no emotion. The world's link between picture and feeling is
built in. What is tested is whether training on comments carries what the language model knows about such
words over to pictures, beyond what more pictures (content_only), more words (content_matched) and other
posts' comments (shuffled) do. It says nothing about real people. A label's prior, for `split`, is of the 80
unlabelled pictures of the benchmark's validation split.

"""


REAL_PHOTOS = """## Real photos

Photos of two platforms with the likes they got there, and a crowd's votes of appeal (SophoAppeal). An arm
learns of each photo of one half how many photos of its platform it was liked more than, and is asked for the
votes on the other half; Spearman within each platform, averaged over both. Out of domain, the models are
asked for votes on pictures that generators drew (AVT-AI-Images), within each of the five generators; these
have no likes. Which is the primary, the first row, was fixed before any arm was trained; how likes, and likes
over views, go with votes was seen before the first were chosen to be learned from.

"""


def page(results: Path) -> str:
    """The whole page."""
    parts = [
        "# Results\n\n"
        "Made by `python docs/results.py` from what lies in `results/`. "
        "Intervals are percentile bootstraps over media; pooled ones "
        "average the seeds. "
        "`split` takes a label's score on other, unlabelled pictures away; see evaluation/deciding.py.\n\n"
    ]
    parts.append(SMOL)
    parts.extend(section(results / "smol", "smol", "make smol"))
    parts.append("## What of it teaches (one seed)\n\n")
    run = "behavior-llava run --results results"
    ablating = f"{run}/smol_ablations configs/smol_ablations.yaml --like runs/smol"
    parts.extend(ablations(results / "smol_ablations", ablating))
    parts.append("## With labels\n\n")
    finetuning = f"{run}/smol_finetune configs/smol_finetune.yaml --like runs/smol"
    parts.extend(finetuned(results / "smol_finetune", finetuning))
    parts.append(REAL_PHOTOS)
    voting = f"{run}/real_photos configs/real_photos.yaml --like runs/smol"
    parts.extend(photos(results / "real_photos", voting))
    parts.append(
        "## Texts of real people\n\nThe models of the first section, asked of reviews and adverts.\n\n"
    )
    parts.extend(texts(results / "real_texts", f"{run}/real_texts configs/real_texts.yaml --like runs/smol"))
    return "".join(parts).rstrip() + "\n"


def section(folder: Path, name: str, command: str) -> Iterator[str]:
    """The experiment whose primary is the claim's."""
    experiments = found_in(folder)
    yield from provenance(folder, experiments, command)
    for experiment in experiments:
        yield from primary(experiment)
        yield figure(experiment, name)
        yield from secondary(experiment)


def main(arguments: Sequence[str]) -> int:
    """Writes the page, or compares it."""
    if arguments[:1] == ["--ceiling"]:
        place = ROOT / "results" / "real_photos" / CEILING
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, ceiling(Path(arguments[1])))
    text = page(ROOT / "results")
    if "--check" in arguments:
        is_same = PAGE.exists() and PAGE.read_text(encoding="utf-8") == text
        sys.stdout.write(
            "" if is_same else "docs/results.md is not what results/ says: run docs/results.py\n"
        )
        return 0 if is_same else 1
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)} is written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

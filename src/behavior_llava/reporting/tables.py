"""What the report says in words and tables, worked out from `summary.json` alone.

In: the summary and what is known about the tasks. Out: claims and rows of finished text. `page.py` puts
them on the page; model cards and Markdown may use them as well. Pure.

Undefined is shown as "undefined" and an arm that was not run as "not run": never as 0, never
as an empty cell.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from behavior_llava.evaluation.statistics import ALPHA, SEEN_POINTS
from behavior_llava.evaluation.summary import BASE, BEHAVIOR, CONTROLS, SHUFFLED, is_in_family, parted

UNDEFINED = "undefined"

_TEN = 10
_SMALLEST_P = 0.0001

ARM_WORDS = {
    "base": "nothing new: the model everything starts from",
    "content_only": "the same media and template with the behavior left out: what more media alone buys",
    "content_matched": "like content_only, with more description lines, until its targets are as long",
    "shuffled": "every post with another post's behavior: the same words, no signal (the placebo)",
    "behavior": "the media with the behavior its own receivers left: the arm under test",
    "ceiling": "the true labels themselves (sandbox only): what perfect training data would reach",
    "unfiltered": "behavior without the filters",
}

AGREEMENT_WORDS = {
    "num_likes": "pairs of posts compared by their likes",
    "num_comments": "pairs of posts compared by their comments",
    "same_like_bucket": "share of pairs in the same fifth of likes (0.2 by chance)",
    "like_correlation": "rank correlation of own and received likes",
    "identical_comments": "share of received comments that the post's own viewers wrote too",
}
"""The fields of data/arms.Agreement, as a reader meets them."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What may be said about one setting.

    Attributes:
        run: whose arms these are, where runs are compared; else empty.
        tasks: every primary comparison in which `behavior` has a score.
        won: those where it beats every control: Holm p below 0.05 and each seed's interval clear of 0. A seed
            of `behavior` that a control lacks cannot be won.
        lost: those where it is worse than a control by the same rule.
        won_over: the same as `won`, control by control.
        missing: controls without a single comparison; nothing can be won without them.
        seeds: the seeds compared.
    """

    setting: str
    tasks: tuple[str, ...]
    won: tuple[str, ...]
    lost: tuple[str, ...]
    won_over: Mapping[str, tuple[str, ...]]
    missing: tuple[str, ...]
    seeds: tuple[int, ...]
    run: str = ""

    @property
    def sentence(self) -> str:
        """The claim in one sentence, with its numbers."""
        where = f"{self.run}, {self.setting}" if self.run else self.setting
        if self.missing:
            return (
                f"{where}: no claim can be made on {_count(self.tasks)}, "
                f"because {' and '.join(self.missing)} was not compared."
            )
        seeds = f"seed {self.seeds[0]}" if len(self.seeds) == 1 else f"each of {len(self.seeds)} seeds"
        return (
            f"{where}: behavior beats content_only and shuffled on {len(self.won)} of "
            f"{_count(self.tasks)} after Holm (95 % interval of the paired difference clear of 0 in {seeds})."
        )

    @property
    def details(self) -> str:
        """The parts of the claim: over each control alone, and where behavior is worse."""
        parts = [f"Over {control} alone: {len(tasks)}." for control, tasks in self.won_over.items()]
        if self.won:
            parts.insert(0, f"Won: {', '.join(self.won)}.")
        worse = ", ".join(self.lost) if self.lost else "none"
        return " ".join([*parts, f"Worse than a control: {worse}."])


def claims(summary: Mapping[str, Any]) -> list[Claim]:
    """One claim a setting, from the primary rows; of compared runs, one for each that has `behavior`."""
    found = []
    behavior = [row for row in summary["results"] if row["primary"] and parted(row["arm"])[1] == BEHAVIOR]
    family = [row for row in summary["differences"] if is_in_family(row)]
    seeds_run = _seeds_run(behavior)
    runs = dict.fromkeys(parted(arm)[0] for arm in summary["arms"])
    for setting, run in itertools.product(dict.fromkeys(row["setting"] for row in summary["results"]), runs):
        own = [row for row in behavior if (row["setting"], parted(row["arm"])[0]) == (setting, run)]
        if run and not own:
            continue
        tasks = tuple(dict.fromkeys(map(contest_name, own)))
        rows = [row for row in family if (row["setting"], parted(row["arm"])[0]) == (setting, run)]
        signs = {
            (task, control): _verdict(
                [row for row in rows if (contest_name(row), _control(row)) == (task, control)], seeds_run
            )
            for task in tasks
            for control in CONTROLS
        }
        found.append(
            Claim(
                setting=setting,
                tasks=tasks,
                won=tuple(task for task in tasks if all(signs[task, one] > 0 for one in CONTROLS)),
                lost=tuple(task for task in tasks if any(signs[task, one] < 0 for one in CONTROLS)),
                won_over={one: tuple(task for task in tasks if signs[task, one] > 0) for one in CONTROLS},
                missing=tuple(one for one in CONTROLS if not any(_control(row) == one for row in rows)),
                seeds=tuple(sorted({row["seed"] for row in rows if row["seed"] is not None})),
                run=run,
            )
        )
    return found


def _control(row: Mapping[str, Any]) -> str:
    """What a difference is measured against, by its name in its run."""
    return parted(row["against"])[1]


def _count(tasks: Sequence[str]) -> str:
    return f"{len(tasks)} task" if len(tasks) == 1 else f"{len(tasks)} tasks"


def _seeds_run(results: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], set[int]]:
    """The seeds of every arm in every contest: all of them have to be compared."""
    seeds: dict[tuple[Any, ...], set[int]] = defaultdict(set)
    for row in results:
        if row["seed"] is not None:
            seeds[_run_key(row)].add(row["seed"])
    return seeds


def _run_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return row.get("group"), row["setting"], contest_name(row), row["scoring"], row["arm"]


def _verdict(rows: Sequence[Mapping[str, Any]], seeds_run: Mapping[tuple[Any, ...], set[int]]) -> int:
    """1 for better, -1 for worse, 0 for not shown; from one contest's rows against one control."""
    pooled = [row for row in rows if row["seed"] is None]
    if not pooled or pooled[0]["p_holm"] is None or pooled[0]["p_holm"] >= ALPHA:
        return 0
    if {row["seed"] for row in rows if row["seed"] is not None} != seeds_run[_run_key(pooled[0])]:
        return 0
    signs = {interval_sign(row) for row in rows}
    return signs.pop() if len(signs) == 1 else 0


def interval_sign(row: Mapping[str, Any]) -> int:
    """1 where a difference's interval lies on the better side of 0, -1 on the worse, 0 for neither."""
    if row["low"] is None or row["high"] is None:
        return 0
    sign = 1 if row["low"] > 0 else -1 if row["high"] < 0 else 0
    return sign if row["higher_is_better"] else -sign


def contest_name(row: Mapping[str, Any]) -> str:
    """The task's name, with whatever sets this comparison apart from the task's usual one."""
    extra = _extra(row["label_fraction"], row["shots"])
    return f"{row['task']} ({extra})" if extra else row["task"]


def variant_name(setting: str, label_fraction: float | None, shots: int) -> str:
    """A way of asking: the setting, the share of labels learned from, and how many were shown first."""
    extra = _extra(label_fraction, shots)
    return f"{setting}, {extra}" if extra else setting


def _extra(label_fraction: float | None, shots: int) -> str:
    extra = []
    if label_fraction is not None:
        extra.append(f"{100 * label_fraction:g} % of labels")
    if shots:
        extra.append(f"{shots}-shot")
    return ", ".join(extra)


# ---- rows of text ------------------------------------------------------------------------------------------


def result_tables(
    summary: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]], by: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Primary scores, one table for all tasks that `by` gives one name: a line a comparison, a cell an arm,
    chance and majority beside them.

    Each line: task, setting, scoring, metric, modality, n, clusters, coverage, chance, majority, published,
    cells, and seeds (one list of cells a seed).
    """
    chosen = [row for row in summary["results"] if row["primary"]]
    arms = list(summary["arms"])
    return [
        {"name": name, "arms": arms, "lines": _lines(rows, arms, tasks)}
        for name, rows in _by(chosen, lambda row: by(row["task"]))
    ]


def secondary_tables(
    summary: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Like `result_tables`, of scores that no claim is made of; one table a setting."""
    chosen = [row for row in summary["results"] if not row["primary"]]
    arms = list(summary["arms"])
    return [
        {"setting": setting, "arms": arms, "lines": _lines(rows, arms, tasks)}
        for setting, rows in _by(chosen, lambda row: row["setting"])
    ]


def group_tables(summary: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Like `result_tables`, for sub-groups of items that are scored apart; one table a setting and group."""
    chosen = [row for row in summary.get("groups", ()) if row["primary"]]
    return [
        {
            "setting": setting,
            "group": group,
            "arms": list(summary["arms"]),
            "lines": _lines(rows, summary["arms"], tasks),
        }
        for (setting, group), rows in _by(chosen, lambda row: (row["setting"], row["group"]))
    ]


def contamination_words(facts: Mapping[str, Any]) -> str | None:
    """What was compared with training data, what was found and what could not be told; None where nobody
    looked.
    """
    if not facts:
        return None
    hits = sum(task["hits"] for task in facts["tasks"].values())
    many = "1 test sample is a hit" if hits == 1 else f"{hits:,} test samples are hits"
    found = many if hits else "No hit"
    if "media" not in facts:
        of_tasks = [f"{name} {task['hits']:,}" for name, task in facts["tasks"].items() if task["hits"]]
        of_task = f": {', '.join(of_tasks)}" if of_tasks else ""
        return f"{found}{of_task}; more was not kept."
    said = (
        f"{found} among {facts['media']:,} media and {facts['texts']:,} texts of the test splits, against "
        f"{facts['training_media']:,} media and {facts['training_rows']:,} rows of training data."
    )
    unreadable = sum(sum(reasons.values()) for reasons in facts["unreadable"].values())
    untold = [
        f"{count:,} {words}"
        for count, words in (
            (unreadable, "media could not be read"),
            (facts["plain"]["benchmark"], "test media have too little in them to be told from others"),
            (facts["short_texts"], "texts have too few words of their own"),
        )
        if count
    ]
    return f"{said} Not compared: {'; '.join(untold)}." if untold else said


def contamination_tables(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every task with hits: its primary pooled scores with and without them, a line a setting and an arm."""
    of_all = {_identity(row): row for row in summary["results"]}
    found = []
    for row in summary.get("without_contamination", ()):
        if row["primary"] and row["seed"] is None:
            whole = of_all[_identity(row)]
            found.append(
                {
                    "task": contest_name(row),
                    "setting": row["setting"],
                    "metric": row["metric"],
                    "arm": row["arm"],
                    "hits": row["hits"],
                    "n": whole["n"],
                    "value": number(whole["value"]),
                    "interval": bracket(whole["low"], whole["high"]),
                    "value_without": number(row["value"]),
                    "interval_without": bracket(row["low"], row["high"]),
                }
            )
    return [
        {"setting": setting, "lines": lines} for setting, lines in _by(found, lambda line: line["setting"])
    ]


def _identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    names = ("benchmark", "task", "setting", "label_fraction", "shots", "scoring", "primary", "arm", "seed")
    return tuple(row[name] for name in names)


def difference_tables(summary: Mapping[str, Any], *, groups: bool = False) -> list[dict[str, Any]]:
    """One table a setting of the pooled primary differences; each line knows on which side of 0 it is.

    `lines` are those of behavior, and of the placebo, against the controls; `others` (base, ceiling,
    ablations, other runs) put them in proportion.
    """
    source = summary.get("group_differences", ()) if groups else summary["differences"]
    chosen = [row for row in source if row["primary"]]
    seeds_run = _seeds_run(summary.get("groups", ()) if groups else summary["results"])
    tables = []
    for setting, rows in _by(chosen, lambda row: row["setting"]):
        lines = []
        for _, same in _by(
            rows,
            lambda row: (row.get("group"), contest_name(row), row["scoring"], row["arm"], row["against"]),
        ):
            pooled = [row for row in same if row["seed"] is None]
            seeds = [row for row in same if row["seed"] is not None]
            lines += [_difference_line(row, seeds, len(seeds_run[_run_key(row)])) for row in pooled]
        tables.append(
            {
                "setting": setting,
                "lines": [line for line in lines if _is_of_controls(line)],
                "others": [line for line in lines if not _is_of_controls(line)],
            }
        )
    return tables


def _is_of_controls(line: Mapping[str, Any]) -> bool:
    (run, arm), (other, against) = parted(line["arm"]), parted(line["against"])
    return run == other and arm in (BEHAVIOR, SHUFFLED) and against in CONTROLS


def equivalence_lines(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The low-level tasks, where the paper expects no change: is "no change" shown?"""
    return [
        {
            "task": contest_name(row),
            "setting": row["setting"],
            "against": row["against"],
            "difference": signed(row["value"]),
            "interval": bracket(row["low90"], row["high90"], signs=True),
            "n": row["n"],
            "verdict": row["equivalence"] or UNDEFINED,
            "needed": _needed_words(row, "media_needed_equivalence", "for a verdict if nothing changed")
            if row["equivalence"] == "inconclusive"
            else None,
        }
        for row in summary["differences"]
        if row["equivalence"] is not None
        and row["primary"]
        and row["seed"] is None
        and parted(row["arm"])[1] == BEHAVIOR
        and parted(row["against"]) in [(parted(row["arm"])[0], one) for one in (BASE, *CONTROLS)]
    ]


def _lines(
    rows: Sequence[Mapping[str, Any]], arms: Sequence[str], tasks: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    lines = []
    for _, same in _by(
        rows, lambda row: (row["benchmark"], contest_name(row), row["setting"], row["scoring"])
    ):
        first = same[0]
        task = tasks.get(first["task"], {})
        seeds = sorted({row["seed"] for row in same if row["seed"] is not None})
        lines.append(
            {
                "task": contest_name(first),
                "setting": first["setting"],
                "benchmark": first["benchmark"],
                "scoring": first["scoring"],
                "metric": first["metric"],
                "is_lower_better": task.get("higher_is_better") is False,
                "modality": first["modality"],
                "n": first["n"],
                "clusters": first["n_clusters"],
                "coverage": percent(first["coverage"]),
                "chance": number(first["chance"]),
                "majority": number(first["majority"]),
                "published": "none" if task.get("published") is None else number(task["published"]),
                "cells": [_cell(same, arm, None) for arm in arms],
                "seeds": [
                    {"seed": seed, "cells": [_cell(same, arm, seed) for arm in arms]} for seed in seeds
                ],
            }
        )
    return lines


def _cell(rows: Sequence[Mapping[str, Any]], arm: str, seed: int | None) -> dict[str, Any] | None:
    """One arm's number with its interval; None where the arm was not run."""
    for row in rows:
        if row["arm"] == arm and row["seed"] == seed:
            return {
                "arm": arm,
                "value": number(row["value"]),
                "is_defined": row["value"] is not None,
                "interval": bracket(row["low"], row["high"]),
                "unparsed": percent(row["unparsed"]),
                "has_unparsed": bool(row["unparsed"]),
            }
    return None


def _difference_line(
    row: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]], num_seeds: int
) -> dict[str, Any]:
    verdict = _verdict_words(row, seeds, num_seeds)
    return {
        "task": contest_name(row),
        "group": row.get("group"),
        "metric": row["metric"],
        "arm": row["arm"],
        "against": row["against"],
        "value": signed(row["value"]),
        "interval": bracket(row["low"], row["high"], signs=True),
        "p": p_value(row["p"]),
        "p_holm": p_value(row["p_holm"]) if is_in_family(row) else "not in family",
        "n": row["n"],
        "verdict": verdict,
        "needed": None
        if verdict in ("better", "worse")
        else _needed_words(row, "media_needed", f"to see {SEEN_POINTS:g} points"),
        "is_lower_better": not row["higher_is_better"],
    }


def _needed_words(row: Mapping[str, Any], key: str, purpose: str) -> str | None:
    """How many media it would take, where that is more than there were; two digits, rounded up."""
    needed = row[key]
    if needed is None or needed <= row["n_clusters"]:
        return None
    unit = 10 ** max(0, len(str(needed)) - 2)
    return f"about {-(-needed // unit) * unit:,} media {purpose}; there were {row['n_clusters']:,}"


def _verdict_words(pooled: Mapping[str, Any], seeds: Sequence[Mapping[str, Any]], num_seeds: int) -> str:
    """The rule of claims in words: "better" and "worse" by it; what falls short of it says where.

    Args:
        seeds: the seeds that were compared; num_seeds: those the first arm has.
    """
    sign = interval_sign(pooled)
    if sign == 0:
        return "not shown"
    word = "better" if sign > 0 else "worse"
    # items of a group are in no family
    is_tested = is_in_family(pooled) and "group" not in pooled
    if is_tested and (pooled["p_holm"] is None or pooled["p_holm"] >= ALPHA):
        return f"{word} before Holm only"
    agreeing = sum(interval_sign(one) == sign for one in seeds)
    return word if agreeing == num_seeds else f"{word} in {agreeing} of {num_seeds} seeds"


def _by(rows: Iterable[Mapping[str, Any]], key: Any) -> list[tuple[Any, list[Mapping[str, Any]]]]:
    """Rows gathered by a key, in the order the keys first appear."""
    gathered: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        gathered.setdefault(key(row), []).append(row)
    return list(gathered.items())


# ---- numbers -----------------------------------------------------------------------------------------------


def number(value: float | int | None) -> str:
    """Three decimals below 10, one above, a true minus; a count as it is; "undefined" for None."""
    if value is None:
        return UNDEFINED
    if isinstance(value, int):
        return f"{value:,}"
    text = f"{value:.3f}" if abs(value) < _TEN else f"{value:.1f}"
    return text.replace("-", "\u2212")


def signed(value: float | None) -> str:
    """Like `number`, always with a sign (a true minus)."""
    if value is None:
        return UNDEFINED
    return ("\u2212" if value < 0 else "+") + number(abs(value))


def change(value: float | None) -> str:
    """A signed number at a length that fits a cell: two decimals below 1, one above."""
    if value is None:
        return UNDEFINED
    text = f"{abs(value):.2f}" if abs(value) < 1 else f"{abs(value):.1f}"
    return ("\u2212" if value < 0 else "+") + text


def change_interval(low: float | None, high: float | None) -> str:
    """An interval in the form of `change`; "no interval" where it is undefined."""
    return "no interval" if low is None or high is None else f"[{change(low)}, {change(high)}]"


def gain(share: float | None) -> str:
    """A relative gain as a signed percentage; "undefined" for None."""
    if share is None:
        return UNDEFINED
    return f"{chr(0x2212) if share < 0 else '+'}{100 * abs(share):.1f} %"


def bracket(low: float | None, high: float | None, *, signs: bool = False) -> str:
    """An interval; "no interval" where it is undefined."""
    if low is None or high is None:
        return "no interval"
    form = signed if signs else number
    return f"[{form(low)}, {form(high)}]"


def percent(share: float | None) -> str:
    """A share as a percentage; "unknown" for None."""
    return "unknown" if share is None else f"{100 * share:.1f} %"


def p_value(p: float | None) -> str:
    """Four decimals, and a bound instead of 0.0000."""
    if p is None:
        return UNDEFINED
    return "< 0.0001" if p < _SMALLEST_P else f"{p:.4f}"

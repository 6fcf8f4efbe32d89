"""Experiments on several tasks on one page: which method, and is it better than a probe?

    python -m studies.tasks results/few-*     writes results/few.md, few.csv and few.png

Experiments with the same model and number of labels form a group. A group opens with the planned
contrasts of the mean over its tasks. The tasks must differ, so that their errors are independent:
the mean is known better than any one task. Only files that the same command wrote are replaced.
"""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from boundary import BadInput, write
from evaluation import report, tables
from evaluation.markdown import code, escape, with_interval
from evaluation.markdown import table as markdown
from evaluation.metrics import METRICS, PLANNABLE
from evaluation.results import Results
from evaluation.style import (
    as_difference,
    as_text,
    save,
    set_style,
)

from . import compact
from .task_figures import MEAN, by_labels, differences

TITLE = "Which method, on which task?"
LABELS = "What are more labels worth?"
CUT = ("max_tokens", "truncation", "blocks")  # equal where a figure shows several numbers of labels
CONSTANTS = ("model", "max_tokens", "truncation", "pooling", "blocks", "epochs")  # on the page
FILES = (".md", ".csv", ".png", "-labels.png")  # ends of the names of written files
# A method's place, by the verdict on its difference from the best method.
PLACES = {"significant": "worse", "equivalent": "equivalent", "not significant": ""}
SAME = ("equivalence_margin", "metric")  # equal in all experiments of a page


def accuracies(experiments: Sequence[Results]) -> pd.DataFrame:
    """A row for each experiment and method: its metrics with intervals, and its place.

    `place` is "best" for an experiment's highest accuracy, "worse" for a significant difference
    from the best method, "equivalent", or empty.
    """
    parts, scores = [], [f"test_{name}" for name in METRICS if name not in PLANNABLE]
    for results in experiments:
        points = results.intervals.assign(**_where(results), place="")
        points["label"] = results.labels(points["method"])
        points = points.join(results.means[scores], on="method")
        points["collapsed"] = points["method"].map(
            results.runs.groupby("method")["collapsed"].sum()
        )
        best = points.loc[points["accuracy"].idxmax(), "method"]
        pairs = results.pairs if results.metric == "accuracy" else results.pairs[:0]  # no marks
        for pair in pairs[(pairs[["method_a", "method_b"]] == best).any(axis=1)].itertuples():
            is_in_pair = points["method"].isin([pair.method_a, pair.method_b])
            points.loc[is_in_pair, "place"] = PLACES[pair.verdict]
        points.loc[np.isclose(points["accuracy"], points["accuracy"].max()), "place"] = "best"
        parts.append(points)
    return pd.concat(parts, ignore_index=True)


def contrasts(experiments: Sequence[Results]) -> pd.DataFrame:
    """The planned contrasts that every task has: of the tasks' mean, then of each task.

    Holm's correction is within the mean and within each task. The experiments are of one group: one
    model and number of labels. With one task there is no mean.
    """
    tables = [results.contrasts.assign(**_where(results)) for results in experiments]
    planned = [list(zip(table["method_a"], table["method_b"], strict=True)) for table in tables]
    pairs = [pair for pair in planned[0] if all(pair in others for others in planned)]
    if len(experiments) > 1:
        mean = experiments[0].compare(pairs, experiments[1:])
        tables = [mean.assign(**_where(experiments[0]) | {"task": MEAN}), *tables]
    table = pd.concat(tables, ignore_index=True)
    names = {pair: as_difference(*experiments[0].labels(pair)) for pair in pairs}
    of_rows = map(names.get, zip(table["method_a"], table["method_b"], strict=True))
    return table.assign(difference_of=list(of_rows)).dropna(subset="difference_of")


def _where(results):
    """An experiment's task, model, labels and group; a group is a section of the page."""
    labels = results.experiment["data"]["train"] + results.experiment["data"]["validation"]
    model = results.experiment["model"]
    group = f"{model}, {labels:,} labels"
    return {"task": task_of(results), "model": model, "labels": labels, "group": group}


def task_of(results: Results) -> str:
    """The name of an experiment's task."""
    return results.experiment["constants"]["dataset"]


# ---------------------------------------------------------------------------- the page


def page(groups: dict[str, list[Results]], points, pairs, images: Sequence[str]) -> str:
    """The figures; for each group, contrasts of the mean and methods by tasks; then the tasks."""
    parts = [f"# {TITLE}", *images]
    for name, experiments in groups.items():
        rows = (table[table["group"] == name] for table in (points, pairs))
        parts += [f"## {escape(name)}", *_section(experiments, *rows)]
    return "\n\n".join([*parts, "## The tasks", _tasks(sum(groups.values(), []))]) + "\n"


def _section(experiments, points, pairs):
    parts, means = [], pairs[pairs["task"] == MEAN]
    if len(means):
        parts += [f"### Planned contrasts: {MEAN}", tables.comparisons(experiments[0], means)]
    parts += ["### Test accuracy, %", grid(_with_means(points), "label", _accuracy)]
    marks = "; ≈: equivalent to that, †: significantly worse, on its page"
    tested, covered = experiments[0].metric, dict.fromkeys(each.covers for each in experiments)
    parts.append(
        f"Means over the seeds; in brackets 95 % intervals, of {' or '.join(covered)}. Bold: "
        f"the highest of its task{marks * (tested == 'accuracy')}."
    )
    for name, metric in METRICS.items():
        if name != "accuracy":
            cells = grid(points, "label", partial(_cell, metric=name))
            parts += [f"### Test {metric.heading}", cells]
    if points["collapsed"].any():
        runs = grid(points, "label", lambda row: f"{row.collapsed:,.0f}")
        parts += ["### Runs that give every text one label", runs]
    if len(pairs):
        alone = pairs[pairs["task"] != MEAN]
        of = f", {METRICS[tested].label}" * (tested != "accuracy")
        rows = grid(alone, "difference_of", _difference)
        parts += [f"### Planned contrasts of each task{of}", rows]
    return parts


def _cell(row, metric):
    if metric in PLANNABLE:
        return with_interval(*(getattr(row, f"{metric}{end}") for end in ("", "_low", "_high")))
    return METRICS[metric].text(getattr(row, f"test_{metric}"))


def _with_means(points):
    """These accuracies and, for each method that all tasks have, the mean over the tasks."""
    means = points.groupby("label", sort=False)["accuracy"].agg(["mean", "size"])
    means = means.loc[means["size"] == points["task"].nunique(), "mean"]
    means = means.rename("accuracy").reset_index().assign(task=MEAN, place="")
    return pd.concat([points, means]) if points["task"].nunique() > 1 else points


def grid(table: pd.DataFrame, rows: str, cell: Callable) -> str:
    """A markdown table with a column for each task, and a row for each value of column `rows`."""
    names = list(dict.fromkeys(table[rows]))
    columns = {"method" if rows == "label" else "difference": names}
    for task, part in table.groupby("task", sort=False):
        cells = {getattr(row, rows): cell(row) for row in part.itertuples()}
        columns[escape(task)] = [cells.get(name, "") for name in names]
    return markdown(columns)


def _accuracy(row):
    text = _cell(row, "accuracy")
    marked = {"best": f"**{text}**", "equivalent": f"{text} ≈", "worse": f"{text} †"}
    return marked.get(row.place, text)


def _difference(row):
    text = with_interval(row.difference, row.low, row.high)
    return text if row.verdict == "not significant" else f"{text}, **{row.verdict}**"


def _tasks(experiments):
    data = [results.experiment["data"] for results in experiments]
    columns = {
        "task": [_link(results, experiments[0].folder.parent) for results in experiments],
        "classes": [str(len(r.experiment["label_names"])) for r in experiments],
        "labelled texts": [f"{each['train'] + each['validation']:,}" for each in data],
        "test texts": [f"{each['test']:,}" for each in data],
        "seeds": [str(r.runs["seed"].nunique()) for r in experiments],
    }
    for name in CONSTANTS:
        values = [as_text(r.experiment["constants"].get(name)) for r in experiments]
        columns[name.upper()] = map(escape, values)
    return markdown(columns)


def _link(results, base):
    """A link from the folder `base` to an experiment's page; without a page the task's name."""
    task, page = escape(task_of(results)), results.folder / "report.md"
    return f"[{task}]({quote(_from(base, page))})" if page.exists() else task


def _from(base, path):
    return Path(os.path.relpath(path, base)).as_posix()


def write_page(*folders: Path) -> list[Path]:
    """Write the page, its table and its figures beside the folders; returns their paths."""
    experiments = [compact.read(folder.absolute()) for folder in folders]
    groups, points = _groups(experiments), accuracies(experiments)
    pairs = pd.concat([contrasts(group) for group in groups.values()], ignore_index=True)
    common = os.path.commonprefix([results.folder.name.split("-") for results in experiments])
    base = experiments[0].folder.parent
    path = base / ("-".join(common) or "tasks")
    names = [_from(base, results.folder) for results in experiments]
    made = code(f"python -m studies.tasks {shlex.join(names)}")
    _check(path, made)
    looks = {method: look for results in experiments for method, look in results.looks.items()}
    set_style()
    figures = {}  # by title
    if drawn := by_labels(_cut_alike(points, experiments), looks):
        figures[LABELS] = Path(f"{path}-labels.png"), drawn
    if len(pairs):
        figures[TITLE] = Path(f"{path}.png"), differences(pairs, experiments[0].margin)
    images = [f"![{title}]({quote(file.name)})" for title, (file, _) in figures.items()]
    source = "From the files alone, in this folder, with the repository in PYTHONPATH:"
    text = f"{page(groups, points, pairs, images)}\n{source}\n\n{made}\n"
    return [
        write(Path(f"{path}.md"), text),
        write(Path(f"{path}.csv"), points.to_csv(index=False, float_format="%.6g")),  # on any CPU
        *(save(file, drawn, title, "") for title, (file, drawn) in figures.items()),
    ]


def _cut_alike(points, experiments):
    """The points of models and tasks whose experiments all have the same values of `CUT`."""
    values = {}
    for results in experiments:
        key = results.experiment["model"], task_of(results)
        values.setdefault(key, set()).add(tuple(map(results.experiment["constants"].get, CUT)))
    keys = zip(points["model"], points["task"], strict=True)
    return points[[len(values[key]) == 1 for key in keys]]


def _groups(experiments):
    """The experiments by model and number of labels.

    Raises `BadInput` where a constant of `SAME` differs, and for a data set that a mean would count
    twice: its errors are not independent.
    """
    for name in SAME:
        values = list(dict.fromkeys(each.experiment["constants"][name] for each in experiments))
        if len(values) > 1:
            line = f"{name.upper()} is {values[0]} and {values[1]}"
            raise BadInput(f"{line}; expected one value for all")
    groups, folders = {}, {}
    for results in experiments:
        name, task = _where(results)["group"], task_of(results)
        group = groups.setdefault(name, [])
        if task in map(task_of, group):
            raise BadInput(f"{task} is the DATASET of two of these experiments; expected others")
        group.append(results)
        digests = results.experiment["digests"]
        digest = digests.get("data digest") or digests.get("data")  # of earlier versions
        if digest and (name, digest) in folders:
            both = f"{folders[name, digest]} and {results.folder}"
            raise BadInput(f"{both} have the same data, which would count twice; give one of them")
        folders[name, digest] = results.folder
    return groups


def _check(path, made):
    """Raise `BadInput` where a file that is not of this command would be overwritten."""
    page = Path(f"{path}.md")
    files = [file for end in FILES if (file := Path(f"{path}{end}")).exists()]
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    if files and not text.endswith(f"{made}\n"):
        line = f"{files[0]} is there, and this command for the same folders has not written it"
        raise BadInput(f"{line}; move it away first")


def main(arguments: list[str] | None = None) -> int:
    """Write one page of the given folders; returns the exit status, 0 or 2."""
    expected = "give two folders of results or more, such as results/few-*"
    return report.main(arguments, write_page, range(2, 1000), expected)


if __name__ == "__main__":
    sys.exit(main())

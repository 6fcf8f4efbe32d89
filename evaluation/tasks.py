"""Experiments on several tasks on one page: which method, and is it better than a probe?

    python -m evaluation.tasks results/few-*     writes results/few.md, few.csv and few.png

The page opens with the planned contrasts of the mean over the tasks, which must be different ones:
their errors are independent, so the mean is known better than any one task.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from boundary import BadInput, write

from . import statistics, tables
from .comparisons import difference_bars
from .files import run_command
from .markdown import escape, interval, percent
from .markdown import table as markdown
from .results import Results
from .style import as_text, plt, save, set_style

TITLE = "Which method, on which task?"
MEAN = "mean of the tasks"
CONSTANTS = ("model", "max_tokens", "truncation", "pooling", "blocks", "epochs")  # on the page
NOTE = (
    "Means over the seeds; in brackets the 95 % interval of other seeds, on these reviews. Bold: "
    "the highest of its task; †: significantly worse than that, on the task's page."
)
BARS = "bars: 95 % intervals of single differences, of other seeds and other test reviews"


def accuracies(experiments: Sequence[Results]) -> pd.DataFrame:
    """A row for each task and method: accuracy, interval, macro-F1, calibration error, `place`.

    `place` is "best" for the highest accuracy of a task, "worse" for what differs from that.
    """
    parts = []
    for results in experiments:
        points = results.intervals.assign(task=task_of(results), place="")
        points["label"] = [results.looks[method].label for method in points["method"]]
        means = results.runs.groupby("method")[["macro_f1", "calibration_error"]].mean()
        points = points.join(means, on="method")
        best = points.loc[points["accuracy"].idxmax(), "method"]
        pairs = pd.concat([results.contrasts, results.comparisons])
        pairs = pairs.loc[pairs["verdict"] == "different", ["method_a", "method_b"]]
        worse = pairs[(pairs == best).any(axis=1)].to_numpy().ravel()
        points.loc[points["method"].isin(worse), "place"] = "worse"
        points.loc[points["method"] == best, "place"] = "best"
        parts.append(points)
    return pd.concat(parts, ignore_index=True)


def contrasts(experiments: Sequence[Results]) -> pd.DataFrame:
    """The planned contrasts that every task has: of their mean, then of each; Holm within each."""
    each = [results.contrasts.assign(task=task_of(results)) for results in experiments]
    pairs = [list(zip(own["method_a"], own["method_b"], strict=True)) for own in each]
    pairs = [pair for pair in pairs[0] if all(pair in own for own in pairs)]
    tasks = [(results.predictions.right(), results.predictions.seeds()) for results in experiments]
    means = statistics.compare_over_tasks(tasks, pairs, experiments[0].margin).assign(task=MEAN)
    found, label = pd.concat([means, *each], ignore_index=True), experiments[0].looks
    two = list(zip(found["method_a"], found["method_b"], strict=True))
    found = found[[pair in pairs for pair in two]]
    texts = [f"{label[a].label} − {label[b].label}" for a, b in two if (a, b) in pairs]
    return found.assign(difference_of=texts)


def task_of(results: Results) -> str:
    """What its task is called."""
    return results.experiment["constants"]["dataset"]


# ---------------------------------------------------------------------------- the page


def page(experiments: Sequence[Results], points, pairs, image: str) -> str:
    """The contrasts of the mean, the figure, methods by tasks, contrasts by tasks, the tasks."""
    parts = [f"# {TITLE}"]
    if len(pairs):
        means = tables.comparisons(experiments[0], pairs[pairs["task"] == MEAN])
        parts += [f"## Planned contrasts: {MEAN}", means, f"![{TITLE}]({image})"]
    parts += ["## Test accuracy, %", grid(points, "label", _accuracy), NOTE]
    many = [task_of(r) for r in experiments if len(r.experiment["label_names"]) > 2]
    if many:
        rows = points[points["task"].isin(many)]
        parts += ["## Macro-F1, %", grid(rows, "label", lambda row: percent(row.macro_f1))]
    trust = grid(points, "label", lambda row: percent(row.calibration_error))
    parts += ["## Expected calibration error, points", trust]
    if len(pairs):
        alone = pairs[pairs["task"] != MEAN]
        parts += ["## Planned contrasts of each task", grid(alone, "difference_of", _difference)]
    return "\n\n".join([*parts, "## The tasks", _tasks(experiments)]) + "\n"


def grid(table: pd.DataFrame, rows: str, cell: Callable) -> str:
    """A markdown table with a column for each task, and a row for each value of column `rows`."""
    names = list(dict.fromkeys(table[rows]))
    columns = {"method" if rows == "label" else "difference": map(escape, names)}
    for task, part in table.groupby("task", sort=False):
        cells = {getattr(row, rows): cell(row) for row in part.itertuples()}
        columns[escape(task)] = [cells.get(name, "") for name in names]
    return markdown(columns)


def _accuracy(row):
    text = f"{percent(row.accuracy)} ({interval(row.low, row.high)})"
    return {"best": f"**{text}**", "worse": f"{text} †"}.get(row.place, text)


def _difference(row):
    text = f"{percent(row.difference)} ({interval(row.low, row.high)})"
    return text if row.verdict == "undecided" else f"{text}, **{row.verdict}**"


def _tasks(experiments):
    data = [results.experiment["data"] for results in experiments]
    columns = {
        "task": [f"[{escape(task_of(r))}]({r.folder.name}/report.md)" for r in experiments],
        "classes": [str(len(r.experiment["label_names"])) for r in experiments],
        "labelled reviews": [f"{each['train'] + each['validation']:,}" for each in data],
        "test reviews": [f"{each['test']:,}" for each in data],
        "seeds": [str(r.runs["seed"].nunique()) for r in experiments],
    }
    for name in CONSTANTS:
        values = [as_text(r.experiment["constants"].get(name)) for r in experiments]
        columns[name.upper()] = map(escape, values)
    return markdown(columns)


def figure(pairs: pd.DataFrame, margin: float):
    """A panel for each contrast: the difference of each task, and at the bottom of their mean."""
    names = list(dict.fromkeys(pairs["difference_of"]))
    tasks = [task for task in dict.fromkeys(pairs["task"]) if task != MEAN] + [MEAN]
    size = (3.3 * len(names) + 1.2, 1.4 + 0.42 * len(tasks))
    image, panels = plt.subplots(
        1, len(names), figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for axes, name in zip(panels[0], names, strict=True):
        rows = pairs[pairs["difference_of"] == name].set_index("task").loc[tasks]
        handles = difference_bars(axes, rows, margin)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("points")
    panels[0, 0].set_yticks(range(len(tasks)), tasks)
    panels[0, 0].set_ylim(len(tasks) - 0.5, -0.5)
    return image, BARS, handles


def write_page(*folders: Path) -> list[Path]:
    """Write the page, its table and its figure beside the folders; returns their paths."""
    experiments = [Results.read(folder.absolute()) for folder in folders]
    tasks = [task_of(results) for results in experiments]
    for task in tasks:
        if tasks.count(task) > 1:
            raise BadInput(f"{task} is the DATASET of two of these experiments; expected others")
    points, pairs = accuracies(experiments), contrasts(experiments)
    common = os.path.commonprefix([results.folder.name for results in experiments]).rstrip("-_=.")
    path = experiments[0].folder.parent / (common or "tasks")
    written = [
        write(Path(f"{path}.md"), page(experiments, points, pairs, f"{path.name}.png")),
        write(Path(f"{path}.csv"), points.to_csv(index=False)),
    ]
    if len(pairs):
        set_style()
        models = ", ".join(dict.fromkeys(results.experiment["model"] for results in experiments))
        drawn = figure(pairs, experiments[0].margin)
        written.append(save(Path(f"{path}.png"), drawn, TITLE, f"model: {models}"))
    return written


def main(arguments: list[str] | None = None) -> int:
    """One page of the given folders; returns the exit status, 0 or 2."""
    expected = "give two folders of results or more, such as results/few-*"
    return run_command(write_page, arguments, range(2, 1000), expected)


if __name__ == "__main__":
    sys.exit(main())

"""The figures of a page of several tasks: contrasts by task, and accuracy by number of labels."""

import math
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.colors import to_rgb

from evaluation.comparisons import difference_bars
from evaluation.style import Look, error_bar, line_handle, plt

from .variants import cut

MEAN = "mean of the tasks"
ENDS = ["accuracy_low", "accuracy_high"]
WIDEST = 4  # contrasts beside one another in a figure
BARS = "bars: 95 % intervals of single differences"


def differences(pairs: pd.DataFrame, margin: float):
    """A panel for each contrast, with bars for the tasks, then their mean; a row for each group.

    More than `WIDEST` contrasts take several rows.
    """
    rows = list(_panel_rows(pairs))
    columns = max(len(names) for *_, names in rows)
    heights = [max(1.6, 0.6 + 0.42 * table["task"].nunique()) for _, table, _ in rows]
    image, panels = plt.subplots(
        nrows=len(rows),
        ncols=columns,
        figsize=(3.3 * columns + 1.2, sum(heights) + 0.8),
        height_ratios=heights,
        sharex=True,
        sharey="row",
        squeeze=False,
    )
    above = None  # the contrasts of the row before
    for row, (group, table, names) in zip(panels, rows, strict=True):
        tasks = sorted(table["task"].unique(), key=lambda task: task == MEAN)
        for axes, name in zip(row, names, strict=False):
            of_contrast = table[table["difference_of"] == name].set_index("task").loc[tasks]
            handles = difference_bars(axes, of_contrast, margin)
            axes.set_title("" if names == above else name, fontsize=10)
        for axes in row[len(names) :]:
            axes.set_visible(False)
        row[0].set_ylabel(group.replace(", ", "\n"), fontsize=9)
        row[0].set_yticks(range(len(tasks)), tasks)
        row[0].set_ylim(len(tasks) - 0.5, -0.5)
        above = names
    is_cut = cut(panels[0, 0], 100 * pairs["difference"], 100 * pairs[["low", "high"]], across=True)
    is_wrapped = len(rows) > pairs["group"].nunique()
    for column in panels.T:
        visible = [axes for axes in column if axes.get_visible()]
        for axes in visible if is_wrapped else visible[-1:]:
            axes.set_xlabel(
                f"points (right: the first is better){', axis cut' * is_cut}", fontsize=9
            )
            axes.tick_params(labelbottom=True)
    return image, BARS, handles


def _panel_rows(pairs):
    """For each row of panels: its group, the group's table, and the contrasts of the panels."""
    every = list(dict.fromkeys(pairs["difference_of"]))  # one order in all groups
    for group, table in pairs.groupby("group", sort=False):
        names = [name for name in every if name in set(table["difference_of"])]
        width = math.ceil(len(names) / math.ceil(len(names) / WIDEST))
        for start in range(0, len(names), width):
            yield group, table, names[start : start + width]


def by_labels(points: pd.DataFrame, looks: dict[str, Look]):
    """Accuracy by number of labels: a row of panels for each model, in each a row for each method.

    It shows methods with several numbers of labels; None where there is no such method.
    """
    several = points.groupby(["model", "task", "method"])["labels"].transform("nunique") > 1
    points = points[several]
    if points.empty:
        return None
    models, tasks = (list(points[column].unique()) for column in ("model", "task"))
    shown = [method for method in looks if method in set(points["method"])]
    numbers = sorted(points["labels"].unique())
    fills = dict(zip(numbers, np.linspace(0, 1, len(numbers)), strict=True))  # the fewest: hollow
    size = (2.2 * len(tasks) + 2, (0.4 * len(shown) + 1) * len(models))
    image, panels = plt.subplots(len(models), len(tasks), figsize=size, squeeze=False)
    for axes, (model, task) in zip(panels.flat, product(models, tasks), strict=True):
        panel = points[(points["model"] == model) & (points["task"] == task)]
        axes.set_visible(not panel.empty)
        if panel.empty:
            continue
        for labels, fill in fills.items():
            part = panel[panel["labels"] == labels]
            places = part["method"].map(shown.index) + 0.3 * (fill - 0.5)  # beside one another
            for place, (_, row) in zip(places, part.iterrows(), strict=True):
                colour, marker = looks[row["method"]].colour, looks[row["method"]].marker
                x, ends = 100 * row["accuracy"], (100 * row[ENDS[0]], 100 * row[ENDS[1]])
                style = {"marker": marker, "ms": 6, "capsize": 3, "elinewidth": 0.8}
                error_bar(axes, x, place, ends, across=True, **style, **_filled(colour, fill))
        is_cut = cut(axes, 100 * panel["accuracy"], 100 * panel[ENDS], across=True)
        axes.set_title(task, fontsize=10)
        axes.set_xlabel(f"test accuracy (%){', axis cut' * is_cut}", fontsize=9)
        axes.set(yticks=range(len(shown)), yticklabels=[], ylim=(len(shown) - 0.5, -0.5))
    for model, row in zip(models, panels, strict=True):
        first = next(axes for axes in row if axes.get_visible())
        first.set_yticklabels([looks[method].label for method in shown])
        first.set_ylabel(model, fontsize=10)
    handles = [
        line_handle(Look(f"{labels:,} labels", "black", "o"), ls="", **_filled("black", fill))
        for labels, fill in fills.items()
    ]
    return image, "bars: 95 % intervals", handles


def _filled(colour, share):
    """The style of a marker in this colour, filled with this share of it and white."""
    filled = 1 - share * (1 - np.array(to_rgb(colour)))
    return {"color": colour, "mec": colour, "mfc": filled}

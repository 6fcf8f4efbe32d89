"""The learning rate's effect: a figure of the variants of a method that differ in it alone."""

import numpy as np
import pandas as pd

from evaluation.comparisons import interval_note
from evaluation.plots import Figure
from evaluation.results import Results
from evaluation.style import Look, error_bar, line_handle, looks, plt, without

LEAST = 3  # variants in a line
APART = 0.02  # share of the axis between the bars of two methods
ROOM = 4  # percentage points between the outermost value and an axis that cuts a long interval


def by_learning_rate(results: Results):
    """Test accuracy of the variants of a method that differ in the learning rate alone.

    A line for each method with three variants or more, and a level line for each baseline; None
    where no method has three.
    """
    rates = {record.method: record.learning_rate for record in results.records}
    points = results.intervals.assign(x=results.intervals["method"].map(rates).astype(float))
    points["line"] = [without("learning_rate", method) for method in points["method"]]
    level = points["method"].isin({run.method for run in results.finished if run.baseline})
    varied = points[~level].dropna(subset="x").sort_values("x")
    varied = varied[varied.groupby("line")["x"].transform("nunique") >= LEAST]
    if varied.empty:
        return None
    blocks = {
        without("learning_rate", run.method): run.hyperparameters.get("blocks")
        for run in results.records
    }
    lines = looks([*varied["line"], *points.loc[level, "line"]], blocks)
    figure, handles = _accuracy_figure(varied, points[level], results.runs, lines)
    return figure, f"{interval_note(results)}; dots: single runs", handles


def _accuracy_figure(points, baselines, runs, drawn: dict[str, Look]):
    """Mean accuracies and intervals of each `line` by `x`, and a dot for each of its runs.

    The axis has room for all means and seeds; it cuts an interval that would squeeze them.
    Returns the figure and the legend's handles.
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.2))
    values = sorted(points["x"].unique())
    points = points.assign(x=_side_by_side(points))
    handles, dots = [], runs.merge(points[["line", "method", "x"]])
    for line, part in points.groupby("line", sort=False):
        look, single = drawn[line], dots[dots["line"] == line]
        _accuracy_bars(axes, part["x"], part, look)
        axes.plot(single["x"], 100 * single["test_accuracy"], ".", color=look.colour, alpha=0.6)
        handles.append(line_handle(look))
    for row in baselines.itertuples():
        look = drawn[row.line]
        axes.axhline(100 * row.accuracy, color=look.colour, ls=":")
        handles.append(line_handle(look, marker="", ls=":"))
    shown = [points["accuracy"], baselines["accuracy"], dots["test_accuracy"]]
    is_cut = cut(axes, 100 * pd.concat(shown), 100 * points[["accuracy_low", "accuracy_high"]])
    axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:,.9g}" for value in values])
    axes.minorticks_off()
    axes.set(xlabel="learning rate", ylabel="test accuracy (%)" + (", axis cut" if is_cut else ""))
    return figure, handles


def _side_by_side(points):
    """Each point's x, moved so that the lines' bars stand side by side."""
    x = np.log(points["x"])
    place = pd.factorize(points["line"])[0] - (points["line"].nunique() - 1) / 2
    return np.exp(x + APART * (x.max() - x.min()) * place)


def _accuracy_bars(axes, x, points: pd.DataFrame, look: Look) -> None:
    """A method's accuracies (%) at `x`, with their intervals."""
    ends = 100 * points["accuracy_low"], 100 * points["accuracy_high"]
    style = {"color": look.colour, "marker": look.marker, "ms": 6, "capsize": 3, "elinewidth": 0.8}
    error_bar(axes, x, 100 * points["accuracy"], ends, **style)


def cut(axes, values, intervals, across: bool = False) -> bool:
    """Limit an axis, upright or across, to near these values; returns whether intervals are cut."""
    ends, set_ends = (axes.get_xlim, axes.set_xlim) if across else (axes.get_ylim, axes.set_ylim)
    bottom, top = ends()
    least, most = values.min() - ROOM, values.max() + ROOM
    set_ends(max(bottom, least), min(top, most))
    return bool((intervals < least).any(axis=None) or (intervals > most).any(axis=None))


FIGURE = Figure(
    "learning_rates", "How does accuracy depend on the learning rate?", by_learning_rate
)

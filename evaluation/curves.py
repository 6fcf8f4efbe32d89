"""Curves: how methods learn, and what a hyperparameter or each learning rate gives."""

from functools import partial

import numpy as np
import pandas as pd

from .comparisons import WIDE, interval_note
from .results import Results, blocks_of
from .style import Look, cut, error_bar, line_handle, looks, parse, plt, ring_handle

PANELS = {  # column of history: title, axis, units of it in 1
    "train_loss": ("training loss", "loss (nats per text)", 1),
    "validation_loss": ("validation loss", "loss (nats per text)", 1),
    "validation_accuracy": ("validation accuracy", "accuracy (%)", 100),
}
VARIED = {  # hyperparameters that have a figure where variants differ in them: in words
    "blocks": "number of blocks that learn",
    "learning_rate": "learning rate",
    "rank": "rank",
    "bottleneck": "bottleneck",
}
LEAST = 3  # variants of a line
CURVES = (
    "training loss: the mean since the evaluation before\n"
    "lines: means over the seeds, for as long as all of them ran; bands: from lowest to highest "
    "seed\nrings: each seed's point with the lowest validation loss, whose weights are kept"
)
RATES = (
    "lines: means over the seeds; rings: rates that a seed chose, by its own validation texts\n"
    "a rate with which a seed's loss was not finite has no point"
)


def learning_curves(results: Results):
    """Training loss, validation loss and accuracy by epoch, with each run's chosen learning rate.

    With several seeds: the mean and the range from the lowest to the highest, for as many steps as
    every seed ran; a mean over fewer and fewer seeds would bend without any of them learning.
    """
    if results.history.empty:
        return None
    best = results.runs[["method", "seed", "learning_rate", "best_step"]]
    history = results.history.merge(best)
    figure, panels = plt.subplots(1, len(PANELS), figsize=(3.6 * len(PANELS), 3.6), sharex=True)
    methods = history.groupby("method", sort=False)
    for axes, (measure, (title, axis, unit)) in zip(panels, PANELS.items(), strict=True):
        for method, seeds in methods:
            look, place = results.looks[method], seeds.groupby("seed").cumcount()
            seeds = seeds.assign(y=seeds[measure] * unit, place=place)  # of the evaluation
            shortest = seeds.groupby("seed").size().min()  # what every seed has run
            together = seeds[seeds["place"] < shortest].groupby("place")
            x, y = together["epoch"].mean(), together["y"]
            axes.plot(x, y.mean(), color=look.colour, ls=look.line, marker=look.marker, ms=4)
            axes.fill_between(x, y.min(), y.max(), color=look.colour, alpha=0.18, linewidth=0)
            if measure != "train_loss":
                kept = seeds[seeds["step"] == seeds["best_step"]]
                axes.plot(kept["epoch"], kept["y"], "o", ms=8, mfc="none", color=look.colour)
        axes.set_title(title, fontsize=11)
        axes.set(xlabel="epochs", ylabel=axis)
    panels[1].sharey(panels[0])
    panels[0].autoscale(axis="y")
    panels[0].set_xlim(left=0)
    handles = [line_handle(results.looks[method]) for method, _ in methods]
    return figure, CURVES, [*handles, ring_handle("best point")]


def learning_rates(results: Results):
    """Validation loss at each learning rate, the mean over the seeds; None where none was tried."""
    tried = [
        (record.method, float(rate), loss, float(rate) == record.learning_rate)
        for record in results.records
        if record.is_finished and len(record.rates_tried) > 1
        for rate, loss in record.rates_tried.items()
    ]
    if not tried:
        return None
    figure, axes = plt.subplots(figsize=(7.2, 4.0))
    table = pd.DataFrame(tried, columns=["method", "rate", "loss", "chosen"])
    methods = table.astype({"loss": float}).groupby("method", sort=False)
    for method, part in methods:
        look, by_rate = results.looks[method], part.groupby("rate")
        losses = by_rate["loss"].mean().where(by_rate["loss"].count() == by_rate.size())
        axes.plot(losses.index, losses, color=look.colour, ls=look.line, marker=look.marker)
        chosen = losses[by_rate["chosen"].any()]
        axes.plot(chosen.index, chosen, "o", ms=13, mfc="none", color=look.colour)
    axes.set(xscale="log", yscale="log")  # a loss far above the best would squeeze all others
    rates = sorted(table["rate"].unique())
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=45 if len(rates) > 4 else 0)
    ticks = [f"{loss:.2g}" for loss in np.geomspace(*axes.get_ylim(), 6)[1:-1]]
    axes.set_yticks([float(tick) for tick in ticks], ticks)
    axes.minorticks_off()
    axes.set(xlabel="learning rate", ylabel="validation loss (nats per text)")
    handles = [line_handle(results.looks[method]) for method, _ in methods]
    return figure, RATES, [*handles, ring_handle("chosen")]


def hyperparameter(results: Results, name: str):
    """Test accuracy of the variants of a method that differ in one hyperparameter alone.

    A line for each method with three of them or more, and a level one for each baseline; None
    where there is none.
    """
    given = {
        record.method: (record.hyperparameters | {"learning_rate": record.learning_rate}).get(name)
        for record in results.records
    }
    points = results.intervals.assign(x=results.intervals["method"].map(given).astype(float))
    points["line"] = [without(name, method) for method in points["method"]]
    level = points["method"].isin(results.baselines)
    if name == "blocks":  # None: all of them
        depths = results.runs["frozen_blocks"] + results.runs["method"].map(given).astype(float)
        points["x"] = points["x"].where(points["x"].notna() | level, depths.min())
    varied = points[~level].dropna(subset="x").sort_values("x")
    varied = varied[varied.groupby("line")["x"].transform("nunique") >= LEAST]
    if varied.empty:
        return None
    blocks = blocks_of(results.records, partial(without, name))
    lines = looks([*varied["line"], *points.loc[level, "line"]], blocks)
    figure, handles = _accuracy_figure(varied, points[level], results.runs, lines, VARIED[name])
    return figure, interval_note(results), handles


def without(name: str, method: str) -> str:
    """The method of which others are variants: "lora(rank=4, blocks=2)" is of "lora(rank=4)"."""
    family, values = parse(method)
    texts = [f"{key}={value!r}" for key, value in values.items() if key != name]
    return f"{family}({', '.join(texts)})" if texts else family


def _accuracy_figure(points, baselines, runs, drawn: dict[str, Look], label):
    """Mean accuracies and intervals of each `line` by `x`, and a dot for each run of theirs.

    The axis has room for all means and seeds; it cuts an interval that would squeeze them.
    Returns the figure and the legend's handles.
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.2))
    handles, dots = [], runs.merge(points[["line", "method", "x"]])
    for line, part in points.groupby("line", sort=False):
        look, single = drawn[line], dots[dots["line"] == line]
        style = {"color": look.colour, "ls": look.line, "marker": look.marker}
        ends = 100 * part["accuracy_low"], 100 * part["accuracy_high"]
        style |= {"capsize": 3, "elinewidth": 0.8}
        error_bar(axes, part["x"], 100 * part["accuracy"], ends, **style)
        axes.plot(single["x"], 100 * single["test_accuracy"], ".", color=look.colour, alpha=0.6)
        handles.append(line_handle(look))
    for row in baselines.itertuples():
        look = drawn[row.line]
        axes.axhline(100 * row.accuracy, color=look.colour, ls=look.line)
        handles.append(line_handle(look, marker=""))
    shown = [points["accuracy"], baselines["accuracy"], dots["test_accuracy"]]
    is_cut = cut(axes, 100 * pd.concat(shown), 100 * points[["accuracy_low", "accuracy_high"]])
    values = sorted(points["x"].unique())
    if min(values) > 0 and max(values) / min(values) >= WIDE:
        axes.set_xscale("log")
    axes.set_xticks(values, [f"{value:,.9g}" for value in values])
    axes.minorticks_off()
    axes.set(xlabel=label, ylabel="test accuracy (%)" + (", axis cut" if is_cut else ""))
    return figure, handles

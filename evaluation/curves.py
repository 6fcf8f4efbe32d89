"""Curves: how methods learn, and what a hyperparameter or each learning rate gives."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from .comparisons import WIDE, interval_note
from .files import read_table
from .results import Results, blocks_of
from .style import (
    Look,
    error_bar,
    line_handle,
    looks,
    parse,
    plt,
    ring_handle,
    save,
    set_style,
)

PANELS = {  # column of history: title, axis, units of it in 1
    "train_loss": ("training loss", "loss (nats per review)", 1),
    "validation_loss": ("validation loss", "loss (nats per review)", 1),
    "validation_accuracy": ("validation accuracy", "accuracy (%)", 100),
}
VARIED = {  # hyperparameters that have a figure where variants differ in them: in words
    "blocks": "number of blocks that learn",
    "learning_rate": "learning rate",
    "rank": "rank",
    "bottleneck": "bottleneck",
}
LEAST = 3  # variants of a line
ROOM = 4  # percentage points between the outermost seed and an axis that cuts a long interval
CURVES = (
    "training loss: the mean since the evaluation before\n"
    "lines: means over the seeds, for as long as all of them ran; bands: from lowest to highest "
    "seed\nrings: each seed's point with the lowest validation loss, whose weights are kept"
)
TUNING = {"method": str, "learning_rate": float, "validation_loss": float, "chosen": bool}


def learning_curves(results: Results):
    """Training loss, validation loss and accuracy by epoch.

    With several seeds: the mean and the range from the lowest to the highest, for as many steps as
    every seed ran; a mean over fewer and fewer seeds would bend without any of them learning.
    """
    if results.history.empty:
        return None
    figure, panels = plt.subplots(1, len(PANELS), figsize=(3.6 * len(PANELS), 3.6), sharex=True)
    best = results.runs[["method", "seed", "best_step"]].rename(columns={"best_step": "step"})
    methods = results.history.groupby("method", sort=False)
    for axes, (measure, (title, axis, unit)) in zip(panels, PANELS.items(), strict=True):
        for method, seeds in methods:
            look, seeds = results.looks[method], seeds.assign(y=seeds[measure] * unit)
            steps = seeds.groupby("seed")["step"].max().min()  # what every seed has run
            together = seeds[seeds["step"] <= steps].groupby("epoch")["y"]
            middle = together.mean()
            axes.plot(middle, color=look.colour, ls=look.line, marker=look.marker, ms=4)
            low, high = together.min(), together.max()
            axes.fill_between(middle.index, low, high, color=look.colour, alpha=0.18, linewidth=0)
            if measure != "train_loss":
                chosen = seeds.merge(best)
                axes.plot(chosen["epoch"], chosen["y"], "o", ms=8, mfc="none", color=look.colour)
        axes.set_title(title, fontsize=11)
        axes.set(xlabel="epochs", ylabel=axis)
    panels[1].sharey(panels[0])
    panels[0].autoscale(axis="y")
    panels[0].set_xlim(left=0)
    handles = [line_handle(results.looks[method]) for method, _ in methods]
    return figure, CURVES, [*handles, ring_handle("best point")]


def hyperparameter(results: Results, name: str):
    """Test accuracy of the variants of a method that differ in one hyperparameter alone.

    A line for each method with three of them or more, and a level one for each baseline; None
    where there is none.
    """
    given = {
        record.method: (record.hyperparameters | {"learning_rate": record.learning_rate}).get(name)
        for record in results.records
    }
    level = results.intervals["method"].isin(results.baselines)
    points = results.intervals.assign(experiment="", level=level)
    points["line"] = [_without(name, method) for method in points["method"]]
    points["x"] = points["method"].map(given).astype(float)
    if name == "blocks":  # None: all of them
        depths = results.runs["frozen_blocks"] + results.runs["method"].map(given).astype(float)
        points["x"] = points["x"].where(points["x"].notna() | level, depths.min())
    varied = points[~level].dropna(subset="x").sort_values("x")
    varied = varied[varied.groupby("line")["x"].transform("nunique") >= LEAST]
    if varied.empty:
        return None
    ends = [points[level].assign(x=varied["x"].iloc[end]) for end in (0, -1)]
    shown, runs = pd.concat([varied, *ends]), results.runs.assign(experiment="")
    blocks = blocks_of(results.records, partial(_without, name))
    figure, handles = accuracy_figure(shown, runs, looks(shown["line"], blocks), VARIED[name])
    return figure, interval_note(replace(results, intervals=varied)), handles


def _without(name, method):
    """The method of which others are variants: "lora(rank=4, blocks=2)" is of "lora(rank=4)"."""
    family, values = parse(method)
    texts = [f"{key}={value!r}" for key, value in values.items() if key != name]
    return f"{family}({', '.join(texts)})" if texts else family


def accuracy_figure(points: pd.DataFrame, runs: pd.DataFrame, drawn: dict[str, Look], label: str):
    """Mean accuracies and intervals of each `line` by `x`, and a dot for each of their `runs`.

    Those that are `level`, baselines, are lines alone. Texts stand side by side in their order. The
    axis has room for all means and seeds; it cuts an interval that would squeeze them.
    Returns the figure and the legend's handles.
    """
    figure, axes = plt.subplots(figsize=(7.2, 4.2))
    values, numbers = list(points["x"].unique()), pd.api.types.is_numeric_dtype(points["x"])
    place = points["x"] if numbers else points["x"].map(values.index)
    points, handles = points.assign(place=place), []
    dots = runs.merge(points.loc[~points["level"], ["line", "method", "experiment", "place"]])
    for line, part in points.groupby("line", sort=False):
        look, mean = drawn[line], 100 * part["accuracy"]
        style = {"color": look.colour, "ls": look.line}
        if part["level"].all():
            if len(part) == 1:
                axes.axhline(mean.item(), **style)
            else:
                axes.plot(part["place"], mean, **style)
            handles.append(line_handle(look, marker=""))
            continue
        ends, own = (100 * part["low"], 100 * part["high"]), dots[dots["line"] == line]
        style |= {"marker": look.marker, "capsize": 3, "elinewidth": 0.8}
        error_bar(axes, part["place"], mean, ends, **style)
        axes.plot(own["place"], 100 * own["test_accuracy"], ".", color=look.colour, alpha=0.6)
        handles.append(line_handle(look))
    cut = _cut(axes, 100 * pd.concat([points["accuracy"], dots["test_accuracy"]]))
    if numbers and min(values) > 0 and max(values) / min(values) >= WIDE:
        axes.set_xscale("log")
    texts = [f"{value:,.9g}" if numbers else str(value) for value in values]
    axes.set_xticks(values if numbers else range(len(values)), texts)
    axes.minorticks_off()
    axes.set(xlabel=label, ylabel="test accuracy (%)" + (", axis cut" if cut else ""))
    return figure, handles


def _cut(axes, values):
    """Whether the upright axis, which has room for these values, cuts an interval."""
    bottom, top = axes.get_ylim()
    least, most = values.min() - ROOM, values.max() + ROOM
    axes.set_ylim(max(bottom, least), min(top, most))
    return bottom < least or top > most


def tuning_figure(folder: Path) -> Path:
    """Draw `tuning.png` from `tuning.csv` in `folder`: the validation loss at each learning rate.

    Raises `BadInput` where the table is missing or cannot be read.
    """
    tuned = read_table(folder / "tuning.csv", TUNING)
    drawn = looks(tuned["method"])
    set_style()
    figure, axes = plt.subplots(figsize=(7.2, 4.0))
    for method, runs in tuned.groupby("method", sort=False):
        runs, look = runs.set_index("learning_rate")["validation_loss"].sort_index(), drawn[method]
        axes.plot(runs, color=look.colour, ls=look.line, marker=look.marker)
    chosen = tuned[tuned["chosen"]]
    axes.plot(chosen["learning_rate"], chosen["validation_loss"], "ko", ms=13, mfc="none")
    axes.set(xscale="log", xlabel="learning rate", ylabel="validation loss (nats per review)")
    handles = [*map(line_handle, drawn.values()), ring_handle("chosen")]
    note = "a failed run has no point; chosen by the lowest validation loss"
    title = "Which learning rate suits each method?"
    return save(folder / "tuning.png", (figure, note, handles), title, "")

"""Curves: how methods learn, and what a hyperparameter or each learning rate gives."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib import ticker

from .comparisons import interval_note
from .files import read_table
from .results import Results
from .style import (
    Look,
    error_bar,
    legend_rows,
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
LEAST, WIDE = 3, 8  # variants of a line; largest over smallest value of a logarithmic axis
TUNING = {"method": str, "learning_rate": float, "status": str, "chosen": bool, "at_edge": bool}
TUNING |= {"validation_loss": float, "validation_accuracy": float}


def learning_curves(results: Results):
    """Training loss, validation loss and accuracy by epoch.

    The training loss is the mean since the evaluation before. With several seeds: the mean and the
    range from the lowest to the highest, for as many steps as every seed ran. Beyond, where some
    stopped early, the others continue singly: a mean over fewer and fewer seeds would bend without
    any of them learning.
    """
    history = results.history
    if history.empty:
        return None
    shared = [results.looks[method] for method in history["method"].unique()]
    rows = legend_rows([look.label for look in shared], 3.6 * len(PANELS))
    size = 3.6 * len(PANELS), 4.2 + 0.235 * rows
    figure, panels = plt.subplots(1, len(PANELS), figsize=size, sharex=True)
    best = results.runs[["method", "seed", "best_step"]].rename(columns={"best_step": "step"})
    for axes, (measure, (title, axis, unit)) in zip(panels, PANELS.items(), strict=True):
        values = history.assign(x=history["epoch"], y=history[measure] * unit)
        for method, seeds in values.groupby("method", sort=False):
            _curve(axes, seeds, results.looks[method])
            if measure != "train_loss":
                _rings(axes, seeds.merge(best), results.looks[method])
        axes.set_title(title, fontsize=11)
        axes.set(xlabel="epochs", ylabel=axis)
        axes.grid(alpha=0.3)
    panels[1].sharey(panels[0])
    panels[0].autoscale(axis="y")
    panels[0].set_xlim(left=0)
    panels[0].xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    handles = [line_handle(look, markersize=5) for look in shared]
    return figure, _note(history), [*handles, ring_handle("best point")]


def _curve(axes, seeds, look):
    last = seeds.groupby("seed")["step"].max()
    together = seeds[seeds["step"] <= last.min()].groupby("step")  # what every seed has run
    middle = together[["x", "y"]].mean()
    style = {"color": look.colour, "ls": look.line, "marker": look.marker, "ms": 4}
    style["markevery"] = max(1, len(middle) // 6)
    axes.plot(middle["x"], middle["y"], **style)
    if len(last) == 1:
        return
    low, high = together["y"].min(), together["y"].max()
    axes.fill_between(middle["x"], low, high, color=look.colour, alpha=0.18, linewidth=0)
    for _, alone in seeds[seeds["step"] >= last.min()].groupby("seed"):
        if len(alone) > 1:
            axes.plot(alone["x"], alone["y"], **(style | {"linewidth": 0.8, "ms": 2}))


def _rings(axes, best, look):
    """A ring around each seed's point with the lowest validation loss."""
    size = 11 if len(best) == 1 else 7
    axes.plot(best["x"], best["y"], "o", ms=size, mfc="none", color=look.colour)


def _note(history):
    """What the lines, bands and rings are, as far as these runs have them."""
    notes = ["training loss: the mean since the evaluation before"]
    notes.append("rings: the point with the lowest validation loss, whose weights are kept")
    lengths = history.groupby(["method", "seed"])["step"].max()
    if lengths.groupby("method").size().max() > 1:
        notes.append("lines: means over the seeds; bands: from lowest to highest seed")
    if (lengths.groupby("method").nunique() > 1).any():
        notes.append("thin lines: single seeds after others of the method had stopped")
    return "\n".join(notes)


def hyperparameter(results: Results, name: str):
    """Test accuracy of the variants of a method that differ in one hyperparameter alone.

    A line for each method with three of them or more, and a level one for each baseline; None
    where there is none.
    """
    given = {
        record.method: (record.hyperparameters | {"learning_rate": record.learning_rate}).get(name)
        for record in results.records
    }
    points = results.intervals.assign(experiment="", level=False)
    points["line"] = [_without(name, method) for method in points["method"]]
    points["x"] = points["method"].map(given).astype(float)
    if name == "blocks":  # None: all of them
        depths = results.runs["frozen_blocks"] + results.runs["method"].map(given).astype(float)
        points["x"] = points["x"].where(points["x"].notna() | _is_baseline(results), depths.min())
    varied = points.dropna(subset="x")
    varied = varied[varied.groupby("line")["x"].transform("nunique") >= LEAST].sort_values("x")
    if varied.empty:
        return None
    level = points[_is_baseline(results)].assign(level=True)
    level = [level.assign(x=varied["x"].iloc[end]) for end in (0, -1)]
    runs = results.runs.assign(experiment="")
    figure, handles = accuracy_figure(
        pd.concat([varied, *level]), runs, looks([*varied["line"], *level[0]["line"]]), VARIED[name]
    )
    return figure, interval_note(replace(results, intervals=varied)), handles


def _is_baseline(results):
    baselines = results.runs.loc[results.runs["baseline"], "method"]
    return results.intervals["method"].isin(baselines)


def _without(name, method):
    """The method of which others are variants: "lora(rank=4, blocks=2)" is of "lora(rank=4)"."""
    family, values = parse(method)
    texts = [f"{key}={value!r}" for key, value in values.items() if key != name]
    return f"{family}({', '.join(texts)})" if texts else family


def accuracy_figure(points: pd.DataFrame, runs: pd.DataFrame, drawn: dict[str, Look], label: str):
    """Mean accuracies and intervals of each `line` by `x`, and a dot for each of their `runs`.

    Those that are `level`, baselines, are lines alone. Texts stand side by side in their order.
    Returns the figure and the legend's handles.
    """
    figure, axes = plt.subplots(figsize=(7.2, 5.0))
    at, numbers = points["x"], pd.api.types.is_numeric_dtype(points["x"])
    points = points.assign(
        place=at if numbers else at.map({v: i for i, v in enumerate(at.unique())})
    )
    dots = runs.merge(points[["method", "experiment", "place", "line", "level"]])
    handles = []
    for line, part in points.groupby("line", sort=False):
        look, own = drawn[line], dots[dots["line"] == line]
        if part["level"].all():
            axes.plot(part["place"], 100 * part["accuracy"], color=look.colour, ls=look.line)
            handles.append(line_handle(look, marker=""))
            continue
        accuracy_line(axes, part["place"], part, look)
        style = {"color": look.colour, "marker": ".", "ls": "", "ms": 5, "alpha": 0.6}
        axes.plot(own["place"], 100 * own["test_accuracy"], **style)
        handles.append(line_handle(look))
    if numbers and at.min() > 0 and at.max() / at.min() >= WIDE:
        axes.set_xscale("log")
    ticks = dict(zip(points["place"], at, strict=True))
    axes.set_xticks([*ticks], [f"{v:,.9g}" if numbers else str(v) for v in ticks.values()])
    axes.minorticks_off()
    axes.set(xlabel=label, ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    return figure, handles


def accuracy_line(axes, x: pd.Series, points: pd.DataFrame, look: Look) -> None:
    """Draw mean accuracies with their intervals at `x`, joined in the order of the rows."""
    mean, low, high = (100 * points[name] for name in ("accuracy", "low", "high"))
    style = {"color": look.colour, "ls": look.line, "marker": look.marker, "capsize": 3}
    error_bar(axes, x, mean, (low, high), elinewidth=0.8, **style)


def edge_note(tuned: pd.DataFrame) -> str:
    """Whether a better rate may lie outside those that were tried."""
    edge = tuned.loc[tuned["chosen"] & tuned["at_edge"], "method"]
    if edge.empty:
        return "every chosen rate lies between others that were tried"
    names = ", ".join(looks(tuned["method"])[method].label for method in edge)
    return f"at the edge of the rates tried, a better one may lie beyond: {names}"


def tuning_figure(folder: Path) -> Path:
    """Draw `tuning.png` from `tuning.csv` in `folder`: the validation loss at each learning rate.

    Raises `BadInput` where the table is missing or cannot be read.
    """
    tuned = read_table(folder / "tuning.csv", TUNING)
    drawn = looks(tuned["method"])
    failed = tuned["validation_loss"].isna() | (tuned["status"] != "finished")
    set_style()
    figure, axes = plt.subplots(figsize=(7.2, 4.8))
    for method, runs in tuned[~failed].groupby("method", sort=False):
        runs, look = runs.sort_values("learning_rate"), drawn[method]
        style = {"color": look.colour, "linestyle": look.line, "marker": look.marker}
        axes.plot(runs["learning_rate"], runs["validation_loss"], **style)
        chosen = runs[runs["chosen"]]
        ring = {"ms": 13, "mfc": "none", "color": look.colour}
        axes.plot(chosen["learning_rate"], chosen["validation_loss"], "o", **ring)
    for row, (method, runs) in enumerate(tuned[failed].groupby("method", sort=False)):
        height = [0.97 - 0.05 * row] * len(runs)  # along the upper edge: they have no loss
        style = {"color": drawn[method].colour, "mew": 2, "transform": axes.get_xaxis_transform()}
        axes.plot(runs["learning_rate"], height, "x", **style)
    axes.set_xscale("log")
    axes.margins(0.08)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss (nats per review)")
    axes.grid(alpha=0.3)
    handles = [*map(line_handle, drawn.values()), ring_handle("chosen")]
    if failed.any():
        handles.append(ring_handle("failed", marker="x", fillstyle="full"))
    subtitle = f"{len(tuned)} runs on the training reviews; chosen by the lowest validation loss"
    title = "Which learning rate suits each method?"
    return save(folder / "tuning.png", (figure, edge_note(tuned), handles), title, subtitle)

"""Curves: how each method learns over the epochs, and the loss at each learning rate tried."""

from pathlib import Path

import pandas as pd
from matplotlib import ticker

from . import records
from .style import line_handle, look, plt, ring_handle, save, set_style

CURVES = (  # columns of history.csv
    *("seed", "epoch", "seconds", "train_loss", "train_accuracy"),
    *("validation_loss", "validation_accuracy"),
)


def learning_curves(history, runs, column, axis_label):
    """Loss and accuracy by `column` ("epoch" or "seconds"), training and validation.

    With several seeds: the mean and the range from the lowest to the highest, for as many epochs
    as every seed ran. Beyond, where some stopped early, the others go on singly: a mean over
    fewer and fewer seeds would bend without any of them learning.
    """
    figure, panels = plt.subplots(2, 2, figsize=(9, 6.4), sharex=True, sharey="row")
    for row, measure in enumerate(("loss", "accuracy")):
        for axes, split in zip(panels[row], ("train", "validation"), strict=True):
            values = history.assign(
                x=history[column], y=history[f"{split}_{measure}"] * (100 if row else 1)
            )
            for method, ours in values.groupby("method", sort=False):
                _curve(axes, ours, method)
                best = ours.merge(runs[["method", "seed", "best_epoch"]], on=["method", "seed"])
                best = best[best["epoch"] == best["best_epoch"]]
                size = 11 if len(best) == 1 else 7
                axes.plot(best["x"], best["y"], "o", ms=size, mfc="none", color=look(method).colour)
            axes.set_title(f"{'training' if split == 'train' else split} {measure}", fontsize=11)
            axes.grid(alpha=0.3)
    for axes in panels[1]:
        axes.set_xlabel(axis_label)
        if column == "epoch":
            axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    panels[0, 0].set_xlim(left=0)
    panels[0, 0].set_ylabel("loss (nats per review)")
    panels[1, 0].set_ylabel("accuracy (%)")
    lines = [line_handle(m, markersize=5) for m in history["method"].unique()]
    return figure, _note(history, column), [*lines, ring_handle("epoch kept")]


def _curve(axes, ours, method):
    its = look(method)
    style = {"color": its.colour, "linestyle": its.line, "marker": its.marker, "markersize": 4}
    common = ours.groupby("seed")["epoch"].max().min()  # the last epoch that every seed has run
    together = ours[ours["epoch"] <= common].groupby("epoch")
    middle = together[["x", "y"]].mean()
    axes.plot(middle["x"], middle["y"], **style)
    if ours["seed"].nunique() == 1:
        return
    low, high = together["y"].min(), together["y"].max()
    axes.fill_between(middle["x"], low, high, color=its.colour, alpha=0.18, linewidth=0)
    for _, alone in ours[ours["epoch"] >= common].groupby("seed"):
        if len(alone) > 1:
            axes.plot(alone["x"], alone["y"], **(style | {"linewidth": 0.8, "markersize": 2}))


def _note(history, column):
    """What the lines and bands are, as far as these runs have them."""
    notes = ["training values are means over the epoch while it trains"]
    lengths = history.groupby(["method", "seed"])["epoch"].max()
    if lengths.groupby("method").size().max() > 1:
        seconds = ", at their mean time" if column == "seconds" else ""
        notes.append(
            f"lines: means over the seeds{seconds}; bands: from lowest to highest seed; rings: "
            "each seed's kept epoch, at its own value"
        )
    if (lengths.groupby("method").nunique() > 1).any():
        notes.append("thin lines: single seeds that ran on when others of the method had stopped")
    return "\n".join(notes)


def read_tuning(folder: Path) -> pd.DataFrame:
    """`tuning.csv` of an experiment; raises `ValueError` and `OSError` as `tuning_figure`."""
    path = folder / "tuning.csv"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing")
    numbers = ("learning_rate", "validation_loss", "validation_accuracy", "seconds")
    table = records.read_csv(path, ("method", "status"), (*numbers, "chosen", "at_edge"))
    return table.astype({"chosen": bool, "at_edge": bool})


def edge_note(tuned: pd.DataFrame) -> str:
    """Whether a better rate may lie outside those that were tried."""
    edge = tuned.loc[tuned["chosen"] & tuned["at_edge"], "method"]
    if edge.empty:
        return "every chosen rate lies between others that were tried"
    names = ", ".join(look(method).name for method in edge)
    return f"at the edge of the rates tried, a better one may lie beyond: {names}"


def tuning_figure(folder: Path) -> Path:
    """Draw `tuning.png` from `tuning.csv` in `folder`: the validation loss at each learning rate.

    Raises `ValueError` and `OSError` where the table is missing or damaged.
    """
    tuned = read_tuning(folder)
    failed = tuned["validation_loss"].isna() | (tuned["status"] != "finished")
    set_style()
    figure, axes = plt.subplots(figsize=(7.2, 4.8))
    for method, ours in tuned[~failed].groupby("method", sort=False):
        ours, its = ours.sort_values("learning_rate"), look(method)
        style = {"color": its.colour, "linestyle": its.line, "marker": its.marker}
        axes.plot(ours["learning_rate"], ours["validation_loss"], **style)
        chosen = ours[ours["chosen"]]
        ring = {"ms": 13, "mfc": "none", "color": its.colour}
        axes.plot(chosen["learning_rate"], chosen["validation_loss"], "o", **ring)
    _mark_failed(axes, tuned[failed])
    axes.set_xscale("log")
    axes.margins(0.08)
    axes.set_xlabel("learning rate")
    axes.set_ylabel("validation loss (nats per review)")
    axes.grid(alpha=0.3)
    handles = [line_handle(method) for method in tuned["method"].unique()]
    handles.append(ring_handle("chosen"))
    if failed.any():
        handles.append(ring_handle("failed", marker="x", fillstyle="full"))
    subtitle = f"{len(tuned)} runs on the training reviews; chosen by the lowest validation loss"
    title = "Which learning rate suits each method?"
    path = folder / "tuning.png"
    return save(figure, path, title, subtitle, edge_note(tuned), handles)


def _mark_failed(axes, failed):
    """Crosses along the upper edge: a failed run has a rate and no loss; one row a method."""
    for row, (method, ours) in enumerate(failed.groupby("method", sort=False)):
        height = [0.97 - 0.05 * row] * len(ours)
        where = axes.get_xaxis_transform()
        colour = look(method).colour
        axes.plot(ours["learning_rate"], height, "x", color=colour, transform=where, mew=2)

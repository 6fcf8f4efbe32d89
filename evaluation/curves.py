"""Curves: how methods learn, and what each learning rate gives."""

import numpy as np
import pandas as pd

from .results import Results
from .style import line_handle, plt, ring_handle

PANELS = {  # column of history: title, axis, factor from its unit to the axis's
    "train_loss": ("training loss", "loss (nats per text)", 1),
    "validation_loss": ("validation loss", "loss (nats per text)", 1),
    "validation_accuracy": ("validation accuracy", "accuracy (%)", 100),
}
CURVES = (
    "training loss: the mean since the evaluation before\n"
    "lines: means over the runs, for as long as all of them ran; bands: from lowest to highest "
    "run\nrings: each run's point with the lowest validation loss, whose weights are kept"
)
RATES = (
    "lines: means over the runs; rings: rates that a run chose, by its own validation texts\n"
    "a rate with which a run's loss was not finite has no point"
)

APART = 1.4  # a rate has a number on the axis if it is over this many times the number before


def learning_curves(results: Results):
    """Training loss, validation loss and accuracy by epoch, with each run's chosen learning rate.

    With several seeds: the mean and the range from the lowest to the highest, for as many
    evaluations as every seed has. A mean over ever fewer seeds would bend though no seed learns.
    """
    if results.history.empty:
        return None
    best = results.runs[["method", "seed", "learning_rate", "best_step"]]
    history = results.history.merge(best)
    figure, panels = plt.subplots(1, len(PANELS), figsize=(3.6 * len(PANELS), 3.6), sharex=True)
    methods = history.groupby("method", sort=False)
    alpha = 0.5 / (1 + methods.ngroups)  # many bands over one another would hide the lines
    for axes, (measure, (title, axis, unit)) in zip(panels, PANELS.items(), strict=True):
        for method, seeds in methods:
            look, place = results.looks[method], seeds.groupby("seed").cumcount()
            seeds = seeds.assign(y=seeds[measure] * unit, place=place)  # evaluation's number
            shortest = seeds.groupby("seed").size().min()  # evaluations that every seed has
            together = seeds[seeds["place"] < shortest].groupby("place")
            x, y = together["epoch"].mean(), together["y"]
            axes.plot(x, y.mean(), color=look.colour, marker=look.marker, ms=4)
            axes.fill_between(x, y.min(), y.max(), color=look.colour, alpha=alpha, linewidth=0)
            if measure != "train_loss":
                kept = seeds[seeds["step"] == seeds["best_step"]]
                axes.plot(kept["epoch"], kept["y"], "o", ms=8, mfc="none", color=look.colour)
        axes.set_title(title, fontsize=11)
        axes.set(xlabel="epochs", ylabel=axis)
    panels[1].sharey(panels[0])
    panels[0].autoscale(axis="y")
    panels[0].set_xscale("log", base=2)  # a head alone is trained for ten times as many epochs
    panels[0].xaxis.set_major_formatter("{x:g}")
    handles = [line_handle(results.looks[method]) for method, _ in methods]
    return figure, CURVES, [*handles, ring_handle("best point")]


def learning_rates(results: Results):
    """Validation loss at each learning rate, the mean over seeds; None if no run tried several."""
    tried = [
        (record.method, float(rate), loss, float(rate) == record.learning_rate)
        for record in results.finished
        if len(record.rates_tried) > 1
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
        axes.plot(losses.index, losses, color=look.colour, marker=look.marker)
        chosen = losses[by_rate["chosen"].any()]
        axes.plot(chosen.index, chosen, "o", ms=13, mfc="none", color=look.colour)
    axes.set(xscale="log", yscale="log")  # a loss far above the best would squeeze all others
    rates = [min(table["rate"])]
    for rate in sorted(table["rate"].unique()):
        if rate > APART * rates[-1]:  # else their numbers would overlap
            rates.append(rate)
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates], rotation=45 if len(rates) > 4 else 0)
    ticks = [f"{loss:.2g}" for loss in np.geomspace(*axes.get_ylim(), 6)[1:-1]]
    axes.set_yticks([float(tick) for tick in ticks], ticks)
    axes.minorticks_off()
    axes.set(xlabel="learning rate", ylabel="validation loss (nats per text)")
    handles = [line_handle(results.looks[method]) for method, _ in methods]
    return figure, RATES, [*handles, ring_handle("chosen")]

"""Curves: how methods learn, what fewer blocks cost, what each learning rate gives."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
from matplotlib import ticker
from matplotlib.patheffects import withStroke

from .blocks import ALONE, BOTH, WHOLE, is_shared, learning_blocks, passes, took, total_seconds
from .comparisons import busy_notes, interval_note
from .files import AMOUNT, FLAG, SOME, SOME_SHARE, TEXT, read_table
from .markdown import count
from .results import Results
from .style import Look, legend_rows, line_handle, looks, parse, plt, ring_handle, save, set_style

PANELS = {  # table, column: title, axis, units of it in 1
    ("steps", "loss"): ("training loss", "loss (nats per review)", 1),
    ("history", "validation_loss"): ("validation loss", "loss (nats per review)", 1),
    ("history", "validation_accuracy"): ("validation accuracy", "accuracy (%)", 100),
}
AXES = {"epoch": "epochs", "seconds": "training time (s)"}
TUNING = {"method": TEXT, "learning_rate": AMOUNT, "status": TEXT, "chosen": FLAG}
TUNING |= {"at_edge": FLAG, "validation_loss": SOME, "validation_accuracy": SOME_SHARE}


def learning_curves(results: Results, column: str):
    """Training loss, validation loss and accuracy by `column`, "epoch" or "seconds".

    The training loss is smoothed, by a centred moving mean over about a tenth of the steps; it is
    left out where no run has its steps. With several seeds: the mean and the range from the
    lowest to the highest, for as many steps as every seed ran. Beyond, where some stopped early,
    the others continue singly: a mean over fewer and fewer seeds would bend without any of them
    learning.
    """
    history = results.history
    if history.empty:
        return None
    window = 2 * int(results.steps["step"].max() // 20) + 1 if len(results.steps) else 1
    tables = {"steps": smoothed(results.steps, window), "history": history}
    shown = [(name, *rest) for name, *rest in PANELS if len(tables[name])]
    shared = [results.looks[method] for method in history["method"].unique()]
    rows = legend_rows([look.label for look in shared], 3.6 * len(shown))
    figure, panels = plt.subplots(
        1, len(shown), figsize=(3.6 * len(shown), 4.2 + 0.235 * rows), sharex=True
    )
    best = results.runs[["method", "seed", "best_step"]].rename(columns={"best_step": "step"})
    for axes, (name, measure) in zip(panels, shown, strict=True):
        title, axis, unit = PANELS[name, measure]
        values = tables[name].assign(x=tables[name][column], y=tables[name][measure] * unit)
        for method, seeds in values.groupby("method", sort=False):
            _curve(axes, seeds, results.looks[method])
            if name == "history":
                _rings(axes, seeds.merge(best), results.looks[method])
        axes.set_title(title, fontsize=11)
        axes.set(xlabel=_x_axis(results, column), ylabel=axis)
        axes.grid(alpha=0.3)
    if len(shown) == len(PANELS):  # both losses
        panels[1].sharey(panels[0])
        panels[0].autoscale(axis="y")
    panels[0].set_xlim(left=0)
    if column == "epoch":
        panels[0].xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    handles = [line_handle(look, markersize=5) for look in shared]
    return figure, _note(results, column, window), [*handles, ring_handle("best point")]


def _x_axis(results, column):
    without = column == "seconds" and is_shared(results)
    return "training, no shared pass (s)" if without else AXES[column]


def smoothed(steps: pd.DataFrame, window: int) -> pd.DataFrame:
    """The table with each run's loss as a centred moving mean over `window` steps.

    At both ends the mean is over the steps that are there.
    """
    if steps.empty:
        return steps
    runs = steps.sort_values("step").groupby(["method", "seed"], sort=False)["loss"]
    means = runs.transform(lambda loss: loss.rolling(window, center=True, min_periods=1).mean())
    return steps.assign(loss=means)


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


def _note(results, column, window):
    """What the lines, bands and rings are, as far as these runs have them."""
    notes = ["rings: the point with the lowest validation loss, whose weights are kept"]
    if window > 1:
        notes.append(f"training loss: centred moving mean over {window} steps")
    if column == "seconds" and is_shared(results):
        before = "; ".join(
            f"{took(part)} through {count(frozen, 'frozen block')}"
            for frozen, part in passes(results).items()
            if part["shared"].any()
        )
        notes.append(f"not in these times: the shared pass, {before}")
    lengths = results.history.groupby(["method", "seed"])["step"].max()
    if lengths.groupby("method").size().max() > 1:
        seconds = " (at their mean time)" if column == "seconds" else ""
        notes.append(f"lines: means over the seeds{seconds}; bands: from lowest to highest seed")
    if (lengths.groupby("method").nunique() > 1).any():
        notes.append("thin lines: single seeds after others of the method had stopped")
    if column == "seconds":
        notes += busy_notes(results)
    return "\n".join(notes)


def depths(results: Results):
    """Test accuracy against seconds of the variants of a method that differ in `blocks` alone.

    A line for each method with three of them or more; None where there is none.
    """
    runs = results.runs.assign(total=total_seconds(results.runs))
    points = _varied(results, runs.assign(blocks=learning_blocks(runs)), "blocks", "total")
    if points.empty:
        return None
    figure, axes = plt.subplots(figsize=(7.2, 5.0))
    drawn = looks(points["line"])
    best_first = points.groupby("line")["accuracy"].mean().sort_values(ascending=False).index
    for i, line in enumerate(best_first):
        part = points[points["line"] == line]
        accuracy_line(axes, part["total"], part, drawn[line])
        _numbers(axes, part, drawn[line], above=i % 2 == 0)
    axes.margins(0.1)
    axes.set(xlabel=BOTH if is_shared(results) else ALONE, ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    notes = ["numbers: how many of the last blocks learn"]
    notes.append(interval_note(replace(results, intervals=points)))
    notes += [*[WHOLE] * is_shared(results), *busy_notes(results)]
    return figure, "\n".join(notes), list(map(line_handle, drawn.values()))


def learning_rates(results: Results):
    """Test accuracy of the variants of a method that differ in `learning_rate` alone.

    A line for each method with three of them or more; None where there is none.
    """
    points = _varied(results, results.runs, "learning_rate")
    if points.empty:
        return None
    figure, axes = plt.subplots(figsize=(7.2, 5.0))
    drawn = looks(points["line"])
    for line, part in points.groupby("line", sort=False):
        accuracy_line(axes, part["learning_rate"], part, drawn[line])
    axes.set_xscale("log")
    axes.set(xlabel="learning rate", ylabel="test accuracy (%)")
    axes.grid(alpha=0.3)
    note = interval_note(replace(results, intervals=points))
    return figure, note, list(map(line_handle, drawn.values()))


def accuracy_line(axes, x: pd.Series, points: pd.DataFrame, look: Look) -> None:
    """Draw mean accuracies with their intervals at `x`, joined in the order of the rows."""
    mean, low, high = (100 * points[name] for name in ("accuracy", "low", "high"))
    style = {"color": look.colour, "ls": look.line, "marker": look.marker, "capsize": 3}
    axes.errorbar(x, mean, [mean - low, high - mean], elinewidth=0.8, **style)


def _varied(results, runs, *columns):
    """The accuracies of variants that differ in the first column alone, in its order.

    `line` is the method of which they are variants, three or more.
    """
    varied, *_ = columns
    means = runs.groupby("method", sort=False)[[*columns]].mean()
    points = results.intervals.join(means, on="method").dropna(subset=[*columns])
    points["line"] = points["method"].map(lambda method: _without(varied, method))
    points = points[points.groupby("line")[varied].transform("nunique") >= 3]
    return points.sort_values(varied, kind="stable")


def _numbers(axes, points, look, above):
    """How many blocks, on one side of a method's line, where another's are on the other."""
    text = {"textcoords": "offset points", "color": look.colour, "fontweight": "bold"}
    text["zorder"] = 5  # above other methods' lines
    text["path_effects"] = [withStroke(linewidth=2.5, foreground="white")]
    text |= {"ha": "right", "va": "bottom"} if above else {"ha": "left", "va": "top"}
    for point in points.itertuples():
        place = point.total, 100 * point.accuracy
        axes.annotate(f"{point.blocks:.0f}", place, (-5, 4) if above else (5, -4), **text)


def _without(hyperparameter, method):
    """The method of which others are variants: "lora(rank=4, blocks=2)" is of "lora(rank=4)"."""
    name, values = parse(method)
    texts = [f"{key}={value!r}" for key, value in values.items() if key != hyperparameter]
    return f"{name}({', '.join(texts)})" if texts else name


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

"""The figures of one experiment, from its files alone: one question each.

Redo them without training: python -m evaluation.plots results/quick
"""

import json
import sys
import warnings
from pathlib import Path

import matplotlib
import numpy as np

from .records import read_csv

matplotlib.use("Agg")  # figures go to files, on machines without a screen too
from matplotlib import pyplot as plt

# The same look for the same method everywhere: Okabe and Ito's colours, which survive colour
# blindness, and hatches, lines and markers, which survive grey print.
NAMES = {
    "head": "head-only",
    "adapter": "adapters",
    "lora": "LoRA",
    "bitfit": "BitFit",
    "full": "full fine-tuning",
}
COLOURS = {
    "head": "#E69F00",
    "adapter": "#0072B2",
    "lora": "#009E73",
    "bitfit": "#CC79A7",
    "full": "#999999",
}
HATCHES = {"head": "", "adapter": "//", "lora": "..", "bitfit": "--", "full": "xx"}
LINES = {"head": "-", "adapter": "--", "lora": "-.", "bitfit": (0, (5, 1)), "full": ":"}
MARKERS = {"head": "o", "adapter": "s", "lora": "^", "bitfit": "v", "full": "D"}

BARS = {  # file: column of runs.csv, title, axis, what one unit of the column is on the axis, label
    "train_accuracy": (
        "train_accuracy",
        "How accurate on the training reviews?",
        "accuracy (%)",
        100,
        "{:.1f}",
    ),
    "test_accuracy": (
        "test_accuracy",
        "How accurate on the test reviews?",
        "accuracy (%)",
        100,
        "{:.1f}",
    ),
    "train_loss": (
        "train_loss",
        "How large is the loss in training?",
        "loss (nats per review)",
        1,
        "{:.3f}",
    ),
    "test_loss": (
        "test_loss",
        "How large is the loss on the test reviews?",
        "loss (nats per review)",
        1,
        "{:.3f}",
    ),
    "trainable_percentage": (
        "trainable_percentage",
        "What share of the parameters is trained?",
        "trainable parameters (% of all)",
        1,
        "{:.3g}",
    ),
    "training_time": (
        "training_seconds",
        "How long does training take?",
        "training alone (s)",
        1,
        "{:.3g}",
    ),
}


def make_plots(folder: Path) -> list[Path]:
    """Draw every figure of the experiment in `folder`; returns their paths.

    Raises `ValueError` where there is no finished run to draw.
    """
    runs = read_csv(folder / "runs.csv")
    runs = runs[runs["status"] == "finished"] if len(runs) else runs
    if runs.empty:
        raise ValueError(f"{folder} has no finished runs to draw")
    history = read_csv(folder / "history.csv")
    experiment = json.loads((folder / "experiment.json").read_text())
    subtitle = _subtitle(experiment, runs)
    plt.rcParams.update({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams["text.parse_math"] = False  # a $ in a name is a $
    warnings.filterwarnings("ignore", "Glyph .* missing from font")  # an emoji becomes a box
    paths = []
    for name, (column, title, axis, unit, label) in BARS.items():
        figure = _bars(runs, column, axis, unit, label, experiment)
        paths.append(_save(figure, title, subtitle, folder / f"{name}.png"))
    for column, name, axis in (
        ("epoch", "learning_curves_epochs", "epochs"),
        ("seconds", "learning_curves_seconds", "training time (s)"),
    ):
        figure = _curves(history, runs, column, axis, len(experiment["label_names"]))
        title = f"How do the methods learn, {column.rstrip('s')} by {column.rstrip('s')}?"
        paths.append(_save(figure, title, subtitle, folder / f"{name}.png"))
    changes = read_csv(folder / "changes.csv")
    for method in changes["method"].unique() if len(changes) else ():
        figure = _heat_map(changes[changes["method"] == method])
        title = f"Where did {NAMES.get(method, method)} change the model?"
        paths.append(_save(figure, title, subtitle, folder / f"changes_{method}.png"))
    return paths


def _subtitle(experiment, runs):
    data, seeds = experiment["data"], runs["seed"].nunique()
    return (
        f"experiment “{experiment['constants']['experiment']}”: {experiment['model']} on "
        f"{experiment['data_set']}\n{data['train']:,} training and {data['test']:,} test reviews, "
        f"up to {experiment['constants']['max_tokens']} tokens, "
        f"{seeds} seed{'s' if seeds > 1 else ''}"
    )


def _bars(runs, column, axis_label, unit, label, experiment):
    figure, axes = plt.subplots(figsize=(6.4, 4.4))
    methods = list(dict.fromkeys(runs["method"]))
    values = {m: runs.loc[runs["method"] == m, column] * unit for m in methods}
    for x, method in enumerate(methods):
        mean = values[method].mean()
        axes.bar(
            x, mean, 0.62, color=COLOURS.get(method), hatch=HATCHES.get(method), edgecolor="white"
        )
        top = mean
        if column == "test_accuracy":
            share = mean / 100
            error = 196 * (share * (1 - share) / experiment["data"]["test"]) ** 0.5
            axes.errorbar(x, mean, error, color="black", capsize=5)
            top += error
        if len(values[method]) > 1:
            axes.plot([x] * len(values[method]), values[method], "k_", markersize=12)
            top = max(top, values[method].max())
        text = label.format(mean)
        axes.annotate(text, (x, top), (0, 4), textcoords="offset points", ha="center", va="bottom")
    axes.set_xticks(range(len(methods)), [NAMES.get(m, m) for m in methods])
    axes.set_ylabel(axis_label)
    notes = ["lines: single seeds, bars: their mean"] if runs["seed"].nunique() > 1 else []
    if unit == 100:
        axes.set_ylim(0, 109)
        axes.set_yticks(range(0, 101, 20))
        chance = 100 / len(experiment["label_names"])
        axes.axhline(chance, color="black", linewidth=1, linestyle=":")
        notes.insert(0, f"dotted: guessing ({chance:.0f} %)")
    else:
        axes.margins(y=0.12)
    if column == "test_accuracy":
        notes.append("error bars: 95 %, sampling of the test reviews (normal approximation)")
    if notes:
        axes.set_xlabel("\n".join(notes), fontsize=8.5)
    return figure


def _curves(history, runs, column, axis_label, classes):
    figure, panels = plt.subplots(2, 2, figsize=(9, 6.2), sharex=True, sharey="row")
    for (row, measure), (col, split) in [
        ((r, m), (c, s))
        for r, m in enumerate(("loss", "accuracy"))
        for c, s in enumerate(("train", "validation"))
    ]:
        axes = panels[row, col]
        unit = 100 if measure == "accuracy" else 1
        for (method, seed), run in history.groupby(["method", "seed"], sort=False):
            first = seed == history.loc[history["method"] == method, "seed"].min()
            axes.plot(
                run[column],
                run[f"{split}_{measure}"] * unit,
                color=COLOURS.get(method),
                linestyle=LINES.get(method, "-"),
                marker=MARKERS.get(method, "."),
                markersize=4,
                label=NAMES.get(method, method) if first else None,
            )
            best = run[run["epoch"] == _best_epoch(runs, method, seed)]
            axes.plot(
                best[column],
                best[f"{split}_{measure}"] * unit,
                color=COLOURS.get(method),
                marker="o",
                markersize=11,
                fillstyle="none",
                linestyle="",
            )
        axes.set_title(f"{'training' if split == 'train' else split} {measure}", fontsize=11)
        axes.grid(alpha=0.3)
        if row == 1:
            axes.set_xlabel(axis_label)
            if unit == 100:
                axes.set_ylim(min(100 / classes, axes.get_ylim()[0]) - 2, 101)
            if column == "epoch":
                axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
    panels[0, 0].set_xlim(left=0)
    panels[0, 0].set_ylabel("loss (nats per review)")
    panels[1, 0].set_ylabel("accuracy (%)")
    lines, names = panels[0, 0].get_legend_handles_labels()
    ring = plt.Line2D([], [], color="black", marker="o", markersize=11, fillstyle="none", ls="")
    figure.legend(
        [*lines, ring], [*names, "epoch kept"], loc="lower center", ncols=5, frameon=False
    )
    return figure


MEASURES = {  # column of changes.csv: what it is, how to write it
    "relative_size": ("size of the change / size of the original (%)", "{:.1f}", 100),
    "effective_rank": ("effective rank of the change", "{:.1f}", 1),
}


def _heat_map(changes):
    """Blocks from left to right, matrices from top to bottom; means over the seeds."""
    measures = [name for name in MEASURES if name in changes and changes[name].notna().any()]
    blocks, places = changes["block"].nunique(), changes["place"].nunique()
    size = (2.2 + 0.75 * blocks * len(measures), 2.4 + 0.45 * places)
    figure, panels = plt.subplots(1, len(measures), figsize=size, squeeze=False, sharey=True)
    for axes, measure in zip(panels[0], measures, strict=True):
        label, form, unit = MEASURES[measure]
        table = changes.pivot_table(measure, "place", "block", sort=False) * unit
        axes.imshow(table, cmap="cividis", aspect="auto")
        middle = (table.to_numpy().min() + table.to_numpy().max()) / 2
        for (y, x), value in np.ndenumerate(table.to_numpy()):
            colour = "white" if value <= middle else "black"
            axes.text(x, y, form.format(value), ha="center", va="center", color=colour, fontsize=9)
        axes.set_xticks(range(blocks), [block + 1 for block in table.columns])
        axes.set_yticks(range(places), table.index)
        axes.set_xlabel("block")
        axes.set_title(label, fontsize=9.5)
    return figure


def _best_epoch(runs, method, seed):
    row = runs[(runs["method"] == method) & (runs["seed"] == seed)]
    return row["best_epoch"].iloc[0] if len(row) else None


def _save(figure, title, subtitle, path):
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.12 / height, title, va="top", fontsize=13, fontweight="bold")
    figure.text(0.02, 1 - 0.42 / height, subtitle, va="top", fontsize=8.5, color="#444444")
    below = 0.45 if figure.legends else 0
    figure.tight_layout(rect=(0, below / height, 1, 1 - 0.72 / height))
    unfinished = path.with_name(path.name + ".part")
    figure.savefig(unfinished, format="png", dpi=150)
    plt.close(figure)
    unfinished.replace(path)
    return path


if __name__ == "__main__":
    for written in make_plots(Path(sys.argv[1])):
        print(written)

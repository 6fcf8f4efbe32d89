"""Figures of matrices: which labels are taken for which, and where a method changed the model."""

import math
import textwrap

import numpy as np

from .results import Results
from .style import plt

COUNTS_UP_TO, SHARES_UP_TO = 6, 10  # labels: more of them leave no room in the cells


def confusion_matrices(results: Results):
    """For each method, the shares of each true label's test reviews by predicted label."""
    labels, logits = results.experiment["label_names"], results.predictions.logits
    counts = {method: 0 for method, _ in logits}
    for method, seed in logits:
        counts[method] += confusion(results.predictions.labels, logits[method, seed])
    places, names, turned = _tick_labels(labels)
    figure, panels, side = _grid(len(counts), len(labels), max(map(len, names)) if turned else 0)
    for axes, (method, cells) in zip(panels.flat, counts.items(), strict=False):
        image = _draw_confusion(axes, cells)
        title = textwrap.fill(results.looks[method].label, int(side / 0.085))
        axes.set_title(title, fontsize=11)
        style = {"fontsize": 9 - turned, "parse_math": False}
        axes.set_xticks(places, names, rotation=90 if turned else 0, **style)
        axes.set_yticks(places, names, **style)
        axes.xaxis.set_tick_params(labelbottom=True)
    for axes in panels[:, 0]:
        axes.set_ylabel("true label")
    for axes in panels[-1]:
        axes.set_xlabel("predicted label")
    note = "rows: true labels, adding up to 100 %; columns: predicted labels"
    if len(labels) > SHARES_UP_TO:
        figure.colorbar(image, ax=panels, label="% of the true label", shrink=0.6)
    elif len(labels) > COUNTS_UP_TO:
        note += "; numbers: %"
    elif results.runs["seed"].nunique() > 1:
        note += "; counts: sums over the seeds"
    return figure, note, ()


def _grid(methods, labels, turned):
    """A panel a method, up to three in a row, or four of many; and the side of one in inches."""
    rows = math.ceil(methods / (3 if methods <= 6 or labels > COUNTS_UP_TO else 4))
    columns = math.ceil(methods / rows)
    side = min(4.5, max(2.4, 0.62 * labels))
    below = 0.5 + (0.075 * turned if turned else 0.2)
    size = (max(5.2, columns * side + 2), rows * (side + below) + 1.4)
    grid = {"squeeze": False, "sharex": True, "sharey": True}
    figure, panels = plt.subplots(rows, columns, figsize=size, **grid)
    for axes in panels.flat[methods:]:
        axes.set_axis_off()
    return figure, panels, side


def _tick_labels(labels):
    """Where to write which label names, at most 25, and whether they have to be turned."""
    places = range(0, len(labels), math.ceil(len(labels) / 25))
    names = [name if len(name) <= 18 else name[:17] + "…" for name in (labels[i] for i in places)]
    return places, names, max(map(len, names)) * len(names) > 26


def confusion(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """Counts (C, C) of the reviews by true label (rows) and predicted label (columns).

    From labels (n,) and logits (n, C).
    """
    classes = logits.shape[1]
    cells = labels * classes + logits.argmax(1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def _draw_confusion(axes, counts):
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    if len(counts) > SHARES_UP_TO:
        return image
    with_count = len(counts) <= COUNTS_UP_TO
    for (y, x), share in np.ndenumerate(shares):
        text = f"{share:.1f} %\n{counts[y, x]:,}" if with_count else f"{share:.0f}"
        colour = "white" if share < 50 else "black"
        size = 9 if with_count else 8
        axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=size)
    return image


MEASURES = {  # column of changes.csv: what it is, how to write it
    "relative_size": ("size of the change / size of the original (%)", "{:.1f}", 100),
    "effective_rank": ("effective rank of the change", "{:.1f}", 1),
}


def changes_map(results: Results, method: str):
    """Blocks from left to right, matrices from top to bottom; means over the seeds."""
    changes = results.changes[results.changes["method"] == method]
    measures = [name for name in MEASURES if changes[name].notna().any()]
    if not measures:
        return None
    blocks, places = changes["block"].nunique(), changes["place"].nunique()
    size = (1.3 + max(3.3, 0.75 * blocks) * len(measures), 2.4 + 0.45 * places)
    figure, panels = plt.subplots(1, len(measures), figsize=size, squeeze=False, sharey=True)
    for axes, measure in zip(panels[0], measures, strict=True):
        label, form, unit = MEASURES[measure]
        table = changes.pivot_table(measure, "place", "block", sort=False) * unit
        axes.imshow(table, cmap="cividis", aspect="auto")
        middle = (np.nanmin(table) + np.nanmax(table)) / 2
        for (y, x), value in np.ndenumerate(table.to_numpy()):
            text = "" if np.isnan(value) else form.format(value)  # not every block need change
            style = {"color": "white" if value <= middle else "black", "fontsize": 9}
            axes.text(x, y, text, ha="center", va="center", **style)
        axes.set_xticks(range(blocks), [block + 1 for block in table.columns])
        axes.set_yticks(range(places), table.index)
        axes.set_xlabel("block")
        axes.set_title(label, fontsize=9.5)
    return figure, "means over the seeds" if changes["seed"].nunique() > 1 else "", ()

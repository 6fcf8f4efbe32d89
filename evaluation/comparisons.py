"""Figures that compare the methods: scores, differences, and confusions of labels."""

import pandas as pd
from sklearn.metrics import ConfusionMatrixDisplay

from . import advice, errors
from .markdown import count, size
from .metrics import METRICS
from .results import Results
from .style import as_difference, error_bar, plt

LEARNT = ("accuracy", "loss")  # metrics that are shown for the training texts too
ACROSS = 4  # panels beside one another
VERDICTS = {  # colour, marker, its face, in words: told apart in grey print too
    "significant": ("#0072B2", "o", "#0072B2", "significant (Holm, 5 %)"),
    "equivalent": ("#009E73", "D", "#009E73", "equivalent within the grey band"),
    "not significant": ("#777777", "o", "white", "not significant"),
}
MOST = 15  # differences in a figure; where there are more, the best method's
MOST_LABELS = 25  # of a confusion matrix
NAME = 24  # letters of a label in a figure
WIDE = 24  # letters of all labels, each as long as the longest; above this they are rotated
LETTER = 0.085  # width of a label's letter, in inches
NEAR = 2.0  # the line of chance is drawn if it is less than this many spans of all intervals away


def row_figure(names: list[str]):
    """A figure and its axes, with a row for each name, the first on top."""
    longest = max(len(line) for name in names for line in name.split("\n"))
    figure, axes = plt.subplots(figsize=(4.6 + LETTER * longest, 1.4 + 0.46 * len(names)))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    return figure, axes


def accuracies(results: Results):
    """Each method's score on the experiment's metric, with its interval; the best one on top.

    The axis need not begin at 0, so that differences show. Rings are single seeds.
    """
    metric = results.metric
    rows = results.intervals[results.intervals["method"].isin(advice.compared(results))]
    rows = rows.sort_values(metric, ascending=False, kind="stable")
    figure, axes = row_figure(results.labels(rows["method"]))
    notes = [interval_note(results)]
    for y, (_, row) in enumerate(rows.iterrows()):
        look, at = results.looks[row.method], (100 * row[metric], y)
        ends = 100 * row[f"{metric}_low"], 100 * row[f"{metric}_high"]
        error_bar(axes, *at, ends, across=True, color=look.colour, marker=look.marker)
        axes.annotate(f"{at[0]:.1f}", at, (0, 7), textcoords="offset points", ha="center")
        if row.seeds > 1 and not results.is_folds:
            seeds = results.runs.loc[results.runs["method"] == row.method, f"test_{metric}"]
            axes.plot(100 * seeds, [y + 0.25] * row.seeds, "o", ms=4, mfc="none", mec=look.colour)
            notes[1:] = ["rings: single seeds"]
    if len(rows) < len(results.intervals):
        notes.append("not shown: methods on part of the labels or folds")
    low, high = rows[f"{metric}_low"].min(), rows[f"{metric}_high"].max()
    guess, share = advice.chance(results)
    line = f"{guess} ({100 * share:.3g} %)"
    if share > low - NEAR * (high - low):
        axes.axvline(100 * share, color="black", linewidth=1, linestyle=":")
        notes.append(f"dotted: {line}")
    else:
        notes.append(f"far to the left: {line}")
    axes.margins(x=0.1)
    axes.set_xlabel(f"test {METRICS[metric].label} (%)")
    return figure, "\n".join(notes), ()


def overview(results: Results):
    """A panel of bars for each number that the methods are compared on: the means over the runs."""
    means = results.means.loc[advice.complete(results)]
    panels = [
        (f"{split}_{name}", f"{words} {metric.label} ({metric.unit})", metric.scale, metric.text)
        for name, metric in METRICS.items()
        for split, words in (("test", "test"), ("train", "training"))
        if split == "test" or name in LEARNT
    ]
    panels += [("trainable_percentage", "trained parameters (% of all)", 1, size)]
    panels += [("total_seconds", "training and frozen blocks (s)", 1, size)]
    panels = [panel for panel in panels if means[panel[0]].notna().any()]
    rows = -(-len(panels) // ACROSS)
    names = results.labels(means.index)
    inches = (2.5 * ACROSS + 0.6 + LETTER * max(map(len, names)), rows * (1 + 0.3 * len(means)))
    figure, axes = plt.subplots(rows, ACROSS, figsize=inches, sharey=True, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, (column, label, scale, text) in zip(axes.flat, panels, strict=False):
        values = scale * means[column].fillna(0)
        bars = axis.barh(names, values, color=[results.looks[m].colour for m in means.index])
        axis.bar_label(bars, list(map(text, means[column])), padding=3, fontsize=9)
        axis.margins(x=0.28)
        axis.grid(visible=False)
        axis.set_xlabel(label, fontsize=10)
    axes[0, 0].invert_yaxis()
    return figure, f"bars: {results.of_means}; a dash: not measured", ()


def interval_note(results: Results) -> str:
    """A line that says what the error bars of a metric are."""
    return f"error bars: 95 % intervals, of {results.covers}"


def confusion_matrix(results: Results):
    """The advised method's confusion matrix in texts; None without advice, or for many labels."""
    names = results.experiment["label_names"]
    if (method := advice.advised(results)) is None or len(names) > MOST_LABELS:
        return None
    cut = [n if len(n) <= NAME else f"{n[: NAME // 2]}…{n[1 - NAME // 2 :]}" for n in names]
    names = cut if len(set(cut)) == len(names) else names  # else two labels would look alike
    side = max(3.5, 1.5 + 0.42 * len(names) + LETTER * max(map(len, names)))
    figure, axes = plt.subplots(figsize=(max(5.5, side), side))
    counts = errors.confusion(results, method)
    shown = {"cmap": "Blues", "values_format": ",.0f", "colorbar": False}
    shown["xticks_rotation"] = 90 if len(names) * max(map(len, names)) > WIDE else 0
    ConfusionMatrixDisplay(counts, display_labels=names).plot(ax=axes, **shown)
    axes.grid(visible=False)
    axes.set(xlabel="label given", ylabel="true label")
    return figure, f"{results.looks[method].label}; numbers: texts", ()


def differences(results: Results):
    """The paired differences of planned contrasts, else of all pairs; with intervals.

    Of more than `MOST` pairs it shows the best method's. A method on part of the labels is left
    out, unless its contrasts are planned.
    """
    pairs, of_whom = results.contrasts, ""
    if pairs.empty:
        pairs = results.comparisons
        on_part = (pairs["method_a"] + pairs["method_b"]).str.contains("labels=", regex=False)
        if on_part.any() and not on_part.all():
            pairs, of_whom = pairs[~on_part], " among methods with all labels"
        if len(pairs) > MOST:
            best = pairs["method_a"].iloc[0]  # of the largest difference
            pairs = pairs[pairs["method_a"] == best]
            of_whom = f" of {results.looks[best].label}{of_whom}"
    if pairs.empty:
        return None
    pair_count = len(results.contrasts) + len(results.comparisons)
    notes = ["bars: 95 % intervals of single differences", designs(pairs)]
    if len(pairs) < pair_count:
        kind = "planned contrast" if len(results.contrasts) else "difference"
        what = f"the {count(len(pairs), kind)}{of_whom}"
        notes.append(f"{what}; the report has all {pair_count} pairs")
    a, b = (results.labels(pairs[side]) for side in ("method_a", "method_b"))
    names = [as_difference(*pair, sign=" −\n") for pair in zip(a, b, strict=True)]
    figure, axes = row_figure(names)
    handles = difference_bars(axes, pairs, results.margin)
    axes.set_xlabel(f"difference in test {METRICS[results.metric].label} (points)")
    return figure, "\n".join(notes), handles


def designs(pairs: pd.DataFrame) -> str:
    """How these differences are tested: "paired by text; of other texts and 3 seeds, ..."."""
    words = dict.fromkeys(part for test in pairs["test"] for part in test.split("; "))
    return "; ".join(words)


def difference_bars(axes, pairs, margin: float) -> list:
    """Draw a bar for each pair, downwards, on the margin's grey band; returns legend handles."""
    axes.axvspan(-100 * margin, 100 * margin, color="#EEEEEE", linewidth=0)
    axes.axvline(0, color="black", linewidth=1)
    for y, row in enumerate(pairs.itertuples()):
        colour, marker, face, _ = VERDICTS[row.verdict]
        ends, style = (100 * row.low, 100 * row.high), {"color": colour, "mfc": face}
        error_bar(axes, 100 * row.difference, y, ends, across=True, marker=marker, ms=8, **style)
    return [
        plt.Line2D([], [], color=colour, mfc=face, label=words, marker=marker, markersize=8)
        for colour, marker, face, words in VERDICTS.values()
    ]

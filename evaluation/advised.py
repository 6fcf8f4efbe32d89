"""The answer on the page: the methods sorted, and how the one that is advised errs."""

import shlex
from textwrap import shorten

import numpy as np

from . import answer
from .comparisons import LETTER, interval_note, majority_line
from .markdown import escape, number, percent, size, table, with_interval
from .metrics import METRICS, PLANNABLE
from .results import Results
from .style import error_bar, plt

MOST_LABELS = 25  # of a confusion matrix
NAME = 24  # letters of a label in a figure
REFERRED = range(61)  # % of the texts that go to a person
NEAR = 2.0  # lengths of all intervals: as near to them, the majority's line is drawn


# ---------------------------------------------------------------------------- figures


def accuracies(results: Results):
    """Each method's accuracy with its interval, the best on top, on an axis that shows differences.

    Only where a method is advised; elsewhere bars show the same.
    """
    if results.advised is None:
        return None
    rows = answer.methods(results).sort_values("accuracy", ascending=False, kind="stable")
    names = [results.looks[method].label for method in rows["method"]]
    width = max(7.2, 4.6 + LETTER * max(map(len, names)))
    figure, axes = plt.subplots(figsize=(width, 1.2 + 0.42 * len(rows)))
    for y, row in enumerate(rows.itertuples()):
        look, at = results.looks[row.method], (100 * row.accuracy, y)
        ends = 100 * row.accuracy_low, 100 * row.accuracy_high
        style = {"color": look.colour, "marker": look.marker, "ms": 9, "capsize": 4}
        error_bar(axes, *at, ends, across=True, **style)
        axes.annotate(f"{at[0]:.1f}", at, (0, 7), textcoords="offset points", ha="center")
    low, high = rows["accuracy_low"].min(), rows["accuracy_high"].max()
    share = answer.majority(results)[1]
    if share > low - NEAR * (high - low):
        note = majority_line(axes.axvline, results)
    else:
        note = f"always saying the largest label: {100 * share:.1f} %, far to the left"
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.set_xlabel("accuracy (%)")
    return figure, f"{interval_note(results)}\n{note}", ()


def confusion_matrix(results: Results):
    """How many texts of each label the advised method gives which label; None of too many."""
    names = [shorten(name, NAME, placeholder="…") for name in results.experiment["label_names"]]
    if results.advised is None or len(names) > MOST_LABELS:
        return None
    method = results.advised
    counts = answer.confusion(results, method).to_numpy()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side, margin = 0.42 * len(names), 0.1 * max(map(len, names))
    figure, axes = plt.subplots(figsize=(max(5.5, side + margin), max(2.2, side) + margin))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in zip(*counts.nonzero(), strict=True):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, f"{counts[i, j]:,.0f}", ha="center", va="center", color=colour, size=9)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.set(xlabel="label given", ylabel="true label")
    return figure, f"{results.looks[method].label}; numbers: texts; shade: share of the row", ()


def referral(results: Results):
    """Accuracy on the others, where the least confident texts go to a person."""
    if results.advised is None:
        return None
    method = results.advised
    curve, look = answer.referral(results, method, REFERRED), results.looks[method]
    marked = curve[curve["share"].isin(answer.SHARES)]
    figure, axes = plt.subplots(figsize=(7.2, 3.4))
    axes.plot(curve["share"], 100 * curve["accuracy"], color=look.colour)
    axes.plot(marked["share"], 100 * marked["accuracy"], look.marker, color=look.colour)
    for row in marked.itertuples():
        at = row.share, 100 * row.accuracy
        axes.annotate(f"{at[1]:.1f}", at, (0, -14), textcoords="offset points", ha="center")
    axes.margins(y=0.2)
    axes.set_xlabel("share of the texts, the least confident ones, that go to a person (%)")
    axes.set_ylabel("accuracy on the others (%)")
    return figure, f"{look.label}; confidence: the probability of the label given", ()


# ---------------------------------------------------------------------------- tables


def methods(results: Results) -> str:
    """Scores, difference from the probe, parameters and seconds of each method, sorted."""
    rows = answer.methods(results)
    columns = {"method": [escape(results.looks[method].label) for method in rows["method"]]}
    for name in PLANNABLE:
        values = (rows[f"{name}{end}"] for end in ("", "_low", "_high"))
        columns[f"{METRICS[name].label}, %"] = map(with_interval, *values)
    if "difference" in rows:
        values = (rows[f"difference{end}"] for end in ("", "_low", "_high"))
        columns["minus the probe, points"] = map(with_interval, *values)
        columns["verdict"] = rows["verdict"].fillna("")
    columns["parameters"] = [number(n, "{:,.0f}") for n in rows["trainable_parameters"]]
    columns["seconds"] = rows["seconds"].map(size)
    label, share = answer.majority(results)
    return (
        f"{table(columns)}\n\nIn brackets: 95 % intervals, of {results.covers}. Always saying "
        f"“{escape(label)}” has {percent(share)} %. Seconds: training of a fold's model, its "
        "frozen blocks included."
    )


def by_label(results: Results, method: str) -> str:
    """Precision, recall and F1 of each label, by the method advised."""
    rows = answer.per_label(results, method)
    columns = {"label": map(escape, rows["label"])}
    for name, column in (("precision", "precision"), ("recall", "recall"), ("F1", "f1")):
        columns[f"{name}, %"] = rows[column].map(percent)
    return table(columns | {"texts": [f"{n:,}" for n in rows["support"]]})


def final_command(results: Results, method: str) -> str:
    """What trains this method on all texts, for new ones."""
    last = results.experiment["command"].split(" && ")[-1]
    return f"{last} --final {shlex.quote(method)}"

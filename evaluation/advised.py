"""Figures of the answer: the methods' accuracies, and how the one that is advised errs."""

from textwrap import shorten

import numpy as np
from scipy.special import softmax

from .comparisons import LETTER, interval_note, majority_line, majority_share
from .results import Results
from .style import error_bar, plt

MOST_LABELS = 25  # of a matrix of confusions
NAME = 24  # letters of a label
REFERRED = np.arange(61)  # % of the texts that go to a person
MARKED = (0, 10, 20, 30, 50)  # of these, with a number
NEAR = 2.0  # ranges of the intervals: as far away the majority's line is drawn


def accuracies(results: Results):
    """Each method's accuracy with its interval, the best on top, on an axis that shows differences.

    Of experiments without an answer None: their bars show the same.
    """
    if results.advised is None:
        return None
    rows = results.intervals.sort_values("accuracy", ascending=False, kind="stable")
    names = [results.looks[method].label for method in rows["method"]]
    width = max(7.2, 4.6 + LETTER * max(map(len, names)))
    figure, axes = plt.subplots(figsize=(width, 1.2 + 0.42 * len(rows)))
    for y, row in enumerate(rows.itertuples()):
        look, ends = results.looks[row.method], (100 * row.accuracy_low, 100 * row.accuracy_high)
        marks = {"color": look.colour, "marker": look.marker, "ms": 9, "capsize": 4}
        at = 100 * row.accuracy, y
        error_bar(axes, *at, ends, across=True, **marks)
        axes.annotate(f"{at[0]:.1f}", at, (0, 7), textcoords="offset points", ha="center")
    low, high = rows["accuracy_low"].min(), rows["accuracy_high"].max()
    share = majority_share(results)
    if share > low - NEAR * (high - low):
        note = f"; {majority_line(axes.axvline, results)}"
    else:
        note = f"; always saying the largest label: {100 * share:.3g} %"
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("accuracy (%)")
    return figure, interval_note(results) + note, ()


def confusion_matrix(results: Results):
    """How many texts of each label the advised method gives which label; None of too many."""
    names = [shorten(name, NAME, placeholder="…") for name in results.experiment["label_names"]]
    if results.advised is None or len(names) > MOST_LABELS:
        return None
    labels, logits = pooled(results)
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (labels, logits.argmax(1)), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 0.42 * len(names) + 0.08 * max(map(len, names))
    figure, axes = plt.subplots(figsize=(max(5.0, side + 1), max(3.0, side)))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, j in zip(*counts.nonzero(), strict=True):
        colour = "white" if shares[i, j] > 0.5 else "black"
        axes.text(j, i, f"{counts[i, j]:,}", ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 3 else 0)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.set(xlabel="label given", ylabel="true label")
    note = f"{results.looks[results.advised].label}; numbers: test texts; shade: share of the row"
    return figure, note, ()


def referral(results: Results):
    """Accuracy on the others, when the least confident share of the texts goes to a person."""
    if results.advised is None:
        return None
    labels, logits = pooled(results)
    confidence = softmax(logits.astype(float), axis=1).max(axis=1)
    right = (logits.argmax(1) == labels)[np.argsort(-confidence, kind="stable")]
    kept = np.ceil(len(right) * (1 - REFERRED / 100)).astype(int).clip(1)
    accuracy = 100 * right.cumsum()[kept - 1] / kept
    look = results.looks[results.advised]
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    axes.plot(REFERRED, accuracy, color=look.colour)
    for share in MARKED:
        at = share, accuracy[share]
        axes.plot(*at, look.marker, color=look.colour)
        axes.annotate(f"{at[1]:.1f}", at, (0, 7), textcoords="offset points", ha="center")
    axes.margins(y=0.15)
    axes.set(xlabel="least confident texts that go to a person (%)")
    axes.set_ylabel("accuracy on the others (%)")
    return figure, f"{look.label}; confidence: the probability of the label given", ()


def pooled(results: Results) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and logits (n, C) of all test texts, by the method advised."""
    runs = list(results.predictions.by_run(results.advised))
    labels = [results.predictions.labels[places] for places, _ in runs]
    return np.concatenate(labels), np.concatenate([logits for _, logits in runs])

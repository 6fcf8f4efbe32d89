"""The figures of chapters 7 to 13: data, tests, learning curves, the way to a classifier."""

import numpy as np
from drawing import (
    DARK,
    FROZEN,
    NONE,
    SMALL,
    TEST,
    TRAINED,
    TRAINING,
    VALIDATION,
    Part,
    arrow,
    box,
    canvas,
    chain,
    plt,
    write,
)
from matplotlib.figure import Figure
from scipy import stats


def folds() -> Figure:
    """Five folds of ten customers: each is tested once, none is in two parts of a fold."""
    axes = canvas(3.3, "Which texts does each fold test?", TRAINING, VALIDATION, TEST)
    for i in range(10):
        write(axes, 1.75 + 0.6 * i, 2.65, f"{i}", fontsize=SMALL)
    write(axes, 1.25, 2.65, "customer", ha="right", fontsize=SMALL)
    for fold in range(5):
        y = 2.3 - 0.36 * fold
        write(axes, 1.25, y, f"seed {fold}: fold {fold}", ha="right", fontsize=SMALL)
        for i in range(10):
            after = (i // 2 - fold) % 5
            validates = after in (1, 2) and i % 2 == 0
            colour = TEST if after == 0 else VALIDATION if validates else TRAINING
            for text in range(3):
                box(axes, 1.57 + 0.6 * i + 0.18 * text, y, Part("", colour, 0.15, 0.26))
    write(axes, 7.85, 0.2, "A small box is a text.", fontsize=SMALL, ha="right")
    return axes.figure


def paired_test() -> Figure:
    """Two models on the same 2,500 texts: only those on which they disagree tell them apart."""
    axes = canvas(4.1, "The paired test: which texts tell two models apart?")
    parts = (("both right", 2248, FROZEN), ("only A", 58, TRAINED), ("only B", 42, TEST))
    parts += (("both wrong", 152, NONE),)
    left = 0.3
    for words, number, colour in parts:
        wide = number / 2500 * 7.4
        label = f"{words}: {number:,}" if number > 1000 else ""
        box(axes, left + wide / 2, 3.35, Part(label, colour, wide, 0.4))
        left += wide
    write(axes, left, 3.67, "both wrong: 152", fontsize=SMALL, ha="right")
    start = 0.3 + 2248 / 2500 * 7.4
    for words, number, colour, x in (
        ("only A right", 58, TRAINED, 0.3),
        ("only B right", 42, TEST, 2.04),
    ):
        wide = number * 0.03
        box(axes, x + wide / 2, 1.9, Part(f"{words}: {number}", colour, wide, 0.4))
    ends = ((start, 0.3), (start + 0.296, 3.3))
    for top, bottom in ends:
        axes.plot([top, bottom], [3.15, 2.1], color=DARK, lw=0.8, ls=":")
    note = "If the models are equally good,\neach of the 100 is a coin toss."
    write(axes, 1.8, 1.3, note)
    bars = axes.figure.add_axes((0.53, 0.16, 0.44, 0.38), facecolor="none")
    heads = np.arange(30, 71)
    far, p = abs(heads - 50) >= 8, stats.binomtest(58, 100).pvalue
    bars.bar(heads, stats.binom.pmf(heads, 100, 0.5), color=np.where(far, DARK, FROZEN))
    bars.set_xlabel(f"heads of 100 tosses; dark: as far from 50 as 58, p = {p:.2f}", fontsize=SMALL)
    bars.set(yticks=[], xticks=[30, 42, 50, 58, 70])
    bars.spines[["top", "right", "left"]].set_visible(False)
    return axes.figure


def learning_curves() -> Figure:
    """Training and validation loss of a made-up classifier, by the step."""
    random = np.random.default_rng(1)
    w, x = random.normal(size=60) * (np.arange(60) < 8), random.normal(size=(640, 60))
    y = (x @ w + random.normal(scale=2, size=640) > 0).astype(float)
    theta, losses = np.zeros(60), []
    for _ in range(400):
        p = 1 / (1 + np.exp(-x @ theta))
        each = -np.log(np.where(y > 0, p, 1 - p))
        losses.append((each[:80].mean(), each[80:].mean()))
        theta -= 0.04 * x[:80].T @ (p - y)[:80] / 80
    train, validation = np.array(losses).T
    best = validation.argmin()
    figure, axes = plt.subplots(figsize=(8, 3.6), layout="constrained")
    axes.plot(train, color=DARK, ls="--", label="training")
    axes.plot(validation, color=VALIDATION, lw=2, label="validation")
    axes.axvline(best, color=TRAINED, lw=1.5)
    axes.text(best + 5, 0.17, "kept: the lowest\nvalidation loss", color=TRAINED, va="bottom")
    for place, words in ((0.09, "undertrained"), (0.75, "overfitting")):
        axes.text(place, 0.93, words, transform=axes.transAxes, ha="center", fontweight="bold")
    axes.set(xlabel="step of a made-up classifier", ylabel="loss (nats)", xlim=(0, 400))
    axes.set_ylim(top=0.85)
    title = "When should training stop?"
    axes.set_title(title, loc="left", fontsize=13, fontweight="bold", pad=12)
    axes.legend(frameon=False, loc="center right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def from_file() -> Figure:
    """Three commands: compare on folds, train the best on all texts, classify new ones."""
    axes = canvas(3.1, "From a file to a classifier: what does each command do?")
    parts = (
        Part("tickets.csv", FROZEN, 1.0, 0.6),
        Part("5 folds,\neach tested once", NONE, 1.35, 0.6),
    )
    parts += (
        Part("methods × folds", TRAINED, 1.35, 0.6),
        Part("answer:\nwhich method", NONE, 1.15, 0.6),
    )
    at = chain(axes, 0.3, 2.2, *parts, gap=0.45)
    write(axes, 7.0, 2.2, "1. compare", ha="left", fontweight="bold")
    low = (
        Part("final model,\nof all texts", TRAINED, 1.35, 0.6),
        Part("new.csv, with\nlabels", NONE, 1.15, 0.6),
    )
    x = at[2] - 0.675
    below = chain(axes, x, 0.8, *low, gap=0.45)
    arrow(axes, (at[3], 1.9), (at[3], 1.5), (below[0], 1.5), (below[0], 1.1))
    arrow(axes, (at[0], 1.9), (at[0], 0.8), (x, 0.8))
    write(axes, below[0], 0.33, "2. --final", fontweight="bold")
    write(axes, below[1], 0.33, "3. modeling.predict", fontweight="bold")
    return axes.figure


def which_method() -> Figure:
    """The order in which to try methods on one's own texts."""
    axes = canvas(4.6, "Which method?")
    steps = ("Fit TF-IDF, the probe, and both together",)
    steps += ("Long texts? Raise MAX_TOKENS, and fit again",)
    steps += ("Train LoRA on the same folds,\nand add TF-IDF: lora+tfidf",)
    steps += ("Is the highest ahead of a simpler one\nby what matters to you?",)
    y = 3.7
    for i, words in enumerate(steps):
        box(axes, 2.5, y - 0.85 * i, Part(words, NONE, 4.2, 0.55))
        if i:
            arrow(axes, (2.5, y - 0.85 * i + 0.575), (2.5, y - 0.85 * i + 0.275))
    last = y - 0.85 * 3
    box(axes, 6.6, last, Part("yes: take it", TRAINED, 1.7, 0.4))
    arrow(axes, (4.6, last), (5.75, last))
    box(axes, 2.5, last - 0.75, Part("no: take the simpler one", FROZEN, 3.2, 0.4))
    arrow(axes, (2.5, last - 0.275), (2.5, last - 0.55))
    return axes.figure

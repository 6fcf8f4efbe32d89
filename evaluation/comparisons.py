"""Figures that compare the methods: accuracies, losses and costs, and which can be told apart."""

import numpy as np
from matplotlib import ticker

from .markdown import size
from .statistics import LEVEL
from .style import look, plt

ACCURACY = ("accuracy (%)", 100, "{:.1f}".format)  # axis, units of it in 1, how to write it
LOSS = ("loss (nats per review)", 1, "{:.3f}".format)
BARS = {  # file: column of runs.csv, title, what is on the axis
    "train_accuracy": ("train_accuracy", "How accurate on the training reviews?", ACCURACY),
    "test_accuracy": ("test_accuracy", "How accurate on the test reviews?", ACCURACY),
    "train_loss": ("train_loss", "How large is the loss in training?", LOSS),
    "test_loss": ("test_loss", "How large is the loss on the test reviews?", LOSS),
    "trainable_percentage": (
        "trainable_percentage",
        "What share of the parameters is trained?",
        ("trainable parameters (% of all)", 1, size),
    ),
    "training_time": (
        "training_seconds",
        "How long does training take?",
        ("training alone (s)", 1, size),
    ),
}
COSTS = {  # column of runs.csv: axis, scale
    "trainable_parameters": ("trained parameters", "log"),
    "training_seconds": ("training alone (s)", "log"),
    "peak_memory_mib": ("peak memory (MiB)", "linear"),
}


def bars(runs, column, scale, intervals, classes):
    """A bar for each method with a value, the mean over its seeds, and a mark for each seed."""
    if column == "trainable_percentage":  # of its own model, not of a pretrained one
        runs = runs[runs["method"] != "tfidf"]
    runs = runs[runs[column].notna()]
    if runs.empty:
        return None
    axis_label, unit, write = scale
    values = {m: group[column] * unit for m, group in runs.groupby("method", sort=False)}
    figure, axes = plt.subplots(figsize=(max(6.4, 1.1 * len(values)), 4.6))
    ends = intervals.set_index("method")[["low", "high"]] * 100
    for x, (method, ours) in enumerate(values.items()):
        its, mean = look(method), ours.mean()
        axes.bar(x, mean, 0.62, color=its.colour, hatch=its.hatch, edgecolor="white")
        top = max(ours.max(), mean)
        if column == "test_accuracy":
            low, high = ends.loc[method]
            axes.errorbar(x, mean, [[mean - low], [high - mean]], color="black", capsize=5)
            top = max(top, high)
        if ours.nunique() > 1:  # beside the error bar, which would hide them
            axes.plot([x - 0.19] * len(ours), ours, "o", ms=4.5, mfc="white", mec="black", mew=0.8)
        text = write(mean)
        axes.annotate(text, (x, top), (0, 4), textcoords="offset points", ha="center", va="bottom")
    axes.set_xticks(range(len(values)), [look(m).name.replace(" ", "\n") for m in values])
    side = max(0.6, 2 - len(values) / 2)  # one bar alone would fill the figure
    axes.set_xlim(-side, len(values) - 1 + side)
    axes.set_ylabel(axis_label)
    notes = []
    if unit == 100:
        axes.set_ylim(0, 109)
        axes.set_yticks(range(0, 101, 20))
        axes.axhline(100 / classes, color="black", linewidth=1, linestyle=":")
        notes.append(f"dotted: guessing among {classes} labels ({100 / classes:.3g} %)")
    else:
        axes.margins(y=0.12)
    if runs["seed"].nunique() > 1:
        notes.append("bars: means over the seeds; white dots: single seeds")
    if column == "test_accuracy":
        notes.append(interval_note(intervals))
    return figure, "\n".join(notes), ()


def interval_note(intervals) -> str:
    """Which interval the error bars of the test accuracy are, by method where they differ."""
    kinds = intervals.groupby("interval", sort=False)["method"].apply(list)
    if len(kinds) == 1:
        return f"error bars: 95 %, {kinds.index[0]}"
    named = (f"{kind} ({', '.join(look(m).name for m in ms)})" for kind, ms in kinds.items())
    return "error bars: 95 %, " + "; ".join(named)


def cost_and_benefit(runs, intervals):
    """Test accuracy against each cost, the means over the seeds."""
    if len(intervals) < 2:
        return None
    figure, panels = plt.subplots(1, len(COSTS), figsize=(10.5, 4.6), sharey=True)
    table = intervals.set_index("method")
    costs = runs.groupby("method", sort=False)[list(COSTS)].mean()
    for axes, (column, (label, scale)) in zip(panels, COSTS.items(), strict=True):
        points = table.join(costs[column]).dropna(subset=column)
        for method, row in points.iterrows():
            its, mean = look(method), 100 * row["accuracy"]
            error = [[mean - 100 * row["low"]], [100 * row["high"] - mean]]
            style = {"color": its.colour, "marker": its.marker, "markersize": 9, "capsize": 4}
            axes.errorbar(row[column], mean, error, markeredgecolor="white", **style)
        front = pareto_front(points[column].to_numpy(), points["accuracy"].to_numpy())
        axes.set_xscale(scale)
        axes.margins(x=0.15)
        if len(front):  # its last method is beaten by nothing dearer, up to the panel's edge
            x, y = points[column].to_numpy()[front], 100 * points["accuracy"].to_numpy()[front]
            left, right = axes.get_xlim()
            style = {"color": "#444444", "linewidth": 1, "linestyle": ":", "zorder": 0}
            axes.step([*x, right], [*y, y[-1]], where="post", **style)
            axes.set_xlim(left, right)
        if scale == "linear":
            axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
        if points.empty:
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    panels[0].set_ylabel("test accuracy (%)")
    handles = [
        plt.Line2D([], [], color=its.colour, marker=its.marker, markersize=9, ls="", label=its.name)
        for its in map(look, table.index)
    ]
    front = plt.Line2D([], [], color="#444444", ls=":", label="Pareto front of the means")
    return figure, interval_note(intervals), [*handles, front]


def pareto_front(cost: np.ndarray, benefit: np.ndarray) -> np.ndarray:
    """The positions, by rising cost, of the points that no other one beats.

    A point is beaten by one that costs no more and benefits no less, and is better in one of both.
    """
    dearer, worse = cost[:, None] > cost, benefit[:, None] < benefit
    no_cheaper, no_better = cost[:, None] >= cost, benefit[:, None] <= benefit
    beaten = (no_cheaper & no_better & (dearer | worse)).any(axis=1)
    order = np.argsort(cost)
    return order[~beaten[order]]


def differences(pairs):
    """The paired difference of each two methods with its interval."""
    if pairs is None:
        return None
    figure, axes = plt.subplots(figsize=(7.2, 2.4 + 0.36 * len(pairs)))
    for y, row in enumerate(pairs.itertuples()):
        apart = row.p_holm < LEVEL
        middle, low, high = (100 * v for v in (row.difference, row.low, row.high))
        colour = "#0072B2" if apart else "#777777"
        axes.errorbar(
            middle,
            y,
            xerr=[[middle - low], [high - middle]],
            color=colour,
            marker="o",
            markersize=8,
            markerfacecolor=colour if apart else "white",
            capsize=4,
        )
    axes.axvline(0, color="black", linewidth=1)
    both = zip(pairs["method_a"], pairs["method_b"], strict=True)
    names = [f"{look(a).name} − {look(b).name}" for a, b in both]
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("difference of the test accuracies (points)")
    axes.grid(axis="x", alpha=0.3)
    style = {"ls": "-", "marker": "o", "markersize": 8}
    handles = [
        plt.Line2D([], [], color="#0072B2", label="told apart (Holm, 5 %)", **style),
        plt.Line2D([], [], color="#777777", mfc="white", label="not told apart", **style),
    ]
    tests = "; ".join(dict.fromkeys(pairs["test"]))
    note = f"bars: 95 % intervals of single differences\npaired on the same test reviews: {tests}"
    return figure, note, handles

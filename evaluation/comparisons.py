"""Figures that compare the methods: accuracies, losses and costs, and their differences."""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from .answer import majority
from .markdown import count, size
from .metrics import METRICS
from .results import Results
from .style import error_bar, line_handle, plt

TIME = "training (s)"
WHOLE = "training holds the whole time of the frozen blocks, which run once for all runs"
COSTS = {  # column of runs.csv: axis
    "trainable_parameters": "trained parameters",
    "total_seconds": TIME,
    "peak_memory_mib": "peak memory (MiB)",
}
VERDICTS = {  # colour, marker's face, in words
    "different": ("#0072B2", "#0072B2", "significant (Holm, 5 %)"),
    "equivalent": ("#009E73", "white", "equivalent within the grey band"),
    "undecided": ("#777777", "white", "not significant"),
}
LEARNT = ("accuracy", "loss")  # metrics that are drawn of the training texts too
MOST = 15  # differences in a figure
WIDE, WIDER = 8, 30  # largest over smallest value of a logarithmic axis: own ticks, matplotlib's
LETTER = 0.085  # width of a label's letter, in inches


class Bars(NamedTuple):
    """A figure with a bar for each method: whose column of runs.csv, and on which axis."""

    column: str
    title: str
    axis: str
    write: Callable[[float], str]
    scale: float = 1.0  # what the column is multiplied by


def bar_figures() -> dict[str, Bars]:
    """Every figure of bars, by its file's name: the metrics, and two costs."""
    figures = {}
    for name, metric in METRICS.items():
        for split, texts in (("train", "training"), ("test", "test")):
            if split == "test" or name in LEARNT:
                column = f"{split}_{name}"
                title = f"How high is the {metric.label} on the {texts} texts?"
                axis = f"{metric.label} ({metric.unit})"
                figures[column] = Bars(column, title, axis, metric.form.format, metric.scale)
    share, axis = "trainable_percentage", "trainable parameters (% of all)"
    figures[share] = Bars(share, "How much of the model is trained?", axis, size)
    title = "How long does training take?"
    return figures | {"training_time": Bars("total_seconds", title, TIME, size)}


def bars(results: Results, what: Bars):
    """A bar for each method with a value, the mean over its seeds, and a mark for each seed."""
    if what.column not in results.runs or results.runs[what.column].isna().all():
        return None
    runs = results.runs[results.runs[what.column].notna()]
    values = {m: group[what.column] * what.scale for m, group in runs.groupby("method", sort=False)}
    ends = intervals_of(results, what.column) * what.scale
    names = [results.looks[method].label for method in values]
    width = max(7.2, 4.6 + LETTER * max(map(len, names)))
    figure, axes = plt.subplots(figsize=(width, 1.6 + 0.42 * len(values)))
    for y, (method, seeds) in enumerate(values.items()):
        look, mean = results.looks[method], seeds.mean()
        axes.barh(y, mean, 0.66, color=look.colour, hatch=look.hatch, edgecolor="white")
        end = mean
        if method in ends.index:
            end = max(mean, ends.loc[method].iloc[1])
            error_bar(axes, mean, y, ends.loc[method], across=True, color="black", capsize=4)
        if seeds.nunique() > 1:  # above the error bar and the value, which would hide them
            axes.plot(seeds, [y - 0.24] * len(seeds), "o", ms=4.5, mfc="white", mec="black")
        axes.annotate(what.write(mean), (end, y), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(values)), names)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.margins(x=0.14)
    axes.set_xlabel(what.axis)
    many = max(seeds.nunique() for seeds in values.values()) > 1
    each = "fold" if results.is_folds else "seed"
    notes = [f"bars: means over the {each}s; white dots: single {each}s"] * many
    if what.column.endswith("_accuracy"):
        axes.set_xlim(0, 109)
        notes.append(majority_line(axes.axvline, results))
    notes += [WHOLE] * (what.column == "total_seconds" and results.is_shared)
    notes += [interval_note(results)] * bool(len(ends))
    return figure, "\n".join(notes), ()


def intervals_of(results: Results, column: str) -> pd.DataFrame:
    """The two ends of each method's interval of a test score, where there is one."""
    ends = [f"{column.removeprefix('test_')}_{end}" for end in ("low", "high")]
    table = results.intervals.set_index("method")
    return table[ends].dropna() if set(ends) <= set(table) else pd.DataFrame()


def majority_line(draw: Callable, results: Results) -> str:
    """Draw the line of always saying the largest label, by `axes.axvline` or so; its note."""
    share = 100 * majority(results)[1]
    draw(share, color="black", linewidth=1, linestyle=":")
    return f"dotted: always saying the largest label ({share:.3g} %)"


def interval_note(results: Results) -> str:
    """What the error bars of a metric are."""
    return f"error bars: 95 % intervals, of {results.covers}"


def cost_and_benefit(results: Results):
    """The metric of the contrasts against each cost, the means over the runs."""
    table, name = results.intervals.set_index("method"), results.metric
    if len(table) < 2:
        return None
    figure, panels = plt.subplots(1, len(COSTS), figsize=(10.5, 3.4), sharey=True)
    costs = results.runs.groupby("method", sort=False)[list(COSTS)].mean()
    for axes, (column, label) in zip(panels, COSTS.items(), strict=True):
        if costs[column].max() > WIDER * costs[column].min():
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(_short)
        axes.set_xlabel(label)
        for method, row in table.join(costs[column]).dropna(subset=column).iterrows():
            look, (low, high) = results.looks[method], (row[f"{name}_low"], row[f"{name}_high"])
            style = {"color": look.colour, "marker": look.marker, "capsize": 4, "ms": 9}
            error_bar(axes, row[column], 100 * row[name], (100 * low, 100 * high), **style)
        axes.margins(x=0.15)
    panels[0].set_ylabel(f"test {METRICS[name].label} (%)")
    handles = [line_handle(results.looks[method], ls="", markersize=9) for method in table.index]
    return figure, "\n".join([interval_note(results), *[WHOLE] * results.is_shared]), handles


def _short(value, _):
    """A tick's number: 0.1, 1,000, 10k, 1M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= max(unit, 1e4):
            return f"{value / unit:g}{letter}"
    return f"{value:,g}"


def differences(results: Results):
    """The paired difference of each planned contrast, else the largest ones, with intervals."""
    pairs = results.contrasts if len(results.contrasts) else results.comparisons[:MOST]
    if pairs.empty:
        return None
    every = len(results.contrasts) + len(results.comparisons)
    notes = ["bars: 95 % intervals of single differences", designs(pairs)]
    if len(pairs) < every:
        of = "planned contrast" if len(results.contrasts) else "largest difference"
        notes.append(f"the {count(len(pairs), of)}; the report has all {every} pairs")
    a, b = ([results.looks[m].label for m in pairs[side]] for side in ("method_a", "method_b"))
    names = [f"{one} −\n{other}" for one, other in zip(a, b, strict=True)]
    width = 4.6 + LETTER * max(map(len, a + b))
    figure, axes = plt.subplots(figsize=(width, 1.6 + 0.5 * len(pairs)))
    handles = difference_bars(axes, pairs, results.margin)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"difference in test {METRICS[results.metric].label} (points)")
    return figure, "\n".join(notes), handles


def designs(pairs: pd.DataFrame) -> str:
    """How these differences are tested: "paired by text; of other texts and 3 seeds, ..."."""
    words = dict.fromkeys(part for test in pairs["test"] for part in test.split("; "))
    return "; ".join(words)


def difference_bars(axes, pairs, margin: float) -> list:
    """A bar for each of the `pairs`, downwards, on the grey band of the margin; the legend."""
    axes.axvspan(-100 * margin, 100 * margin, color="#EEEEEE", linewidth=0)
    axes.axvline(0, color="black", linewidth=1)
    for y, row in enumerate(pairs.itertuples()):
        colour, face, _ = VERDICTS[row.verdict]
        style = {"color": colour, "marker": "o", "ms": 8, "mfc": face, "capsize": 4}
        middle, low, high = (100 * share for share in (row.difference, row.low, row.high))
        error_bar(axes, middle, y, (low, high), across=True, **style)
    return [
        plt.Line2D([], [], color=colour, mfc=face, label=words, marker="o", markersize=8)
        for colour, face, words in VERDICTS.values()
    ]

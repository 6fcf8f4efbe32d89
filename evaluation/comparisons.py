"""Figures that compare the methods: accuracies, losses and costs, and their differences."""

from matplotlib import ticker

from .markdown import size
from .results import Results
from .statistics import MARGIN
from .style import error_bar, legend_rows, line_handle, plt

ALONE, BOTH = "training alone (s)", "training and shared pass (s)"  # axes
WHOLE = "each total holds the whole shared pass, computed once for all runs with the same frozen"
WHOLE += " blocks"
ACCURACY = ("accuracy (%)", 100, "{:.1f}".format)  # axis, units of it in 1, how to write it
LOSS = ("loss (nats per review)", 1, "{:.3f}".format)
SHARE = ("trainable parameters (% of all)", 1, size)
SECONDS = (ALONE, 1, size)
BARS = {  # file: column of runs.csv, title, what is on the axis
    "train_accuracy": ("train_accuracy", "How accurate on the training reviews?", ACCURACY),
    "test_accuracy": ("test_accuracy", "How accurate on the test reviews?", ACCURACY),
    "train_loss": ("train_loss", "How large is the loss on the training reviews?", LOSS),
    "test_loss": ("test_loss", "How large is the loss on the test reviews?", LOSS),
    "trainable_percentage": ("trainable_percentage", "How much of the model is trained?", SHARE),
    "training_time": ("training_seconds", "How long does training take?", SECONDS),
}
COSTS = {  # column of runs.csv: axis, scale
    "trainable_parameters": ("trained parameters", "log"),
    "total_seconds": (ALONE, "log"),
    "peak_memory_mib": ("peak memory (MiB)", "linear"),
}
STACKED, PALE = "training, and the shared pass (s)", 0.35
POINT = {"markersize": 9, "mec": "white", "mew": 0.6}
VERDICTS = {  # colour, marker's face, in words
    "different": ("#0072B2", "#0072B2", "different (Holm, 5 %)"),
    "equivalent": ("#009E73", "white", "equivalent within the grey band"),
    "undecided": ("#777777", "white", "undecided"),
}
LETTER = 0.085  # width of a label's letter, in inches


def bars(results: Results, column: str, scale: tuple):
    """A bar for each method with a value, the mean over its seeds, and a mark for each seed.

    On the training seconds stand those of the shared pass, paler.
    """
    runs = results.runs[results.runs[column].notna()]
    if runs.empty:
        return None
    axis_label, unit, write = scale
    timed = column == "training_seconds" and results.is_shared
    own = runs.groupby("method", sort=False)[column].mean() * unit
    total = "total_seconds" if timed else column
    values = {m: group[total] * unit for m, group in runs.groupby("method", sort=False)}
    ends = results.intervals.set_index("method")[["low", "high"]] * 100
    names = [results.looks[method].label for method in values]
    width = max(7.2, 4.6 + LETTER * max(map(len, names)))
    figure, axes = plt.subplots(figsize=(width, 2.4 + 0.42 * len(values)))
    for y, (method, seeds) in enumerate(values.items()):
        look, mean = results.looks[method], seeds.mean()
        _bar(axes, y, look, own[method], mean)
        end = mean
        if column == "test_accuracy":
            end = max(mean, ends.loc[method, "high"])
            error_bar(axes, mean, y, ends.loc[method], across=True, color="black", capsize=4)
        if seeds.nunique() > 1:  # above the error bar and the value, which would hide them
            dots = {"ms": 4.5, "mfc": "white", "mec": "black", "mew": 0.8}
            axes.plot(seeds, [y - 0.24] * len(seeds), "o", **dots)
        text = {"textcoords": "offset points", "ha": "left", "va": "center"}
        axes.annotate(write(mean), (end, y + 0.08), (5, 0), **text)
    axes.set_yticks(range(len(values)), names)
    side = max(0.6, 1.2 - len(values) / 2)  # one bar alone would fill the figure
    axes.set_ylim(len(values) - 1 + side, -side)
    axes.set_xlabel(STACKED if timed else axis_label)
    notes = _scale_notes(axes, unit, len(results.experiment["label_names"]))
    notes += [f"paler: the shared pass, included in the numbers; {WHOLE}"] * timed
    if any(seeds.nunique() > 1 for seeds in values.values()):
        notes.append("bars: means over the seeds; white dots: single seeds")
    if column == "test_accuracy":
        notes.append(interval_note(results))
    return figure, "\n".join(notes), ()


def _bar(axes, y, look, own, total):
    """A bar of a method's own value, and paler what makes it the total."""
    axes.barh(y, own, 0.66, color=look.colour, hatch=look.hatch, edgecolor="white")
    if total > own:
        axes.barh(y, total - own, 0.66, own, color=look.colour, alpha=PALE)


def _scale_notes(axes, unit, classes):
    """Accuracies from 0 to 100 % with a line for guessing; others from 0, with room for values."""
    if unit != 100:
        axes.margins(x=0.14)
        return []
    axes.set_xlim(0, 109)
    axes.set_xticks(range(0, 101, 20))
    axes.axvline(100 / classes, color="black", linewidth=1, linestyle=":")
    return [f"dotted: guessing among {classes} labels ({100 / classes:.3g} %)"]


def interval_note(results: Results) -> str:
    """Which interval the error bars of the test accuracy are, by method where they differ."""
    kinds = results.intervals.groupby("interval", sort=False)["method"].apply(list)
    most, *others = sorted(kinds.items(), key=lambda kind: -len(kind[1]))
    named = [f"; {kind} for {results.labels(dict.fromkeys(methods))}" for kind, methods in others]
    return "".join([f"error bars: 95 %, {most[0]}", *named])


def cost_and_benefit(results: Results):
    """Test accuracy against each cost, the means over the seeds."""
    table = results.intervals.set_index("method")
    if len(table) < 2:
        return None
    handles = [line_handle(results.looks[method], ls="", **POINT) for method in table.index]
    height = 4.2 + 0.235 * legend_rows([handle.get_label() for handle in handles], 10.5)
    figure, panels = plt.subplots(1, len(COSTS), figsize=(10.5, height), sharey=True)
    costs = results.runs.groupby("method", sort=False)[list(COSTS)].mean()
    notes = [interval_note(results), *[WHOLE] * results.is_shared]
    for axes, (column, (label, scale)) in zip(panels, COSTS.items(), strict=True):
        points = table.join(costs[column]).dropna(subset=column)
        axes.set_xscale(scale)
        if points[column].nunique() == 1:  # matplotlib finds no range around one value
            axes.set_xlim(points[column].iloc[0] / 2, points[column].iloc[0] * 2)
        for method, row in points.iterrows():
            look, ends = results.looks[method], (100 * row["low"], 100 * row["high"])
            style = POINT | {"color": look.colour, "marker": look.marker, "capsize": 4}
            error_bar(axes, row[column], 100 * row["accuracy"], ends, **style)
        axes.margins(x=0.15)
        _ticks(axes)
        axes.set_xlabel(BOTH if label == ALONE and results.is_shared else label)
        axes.grid(alpha=0.3)
        if points.empty:
            axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    panels[0].set_ylabel("test accuracy (%)")
    return figure, "\n".join(notes), handles


def _ticks(axes):
    """A few round numbers, which do not run into one another: 300, 1k, 3k."""
    left, right = axes.get_xlim()
    choices = [ticker.MaxNLocator(4).tick_values(left, right)]
    for steps in ((1, 2, 5), (1, 3), (1,)) if axes.get_xscale() == "log" else ():
        choices.append([step * 10.0**power for power in range(-3, 12) for step in steps])
    choices = [[tick for tick in ticks if left < tick < right] for ticks in choices]
    axes.set_xticks(next((ticks for ticks in choices[:0:-1] if len(ticks) > 2), choices[0]))
    axes.minorticks_off()
    short = ticker.EngFormatter(sep="")
    axes.xaxis.set_major_formatter(lambda tick, _: short(tick) if tick >= 1000 else f"{tick:g}")


def differences(results: Results):
    """The paired difference of each planned contrast, else of any two, with its interval."""
    pairs = results.main_pairs()
    if pairs.empty:
        return None
    margin = results.experiment["constants"].get("equivalence_margin", MARGIN)
    notes = ["bars: 95 % intervals of single differences, paired on the same test reviews"]
    notes.append(f"test: {'; '.join(dict.fromkeys(pairs['test']))}")
    every = len(results.contrasts) + len(results.comparisons)
    if len(pairs) < every:
        of = "the planned contrasts" if len(results.contrasts) else "each method and the best one"
        notes.append(f"{of}; the report has all {every} pairs")
    a, b = ([results.looks[m].label for m in pairs[side]] for side in ("method_a", "method_b"))
    between = "\n" if max(map(len, a + b)) > 30 else " "
    names = [f"{one} −{between}{other}" for one, other in zip(a, b, strict=True)]
    letters = max(len(line) for name in names for line in name.splitlines())
    row_height = 0.36 if between == " " else 0.52
    figure, axes = plt.subplots(figsize=(4.6 + LETTER * letters, 2.6 + row_height * len(pairs)))
    axes.axvspan(-100 * margin, 100 * margin, color="#EEEEEE", linewidth=0)
    axes.axvline(0, color="black", linewidth=1)
    for y, row in enumerate(pairs.itertuples()):
        colour, face, _ = VERDICTS[row.verdict]
        style = {"color": colour, "marker": "o", "ms": 8, "mfc": face, "capsize": 4}
        middle, low, high = (100 * share for share in (row.difference, row.low, row.high))
        error_bar(axes, middle, y, (low, high), across=True, **style)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel("difference of the test accuracies (points)")
    axes.grid(axis="x", alpha=0.3)
    handles = [
        plt.Line2D([], [], color=colour, mfc=face, label=words, marker="o", markersize=8)
        for colour, face, words in VERDICTS.values()
    ]
    return figure, "\n".join(notes), handles

"""Figures that compare the methods: accuracies, losses and costs, and their differences."""

from .markdown import count, size
from .results import Results
from .style import error_bar, line_handle, plt

TIME = "training (s)"
WHOLE = "training holds the whole shared pass, computed once for all runs with the same frozen"
WHOLE += " blocks"
ACCURACY = ("accuracy (%)", 100, "{:.1f}".format)  # axis, units of it in 1, how to write it
LOSS = ("loss (nats per review)", 1, "{:.3f}".format)
SHARE = ("trainable parameters (% of all)", 1, size)
BARS = {  # file: column of runs.csv, title, what is on the axis
    "train_accuracy": ("train_accuracy", "How accurate on the training reviews?", ACCURACY),
    "test_accuracy": ("test_accuracy", "How accurate on the test reviews?", ACCURACY),
    "train_loss": ("train_loss", "How large is the loss on the training reviews?", LOSS),
    "test_loss": ("test_loss", "How large is the loss on the test reviews?", LOSS),
    "trainable_percentage": ("trainable_percentage", "How much of the model is trained?", SHARE),
    "training_time": ("total_seconds", "How long does training take?", (TIME, 1, size)),
}
COSTS = {  # column of runs.csv: axis
    "trainable_parameters": "trained parameters",
    "total_seconds": TIME,
    "peak_memory_mib": "peak memory (MiB)",
}
VERDICTS = {  # colour, marker's face, in words
    "different": ("#0072B2", "#0072B2", "different (Holm, 5 %)"),
    "equivalent": ("#009E73", "white", "equivalent within the grey band"),
    "undecided": ("#777777", "white", "undecided"),
}
MOST = 15  # differences in a figure
WIDE, WIDER = 8, 30  # largest over smallest value of a logarithmic axis: own ticks, matplotlib's
LETTER = 0.085  # width of a label's letter, in inches


def bars(results: Results, column: str, scale: tuple):
    """A bar for each method with a value, the mean over its seeds, and a mark for each seed."""
    runs = results.runs[results.runs[column].notna()]
    if runs.empty:
        return None
    axis_label, unit, write = scale
    values = {m: group[column] * unit for m, group in runs.groupby("method", sort=False)}
    ends = results.intervals.set_index("method")[["low", "high"]] * 100
    names = [results.looks[method].label for method in values]
    width = max(7.2, 4.6 + LETTER * max(map(len, names)))
    figure, axes = plt.subplots(figsize=(width, 1.6 + 0.42 * len(values)))
    for y, (method, seeds) in enumerate(values.items()):
        look, mean = results.looks[method], seeds.mean()
        axes.barh(y, mean, 0.66, color=look.colour, hatch=look.hatch, edgecolor="white")
        end = mean
        if column == "test_accuracy":
            end = max(mean, ends.loc[method, "high"])
            error_bar(axes, mean, y, ends.loc[method], across=True, color="black", capsize=4)
        if seeds.nunique() > 1:  # above the error bar and the value, which would hide them
            axes.plot(seeds, [y - 0.24] * len(seeds), "o", ms=4.5, mfc="white", mec="black")
        axes.annotate(write(mean), (end, y), (5, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(values)), names)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.margins(x=0.14)
    axes.set_xlabel(axis_label)
    many = max(seeds.nunique() for seeds in values.values()) > 1
    notes = ["bars: means over the seeds; white dots: single seeds"] * many
    if unit == 100:
        classes = len(results.experiment["label_names"])
        axes.set_xlim(0, 109)
        axes.axvline(100 / classes, color="black", linewidth=1, linestyle=":")
        notes.append(f"dotted: guessing among {classes} labels ({100 / classes:.3g} %)")
    notes += [WHOLE] * (column == "total_seconds" and results.is_shared)
    notes += [interval_note(results)] * (column == "test_accuracy")
    return figure, "\n".join(notes), ()


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
    figure, panels = plt.subplots(1, len(COSTS), figsize=(10.5, 3.4), sharey=True)
    costs = results.runs.groupby("method", sort=False)[list(COSTS)].mean()
    for axes, (column, label) in zip(panels, COSTS.items(), strict=True):
        scale = "log" if costs[column].max() > WIDER * costs[column].min() else "linear"
        axes.set(xscale=scale, xlabel=label)
        for method, row in table.join(costs[column]).dropna(subset=column).iterrows():
            look, ends = results.looks[method], (100 * row["low"], 100 * row["high"])
            style = {"color": look.colour, "marker": look.marker, "capsize": 4, "ms": 9}
            error_bar(axes, row[column], 100 * row["accuracy"], ends, **style)
        axes.margins(x=0.15)
    panels[0].set_ylabel("test accuracy (%)")
    handles = [line_handle(results.looks[method], ls="", markersize=9) for method in table.index]
    return figure, "\n".join([interval_note(results), *[WHOLE] * results.is_shared]), handles


def differences(results: Results):
    """The paired difference of each planned contrast, else the largest ones, with intervals."""
    pairs = results.contrasts if len(results.contrasts) else results.comparisons[:MOST]
    if pairs.empty:
        return None
    every = len(results.contrasts) + len(results.comparisons)
    notes = ["bars: 95 % intervals of single differences, paired on the same test reviews"]
    notes.append(f"test: {'; '.join(dict.fromkeys(pairs['test']))}")
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
    axes.set_xlabel("difference of the test accuracies (points)")
    return figure, "\n".join(notes), handles


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

"""The tables of an experiment's page, each with what its columns mean below it."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from boundary import plain_cell

from .comparisons import interval_note
from .markdown import count, escape, interval, number, p_value, percent, size, table
from .metrics import BINS, METRICS
from .results import Results
from .statistics import wilson

SHOWN = 20  # misclassified texts
BUSY = 0.5  # threads of other work, above which seconds and memory say little
SECONDS = {  # column of runs.csv: heading
    "training_seconds": "training, s",
    "evaluation_seconds": "evaluation, s",
    "shared_seconds": "frozen blocks, s",
    "run_seconds": "whole run, s",
}
WHAT_SECONDS = (
    "Training: of all learning rates tried. Frozen blocks: running them gives the same output for "
    "all runs with as many of them, so it is done once, and its seconds are in no other column. "
)


def terminal(results: Results) -> str:
    """The finished runs as a table for the terminal."""
    runs = results.runs
    columns = {
        "method": [results.looks[method].label for method in runs["method"]],
        "seed": runs["seed"],
        **_metrics(runs),
        "train acc., %": runs["train_accuracy"].map(percent),
        "trained, %": _form(runs["trainable_percentage"], "{:.3g}"),
        **_seconds(runs, ("training_seconds", "shared_seconds", "run_seconds")),
    }
    return pd.DataFrame(columns).to_string(index=False)


def accuracies(results: Results) -> str:
    """The finished runs by method, with their intervals."""
    means = results.runs.groupby("method", sort=False).mean(numeric_only=True)
    rows = results.intervals
    columns = {
        "method": _labels(results, rows["method"]),
        "seeds": rows["seeds"].map(str),
        "test accuracy, %": rows["accuracy"].map(percent),
        "95 % interval": map(interval, rows["low"], rows["high"]),
        "sd over seeds, points": rows["sd"].map(percent),
        **_metrics(means, but="accuracy"),
        "training accuracy, %": means["train_accuracy"].map(percent),
        **_collapsed(results, rows["method"]),
        "trained parameters": _form(means["trainable_parameters"], "{:,.0f}"),
        "of all, %": _form(means["trainable_percentage"], "{:.3g}"),
        **_seconds(means, SECONDS),
        "peak memory, MiB": _form(means["peak_memory_mib"], "{:,.0f}"),
    }
    note = escape(interval_note(results).removeprefix("error bars: "))
    busy = (results.runs["other_load"] > BUSY).sum()
    of = f"{busy} of {len(results.runs)} runs"
    other = f" The machine did other work during {of}: their seconds and memory say little."
    collapsed = "Collapsed: runs that give every text one label. " * ("collapsed" in columns)
    return (
        f"{table(columns)}\n\nMeans over the seeds. Intervals: {note}. Macro-F1 is over all labels "
        f"of the task. Calibration error: expected, over {BINS} equal bins of confidence. "
        f"{collapsed}{WHAT_SECONDS * results.is_shared}A dash: not measured, or not defined."
        f"{other * bool(busy)}"
    )


def _metrics(rows: pd.DataFrame, but: str = "") -> dict[str, Iterable[str]]:
    """A column for each metric of the test texts."""
    return {
        f"{metric.label}, {metric.unit}": _form(rows[f"test_{name}"] * metric.scale, metric.form)
        for name, metric in METRICS.items()
        if name != but
    }


def _seconds(rows, names):
    """The columns of seconds that any run has."""
    return {SECONDS[name]: rows[name].map(size) for name in names if rows[name].sum() > 0}


def _collapsed(results, methods):
    """How many runs of each method collapsed to one label, where any did."""
    counts = results.runs.groupby("method")["collapsed"].sum()
    return {"collapsed": [str(int(counts[m])) for m in methods]} if counts.any() else {}


def by_label(results: Results) -> str:
    """How many test texts each label has, and each method's F1 on it; means over the seeds."""
    names, columns = results.experiment["label_names"], {}
    every = range(len(names))
    for method, runs in results.predictions.by_method().items():
        f1 = [
            f1_score(labels, logits.argmax(1), labels=every, average=None, zero_division=0)
            for labels, logits in runs
        ]
        heading = f"{escape(results.looks[method].label)}, F1 %"
        columns[heading] = map(percent, np.mean(f1, axis=0))
    counts = [f"{n:,}" for n in results.label_counts]
    return table({"label": map(escape, names), "test texts": counts} | columns)


def comparisons(results: Results, pairs: pd.DataFrame) -> str:
    """Differences of two methods each, from `statistics.compare`."""
    a, b = (_labels(results, pairs[f"method_{side}"]) for side in "ab")
    better = _labels(results, pairs["method_a"].where(pairs["difference"] > 0, pairs["method_b"]))
    margin = results.margin
    within = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
    words = {"equivalent": f"equivalent within {within}"}
    columns = {
        "difference": [f"{one} − {other}" for one, other in zip(a, b, strict=True)],
        "points": pairs["difference"].map(percent),
        "95 % interval": map(interval, pairs["low"], pairs["high"]),
        "p": pairs["p"].map(p_value),
        "p, Holm": pairs["p_holm"].map(p_value),
        "verdict": [
            f"{method} better" if verdict == "significant" else words.get(verdict, verdict)
            for verdict, method in zip(pairs["verdict"], better, strict=True)
        ],
    }
    counts = results.intervals.loc[results.intervals["seeds"] > 1, "seeds"]
    shared = ". A difference is of the seeds that both methods have" * (counts.nunique() > 1)
    return (
        f"{table(columns)}\n\nDifferences of test accuracies, paired on the same test texts: "
        f"{'; '.join(dict.fromkeys(pairs['test']))}{shared}. Better: p < 0.05 after Holm's "
        f"correction over this table. Equivalent: smaller than {within}, by two one-sided tests at "
        "5 %, corrected likewise. Not significant: neither; the intervals, each of a single "
        "difference, say how large it could be."
    )


def single_runs(results: Results) -> str:
    """A row for each finished run, with Wilson's interval of its accuracy."""
    runs, texts = results.runs, results.runs["texts"]
    drawn = "test texts" if results.predictions.groups is None else "groups of test texts"
    columns = {
        "method": _labels(results, runs["method"]),
        "seed": runs["seed"].map(str),
        "test accuracy, %": runs["test_accuracy"].map(percent),
        "95 % interval": map(interval, *wilson(runs["test_accuracy"] * texts, texts)),
        **_metrics(runs, but="accuracy"),
        "training accuracy, %": runs["train_accuracy"].map(percent),
        "best epoch": _form(runs["best_epoch"], "{:.3g}"),
        "epochs run": _form(runs["epochs_run"], "{:.3g}"),
        "learning rate": _form(runs["learning_rate"], "{:g}"),
        **_rates(results),
        **_seconds(runs, SECONDS),
        "started": [escape(started or "—") for started in runs["started"]],
    }
    return (
        f"{table(columns)}\n\nIntervals: 95 %, Wilson, of the sampling of the {drawn}; what "
        f"another seed would change is not in them.{_edges(results)}"
    )


def _rates(results):
    """What other learning rates gave, where any run tried several."""
    finished = [record for record in results.records if record.is_finished]
    if not any(len(record.rates_tried) > 1 for record in finished):
        return {}
    cells = []
    for record in finished:
        losses = {float(rate): loss for rate, loss in record.rates_tried.items()}
        others = {rate: losses[rate] for rate in sorted(losses) if rate != record.learning_rate}
        cells.append("; ".join(f"{r:g}: {number(loss, '{:.4g}')}" for r, loss in others.items()))
    return {"validation loss of other rates": [cell or "—" for cell in cells]}


def _edges(results):
    """What to do where the chosen learning rate is at the edge of those tried."""
    edges = [r for r in results.records if r.is_finished and r.is_rate_at_edge]
    if not edges:
        return ""
    runs = count(len(edges), "run")
    methods = ", ".join(_labels(results, dict.fromkeys(record.method for record in edges)))
    return (
        f"\n\n**At the edge of the learning rates tried: {runs}, of {methods}.** A better rate may "
        "lie beyond: add rates on that side to LEARNING\\_RATES."
    )


def failed(results: Results) -> str:
    """The runs that have not finished, and why."""
    runs = results.failed
    columns = {"method": _labels(results, runs["method"]), "seed": runs["seed"].map(str)}
    return table(columns | {"what happened": runs["status"].map(escape)})


def misclassified(results: Results) -> str:
    """The first of the texts in `misclassified.csv`."""
    wrong = results.misclassified
    rows = wrong.head(SHOWN)
    columns = {
        "text": rows["text"].map(_unguarded),
    }
    return table(columns)


def _unguarded(cell):
    """A cell of a CSV file without the apostrophe that `plain_cell` may have put before it."""
    return escape(cell[1:] if cell != cell[1:] and plain_cell(cell[1:]) == cell else cell)


def _labels(results, methods):
    return [escape(results.looks[method].label) for method in methods]


def _form(values, form):
    return [number(value, form) for value in values]

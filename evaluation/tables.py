"""The tables of an experiment's page, each with what its columns mean below it."""

import numpy as np
import pandas as pd

from . import answer
from .comparisons import designs
from .markdown import count, escape, interval, number, p_value, percent, size, table, with_interval
from .metrics import BINS, METRICS, f1_of_labels
from .results import Results
from .style import as_difference

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
    """For the terminal: the answer, where a method is advised, or a table of finished runs."""
    if results.advised:
        return answer.terminal(results)
    columns = _runs(results)
    columns["trained, %"] = _form(results.runs["trainable_percentage"], "{:.3g}")
    columns["training, s"] = list(map(size, results.runs["training_seconds"]))
    return pd.DataFrame(columns).to_string(index=False)


def _runs(results):
    """The first columns of the table of finished runs."""
    runs = results.runs
    return {
        "method": results.labels(runs["method"]),
        "fold" if results.is_folds else "seed": runs["seed"].map(str).tolist(),
        **{_heading(metric): _metric(runs, name) for name, metric in METRICS.items()},
        "training accuracy, %": list(map(percent, runs["train_accuracy"])),
    }


def _heading(metric):
    return f"{metric.label}, {metric.unit}"


def _metric(rows, name):
    """A metric of the test texts."""
    return _form(rows[f"test_{name}"] * METRICS[name].scale, METRICS[name].form)


def _form(values, form):
    return [number(value, form) for value in values]


def _seconds(rows):
    """The columns of seconds that any run has."""
    return {h: list(map(size, rows[name])) for name, h in SECONDS.items() if rows[name].sum() > 0}


def accuracies(results: Results) -> str:
    """The finished runs by method, with their intervals."""
    means = results.runs.groupby("method", sort=False).mean(numeric_only=True)
    rows = results.intervals
    columns = {"method": results.labels(rows["method"]), "seeds": rows["seeds"].map(str)}
    for name, metric in METRICS.items():
        if f"{name}_low" in rows:
            values = rows[name], rows[f"{name}_low"], rows[f"{name}_high"]
            columns[f"{_heading(metric)} (95 % interval)"] = map(with_interval, *values)
        else:
            columns[_heading(metric)] = _metric(means, name)
    columns |= {
        "sd over seeds, points": rows["accuracy_sd"].map(percent),
        "training accuracy, %": means["train_accuracy"].map(percent),
        **_collapsed(results, rows["method"]),
        "trained parameters": _form(means["trainable_parameters"], "{:,.0f}"),
        "of all, %": _form(means["trainable_percentage"], "{:.3g}"),
        **_seconds(means),
        "peak memory, MiB": _form(means["peak_memory_mib"], "{:,.0f}"),
    }
    busy = (results.runs["other_load"] > BUSY).sum()
    affected = f"{busy} of {len(results.runs)} runs"
    other = f" The machine did other work during {affected}: their seconds and memory say little."
    collapsed = "Collapsed: runs that give every text one label. " * ("collapsed" in columns)
    return (
        f"{table(columns)}\n\nMeans over the runs. Intervals: of {results.covers}. Macro-F1: over "
        f"all labels. Calibration error: expected, over {BINS} equal bins of confidence. "
        f"{collapsed}{WHAT_SECONDS * results.is_shared}A dash: not measured, or not defined."
        f"{other * bool(busy)}"
    )


def _collapsed(results, methods):
    """How many runs of each method collapsed to one label, where any did."""
    counts = results.runs.groupby("method")["collapsed"].sum()
    return {"collapsed": [str(int(counts[m])) for m in methods]} if counts.any() else {}


def by_label(results: Results) -> str:
    """How many test texts each label has, and each method's F1 on it; means over the runs."""
    predictions, names = results.predictions, results.experiment["label_names"]
    counts = np.bincount(predictions.labels, minlength=len(names))
    columns = {"label": names, "test texts": [f"{n:,}" for n in counts]}
    for method in predictions.seeds():
        f1 = [
            f1_of_labels(predictions.labels[places], logits.argmax(1), len(names))
            for places, logits in predictions.by_run(method)
        ]
        columns[f"{escape(results.looks[method].label)}, F1 %"] = map(percent, np.mean(f1, axis=0))
    return table(columns)


def comparisons(results: Results, pairs: pd.DataFrame) -> str:
    """Differences of two methods each, from `statistics.compare`."""
    a, b = (results.labels(pairs[f"method_{side}"]) for side in "ab")
    within = results.margin_words
    words = {"equivalent": f"equivalent within {within}", "undecided": "not significant"}
    verdicts = [
        words.get(row.verdict, f"{one if row.difference > 0 else other} better")
        for row, one, other in zip(pairs.itertuples(), a, b, strict=True)
    ]
    columns = {
        "difference": list(map(as_difference, a, b)),
        "points": pairs["difference"].map(percent),
        "95 % interval": map(interval, pairs["low"], pairs["high"]),
        **_other_differences(results, pairs),
        "p": pairs["p"].map(p_value),
        "p, Holm": pairs["p_holm"].map(p_value),
        "verdict": verdicts,
    }
    counts = results.intervals.loc[results.intervals["seeds"] > 1, "seeds"]
    shared = ". A difference is of the seeds that both methods have" * (counts.nunique() > 1)
    return (
        f"{table(columns)}\n\nDifferences in test {METRICS[results.metric].label}. Intervals and "
        f"tests: {designs(pairs)}{shared}. Better: p < 0.05 after Holm's "
        f"correction over this table. Equivalent: smaller than {within}, by two one-sided tests at "
        "5 %, corrected likewise. Not significant: neither; the intervals, each of a single "
        "difference, say how large it could be."
    )


def _other_differences(results, pairs):
    """Those of the other metrics that have intervals, which nothing is tested on."""
    columns = {}
    for name, metric in METRICS.items():
        values = [f"{name}_{part}" for part in ("difference", "low", "high")]
        is_known = set(values) <= set(pairs) and pairs[values].notna().all(axis=None)
        if name != results.metric and is_known:
            cells = map(with_interval, *(pairs[value] for value in values))
            columns[f"{metric.label}, points (95 % interval)"] = cells
    return columns


def single_runs(results: Results) -> str:
    """A row for each finished run."""
    runs = results.runs
    columns = _runs(results) | {
        "best epoch": _form(runs["best_epoch"], "{:.3g}"),
        "epochs run": _form(runs["epochs_run"], "{:.3g}"),
        "learning rate": _form(runs["learning_rate"], "{:g}"),
        **_rates(results),
        **_seconds(runs),
        "started": [started or "—" for started in runs["started"]],
    }
    return f"{table(columns)}{_edges(results)}"


def _rates(results):
    """What other learning rates gave, where any run tried several."""
    finished = [record for record in results.records if record.is_finished]
    if not any(len(record.rates_tried) > 1 for record in finished):
        return {}
    cells = []
    for record in finished:
        others = {k: v for k, v in record.rates_tried.items() if float(k) != record.learning_rate}
        losses = [f"{float(k):g}: {number(loss, '{:.4g}')}" for k, loss in others.items()]
        cells.append("; ".join(losses))
    return {"validation loss of other rates": [cell or "—" for cell in cells]}


def _edges(results):
    """What to do where the chosen learning rate is at the edge of those tried."""
    methods = [record.method for record in results.finished if record.is_rate_at_edge]
    if not methods:
        return ""
    named = escape(", ".join(results.labels(dict.fromkeys(methods))))
    return (
        f"\n\n**At the edge of the learning rates tried: {count(len(methods), 'run')}, of "
        f"{named}.** A better rate may lie beyond: add rates on that side to LEARNING\\_RATES."
    )


def failed(results: Results) -> str:
    """The runs that have not finished, and why."""
    runs = [record for record in results.records if not record.is_finished]
    columns = {
        "method": results.labels(run.method for run in runs),
        "seed": [str(run.seed) for run in runs],
        "what happened": [run.status for run in runs],
    }
    return table(columns) if runs else ""


def misclassified(results: Results) -> str:
    """The texts in `misclassified.csv`."""
    rows = results.misclassified
    columns = {"row": rows["row"].map(str)}
    columns |= {"label": rows["label"], "predicted": rows["predicted"]}
    columns |= {"confidence, %": rows["confidence"].map(percent), "text": rows["text"]}
    label = escape(results.looks[results.advised or results.best].label)
    return (
        f"{table(columns)}\n\nThe most confident errors "
        f"of {label}; some may be wrong labels. Confidence: the probability of the wrong label. "
        "Row: of its file; the header of a CSV file is row 1."
    )

"""The tables of an experiment's page, each with what its columns mean below it."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from boundary import plain_cell

from . import answer
from .comparisons import designs
from .markdown import count, escape, interval, number, p_value, percent, size, table, with_interval
from .metrics import BINS, METRICS
from .results import Results

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
    """For the terminal: the answer, where a method is advised, or a table of finished runs."""
    if results.advised:
        return answer.terminal(results)
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
        **_scores(results, means),
        "sd over seeds, points": rows["accuracy_sd"].map(percent),
        "training accuracy, %": means["train_accuracy"].map(percent),
        **_collapsed(results, rows["method"]),
        "trained parameters": _form(means["trainable_parameters"], "{:,.0f}"),
        "of all, %": _form(means["trainable_percentage"], "{:.3g}"),
        **_seconds(means, SECONDS),
        "peak memory, MiB": _form(means["peak_memory_mib"], "{:,.0f}"),
    }
    busy = (results.runs["other_load"] > BUSY).sum()
    of = f"{busy} of {len(results.runs)} runs"
    other = f" The machine did other work during {of}: their seconds and memory say little."
    collapsed = "Collapsed: runs that give every text one label. " * ("collapsed" in columns)
    return (
        f"{table(columns)}\n\nMeans over the runs. Intervals: of {results.covers}. Macro-F1: over "
        f"all labels. Calibration error: expected, over {BINS} equal bins of confidence. "
        f"{collapsed}{WHAT_SECONDS * results.is_shared}A dash: not measured, or not defined."
        f"{other * bool(busy)}"
    )


def _metrics(runs: pd.DataFrame) -> dict[str, Iterable[str]]:
    """A column for each metric of the test texts."""
    return {
        f"{metric.label}, {metric.unit}": _form(runs[f"test_{name}"] * metric.scale, metric.form)
        for name, metric in METRICS.items()
    }


def _scores(results, means):
    """A column for each metric of the test texts, with its interval where it has one."""
    columns, rows = {}, results.intervals.set_index("method")
    for name, metric in METRICS.items():
        heading = f"{metric.label}, {metric.unit}"
        if f"{name}_low" not in rows:
            columns[heading] = _form(means[f"test_{name}"] * metric.scale, metric.form)
            continue
        ends = rows[f"{name}_low"], rows[f"{name}_high"]
        columns[f"{heading} (95 % interval)"] = map(with_interval, rows[name], *ends)
    return columns


def _seconds(rows, names):
    """The columns of seconds that any run has."""
    return {SECONDS[name]: rows[name].map(size) for name in names if rows[name].sum() > 0}


def _collapsed(results, methods):
    """How many runs of each method collapsed to one label, where any did."""
    counts = results.runs.groupby("method")["collapsed"].sum()
    return {"collapsed": [str(int(counts[m])) for m in methods]} if counts.any() else {}


def by_label(results: Results) -> str:
    """How many test texts each label has, and each method's F1 on it; means over the runs."""
    predictions, names = results.predictions, results.experiment["label_names"]
    counts = np.bincount(predictions.labels, minlength=len(names))
    columns = {"label": map(escape, names), "test texts": [f"{n:,}" for n in counts]}
    for method in predictions.seeds():
        f1 = [
            f1_score(
                predictions.labels[places],
                logits.argmax(1),
                labels=range(len(names)),
                average=None,
                zero_division=0,
            )
            for places, logits in predictions.by_run(method)
        ]
        columns[f"{escape(results.looks[method].label)}, F1 %"] = map(percent, np.mean(f1, axis=0))
    return table(columns)


def comparisons(results: Results, pairs: pd.DataFrame) -> str:
    """Differences of two methods each, from `statistics.compare`."""
    a, b = (_labels(results, pairs[f"method_{side}"]) for side in "ab")
    better = _labels(results, pairs["method_a"].where(pairs["difference"] > 0, pairs["method_b"]))
    margin = results.margin
    within = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
    words = {"equivalent": f"equivalent within {within}", "undecided": "not significant"}
    metric = METRICS[results.metric].label
    columns = {
        "difference": [f"{one} − {other}" for one, other in zip(a, b, strict=True)],
        "points": pairs["difference"].map(percent),
        "95 % interval": map(interval, pairs["low"], pairs["high"]),
        **_other_differences(results, pairs),
        "p": pairs["p"].map(p_value),
        "p, Holm": pairs["p_holm"].map(p_value),
        "verdict": [
            f"{method} better" if verdict == "different" else words[verdict]
            for verdict, method in zip(pairs["verdict"], better, strict=True)
        ],
    }
    counts = results.intervals.loc[results.intervals["seeds"] > 1, "seeds"]
    shared = ". A difference is of the seeds that both methods have" * (counts.nunique() > 1)
    return (
        f"{table(columns)}\n\nDifferences in test {metric}. Intervals and tests: "
        f"{designs(pairs)}{shared}. Better: p < 0.05 after Holm's "
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
    columns = {
        "method": _labels(results, runs["method"]),
        "fold" if results.is_folds else "seed": runs["seed"].map(str),
        **_metrics(runs),
        "training accuracy, %": runs["train_accuracy"].map(percent),
        "best epoch": _form(runs["best_epoch"], "{:.3g}"),
        "epochs run": _form(runs["epochs_run"], "{:.3g}"),
        "learning rate": _form(runs["learning_rate"], "{:g}"),
        **_rates(results),
        **_seconds(runs, SECONDS),
        "started": [escape(started or "—") for started in runs["started"]],
    }
    return f"{table(columns)}{_edges(results)}"


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
    rows = results.misclassified.head(SHOWN)
    words = {name: rows[name].map(_unguarded) for name in ("label", "predicted", "text")}
    confidence = rows["confidence"].map(percent)
    columns = {"row": rows["row"].map(str), "label": words["label"]}
    columns |= {"predicted": words["predicted"], "confidence, %": confidence}
    row = "Confidence: the probability of the wrong label. Row: its place in the data, from 0."
    if results.advised:
        note = "The most confident errors of the method advised; some may be wrong labels."
    else:
        texts = count(len(results.misclassified), "text")
        note = f"The most confident of {texts} wrong in every run of every method."
    return f"{table(columns | {'text': words['text']})}\n\n{note} {row}"


def _unguarded(cell):
    """A cell of a CSV file without the apostrophe that `plain_cell` may have put before it."""
    return escape(cell[1:] if plain_cell(cell[1:]) == cell else cell)


def _labels(results, methods):
    return [escape(results.looks[method].label) for method in methods]


def _form(values, form):
    return [number(value, form) for value in values]

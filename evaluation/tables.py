"""The tables of an experiment's page, with notes below them that explain their columns."""

from functools import partial

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from . import advice, answer, errors
from .comparisons import designs
from .markdown import (
    count,
    escape,
    interval,
    number,
    p_value,
    percent,
    size,
    table,
    with_interval,
    with_intervals,
)
from .metrics import BINS, METRICS, PLANNABLE
from .results import Results
from .style import as_difference

BUSY = 0.5  # threads of other work, above which seconds and memory say little
WHOLE, SHORT = partial(number, form="{:,.0f}"), partial(number, form="{:.3g}")
COLUMNS = {  # column of `Results.runs`: heading, function that writes a value
    "train_accuracy": ("training accuracy, %", percent),
    "trainable_parameters": ("trained parameters", WHOLE),
    "trainable_percentage": ("of all, %", SHORT),
    "training_seconds": ("training, s", size),
    "evaluation_seconds": ("evaluation, s", size),
    "shared_seconds": ("frozen blocks, s", size),
    "run_seconds": ("whole run, s", size),
    "peak_memory_mib": ("peak memory, MiB", WHOLE),
    "best_epoch": ("best epoch", SHORT),
    "epochs_run": ("epochs run", SHORT),
    "learning_rate": ("learning rate", partial(number, form="{:g}")),
}
COLUMNS |= {f"test_{name}": (metric.heading, metric.text) for name, metric in METRICS.items()}
SECONDS = [name for name in COLUMNS if name.endswith("_seconds")]
WHAT_SECONDS = (
    "Training: of all learning rates tried. Frozen blocks: running them gives the same output for "
    "all runs with as many of them, so it is done once, and its seconds are in no other column."
)


def terminal(results: Results) -> str:
    """The text for a terminal: the answer, if a method is advised, or a table of finished runs."""
    if advice.advised(results):
        return answer.terminal(results)
    columns = _runs(results) | _cells(results.runs, "trainable_percentage", "training_seconds")
    columns = pd.DataFrame(columns).rename(columns={"of all, %": "trained, %"})
    return columns.to_string(index=False)


def _runs(results):
    """The first columns of the table of finished runs."""
    runs = results.runs
    return {
        "method": results.labels(runs["method"]),
        "fold" if results.is_folds else "seed": runs["seed"].map(str).tolist(),
        **_cells(runs, *(f"test_{name}" for name in METRICS), "train_accuracy"),
    }


def _cells(rows, *names):
    """The cells of these columns, and their headings; seconds that no run has are left out."""
    names = [name for name in names if name not in SECONDS or rows[name].sum() > 0]
    return {COLUMNS[name][0]: list(map(COLUMNS[name][1], rows[name])) for name in names}


def accuracies(results: Results) -> str:
    """The means over the finished runs of each method, with intervals."""
    means, rows = results.means, results.intervals
    kind = "folds" if results.is_folds else "seeds"
    columns = {"method": results.labels(rows["method"]), kind: rows["seeds"].map(str)}
    for name, metric in METRICS.items():
        if metric.is_plannable:
            columns[f"{metric.heading} (95 % interval)"] = with_intervals(rows, name)
        else:
            columns |= _cells(means, f"test_{name}")
    if rows["accuracy_sd"].notna().any():
        columns["sd over seeds, points"] = rows["accuracy_sd"].map(percent)
    columns |= _cells(means, "train_accuracy")
    if results.runs["collapsed"].any():
        collapsed = results.runs.groupby("method", sort=False)["collapsed"].sum()
        columns["collapsed"] = collapsed.map(str)
    columns |= _cells(means, "trainable_parameters", "trainable_percentage", *SECONDS)
    columns |= _cells(means, "peak_memory_mib")
    busy = (results.runs["other_load"] > BUSY).sum()
    notes = [
        f"M{results.of_means[1:]}. Intervals: of {results.covers}. Macro-F1: over all labels.",
        f"Calibration error: expected, over {BINS} equal bins of confidence; by chance above 0.",
        "Collapsed: runs that give every text one label." * ("collapsed" in columns),
        WHAT_SECONDS * ("frozen blocks, s" in columns),
        "A dash: not measured, or not defined.",
        f"The machine did other work during {busy} of {len(results.runs)} runs: their seconds and "
        "memory say little." * bool(busy),
    ]
    return f"{table(columns)}\n\n{' '.join(filter(None, notes))}"


def by_label(results: Results) -> str:
    """How many test texts each label has, and each method's F1 on it; means over the runs.

    Empty for a task of two labels.
    """
    predictions, names = results.predictions, results.experiment["label_names"]
    if len(names) == 2:
        return ""
    counts = np.bincount(predictions.labels, minlength=len(names))
    columns = {"label": names, "test texts": [f"{n:,}" for n in counts]}
    options = {"labels": range(len(names)), "average": None, "zero_division": 0}
    for method in predictions.logits:
        f1 = [
            f1_score(predictions.labels[places], logits.argmax(1), **options)
            for places, logits in predictions.by_run(method)
        ]
        columns[f"{escape(results.looks[method].label)}, F1 %"] = map(percent, np.mean(f1, axis=0))
    return table(columns)


def comparisons(results: Results, pairs: pd.DataFrame) -> str:
    """The differences of pairs of methods, from `Results.compare`; empty without pairs."""
    if pairs.empty:
        return ""
    a, b = (results.labels(pairs[f"method_{side}"]) for side in "ab")
    within = results.margin_words
    better = np.where(pairs["difference"] > 0, a, b)
    verdicts = [
        {"significant": f"{name} better", "equivalent": f"equivalent within {within}"}.get(v, v)
        for name, v in zip(better, pairs["verdict"], strict=True)
    ]
    untested = {  # metrics without tests
        f"{METRICS[name].label}, points (95 % interval)": map(
            with_interval, *(pairs[f"{name}_{part}"] for part in ("difference", "low", "high"))
        )
        for name in PLANNABLE
        if name != results.metric
    }
    columns = {
        "difference": map(as_difference, a, b),
        "points": pairs["difference"].map(percent),
        "95 % interval": map(interval, pairs["low"], pairs["high"]),
        **untested,
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


def single_runs(results: Results) -> str:
    """A row for each finished run."""
    runs = results.runs
    columns = {
        **_runs(results),
        **_cells(runs, "best_epoch", "epochs_run", "learning_rate"),
        **_rates(results),
        **_cells(runs, *SECONDS),
        "started": [started or "—" for started in runs["started"]],
    }
    return f"{table(columns)}{_edges(results)}"


def _rates(results):
    """The column of validation losses at other learning rates, where any run tried several."""
    if not any(len(record.rates_tried) > 1 for record in results.finished):
        return {}
    cells = []
    for record in results.finished:
        others = {k: v for k, v in record.rates_tried.items() if float(k) != record.learning_rate}
        losses = [f"{float(k):g}: {number(loss, '{:.4g}')}" for k, loss in others.items()]
        cells.append("; ".join(losses) or "—")
    return {"validation loss of other rates": cells}


def _edges(results):
    """A note on runs whose chosen learning rate is at the edge of the rates that they tried."""
    methods = [record.method for record in results.finished if record.is_rate_at_edge]
    if not methods:
        return ""
    named = escape(", ".join(results.labels(dict.fromkeys(methods))))
    return (
        f"\n\n**At the edge of the learning rates tried: {count(len(methods), 'run')}, of "
        f"{named}.** A better rate may lie beyond: add rates on that side to LEARNING\\_RATES."
    )


def failed(results: Results) -> str:
    """The runs that have not finished, and the reasons."""
    runs = [record for record in results.records if not record.is_finished]
    columns = {
        "method": results.labels(run.method for run in runs),
        "seed": [str(run.seed) for run in runs],
        "what happened": [run.status for run in runs],
    }
    return table(columns) if runs else ""


def misclassified(results: Results) -> str:
    """The table of `errors.misclassified`; empty where that is None."""
    rows = errors.misclassified(results)
    if rows is None:
        return ""
    more = f" All {len(rows):,} are in misclassified.csv." * (len(rows) > errors.WRONG)
    rows = rows[: errors.WRONG]
    columns = {"row": rows["row"].map(str)}
    columns |= {"label": rows["label"], "predicted": rows["predicted"]}
    columns |= {"confidence, %": rows["confidence"].map(percent), "text": rows["text"]}
    label = escape(results.looks[advice.advised(results) or results.best].label)
    return (
        f"{table(columns)}\n\nThe most confident errors "
        f"of {label}; some may be wrong labels. Confidence: the probability of the wrong label. "
        f"Row: of its file; the header of a CSV file is row 1.{more}"
    )

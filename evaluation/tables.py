"""The tables of an experiment's page, each with what its columns mean below it."""

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from .comparisons import interval_note
from .markdown import count, escape, interval, number, p_value, percent, size, table
from .results import Results
from .statistics import BINS, wilson

SHOWN = 10  # misclassified reviews
BUSY = 0.5  # threads of other work, above which seconds and memory say little
PASS = (
    "Shared pass: frozen blocks give the same output every epoch, so it is computed once for all "
    "runs with the same reviews and frozen blocks, and is in no run's training seconds. "
)


def terminal(results: Results) -> str:
    """The finished runs as a table for the terminal."""
    runs = results.runs
    columns = {
        "method": [results.looks[method].label for method in runs["method"]],
        "seed": runs["seed"],
        "test acc. %": _form(100 * runs["test_accuracy"], "{:.2f}"),
        **_macro_f1(results, runs),
        "train acc. %": _form(100 * runs["train_accuracy"], "{:.2f}"),
        "test loss": _form(runs["test_loss"], "{:.4f}"),
        "train loss": _form(runs["train_loss"], "{:.4f}"),
        "trained %": _form(runs["trainable_percentage"], "{:.3f}"),
        "training s": runs["training_seconds"].map(size),
        **_shared(results, "shared s", runs),
        "best epoch": _form(runs["best_epoch"], "{:.3g}"),
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
        **_macro_f1(results, means),
        "training accuracy, %": means["train_accuracy"].map(percent),
        "test loss": _form(means["test_loss"], "{:.3f}"),
        "calibration error, points": means["calibration_error"].map(percent),
        "trained parameters": _form(means["trainable_parameters"], "{:,.0f}"),
        "of all, %": _form(means["trainable_percentage"], "{:.3g}"),
        "training, s": means["training_seconds"].map(size),
        **_shared(results, "shared pass, s", means),
        "peak memory, MiB": _form(means["peak_memory_mib"], "{:,.0f}"),
    }
    note = escape(interval_note(results).removeprefix("error bars: "))
    busy = (results.runs["other_load"] > BUSY).sum()
    of = f"{busy} of {len(results.runs)} runs"
    other = f" The machine did other work during {of}: their seconds and memory say little."
    return (
        f"{table(columns)}\n\nMeans over the seeds. Intervals: {note}. Losses are in nats per "
        f"review. Calibration error: expected, over {BINS} equal bins of confidence. "
        f"Training seconds count training alone. {PASS * results.is_shared}A dash: not measured, "
        f"or not defined.{other * bool(busy)}"
    )


def _shared(results, heading, rows):
    """The column of the shared pass, where any run has used one."""
    return {heading: rows["shared_seconds"].map(size)} if results.is_shared else {}


def _macro_f1(results, rows):
    """With two labels it says little more than accuracy."""
    many = len(results.experiment["label_names"]) > 2
    return {"macro-F1, %": rows["macro_f1"].map(percent)} if many else {}


def by_label(results: Results) -> str:
    """How many test reviews each label has, and each method's F1 on it; means over the seeds."""
    predictions, names = results.predictions, results.experiment["label_names"]
    counts = np.bincount(predictions.labels, minlength=len(names))
    columns = {"label": map(escape, names), "test reviews": [f"{n:,}" for n in counts]}
    scores = {}
    for (method, _), logits in predictions.logits.items():
        guess, every = logits.argmax(1), range(len(names))
        f1 = f1_score(predictions.labels, guess, labels=every, average=None, zero_division=0)
        scores.setdefault(method, []).append(f1)
    for method, seeds in scores.items():
        heading = f"{escape(results.looks[method].label)}, F1 %"
        columns[heading] = map(percent, np.mean(seeds, axis=0))
    return table(columns)


def comparisons(results: Results, pairs: pd.DataFrame) -> str:
    """Differences of two methods each, from `statistics.compare`."""
    a, b = (_labels(results, pairs[f"method_{side}"]) for side in "ab")
    better = _labels(results, pairs["method_a"].where(pairs["difference"] > 0, pairs["method_b"]))
    margin = results.margin
    within = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
    columns = {
        "difference": [f"{one} − {other}" for one, other in zip(a, b, strict=True)],
        "points": pairs["difference"].map(percent),
        "95 % interval": map(interval, pairs["low"], pairs["high"]),
        "p": pairs["p"].map(p_value),
        "p, Holm": pairs["p_holm"].map(p_value),
        "verdict": [
            {"different": f"{one} better", "equivalent": f"equivalent within {within}"}.get(
                verdict, verdict
            )
            for verdict, one in zip(pairs["verdict"], better, strict=True)
        ],
    }
    counts = results.intervals.loc[results.intervals["seeds"] > 1, "seeds"]
    shared = ". A difference is of the seeds that both methods have" * (counts.nunique() > 1)
    return (
        f"{table(columns)}\n\nDifferences of test accuracies, paired on the same test reviews: "
        f"{'; '.join(dict.fromkeys(pairs['test']))}{shared}. Better: p < 0.05 after Holm's "
        f"correction over this table. Equivalent: smaller than {within}, by two one-sided tests at "
        "5 %, corrected likewise. Undecided: neither; the intervals, each of a single difference, "
        "say how large it could be."
    )


def single_runs(results: Results) -> str:
    """A row for each finished run, with Wilson's interval of its accuracy."""
    runs, reviews = results.runs, results.runs["reviews"]
    drawn = "test reviews" if results.predictions.groups is None else "groups of test reviews"
    columns = {
        "method": _labels(results, runs["method"]),
        "seed": runs["seed"].map(str),
        "test accuracy, %": runs["test_accuracy"].map(percent),
        "95 % interval": map(interval, *wilson(runs["test_accuracy"] * reviews, reviews)),
        **_macro_f1(results, runs),
        "training accuracy, %": runs["train_accuracy"].map(percent),
        "test loss": _form(runs["test_loss"], "{:.3f}"),
        "best epoch": _form(runs["best_epoch"], "{:.3g}"),
        "epochs run": _form(runs["epochs_run"], "{:.3g}"),
        "learning rate": _form(runs["learning_rate"], "{:g}"),
        "training, s": runs["training_seconds"].map(size),
        **_shared(results, "shared pass, s", runs),
        "started": [escape(started or "—") for started in runs["started"]],
    }
    return (
        f"{table(columns)}\n\nIntervals: 95 %, Wilson, of the sampling of the {drawn}; what "
        "another seed would change is not in them."
    )


def failed(results: Results) -> str:
    """The runs that have not finished, and why."""
    runs = results.failed
    columns = {"method": _labels(results, runs["method"]), "seed": runs["seed"].map(str)}
    return table(columns | {"what happened": runs["status"].map(escape)})


def misclassified(results: Results) -> str:
    """The first of the reviews in `misclassified.csv`."""
    wrong = results.misclassified
    rows = wrong.head(SHOWN)
    columns = {
        "review": rows["review"].map(str),
        "label": rows["label"].map(escape),
        "predicted": rows["predicted"].map(escape),
        "confidence, %": rows["confidence"].map(percent),
        "text": rows["text"].map(escape),
    }
    return (
        f"{table(columns)}\n\nThe most confident of {count(len(wrong), 'review')} wrong in every "
        "seed of every method. Confidence: the mean probability of the wrong label. Review: its "
        "place in test order, from 0."
    )


def _labels(results, methods):
    return [escape(results.looks[method].label) for method in methods]


def _form(values, form):
    return [number(value, form) for value in values]

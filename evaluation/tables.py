"""The tables of an experiment's page, each with what its columns mean below it."""

import pandas as pd

from . import blocks
from . import convergence as converging
from .comparisons import interval_note
from .markdown import count, escape, excerpt, interval, number, p_value, percent, size, table
from .results import Results
from .statistics import LEVEL, wilson

SHOWN = 10  # misclassified reviews
PASS = (
    "Shared pass: what the frozen blocks make of all train, validation and test reviews, computed "
    "once for all runs with the same frozen blocks, and in no run's training seconds. "
)


def terminal(results: Results) -> str:
    """The finished runs as a table for the terminal."""
    runs = results.runs
    columns = {
        "method": [results.looks[method].label for method in runs["method"]],
        "seed": runs["seed"],
        "test acc. %": _form(100 * runs["test_accuracy"], "{:.2f}"),
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
        "training accuracy, %": means["train_accuracy"].map(percent),
        "test loss": _form(means["test_loss"], "{:.3f}"),
        "trained parameters": _form(means["trainable_parameters"], "{:,.0f}"),
        "of all, %": _form(means["trainable_percentage"], "{:.3g}"),
        "training, s": means["training_seconds"].map(size),
        **_shared(results, "shared pass, s", means),
        "peak memory, MiB": _form(means["peak_memory_mib"], "{:,.0f}"),
    }
    note = escape(interval_note(results).removeprefix("error bars: "))
    return (
        f"{table(columns)}\n\nMeans over the seeds. Intervals: {note}. Losses are in nats per "
        f"review. Training seconds count training alone. {PASS * blocks.is_shared(results)}A dash: "
        f"not measured, or not defined.{_busy(results)}"
    )


def _shared(results, heading, rows):
    """The column of the shared pass, where any run has used one."""
    return {heading: rows["shared_seconds"].map(size)} if blocks.is_shared(results) else {}


def _busy(results):
    """During which runs the machine did other work."""
    runs = results.disturbed
    if runs.empty:
        return ""
    names = [
        f"{escape(results.looks[method].label)} (seed {', '.join(map(str, seeds))})"
        for method, seeds in runs.groupby("method", sort=False)["seed"]
    ]
    which = "every run" if len(runs) == len(results.runs) else "; ".join(names)
    return f"\n\nThe machine did other work during {which}: their seconds and memory say little."


def comparisons(results: Results) -> str:
    """Each two methods, from `statistics.compare`."""
    pairs = results.comparisons
    a, b = (_labels(results, pairs[f"method_{side}"]) for side in "ab")
    columns = {
        "better − other": [f"{better} − {other}" for better, other in zip(a, b, strict=True)],
        "points": pairs["difference"].map(percent),
        "95 % interval": map(interval, pairs["low"], pairs["high"]),
        "p": pairs["p"].map(p_value),
        "p, Holm": pairs["p_holm"].map(p_value),
        "minimum detectable effect, points": pairs["minimum_detectable_effect"].map(percent),
        "verdict (Holm, 5 %)": map(
            _verdict,
            pairs["p_holm"],
            zip(a, pairs["seeds_a"], strict=True),
            zip(b, pairs["seeds_b"], strict=True),
        ),
    }
    return (
        f"{table(columns)}\n\nDifferences of test accuracies, paired on the same test reviews: "
        f"{'; '.join(dict.fromkeys(pairs['test']))}. Holm's correction is over all pairs; the "
        "intervals are of single differences. Minimum detectable effect: the true difference that "
        "a single test at 5 % would have found with 80 % power; a smaller one may well be there."
    )


def _verdict(p, *methods):
    """In words, with what was not varied; `methods` are pairs of a label and a number of seeds."""
    verdict = "significant" if p < LEVEL else "no significant difference"
    once = [label for label, seeds in methods if seeds == 1]
    if len(once) == 2:
        return f"{verdict} (one seed each)"
    return f"{verdict} (one seed of {once[0]})" if once else verdict


def single_runs(results: Results) -> str:
    """A row for each finished run, with Wilson's interval of its accuracy."""
    runs, tests = results.runs, len(results.predictions.labels)
    columns = {
        "method": _labels(results, runs["method"]),
        "seed": runs["seed"].map(str),
        "test accuracy, %": runs["test_accuracy"].map(percent),
        "95 % interval": map(interval, *wilson(runs["test_accuracy"] * tests, tests)),
        "training accuracy, %": runs["train_accuracy"].map(percent),
        "test loss": _form(runs["test_loss"], "{:.3f}"),
        "best epoch": _form(runs["best_epoch"], "{:.3g}"),
        "epochs run": _form(runs["epochs_run"], "{:.3g}"),
        "learning rate": _form(runs["learning_rate"], "{:g}"),
        "training, s": runs["training_seconds"].map(size),
    }
    without = " Training seconds are without the shared pass." * blocks.is_shared(results)
    return (
        f"{table(columns)}\n\nIntervals: 95 %, Wilson, of the sampling of the test reviews; what "
        f"another seed would change is not in them.{without}"
    )


def convergence(results: Results) -> str:
    """How soon each method reached its targets: means over the seeds, with their intervals."""
    rows = converging.by_method(results.convergence)
    columns = {"method": _labels(results, rows["method"]), "seeds": rows["seeds"].map(str)}
    for target in converging.TARGETS:
        columns[f"{target} target, %"] = rows[f"{target}_target"].map(percent)
        for unit in converging.UNITS:
            ends = (rows[f"{target}_{unit}{end}"] for end in ("", "_low", "_high"))
            columns[f"{unit} to the {target} target"] = map(_around, *ends)
    without = " alone, without the shared pass" * blocks.is_shared(results)
    return (
        f"{table(columns)}\n\nUntil the validation accuracy reached 99 % of the run's best (own "
        "target), and the smallest of all runs' bests (common target); seconds are of training"
        f"{without}. Means over the seeds, and in parentheses their 95 % intervals, Student's t, "
        "where seeds differ. Read off at the first evaluation that is there, up to "
        f"{count(converging.resolution(results.history), 'step')} late."
    )


def _around(mean, low, high):
    return size(mean) + (f" ({size(max(low, 0))} to {size(high)})" if low < high else "")


def failed(results: Results) -> str:
    """The runs that have not finished, and why."""
    runs = results.failed
    columns = {"method": _labels(results, runs["method"]), "seed": runs["seed"].map(str)}
    return table(columns | {"what happened": runs["status"].map(escape)})


def misclassified(results: Results) -> str:
    """The first of the reviews in `misclassified.csv`."""
    if results.misclassified.empty:
        return "There are none."
    wrong = results.misclassified
    rows = wrong.head(SHOWN)
    columns = {
        "review": rows["review"].map(str),
        "label": rows["label"].map(escape),
        "predicted": rows["predicted"].map(escape),
        "confidence, %": rows["confidence"].map(percent),
        "text": rows["text"].map(excerpt),
    }
    shown = f"The {SHOWN} most confident of" if len(wrong) > SHOWN else "All"
    return (
        f"{table(columns)}\n\n{shown} {len(wrong):,} reviews that are wrong in every seed of "
        "every method. Confidence: the mean probability of the wrong label. Review: its place in "
        "test order, from 0."
    )


def _labels(results, methods):
    return [escape(results.looks[method].label) for method in methods]


def _form(values, form):
    return [number(value, form) for value in values]

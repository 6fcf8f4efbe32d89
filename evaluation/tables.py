"""The tables of an experiment's page, each with what its columns mean below it."""

import pandas as pd

from .comparisons import interval_note
from .markdown import escape, excerpt, interval, number, p_value, percent, size, table
from .records import MEASURED
from .style import look

SHOWN = 10  # reviews that every method gets wrong


def results(runs: pd.DataFrame, intervals: pd.DataFrame) -> str:
    """The finished `runs` by method, with the intervals of `statistics.by_method`."""
    means = runs.groupby("method", sort=False)[list(MEASURED)].mean()
    means.loc[means.index == "tfidf", "trainable_percentage"] = float("nan")  # of another model
    header = ["method", "seeds", "test accuracy, %", "95 % interval", "sd over seeds, points"]
    header += ["training accuracy, %", "test loss", "trained parameters", "of all, %"]
    header += ["training, s", "peak memory, MiB"]
    rows = []
    for ours in intervals.itertuples():
        mean = means.loc[ours.method]
        row = [_name(ours.method), str(ours.seeds), percent(ours.accuracy)]
        row += [interval(ours.low, ours.high), percent(ours.sd), percent(mean["train_accuracy"])]
        row += [number(mean["test_loss"], "{:.3f}")]
        row += [number(mean["trainable_parameters"], "{:,.0f}")]
        row += [number(mean["trainable_percentage"], "{:.3g}"), size(mean["training_seconds"])]
        rows.append([*row, number(mean["peak_memory_mib"], "{:,.0f}")])
    note = interval_note(intervals).removeprefix("error bars: ")
    return (
        f"{table(header, rows, 'l' + 10 * 'r')}\n\nMeans over the seeds. Intervals: {note}. Losses "
        "are in nats per review. Training seconds count training alone. A dash: not measured, or "
        "not defined."
    )


def comparisons(compared: pd.DataFrame) -> str:
    """Each two methods, from `statistics.compare`."""
    header = ["better − other", "points", "95 % interval", "p", "p, Holm", "visible, points"]
    rows = [
        [
            f"{_name(row.method_a)} − {_name(row.method_b)}",
            percent(row.difference),
            interval(row.low, row.high),
            p_value(row.p),
            p_value(row.p_holm),
            percent(row.visible),
            escape(row.verdict),
        ]
        for row in compared.itertuples()
    ]
    tests = "; ".join(dict.fromkeys(compared["test"]))
    return (
        f"{table([*header, 'verdict'], rows, 'lrrrrrl')}\n\nDifferences of test accuracies, paired "
        f"on the same test reviews: {tests}. Holm's correction is over all pairs; the intervals "
        "are of single differences. Visible: the true difference that a single test at 5 % would "
        "have found with 80 % power."
    )


def single_runs(runs: pd.DataFrame) -> str:
    """A row for each finished run, from `statistics.run_intervals`."""
    header = ["method", "seed", "test accuracy, %", "95 % interval", "training accuracy, %"]
    header += ["test loss", "best epoch", "epochs run", "learning rate", "training, s"]
    rows = [
        [
            _name(run["method"]),
            str(run["seed"]),
            percent(run["test_accuracy"]),
            interval(run["test_accuracy_low"], run["test_accuracy_high"]),
            percent(run["train_accuracy"]),
            number(run["test_loss"], "{:.3f}"),
            number(run.get("best_epoch"), "{:.0f}"),
            number(run.get("epochs_run"), "{:.0f}"),
            number(run.get("learning_rate"), "{:g}"),
            size(run["training_seconds"]),
        ]
        for _, run in runs.iterrows()
    ]
    return (
        f"{table(header, rows, 'l' + 9 * 'r')}\n\nIntervals: 95 %, Wilson, of the sampling of the "
        "test reviews; what another seed would change is not in them."
    )


def convergence(reached: pd.DataFrame) -> str:
    """How soon each run reached its targets, from `statistics.convergence`."""
    header = ["method", "seed", "own target, %", "epochs", "steps", "seconds"]
    header += ["common target, %", "epochs", "steps", "seconds"]
    rows = [
        [
            _name(run.method),
            str(run.seed),
            percent(run.own_target),
            f"{run.own_epochs}",
            f"{run.own_steps:,}",
            size(run.own_seconds),
            percent(run.common_target),
            f"{run.common_epochs}",
            f"{run.common_steps:,}",
            size(run.common_seconds),
        ]
        for run in reached.itertuples()
    ]
    return (
        f"{table(header, rows, 'l' + 9 * 'r')}\n\nEpochs, steps and seconds of training until the "
        "validation accuracy reached 99 % of the run's best (own target), and the smallest of all "
        "runs' bests (common target); read off at the ends of epochs."
    )


def failed(runs: pd.DataFrame) -> str:
    """The runs that have not finished, and why."""
    rows = [[_name(run.method), str(run.seed), escape(run.status)] for run in runs.itertuples()]
    return table(["method", "seed", "what happened"], rows, "lrl")


def misjudged(wrong: pd.DataFrame) -> str:
    """The first of the reviews in `misjudged.csv`."""
    header = ["review", "label", "predicted", "confidence, %", "text"]
    rows = [
        [
            str(row.review),
            escape(row.label),
            escape(row.predicted),
            percent(row.confidence),
            excerpt(row.text),
        ]
        for row in wrong.head(SHOWN).itertuples()
    ]
    shown = f"The {SHOWN} most confident of" if len(wrong) > SHOWN else "All"
    return (
        f"{table(header, rows, 'rllrl')}\n\n{shown} {len(wrong):,} reviews that are wrong in every "
        "seed of every method. Confidence: the mean probability of the wrong label. Review: its "
        "place in test order, from 0."
    )


def _name(method):
    return escape(look(method).name)

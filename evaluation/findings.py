"""What an experiment found, in sentences that are computed from its numbers."""

import numpy as np
import pandas as pd

from . import blocks, convergence
from .markdown import count, escape, interval, number, p_value, percent, size
from .results import Results
from .statistics import LEVEL

COSTS = {  # column of runs.csv: what having the least of it is called, its unit
    "trainable_parameters": ("Fewest trained parameters", ""),
    "training_seconds": ("shortest training", " s"),
    "peak_memory_mib": ("lowest peak memory", " MiB"),
}


def findings(results: Results) -> list[str]:
    """The sentences, most important first."""
    sentences = [_best(results), *_pairs(results), _cheapest(results), _converges(results)]
    sentences += [_gap(results), _mistakes(results), _seeds(results)]
    failed, finished = len(results.failed), len(results.runs)
    if failed:
        sentences.append(f"**{failed} of {failed + finished} runs failed** (listed below).")
    return [sentence for sentence in sentences if sentence]


def _best(results):
    intervals, pairs = results.intervals, results.comparisons
    best = intervals.loc[intervals["accuracy"].idxmax()]
    what = "mean test accuracy" if best["seeds"] > 1 else "test accuracy"
    what = f"Highest {what}" if len(intervals) > 1 else what.capitalize()
    sentence = (
        f"**{what}: {_labels(results, [best['method']])}, "
        f"{percent(best['accuracy'])} %** (95 % interval {interval(best['low'], best['high'])})."
    )
    if pairs is None:
        return f"{sentence} There is one method, so nothing is compared."
    own = (pairs[["method_a", "method_b"]] == best["method"]).any(axis=1)
    alike = pairs[own & (pairs["p_holm"] >= LEVEL)]
    if alike.empty:
        return f"{sentence} It is significantly different from every other method."
    others = alike["method_a"].where(alike["method_a"] != best["method"], alike["method_b"])
    return f"{sentence} There is **no** significant difference from {_labels(results, others)}."


def _pairs(results):
    """Between which methods the paired tests find a significant difference, and where not."""
    if results.comparisons is None:
        return
    pairs, all_pairs = results.main_pairs(), len(results.comparisons)
    significant = pairs["p_holm"] < LEVEL
    if significant.any():
        over = f" over {all_pairs} pairs" if all_pairs > 1 else ""
        yield (
            f"Significantly different on the same test reviews (5 %, Holm's correction{over}):"
            f"{_listed(results, pairs[significant])}"
        )
    if not significant.all():
        yield (
            "No significant difference; this does not show them to be equal, and the intervals "
            f"say how large a difference could still be:{_listed(results, pairs[~significant])}"
        )
    if len(pairs) < all_pairs:
        yield f"These are the pairs with the best method; all {all_pairs} are compared below."


def _listed(results, pairs):
    lines = []
    for row in pairs.itertuples():
        a, b = (_labels(results, [method]) for method in (row.method_a, row.method_b))
        p = p_value(row.p_holm)
        lines.append(
            f"\n  - {a} − {b}: {percent(row.difference)} points ({interval(row.low, row.high)}, "
            f"p {p if p.startswith('<') else f'= {p}'})"
        )
    return "".join(lines)


def _cheapest(results):
    runs = results.runs.assign(training_seconds=blocks.total_seconds(results.runs))
    means, parts = runs.groupby("method", sort=False)[list(COSTS)].mean(), []
    alike = len(results.machines) < 2 and results.disturbed.empty
    comparable = COSTS if alike else ["trainable_parameters"]
    for column in comparable:
        least, unit = COSTS[column]
        if column == "training_seconds" and blocks.is_shared(results):
            least += ", with the shared pass"
        values = means[column].dropna()
        if len(values) > 1:
            label = _labels(results, [values.idxmin()])
            parts.append(f"{least}: {label}, {size(values.min())}{unit}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if parts else None


def _converges(results):
    """Which methods reach the common target first and last, with the interval of the difference.

    The common target, and not each run's own: a method that learns little is soon near its best.
    """
    reached = results.convergence
    if reached.empty or reached["method"].nunique() < 2:
        return None
    steps = {m: run["common_steps"].to_numpy() for m, run in reached.groupby("method", sort=False)}
    means = pd.Series({method: np.mean(values) for method, values in steps.items()})
    fast, slow = means[means == means.min()].index, means[means == means.max()].index
    target = f"a validation accuracy of {percent(reached['common_target'].iloc[0])} %"
    if len(fast) == len(means):
        return f"All methods reached {target}, the lowest of the runs' bests, equally soon."
    between = convergence.resolution(results.history)
    low, high = convergence.difference(steps[slow[0]], steps[fast[0]], between)
    sentence = (
        f"Fastest to {target}, the lowest of the runs' bests: {_labels(results, fast)}, "
        f"{size(means.min())} steps; slowest: {_labels(results, slow)}, {size(means.max())}. "
    )
    if np.isnan(low):
        return sentence + "Without several seeds of both, this difference has no interval."
    sure = "" if low > 0 else "**not** "
    return sentence + (
        f"The difference is {sure}significant: {size(means.max() - means.min())} steps, 95 % "
        f"interval {number(low, '{:,.0f}')} to {number(high, '{:,.0f}')} (Welch's t over seeds, "
        f"wider by the {count(between, 'step')} between evaluations; of these two alone)."
    )


def _gap(results):
    """The method that is furthest from its training accuracy on the test reviews."""
    columns = ["train_accuracy", "test_accuracy"]
    means = results.runs.groupby("method", sort=False)[columns].mean()
    gaps = (means["train_accuracy"] - means["test_accuracy"]).dropna()
    if gaps.empty:
        return None
    method = gaps.idxmax()
    train, test = (percent(means.loc[method, column]) for column in columns)
    what = "Largest drop" if len(gaps) > 1 else "Drop"
    return (
        f"{what} from training to test accuracy: {_labels(results, [method])}, "
        f"{percent(gaps.max())} points ({train} to {test} %)."
    )


def _mistakes(results):
    if results.misclassified is None:
        return None
    wrong, tests = len(results.misclassified), len(results.predictions.labels)
    by_whom = "every method" if len(results.intervals) > 1 else "the one method"
    share = percent(wrong / tests)
    return f"{wrong:,} of {tests:,} test reviews ({share} %) are misclassified by {by_whom}."


def _seeds(results):
    intervals = results.intervals
    once = intervals.loc[intervals["seeds"] == 1, "method"]
    if len(once) == len(intervals):
        return (
            "**Seeds were not varied**: each method was trained once. Intervals and tests speak "
            "of these trained models on other test reviews, not of training them again."
        )
    if len(once):
        return (
            f"**Seeds were not varied for {_labels(results, once)}**: there, the interval of the "
            "accuracy says how test reviews vary; elsewhere, how seeds vary on these test reviews."
        )
    fewest, most = intervals["seeds"].min(), intervals["seeds"].max()
    seeds = f"{fewest} to {most}" if most > fewest else f"{most}"
    return (
        f"Each method was trained with {seeds} seeds. The interval of its accuracy says how seeds "
        "vary on these test reviews; the comparisons count both, other seeds and other reviews."
    )


def _labels(results, methods):
    return escape(results.labels(methods, most=3))

"""What an experiment found beside its planned contrasts, in sentences computed from its numbers."""

import pandas as pd

from .markdown import escape, interval, percent, size
from .results import Results

COSTS = {  # column of the runs: what having the least of it is called, its unit
    "trainable_parameters": ("Fewest trained parameters", ""),
    "total_seconds": ("shortest training", " s"),
    "peak_memory_mib": ("lowest peak memory", " MiB"),
}


def findings(results: Results) -> list[str]:
    """The sentences, most important first."""
    sentences = [_best(results), _cheapest(results), _seeds(results)]
    return [sentence for sentence in sentences if sentence]


def _best(results):
    intervals = results.intervals
    best = intervals.loc[intervals["accuracy"].idxmax()]
    what = "mean test accuracy" if best["seeds"] > 1 else "test accuracy"
    what = f"Highest {what}" if len(intervals) > 1 else what.capitalize()
    sentence = (
        f"**{what}: {_labels(results, [best['method']])}, "
        f"{percent(best['accuracy'])} %** (95 % interval {interval(best['low'], best['high'])})."
    )
    if len(intervals) == 1:
        return f"{sentence} There is one method, so nothing is compared."
    pairs = pd.concat([results.contrasts, results.comparisons])
    own = (pairs[["method_a", "method_b"]] == best["method"]).any(axis=1)
    alike = pairs[own & (pairs["verdict"] != "different")]
    if alike.empty:
        return f"{sentence} It is significantly different from every other method."
    others = alike["method_a"].where(alike["method_a"] != best["method"], alike["method_b"])
    return f"{sentence} There is **no** significant difference from {_labels(results, others)}."


def _cheapest(results):
    means, parts = results.runs.groupby("method", sort=False)[list(COSTS)].mean(), []
    one_machine = results.runs["device"].nunique() == 1
    for column in COSTS if one_machine else ["trainable_parameters"]:
        least, unit = COSTS[column]
        if column == "total_seconds" and results.is_shared:
            least += ", with the shared pass"
        values = means[column].dropna()
        if len(values) > 1:
            label = _labels(results, [values.idxmin()])
            parts.append(f"{least}: {label}, {size(values.min())}{unit}")
    sentence = "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}." if parts else None


def _seeds(results):
    """What was not varied."""
    baselines = results.runs.loc[results.runs["baseline"], "method"]
    trained = results.intervals[~results.intervals["method"].isin(baselines)]
    once = trained.loc[trained["seeds"] == 1, "method"]
    if once.empty:
        return None
    of = "" if len(once) == len(trained) else f" for {_labels(results, once)}"
    return (
        f"**Seeds were not varied{of}**: intervals and tests speak of these trained models on "
        "other test reviews, not of training them again."
    )


def _labels(results, methods):
    return escape(results.labels(methods, most=3))

"""What an experiment found, in sentences that are computed from its numbers."""

import pandas as pd

from .markdown import capital, interval, p_value, percent, size
from .statistics import LEVEL
from .style import look

COSTS = {  # column of runs.csv: what having the least of it is called, its unit
    "trainable_parameters": ("Fewest trained parameters", ""),
    "training_seconds": ("shortest training", " s"),
    "peak_memory_mib": ("lowest peak memory", " MiB"),
}


def findings(experiment, runs, failed, intervals, comparisons, misjudged) -> list[str]:
    """The sentences, most important first.

    `runs` are the finished ones and `failed` the others, `intervals` and `comparisons` what
    `statistics.by_method` and `statistics.compare` return (None for a single method), and
    `misjudged` the reviews that every method gets wrong (None where they were not looked for).
    """
    tests = experiment["data"]["test"]
    said = [_best(intervals, comparisons), *_compared(comparisons), _cheapest(runs), _gap(runs)]
    if misjudged is not None:
        share = percent(len(misjudged) / tests)
        whom = "every method" if len(intervals) > 1 else "the one method"
        said.append(f"{len(misjudged):,} of {tests:,} test reviews ({share} %) fool {whom}.")
    said.append(_seeds(intervals))
    if len(failed):
        said.append(f"**{len(failed)} of {len(failed) + len(runs)} runs failed** (listed below).")
    return [sentence for sentence in said if sentence]


def _best(intervals, comparisons):
    best = intervals.loc[intervals["accuracy"].idxmax()]
    what = "mean test accuracy" if best["seeds"] > 1 else "test accuracy"
    what = f"highest {what}" if len(intervals) > 1 else what
    said = (
        f"**{capital(what)}: {look(best['method']).name}, {percent(best['accuracy'])} %** "
        f"(95 % interval {interval(best['low'], best['high'])})."
    )
    if comparisons is None:
        return f"{said} There is one method, so nothing is compared."
    its = (comparisons[["method_a", "method_b"]] == best["method"]).any(axis=1)
    level = comparisons[its & (comparisons["p_holm"] >= LEVEL)]
    if level.empty:
        return f"{said} It is told apart from every other method."
    others = level["method_a"].where(level["method_a"] != best["method"], level["method_b"])
    return f"{said} It is **not** told apart from {', '.join(look(m).name for m in others)}."


def _compared(comparisons):
    """Which methods the paired tests tell apart, and which they do not."""
    if comparisons is None:
        return
    seen = comparisons["p_holm"] < LEVEL
    apart = [_ahead(row) for row in comparisons[seen].itertuples()]
    level = [_level(row) for row in comparisons[~seen].itertuples()]
    over = f" over {len(comparisons)} pairs" if len(comparisons) > 1 else ""
    if apart:
        yield _list(f"Told apart on the same test reviews (5 %, Holm's correction{over}):", apart)
    if level:
        yield _list(
            "Not told apart; this does not show them to be equal, and the intervals say how large "
            "a difference could still be:",
            level,
        )


def _list(sentence, items):
    return "\n".join([sentence, *(f"  - {item}" for item in items)])


def _ahead(row):
    return (
        f"{look(row.method_a).name} over {look(row.method_b).name} by {percent(row.difference)} "
        f"points ({interval(row.low, row.high)}, p {_compare_p(row.p_holm)})"
    )


def _level(row):
    return (
        f"{look(row.method_a).name} − {look(row.method_b).name}: {percent(row.difference)} points "
        f"({interval(row.low, row.high)}, p {_compare_p(row.p_holm)})"
    )


def _compare_p(p):
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _cheapest(runs):
    means = runs.groupby("method", sort=False)[list(COSTS)].mean()
    said = []
    for column, (least, unit) in COSTS.items():
        values = means[column].dropna()
        if column == "trainable_parameters":  # TF-IDF has no pretrained model to leave frozen
            values = values.drop("tfidf", errors="ignore")
        if len(values) > 1:
            said.append(f"{least}: {look(values.idxmin()).name}, {size(values.min())}{unit}")
    return "; ".join(said) + "." if said else None


def _gap(runs):
    """The method that is furthest from its training accuracy on the test reviews."""
    means = runs.groupby("method", sort=False)[["train_accuracy", "test_accuracy"]].mean()
    gaps = (means["train_accuracy"] - means["test_accuracy"]).dropna()
    if gaps.empty:
        return None
    method = gaps.idxmax()
    train, test = (percent(means.loc[method, f"{split}_accuracy"]) for split in ("train", "test"))
    what = "Largest drop" if len(gaps) > 1 else "Drop"
    return (
        f"{what} from training to test accuracy: {look(method).name}, "
        f"{percent(gaps.max())} points ({train} to {test} %)."
    )


def _seeds(intervals: pd.DataFrame) -> str:
    once = intervals.loc[intervals["seeds"] == 1, "method"]
    if len(once) == len(intervals):
        return (
            "**Seeds were not varied**: each method was trained once. Intervals and tests speak "
            "of these trained models on other test reviews, not of training them again."
        )
    if len(once):
        names = ", ".join(look(method).name for method in once)
        return (
            f"**Seeds were not varied for {names}**: there, the interval of the accuracy says how "
            "test reviews vary; elsewhere, how seeds vary on these test reviews."
        )
    fewest, most = intervals["seeds"].min(), intervals["seeds"].max()
    count = f"{fewest} to {most}" if most > fewest else f"{most}"
    return (
        f"Each method was trained with {count} seeds. The interval of its accuracy says how seeds "
        "vary on these test reviews; the comparisons count both, other seeds and other reviews."
    )

"""How sure the numbers of an experiment are: intervals, paired comparisons, convergence.

Two things vary when a comparison is made again: the test reviews, and the seeds. With D the
difference of two methods' accuracies, each over its S seeds and the same n reviews,

    D - truth = [D - D with all seeds there could be] + [that - that on all reviews there could be]

The first part, given the reviews, is a difference of means over independent seeds: Welch's t, its
variance the sum of var(accuracies over seeds) / S, its degrees of freedom Satterthwaite's (1946).
The second is a mean over n reviews: a bootstrap that draws reviews, each with its right and wrong
of both methods. Its variance holds, besides, the share of the seeds by reviews interaction that
the first part counts already, MS(seeds x reviews) / (n S) for each method, so it is shrunk by that
much (Davison and Hinkley 1997, section 3.8; without, Owen 2007: the pigeonhole bootstrap counts
the interaction up to three times). Sums of draws of both are the errors D could have had; interval
and p come from them. `docs/statistics.md` says how well it holds its claim, by simulation.
"""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from .records import read_csv

NAMES = {  # of the methods, as texts and figures call them
    "head": "head-only",
    "adapter": "adapters",
    "lora": "LoRA",
    "bitfit": "BitFit",
    "full": "full fine-tuning",
    "tfidf": "TF-IDF",
}
LEVEL = 0.05  # of every test; intervals hold the truth with 1 - LEVEL
POWER = 0.8  # with which a difference of the size `visible` is seen
RESAMPLES = 4_999  # so that p is a multiple of 1 / 5,000
COLUMNS = ["method_a", "method_b", "seeds_a", "seeds_b", "difference", "low", "high"]
COLUMNS += ["p", "p_holm", "visible", "test", "verdict"]


def wilson(right: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval (1927) of the accuracy of one trained model, `right` of `n` reviews."""
    low, high = proportion_confint(right, n, alpha=1 - confidence, method="wilson")
    return float(low), float(high)


def read_right(folder: Path, runs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Which test reviews (n) each seed (S) got right: a bool array (S, n) a method.

    Reads `predictions/` of the finished `runs`. Raises `ValueError` naming the file that is
    missing, or whose labels are not those of the first one.
    """
    right, labels = {}, None
    finished = runs[runs["status"] == "finished"]
    for method, seed in zip(finished["method"], finished["seed"], strict=True):
        path = folder / "predictions" / f"{method}-seed{seed}.csv"
        predictions = read_csv(path)
        if not len(predictions):
            raise ValueError(f"{path} is missing; train that run again")
        own = predictions.pop("label").to_numpy()
        labels = own if labels is None else labels
        if len(own) != len(labels):
            raise ValueError(f"{path} has {len(own)} reviews, not {len(labels)} as the others")
        if (own != labels).any():
            raise ValueError(f"{path} has other labels than the others: other test reviews")
        right.setdefault(method, []).append(predictions.to_numpy().argmax(axis=1) == own)
    return {method: np.array(rows) for method, rows in right.items()}


def run_intervals(runs: pd.DataFrame, n: int) -> pd.DataFrame:
    """`runs` with Wilson's interval of each test accuracy over `n` reviews; NaN without one."""
    right = (runs["test_accuracy"] * n).round()
    low, high = proportion_confint(right.to_numpy(float), n, alpha=LEVEL, method="wilson")
    return runs.assign(test_accuracy_low=low, test_accuracy_high=high)


def by_method(runs: pd.DataFrame, n: int) -> pd.DataFrame:
    """The finished runs, a row a method: mean test accuracy over seeds, sd, and an interval.

    With several seeds, Student's t interval says only how seeds vary, on these `n` reviews; with
    one, Wilson's says only how reviews vary, for this seed. The two do not compare.
    """
    rows = []
    finished = runs[runs["status"] == "finished"]
    for method, accuracies in finished.groupby("method", sort=False)["test_accuracy"]:
        seeds, mean = len(accuracies), accuracies.mean()
        row = {"method": method, "seeds": seeds, "accuracy": mean, "sd": accuracies.std()}
        if seeds > 1:
            half = stats.t.ppf(1 - LEVEL / 2, seeds - 1) * accuracies.sem()
            interval = max(mean - half, 0.0), min(mean + half, 1.0), f"t over {seeds} seeds"
        else:
            interval = *wilson(round(mean * n), n, 1 - LEVEL), "Wilson, seeds not varied"
        rows.append(row | dict(zip(("low", "high", "interval"), interval, strict=True)))
    return pd.DataFrame(rows)


def compare(right: dict[str, np.ndarray]) -> pd.DataFrame:
    """Every pair of methods on the same reviews, a row each; `method_a` is the better one.

    `right` holds a bool array (S, n) a method; S may differ. `difference`, `low`, `high` and
    `visible` are shares. With one seed each, p is McNemar's exact one (1947), and both say
    something of these two trained models alone. `p_holm` is Holm's (1979), over the pairs.
    `visible` is the true difference that a single test at 5 % (before Holm) would have found with
    80 % power. Raises `ValueError` where the numbers of reviews differ.
    """
    reviews = {method: array.shape[1] for method, array in right.items()}
    if len(set(reviews.values())) > 1:
        raise ValueError(f"not the same reviews, their numbers are {reviews}")
    rows = [_compare_two(*pair, right) for pair in combinations(right, 2)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    if len(table):
        table["p_holm"] = multipletests(table["p"], LEVEL, method="holm")[1]
        table["verdict"] = [_verdict(row) for row in table.itertuples()]
    return table


def _compare_two(a, b, right):
    if right[a].mean() < right[b].mean():
        a, b = b, a
    difference = right[a].mean() - right[b].mean()
    errors = _errors(right[a], right[b])
    half = np.quantile(abs(errors), 1 - LEVEL)
    row = {"method_a": a, "method_b": b, "seeds_a": len(right[a]), "seeds_b": len(right[b])}
    if len(right[a]) == len(right[b]) == 1:
        p, test = _mcnemar(right[a][0], right[b][0]), "exact McNemar"
    else:
        p = (1 + (abs(errors) >= difference).sum()) / (1 + RESAMPLES)
        test = "bootstrap over reviews and seeds"
    return row | {
        "difference": difference,
        "low": max(difference - half, -1.0),
        "high": min(difference + half, 1.0),
        "p": p,
        "visible": min(half - np.quantile(errors, 1 - POWER), 1.0),
        "test": test,
    }


def _mcnemar(a, b):
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    return stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0


def _errors(a, b):
    """Draws of the error of the accuracy of `a` (S_a, n) less that of `b` (S_b, n).

    Two reviews are added, one that `a` alone gets right and one that `b` alone does (Bonett and
    Price 2012): methods that happen to agree on all n reviews may still differ on others.
    """
    rng = np.random.default_rng(0)  # anew for each pair: no other method changes its numbers
    unit = len(a) * len(b)
    differences = len(b) * a.sum(axis=0) - len(a) * b.sum(axis=0)  # (n,), whole numbers
    values, counts = np.unique(np.append(differences, [unit, -unit]), return_counts=True)
    shares = counts / counts.sum()
    means = rng.multinomial(counts.sum(), shares, RESAMPLES) @ values / counts.sum() / unit
    errors = means - shares @ values / unit
    seeds = [_seed_part(right) for right in (a, b) if len(right) > 1]
    variance = sum(part[0] for part in seeds)
    if variance == 0:  # one seed each, or seeds that make no difference
        return errors
    errors *= np.sqrt(max(0.0, 1 - sum(part[1] for part in seeds) / errors.var()))
    freedom = variance**2 / sum(v**2 / degrees for v, _, degrees in seeds)  # Satterthwaite
    return errors + np.sqrt(variance) * rng.standard_t(freedom, RESAMPLES)


def _seed_part(right):
    """Of a mean over S seeds: its variance, the interaction's share of it, degrees of freedom."""
    seeds, n = right.shape
    accuracies = right.mean(axis=1)
    rest = right - right.mean(axis=0) - accuracies[:, None] + accuracies.mean()  # (S, n)
    interaction = (rest**2).sum() / ((seeds - 1) * (n - 1))  # mean square
    return accuracies.var(ddof=1) / seeds, interaction / (n * seeds), seeds - 1


def _verdict(row):
    a, b = (NAMES.get(method, method) for method in (row.method_a, row.method_b))
    points = [f"{100 * share:.1f}" for share in (row.difference, row.low, row.high, row.visible)]
    if row.p_holm < LEVEL:
        beats = "beat" if a.endswith("s") else "beats"
        verdict = f"{a} {beats} {b} by {points[0]} points [{points[1]}, {points[2]}]"
    else:
        verdict = (
            f"{a} and {b} cannot be told apart on this test set: a difference under "
            f"{points[3]} points would not have been seen reliably"
        )
    single = [name for name, seeds in ((a, row.seeds_a), (b, row.seeds_b)) if seeds == 1]
    if len(single) == 2:
        return f"{verdict} (one seed each: seeds were not varied)"
    return f"{verdict} (one seed of {single[0]}: its seeds were not varied)" if single else verdict


def convergence(history: pd.DataFrame) -> pd.DataFrame:
    """How soon each (method, seed) gets near its best validation accuracy, a row each.

    `own_*`: epochs, optimiser steps and training seconds until 99 % of that run's best.
    `common_*`: until the accuracy that all runs reach, the smallest of the runs' bests. Both are
    read off at the ends of epochs.
    """
    identity = ["method", "seed"]
    best = history.groupby(identity, sort=False)["validation_accuracy"].max()
    rows = []
    for (method, seed), run in history.groupby(identity, sort=False):
        row = {"method": method, "seed": seed}
        for name, target in (("own", 0.99 * best[method, seed]), ("common", best.min())):
            reached = run[run["validation_accuracy"] >= target]
            first = reached.loc[reached["epoch"].idxmin()]
            row |= {f"{name}_target": target, f"{name}_epochs": int(first["epoch"])}
            row |= {f"{name}_steps": int(first["steps"]), f"{name}_seconds": first["seconds"]}
        rows.append(row)
    return pd.DataFrame(rows)

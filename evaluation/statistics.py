"""Uncertainty of an experiment's numbers: intervals, paired comparisons, convergence.

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

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05  # of every test; intervals hold the truth with 1 - LEVEL
POWER = 0.8  # with which a difference of the size `minimum_detectable_effect` is found
RESAMPLES = 4_999  # so that p is a multiple of 1 / 5,000
COLUMNS = ["method_a", "method_b", "seeds_a", "seeds_b", "difference", "low", "high"]
COLUMNS += ["p", "p_holm", "minimum_detectable_effect", "test"]


def wilson(right, n: int, confidence: float = 1 - LEVEL) -> tuple:
    """Wilson's interval (1927) of the accuracy of a trained model, `right` of `n` reviews.

    `right` may be an array: an interval for each.
    """
    z, share = stats.norm.ppf((1 + confidence) / 2), right / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def student(values: np.ndarray) -> tuple[float, float]:
    """Student's t interval of the mean of independent values, one a seed; NaN for a single one."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(1 - LEVEL / 2, len(values) - 1) * stats.sem(values)
    return np.mean(values) - half, np.mean(values) + half


def by_method(runs: pd.DataFrame, n: int) -> pd.DataFrame:
    """The finished runs, a row a method: mean test accuracy over seeds, sd, and an interval.

    With several seeds, Student's t interval says only how seeds vary, on these `n` reviews; with
    one, Wilson's says only how reviews vary, for this seed. The two do not compare.
    """
    rows = []
    for method, accuracies in runs.groupby("method", sort=False)["test_accuracy"]:
        seeds, mean = len(accuracies), accuracies.mean()
        row = {"method": method, "seeds": seeds, "accuracy": mean, "sd": accuracies.std()}
        if seeds > 1:
            low, high = student(accuracies.to_numpy())
            interval = max(low, 0.0), min(high, 1.0), f"t over {seeds} seeds"
        else:
            interval = *wilson(round(mean * n), n), "Wilson, seeds not varied"
        rows.append(row | dict(zip(("low", "high", "interval"), interval, strict=True)))
    return pd.DataFrame(rows)


def compare(right: dict[str, np.ndarray]) -> pd.DataFrame:
    """Every pair of methods on the same reviews, a row each; `method_a` is the better one.

    `right` holds a bool array (S, n) a method; S may differ. `difference`, `low`, `high` and
    `minimum_detectable_effect` are shares. With one seed each, p is McNemar's exact one (1947),
    and all speak of these two trained models alone. `p_holm` is Holm's (1979), over the pairs.
    The minimum detectable effect is the true difference that a single test at 5 % (before Holm)
    would have found with 80 % power.
    """
    rows = [_compare_two(*pair, right) for pair in combinations(right, 2)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.assign(p_holm=holm(table["p"].to_numpy(float)))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values corrected for their number, the smallest most (Holm 1979)."""
    order = np.argsort(p)
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1.0)
    return raised[np.argsort(order)]


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
        "minimum_detectable_effect": min(half - np.quantile(errors, 1 - POWER), 1.0),
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
